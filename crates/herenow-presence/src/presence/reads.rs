//! Reads: who is in a topic, where a key is, how many there are.
//!
//! All of them look at the views that the shards published last, so none waits for a writer. What
//! `fetch` adds is looked up by the reader that needs it first and kept with the snapshot, which
//! owns it, for those who come after.

use herenow_core::{Key, Topic};
use tokio::time::Instant;

use super::Presence;
use crate::fetch::{Fetched, Fetcher};
use crate::group::{Enriched, Entry, Presences};
use crate::modes::ModeNews;

/// Some of those who are present in a topic. Made by [`Presence::page`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Page {
    /// The entries, ascending by key.
    pub entries: Vec<Entry>,
    /// Whether others come after them.
    pub has_more: bool,
    /// How many presences the topic has in all.
    pub n_metas: usize,
    /// How many keys are present in it in all.
    pub n_keys: usize,
}

impl Presence {
    /// Returns who is present in a topic, with the fields that `fetch` adds.
    ///
    /// Empty for a topic nobody is in. Without `fetch` it does not wait; with it, all who list the
    /// topic between two changes share one look-up for a while.
    pub async fn list(&self, topic: &str) -> Presences {
        let snapshot = self.inner.tracker.snapshot(topic);
        let Some(fetcher) = &self.inner.shared.fetcher else {
            return Presences::new(snapshot, None);
        };
        if snapshot.entries().n_metas() == 0 {
            return Presences::new(snapshot, None);
        }
        let look_up = async || {
            let epoch = fetcher.epoch();
            let mut keys = Vec::new();
            snapshot
                .entries()
                .for_each_key(|rows| keys.push(rows[0].key().clone()));
            let fetched = self.fetched(fetcher, snapshot.topic(), keys).await;
            // What is incomplete is looked up again soon.
            let config = self.config();
            let max_age = match fetched.is_incomplete {
                true => config.fetch_deadline.min(config.fetch_max_age),
                false => config.fetch_max_age,
            };
            Enriched::new(fetched.fields, Instant::now() + max_age, epoch)
        };
        let enriched = snapshot.enriched(fetcher.epoch(), look_up).await;
        Presences::new(snapshot, Some(enriched))
    }

    /// Returns one key's entry of a topic, with the fields that `fetch` adds; `None` if it is not
    /// present. Cost: that of its metas, and one look-up of the key.
    pub async fn get_by_key(&self, topic: &str, key: &str) -> Option<Entry> {
        let snapshot = self.inner.tracker.snapshot(topic);
        let rows = snapshot.entries().metas(key);
        let first = rows.first()?;
        let fields = match &self.inner.shared.fetcher {
            Some(fetcher) => {
                let keys = vec![first.key().clone()];
                Some(self.fetched(fetcher, snapshot.topic(), keys).await.fields)
            }
            None => None,
        };
        Entry::new(rows, fields.as_ref())
    }

    /// Returns one key's entry of a topic as it was tracked, without what `fetch` adds; `None` if
    /// it is not present. Cost: that of its metas.
    pub fn entry(&self, topic: &str, key: &str) -> Option<Entry> {
        let views = self.inner.tracker.views(topic);
        let entry = views.peek(topic, |entries| Entry::new(entries.metas(key), None));
        entry.flatten()
    }

    /// Returns who is present in a topic, a page of at most `max` keys that come after `after`,
    /// with the fields that `fetch` adds to these.
    ///
    /// Cost: that of the page, whatever the size of the topic, and one look-up of its keys.
    pub async fn page(&self, topic: &str, after: Option<&str>, max: usize) -> Page {
        let mut page = self.page_bare(topic, after, max);
        let Some(fetcher) = &self.inner.shared.fetcher else {
            return page;
        };
        if let Ok(topic) = Topic::new(topic)
            && !page.entries.is_empty()
        {
            let keys = page
                .entries
                .iter()
                .map(|entry| entry.key().clone())
                .collect();
            let fields = self.fetched(fetcher, &topic, keys).await.fields;
            for entry in &mut page.entries {
                entry.set_fields(&fields);
            }
        }
        page
    }

