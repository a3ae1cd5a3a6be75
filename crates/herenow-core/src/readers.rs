//! [`Readers`]: what local readers are told, and for how long a leave is kept from them.
//!
//! A disconnect that was not a leave is often followed by a return: a lost network, a server that
//! is restarted. In topics with a [`Grace`] the last presence of a key that ends like that is
//! *held*: it stays visible and nobody is told, until a presence with the same key arrives from any
//! node (then its join and the leave of the held one are told in one diff) or the grace is over
//! (then it leaves).
//!
//! Grace is the reader's. A row has one writer, and that one's word counts at once: the owner
//! removes it from its own table, tells its peers, and forgets it. Every node then decides for its
//! own readers, by what it knows, whether the key is still here. So nothing depends on the life of
//! the node that a presence was on, nor on the order in which the leave and the return arrive from
//! two different nodes: no node needs to wait for another, agree with it, or be told to let go.
//!
//! What is held may be in a table, of a node that is down, or in none: of an owner that ended, or
//! of a life that is over. A presence that left, or was made to, is never held, nor is one whose
//! key has another presence here. So a key has at most one held row, and no other visible one
//! beside it.
//!
//! A node that has just started knows of no leave before its start. Whoever it first asks for rows
//! tells it, too, whom it holds ([`ShardMessage::Held`](crate::ShardMessage::Held)), each with the
//! time that is left; the newcomer shows those whose key it does not know to be here. This is the
//! one thing that a node says of another's rows. It cannot bring anybody back to life: a held row
//! is in no table, time that is left only gets less, and a node that is older than the longest
//! grace does not listen to it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::diff::{Change, LeaveReason};
use crate::grace::{End, Grace};
use crate::ids::{Key, Topic};
use crate::index::{Index, SlotId};
use crate::pattern::first_match;
use crate::row::Row;
use crate::time::MonoTime;

/// What became of those that were held, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GraceStats {
    pub(crate) n_held: u64,
    pub(crate) n_returned: u64,
    pub(crate) n_over: u64,
    pub(crate) n_refused: u64,
}

/// A row that is visible though its presence has ended.
#[derive(Debug, Clone, Copy)]
struct Held {
    until: MonoTime,
    reason: LeaveReason,
    /// Whether no table has the row any more.
    is_orphan: bool,
}

/// The visible rows of one key in one topic with grace.
#[derive(Debug)]
struct OfKey {
    n_visible: u32,
    held: Option<SlotId>,
}

/// What local readers are told and what is held back from them.
#[derive(Debug)]
pub(crate) struct Readers {
    graces: Vec<(String, Grace)>,
    max_held: usize,
    keys: HashMap<(Topic, Key), OfKey, FixedState>,
    held: BTreeMap<SlotId, Held>,
    due: BTreeSet<(MonoTime, SlotId)>,
    is_expiring: bool,
    changes: Vec<Change>,
    stats: GraceStats,
}

impl Readers {
    pub(crate) fn new(graces: Vec<(String, Grace)>, max_held: usize, hash_seed: u64) -> Self {
        Self {
            graces,
            max_held,
            keys: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            held: BTreeMap::new(),
            due: BTreeSet::new(),
            is_expiring: false,
            changes: Vec::new(),
            stats: GraceStats::default(),
        }
    }

    /// Takes what is to be told.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        mem::take(&mut self.changes)
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    pub(crate) fn stats(&self) -> GraceStats {
        self.stats
    }

    /// Returns how many rows are held.
    pub(crate) fn n_held(&self) -> usize {
        self.held.len()
    }

    /// Returns how many rows are held that no table has.
    pub(crate) fn n_orphans(&self) -> usize {
        let orphans = self.held.values().filter(|held| held.is_orphan);
        orphans.count()
    }

    /// Returns whether the row in a slot is held.
    pub(crate) fn is_held(&self, slot: SlotId) -> bool {
        self.held.contains_key(&slot)
    }

