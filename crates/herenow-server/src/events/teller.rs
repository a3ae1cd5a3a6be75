//! [`Teller`]: which events a diff is, who has to tell of them, and their numbers.
//!
//! Every node sees all changes of the cluster. What this node saw goes to those who listen here.
//! What it has to tell goes to the webhooks, so that an event is told by one node:
//!
//! - **joined, updated, left**: the node that the presence is on.
//! - **left** from a node that is down, or lives anew, and cannot say so: the *home* of the topic
//!   among the nodes that are up, without the one that is down. Should the home turn out to be down
//!   as well, soon after, it may not have told: then its successor does.
//! - **topic occupied, topic vacated**: the home of the topic among the nodes that are up, when the
//!   number of presences that it knows leaves zero or comes to it. The home is one node for a topic
//!   while the nodes stay the same, so the two alternate.
//! - **joined** because a node that was down is back: who told that its presences left, and who
//!   alone knows that it did.
//!
//! The home of a topic is the node with the greatest hash of topic and name: when a node goes, only
//! its own topics get another home. What "up" means is what this node's shard knew when it
//! happened. So while nodes disagree, in the moment in which one comes or goes, and in a network
//! that is cut in two, something can be told twice or not at all; docs/events.md says what, and
//! what to do.
//!
//! What the home of a topic is to tell of a node that is down, all others *owe* until it is certain
//! that it was told. It belongs to this node's [`Owings`], and to the home by name. It is let go
//! when it is told, when it is not true any more, when twice `cluster.down_period` is past, or when
//! there is too much of it; `owed` says more. Each diff sees to that, and as a node can go without
//! a diff, so does [`Teller::watch_nodes`], which looks at the nodes again and again while anything
//! is owed.
//!
//! Who told that a presence has left is remembered in `hidden`, for as long as its node may come
//! back with it: `cluster.permdown_period`, and 20 minutes at least. It is let go when the presence
//! is back.
//!
//! A node that is back can have news of its presences: they left while nobody heard it. It tells
//! so, and what it tells can be delivered before another node's word that they are back. So whoever
//! gave that word tells what becomes of the presence as well, if it does so soon: it is
//! `returned` for twice `cluster.down_period`.
//!
//! A node that is still joining its cluster learns of presences that have been there for long,
//! which do not occupy anything.

mod home;
mod numbers;
mod owed;
mod refs;

use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herenow_presence::{
    Event, HandleMetas, LeaveReason, NodeName, Presence, PresenceDiff, PresenceMeta, Presences,
    ReplicaStatus, ShardConfig, Topic,
};
use parking_lot::Mutex;
use tokio::time::{Instant, interval};

use self::home::home_of;
use self::numbers::Numbers;
pub(crate) use self::owed::OwedStats;
use self::owed::{Owed, Owings};
use self::refs::Refs;
use super::event::{Kind, Loss, Record, Told, Who, reason_word};
use super::journal::Journal;
use super::queue::Queue;
use crate::clock;
use crate::health::Ready;

/// How often the nodes are looked at while another one is to tell something; more often if nodes
/// may be taken for up for a short time only.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// How long it is remembered at least who told that a presence had left.
const MIN_HIDDEN_TIME: Duration = Duration::from_secs(20 * 60);

/// See the module's documentation.
pub(crate) struct Teller {
    node: String,
    ready: Ready,
    queues: Vec<Arc<Queue>>,
    journal: Arc<Journal>,
    /// What the ids of this life's events begin with, as webhooks have them.
    life: String,
    state: Mutex<State>,
    /// How long a node that is down may be taken for up.
    down_period: Duration,
    n_missed: AtomicU64,
}

struct State {
    /// Of what this node tells the webhooks.
    own: Numbers,
    /// Of what it tells those who listen, with the round of their journal.
    seen: Numbers,
    round: u64,
    hidden: Refs<ToldBy>,
    /// Presences that this node said are back, and when.
    returned: Refs<Instant>,
    owed: Owings,
    /// The nodes that were up in the last diff, of whatever shard, or when they were last looked
    /// at. All that is owed is owed by one of them, or by nobody.
    nodes: Vec<NodeName>,
}

