//! What the nodes tell each other of leases and evictions: JSON on a link of its own, which no
//! client reaches.

use bytes::Bytes;
use herenow_pubsub::Receiver;
use tokio::sync::mpsc;

use super::Name;

/// Messages that wait for the task at most; one more is dropped.
const MAX_HEARD: usize = 4_096;

/// When a lease came to its node: of two, the greater one stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) struct Stamp {
    pub(super) unix_nanos: u64,
    pub(super) node: String,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// The sender holds the lease from now on.
    Moved { name: Name, stamp: Stamp },
    /// Whoever holds the lease is to end it.
    End(Name),
    /// A user is to leave a topic, or all.
    Evict { key: String, topic: Option<String> },
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let json = serde_json::to_vec(self).expect("a message has texts for keys");
        json.into()
    }
}

/// Takes what other nodes send, and queues it for the task.
#[derive(Debug)]
pub(super) struct Heard(mpsc::Sender<Message>);

impl Heard {
    pub(super) fn new() -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(MAX_HEARD);
        (Self(sender), receiver)
    }
}

impl Receiver for Heard {
    fn receive(&self, from: &str, _subject: &str, bytes: Bytes) {
        let message = match serde_json::from_slice(&bytes) {
            Ok(message) => message,
            Err(error) => {
                // Not its text, which can repeat what was sent.
                let (line, column) = (error.line(), error.column());
                tracing::warn!(
                    peer = from,
                    line,
                    column,
                    "message about leases not understood"
                );
                return;
            }
        };
        if self.0.try_send(message).is_err() {
            tracing::warn!(peer = from, max = MAX_HEARD, "message about leases dropped");
        }
    }

    fn peer_seen(&self, _peer: &str) {}

    fn peer_gone(&self, _peer: &str) {}
}
