//! The suite that every [`Adapter`] must pass, as one function per row of the PUB area.
//!
//! An adapter's tests implement [`Harness`] and call each function from a test of its own, or all
//! of them by [`check_all`]. A check that fails panics with what it waited for.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::adapter::{Adapter, AdapterError, Receiver};

/// What the suite needs to know about an engine.
pub trait Harness: Send + Sync {
    /// Returns a new adapter, not yet started, for `node` of the cluster `cluster`.
    ///
    /// Clusters of different names must not hear each other; each check uses names of its own.
    fn adapter<'a>(
        &'a self,
        cluster: &'a str,
        node: &'a str,
    ) -> Pin<Box<dyn Future<Output = Arc<dyn Adapter>> + Send + 'a>>;

    /// Returns how long to wait for what must come.
    fn deadline(&self) -> Duration;

    /// Returns whether the engine promises to report peers that come, and go by `close`.
    fn reports_peers(&self) -> bool;
}

/// Runs every check, one after the other.
pub async fn check_all(harness: &dyn Harness) {
    broadcast_reaches_every_other_node(harness).await;
    broadcast_is_not_echoed(harness).await;
    send_reaches_one_node(harness).await;
    send_to_an_unknown_node_vanishes(harness).await;
    messages_of_one_sender_keep_their_order(harness).await;
    large_and_empty_messages_arrive_whole(harness).await;
    clusters_do_not_hear_each_other(harness).await;
    close_loses_nothing_accepted(harness).await;
    a_closed_adapter_refuses(harness).await;
    a_name_can_come_back(harness).await;
    peers_are_reported(harness).await;
}

/// PUB-1: a broadcast reaches every other node once, with its sender and subject.
pub async fn broadcast_reaches_every_other_node(harness: &dyn Harness) {
    let nodes = nodes(harness, "reach", &["a", "b", "c"]).await;
    nodes[0]
        .adapter
        .broadcast("subject/1", Bytes::from_static(b"hi"))
        .expect("accepted");
    for node in &nodes[1..] {
        node.wait_for(harness, "the broadcast", |seen| !seen.messages.is_empty())
            .await;
        assert_eq!(node.messages(), [message("a", "subject/1", b"hi")]);
    }
}

/// PUB-2: a node never gets its own broadcasts.
pub async fn broadcast_is_not_echoed(harness: &dyn Harness) {
    let nodes = nodes(harness, "echo", &["a", "b"]).await;
    nodes[0]
        .adapter
        .broadcast("s", Bytes::from_static(b"one"))
        .expect("accepted");
    nodes[1]
        .wait_for(harness, "the broadcast", |seen| !seen.messages.is_empty())
        .await;
    // What b answers comes after any echo would have.
    nodes[1]
        .adapter
        .broadcast("s", Bytes::from_static(b"two"))
        .expect("accepted");
    nodes[0]
        .wait_for(harness, "the answer", |seen| !seen.messages.is_empty())
        .await;
    assert_eq!(nodes[0].messages(), [message("b", "s", b"two")]);
}

/// PUB-3: a message to one node reaches that node and no other.
pub async fn send_reaches_one_node(harness: &dyn Harness) {
    let nodes = nodes(harness, "send", &["a", "b", "c"]).await;
    nodes[0]
        .adapter
        .send("b", "s", Bytes::from_static(b"for b"))
        .expect("accepted");
    nodes[1]
        .wait_for(harness, "the message", |seen| !seen.messages.is_empty())
        .await;
    nodes[0]
        .adapter
        .send("c", "s", Bytes::from_static(b"for c"))
        .expect("accepted");
    nodes[2]
        .wait_for(harness, "the message", |seen| !seen.messages.is_empty())
        .await;
    assert_eq!(nodes[1].messages(), [message("a", "s", b"for b")]);
    assert_eq!(nodes[2].messages(), [message("a", "s", b"for c")]);
}

/// PUB-4: a message to a node that nobody knows is accepted and vanishes.
pub async fn send_to_an_unknown_node_vanishes(harness: &dyn Harness) {
    let nodes = nodes(harness, "unknown", &["a", "b"]).await;
    nodes[0]
        .adapter
        .send("nobody", "s", Bytes::from_static(b"lost"))
        .expect("accepted");
    nodes[0]
        .adapter
        .send("b", "s", Bytes::from_static(b"kept"))
        .expect("accepted");
    nodes[1]
        .wait_for(harness, "the message", |seen| !seen.messages.is_empty())
        .await;
    assert_eq!(nodes[1].messages(), [message("a", "s", b"kept")]);
}

