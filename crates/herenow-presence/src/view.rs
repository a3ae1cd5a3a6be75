//! [`Views`]: what one shard last published, by topic. The only thing that reads look at.
//!
//! The driver prepares the snapshots of a batch outside the lock and swaps them in under it, all
//! with the same version. A reader takes the lock for the time of one hash look-up and one
//! increment; neither ever waits for the other's work. A topic nobody is in has no snapshot; a
//! reader then gets an empty one of the version published last, read under the same lock, so that
//! even of an empty topic the diffs to come are exactly those after its version.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use herenow_core::Topic;
use imbl::OrdSet;
use parking_lot::RwLock;

use crate::group::{Entries, Snapshot};

/// The published snapshots of one shard.
#[derive(Default)]
pub(crate) struct Views {
    published: RwLock<Published>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Default)]
struct Published {
    version: u64,
    topics: HashTable<Arc<Snapshot>>,
    /// The same topics in ascending order, shared with readers.
    names: OrdSet<Topic>,
    n_metas: u64,
}

/// A topic by its number of presences: the largest is the least, and of several the first by name.
type Ranked = Reverse<(usize, Reverse<Topic>)>;

/// Returns the `max` topics of several shards with the most presences, the largest first.
pub(crate) fn largest_of<'a>(
    shards: impl Iterator<Item = &'a Arc<Views>>,
    max: usize,
) -> Vec<(Topic, usize)> {
    let mut largest = BinaryHeap::new();
    shards.for_each(|views| views.add_largest(max, &mut largest));
    let largest = largest.into_sorted_vec().into_iter();
    largest
        .map(|Reverse((n_metas, Reverse(topic)))| (topic, n_metas))
        .collect()
}

impl Views {
    /// Returns the topic's snapshot, an empty one if nobody is there.
    pub(crate) fn read(&self, topic: &Topic) -> Arc<Snapshot> {
        let hash = self.hasher.hash_one(topic.as_str());
        let published = self.published.read();
        let found = published
            .topics
            .find(hash, |snapshot| snapshot.topic() == topic);
        if let Some(snapshot) = found {
            return snapshot.clone();
        }
        let version = published.version;
        drop(published);
        Arc::new(Snapshot::new(topic.clone(), version, Entries::empty()))
    }

    /// Returns the topic's snapshot if somebody is there.
    pub(crate) fn find(&self, topic: &str) -> Option<Arc<Snapshot>> {
        let hash = self.hasher.hash_one(topic);
        let published = self.published.read();
        published
            .topics
            .find(hash, |snapshot| snapshot.topic().as_str() == topic)
            .cloned()
    }

    /// Calls `look` with the topic's entries if somebody is there.
    pub(crate) fn peek<T>(&self, topic: &str, look: impl FnOnce(&Entries) -> T) -> Option<T> {
        let hash = self.hasher.hash_one(topic);
        let published = self.published.read();
        let found = published
            .topics
            .find(hash, |snapshot| snapshot.topic().as_str() == topic);
        found.map(|snapshot| look(snapshot.entries()))
    }

    /// Publishes the new snapshots of some topics; an empty one removes its topic.
    pub(crate) fn publish(&self, version: u64, snapshots: impl Iterator<Item = Arc<Snapshot>>) {
        let mut replaced = Vec::new(); // Dropped after the lock is released: it can be large.
        let mut published = self.published.write();
        published.version = version;
        for snapshot in snapshots {
            let before = published.put(&self.hasher, snapshot);
            replaced.extend(before);
        }
        if published.topics.capacity() > 64
            && published.topics.len() * 8 < published.topics.capacity()
        {
            let hasher = |s: &Arc<Snapshot>| self.hasher.hash_one(s.topic().as_str());
            published.topics.shrink_to_fit(hasher);
        }
        drop(published);
        drop(replaced);
    }

    /// Returns all topics somebody is in, with their number of presences; in no order.
    pub(crate) fn topics(&self) -> Vec<(Topic, usize)> {
        let published = self.published.read();
        let topics = published.topics.iter();
        topics
            .map(|s| (s.topic().clone(), s.entries().n_metas()))
            .collect()
    }

    /// Puts the largest topics into `largest`, which keeps at most `max`: the smallest on top.
    fn add_largest(&self, max: usize, largest: &mut BinaryHeap<Ranked>) {
        let published = self.published.read();
        for snapshot in &published.topics {
            let (n_metas, topic) = (snapshot.entries().n_metas(), snapshot.topic());
            let ranked = || Reverse((n_metas, Reverse(topic.clone())));
            if largest.len() < max {
                largest.push(ranked());
            } else if let Some(mut least) = largest.peek_mut()
                && n_metas > least.0.0
            {
                *least = ranked();
            }
        }
    }

    /// Returns the names of all topics somebody is in, as they are now. O(1).
    pub(crate) fn names(&self) -> OrdSet<Topic> {
        self.published.read().names.clone()
    }

    /// Returns the number of topics and of presences.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let published = self.published.read();
        (published.topics.len() as u64, published.n_metas)
    }
}

impl Published {
    fn put(
        &mut self,
        hasher: &foldhash::fast::RandomState,
        snapshot: Arc<Snapshot>,
    ) -> Option<Arc<Snapshot>> {
        let hash = hasher.hash_one(snapshot.topic().as_str());
        let n_metas = snapshot.entries().n_metas() as u64;
        let entry = self.topics.entry(
            hash,
            |other| other.topic() == snapshot.topic(),
            |other| hasher.hash_one(other.topic().as_str()),
        );
        let before = match entry {
            Entry::Occupied(mut entry) if n_metas > 0 => {
                Some(std::mem::replace(entry.get_mut(), snapshot))
            }
            Entry::Occupied(entry) => {
                self.names.remove(snapshot.topic());
                Some(entry.remove().0)
            }
            Entry::Vacant(entry) if n_metas > 0 => {
                self.names.insert(snapshot.topic().clone());
                entry.insert(snapshot);
                None
            }
            Entry::Vacant(_) => None,
        };
        self.n_metas += n_metas;
        self.n_metas -= before
            .as_ref()
            .map_or(0, |before| before.entries().n_metas() as u64);
        before
    }
}
