//! The record of an event, as webhooks and streams have it, and who wants which.
//!
//! ```json
//! {"id": "18a5f3b2c4d5e6f7-42", "seq": 3, "event": "joined", "topic": "room:1", "key": "ada",
//!  "first": true, "reason": "tracked", "at": "2026-11-28T12:00:00.123Z", "node": "a",
//!  "n_presences": 1, "meta": {"device": "phone", "phx_ref": "AAAAAAABAAAAAAAC"}}
//! ```

use std::time::SystemTime;

use herenow_presence::{LeaveReason, PresenceMeta, Topic};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::EVENT_WORDS;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A presence began.
    Joined,
    /// A presence's meta was replaced.
    Updated,
    /// A presence ended.
    Left,
    /// The first presence of a topic began.
    Occupied,
    /// The last presence of a topic ended.
    Vacated,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        EVENT_WORDS[self as usize]
    }
}

/// Which events somebody wants to hear of.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    topics: Vec<Pattern>,
    kinds: [bool; EVENT_WORDS.len()],
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Filter {
    /// Events of any kind in any topic.
    pub(crate) fn all() -> Self {
        Self {
            topics: vec![Pattern::Prefix(String::new())],
            kinds: [true; EVENT_WORDS.len()],
        }
    }

    /// Only of topics that one of these patterns matches: a topic, or the beginning of one and `*`.
    pub(crate) fn of_patterns(mut self, patterns: &[String]) -> Self {
        let pattern = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix.to_owned()),
            None => Pattern::Exact(pattern.clone()),
        };
        self.topics = patterns.iter().map(pattern).collect();
        self
    }

    /// Only of this topic.
    pub(crate) fn of_topic(mut self, topic: String) -> Self {
        self.topics = vec![Pattern::Exact(topic)];
        self
    }

    /// Only of topics that begin with this.
    pub(crate) fn of_prefix(mut self, prefix: String) -> Self {
        self.topics = vec![Pattern::Prefix(prefix)];
        self
    }

    /// Only of these kinds; a word that is none is left out.
    pub(crate) fn of_kinds<'a>(mut self, words: impl Iterator<Item = &'a str>) -> Self {
        let words: Vec<&str> = words.collect();
        self.kinds = EVENT_WORDS.map(|word| words.contains(&word));
        self
    }

    pub(super) fn wants(&self, kind: Kind, topic: &Topic) -> bool {
        let topic = topic.as_str();
        self.kinds[kind as usize]
            && self.topics.iter().any(|pattern| match pattern {
                Pattern::Exact(exact) => exact == topic,
                Pattern::Prefix(prefix) => topic.starts_with(prefix.as_str()),
            })
    }
}

/// An event without its place in a stream.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) topic: Topic,
    /// From `"event"` to the closing brace.
    rest: Vec<u8>,
}

/// What a record is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) kind: Kind,
    pub(super) topic: &'a Topic,
    pub(super) at: SystemTime,
    pub(super) node: &'a str,
    pub(super) reason: &'static str,
    /// After it, as this node knows.
    pub(super) n_presences: usize,
    /// Whose presence it is; of a topic's own events nobody's.
    pub(super) who: Option<Who<'a>>,
}

/// A presence that something happened to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) meta: &'a PresenceMeta,
    /// As it was before an update.
    pub(super) before: Option<&'a PresenceMeta>,
    /// Whether the key was not present before it joined.
    pub(super) first: Option<bool>,
    /// Whether the key is not present any more.
    pub(super) last: Option<bool>,
}

#[derive(Serialize)]
struct Rest<'a> {
    event: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<bool>,
    reason: &'static str,
    at: String,
    node: &'a str,
    n_presences: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Box<RawValue>>,
}

impl Record {
    /// That a topic was occupied by one who is not told.
    #[cfg(test)]
    pub(super) fn for_tests(topic: &str) -> Self {
        Self::new(&Told {
            kind: Kind::Occupied,
            topic: &Topic::new(topic).unwrap(),
            at: SystemTime::UNIX_EPOCH,
            node: "a",
            reason: "tracked",
            n_presences: 1,
            who: None,
        })
    }

    pub(super) fn new(told: &Told<'_>) -> Self {
        let who = told.who.as_ref();
        let raw = |meta: &PresenceMeta| {
            RawValue::from_string(meta.json()).expect("presence renders JSON")
        };
        let rest = Rest {
            event: told.kind.word(),
            topic: told.topic.as_str(),
            key: who.map(|who| who.meta.key().as_str()),
            first: who.and_then(|who| who.first),
            last: who.and_then(|who| who.last),
            reason: told.reason,
            at: time_of_day(told.at),
            node: told.node,
            n_presences: told.n_presences,
            meta: who.map(|who| raw(who.meta)),
            before: who.and_then(|who| who.before).map(raw),
        };
        Self {
            kind: told.kind,
            topic: told.topic.clone(),
            rest: serde_json::to_vec(&rest).expect("a record has texts for keys"),
        }
    }

    /// Writes the record at its place in a stream: `id` is unique, `seq` counts those of the topic.
    pub(super) fn write(&self, id: &str, seq: u64, out: &mut Vec<u8>) {
        let head = format!("{{\"id\":\"{id}\",\"seq\":{seq},");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&self.rest[1..]);
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.rest.len() + 64
    }
}

/// Why a presence ended, in a word.
pub(crate) fn reason_word(reason: LeaveReason) -> &'static str {
    match reason {
        LeaveReason::Left => "left",
        LeaveReason::Closed => "closed",
        LeaveReason::NodeDown => "node_down",
        LeaveReason::Evicted => "evicted",
    }
}

/// In UTC to the millisecond.
pub(super) fn time_of_day(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

/// Why events were not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// They came when as many waited as may.
    QueueFull,
    /// They could not be delivered in time.
    TooOld,
    /// The receiver refused them as often as it was asked.
    Refused,
    /// The server was too busy to tell.
    Missed,
    /// They are not kept any more.
    NotKept,
}

impl Loss {
    pub(super) const ALL: [Self; 5] = [
        Self::QueueFull,
        Self::TooOld,
        Self::Refused,
        Self::Missed,
        Self::NotKept,
    ];

    /// Why webhooks can lack events.
    pub(super) const OF_WEBHOOKS: [Self; 4] =
        [Self::QueueFull, Self::TooOld, Self::Refused, Self::Missed];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooOld => "too_old",
            Self::Refused => "refused",
            Self::Missed => "missed",
            Self::NotKept => "not_kept",
        }
    }

    /// The record that says so; without a number where nobody knows how many they are.
    pub(super) fn record(self, n_events: Option<u64>) -> String {
        let record = serde_json::json!({
            "event": "lost",
            "reason": self.word(),
            "n_events": n_events,
            "at": time_of_day(SystemTime::now()),
        });
        record.to_string()
    }
}