/// Who told that a presence had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToldBy {
    ThisNode,
    Another,
}

/// What a diff is told as.
#[derive(Default)]
struct Telling {
    own: Vec<Record>,
    /// Of those who listen; `None` if nobody does.
    seen: Option<Vec<Record>>,
}

/// An event of a presence, as it is to be told.
struct Change<'a> {
    kind: Kind,
    reason: &'static str,
    who: Who<'a>,
    /// Whether this node tells of it.
    is_own: bool,
    /// Whether this node tells what it means for the topic.
    is_topics: bool,
    /// Who tells it, if its own node cannot and this one is not to.
    teller: Option<&'a str>,
}

impl Teller {
    pub(super) fn new(
        node: &str,
        ready: &Ready,
        queues: Vec<Arc<Queue>>,
        journal: Arc<Journal>,
        shard: &ShardConfig,
    ) -> Self {
        Self {
            node: node.to_owned(),
            ready: ready.clone(),
            queues,
            journal,
            life: clock::life(),
            state: Mutex::new(State {
                own: Numbers::default(),
                seen: Numbers::default(),
                round: 0,
                hidden: Refs::kept_for(shard.permdown_period.max(MIN_HIDDEN_TIME)),
                returned: Refs::kept_for(shard.down_period * 2),
                owed: Owings::new(),
                nodes: Vec::new(),
            }),
            down_period: shard.down_period,
            n_missed: AtomicU64::new(0),
        }
    }

    /// Returns how many events were left out because this node was too busy.
    pub(super) fn n_missed(&self) -> u64 {
        self.n_missed.load(Ordering::Relaxed)
    }

    /// Returns what other nodes are to tell and is kept in case they do not.
    pub(super) fn owed(&self) -> OwedStats {
        self.state.lock().owed.stats()
    }

    /// Looks for nodes that have gone while they were to tell something; for ever.
    pub(super) async fn watch_nodes(self: Arc<Self>, presence: Presence) {
        let mut ticks = interval(LOOK_PERIOD.min(self.down_period / 2));
        loop {
            ticks.tick().await;
            if self.state.lock().owed.is_empty() {
                continue; // As it is but for a few seconds after a node was lost.
            }
            let cluster = presence.cluster().await;
            // Shards notice one after the other; the last one decides.
            let is_up = |replicas: &[_]| replicas.iter().any(|it: &ReplicaStatus| it.is_up);
            let up = cluster
                .nodes
                .into_iter()
                .filter(|node| node.is_self || is_up(&node.replicas));
            let mut nodes: Vec<NodeName> = up.map(|node| node.node).collect();
            nodes.sort_unstable();
            let mut state = self.state.lock();
            state.owed.let_go(self.down_period * 2);
            if state.nodes != nodes {
                self.on_nodes(&mut state, nodes);
            }
        }
    }

