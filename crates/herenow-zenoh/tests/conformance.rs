//! The shared suite over real zenoh sessions. All nodes of a test are linked, whatever their
//! cluster.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use herenow_pubsub::conformance::{Harness, Step};
use herenow_pubsub::{Adapter, adapter_suite};
use herenow_zenoh::ZenohAdapter;
use parking_lot::Mutex;

/// Each node knows all that were made before it.
#[derive(Default)]
struct Zenoh(Mutex<Vec<String>>);

impl Harness for Zenoh {
    fn adapter<'a>(&'a self, cluster: &'a str, node: &'a str) -> Step<'a, Arc<dyn Adapter>> {
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

adapter_suite!(
    #[tokio::test(flavor = "multi_thread")]
    Zenoh::default()
);
