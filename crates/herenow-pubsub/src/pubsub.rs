//! [`PubSub`]: subscribe, attach, broadcast to all, to this node, to one node; and [`Link`], a pipe
//! between counterparts on every node.
//!
//! Two kinds of traffic share the adapter, told apart by the first byte of the subject: `t` and the
//! topic for application broadcasts, `l` and the name for links.

mod inlet;
mod wire;

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::RwLock;
use smol_str::SmolStr;
use tokio::task::yield_now;

use self::inlet::Inlet;
use crate::adapter::{Adapter, AdapterError, Receiver};
use crate::broadcast::{Broadcast, Once, Payload, Sink, SubscriberId};
use crate::histogram::{Histogram, HistogramCounts};
use crate::registry::{Attachment, Registry, deliver};
use crate::subscription::Subscription;

/// The longest topic in bytes that can be broadcast on.
pub const MAX_TOPIC_BYTES: usize = 1024;
/// The longest event name in bytes that can be broadcast.
pub const MAX_EVENT_BYTES: usize = 1024;
/// Broadcasts that a [`Subscription`] holds unless told otherwise.
const DEFAULT_MAX_QUEUED: usize = 1024;

/// One node's view of a publish and subscribe system. Cloning shares it.
#[derive(Clone)]
pub struct PubSub {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<Registry>,
    adapter: Option<Arc<dyn Adapter>>,
    node_name: Arc<str>,
    links: RwLock<HashMap<SmolStr, Arc<dyn Receiver>>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    n_received: AtomicU64,
    n_malformed: AtomicU64,
    n_unclaimed: AtomicU64,
    n_panicked: AtomicU64,
    n_refused: AtomicU64,
    dispatches: Histogram,
}

/// What a [`PubSub`] has counted since it began, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PubSubStats {
    /// Topics with at least one local subscriber, now.
    pub n_topics: usize,
    /// Messages that came from other nodes.
    pub n_received: u64,
    /// Messages from other nodes that could not be read and were dropped.
    pub n_malformed: u64,
    /// Messages for a link that this node has not opened, dropped.
    pub n_unclaimed: u64,
    /// Deliveries in which a sink panicked; it alone lost the broadcast.
    pub n_panicked: u64,
    /// Messages that the adapter did not accept.
    pub n_refused: u64,
}

impl PubSub {
    /// Returns a system of this node alone, whose name is `local`.
    pub fn local() -> Self {
        Self::build(None, Arc::from("local"))
    }

    /// Returns a system whose broadcasts `adapter` carries to other nodes, and starts the adapter.
    ///
    /// To be called inside a tokio runtime.
    pub fn new(adapter: Arc<dyn Adapter>) -> Self {
        let node_name = Arc::from(adapter.node_name());
        let pubsub = Self::build(Some(adapter.clone()), node_name);
        adapter.start(Arc::new(Inlet {
            inner: Arc::downgrade(&pubsub.inner),
        }));
        pubsub
    }

    fn build(adapter: Option<Arc<dyn Adapter>>, node_name: Arc<str>) -> Self {
        let inner = Inner {
            registry: Arc::new(Registry::new()),
            adapter,
            node_name,
            links: RwLock::default(),
            counters: Counters::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the name of this node, as [`direct_broadcast`](Self::direct_broadcast) takes it.
    pub fn node_name(&self) -> &str {
        &self.inner.node_name
    }

    /// Returns whether an adapter connects this node to others.
    pub fn is_clustered(&self) -> bool {
        self.inner.adapter.is_some()
    }

    /// Returns a shared copy of the topic's name: the registry's own if somebody listens to it.
    pub fn intern(&self, topic: &str) -> Arc<str> {
        self.inner.registry.intern(topic)
    }

    /// Subscribes to a topic with a mailbox of 1,024 broadcasts.
    pub fn subscribe(&self, topic: &str) -> Subscription {
        self.subscribe_bounded(topic, DEFAULT_MAX_QUEUED)
    }

    /// Subscribes to a topic with a mailbox of `max_queued` broadcasts (at least one).
    pub fn subscribe_bounded(&self, topic: &str, max_queued: usize) -> Subscription {
        Subscription::new(&self.inner.registry, topic, max_queued)
    }

    /// Attaches a sink to a topic, until the attachment is dropped.
    pub fn attach(&self, topic: &str, sink: Arc<dyn Sink>) -> Attachment {
        Attachment::new(&self.inner.registry, topic, sink)
    }

    /// As [`attach`](Self::attach), to a topic whose name is shared already: it is not copied.
    pub fn attach_shared(&self, topic: Arc<str>, sink: Arc<dyn Sink>) -> Attachment {
        Attachment::new(&self.inner.registry, topic, sink)
    }

    /// Returns how many subscriptions and attachments the topic has on this node.
    pub fn n_subscribers(&self, topic: &str) -> usize {
        self.inner.registry.n_subscribers(topic)
    }

    /// Delivers to every subscriber of the topic on every node; on this one before it returns.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`]; nobody gets the broadcast then, on this node neither.
    pub fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: Payload,
    ) -> Result<(), BroadcastError> {
        self.inner.send_to_all(topic, event, &payload)?;
        self.inner.dispatch(None, topic, event, payload);
        Ok(())
    }

    /// As [`broadcast`](Self::broadcast), but skips the subscriber `from`.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_from(
        &self,
        from: SubscriberId,
        topic: &str,
        event: &str,
        payload: Payload,
    ) -> Result<(), BroadcastError> {
        self.inner.send_to_all(topic, event, &payload)?;
        self.inner.dispatch(Some(from), topic, event, payload);
        Ok(())
    }

