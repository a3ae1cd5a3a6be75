//! What the checks share: started nodes, and what each of them got.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Harness;
use crate::adapter::{Adapter, Receiver};

/// The subject of the messages that show that two nodes hear each other.
const PROBE: &str = "conformance/probe";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) from: String,
    pub(super) subject: String,
    pub(super) bytes: Bytes,
}

pub(super) fn message(from: &str, subject: &str, bytes: &'static [u8]) -> Message {
    Message {
        from: from.into(),
        subject: subject.into(),
        bytes: Bytes::from_static(bytes),
    }
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) messages: Vec<Message>,
    pub(super) probed_by: BTreeSet<String>,
    pub(super) peers_seen: BTreeSet<String>,
    pub(super) peers_gone: BTreeSet<String>,
}

/// Writes down what arrives.
#[derive(Default)]
pub(super) struct Recorder {
    seen: Mutex<Seen>,
    changed: Notify,
}

impl Recorder {
    /// Forgets what came, and who was heard.
    pub(super) fn forget(&self) {
        *self.seen.lock() = Seen::default();
    }
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
pub(super) struct Node {
    pub(super) name: String,
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) recorder: Arc<Recorder>,
}

impl Node {
    pub(super) async fn start(harness: &dyn Harness, cluster: &str, name: &str) -> Self {
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

    pub(super) fn messages(&self) -> Vec<Message> {
        self.recorder.seen.lock().messages.clone()
    }

    pub(super) async fn wait_for(
        &self,
        harness: &dyn Harness,
        what: &str,
        is_met: impl Fn(&Seen) -> bool,
    ) {
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
pub(super) async fn nodes(harness: &dyn Harness, cluster: &str, names: &[&str]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(Node::start(harness, cluster, name).await);
    }
    connect(harness, &nodes.iter().collect::<Vec<_>>()).await;
    nodes
}

pub(super) async fn connect(harness: &dyn Harness, nodes: &[&Node]) {
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
                // A queue that an outage filled refuses for a while.
                let _ = node.adapter.broadcast(PROBE, Bytes::new());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    probing.await.expect("all nodes hear each other in time");
}
