//! [`Mailroom`]: one adapter's outgoing queue, the way in, the state of its connection, counters.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adapter::{AdapterError, Receiver};

use super::frame;
use super::outbox::{Outbox, Outgoing};

/// What goes out and comes in on one adapter, whatever the broker.
pub struct Mailroom {
    node: Arc<str>,
    /// Tells this process from another one of the same name.
    process: u64,
    broker: String,
    outbox: Outbox,
    receiver: OnceLock<Arc<dyn Receiver>>,
    connection: Mutex<Connection>,
    counters: Counters,
    is_over: AtomicBool,
}

/// How the connection is, since when it is there or not, and what the last attempt came to.
#[derive(Debug)]
struct Connection {
    state: State,
    since: Instant,
    why: String,
}

/// Of the connection; only a change of it is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Up,
    Unreachable,
    Refused,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The broker is not there, or went away.
    Unreachable(String),
    /// The broker is there and does not let us in.
    Refused(String),
}

/// That there is no connection to the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disconnected {
    /// For how long.
    pub elapsed: Duration,
    /// What the last attempt came to; empty before the first has ended.
    pub why: String,
}

#[derive(Debug, Default)]
struct Counters {
    n_connects: AtomicU64,
    n_sent: AtomicU64,
    n_received: AtomicU64,
    n_refused: AtomicU64,
    n_lost: AtomicU64,
    n_malformed: AtomicU64,
}

/// How an adapter fares, counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Whether there is a connection to the broker now.
    pub is_connected: bool,
    /// Connections made after the first.
    pub n_reconnects: u64,
    /// Messages that wait to be handed to the broker.
    pub n_queued: usize,
    /// Messages handed to the broker.
    pub n_sent: u64,
    /// Messages of other nodes handed to the receiver.
    pub n_received: u64,
    /// Messages not accepted: the queue was full, the message too large, the adapter closed.
    pub n_refused: u64,
    /// Messages accepted or received, and then lost: under way when the connection broke, refused
    /// by the broker, left over at the end, or more than this node took in time.
    pub n_lost: u64,
    /// What arrived and was no frame of ours.
    pub n_malformed: u64,
}