    /// Delivers to every subscriber of the topic on this node.
    pub fn local_broadcast(&self, topic: &str, event: &str, payload: Payload) {
        self.inner.dispatch(None, topic, event, payload);
    }

    /// Delivers to every subscriber of the topic on this node, `turn` of them at a time, and lets
    /// other tasks run in between: for topics of so many that to deliver to all of them would hold
    /// those tasks up.
    ///
    /// Who subscribes meanwhile gets it as well. A broadcast of another task may come before it to
    /// some and after it to others. Dropped before it is done, some do not get it.
    pub async fn local_broadcast_in_turns(
        &self,
        topic: &str,
        event: &str,
        payload: Payload,
        turn: NonZero<usize>,
    ) {
        let broadcast = Broadcast::new(self.intern(topic), event, payload);
        let inner = &self.inner;
        let (mut once, mut last) = (Once::default(), SubscriberId(0));
        while let Some((next, sinks)) = inner.registry.sinks_after(topic, last, turn.get()) {
            last = next;
            inner.observed(topic, event, || {
                deliver(sinks.iter(), &broadcast, &mut once)
            });
            once.end_turn();
            yield_now().await;
        }
    }

    /// Delivers to every subscriber of the topic on this node but `from`.
    pub fn local_broadcast_from(
        &self,
        from: SubscriberId,
        topic: &str,
        event: &str,
        payload: Payload,
    ) {
        self.inner.dispatch(Some(from), topic, event, payload);
    }

    /// Delivers to every subscriber of the topic on the one node `node`.
    ///
    /// The own node is served directly. A node that nobody knows is no error: the broadcast
    /// vanishes.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`] if the broadcast was not accepted.
    pub fn direct_broadcast(
        &self,
        node: &str,
        topic: &str,
        event: &str,
        payload: Payload,
    ) -> Result<(), BroadcastError> {
        check_names(topic, event)?;
        if node == self.node_name() {
            self.inner.dispatch(None, topic, event, payload);
            return Ok(());
        }
        let Some(adapter) = &self.inner.adapter else {
            return Ok(());
        };
        let bytes = wire::encode(event, &payload);
        self.inner
            .counted(adapter.send(node, &wire::topic_subject(topic), bytes))
    }

    /// Opens the pipe `name` to its counterparts on other nodes; `receiver` gets what they send.
    ///
    /// # Errors
    ///
    /// [`LinkError::Taken`] while another link of that name is open on this node.
    pub fn link(&self, name: &str, receiver: Arc<dyn Receiver>) -> Result<Link, LinkError> {
        let name = SmolStr::new(name);
        let mut links = self.inner.links.write();
        if links.contains_key(&name) {
            return Err(LinkError::Taken {
                name: name.to_string(),
            });
        }
        links.insert(name.clone(), receiver);
        let subject = wire::link_subject(&name);
        Ok(Link {
            inner: self.inner.clone(),
            name,
            subject,
        })
    }

    /// Returns what this node has counted.
    pub fn stats(&self) -> PubSubStats {
        let counters = &self.inner.counters;
        PubSubStats {
            n_topics: self.inner.registry.n_topics(),
            n_received: counters.n_received.load(Ordering::Relaxed),
            n_malformed: counters.n_malformed.load(Ordering::Relaxed),
            n_unclaimed: counters.n_unclaimed.load(Ordering::Relaxed),
            n_panicked: counters.n_panicked.load(Ordering::Relaxed),
            n_refused: counters.n_refused.load(Ordering::Relaxed),
        }
    }

