//! [`Cache`]: fields by key, bounded in entries and bytes, those used longest ago out first.
//!
//! Forgetting is a matter of numbers: each look-up remembers how much had been forgotten when it
//! began, and what it found counts only for a key and a topic of which nothing was forgotten since.
//! So forgetting costs the same however much is cached, and a look-up that is under way cannot
//! bring back what was forgotten meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use herenow_presence::{Key, Topic};
use lru::LruCache;
use tokio::time::Instant;

use super::Rendered;
use super::link::Scope;

/// What an entry costs beside its texts.
const ENTRY_BYTES: usize = 160;
/// Keys and topics that were forgotten one by one; beyond it, all is.
const MAX_FORGOTTEN: usize = 10_000;

/// What a source said of a key.
#[derive(Debug)]
struct Entry {
    /// `None`: there are no fields for it.
    fields: Option<Rendered>,
    since: Instant,
    epoch: u64,
}

/// Whose fields they are; with the topic where fields depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) topic: Option<Topic>,
    pub(super) key: Key,
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Known {
    /// It was asked for not long ago.
    Fresh(Option<Rendered>),
    /// It should be asked for again; this is what to show if that fails.
    Stale(Option<Rendered>),
    Nothing,
}

#[derive(Debug)]
pub(super) struct Cache {
    entries: LruCache<Name, Entry>,
    n_bytes: usize,
    limits: Limits,
    forgotten: Forgotten,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_entries: usize,
    pub(super) max_bytes: usize,
    pub(super) ttl: Duration,
    pub(super) max_stale: Duration,
}

/// Since when what was looked up counts.
#[derive(Debug, Default)]
struct Forgotten {
    now: u64,
    all: u64,
    topics: HashMap<String, u64>,
    keys: HashMap<String, u64>,
}

impl Cache {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            entries: LruCache::unbounded(),
            n_bytes: 0,
            limits,
            forgotten: Forgotten::default(),
        }
    }

    /// Entries and bytes that are kept now.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.n_bytes)
    }

    /// How much was forgotten so far.
    pub(super) fn epoch(&self) -> u64 {
        self.forgotten.now
    }

    /// The epoch that a look-up of a key for `topic` must at least be of to count.
    pub(super) fn since(&self, topic: &Topic, key: &Key) -> u64 {
        self.forgotten.of(topic, key)
    }

    /// Returns what is known for `topic`. What was put at `as_of` or later is fresh in any case.
    pub(super) fn get(&mut self, topic: &Topic, name: &Name, as_of: Instant) -> Known {
        let Some(entry) = self.entries.get(name) else {
            return Known::Nothing;
        };
        let age = entry.since.elapsed();
        let is_forgotten = entry.epoch < self.forgotten.of(topic, &name.key);
        if is_forgotten || age > self.limits.ttl + self.limits.max_stale {
            self.remove(name);
            return Known::Nothing;
        }
        match age < self.limits.ttl || entry.since >= as_of {
            true => Known::Fresh(entry.fields.clone()),
            false => Known::Stale(entry.fields.clone()),
        }
    }

    /// Puts what a look-up for `topic` found that began at `epoch`; tells whether it counts.
    pub(super) fn put(
        &mut self,
        topic: &Topic,
        name: Name,
        fields: Option<Rendered>,
        epoch: u64,
    ) -> bool {
        if epoch < self.forgotten.of(topic, &name.key) {
            return false;
        }
        if self
            .entries
            .peek(&name)
            .is_some_and(|known| known.epoch > epoch)
        {
            return true; // What a later look-up found for another topic is as good for this one.
        }
        self.n_bytes += cost(&name, fields.as_ref());
        let entry = Entry {
            fields,
            since: Instant::now(),
            epoch,
        };
        if let Some((name, replaced)) = self.entries.push(name, entry) {
            self.n_bytes -= cost(&name, replaced.fields.as_ref());
        }
        while self.entries.len() > self.limits.max_entries || self.n_bytes > self.limits.max_bytes {
            let Some((name, entry)) = self.entries.pop_lru() else {
                break;
            };
            self.n_bytes -= cost(&name, entry.fields.as_ref());
        }
        true
    }

    pub(super) fn forget(&mut self, scope: &Scope) {
        self.forgotten.add(scope);
        if self.forgotten.all == self.forgotten.now {
            self.entries.clear();
            self.n_bytes = 0;
        }
    }

    fn remove(&mut self, name: &Name) {
        if let Some(entry) = self.entries.pop(name) {
            self.n_bytes -= cost(name, entry.fields.as_ref());
        }
    }
}

impl Forgotten {
    /// The epoch of which a look-up must at least be.
    fn of(&self, topic: &Topic, key: &Key) -> u64 {
        let topic = self.topics.get(topic.as_str()).copied().unwrap_or_default();
        let key = self.keys.get(key.as_str()).copied().unwrap_or_default();
        self.all.max(topic).max(key)
    }