    /// As [`page`](Self::page), without what `fetch` adds, and without waiting.
    pub fn page_bare(&self, topic: &str, after: Option<&str>, max: usize) -> Page {
        let snapshot = self.inner.tracker.snapshot(topic);
        let found = snapshot.entries();
        let mut entries = Vec::with_capacity(max.min(found.n_metas()));
        let has_more =
            found.for_keys_after(after, max, |rows| entries.extend(Entry::new(rows, None)));
        Page {
            entries,
            has_more,
            n_metas: found.n_metas(),
            n_keys: found.n_keys(),
        }
    }

    /// Returns where a key is present: at most `max` topics that come after `after`, ascending,
    /// each with the key's entry, without what `fetch` adds.
    ///
    /// Of all nodes, as far as this one knows them. Cost: one look-up in each shard, and that of
    /// the answer; no writer waits for it.
    pub fn where_is(&self, key: &str, after: Option<&str>, max: usize) -> Vec<(Topic, Entry)> {
        let topics = self.topics_of_key(key, after, max).into_iter();
        // One that is left out has ended since the topics were looked up.
        let with_entry = |topic: Topic| {
            let entry = self.entry(topic.as_str(), key)?;
            Some((topic, entry))
        };
        topics.filter_map(with_entry).collect()
    }

    /// Returns the topics that a key is present in: at most `max` that come after `after`,
    /// ascending.
    ///
    /// Cost: one look-up in each shard, and that of the answer; no writer waits for it.
    pub fn topics_of_key(&self, key: &str, after: Option<&str>, max: usize) -> Vec<Topic> {
        let key = Key::new(key);
        key.map_or_else(
            |_| Vec::new(), // No presence has a key that cannot be.
            |key| self.inner.tracker.topics_of_key(&key, after, max),
        )
    }

    /// Returns how many presences a topic has, every meta of every key counted. O(1).
    pub fn count(&self, topic: &str) -> usize {
        let views = self.inner.tracker.views(topic);
        views.peek(topic, |entries| entries.n_metas()).unwrap_or(0)
    }

    /// Returns how many keys are present in a topic. Cost: O(1) above 64 presences, else O(n).
    pub fn count_keys(&self, topic: &str) -> usize {
        let views = self.inner.tracker.views(topic);
        views.peek(topic, |entries| entries.n_keys()).unwrap_or(0)
    }

    /// Returns how a topic tells of who is here, for somebody who comes now.
    pub fn mode(&self, topic: &str) -> ModeNews {
        self.inner.tracker.part(topic).modes.of(topic)
    }

    /// Returns all topics somebody is present in and how many presences each has; in no order.
    pub fn topics(&self) -> Vec<(Topic, usize)> {
        self.inner.tracker.topics()
    }

    /// Returns the `max` topics with the most presences, the largest first; which of several of one
    /// size are among them is not said.
    ///
    /// Cost: a look at each topic, and a copy of the names of those that are among the largest so
    /// far. A shard's writer waits while its own topics are looked at.
    pub fn largest_topics(&self, max: usize) -> Vec<(Topic, usize)> {
        self.inner.tracker.largest_topics(max)
    }

    /// Returns topics somebody is present in: at most `max` that begin with `prefix` and come after
    /// `after`, ascending. Cost: one look-up in each shard, and that of the answer.
    pub fn topics_page(&self, prefix: &str, after: Option<&str>, max: usize) -> Vec<Topic> {
        self.inner.tracker.first_topics(prefix, after, max)
    }

    async fn fetched(&self, fetcher: &Fetcher, topic: &Topic, keys: Vec<Key>) -> Fetched {
        fetcher
            .fields(self.inner.tracker.views(topic.as_str()), topic, keys)
            .await
    }
}
