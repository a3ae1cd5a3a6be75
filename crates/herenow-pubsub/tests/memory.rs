//! The in-process adapter: the suite, and its own switches. Time is paused.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use herenow_pubsub::conformance::{Harness, Step};
use herenow_pubsub::{Adapter, MemoryCluster, Payload, PubSub, Subscription, adapter_suite};
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

adapter_suite!(
    #[tokio::test(start_paused = true)]
    Memory::default()
);

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
