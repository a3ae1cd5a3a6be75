//! [`Owings`]: events that another node is to tell, kept in case it turns out to be down.
//!
//! An event is owed by the node that was the home of its topic when the event happened. It is kept
//! here until one of these is so:
//!
//! - that node is down, and this one is the successor: then it is taken, and told;
//! - it is not true any more: of a `left`, because the presence is back; of a `topic_vacated`,
//!   because somebody is in the topic. Who was to tell the one has told the other as well, or
//!   neither, which comes to the same;
//! - it has been kept for as long as the death of a node may take to be noticed, so whoever was to
//!   tell it has;
//! - there are too many of them, or too many bytes: the oldest are dropped, which is counted, and
//!   logged once until half of the room is free again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use herenow_presence::{MetaRef, NodeName, Topic};
use tokio::time::Instant;

use super::home::home_of;
use crate::events::event::{Kind, Record};

/// Events that are kept at most, and their bytes.
const MAX_OWED: usize = 100_000;
const MAX_OWED_BYTES: usize = 64 << 20;

/// An event of a node that is down, which another node is to tell.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) since: Instant,
    /// Who is to tell; nobody if it is empty.
    pub(super) by: String,
    /// Whose presence it was.
    pub(super) node: NodeName,
    pub(super) meta_ref: MetaRef,
    pub(super) record: Record,
}

/// What is owed, and how much was dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OwedStats {
    pub(crate) n_owed: usize,
    pub(crate) owed_bytes: usize,
    pub(crate) n_dropped: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Owings {
    max_owed: usize,
    max_bytes: usize,
    /// By number, so the oldest comes first.
    owed: BTreeMap<u64, Owed>,
    next: u64,
    /// Numbers of those that say that a presence has left.
    lefts: HashMap<MetaRef, u64>,
    topics: HashMap<Topic, OfTopic>,
    n_bytes: usize,
    n_dropped: u64,
    /// Whether the log says already that there is no room.
    is_full: bool,
}

/// What is owed of one topic.
#[derive(Debug, Default)]
struct OfTopic {
    n_owed: usize,
    /// The number of the one that says that it was vacated.
    vacated: Option<u64>,
    is_empty: bool,
}

/// An event whose time to be told has come.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) owed: Owed,
    pub(super) is_topic_empty: bool,
}

impl Owings {
    pub(super) fn new() -> Self {
        Self::bounded(MAX_OWED, MAX_OWED_BYTES)
    }

