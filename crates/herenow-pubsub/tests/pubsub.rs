//! Scenarios of area B, and what is ours: bounds, encode-once, locks that are not held.
#![allow(clippy::unwrap_used)]

use std::num::NonZero;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use herenow_pubsub::{
    Attachment, Broadcast, BroadcastError, Lagged, Link, LinkError, LocalPayload, MAX_TOPIC_BYTES,
    MemoryCluster, Once, Payload, PubSub, Receiver, Sink, SubscriberId, Subscription,
};
use parking_lot::Mutex;
use tokio::time::timeout;

const TOPIC: &str = "room:1";

/// Remembers what it got under a label.
struct Labelled {
    label: &'static str,
    got: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Sink for Labelled {
    fn deliver(&self, broadcast: &Broadcast, _once: &mut Once) {
        self.got
            .lock()
            .push((self.label, broadcast.event.to_string()));
    }
}

fn said() -> Payload {
    Payload::json(r#""hello""#)
}

fn event_now(subscription: &mut Subscription) -> Option<String> {
    subscription
        .try_recv()
        .map(|next| next.unwrap().event.to_string())
}

async fn event(subscription: &mut Subscription) -> String {
    let next = timeout(Duration::from_secs(5), subscription.recv()).await;
    next.expect("comes in time")
        .expect("no lag")
        .event
        .to_string()
}

#[test]
fn b_01_node_name_is_a_string() {
    assert_eq!(PubSub::local().node_name(), "local");
}

#[tokio::test]
async fn b_01_node_name_is_the_adapters() {
    assert_eq!(
        PubSub::new(MemoryCluster::new().adapter("n1")).node_name(),
        "n1"
    );
}

#[test]
fn b_02_subscribe_adds_and_unsubscribe_removes() {
    let pubsub = PubSub::local();
    let subscription = pubsub.subscribe(TOPIC);
    assert_eq!(pubsub.n_subscribers(TOPIC), 1);
    subscription.unsubscribe();
    assert_eq!(pubsub.n_subscribers(TOPIC), 0);
    assert_eq!(pubsub.stats().n_topics, 0);
}

#[tokio::test]
async fn b_03_broadcast_delivers_and_is_ok() {
    let pubsub = PubSub::local();
    let mut subscription = pubsub.subscribe(TOPIC);
    pubsub.broadcast(TOPIC, "said", said()).unwrap();
    let broadcast = subscription.recv().await.unwrap();
    assert_eq!((&*broadcast.topic, &*broadcast.event), (TOPIC, "said"));
    assert!(matches!(broadcast.payload, Payload::Json(body) if body == r#""hello""#));
}

#[test]
fn b_04_subscribers_of_another_topic_get_nothing() {
    let pubsub = PubSub::local();
    let mut other = pubsub.subscribe("room:2");
    pubsub.broadcast(TOPIC, "said", said()).unwrap();
    assert_eq!(event_now(&mut other), None);
}

#[test]
fn b_05_broadcast_from_skips_its_sender() {
    let pubsub = PubSub::local();
    let (mut own, mut other) = (pubsub.subscribe(TOPIC), pubsub.subscribe(TOPIC));
    pubsub
        .broadcast_from(own.id(), TOPIC, "said", said())
        .unwrap();
    assert_eq!(event_now(&mut own), None);
    assert_eq!(event_now(&mut other).as_deref(), Some("said"));
}

#[test]
fn b_06_ending_a_subscription_leaves_the_others() {
    let pubsub = PubSub::local();
    let mut other = pubsub.subscribe(TOPIC);
    // An unsubscribe without a subscription cannot be written: it consumes one.
    pubsub.subscribe(TOPIC).unsubscribe();
    pubsub.broadcast(TOPIC, "said", said()).unwrap();
    assert_eq!(event_now(&mut other).as_deref(), Some("said"));
}

#[tokio::test]
async fn b_07_direct_broadcast_to_the_own_node_delivers() {
    for pubsub in [
        PubSub::local(),
        PubSub::new(MemoryCluster::new().adapter("n1")),
    ] {
        let mut subscription = pubsub.subscribe(TOPIC);
        pubsub
            .direct_broadcast(pubsub.node_name(), TOPIC, "said", said())
            .unwrap();
        assert_eq!(event(&mut subscription).await, "said");
    }
}

#[tokio::test]
async fn b_08_direct_broadcast_to_an_unknown_node_vanishes() {
    for pubsub in [
        PubSub::local(),
        PubSub::new(MemoryCluster::new().adapter("n1")),
    ] {
        let mut subscription = pubsub.subscribe(TOPIC);
        pubsub
            .direct_broadcast("nobody", TOPIC, "said", said())
            .unwrap();
        assert_eq!(event_now(&mut subscription), None);
    }
}

#[test]
fn b_09_local_broadcast_delivers() {
    let pubsub = PubSub::local();
    let mut subscription = pubsub.subscribe(TOPIC);
    pubsub.local_broadcast(TOPIC, "said", said());
    assert_eq!(event_now(&mut subscription).as_deref(), Some("said"));
}

#[test]
fn b_10_local_broadcast_from_skips_its_sender() {
    let pubsub = PubSub::local();
    let (mut own, mut other) = (pubsub.subscribe(TOPIC), pubsub.subscribe(TOPIC));
    pubsub.local_broadcast_from(own.id(), TOPIC, "said", said());
    assert_eq!(event_now(&mut own), None);
    assert_eq!(event_now(&mut other).as_deref(), Some("said"));
}

#[test]
fn b_11_two_sinks_of_one_topic_are_delivered_to_separately() {
    let pubsub = PubSub::local();
    let got = Arc::new(Mutex::new(Vec::new()));
    let attach = |label| -> Attachment {
        pubsub.attach(
            TOPIC,
            Arc::new(Labelled {
                label,
                got: got.clone(),
            }),
        )
    };
    let (plain, _special) = (attach("plain"), attach("special"));
    pubsub.broadcast(TOPIC, "all", said()).unwrap();
    pubsub.local_broadcast(TOPIC, "here", said());
    pubsub
        .direct_broadcast("local", TOPIC, "direct", said())
        .unwrap();
    // The reference leaves the skipping to its custom dispatcher; here a sink is skipped by its id.
    pubsub
        .broadcast_from(plain.id(), TOPIC, "all from", said())
        .unwrap();
    pubsub.local_broadcast_from(plain.id(), TOPIC, "here from", said());
    let both = |event: &str| [("plain", event.to_owned()), ("special", event.to_owned())];
    let one = |event: &str| [("special", event.to_owned())];
    let expected = [
        &both("all")[..],
        &both("here"),
        &both("direct"),
        &one("all from"),
        &one("here from"),
    ];
    assert_eq!(*got.lock(), expected.concat());
}

/// Three nodes, each with a subscription to the topic.
fn three_nodes() -> (MemoryCluster, Vec<PubSub>, Vec<Subscription>) {
    let cluster = MemoryCluster::new();
    let nodes: Vec<PubSub> = ["primary", "node1", "node2"]
        .iter()
        .map(|name| PubSub::new(cluster.adapter(name)))
        .collect();
    let subscriptions = nodes.iter().map(|node| node.subscribe(TOPIC)).collect();
    (cluster, nodes, subscriptions)
}

#[tokio::test(start_paused = true)]
async fn b_16_broadcast_reaches_other_nodes_again_and_again() {
    let (_cluster, nodes, mut subscriptions) = three_nodes();
    for event_name in ["first", "second", "third"] {
        nodes[0].broadcast(TOPIC, event_name, said()).unwrap();
        for subscription in &mut subscriptions {
            assert_eq!(event(subscription).await, event_name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b_17_local_broadcast_stays_on_its_node() {
    let (_cluster, nodes, mut subscriptions) = three_nodes();
    nodes[0].local_broadcast(TOPIC, "here", said());
    nodes[0].broadcast(TOPIC, "everywhere", said()).unwrap();
    assert_eq!(event(&mut subscriptions[0]).await, "here");
    for subscription in &mut subscriptions {
        assert_eq!(event(subscription).await, "everywhere");
    }
}

#[tokio::test(start_paused = true)]
async fn b_18_direct_broadcast_reaches_one_node() {
    let (_cluster, nodes, mut subscriptions) = three_nodes();
    nodes[0]
        .direct_broadcast("node1", TOPIC, "to 1", said())
        .unwrap();
    nodes[0]
        .direct_broadcast("node2", TOPIC, "to 2", said())
        .unwrap();
    nodes[0].broadcast(TOPIC, "to all", said()).unwrap();
    assert_eq!(event(&mut subscriptions[0]).await, "to all");
    assert_eq!(event(&mut subscriptions[1]).await, "to 1");
    assert_eq!(event(&mut subscriptions[1]).await, "to all");
    assert_eq!(event(&mut subscriptions[2]).await, "to 2");
    assert_eq!(event(&mut subscriptions[2]).await, "to all");
}

#[tokio::test(start_paused = true)]
async fn b_19_b_20_every_node_reaches_every_other() {
    let (_cluster, nodes, mut subscriptions) = three_nodes();
    for node in &nodes {
        node.broadcast(TOPIC, node.node_name(), said()).unwrap();
        for subscription in &mut subscriptions {
            assert_eq!(event(subscription).await, node.node_name());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pub_15_a_refused_broadcast_reaches_nobody_not_even_here() {
    let (_cluster, nodes, mut subscriptions) = three_nodes();
    nodes[0].close().await;
    let refused = nodes[0].broadcast(TOPIC, "said", said());
    assert!(matches!(refused, Err(BroadcastError::Adapter(_))));
    assert_eq!(event_now(&mut subscriptions[0]), None);
    assert_eq!(nodes[0].stats().n_refused, 1);
    let long = "x".repeat(MAX_TOPIC_BYTES + 1);
    let refused = nodes[0].broadcast(&long, "said", said());
    assert!(matches!(
        refused,
        Err(BroadcastError::TopicTooLong {
            len: 1025,
            max: 1024
        })
    ));
}

#[test]
fn pub_16_a_slow_reader_is_told_how_many_it_missed() {
    let pubsub = PubSub::local();
    let mut slow = pubsub.subscribe_bounded(TOPIC, 3);
    for event in ["1", "2", "3", "4", "5"] {
        pubsub.local_broadcast(TOPIC, event, said());
    }
    assert_eq!(slow.try_recv().unwrap().unwrap_err(), Lagged { missed: 2 });
    let rest: Vec<String> = std::iter::from_fn(|| event_now(&mut slow)).collect();
    assert_eq!(rest, ["3", "4", "5"]);
}

/// Encodes for its serializer and counts how often that was needed.
struct Encoding {
    slot: u128,
    n_encoded: Arc<AtomicUsize>,
    frames: Mutex<Vec<Bytes>>,
}

impl Sink for Encoding {
    fn deliver(&self, broadcast: &Broadcast, once: &mut Once) {
        let frame = once.get_or_encode(self.slot, || {
            self.n_encoded.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(Bytes::from(format!("{}:{}", self.slot, broadcast.event)))
        });
        self.frames.lock().push(frame.unwrap());
    }
}

#[test]
fn pub_17_a_dispatch_encodes_once_per_slot_and_shares_the_bytes() {
    let pubsub = PubSub::local();
    let n_encoded = Arc::new(AtomicUsize::new(0));
    let sinks: Vec<Arc<Encoding>> = (0..100)
        .map(|n| Encoding {
            slot: n % 2,
            n_encoded: n_encoded.clone(),
            frames: Mutex::default(),
        })
        .map(Arc::new)
        .collect();
    let _attached: Vec<Attachment> = sinks
        .iter()
        .map(|sink| pubsub.attach(TOPIC, sink.clone()))
        .collect();
    pubsub.local_broadcast(TOPIC, "said", said());
    assert_eq!(n_encoded.load(Ordering::Relaxed), 2);
    let first = sinks[0].frames.lock()[0].clone();
    let last = sinks[98].frames.lock()[0].clone();
    assert_eq!(first.as_ptr(), last.as_ptr());
}

/// Unsubscribes itself and its neighbour, and broadcasts, from inside a dispatch.
struct Meddler {
    pubsub: PubSub,
    held: Mutex<Vec<Attachment>>,
    n_delivered: AtomicUsize,
}

impl Sink for Meddler {
    fn deliver(&self, broadcast: &Broadcast, _once: &mut Once) {
        self.n_delivered.fetch_add(1, Ordering::Relaxed);
        if &*broadcast.event == "first" {
            let held = std::mem::take(&mut *self.held.lock());
            drop(held);
            let _unseen = self.pubsub.subscribe(TOPIC);
            self.pubsub
                .local_broadcast(TOPIC, "second", Payload::json("1"));
        }
    }
}

#[test]
fn pub_18_a_sink_may_unsubscribe_subscribe_and_broadcast_during_a_dispatch() {
    let pubsub = PubSub::local();
    let meddler = Arc::new(Meddler {
        pubsub: pubsub.clone(),
        held: Mutex::default(),
        n_delivered: AtomicUsize::new(0),
    });
    let attachments: Vec<Attachment> = (0..3)
        .map(|_| pubsub.attach(TOPIC, meddler.clone()))
        .collect();
    meddler.held.lock().extend(attachments);
    pubsub.local_broadcast(TOPIC, "first", said());
    assert_eq!(pubsub.n_subscribers(TOPIC), 0);
    // The other two were on the list that this dispatch walks, so they got it all the same.
    assert_eq!(meddler.n_delivered.load(Ordering::Relaxed), 3);
    pubsub.local_broadcast(TOPIC, "third", said());
    assert_eq!(meddler.n_delivered.load(Ordering::Relaxed), 3);
}

#[test]
fn pub_19_leaving_in_any_order_leaves_exactly_the_others() {
    let pubsub = PubSub::local();
    let got = Arc::new(Mutex::new(Vec::new()));
    let mut attached: Vec<Option<Attachment>> = (0..100)
        .map(|_| {
            Some(pubsub.attach(
                TOPIC,
                Arc::new(Labelled {
                    label: "x",
                    got: got.clone(),
                }),
            ))
        })
        .collect();
    for step in 0..100 {
        attached[step * 37 % 100] = None;
        got.lock().clear();
        pubsub.local_broadcast(TOPIC, "said", said());
        assert_eq!(got.lock().len(), 99 - step);
        assert_eq!(pubsub.n_subscribers(TOPIC), 99 - step);
    }
    assert_eq!(pubsub.stats().n_topics, 0);
}

#[derive(Debug)]
struct Count(u32);

impl LocalPayload for Count {
    fn json(&self) -> Bytes {
        Bytes::from(self.0.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn pub_20_a_local_payload_is_a_value_here_and_json_elsewhere() {
    let (_cluster, nodes, mut subscriptions) = three_nodes();
    nodes[0]
        .broadcast(TOPIC, "counted", Payload::Local(Arc::new(Count(7))))
        .unwrap();
    let here = subscriptions[0].recv().await.unwrap().payload;
    let there = subscriptions[1].recv().await.unwrap().payload;
    let Payload::Local(value) = here else {
        panic!("a value here: {here:?}")
    };
    assert_eq!(value.downcast_ref::<Count>().unwrap().0, 7);
    assert_eq!(value.downcast_arc::<Count>().unwrap().0, 7);
    assert!(matches!(there, Payload::Json(json) if json == "7"));
}

/// Writes down what a link brings.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Receiver for Heard {
    fn receive(&self, from: &str, subject: &str, bytes: Bytes) {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.0.lock().push(format!("{subject} {from} {text}"));
    }
    fn peer_seen(&self, peer: &str) {
        self.0.lock().push(format!("seen {peer}"));
    }
    fn peer_gone(&self, peer: &str) {
        self.0.lock().push(format!("gone {peer}"));
    }
}

#[tokio::test(start_paused = true)]
async fn pub_21_links_of_one_name_talk_to_each_other_only() {
    let (cluster, nodes, mut subscriptions) = three_nodes();
    let heard: Vec<Arc<Heard>> = (0..3).map(|_| Arc::default()).collect();
    let links: Vec<Link> = nodes
        .iter()
        .zip(&heard)
        .map(|(node, heard)| node.link("p", heard.clone()).unwrap())
        .collect();
    let taken = nodes[0].link("p", heard[0].clone());
    assert_eq!(taken.unwrap_err(), LinkError::Taken { name: "p".into() });
    links[0].broadcast(Bytes::from_static(b"all")).unwrap();
    links[0].send("node2", Bytes::from_static(b"one")).unwrap();
    cluster.report_gone("primary");
    nodes[0].broadcast(TOPIC, "end", said()).unwrap();
    for subscription in &mut subscriptions {
        assert_eq!(event(subscription).await, "end");
    }
    let heard = |n: usize| -> Vec<String> {
        let heard = heard[n].0.lock();
        heard
            .iter()
            .filter(|line| !line.starts_with("seen"))
            .cloned()
            .collect()
    };
    assert_eq!(heard(0), Vec::<String>::new());
    assert_eq!(heard(1), ["p primary all", "gone primary"]);
    assert_eq!(heard(2), ["p primary all", "p primary one", "gone primary"]);
    drop(links);
    assert!(
        nodes[0].link("p", Arc::new(Heard::default())).is_ok(),
        "the name is free again"
    );
}

#[test]
fn pub_23_intern_returns_the_shared_name_of_a_known_topic() {
    let pubsub = PubSub::local();
    let subscription = pubsub.subscribe(TOPIC);
    assert!(Arc::ptr_eq(&pubsub.intern(TOPIC), subscription.topic()));
    assert_eq!(&*pubsub.intern("unknown"), "unknown");
    assert_eq!(pubsub.stats().n_topics, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pub_24_concurrent_comings_and_goings_lose_and_double_nothing() {
    let pubsub = PubSub::local();
    let mut steady = pubsub.subscribe_bounded(TOPIC, 100_000);
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let pubsub = pubsub.clone();
            tokio::spawn(async move {
                let mut ids: Vec<SubscriberId> = Vec::new();
                for _ in 0..1_000 {
                    let passing = pubsub.subscribe_bounded(TOPIC, 4);
                    ids.push(passing.id());
                    pubsub.broadcast(TOPIC, "said", said()).unwrap();
                }
                ids
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await.unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4_000, "no id is given twice");
    assert_eq!(std::iter::from_fn(|| event_now(&mut steady)).count(), 4_000);
    assert_eq!(pubsub.n_subscribers(TOPIC), 1);
}

#[tokio::test]
async fn pub_131_a_broadcast_in_turns_lets_others_run_and_reaches_each_once() {
    let pubsub = PubSub::local();
    let mut all: Vec<Subscription> = (0..10).map(|_| pubsub.subscribe(TOPIC)).collect();
    let turn = NonZero::new(3).unwrap();
    let mut turns = pin!(pubsub.local_broadcast_in_turns(TOPIC, "said", said(), turn));
    let context = &mut Context::from_waker(Waker::noop());
    assert!(turns.as_mut().poll(context).is_pending());
    let first: Vec<_> = all.iter_mut().map(event_now).collect();
    assert_eq!(
        first.iter().flatten().count(),
        3,
        "the others' turn is yet to come"
    );
    // Between two turns: one who has it goes, one who waits for it goes, and one comes.
    drop((all.remove(9), all.remove(0)));
    all.push(pubsub.subscribe(TOPIC));
    turns.await;
    let rest: Vec<_> = all.iter_mut().map(event_now).collect();
    assert_eq!(rest.iter().flatten().count(), 7);
    assert!(rest[..2].iter().all(Option::is_none), "those have had it");
    assert!(all.iter_mut().all(|one| event_now(one).is_none()));
}

#[test]
fn pub_580_a_sink_that_panics_loses_its_own_broadcast_and_is_counted() {
    #[derive(Debug)]
    struct Broken;
    impl Sink for Broken {
        fn deliver(&self, _: &Broadcast, _: &mut Once) {
            panic!("as the test wants");
        }
    }
    let pubsub = PubSub::local();
    let mut before = pubsub.subscribe(TOPIC);
    let _broken = pubsub.attach(TOPIC, Arc::new(Broken));
    let mut after = pubsub.subscribe(TOPIC);
    for n in 1..=2 {
        pubsub.broadcast(TOPIC, "said", said()).unwrap();
        assert_eq!(event_now(&mut before).as_deref(), Some("said"));
        assert_eq!(event_now(&mut after).as_deref(), Some("said"));
        assert_eq!(pubsub.stats().n_panicked, n);
    }
}