    fn add(&mut self, scope: &Scope) {
        self.now += 1;
        let is_full = self.topics.len() + self.keys.len() >= MAX_FORGOTTEN;
        match scope {
            Scope::Topic(topic) if !is_full => {
                self.topics.insert(topic.clone(), self.now);
            }
            Scope::Key(key) if !is_full => {
                self.keys.insert(key.clone(), self.now);
            }
            Scope::Topic(_) | Scope::Key(_) | Scope::All => {
                self.all = self.now;
                self.topics.clear();
                self.keys.clear();
            }
        }
    }
}

fn cost(name: &Name, fields: Option<&Rendered>) -> usize {
    let topic = name.topic.as_ref().map_or(0, |topic| topic.as_str().len());
    let fields = fields.map_or(0, |fields| fields.0.get().len());
    ENTRY_BYTES + topic + name.key.as_str().len() + fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::rendered;

    fn cache(max_entries: usize, max_bytes: usize) -> Cache {
        Cache::new(Limits {
            max_entries,
            max_bytes,
            ttl: Duration::from_secs(10),
            max_stale: Duration::from_secs(100),
        })
    }

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    fn name(key: &str) -> Name {
        let (topic, key) = (None, Key::new(key).unwrap());
        Name { topic, key }
    }

    fn put(cache: &mut Cache, key: &str, epoch: u64) -> bool {
        let fields = rendered(format!(r#"{{"name":"{key}"}}"#), 100);
        cache.put(&topic("room"), name(key), fields, epoch)
    }

    fn look(cache: &mut Cache, key: &str, room: &str) -> &'static str {
        let later = Instant::now() + Duration::from_secs(3_600);
        match cache.get(&topic(room), &name(key), later) {
            Known::Fresh(_) => "fresh",
            Known::Stale(_) => "stale",
            Known::Nothing => "nothing",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn srv_723_fields_are_fresh_for_their_time_stale_for_another_and_then_gone() {
        let mut cache = cache(10, 10_000);
        assert!(put(&mut cache, "ada", 0));
        assert_eq!(look(&mut cache, "ada", "room"), "fresh");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(look(&mut cache, "ada", "room"), "stale");
        tokio::time::advance(Duration::from_secs(101)).await;
        assert_eq!(look(&mut cache, "ada", "room"), "nothing");
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn srv_724_the_cache_is_bounded_in_entries_and_in_bytes_the_least_used_out_first() {
        let mut cache = cache(3, 10_000);
        for key in ["a", "b", "c"] {
            put(&mut cache, key, 0);
        }
        assert_eq!(look(&mut cache, "a", "room"), "fresh");
        put(&mut cache, "d", 0);
        assert_eq!(look(&mut cache, "b", "room"), "nothing");
        assert_eq!(look(&mut cache, "a", "room"), "fresh");
        let one = cache.size().1 / 3;
        let mut cache = self::cache(1_000, 2 * one);
        for n in 0..100 {
            put(&mut cache, &n.to_string(), 0);
            assert!(cache.size().1 <= 2 * one);
        }
        assert!(cache.size().0 <= 2);
        put(&mut cache, "99", 0);
        let before = cache.size();
        put(&mut cache, "99", 0);
        assert_eq!(cache.size(), before, "one is put over itself");
    }

    #[test]
    fn srv_725_what_was_forgotten_is_not_brought_back_by_a_look_up_that_had_begun() {
        let mut cache = cache(10, 10_000);
        let before = cache.epoch();
        put(&mut cache, "ada", before);
        put(&mut cache, "bob", before);
        cache.forget(&Scope::Key("ada".to_owned()));
        assert_eq!(look(&mut cache, "ada", "room"), "nothing");
        assert_eq!(look(&mut cache, "bob", "room"), "fresh");
        assert!(!put(&mut cache, "ada", before), "it began before");
        assert!(put(&mut cache, "bob", before), "nobody forgot bob");
        let epoch = cache.epoch();
        assert!(put(&mut cache, "ada", epoch));
        cache.forget(&Scope::Topic("room".to_owned()));
        assert_eq!(look(&mut cache, "ada", "elsewhere"), "fresh");
        assert_eq!(look(&mut cache, "ada", "room"), "nothing");
        assert!(!put(&mut cache, "ada", epoch));
        let epoch = cache.epoch();
        assert!(put(&mut cache, "ada", epoch));
        cache.forget(&Scope::All);
        assert_eq!(cache.size(), (0, 0));
        assert!(!put(&mut cache, "ada", epoch));
    }

    #[test]
    fn srv_726_forgetting_many_one_by_one_ends_in_forgetting_all() {
        let mut cache = cache(10, 10_000);
        put(&mut cache, "ada", 0);
        for n in 0..=MAX_FORGOTTEN {
            cache.forget(&Scope::Key(n.to_string()));
        }
        assert_eq!(cache.size(), (0, 0));
        let forgotten = &cache.forgotten;
        assert!(forgotten.keys.len() + forgotten.topics.len() <= MAX_FORGOTTEN);
    }
}