impl Mailroom {
    /// Returns the mailroom of node `node`; `broker` is the address as it may be logged.
    pub fn new(
        node: &str,
        broker: String,
        max_messages: NonZeroUsize,
        max_bytes: NonZeroUsize,
    ) -> Self {
        Self {
            node: node.into(),
            // The seeds of the standard library's maps are random, which is all that is needed.
            process: RandomState::new().hash_one(node),
            broker,
            outbox: Outbox::new(max_messages, max_bytes),
            receiver: OnceLock::new(),
            connection: Mutex::new(Connection {
                state: State::Unknown,
                since: Instant::now(),
                why: String::new(),
            }),
            counters: Counters::default(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Returns the name of this node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the address of the broker as it may be logged.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Returns what waits to be handed to the broker.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Sets who gets what comes in; returns whether there was nobody before.
    pub fn open(&self, receiver: Arc<dyn Receiver>) -> bool {
        self.receiver.set(receiver).is_ok()
    }

    /// Queues a message to `to`, or to all; `max_frame_bytes` is what the broker carries. Never
    /// waits.
    ///
    /// # Errors
    ///
    /// As [`Outbox::push`] and [`frame::encode`], and [`AdapterError::TooLarge`] if the message
    /// with sender and subject is over `max_frame_bytes`. Each is counted.
    pub fn post(
        &self,
        to: Option<&str>,
        subject: &str,
        bytes: &[u8],
        max_frame_bytes: usize,
    ) -> Result<(), AdapterError> {
        let posted = self.try_post(to, subject, bytes, max_frame_bytes);
        if posted.is_err() {
            self.counters.n_refused.fetch_add(1, Ordering::Relaxed);
        }
        posted
    }

    fn try_post(
        &self,
        to: Option<&str>,
        subject: &str,
        bytes: &[u8],
        max: usize,
    ) -> Result<(), AdapterError> {
        if self.outbox.is_closed() {
            return Err(AdapterError::Closed);
        }
        let frame = frame::encode(&self.node, self.process, subject, bytes)?;
        if frame.len() > max {
            let len = frame.len();
            return Err(AdapterError::TooLarge { len, max });
        }
        self.outbox.push(Outgoing {
            to: to.map(Box::from),
            frame,
        })
    }

    /// Takes in what the broker brought: hands it to the receiver, drops this node's own.
    pub fn take_in(&self, frame: &Bytes) {
        let Some(frame) = frame::decode(frame) else {
            self.counters.n_malformed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(node = %self.node, frame_bytes = frame.len(), "malformed frame from the broker");
            return;
        };
        if frame.process == self.process {
            return; // This node's own.
        }
        if let Some(receiver) = self.receiver.get() {
            self.counters.n_received.fetch_add(1, Ordering::Relaxed);
            receiver.receive(frame.from, frame.subject, frame.bytes);
        }
    }

    /// Notes that so many messages were handed to the broker.
    pub fn note_sent(&self, n_messages: usize) {
        self.counters
            .n_sent
            .fetch_add(n_messages as u64, Ordering::Relaxed);
    }

    /// Notes that so many messages were lost.
    pub fn note_lost(&self, n_messages: usize) {
        self.counters
            .n_lost
            .fetch_add(n_messages as u64, Ordering::Relaxed);
    }

    /// Notes a new connection, and logs it if there was none.
    pub fn note_connected(&self) {
        self.counters.n_connects.fetch_add(1, Ordering::Relaxed);
        if self.connection.lock().become_(State::Up, "") != State::Up {
            tracing::info!(node = %self.node, broker = %self.broker, "connected to the broker");
        }
    }

    /// Notes that there is no connection, and logs it if that, or the kind of trouble, is new.
    pub fn note_trouble(&self, trouble: &Trouble) {
        let (state, error) = match trouble {
            Trouble::Unreachable(error) => (State::Unreachable, error),
            Trouble::Refused(error) => (State::Refused, error),
        };
        let before = self.connection.lock().become_(state, error);
        let (node, broker) = (&*self.node, &*self.broker);
        match (before, state) {
            (State::Up, State::Unreachable) => {
                tracing::warn!(node, broker, %error, "connection to the broker lost, trying again");
            }
            (before, state) if before == state => {
                tracing::debug!(node, broker, %error, "still no connection to the broker");
            }
            (_, State::Refused) => {
                tracing::error!(node, broker, %error, "the broker refuses the credentials, trying again");
            }
            (_, State::Unreachable | State::Unknown | State::Up) => {
                tracing::warn!(node, broker, %error, "no connection to the broker, trying again");
            }
        }
    }

    /// Returns for how long there is no connection, and why; `None` while there is one.
    pub fn disconnected(&self) -> Option<Disconnected> {
        let connection = self.connection.lock();
        (connection.state != State::Up).then(|| Disconnected {
            elapsed: connection.since.elapsed(),
            why: connection.why.clone(),
        })
    }

    /// Returns whether there was ever a connection.
    pub fn has_connected(&self) -> bool {
        self.counters.n_connects.load(Ordering::Relaxed) > 0
    }

    /// Returns whether [`end`](Self::end) was called.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Ends the work: drops, counts and logs what still waits. Idempotent.
    pub fn end(&self) {
        self.outbox.close();
        self.is_over.store(true, Ordering::Relaxed);
        self.connection.lock().become_(State::Unknown, "closed");
        let n_lost = self.outbox.clear();
        self.note_lost(n_lost);
        if n_lost > 0 {
            tracing::warn!(node = %self.node, broker = %self.broker, n_lost, "closed before all was sent");
        }
    }

    /// Returns the counters.
    pub fn stats(&self) -> BrokerStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BrokerStats {
            is_connected: self.connection.lock().state == State::Up,
            n_reconnects: count(&self.counters.n_connects).saturating_sub(1),
            n_queued: self.outbox.n_messages(),
            n_sent: count(&self.counters.n_sent),
            n_received: count(&self.counters.n_received),
            n_refused: count(&self.counters.n_refused),
            n_lost: count(&self.counters.n_lost),
            n_malformed: count(&self.counters.n_malformed),
        }
    }
}

impl Connection {
    /// Takes in how it is now, and returns how it was.
    fn become_(&mut self, state: State, why: &str) -> State {
        if (self.state == State::Up) != (state == State::Up) {
            self.since = Instant::now();
        }
        why.clone_into(&mut self.why);
        std::mem::replace(&mut self.state, state)
    }
}

impl fmt::Debug for Mailroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailroom")
            .field("node", &self.node)
            .field("broker", &self.broker)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn srv_1820_a_connection_is_missed_from_the_start_or_from_its_end_with_the_last_reason() {
        const N: NonZeroUsize = NonZeroUsize::MIN;
        let mailroom = Mailroom::new("a", "nats://broker".to_owned(), N, N);
        let away = |seconds, why: &str| {
            Some(Disconnected {
                elapsed: Duration::from_secs(seconds),
                why: why.to_owned(),
            })
        };
        tokio::time::advance(Duration::from_secs(900)).await;
        assert_eq!(mailroom.disconnected(), away(900, ""));
        mailroom.note_trouble(&Trouble::Unreachable("connection refused".to_owned()));
        assert_eq!(mailroom.disconnected(), away(900, "connection refused"));
        mailroom.note_connected();
        assert_eq!(mailroom.disconnected(), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        mailroom.note_trouble(&Trouble::Unreachable("the connection ended".to_owned()));
        tokio::time::advance(Duration::from_secs(5)).await;
        mailroom.note_trouble(&Trouble::Refused("wrong password".to_owned()));
        assert_eq!(mailroom.disconnected(), away(5, "wrong password"));
    }
}
