//! [`Adapter`]: what carries bytes between nodes. Std types only, so that it can stay still.
//!
//! An adapter promises little on purpose: a message may be lost, doubled or reordered. What travels
//! over it either does not mind (application broadcasts are at most once) or notices by itself
//! (shard deltas carry ranges). It must, however, never block its caller and never hand a node its
//! own broadcasts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

/// What [`Adapter::close`] returns: done when all that was accepted has left.
pub type Closing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What carries bytes between the nodes of one cluster.
///
/// Implementations queue and return: `broadcast` and `send` are called from tasks and from inside
/// locks, and must neither block nor wait. A full queue is [`AdapterError::Full`].
pub trait Adapter: Send + Sync + 'static {
    /// Returns the name of this node: unique in the cluster, the same for the adapter's whole life.
    fn node_name(&self) -> &str;

    /// Begins to hand what arrives to `receiver`.
    ///
    /// Called once, by [`PubSub::new`](crate::PubSub::new), inside a tokio runtime. What arrives
    /// before is lost.
    fn start(&self, receiver: Arc<dyn Receiver>);

    /// Sends `bytes` to every other node of the cluster, never to this one.
    ///
    /// `subject` is any text of up to 2 KiB; an engine that routes by interest may use it.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] if the message was not accepted. `Ok` is no promise of delivery.
    fn broadcast(&self, subject: &str, bytes: Bytes) -> Result<(), AdapterError>;

    /// Sends `bytes` to the one node `node`. For a node that is not there, it is `Ok` and nothing.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    fn send(&self, node: &str, subject: &str, bytes: Bytes) -> Result<(), AdapterError>;

    /// Ends the adapter: sends what was accepted, then says good-bye to the peers. Idempotent.
    fn close(&self) -> Closing<'_>;
}

/// Where an [`Adapter`] hands what arrives.
///
/// The calls return soon and do not panic. Messages of one sender must come in the order sent as
/// far as the engine keeps it; several threads may call at once.
pub trait Receiver: Send + Sync {
    /// Takes in a message that node `from` sent on `subject`.
    ///
    /// Never this node's own; if it bears this node's name, another process has it as well.
    fn receive(&self, from: &str, subject: &str, bytes: Bytes);

    /// Takes in that node `peer` can be talked to. Optional; may be repeated.
    fn peer_seen(&self, peer: &str);

    /// Takes in that node `peer` is gone, as far as the engine can tell. Optional; may be repeated.
    fn peer_gone(&self, peer: &str);
}

/// Why an adapter did not accept a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The queue to the engine is full; the message is dropped.
    #[error("the outgoing queue of {max} messages is full")]
    Full {
        /// The queue's capacity in messages.
        max: usize,
    },
    /// The message is larger than the engine carries.
    #[error("message is {len} bytes, the limit is {max}")]
    TooLarge {
        /// The message's size in bytes.
        len: usize,
        /// The engine's limit in bytes.
        max: usize,
    },
    /// The adapter was closed.
    #[error("the adapter is closed")]
    Closed,
    /// The engine refused, in its own words.
    #[error("the engine refused the message: {reason}")]
    Engine {
        /// What the engine said.
        reason: String,
    },
}
