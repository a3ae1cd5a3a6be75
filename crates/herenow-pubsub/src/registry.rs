//! Local subscribers by topic, and dispatch to them.
//!
//! Topics are spread over [`N_SHARDS`] locked tables by a randomly seeded hash. A table maps a
//! topic to a shared list of sinks. Dispatch takes the list out (one atomic increment) and walks it
//! without any lock, so a sink may subscribe, unsubscribe and broadcast. Subscribing changes the
//! list in place when nobody walks it and copies it otherwise.
//!
//! What must never happen: a lock held while a sink runs; a topic left in a table after its last
//! subscriber; an id given twice. A subscriber that leaves while a dispatch runs may still get
//! that broadcast, and one that comes may miss it.

use std::fmt;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::broadcast::{Broadcast, Once, Sink, SubscriberId};

/// Tables that topics are spread over.
const N_SHARDS: usize = 64;
/// A list shorter than this is compacted at every removal.
const SMALL_LIST: usize = 8;

/// The subscribers of one node.
pub(crate) struct Registry {
    shards: Box<[RwLock<HashTable<TopicEntry>>]>,
    hasher: foldhash::fast::RandomState,
    next_id: AtomicU64,
}

/// One topic and who listens to it.
struct TopicEntry {
    topic: Arc<str>,
    sinks: Arc<SinkList>,
}

/// A sink, or the hole it left.
type Slot = (SubscriberId, Option<Arc<dyn Sink>>);

/// The sinks of one topic, ascending by id. A removed one leaves a hole until the list is
/// compacted, so that a thousand leaving one by one cost no thousand moves of the whole list.
#[derive(Clone, Default)]
struct SinkList {
    slots: SmallVec<[Slot; 1]>,
    n_holes: usize,
}

impl SinkList {
    fn n_sinks(&self) -> usize {
        self.slots.len() - self.n_holes
    }

