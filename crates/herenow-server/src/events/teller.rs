//! [`Teller`]: which events a diff is, who has to tell of them, and their numbers.
//!
//! Every node sees all changes of the cluster. What this node saw goes to those who listen here.
//! What it has to tell goes to the webhooks, so that an event is told by one node:
//!
//! - **joined, updated, left**: the node that the presence is on.
//! - **left** from a node that is down, or lives anew, and cannot say so: the *home* of the topic
//!   among the nodes that are up, without the one that is down. Should the home turn out to be down
//!   as well, soon after, it may not have told: then its successor does, who has kept it for a
//!   while.
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
//! A node that is still joining its cluster learns of presences that have been there for long,
//! which do not occupy anything.

mod hidden;
mod home;
mod numbers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herenow_presence::{
    Event, HandleMetas, LeaveReason, MetaRef, NodeName, PresenceDiff, PresenceMeta, Presences,
    Topic,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::hidden::{Hidden, ToldBy};
use self::home::home_of;
use self::numbers::Numbers;
use super::event::{Kind, Loss, Record, Told, Who, reason_word};
use super::journal::Journal;
use super::queue::Queue;
use crate::clock;
use crate::health::Ready;

/// Events that another node is to tell that are kept in case it does not.
const MAX_OWED: usize = 100_000;

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
    hidden: Hidden,
    owed: VecDeque<Owed>,
    /// The nodes that were up in the last diff, of whatever shard.
    nodes: Vec<NodeName>,
}

/// An event of a node that is down, which another node is to tell.
struct Owed {
    since: Instant,
    /// Who is to tell.
    by: String,
    /// Whose presence it was.
    node: NodeName,
    meta_ref: MetaRef,
    record: Record,
}

/// What a diff is told as.
#[derive(Default)]
struct Telling {
    own: Vec<Record>,
    /// Of those who listen; `None` if nobody does.
    seen: Option<Vec<Record>>,
    owed: Vec<Owed>,
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
        down_period: Duration,
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
                hidden: Hidden::new(),
                owed: VecDeque::new(),
                nodes: Vec::new(),
            }),
            down_period,
            n_missed: AtomicU64::new(0),
        }
    }

    /// Returns how many events were left out because this node was too busy.
    pub(super) fn n_missed(&self) -> u64 {
        self.n_missed.load(Ordering::Relaxed)
    }

    fn tell(&self, diff: &PresenceDiff, n_after: usize) {
        let mut state = self.state.lock();
        let round = self.journal.round();
        if let Some(round) = round.filter(|round| *round != state.round) {
            state.round = round;
            state.seen.forget_all();
        }
        if !state.nodes.iter().eq(diff.nodes()) {
            state.nodes = diff.nodes().cloned().collect();
            self.tell_what_is_owed(&mut state);
        }
        let telling = Telling {
            seen: round.map(|_| Vec::new()),
            ..Telling::default()
        };
        let telling = self.telling(diff, n_after, telling, &mut state.hidden);
        let topic = diff.topic();
        self.tell_webhooks(&mut state.own, &telling.own);
        state.owed.extend(telling.owed);
        let n_excess = state.owed.len().saturating_sub(MAX_OWED);
        drop(state.owed.drain(..n_excess));
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

    /// Tells what nodes were to tell that are down now themselves, if this one is their successor.
    fn tell_what_is_owed(&self, state: &mut State) {
        for mut owed in std::mem::take(&mut state.owed) {
            if owed.since.elapsed() > self.down_period * 2 {
                continue; // Whoever was to tell it has.
            }
            let is_up = |name: &str| state.nodes.iter().any(|node| node.as_str() == name);
            if !is_up(&owed.by) {
                let others = state.nodes.iter().filter(|node| **node != owed.node);
                owed.by = home_of(&owed.record.topic, others).map_or_else(String::new, Into::into);
            }
            if owed.by == self.node {
                state.hidden.put(owed.meta_ref, ToldBy::ThisNode);
                self.tell_webhooks(&mut state.own, &[owed.record]);
            } else {
                state.owed.push_back(owed);
            }
        }
    }

    /// Makes records of a diff, for the webhooks and for those who listen, if anybody does.
    fn telling(
        &self,
        diff: &PresenceDiff,
        n_after: usize,
        mut telling: Telling,
        hidden: &mut Hidden,
    ) -> Telling {
        let mut n_presences = count_before(diff, n_after);
        for (at, event) in diff.timed_events() {
            let Some(change) = self.change(diff, event, hidden) else {
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
                    telling.owed.push(Owed {
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

    /// Says what an event is, and whether this node tells of it.
    fn change<'a>(
        &self,
        diff: &'a PresenceDiff,
        event: &'a Event,
        hidden: &mut Hidden,
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
                let told = hidden.take(meta.meta_ref());
                let (is_here, is_back) = (is_here(meta), told == Some(ToldBy::ThisNode));
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
            Event::Updated { old, new, .. } => Change {
                kind: Kind::Updated,
                reason: "updated",
                who: who(new, Some(old), None, None),
                is_own: is_here(new),
                is_topics: false,
                teller: None,
            },
            Event::Left {
                meta,
                last,
                reason,
                was_held,
                ..
            } => {
                // What was not held was told by its node just now, even if that is gone already.
                let is_down =
                    *reason == LeaveReason::NodeDown || *was_held && !diff.has_life_of(meta);
                let is_lost = is_down && !is_here(meta);
                let home = match is_lost {
                    true => home_of(topic, diff.nodes().filter(|node| *node != meta.node())),
                    false => home_of(topic, diff.nodes().chain([meta.node()])),
                };
                let is_home = home == Some(self.node.as_str());
                if is_lost {
                    let by = match is_home {
                        true => ToldBy::ThisNode,
                        false => ToldBy::Another,
                    };
                    hidden.put(meta.meta_ref(), by);
                }
                Change {
                    kind: Kind::Left,
                    reason: reason_word(*reason),
                    who: who(meta, None, None, Some(*last)),
                    is_own: is_here(meta) || is_lost && is_home,
                    is_topics: is_home,
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
