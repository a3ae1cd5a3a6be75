//! What the gatherers of the nodes say to each other: JSON on a link of their own, which no client
//! reaches.

use bytes::Bytes;
use herenow_pubsub::Receiver;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::figures::Figures;
use crate::links;

/// Messages that wait for the gatherer at most; one more is dropped, and asked for again a second
/// later.
const MAX_HEARD: usize = 1_024;
/// The largest message that is looked at.
const MAX_BYTES: usize = 128 << 10;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// A dashboard is open at the sender, which wants to know how the node does.
    Look,
    /// How the sender does.
    Figures(Box<Figures>),
}

/// Takes what other nodes send, with the sender's name, and queues it for the gatherer.
#[derive(Debug)]
pub(super) struct Heard(mpsc::Sender<(String, Message)>);

impl Heard {
    pub(super) fn new() -> (Self, mpsc::Receiver<(String, Message)>) {
        let (sender, receiver) = mpsc::channel(MAX_HEARD);
        (Self(sender), receiver)
    }
}

impl Receiver for Heard {
    fn receive(&self, from: &str, _subject: &str, bytes: Bytes) {
        let frame_bytes = bytes.len();
        if frame_bytes > MAX_BYTES {
            tracing::warn!(
                peer = from,
                frame_bytes,
                max = MAX_BYTES,
                "figures too large"
            );
            return;
        }
        if let Some(message) = links::decode(from, &bytes, "figures") {
            let dropped = self.0.try_send((from.to_owned(), message)).is_err();
            if dropped {
                tracing::debug!(peer = from, max = MAX_HEARD, "figures dropped");
            }
        }
    }

    fn peer_seen(&self, _peer: &str) {}

    fn peer_gone(&self, _peer: &str) {}
}
