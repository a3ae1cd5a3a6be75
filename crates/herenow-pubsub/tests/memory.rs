//! The in-process adapter: the suite, and its own switches. Time is paused.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use herenow_pubsub::conformance::{self, Harness, Step};
use herenow_pubsub::{Adapter, MemoryCluster, Payload, PubSub, Subscription};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

/// One cluster per name.
#[derive(Default)]
struct Memory(Mutex<Vec<(String, MemoryCluster)>>);

impl Harness for Memory {
    fn adapter<'a>(&'a self, cluster: &'a str, node: &'a str) -> Step<'a, Arc<dyn Adapter>> {
        let adapter: Arc<dyn Adapter> = self.cluster(cluster).adapter(node);
        Box::pin(async move { adapter })
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn reports_peers(&self) -> bool {
        true
    }

    fn begin_outage<'a>(&'a self, cluster: &'a str) -> Step<'a, bool> {
        self.cluster(cluster).partition(&["a"]);
        Box::pin(async { true })
    }

    fn end_outage<'a>(&'a self, cluster: &'a str) -> Step<'a, ()> {
        self.cluster(cluster).heal();
        Box::pin(async {})
    }
}

impl Memory {
    fn cluster(&self, name: &str) -> MemoryCluster {
        let mut clusters = self.0.lock();
        if !clusters.iter().any(|(known, _)| known == name) {
            clusters.push((name.to_owned(), MemoryCluster::new()));
        }
        let (_, cluster) = clusters.iter().find(|(known, _)| known == name).unwrap();
        cluster.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn pub_01_broadcast_reaches_every_other_node() {
    conformance::broadcast_reaches_every_other_node(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_02_broadcast_is_not_echoed() {
    conformance::broadcast_is_not_echoed(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_03_send_reaches_one_node() {
    conformance::send_reaches_one_node(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_04_send_to_an_unknown_node_vanishes() {
    conformance::send_to_an_unknown_node_vanishes(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_05_messages_of_one_sender_keep_their_order() {
    conformance::messages_of_one_sender_keep_their_order(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_06_large_and_empty_messages_arrive_whole() {
    conformance::large_and_empty_messages_arrive_whole(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_07_clusters_do_not_hear_each_other() {
    conformance::clusters_do_not_hear_each_other(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_08_close_loses_nothing_accepted() {
    conformance::close_loses_nothing_accepted(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_09_a_closed_adapter_refuses() {
    conformance::a_closed_adapter_refuses(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_10_a_name_can_come_back() {
    conformance::a_name_can_come_back(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_11_peers_are_reported() {
    conformance::peers_are_reported(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_100_subjects_of_any_text_arrive_as_sent() {
    conformance::subjects_of_any_text_arrive_as_sent(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_101_names_of_any_text_work() {
    conformance::names_of_any_text_work(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_102_messages_of_every_size_arrive_or_are_refused() {
    conformance::messages_of_every_size_arrive_or_are_refused(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_103_messages_to_one_node_keep_their_order() {
    conformance::messages_to_one_node_keep_their_order(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_104_close_loses_nothing_of_a_burst() {
    conformance::close_loses_nothing_of_a_burst(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_105_an_outage_heals_by_itself() {
    conformance::an_outage_heals_by_itself(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_106_publishing_never_blocks_in_an_outage() {
    conformance::publishing_never_blocks_in_an_outage(&Memory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn pub_12_cuts_are_one_way_and_heal() {
    let cluster = MemoryCluster::new();
    let a = PubSub::new(cluster.adapter("a"));
    let b = PubSub::new(cluster.adapter("b"));
    let (mut on_a, mut on_b) = (a.subscribe("t"), b.subscribe("t"));
    cluster.cut("a", "b");
    a.broadcast("t", "lost", Payload::json("1")).unwrap();
    b.broadcast("t", "kept", Payload::json("2")).unwrap();
    cluster.heal();
    a.broadcast("t", "healed", Payload::json("3")).unwrap();
    // What is local is there before the call returns; what comes from b comes later.
    assert_eq!(events(&mut on_a, 3).await, ["lost", "healed", "kept"]);
    assert_eq!(events(&mut on_b, 2).await, ["kept", "healed"]);
}

#[tokio::test(start_paused = true)]
async fn pub_13_delay_and_seeded_loss() {
    let cluster = MemoryCluster::new();
    let a = PubSub::new(cluster.adapter("a"));
    let b = PubSub::new(cluster.adapter("b"));
    let mut on_b = b.subscribe("t");
    cluster.set_delay(Duration::from_millis(70));
    let began = Instant::now();
    a.broadcast("t", "slow", Payload::json("1")).unwrap();
    assert_eq!(events(&mut on_b, 1).await, ["slow"]);
    assert_eq!(began.elapsed().as_millis(), 70);

    cluster.heal();
    cluster.set_loss(2, 7);
    for _ in 0..1_000 {
        a.broadcast("t", "maybe", Payload::json("1")).unwrap();
    }
    cluster.heal();
    a.broadcast("t", "end", Payload::json("1")).unwrap();
    let mut n_arrived = 0;
    while events(&mut on_b, 1).await == ["maybe"] {
        n_arrived += 1;
    }
    assert!(
        (400..600).contains(&n_arrived),
        "{n_arrived} of 1000 arrived"
    );
}

#[tokio::test(start_paused = true)]
async fn pub_14_a_partition_separates_and_kill_is_silent() {
    let cluster = MemoryCluster::new();
    let nodes: Vec<PubSub> = ["a", "b", "c"]
        .iter()
        .map(|name| PubSub::new(cluster.adapter(name)))
        .collect();
    let mut on_b = nodes[1].subscribe("t");
    let mut on_c = nodes[2].subscribe("t");
    cluster.partition(&["a", "b"]);
    nodes[0]
        .broadcast("t", "inside", Payload::json("1"))
        .unwrap();
    cluster.heal();
    cluster.kill("b");
    nodes[0]
        .broadcast("t", "after", Payload::json("1"))
        .unwrap();
    assert_eq!(events(&mut on_c, 1).await, ["after"]);
    assert!(on_b.try_recv().is_none(), "a killed node hears nothing");
}

/// Returns the names of the next events, with a deadline.
async fn events(subscription: &mut Subscription, n_events: usize) -> Vec<String> {
    let mut events = Vec::new();
    while events.len() < n_events {
        let next = timeout(Duration::from_secs(5), subscription.recv()).await;
        events.push(
            next.expect("comes in time")
                .expect("no lag")
                .event
                .to_string(),
        );
    }
    events
}