    /// Returns when the first grace is over, unless some are already.
    pub(crate) fn next_due(&self) -> MonoTime {
        if self.is_expiring {
            return MonoTime::MAX;
        }
        self.due.first().map_or(MonoTime::MAX, |(until, _)| *until)
    }

    /// Returns the longest grace there is.
    pub(crate) fn longest(&self) -> Duration {
        let periods = self.graces.iter().map(|(_, grace)| grace.period);
        periods.max().unwrap_or_default()
    }

    /// Returns whether all that is here of a key is a row that is held.
    pub(crate) fn is_in_grace(&self, topic: &Topic, key: &Key) -> bool {
        let of_key = self.find(topic, key);
        of_key.is_some_and(|of_key| of_key.held.is_some())
    }

    /// Returns the rows that are held, with the time that each has left.
    pub(crate) fn held<'a>(
        &'a self,
        now: MonoTime,
        index: &'a Index,
    ) -> impl Iterator<Item = (&'a Arc<Row>, Duration)> {
        let left = move |held: &Held| held.until.duration_since(now);
        self.held
            .iter()
            .map(move |(slot, held)| (index.row(*slot), left(held)))
    }

    /// Tells of a row that has become visible.
    ///
    /// A row that is held under its key has done its duty, and leaves in the same diff. If it is
    /// the very same writing, nothing has happened.
    pub(crate) fn joined(&mut self, slot: SlotId, index: &mut Index) {
        let row = index.row(slot).clone();
        let Some(returned) = self.count(&row) else {
            self.changes.push(Change::Joined(row));
            return;
        };
        self.stats.n_returned += 1;
        let (old, reason) = self.let_go(returned, index);
        if old.meta_ref() != row.meta_ref() {
            self.changes.push(Change::Joined(row));
            self.changes.push(after_grace(old, reason));
        }
    }

    /// Gives up a row that another writing of its presence is about to replace; `None` if it is
    /// hidden.
    pub(crate) fn replace(&mut self, slot: SlotId, index: &mut Index) -> Option<Arc<Row>> {
        let was_visible = index.is_visible(slot);
        if was_visible {
            self.forget(slot, index);
            self.uncount(index.row(slot));
        }
        let row = index.remove(slot);
        was_visible.then_some(row)
    }

    /// Tells of the writing that replaced another.
    pub(crate) fn updated(&mut self, old: Arc<Row>, slot: SlotId, index: &mut Index) {
        let new = index.row(slot).clone();
        let held = self.count(&new);
        self.changes.push(Change::Updated { old, new });
        // Another presence of the key ended between the two, and was not the last after all.
        if let Some(held) = held {
            let (row, reason) = self.let_go(held, index);
            self.changes.push(after_grace(row, reason));
        }
    }

    /// Gives up a row that its table has no more: now, or when its grace is over.
    pub(crate) fn ended(&mut self, now: MonoTime, slot: SlotId, end: End, index: &mut Index) {
        if !index.is_visible(slot) {
            index.remove(slot);
            return;
        }
        if let Some(held) = self.held.get_mut(&slot) {
            match end {
                // Its node is heard again, so this is news.
                End::Told(_) => self.forget(slot, index),
                End::Bye | End::Lost => {
                    held.is_orphan = true;
                    return;
                }
            }
        }
        if self.try_hold(now, slot, end, index, true) {
            return;
        }
        self.uncount(index.row(slot));
        let (row, reason) = (index.remove(slot), end.reason());
        self.changes.push(at_once(row, reason));
    }

    /// Hides a row whose node is down: now, or when its grace is over.
    pub(crate) fn hidden(&mut self, now: MonoTime, slot: SlotId, index: &mut Index) {
        let is_done = !index.is_visible(slot) || self.is_held(slot);
        if is_done || self.try_hold(now, slot, End::Lost, index, false) {
            return;
        }
        let row = index.row(slot).clone();
        self.uncount(&row);
        index.hide(slot);
        self.changes.push(at_once(row, LeaveReason::NodeDown));
    }

    /// Shows a row whose node is up again. Readers of one that was held have missed nothing.
    pub(crate) fn shown(&mut self, slot: SlotId, index: &mut Index) {
        if index.show(slot) {
            self.joined(slot, index);
        } else {
            self.forget(slot, index);
        }
    }

    /// Lets a key go that is in grace. Returns whether it was.
    pub(crate) fn release(
        &mut self,
        topic: &Topic,
        key: &Key,
        reason: LeaveReason,
        index: &mut Index,
    ) -> bool {
        let held = self.find(topic, key).and_then(|of_key| of_key.held);
        let Some(slot) = held else { return false };
        if let Some(held) = self.held.get_mut(&slot) {
            held.reason = reason;
        }
        self.dismiss(slot, index);
        true
    }

    /// Tells of at most `max` whose grace is over; [`is_expiring`](Self::is_expiring) if there are
    /// more.
    pub(crate) fn expire(&mut self, now: MonoTime, max: usize, index: &mut Index) {
        let next = |readers: &Self| readers.due.first().filter(|(at, _)| *at <= now).copied();
        for _ in 0..max {
            let Some((_, slot)) = next(self) else { break };
            self.stats.n_over += 1;
            self.dismiss(slot, index);
        }
        self.is_expiring = next(self).is_some();
    }

    /// Returns whether there are more whose grace is over.
    pub(crate) fn is_expiring(&self) -> bool {
        self.is_expiring
    }

    /// Takes in a row that another node holds, for the time that it has left, unless the key is
    /// here.
    pub(crate) fn adopt(
        &mut self,
        now: MonoTime,
        row: Arc<Row>,
        left: Duration,
        index: &mut Index,
    ) {
        let Some(grace) = self.grace_of(row.topic()) else {
            return;
        };
        let left = left.min(grace.period);
        if left.is_zero() || self.find(row.topic(), row.key()).is_some() || self.is_full() {
            return;
        }
        let slot = index.insert(row);
        let row = index.row(slot).clone();
        self.count(&row);
        self.hold(slot, &row, now + left, LeaveReason::Closed, true);
        self.changes.push(Change::Joined(row));
    }

    /// Holds the last visible row of its key, if this end has a grace.
    fn try_hold(
        &mut self,
        now: MonoTime,
        slot: SlotId,
        end: End,
        index: &Index,
        is_orphan: bool,
    ) -> bool {
        let row = index.row(slot).clone();
        let Some(grace) = self.grace_of(row.topic()) else {
            return false;
        };
        let is_last = self
            .find(row.topic(), row.key())
            .is_some_and(|of_key| of_key.n_visible == 1);
        if !is_last || !end.has_grace(&grace) || self.is_full() {
            return false;
        }
        self.hold(slot, &row, now + grace.period, end.reason(), is_orphan);
        true
    }

    fn is_full(&mut self) -> bool {
        let is_full = self.held.len() >= self.max_held;
        self.stats.n_refused += u64::from(is_full);
        is_full
    }

    fn hold(
        &mut self,
        slot: SlotId,
        row: &Row,
        until: MonoTime,
        reason: LeaveReason,
        is_orphan: bool,
    ) {
        let held = Held {
            until,
            reason,
            is_orphan,
        };
        self.stats.n_held += 1;
        self.held.insert(slot, held);
        self.due.insert((until, slot));
        let place = (row.topic().clone(), row.key().clone());
        if let Some(of_key) = self.keys.get_mut(&place) {
            of_key.held = Some(slot);
        }
    }

    /// Tells of the leave of a row that was held.
    fn dismiss(&mut self, slot: SlotId, index: &mut Index) {
        if let Some(of_key) = self.keys.get_mut(&place_of(index.row(slot))) {
            of_key.held = None;
        }
        let (row, reason) = self.let_go(slot, index);
        self.changes.push(after_grace(row, reason));
    }

    /// Takes a row that was held from the readers; it is no more the held one of its key.
    fn let_go(&mut self, slot: SlotId, index: &mut Index) -> (Arc<Row>, LeaveReason) {
        let held = self
            .held
            .remove(&slot)
            .expect("only what is held is let go");
        self.due.remove(&(held.until, slot));
        let row = index.row(slot).clone();
        self.uncount(&row);
        if held.is_orphan {
            index.remove(slot);
        } else {
            index.hide(slot);
        }
        (row, held.reason)
    }

    /// Goes on as if the row had not been held, if it was.
    fn forget(&mut self, slot: SlotId, index: &Index) {
        let Some(held) = self.held.remove(&slot) else {
            return;
        };
        self.due.remove(&(held.until, slot));
        if let Some(of_key) = self.keys.get_mut(&place_of(index.row(slot))) {
            of_key.held = None;
        }
    }

    /// Counts a visible row, and returns the row that was held under its key.
    fn count(&mut self, row: &Row) -> Option<SlotId> {
        self.grace_of(row.topic())?;
        let of_key = self.keys.entry(place_of(row)).or_insert(OfKey {
            n_visible: 0,
            held: None,
        });
        of_key.n_visible += 1;
        of_key.held.take()
    }

    fn uncount(&mut self, row: &Row) {
        if self.graces.is_empty() {
            return;
        }
        if let Entry::Occupied(mut of_key) = self.keys.entry(place_of(row)) {
            of_key.get_mut().n_visible -= 1;
            if of_key.get().n_visible == 0 {
                of_key.remove();
            }
        }
    }

    fn find(&self, topic: &Topic, key: &Key) -> Option<&OfKey> {
        if self.keys.is_empty() {
            return None;
        }
        self.keys.get(&(topic.clone(), key.clone()))
    }

    /// Returns the grace of a topic, if it has one: that of the first pattern that matches.
    fn grace_of(&self, topic: &Topic) -> Option<Grace> {
        let grace = first_match(&self.graces, topic.as_str()).copied();
        grace.filter(|grace| !grace.period.is_zero())
    }

    /// Returns the first broken rule of this structure, if one is broken.
    pub(crate) fn broken_rule(&self, index: &Index) -> Option<&'static str> {
        if self.due.len() != self.held.len() {
            return Some("a held row has no deadline, or more than one");
        }
        for (slot, held) in &self.held {
            if !index.is_visible(*slot) {
                return Some("a held row is hidden");
            }
            if !self.due.contains(&(held.until, *slot)) {
                return Some("a held row's deadline is not noted");
            }
            let row = index.row(*slot);
            let of_key = self.find(row.topic(), row.key());
            if !of_key.is_some_and(|of_key| of_key.held == Some(*slot) && of_key.n_visible == 1) {
                return Some("a held row is not the only one of its key");
            }
        }
        let n_held = self.keys.values().filter(|of_key| of_key.held.is_some());
        if n_held.count() != self.held.len() {
            return Some("a key counts as held without a row that is");
        }
        let with_grace = index
            .topics()
            .filter(|(topic, _)| self.grace_of(topic).is_some());
        let n_visible: usize = with_grace.map(|(_, n_rows)| n_rows).sum();
        let n_counted: usize = self
            .keys
            .values()
            .map(|of_key| of_key.n_visible as usize)
            .sum();
        (n_visible != n_counted).then_some("the visible rows of keys are counted wrong")
    }
}

/// The leave of a row that was not held.
fn at_once(row: Arc<Row>, reason: LeaveReason) -> Change {
    Change::Left {
        row,
        reason,
        was_held: false,
    }
}

/// The leave of a row that was held.
fn after_grace(row: Arc<Row>, reason: LeaveReason) -> Change {
    Change::Left {
        row,
        reason,
        was_held: true,
    }
}

fn place_of(row: &Row) -> (Topic, Key) {
    (row.topic().clone(), row.key().clone())
}