/// PUB-5: what one task sends to one node arrives in order while nothing is lost.
pub async fn messages_of_one_sender_keep_their_order(harness: &dyn Harness) {
    let nodes = nodes(harness, "order", &["a", "b"]).await;
    let sent: Vec<Bytes> = (0..200u32)
        .map(|n| Bytes::from(n.to_be_bytes().to_vec()))
        .collect();
    for bytes in &sent {
        nodes[0]
            .adapter
            .broadcast("s", bytes.clone())
            .expect("accepted");
    }
    nodes[1]
        .wait_for(harness, "200 messages", |seen| seen.messages.len() >= 200)
        .await;
    let got: Vec<Bytes> = nodes[1]
        .messages()
        .into_iter()
        .map(|message| message.bytes)
        .collect();
    assert_eq!(got, sent);
}

/// PUB-6: messages of 0 bytes and of 512 KiB arrive whole, or the large one is refused as too large.
pub async fn large_and_empty_messages_arrive_whole(harness: &dyn Harness) {
    let nodes = nodes(harness, "large", &["a", "b"]).await;
    let large: Bytes = (0..512 * 1024).map(|n: u32| n.to_le_bytes()[0]).collect();
    nodes[0]
        .adapter
        .broadcast("s", Bytes::new())
        .expect("accepted");
    nodes[1]
        .wait_for(harness, "the empty message", |seen| {
            !seen.messages.is_empty()
        })
        .await;
    match nodes[0].adapter.broadcast("s", large.clone()) {
        Ok(()) => {
            nodes[1]
                .wait_for(harness, "the large message", |seen| seen.messages.len() > 1)
                .await;
            assert_eq!(nodes[1].messages()[1].bytes, large);
        }
        Err(AdapterError::TooLarge { .. }) => {}
        Err(error) => panic!("refused for another reason: {error}"),
    }
    assert!(nodes[1].messages()[0].bytes.is_empty());
}

/// PUB-7: two clusters on one engine do not hear each other, not even with equal node names.
pub async fn clusters_do_not_hear_each_other(harness: &dyn Harness) {
    let one = nodes(harness, "one", &["a", "b"]).await;
    let two = nodes(harness, "two", &["a", "b"]).await;
    one[0]
        .adapter
        .broadcast("s", Bytes::from_static(b"one"))
        .expect("accepted");
    two[0]
        .adapter
        .send("b", "s", Bytes::from_static(b"two"))
        .expect("accepted");
    one[1]
        .wait_for(harness, "the message of one", |seen| {
            !seen.messages.is_empty()
        })
        .await;
    two[1]
        .wait_for(harness, "the message of two", |seen| {
            !seen.messages.is_empty()
        })
        .await;
    assert_eq!(one[1].messages(), [message("a", "s", b"one")]);
    assert_eq!(two[1].messages(), [message("a", "s", b"two")]);
}

/// PUB-8: what was accepted before `close` was called arrives.
pub async fn close_loses_nothing_accepted(harness: &dyn Harness) {
    let nodes = nodes(harness, "close", &["a", "b"]).await;
    for n in 0..50u8 {
        nodes[0]
            .adapter
            .broadcast("s", Bytes::from(vec![n]))
            .expect("accepted");
    }
    timeout(harness.deadline(), nodes[0].adapter.close())
        .await
        .expect("close ends in time");
    nodes[1]
        .wait_for(harness, "50 messages", |seen| seen.messages.len() >= 50)
        .await;
}

/// PUB-9: a closed adapter refuses, and closing it again does nothing.
pub async fn a_closed_adapter_refuses(harness: &dyn Harness) {
    let nodes = nodes(harness, "closed", &["a", "b"]).await;
    nodes[0].adapter.close().await;
    nodes[0].adapter.close().await;
    let refused = nodes[0].adapter.broadcast("s", Bytes::new());
    assert_eq!(refused, Err(AdapterError::Closed));
    assert_eq!(
        nodes[0].adapter.send("b", "s", Bytes::new()),
        Err(AdapterError::Closed)
    );
}

/// PUB-10: after `close` a new adapter of the same name takes part like any other.
pub async fn a_name_can_come_back(harness: &dyn Harness) {
    let before = nodes(harness, "again", &["a", "b"]).await;
    before[0].adapter.close().await;
    let again = Node::start(harness, "again", "a").await;
    connect(harness, &[&again, &before[1]]).await;
    before[1]
        .adapter
        .send("a", "s", Bytes::from_static(b"welcome"))
        .expect("accepted");
    again
        .wait_for(harness, "the message", |seen| !seen.messages.is_empty())
        .await;
    assert_eq!(again.messages(), [message("b", "s", b"welcome")]);
}