    fn tell(&self, diff: &PresenceDiff, n_after: usize) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let round = self.journal.round();
        if let Some(round) = round.filter(|round| *round != state.round) {
            state.round = round;
            state.seen.forget_all();
        }
        state.owed.let_go(self.down_period * 2);
        if !state.nodes.iter().eq(diff.nodes()) {
            self.on_nodes(state, diff.nodes().cloned().collect());
        }
        let telling = Telling {
            seen: round.map(|_| Vec::new()),
            ..Telling::default()
        };
        let telling = self.telling(diff, n_after, telling, state);
        let topic = diff.topic();
        state.owed.on_topic(topic, n_after == 0);
        self.tell_webhooks(&mut state.own, &telling.own);
        let seen = telling.seen.unwrap_or_default();
        let first = state.seen.take(topic, seen.len());
        let records = seen.into_iter().zip(first.seq..);
        let records: Vec<(Record, u64)> = records.collect();
        if !records.is_empty() {
            self.journal.push(&records);
        }
        if n_after == 0 {
            state.own.forget(topic);
            state.seen.forget(topic);
        }
    }

    /// Tells webhooks of events of one topic.
    fn tell_webhooks(&self, numbers: &mut Numbers, records: &[Record]) {
        let Some(record) = records.first() else {
            return;
        };
        let first = numbers.take(&record.topic, records.len());
        for (at, record) in (0..).zip(records) {
            let id = format!("{}-{}", self.life, first.n_told + at);
            for queue in &self.queues {
                queue.push(record, &id, first.seq + at);
            }
        }
    }

    /// Takes note of which nodes are up: tells what those were to tell that are down now
    /// themselves, if this one is their successor.
    fn on_nodes(&self, state: &mut State, nodes: Vec<NodeName>) {
        state.nodes = nodes;
        let due = state.owed.take_due(&self.node, &state.nodes);
        for due in &due {
            state.hidden.put(due.owed.meta_ref, ToldBy::ThisNode);
            self.tell_webhooks(&mut state.own, slice::from_ref(&due.owed.record));
        }
        for due in due.iter().filter(|due| due.is_topic_empty) {
            state.own.forget(&due.owed.record.topic);
        }
    }

    /// Makes records of a diff, for the webhooks and for those who listen, if anybody does.
    fn telling(
        &self,
        diff: &PresenceDiff,
        n_after: usize,
        mut telling: Telling,
        state: &mut State,
    ) -> Telling {
        let mut n_presences = count_before(diff, n_after);
        for (at, event) in diff.timed_events() {
            let Some(change) = self.change(diff, event, state) else {
                continue;
            };
            let n_before = n_presences;
            match change.kind {
                Kind::Joined => n_presences += 1,
                Kind::Left => n_presences = n_presences.saturating_sub(1),
                Kind::Updated | Kind::Occupied | Kind::Vacated => {}
            }
            let its = Told {
                kind: change.kind,
                topic: diff.topic(),
                at,
                node: change.who.meta.node().as_str(),
                reason: change.reason,
                n_presences,
                who: Some(change.who),
            };
            let of_topic = |kind| Told {
                kind,
                who: None,
                node: &self.node,
                ..its
            };
            let (own, topics) = (change.is_own, change.is_topics);
            // A topic is occupied before somebody is in it, and vacated after the last one has
            // left.
            let told = match (n_before, n_presences) {
                (0, 1) => [Some((of_topic(Kind::Occupied), topics)), Some((its, own))],
                (1, 0) => [Some((its, own)), Some((of_topic(Kind::Vacated), topics))],
                _ => [Some((its, own)), None],
            };
            for (told, is_own) in told.into_iter().flatten() {
                if is_own && !self.queues.is_empty() {
                    telling.own.push(Record::new(&told));
                }
                if let Some(by) = change.teller.filter(|_| !self.queues.is_empty()) {
                    state.owed.put(Owed {
                        since: Instant::now(),
                        by: by.to_owned(),
                        node: change.who.meta.node().clone(),
                        meta_ref: change.who.meta.meta_ref(),
                        record: Record::new(&told),
                    });
                }
                if let Some(seen) = &mut telling.seen {
                    seen.push(Record::new(&told));
                }
            }
        }
        telling
    }

    /// When this node said that a presence is back, if that was just now.
    fn take_returned(&self, state: &mut State, meta: &PresenceMeta) -> Option<Instant> {
        let since = state.returned.take(meta.meta_ref())?;
        (since.elapsed() <= self.down_period * 2).then_some(since)
    }

    /// The same of a presence whose meta was replaced, which is to be remembered by its new one.
    fn renew_returned(&self, state: &mut State, old: &PresenceMeta, new: &PresenceMeta) -> bool {
        let returned = self.take_returned(state, old);
        if let Some(since) = returned {
            state.returned.put(new.meta_ref(), since);
        }
        returned.is_some()
    }

    /// Says what an event is, and whether this node tells of it.
    fn change<'a>(
        &self,
        diff: &'a PresenceDiff,
        event: &'a Event,
        state: &mut State,
    ) -> Option<Change<'a>> {
        // An earlier life of this node is another node: it cannot speak any more.
        let is_here =
            |meta: &PresenceMeta| meta.node().as_str() == self.node && diff.has_life_of(meta);
        let topic = diff.topic();
        let is_home = || home_of(topic, diff.nodes()) == Some(self.node.as_str());
        let who = |meta, before, first, last| Who {
            meta,
            before,
            first,
            last,
        };
        Some(match event {
            Event::Joined { meta, first, .. } => {
                let told = state.hidden.take(meta.meta_ref());
                state.owed.on_back(meta.meta_ref());
                let (is_here, is_back) = (is_here(meta), told == Some(ToldBy::ThisNode));
                if is_back {
                    state.returned.put(meta.meta_ref(), Instant::now());
                }
                Change {
                    kind: Kind::Joined,
                    reason: told.map_or("tracked", |_| "node_up"),
                    who: who(meta, None, Some(*first), None),
                    is_own: is_here || is_back,
                    is_topics: is_back
                        || told.is_none() && (is_here || self.ready.is_ready()) && is_home(),
                    teller: None,
                }
            }
            Event::Updated { old, new, .. } => {
                let is_news = self.renew_returned(state, old, new);
                Change {
                    kind: Kind::Updated,
                    reason: "updated",
                    who: who(new, Some(old), None, None),
                    is_own: is_here(new) || is_news,
                    is_topics: false,
                    teller: None,
                }
            }
            Event::Left {
                meta,
                last,
                reason,
                was_held,
                ..
            } => {
                let is_lost = !is_here(meta) && is_down(diff, meta, *reason, *was_held);
                let home = home_after(diff, meta, is_lost);
                let is_home = home == Some(self.node.as_str());
                if is_lost {
                    let by = match is_home {
                        true => ToldBy::ThisNode,
                        false => ToldBy::Another,
                    };
                    state.hidden.put(meta.meta_ref(), by);
                }
                let is_news = self.take_returned(state, meta).is_some();
                Change {
                    kind: Kind::Left,
                    reason: reason_word(*reason),
                    who: who(meta, None, None, Some(*last)),
                    is_own: is_here(meta) || is_lost && is_home || is_news,
                    is_topics: is_home || is_news,
                    teller: home.filter(|_| is_lost && !is_home),
                }
            }
            _ => return None, // A kind of event that there is not yet.
        })
    }
}

