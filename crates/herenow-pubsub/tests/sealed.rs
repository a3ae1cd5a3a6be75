//! Frames under seal, over the in-process adapter: the suite, and who is kept out. Time is paused.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use herenow_pubsub::conformance::{self, Harness};
use herenow_pubsub::sealed::{Refusal, SealConfig, SealError, Sealed};
use herenow_pubsub::{Adapter, AdapterError, Closing, MemoryCluster, Receiver};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

const SECRET: &str = "the secret of these tests";

fn config(secret: Option<&str>) -> SealConfig {
    let mut config = SealConfig::new("tests");
    config.secret = secret.map(|secret| secret.as_bytes().to_vec());
    config.agreement = [("n_shards".to_owned(), "64".to_owned())].into();
    config
}

/// A node, what its receiver got, and the wire under its seal.
struct Node {
    sealed: Arc<Sealed>,
    wire: Arc<Wire>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    changed: Notify,
}

impl Heard {
    fn note(&self, line: String) {
        self.lines.lock().push(line);
        self.changed.notify_one();
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }
}

impl Receiver for Heard {
    fn receive(&self, from: &str, subject: &str, bytes: Bytes) {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.note(format!("{from} on {subject}: {text}"));
    }

    fn peer_seen(&self, peer: &str) {
        self.note(format!("{peer} seen"));
    }

    fn peer_gone(&self, peer: &str) {
        self.note(format!("{peer} gone"));
    }
}

/// The in-process adapter, its traffic recorded on the way in.
struct Wire {
    inner: Arc<dyn Adapter>,
    tap: Mutex<Option<Arc<Tap>>>,
}

struct Tap {
    receiver: Arc<dyn Receiver>,
    frames: Mutex<Vec<(String, String, Bytes)>>,
}

impl Wire {
    fn tap(&self) -> Arc<Tap> {
        self.tap.lock().clone().unwrap()
    }
}

impl Adapter for Wire {
    fn node_name(&self) -> &str {
        self.inner.node_name()
    }
    fn start(&self, receiver: Arc<dyn Receiver>) {
        let tap = Arc::new(Tap {
            receiver,
            frames: Mutex::default(),
        });
        *self.tap.lock() = Some(tap.clone());
        self.inner.start(tap);
    }
    fn broadcast(&self, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        self.inner.broadcast(subject, bytes)
    }
    fn send(&self, node: &str, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        self.inner.send(node, subject, bytes)
    }
    fn close(&self) -> Closing<'_> {
        self.inner.close()
    }
}

impl Receiver for Tap {
    fn receive(&self, from: &str, subject: &str, bytes: Bytes) {
        let frame = (from.to_owned(), subject.to_owned(), bytes.clone());
        self.frames.lock().push(frame);
        self.receiver.receive(from, subject, bytes);
    }
    fn peer_seen(&self, peer: &str) {
        self.receiver.peer_seen(peer);
    }
    fn peer_gone(&self, peer: &str) {
        self.receiver.peer_gone(peer);
    }
}

impl Tap {
    /// The last frame on a subject.
    fn last(&self, subject: &str) -> (String, String, Bytes) {
        let frames = self.frames.lock();
        let frame = frames.iter().rev().find(|(_, on, _)| on == subject);
        frame.unwrap().clone()
    }
}

impl Node {
    fn start(cluster: &MemoryCluster, name: &str, config: SealConfig) -> Self {
        let wire = Arc::new(Wire {
            inner: cluster.adapter(name),
            tap: Mutex::default(),
        });
        let sealed = Arc::new(Sealed::new(wire.clone(), config).unwrap());
        let heard = Arc::new(Heard::default());
        sealed.start(heard.clone());
        Self {
            sealed,
            wire,
            heard,
        }
    }

    async fn hears(&self, line: &str) {
        let waiting = async {
            while !self.heard.lines().iter().any(|heard| heard == line) {
                self.heard.changed.notified().await;
            }
        };
        let came = timeout(Duration::from_secs(5), waiting).await;
        assert!(came.is_ok(), "{line:?} is not in {:?}", self.heard.lines());
    }

    fn say(&self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.sealed.broadcast("t", bytes).unwrap();
    }

