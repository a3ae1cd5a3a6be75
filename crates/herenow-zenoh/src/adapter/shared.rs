//! [`Shared`]: what the adapter, its two threads and zenoh's callbacks have in common.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use herenow_pubsub::Receiver;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::links::Links;
use super::names::Names;
use super::peers::Peers;
use super::queue::Queue;
use crate::config::ZenohConfig;

/// What the thread that owns the session is asked to do.
pub(super) enum Command {
    /// Begin to receive, and be seen.
    Start(Arc<dyn Receiver>),
    /// Publish to all nodes.
    Broadcast { head: Vec<u8>, bytes: Bytes },
    /// Publish to one node.
    Send {
        node: Box<str>,
        head: Vec<u8>,
        bytes: Bytes,
    },
}

/// What waits for the receiver.
pub(super) enum Arrival {
    Frame(Bytes),
    PeerSeen(String),
    PeerGone(String),
}

pub(super) struct Shared {
    pub(super) node: String,
    pub(super) names: Names,
    pub(super) outgoing: Queue<Command>,
    pub(super) incoming: Queue<Arrival>,
    pub(super) peers: Mutex<Peers>,
    pub(super) links: Mutex<Links>,
    pub(super) counters: Counters,
    /// The runtime that the adapter was started in.
    pub(super) runtime: OnceLock<Handle>,
    /// True once the session is closed.
    pub(super) is_over: watch::Sender<bool>,
}

/// What [`ZenohStats`](super::ZenohStats) is made of.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) n_sent: AtomicU64,
    pub(super) n_failed: AtomicU64,
    pub(super) n_refused: AtomicU64,
    pub(super) n_received: AtomicU64,
    pub(super) n_overrun: AtomicU64,
    pub(super) n_malformed: AtomicU64,
}

impl Shared {
    pub(super) fn new(config: &ZenohConfig) -> Self {
        let max_bytes = config.max_queued_bytes.get();
        Self {
            node: config.node.clone(),
            names: Names::new(&config.cluster),
            outgoing: Queue::new(config.max_queued.get(), max_bytes),
            incoming: Queue::new(config.max_received.get(), max_bytes),
            peers: Mutex::default(),
            links: Mutex::default(),
            counters: Counters::default(),
            runtime: OnceLock::new(),
            is_over: watch::Sender::new(false),
        }
    }

    pub(super) fn count_published(&self, published: Result<(), zenoh::Error>) {
        match published {
            Ok(()) => self.counters.n_sent.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, "the engine did not take a message");
                self.counters.n_failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}
