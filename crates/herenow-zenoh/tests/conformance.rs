//! The shared suite over real zenoh sessions. All nodes of a test are linked, whatever their
//! cluster.
#![allow(clippy::unwrap_used)]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use herenow_pubsub::Adapter;
use herenow_pubsub::conformance::{self, Harness};
use herenow_zenoh::ZenohAdapter;
use parking_lot::Mutex;

/// Each node knows all that were made before it.
#[derive(Default)]
struct Zenoh(Mutex<Vec<String>>);

impl Harness for Zenoh {
    fn adapter<'a>(
        &'a self,
        cluster: &'a str,
        node: &'a str,
    ) -> Pin<Box<dyn Future<Output = Arc<dyn Adapter>> + Send + 'a>> {
        let mut config = support::config(cluster, node, &[]);
        let mut addresses = self.0.lock();
        config.peers.clone_from(&addresses);
        addresses.push(config.listen[0].clone());
        drop(addresses);
        Box::pin(async move {
            let adapter: Arc<dyn Adapter> = ZenohAdapter::open(&config).await.unwrap();
            adapter
        })
    }

    fn deadline(&self) -> Duration {
        support::DEADLINE
    }

    fn reports_peers(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_200_zenoh_broadcast_reaches_every_other_node() {
    conformance::broadcast_reaches_every_other_node(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_201_zenoh_broadcast_is_not_echoed() {
    conformance::broadcast_is_not_echoed(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_202_zenoh_send_reaches_one_node() {
    conformance::send_reaches_one_node(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_203_zenoh_send_to_an_unknown_node_vanishes() {
    conformance::send_to_an_unknown_node_vanishes(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_204_zenoh_messages_of_one_sender_keep_their_order() {
    conformance::messages_of_one_sender_keep_their_order(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_205_zenoh_large_and_empty_messages_arrive_whole() {
    conformance::large_and_empty_messages_arrive_whole(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_206_zenoh_linked_clusters_do_not_hear_each_other() {
    conformance::clusters_do_not_hear_each_other(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_207_zenoh_close_loses_nothing_accepted() {
    conformance::close_loses_nothing_accepted(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_208_zenoh_a_closed_adapter_refuses() {
    conformance::a_closed_adapter_refuses(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_209_zenoh_a_name_can_come_back() {
    conformance::a_name_can_come_back(&Zenoh::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_210_zenoh_peers_are_reported() {
    conformance::peers_are_reported(&Zenoh::default()).await;
}