    /// Talks until the other one is refused, and returns why.
    async fn refuses(&self, other: &Self) -> Refusal {
        let refusing = async {
            loop {
                if let Some(refused) = self.sealed.refused().into_iter().next() {
                    return refused.refusal;
                }
                other.say("let me in");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let refusal = timeout(Duration::from_secs(5), refusing).await;
        assert_eq!(self.heard.lines(), Vec::<String>::new());
        refusal.unwrap()
    }
}

async fn pair(a: SealConfig, b: SealConfig) -> (Refusal, Refusal) {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a", a);
    let b = Node::start(&cluster, "b", b);
    (a.refuses(&b).await, b.refuses(&a).await)
}

async fn friends(cluster: &MemoryCluster) -> (Node, Node) {
    let a = Node::start(cluster, "a", config(Some(SECRET)));
    let b = Node::start(cluster, "b", config(Some(SECRET)));
    a.hears("b seen").await;
    b.hears("a seen").await;
    (a, b)
}

/// One cluster per name, all under seal.
#[derive(Default)]
struct SealedMemory(Mutex<Vec<(String, MemoryCluster)>>);

impl Harness for SealedMemory {
    fn adapter<'a>(
        &'a self,
        cluster: &'a str,
        node: &'a str,
    ) -> Pin<Box<dyn Future<Output = Arc<dyn Adapter>> + Send + 'a>> {
        let mut clusters = self.0.lock();
        if !clusters.iter().any(|(name, _)| name == cluster) {
            clusters.push((cluster.to_owned(), MemoryCluster::new()));
        }
        let (_, cluster) = clusters.iter().find(|(name, _)| name == cluster).unwrap();
        let sealed = Sealed::new(cluster.adapter(node), config(Some(SECRET))).unwrap();
        Box::pin(async move { Arc::new(sealed) as Arc<dyn Adapter> })
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn reports_peers(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn srv_500_under_seal_an_adapter_passes_the_suite() {
    conformance::check_all(&SealedMemory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn srv_501_nodes_with_the_secret_hear_each_other_from_the_moment_they_are_seen() {
    let cluster = MemoryCluster::new();
    let (a, b) = friends(&cluster).await;
    a.say("one");
    a.sealed.send("b", "t", Bytes::from_static(b"two")).unwrap();
    b.hears("a on t: one").await;
    b.hears("a on t: two").await;
    assert_eq!(b.sealed.stats().n_refused, 0);
    a.sealed.close().await;
    b.hears("a gone").await;
}

#[tokio::test(start_paused = true)]
async fn srv_502_another_secret_is_refused_on_both_sides() {
    let other = "not the secret of these tests";
    let (at_a, at_b) = pair(config(Some(SECRET)), config(Some(other))).await;
    assert_eq!((at_a, at_b), (Refusal::WrongTag, Refusal::WrongTag));
}

#[tokio::test(start_paused = true)]
async fn srv_503_no_secret_is_refused_on_both_sides() {
    let (at_a, at_b) = pair(config(Some(SECRET)), config(None)).await;
    assert_eq!(
        (at_a, at_b),
        (Refusal::NoSecretThere, Refusal::NoSecretHere)
    );
}

#[tokio::test(start_paused = true)]
async fn srv_504_a_node_that_does_not_seal_is_refused() {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a", config(Some(SECRET)));
    let bare = cluster.adapter("b");
    bare.start(Arc::new(Heard::default()));
    let refusing = async {
        while a.sealed.refused().is_empty() {
            bare.broadcast("t", Bytes::from_static(b"hello")).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), refusing).await.unwrap();
    let refused = a.sealed.refused();
    assert_eq!(
        (&*refused[0].peer, &refused[0].refusal),
        ("b", &Refusal::NotSealed)
    );
    assert_eq!(a.heard.lines(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn srv_505_a_frame_that_was_changed_is_refused_whatever_was_changed() {
    let cluster = MemoryCluster::new();
    let (a, b) = friends(&cluster).await;
    a.say("genuine");
    b.hears("a on t: genuine").await;
    let (from, subject, frame) = b.wire.tap().last("t");
    let n_taken = b.sealed.stats().n_taken;
    let receiver = b.wire.tap().receiver.clone();
    for at in 0..frame.len() {
        let mut changed = frame.to_vec();
        changed[at] ^= 1;
        receiver.receive(&from, &subject, Bytes::from(changed));
    }
    for cut in 0..frame.len() {
        receiver.receive(&from, &subject, frame.slice(..cut));
    }
    receiver.receive("c", &subject, frame.clone());
    receiver.receive(&from, "u", frame.clone());
    a.sealed
        .send("c", "t", Bytes::from_static(b"for c"))
        .unwrap();
    assert_eq!(b.sealed.stats().n_taken, n_taken);
    assert_eq!(b.sealed.stats().n_refused, 2 * frame.len() as u64 + 2);
}

#[tokio::test(start_paused = true)]
async fn srv_505_a_frame_for_one_node_is_refused_by_another() {
    let cluster = MemoryCluster::new();
    let (a, b) = friends(&cluster).await;
    let c = Node::start(&cluster, "c", config(Some(SECRET)));
    c.hears("a seen").await;
    a.sealed
        .send("b", "t", Bytes::from_static(b"for b"))
        .unwrap();
    b.hears("a on t: for b").await;
    let (from, subject, frame) = b.wire.tap().last("t");
    c.wire.tap().receiver.receive(&from, &subject, frame);
    assert_eq!(c.sealed.refused()[0].refusal, Refusal::WrongTag);
}

#[tokio::test(start_paused = true)]
async fn srv_506_a_recorded_frame_is_taken_once() {
    let cluster = MemoryCluster::new();
    let (a, b) = friends(&cluster).await;
    a.say("pay");
    b.hears("a on t: pay").await;
    let (from, subject, frame) = b.wire.tap().last("t");
    b.wire.tap().receiver.receive(&from, &subject, frame);
    assert_eq!(b.sealed.stats().n_replayed, 1);
    let paid = b
        .heard
        .lines()
        .iter()
        .filter(|line| *line == "a on t: pay")
        .count();
    assert_eq!(paid, 1);
}

#[tokio::test(start_paused = true)]
async fn srv_507_what_was_recorded_in_an_earlier_life_is_refused() {
    let cluster = MemoryCluster::new();
    let (a, b) = friends(&cluster).await;
    a.say("old");
    b.hears("a on t: old").await;
    let recorded: Vec<_> = b.wire.tap().frames.lock().clone();
    // The sender lives anew, then the receiver does.
    a.sealed.close().await;
    let a = Node::start(&cluster, "a", config(Some(SECRET)));
    a.hears("b seen").await;
    for round in 0..2 {
        let b = if round == 0 {
            &b
        } else {
            &Node::start(&cluster, "b", config(Some(SECRET)))
        };
        b.hears("a seen").await;
        let n_taken = b.sealed.stats().n_taken;
        let receiver = b.wire.tap().receiver.clone();
        for (from, subject, frame) in recorded.clone() {
            receiver.receive(&from, &subject, frame);
        }
        assert_eq!(b.sealed.stats().n_taken, n_taken, "round {round}");
        // And it has not made the present life a stranger.
        let line = format!("new {round}");
        a.say(&line);
        b.hears(&format!("a on t: {line}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn srv_508_a_cluster_of_another_name_is_not_heard_and_not_an_alarm() {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a", config(Some(SECRET)));
    let mut other = config(Some(SECRET));
    other.cluster = "others".to_owned();
    let b = Node::start(&cluster, "b", other);
    let talking = async {
        while a.sealed.stats().n_refused < 5 {
            b.say("hello");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), talking).await.unwrap();
    assert!(a.sealed.refused().is_empty());
    assert_eq!(a.heard.lines(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn srv_509_a_node_with_other_settings_is_refused_on_both_sides_with_both_values() {
    let mut other = config(Some(SECRET));
    other.agreement = [("n_shards".to_owned(), "32".to_owned())].into();
    let (at_a, at_b) = pair(config(Some(SECRET)), other).await;
    let expected = "n_shards is 32 there and 64 here, a cluster must agree on it";
    assert_eq!(at_a.to_string(), expected);
    let expected = "n_shards is 64 there and 32 here, a cluster must agree on it";
    assert_eq!(at_b.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn srv_510_a_node_of_another_protocol_version_is_refused_on_both_sides() {
    let mut newer = config(Some(SECRET));
    newer.version = 2;
    let (at_a, at_b) = pair(config(Some(SECRET)), newer).await;
    let expected = "it speaks version 2 of the cluster protocol, this node version 1";
    assert_eq!(at_a.to_string(), expected);
    let expected = "it speaks version 1 of the cluster protocol, this node version 2";
    assert_eq!(at_b.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn srv_511_a_lost_handshake_is_made_up_for_by_the_next_messages() {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a", config(Some(SECRET)));
    cluster.cut("a", "b");
    let b = Node::start(&cluster, "b", config(Some(SECRET)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.heal();
    let talking = async {
        while !b
            .heard
            .lines()
            .contains(&"a on t: there you are".to_owned())
        {
            a.say("there you are");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), talking).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn srv_512_a_secret_that_is_none_is_refused_and_not_shown() {
    let cluster = MemoryCluster::new();
    let error = Sealed::new(cluster.adapter("a"), config(Some("short"))).unwrap_err();
    let (len, min) = (5, 16);
    assert_eq!(error, SealError::ShortSecret { len, min });
    let shown = format!("{:?}", config(Some(SECRET)));
    assert!(!shown.contains(SECRET) && shown.contains("25"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn srv_513_peers_beyond_the_bound_make_the_most_silent_one_prove_itself_again() {
    let cluster = MemoryCluster::new();
    let mut small = config(Some(SECRET));
    small.max_peers = 2;
    let a = Node::start(&cluster, "a", small);
    let others: Vec<Node> = ["b", "c", "d", "e"]
        .iter()
        .map(|name| Node::start(&cluster, name, config(Some(SECRET))))
        .collect();
    for other in &others {
        let name = other.sealed.node_name().to_owned();
        let talking = async {
            while !a.heard.lines().contains(&format!("{name} on t: hi")) {
                other.say("hi");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(10), talking).await.unwrap();
    }
}
