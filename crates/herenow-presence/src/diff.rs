//! [`PresenceDiff`]: what changed in one topic between two versions, as clients and server code get it.
//!
//! The changes are kept one by one, each with the version of the batch it came in. What is rendered
//! is their net effect: a join and a leave of the same ref cancel. Which pairs cancel depends on
//! where the reader stands, so nothing is cancelled before it is rendered, and a reader whose state
//! is of a version within the diff gets exactly the changes after it.

mod net;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use herenow_core::{Incarnation, Key, LeaveReason, NodeName, Topic};
use herenow_pubsub::LocalPayload;
use parking_lot::Mutex;
use smallvec::SmallVec;

use self::net::{Net, render};
use crate::group::{FieldMap, PresenceMeta};

/// Renderings for readers in the middle of a diff that are kept; a burst of joiners needs few.
const MAX_KEPT_SUFFIXES: usize = 16;

/// One thing that happened in a topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A presence began.
    #[non_exhaustive]
    Joined {
        /// The presence.
        meta: PresenceMeta,
        /// Whether its key was not present before.
        first: bool,
    },
    /// The meta of a presence was replaced.
    #[non_exhaustive]
    Updated {
        /// The presence as it was.
        old: PresenceMeta,
        /// The presence as it is.
        new: PresenceMeta,
    },
    /// A presence ended.
    #[non_exhaustive]
    Left {
        /// The presence as it was.
        meta: PresenceMeta,
        /// Whether its key is not present any more.
        last: bool,
        /// Why it ended.
        reason: LeaveReason,
        /// Whether a grace kept it from being told for a while, so that its node may be gone by
        /// now. If not, it ended just now: with another reason than
        /// [`NodeDown`](LeaveReason::NodeDown), by the word of its own node.
        was_held: bool,
    },
}

impl Event {
    /// Returns the key that it happened to.
    pub fn key(&self) -> &Key {
        match self {
            Self::Joined { meta, .. } | Self::Left { meta, .. } => meta.key(),
            Self::Updated { new, .. } => new.key(),
        }
    }
}

/// An event, and the version and time of the batch it came in.
#[derive(Debug, Clone)]
pub(crate) struct Stamped {
    pub(crate) version: u64,
    /// When this node took it in, by its own clock.
    pub(crate) at: SystemTime,
    pub(crate) event: Event,
}

/// A version within a diff, and the JSON of what came after it if there is an effect.
type Suffix = (u64, Option<Bytes>);

/// The nodes that are up and their lives, ascending by name.
pub(crate) type Lives = Arc<[(NodeName, Incarnation)]>;

/// What changed in one topic, from one version (exclusive) to another (inclusive).
pub struct PresenceDiff {
    topic: Topic,
    from: u64,
    to: u64,
    changes: Box<[Stamped]>,
    /// How many presences the topic has after it.
    n_after: usize,
    /// The nodes that were up then.
    nodes: Lives,
    fields: Option<Arc<FieldMap>>,
    /// The JSON of all of it, and whether it has no effect.
    whole: OnceLock<(Bytes, bool)>,
    suffixes: Mutex<SmallVec<[Suffix; 1]>>,
}

impl PresenceDiff {
    /// Returns the diff of `changes`, which are not empty and ascend by version, after which the
    /// topic has `n_after` presences, while `nodes` were up.
    pub(crate) fn new(
        topic: Topic,
        (changes, n_after): (Vec<Stamped>, usize),
        nodes: Lives,
        fields: Option<Arc<FieldMap>>,
    ) -> Self {
        let from = changes
            .first()
            .map_or(0, |first| first.version.saturating_sub(1));
        let to = changes.last().map_or(0, |last| last.version);
        Self {
            n_after,
            ..Self::of_range(topic, (from, to), changes, nodes, fields)
        }
    }

    fn of_range(
        topic: Topic,
        (from, to): (u64, u64),
        changes: Vec<Stamped>,
        nodes: Lives,
        fields: Option<Arc<FieldMap>>,
    ) -> Self {
        Self {
            topic,
            from,
            to,
            changes: changes.into(),
            n_after: 0,
            nodes,
            fields,
            whole: OnceLock::new(),
            suffixes: Mutex::default(),
        }
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Returns the version that the diff begins after.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Returns the version that the diff leads to.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// Returns what happened, one by one, in order.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &Event> {
        self.changes.iter().map(|change| &change.event)
    }

    /// Returns what happened, one by one, in order, each with when this node took it in: by its own
    /// clock, which can be set back between two of them.
    pub fn timed_events(&self) -> impl ExactSizeIterator<Item = (SystemTime, &Event)> {
        let changes = self.changes.iter();
        changes.map(|change| (change.at, &change.event))
    }