/// PUB-11: an engine that promises it reports peers that come and that close.
pub async fn peers_are_reported(harness: &dyn Harness) {
    if !harness.reports_peers() {
        return;
    }
    let nodes = nodes(harness, "peers", &["a", "b"]).await;
    nodes[0]
        .wait_for(harness, "b seen", |seen| seen.peers_seen.contains("b"))
        .await;
    nodes[1]
        .wait_for(harness, "a seen", |seen| seen.peers_seen.contains("a"))
        .await;
    nodes[1].adapter.close().await;
    nodes[0]
        .wait_for(harness, "b gone", |seen| seen.peers_gone.contains("b"))
        .await;
}

/// The subject of the messages that show that two nodes hear each other.
const PROBE: &str = "conformance/probe";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    from: String,
    subject: String,
    bytes: Bytes,
}

fn message(from: &str, subject: &str, bytes: &'static [u8]) -> Message {
    Message {
        from: from.into(),
        subject: subject.into(),
        bytes: Bytes::from_static(bytes),
    }
}

#[derive(Debug, Default)]
struct Seen {
    messages: Vec<Message>,
    probed_by: BTreeSet<String>,
    peers_seen: BTreeSet<String>,
    peers_gone: BTreeSet<String>,
}

/// Writes down what arrives.
#[derive(Default)]
struct Recorder {
    seen: Mutex<Seen>,
    changed: Notify,
}

impl Receiver for Recorder {
    fn receive(&self, from: &str, subject: &str, bytes: Bytes) {
        let mut seen = self.seen.lock();
        if subject == PROBE {
            seen.probed_by.insert(from.into());
        } else {
            seen.messages.push(Message {
                from: from.into(),
                subject: subject.into(),
                bytes,
            });
        }
        drop(seen);
        self.changed.notify_one();
    }

    fn peer_seen(&self, peer: &str) {
        self.seen.lock().peers_seen.insert(peer.into());
        self.changed.notify_one();
    }

    fn peer_gone(&self, peer: &str) {
        self.seen.lock().peers_gone.insert(peer.into());
        self.changed.notify_one();
    }
}

/// A started adapter and what it got.
struct Node {
    name: String,
    adapter: Arc<dyn Adapter>,
    recorder: Arc<Recorder>,
}

impl Node {
    async fn start(harness: &dyn Harness, cluster: &str, name: &str) -> Self {
        let adapter = harness.adapter(cluster, name).await;
        assert_eq!(
            adapter.node_name(),
            name,
            "the adapter's name is the node's"
        );
        let recorder = Arc::new(Recorder::default());
        adapter.start(recorder.clone());
        Self {
            name: name.to_owned(),
            adapter,
            recorder,
        }
    }

    fn messages(&self) -> Vec<Message> {
        self.recorder.seen.lock().messages.clone()
    }

    async fn wait_for(&self, harness: &dyn Harness, what: &str, is_met: impl Fn(&Seen) -> bool) {
        let waited = timeout(harness.deadline(), async {
            while !is_met(&self.recorder.seen.lock()) {
                self.recorder.changed.notified().await;
            }
        });
        if waited.await.is_err() {
            panic!(
                "node {} waited in vain for {what}: {:?}",
                self.name, self.recorder.seen
            );
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seen.lock().fmt(f)
    }
}

/// Starts nodes and waits until each hears each.
async fn nodes(harness: &dyn Harness, cluster: &str, names: &[&str]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(Node::start(harness, cluster, name).await);
    }
    connect(harness, &nodes.iter().collect::<Vec<_>>()).await;
    nodes
}

async fn connect(harness: &dyn Harness, nodes: &[&Node]) {
    let probing = timeout(harness.deadline(), async {
        loop {
            let is_done = nodes.iter().all(|node| {
                let seen = node.recorder.seen.lock();
                nodes
                    .iter()
                    .all(|peer| peer.name == node.name || seen.probed_by.contains(&peer.name))
            });
            if is_done {
                return;
            }
            for node in nodes {
                node.adapter
                    .broadcast(PROBE, Bytes::new())
                    .expect("accepted");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    probing.await.expect("all nodes hear each other in time");
}
