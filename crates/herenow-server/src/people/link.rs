//! What the nodes tell each other of leases and of what is to end: JSON on a link of its own, which
//! no client reaches.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use herenow_pubsub::{LogLimit, Receiver};
use tokio::sync::mpsc;

use super::{Name, Stats};
use crate::links;

/// Arrivals that wait for the task at most; one more is dropped.
const MAX_HEARD: usize = 4_096;
/// Claims or orders in one message at most.
pub(super) const MAX_BATCH: usize = 256;

/// When a lease came to its node: of two, the greater one stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) struct Stamp {
    pub(super) unix_nanos: u64,
    pub(super) node: String,
}

/// The sender holds a lease.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Claim {
    pub(super) name: Name,
    pub(super) stamp: Stamp,
    /// The presence that it holds: others have the same key.
    pub(super) phx_ref: String,
}

/// Something is to end, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// A lease.
    Lease(Name),
    /// Whatever a user has in a topic, or at all.
    User { key: String, topic: Option<String> },
}

/// An [`End`] and which one it is, so that no node carries it out twice.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Order {
    /// Of those that the sender gave in this life, from 1.
    pub(super) number: u64,
    /// How long ago it was given. No wall clock: those of two nodes differ.
    pub(super) age_ms: u64,
    pub(super) end: End,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    Held(Vec<Claim>),
    /// `life` is which life of the sender gave the orders.
    Orders {
        life: String,
        orders: Vec<Order>,
    },
}

/// What comes over the link.
#[derive(Debug)]
pub(super) enum Arrival {
    Message {
        from: String,
        message: Message,
    },
    /// A node can be talked to, for the first time or again.
    Seen(String),
}

/// Takes what other nodes send, and queues it for the task.
#[derive(Debug)]
pub(super) struct Heard {
    inbox: mpsc::Sender<Arrival>,
    stats: Arc<Stats>,
    log: LogLimit,
}

impl Heard {
    pub(super) fn new(stats: Arc<Stats>) -> (Self, mpsc::Receiver<Arrival>) {
        let (inbox, arrivals) = mpsc::channel(MAX_HEARD);
        let log = LogLimit::default();
        (Self { inbox, stats, log }, arrivals)
    }

    fn queue(&self, peer: &str, arrival: Arrival) {
        if self.inbox.try_send(arrival).is_err() {
            self.stats.n_dropped.fetch_add(1, Ordering::Relaxed);
            if let Some(n_left_out) = self.log.may_log() {
                tracing::warn!(
                    peer,
                    max = MAX_HEARD,
                    n_left_out,
                    "message about leases dropped"
                );
            }
        }
    }
}

impl Receiver for Heard {
    fn receive(&self, from: &str, _subject: &str, bytes: Bytes) {
        if let Some(message) = links::decode(from, &bytes, "message about leases") {
            let peer = from.to_owned();
            self.queue(
                from,
                Arrival::Message {
                    from: peer,
                    message,
                },
            );
        }
    }

    fn peer_seen(&self, peer: &str) {
        self.queue(peer, Arrival::Seen(peer.to_owned()));
    }

    fn peer_gone(&self, _peer: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1685_what_other_nodes_say_of_leases_beyond_the_queue_is_dropped_and_counted() {
        let stats = Arc::<Stats>::default();
        let (heard, mut messages) = Heard::new(stats.clone());
        let message = Message::Held(Vec::new());
        for _ in 0..MAX_HEARD {
            heard.receive("b", "people", links::encode(&message));
        }
        let n_dropped = || stats.n_dropped.load(Ordering::Relaxed);
        assert_eq!(n_dropped(), 0);
        for _ in 0..3 {
            heard.receive("b", "people", links::encode(&message));
        }
        assert_eq!(n_dropped(), 3);
        assert!(messages.try_recv().is_ok());
        heard.receive("b", "people", links::encode(&message));
        assert_eq!((messages.len(), n_dropped()), (MAX_HEARD, 3));
    }
}
