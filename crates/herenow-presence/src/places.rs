//! [`Places`]: which topics of one shard a key is in. What `where_is` reads first.
//!
//! The driver sets the keys that a batch touched to what the new snapshots say of them, so the
//! index can be late by one publication but never wrong for long, and never about a presence that
//! somebody was told of. A key in one topic, which most are, is one pointer to its row there; one
//! in several has a set that readers share, so that neither side waits for the other longer than
//! one hash look-up. Cost: 16 bytes and a control byte for each key of a shard, at the load of a
//! hash table: 20 to 40 bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use herenow_core::{Key, Row, Topic};
use imbl::OrdSet;
use parking_lot::RwLock;

use crate::group::Snapshot;

/// Places up to which a table is not worth shrinking.
const SMALL_TABLE: usize = 64;
/// Tables that the keys are spread over: one that grows moves its keys, and writes wait for it.
const N_TABLES: usize = 32;

/// The topics of each key.
#[derive(Default)]
pub(crate) struct Places {
    places: RwLock<[HashTable<Place>; N_TABLES]>,
    hasher: foldhash::fast::RandomState,
}

/// Where one key is.
enum Place {
    /// In the topic of this row, which is one that is published there.
    One(Arc<Row>),
    Many(Box<Crowd>),
}

struct Crowd {
    key: Key,
    topics: OrdSet<Topic>,
}

impl Place {
    fn key(&self) -> &Key {
        match self {
            Self::One(row) => row.key(),
            Self::Many(crowd) => &crowd.key,
        }
    }

    fn topics(&self) -> OrdSet<Topic> {
        match self {
            Self::One(row) => OrdSet::unit(row.topic().clone()),
            Self::Many(crowd) => crowd.topics.clone(),
        }
    }

    /// Adds the topic of a row, or takes the row for one that it replaced.
    fn add(&mut self, row: &Arc<Row>) {
        match self {
            Self::One(old) if old.topic() == row.topic() => *old = row.clone(),
            Self::One(old) => {
                let topics = [old.topic().clone(), row.topic().clone()];
                *self = Self::Many(Box::new(Crowd {
                    key: row.key().clone(),
                    topics: topics.into_iter().collect(),
                }));
            }
            Self::Many(crowd) => {
                crowd.topics.insert(row.topic().clone());
            }
        }
    }

    /// Takes a topic out; tells whether none is left.
    fn remove(&mut self, topic: &Topic) -> bool {
        match self {
            Self::One(row) => row.topic() == topic,
            Self::Many(crowd) => {
                crowd.topics.remove(topic);
                crowd.topics.is_empty()
            }
        }
    }
}

impl Places {
    /// Sets keys to what the snapshots say of them.
    pub(crate) fn set<'a>(&self, touched: impl Iterator<Item = (&'a Key, &'a Arc<Snapshot>)>) {
        let look_up = |(key, after): (&'a Key, &'a Arc<Snapshot>)| {
            let row = after.entries().metas(key.as_str()).first();
            (key, after.topic(), row)
        };
        let found: Vec<_> = touched.map(look_up).collect();
        let mut replaced = Vec::new(); // Dropped after the lock is released.
        let mut places = self.places.write();
        for (key, topic, row) in found {
            let hash = self.hasher.hash_one(key);
            let table = &mut places[table_of(hash)];
            let entry = table.entry(
                hash,
                |place| place.key() == key,
                |place| self.hasher.hash_one(place.key()),
            );
            match (entry, row) {
                (Entry::Occupied(mut entry), Some(row)) => entry.get_mut().add(row),
                (Entry::Occupied(mut entry), None) => {
                    if entry.get_mut().remove(topic) {
                        replaced.push(entry.remove().0);
                    }
                }
                (Entry::Vacant(entry), Some(row)) => {
                    entry.insert(Place::One(row.clone()));
                }
                (Entry::Vacant(_), None) => {}
            }
            if table.capacity() > SMALL_TABLE && table.len() * 8 < table.capacity() {
                table.shrink_to_fit(|place| self.hasher.hash_one(place.key()));
            }
        }
        drop(places);
        drop(replaced);
    }

    /// Returns the topics of a key, none if it is nowhere.
    pub(crate) fn find(&self, key: &Key) -> OrdSet<Topic> {
        let hash = self.hasher.hash_one(key);
        let places = self.places.read();
        let place = places[table_of(hash)].find(hash, |place| place.key() == key);
        place.map_or_else(OrdSet::new, Place::topics)
    }
}

/// Returns which table a key of this hash is in, by bits that the tables themselves do not use.
fn table_of(hash: u64) -> usize {
    (hash >> 32) as usize % N_TABLES
}

/// Returns the first `max` topics of several sets, ascending, that begin with `prefix` and come
/// after `after`. Cost: a look-up in each set, and that of the answer.
pub(crate) fn first_of(
    sets: &[OrdSet<Topic>],
    prefix: &str,
    after: Option<&str>,
    max: usize,
) -> Vec<Topic> {
    let begin = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        Some(_) | None => Bound::Included(prefix),
    };
    let range = (begin, Bound::Unbounded);
    let mut rests: Vec<_> = sets.iter().map(|set| set.range::<_, str>(range)).collect();
    let fits = |topic: &&Topic| topic.as_str().starts_with(prefix);
    let mut heads = BinaryHeap::with_capacity(rests.len());
    for (at, rest) in rests.iter_mut().enumerate() {
        heads.extend(rest.next().filter(fits).map(|topic| Reverse((topic, at))));
    }
    let mut first = Vec::new();
    while first.len() < max
        && let Some(Reverse((topic, at))) = heads.pop()
    {
        first.push(topic.clone());
        heads.extend(
            rests[at]
                .next()
                .filter(fits)
                .map(|topic| Reverse((topic, at))),
        );
    }
    first
}