    fn remove(&mut self, id: SubscriberId) {
        let Ok(at) = self.slots.binary_search_by_key(&id, |(id, _)| *id) else {
            return;
        };
        if self.slots[at].1.take().is_some() {
            self.n_holes += 1;
        }
        if self.n_holes * 2 > self.slots.len() || self.slots.len() < SMALL_LIST {
            self.slots.retain(|(_, sink)| sink.is_some());
            self.n_holes = 0;
            self.slots.shrink_to_fit();
        }
    }
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..N_SHARDS)
                .map(|_| RwLock::new(HashTable::new()))
                .collect(),
            hasher: foldhash::fast::RandomState::default(),
            next_id: AtomicU64::new(1),
        }
    }

    /// Returns the registry's own copy of the topic's name if somebody listens to it.
    pub(crate) fn intern(&self, topic: &str) -> Arc<str> {
        let hash = self.hasher.hash_one(topic);
        let shard = self.shard(hash).read();
        match shard.find(hash, |entry| &*entry.topic == topic) {
            Some(entry) => entry.topic.clone(),
            None => Arc::from(topic),
        }
    }

    /// Adds a sink and returns the topic's shared name and the sink's id.
    pub(crate) fn attach(
        &self,
        name: impl AsRef<str> + Into<Arc<str>>,
        sink: Arc<dyn Sink>,
    ) -> (Arc<str>, SubscriberId) {
        let topic = name.as_ref();
        let hash = self.hasher.hash_one(topic);
        let mut shard = self.shard(hash).write();
        let hasher = |entry: &TopicEntry| self.hasher.hash_one(&*entry.topic);
        let slot = shard.entry(hash, |entry| &*entry.topic == topic, hasher);
        let mut entry = match slot {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(vacant) => vacant.insert(TopicEntry {
                topic: name.into(),
                sinks: Arc::default(),
            }),
        };
        // Taken under the lock, so that a list is always ascending.
        let id = SubscriberId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let entry = entry.get_mut();
        Arc::make_mut(&mut entry.sinks).slots.push((id, Some(sink)));
        (entry.topic.clone(), id)
    }

    /// Removes a sink; the topic goes with its last one.
    pub(crate) fn detach(&self, topic: &str, id: SubscriberId) {
        let hash = self.hasher.hash_one(topic);
        // The sink is dropped after the lock is released: its drop may come back here.
        let mut dropped = None;
        let mut shard = self.shard(hash).write();
        if let Ok(mut entry) = shard.find_entry(hash, |entry| &*entry.topic == topic) {
            let sinks = &mut entry.get_mut().sinks;
            let slots = &sinks.slots;
            if let Ok(at) = slots.binary_search_by_key(&id, |(id, _)| *id) {
                dropped = slots[at].1.clone();
                Arc::make_mut(sinks).remove(id);
            }
            if sinks.n_sinks() == 0 {
                entry.remove();
            }
        }
        if shard.capacity() > 64 && shard.len() * 8 < shard.capacity() {
            shard.shrink_to_fit(|entry| self.hasher.hash_one(&*entry.topic));
        }
        drop(shard);
        drop(dropped);
    }

    pub(crate) fn n_subscribers(&self, topic: &str) -> usize {
        let hash = self.hasher.hash_one(topic);
        let shard = self.shard(hash).read();
        shard
            .find(hash, |entry| &*entry.topic == topic)
            .map_or(0, |entry| entry.sinks.n_sinks())
    }

    pub(crate) fn n_topics(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Delivers to all sinks of the topic but `except`; returns how many of them panicked. `make`
    /// runs only if there is a sink.
    ///
    /// A sink that panics loses this broadcast and harms nobody else: neither the sinks after it
    /// nor the task that broadcasts.
    pub(crate) fn dispatch(
        &self,
        topic: &str,
        except: Option<SubscriberId>,
        make: impl FnOnce(Arc<str>) -> Broadcast,
    ) -> usize {
        let hash = self.hasher.hash_one(topic);
        let shard = self.shard(hash).read();
        let Some(entry) = shard.find(hash, |entry| &*entry.topic == topic) else {
            return 0;
        };
        let (name, sinks) = (entry.topic.clone(), entry.sinks.clone());
        drop(shard);
        let mut once = Once::default();
        let slots = sinks.slots.iter().filter(|(id, _)| Some(*id) != except);
        let sinks = slots.filter_map(|(_, sink)| sink.as_ref());
        deliver(sinks, &make(name), &mut once)
    }

    /// Returns the sinks of the topic that came after `last`, `max` at most, and the last of their
    /// ids.
    ///
    /// They are taken out one by one: a list that is held from one turn to the next would be copied
    /// by whoever comes or goes meanwhile.
    pub(crate) fn sinks_after(
        &self,
        topic: &str,
        last: SubscriberId,
        max: usize,
    ) -> Option<(SubscriberId, Vec<Arc<dyn Sink>>)> {
        let hash = self.hasher.hash_one(topic);
        let shard = self.shard(hash).read();
        let entry = shard.find(hash, |entry| &*entry.topic == topic)?;
        let slots = &entry.sinks.slots;
        let slots = &slots[slots.partition_point(|(id, _)| *id <= last)..];
        let slots = &slots[..max.min(slots.len())];
        let (last, _) = slots.last()?;
        let sinks = slots.iter().filter_map(|(_, sink)| sink.clone());
        Some((*last, sinks.collect()))
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<TopicEntry>> {
        // The tables use the low and the highest bits themselves.
        &self.shards[(hash >> 32) as usize % N_SHARDS]
    }
}

/// Delivers a broadcast to some sinks; returns how many of them panicked.
pub(crate) fn deliver<'a>(
    sinks: impl Iterator<Item = &'a Arc<dyn Sink>>,
    broadcast: &Broadcast,
    once: &mut Once,
) -> usize {
    let mut n_panicked = 0;
    for sink in sinks {
        let deliver = AssertUnwindSafe(|| sink.deliver(broadcast, once));
        if catch_unwind(deliver).is_err() {
            n_panicked += 1;
            // It may hold what the sink left half done.
            *once = Once::default();
        }
    }
    n_panicked
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("n_topics", &self.n_topics())
            .finish_non_exhaustive()
    }
}

/// A [`Sink`] attached to a topic; dropping it detaches. Made by [`PubSub::attach`].
///
/// [`PubSub::attach`]: crate::PubSub::attach
#[must_use = "dropping an attachment detaches the sink"]
pub struct Attachment {
    registry: Arc<Registry>,
    topic: Arc<str>,
    id: SubscriberId,
}

impl Attachment {
    pub(crate) fn new(
        registry: &Arc<Registry>,
        topic: impl AsRef<str> + Into<Arc<str>>,
        sink: Arc<dyn Sink>,
    ) -> Self {
        let (topic, id) = registry.attach(topic, sink);
        Self {
            registry: registry.clone(),
            topic,
            id,
        }
    }

    /// Returns what [`PubSub::broadcast_from`](crate::PubSub::broadcast_from) takes to skip it.
    pub fn id(&self) -> SubscriberId {
        self.id
    }

    /// Returns the topic, as the copy that all its subscribers share.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.registry.detach(&self.topic, self.id);
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("topic", &self.topic)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