    fn bounded(max_owed: usize, max_bytes: usize) -> Self {
        Self {
            max_owed,
            max_bytes,
            owed: BTreeMap::new(),
            next: 0,
            lefts: HashMap::new(),
            topics: HashMap::new(),
            n_bytes: 0,
            n_dropped: 0,
            is_full: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    pub(super) fn stats(&self) -> OwedStats {
        OwedStats {
            n_owed: self.owed.len(),
            owed_bytes: self.n_bytes,
            n_dropped: self.n_dropped,
        }
    }

    pub(super) fn put(&mut self, owed: Owed) {
        let number = self.next;
        self.next += 1;
        self.n_bytes += owed.n_bytes();
        let topic = self.topics.entry(owed.record.topic.clone()).or_default();
        topic.n_owed += 1;
        let before = match owed.record.kind {
            Kind::Vacated => topic.vacated.replace(number),
            _ => self.lefts.insert(owed.meta_ref, number),
        };
        self.owed.insert(number, owed);
        if let Some(before) = before {
            self.remove(before);
        }
        while self.owed.len() > self.max_owed || self.n_bytes > self.max_bytes {
            let Some((&oldest, _)) = self.owed.first_key_value() else {
                break;
            };
            self.remove(oldest);
            self.n_dropped += 1;
            self.say_full();
        }
    }

    /// Takes note that a presence is back, so that nobody has to tell that it left.
    pub(super) fn on_back(&mut self, meta_ref: MetaRef) {
        if let Some(&number) = self.lefts.get(&meta_ref) {
            self.remove(number);
        }
    }

    /// Takes note of whether anybody is in a topic. If so, nobody has to tell that it was vacated.
    pub(super) fn on_topic(&mut self, topic: &Topic, is_empty: bool) {
        let Some(its) = self.topics.get_mut(topic) else {
            return;
        };
        its.is_empty = is_empty;
        if let Some(number) = its.vacated.filter(|_| !is_empty) {
            self.remove(number);
        }
    }

    /// Lets go of what has been kept for longer than that.
    pub(super) fn let_go(&mut self, keep_time: Duration) {
        while let Some((&oldest, owed)) = self.owed.first_key_value()
            && owed.since.elapsed() > keep_time
        {
            self.remove(oldest);
        }
    }

    /// Looks for successors of those that are not among the nodes that are up, and takes what
    /// `node` has to tell now, in order.
    pub(super) fn take_due(&mut self, node: &str, nodes: &[NodeName]) -> Vec<Due> {
        let is_up = |name: &str| nodes.iter().any(|node| node.as_str() == name);
        let mut due = Vec::new();
        for (number, owed) in &mut self.owed {
            if !is_up(&owed.by) {
                let others = nodes.iter().filter(|node| **node != owed.node);
                owed.by = home_of(&owed.record.topic, others).map_or_else(String::new, Into::into);
            }
            if owed.by == node {
                due.push(*number);
            }
        }
        due.into_iter().filter_map(|at| self.remove(at)).collect()
    }

    fn remove(&mut self, number: u64) -> Option<Due> {
        let owed = self.owed.remove(&number)?;
        self.n_bytes -= owed.n_bytes();
        let topic = self.topics.get_mut(&owed.record.topic);
        let its = topic.expect("a topic that something is owed of is there");
        let is_topic_empty = its.is_empty;
        its.n_owed -= 1;
        // Another one may have taken its place.
        its.vacated = its.vacated.filter(|vacated| *vacated != number);
        if its.n_owed == 0 {
            self.topics.remove(&owed.record.topic);
        }
        if self.lefts.get(&owed.meta_ref) == Some(&number) {
            self.lefts.remove(&owed.meta_ref);
        }
        self.note_room();
        Some(Due {
            owed,
            is_topic_empty,
        })
    }

    fn say_full(&mut self) {
        if !std::mem::replace(&mut self.is_full, true) {
            let (n_events, n_bytes) = (self.owed.len(), self.n_bytes);
            tracing::warn!(
                n_events,
                n_bytes,
                "too much for other nodes to tell: the oldest is not kept for them"
            );
        }
    }

    fn note_room(&mut self) {
        let has_room = self.owed.len() <= self.max_owed / 2 && self.n_bytes <= self.max_bytes / 2;
        self.is_full &= !has_room;
        if self.owed.is_empty() {
            // Rooms of what can be a whole node's presences are not kept for the next time.
            self.lefts = HashMap::new();
            self.topics = HashMap::new();
        }
    }
}

impl Owed {
    fn n_bytes(&self) -> usize {
        size_of::<Self>() + self.by.len() + self.record.n_bytes()
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::logging::Warnings;

    fn meta_ref(number: u64) -> MetaRef {
        format!("{number:016}").parse().unwrap()
    }

    /// That the presence of this number has left a topic.
    fn owed(number: u64, topic: &str) -> Owed {
        Owed {
            since: Instant::now(),
            by: "b".to_owned(),
            node: NodeName::new("c").unwrap(),
            meta_ref: meta_ref(number),
            record: Record::for_tests(topic),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1746_what_is_owed_is_bounded_in_events_and_bytes_and_what_is_dropped_is_counted() {
        let warnings = Warnings::default();
        let layer = tracing_subscriber::registry().with(warnings.layer());
        let _guard = tracing::subscriber::set_default(layer);
        let mut owings = Owings::bounded(10, 5_000);
        for number in 0..25 {
            owings.put(owed(number, "room"));
        }
        let stats = owings.stats();
        assert_eq!((stats.n_owed, stats.n_dropped), (10, 15));
        for number in 25..35 {
            owings.put(owed(number, &"large".repeat(200)));
        }
        let stats = owings.stats();
        assert!(stats.n_owed < 5 && stats.owed_bytes <= 5_000, "{stats:?}");
        assert_eq!(stats.n_owed as u64 + stats.n_dropped, 35);
        let logged = warnings.latest(9, Duration::MAX);
        assert_eq!(logged.iter().map(|one| one.n).collect::<Vec<_>>(), [1]);
        for number in 0..35 {
            owings.on_back(meta_ref(number));
        }
        assert!(owings.is_empty() && owings.stats().owed_bytes == 0);
    }
}