impl HandleMetas for Teller {
    async fn handle_metas(&self, _topic: &Topic, diff: &PresenceDiff, presences: &Presences) {
        self.tell(diff, presences.n_metas());
    }

    fn handle_missed(&self, n_events: usize) {
        self.n_missed.fetch_add(n_events as u64, Ordering::Relaxed);
        tracing::warn!(n_events, "too busy to tell of events");
        for queue in &self.queues {
            queue.lose(Loss::Missed, n_events);
        }
        self.journal.lose(n_events);
    }
}

/// Whether the node of a presence that has left cannot tell so. What was not held was told by it
/// just now, even if it is gone already.
fn is_down(diff: &PresenceDiff, meta: &PresenceMeta, reason: LeaveReason, was_held: bool) -> bool {
    reason == LeaveReason::NodeDown || was_held && !diff.has_life_of(meta)
}

/// The home of the topic, without the node of a presence that has left if that cannot speak, and
/// with it otherwise.
fn home_after<'a>(
    diff: &'a PresenceDiff,
    left: &'a PresenceMeta,
    is_lost: bool,
) -> Option<&'a str> {
    if is_lost {
        home_of(
            diff.topic(),
            diff.nodes().filter(|node| *node != left.node()),
        )
    } else {
        home_of(diff.topic(), diff.nodes().chain([left.node()]))
    }
}

/// How many were in the topic before the diff.
fn count_before(diff: &PresenceDiff, n_after: usize) -> usize {
    let (mut n_joined, mut n_left) = (0, 0);
    for event in diff.events() {
        match event {
            Event::Joined { .. } => n_joined += 1,
            Event::Left { .. } => n_left += 1,
            _ => {}
        }
    }
    (n_after + n_left).saturating_sub(n_joined)
}

#[cfg(test)]
mod tests;