    /// Returns the nodes that were up when it happened as far as this node knew, itself among them,
    /// ascending.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().map(|(node, _)| node)
    }

    /// Returns whether the node that a presence is, or was, on was up then, and in the same life.
    pub fn has_life_of(&self, meta: &PresenceMeta) -> bool {
        let replica = meta.0.replica();
        let life = self.nodes.iter().find(|(node, _)| *node == replica.node);
        life.is_some_and(|(_, incarnation)| *incarnation == replica.incarnation)
    }

    /// Returns what happened after version `seen`, one by one, in order.
    pub fn events_since(&self, seen: u64) -> impl Iterator<Item = &Event> {
        self.since(seen).iter().map(|change| &change.event)
    }

    /// Returns the net effect as JSON: `{"joins":{…},"leaves":{…}}`, rendered once.
    pub fn json(&self) -> Bytes {
        self.whole().0.clone()
    }

    /// Returns whether anything is left of the changes once those that cancel are taken out.
    pub fn has_effect(&self) -> bool {
        !self.whole().1
    }

    /// Returns the JSON for a reader whose state is of version `seen`; `None` if there is no change
    /// for it.
    ///
    /// Cost: that of [`json`](Self::json) for a reader from before the diff, and one more rendering
    /// for each different version within it.
    pub fn json_since(&self, seen: u64) -> Option<Bytes> {
        if seen >= self.to {
            return None;
        }
        if seen <= self.from {
            let (json, has_no_effect) = self.whole();
            return (!has_no_effect).then(|| json.clone());
        }
        let mut suffixes = self.suffixes.lock();
        if let Some((_, json)) = suffixes.iter().find(|(kept, _)| *kept == seen) {
            return json.clone();
        }
        let net = Net::of(self.since(seen));
        let json = (!net.is_empty()).then(|| render(&net, self.fields.as_deref()));
        if suffixes.len() == MAX_KEPT_SUFFIXES {
            suffixes.remove(0);
        }
        suffixes.push((seen, json.clone()));
        json
    }

    /// As [`json_since`](Self::json_since), without the changes after version `until`.
    ///
    /// For a reader who was sent a new state of that version: what cancels across it must not.
    pub fn json_between(&self, seen: u64, until: u64) -> Option<Bytes> {
        if until >= self.to {
            return self.json_since(seen);
        }
        let net = Net::of(self.between(seen, until));
        (!net.is_empty()).then(|| render(&net, self.fields.as_deref()))
    }

    fn whole(&self) -> &(Bytes, bool) {
        self.whole.get_or_init(|| {
            let net = Net::of(&self.changes);
            (render(&net, self.fields.as_deref()), net.is_empty())
        })
    }

    /// Returns several consecutive diffs of one topic as one; every reader sees the same as before.
    /// `None` if there are none.
    pub fn fold(diffs: &[Arc<Self>]) -> Option<Arc<Self>> {
        let [first, .., last] = diffs else {
            return diffs.first().cloned();
        };
        let changes = diffs
            .iter()
            .flat_map(|diff| diff.changes.iter().cloned())
            .collect();
        let range = (first.from, last.to);
        let fields = Self::fold_fields(diffs);
        Some(Arc::new(Self {
            n_after: last.n_after,
            ..Self::of_range(
                first.topic.clone(),
                range,
                changes,
                last.nodes.clone(),
                fields,
            )
        }))
    }

    /// Returns several consecutive diffs of one topic as one for a reader whose state is of version
    /// `seen`, without what cancels for it; `None` if nothing is left.
    ///
    /// Its size is bounded by the presences before and after, however many changes there were.
    pub fn fold_since(seen: u64, diffs: &[Arc<Self>]) -> Option<Arc<Self>> {
        Self::fold_between(seen, u64::MAX, diffs)
    }

    /// As [`fold_since`](Self::fold_since), without the changes after version `until`.
    pub fn fold_between(seen: u64, until: u64, diffs: &[Arc<Self>]) -> Option<Arc<Self>> {
        let (first, last) = (diffs.first()?, diffs.last()?);
        let changes: Vec<Stamped> = diffs
            .iter()
            .flat_map(|diff| diff.between(seen, until).iter().cloned())
            .collect();
        let kept = Net::of(&changes).keep();
        if kept.is_empty() {
            return None;
        }
        let range = (first.from.max(seen), last.to.min(until));
        let fields = Self::fold_fields(diffs);
        Some(Arc::new(Self {
            n_after: last.n_after,
            ..Self::of_range(first.topic.clone(), range, kept, last.nodes.clone(), fields)
        }))
    }

    /// Returns how many presences the topic has after it, every meta of every key counted.
    pub fn n_after(&self) -> usize {
        self.n_after
    }

    /// Returns how many changes the diff holds, before any cancel.
    pub fn n_changes(&self) -> usize {
        self.changes.len()
    }

    fn fold_fields(diffs: &[Arc<Self>]) -> Option<Arc<FieldMap>> {
        let mut all = diffs.iter().filter_map(|diff| diff.fields.as_ref());
        let first = all.next()?;
        let mut fields = FieldMap::clone(first);
        for later in all {
            fields.extend(
                later
                    .iter()
                    .map(|(key, fields)| (key.clone(), fields.clone())),
            );
        }
        Some(Arc::new(fields))
    }

    fn since(&self, seen: u64) -> &[Stamped] {
        self.between(seen, u64::MAX)
    }

    fn between(&self, seen: u64, until: u64) -> &[Stamped] {
        let begin = self
            .changes
            .partition_point(|change| change.version <= seen);
        let rest = &self.changes[begin..];
        &rest[..rest.partition_point(|change| change.version <= until)]
    }
}

impl LocalPayload for PresenceDiff {
    fn json(&self) -> Bytes {
        Self::json(self)
    }
}

impl fmt::Debug for PresenceDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceDiff")
            .field("topic", &self.topic)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("n_changes", &self.changes.len())
            .finish_non_exhaustive()
    }
}