    /// Returns how long local dispatches took, each to all subscribers of its topic.
    pub fn dispatches(&self) -> HistogramCounts {
        self.inner.counters.dispatches.read()
    }

    /// Ends the adapter, if there is one, after it has sent what it accepted. Local dispatch goes
    /// on.
    pub async fn close(&self) {
        if let Some(adapter) = &self.inner.adapter {
            adapter.close().await;
        }
    }
}

impl fmt::Debug for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSub")
            .field("node_name", &self.inner.node_name)
            .field("is_clustered", &self.is_clustered())
            .field("registry", &self.inner.registry)
            .finish_non_exhaustive()
    }
}

/// Why a broadcast was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The adapter did not accept it.
    #[error("the broadcast was not accepted")]
    Adapter(#[from] AdapterError),
    /// The topic is too long.
    #[error("topic is {len} bytes, the limit is {max}")]
    TopicTooLong {
        /// The topic's length in bytes.
        len: usize,
        /// [`MAX_TOPIC_BYTES`].
        max: usize,
    },
    /// The event name is too long.
    #[error("event is {len} bytes, the limit is {max}")]
    EventTooLong {
        /// The event's length in bytes.
        len: usize,
        /// [`MAX_EVENT_BYTES`].
        max: usize,
    },
}

/// Why a link was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The node has an open link of that name.
    #[error("link {name} is open already")]
    Taken {
        /// The name asked for.
        name: String,
    },
}

/// A pipe of bytes to the links of the same name on other nodes. Dropping it closes it.
///
/// Shard messages travel on one. Without an adapter there are no others, and sending does nothing.
pub struct Link {
    inner: Arc<Inner>,
    name: SmolStr,
    subject: String,
}

impl Link {
    /// Sends to the counterparts on all other nodes; queues and returns.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] if it was not accepted. `Ok` is no promise of delivery.
    pub fn broadcast(&self, bytes: Bytes) -> Result<(), AdapterError> {
        match &self.inner.adapter {
            Some(adapter) => self.inner.counted(adapter.broadcast(&self.subject, bytes)),
            None => Ok(()),
        }
    }

    /// Sends to the counterpart on one other node; queues and returns.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn send(&self, node: &str, bytes: Bytes) -> Result<(), AdapterError> {
        match &self.inner.adapter {
            Some(adapter) => self.inner.counted(adapter.send(node, &self.subject, bytes)),
            None => Ok(()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let receiver = self.inner.links.write().remove(&self.name);
        drop(receiver); // After the lock is released: it may own anything.
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn check_names(topic: &str, event: &str) -> Result<(), BroadcastError> {
    if topic.len() > MAX_TOPIC_BYTES {
        return Err(BroadcastError::TopicTooLong {
            len: topic.len(),
            max: MAX_TOPIC_BYTES,
        });
    }
    if event.len() > MAX_EVENT_BYTES {
        return Err(BroadcastError::EventTooLong {
            len: event.len(),
            max: MAX_EVENT_BYTES,
        });
    }
    Ok(())
}

impl Inner {
    fn send_to_all(
        &self,
        topic: &str,
        event: &str,
        payload: &Payload,
    ) -> Result<(), BroadcastError> {
        check_names(topic, event)?;
        let Some(adapter) = &self.adapter else {
            return Ok(());
        };
        let bytes = wire::encode(event, payload);
        self.counted(adapter.broadcast(&wire::topic_subject(topic), bytes))
    }

    fn dispatch(&self, except: Option<SubscriberId>, topic: &str, event: &str, payload: Payload) {
        self.observed(topic, event, || {
            self.registry.dispatch(topic, except, |topic| Broadcast {
                topic,
                event: SmolStr::new(event),
                payload,
            })
        });
    }

    /// Counts a delivery, which returns how many sinks panicked.
    fn observed(&self, topic: &str, event: &str, deliver: impl FnOnce() -> usize) {
        let began = Instant::now();
        let n_panicked = deliver();
        self.counters.dispatches.observe(began.elapsed());
        if n_panicked > 0 {
            let more = u64::try_from(n_panicked).unwrap_or(u64::MAX);
            self.counters.n_panicked.fetch_add(more, Ordering::Relaxed);
            tracing::error!(topic, event, n_panicked, "sinks panicked");
        }
    }

    fn counted<E: From<AdapterError>>(&self, sent: Result<(), AdapterError>) -> Result<(), E> {
        if let Err(error) = &sent {
            self.counters.n_refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, "adapter refused a message");
        }
        Ok(sent?)
    }
}
