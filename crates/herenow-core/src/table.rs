//! [`Table`]: one replica's rows, as this node holds them, and how far they are complete.
//!
//! A table moves forward in its replica's history and never back. With `seen` the version up to
//! which it is complete and `pruned >= seen` the version of the owner as of which gone rows were
//! taken out, it holds no row that was gone at `pruned`, lacks none that was alive at `seen` and
//! still is, and equals the owner's rows once `seen` is the owner's version. In the middle of a
//! list of removals that comes in pieces, `pruning` says of which rows more were taken out.
//!
//! Rows are noted in a log that ascends by version. New rows always have a version above all that
//! are there, so the log only grows at its end; a row that goes leaves a hole, and a log that is
//! half holes is compacted. Finding a version is a binary search; nothing else in an
//! [`apply`](Table::apply) depends on the size of the table, except a removal told as "all but
//! these", which walks the part of the log that it speaks of.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringTreemap;

use crate::delta::{Delta, Gone, Known, RowSizes};
use crate::diff::LeaveReason;
use crate::grace::End;
use crate::history::History;
use crate::index::{Index, SlotId};
use crate::readers::Readers;
use crate::row::{Replica, Row, Version};
use crate::time::MonoTime;

/// Why a row left whose owner does not remember why: most end with their owner.
const UNKNOWN: LeaveReason = LeaveReason::Closed;
/// Logs shorter than this are not worth compacting.
const MIN_COMPACT: usize = 64;

/// One replica's rows.
#[derive(Debug)]
pub(crate) struct Table {
    log: Vec<Entry>,
    n_holes: usize,
    known: Known,
    /// Entries looked at to apply deltas, since it was last asked.
    n_visited: u64,
    replica: Arc<Replica>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    version: Version,
    slot: SlotId,
}

impl Entry {
    fn is_hole(self) -> bool {
        self.slot == SlotId::NONE
    }
}

/// What became of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It brought the table forward.
    Forward,
    /// It said nothing that was not known.
    Stale,
    /// Something before it is missing.
    Gap,
}

impl Table {
    pub(crate) fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            log: Vec::new(),
            n_holes: 0,
            known: Known::default(),
            n_visited: 0,
        }
    }

    /// Returns the version up to which the table is complete.
    pub(crate) fn seen(&self) -> Version {
        self.known.seen
    }

    /// Returns how far the table is complete, and its owner is to be asked from.
    pub(crate) fn known(&self) -> Known {
        self.known
    }

    /// Returns how many rows the table holds.
    pub(crate) fn n_rows(&self) -> usize {
        self.log.len() - self.n_holes
    }

    /// Returns how many entries deltas made it look at since it was last asked.
    pub(crate) fn take_n_visited(&mut self) -> u64 {
        mem::take(&mut self.n_visited)
    }

    /// Returns the slots of the rows, ascending by version.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotId> {
        let present = self.log.iter().filter(|entry| !entry.is_hole());
        present.map(|entry| entry.slot)
    }

    /// Returns the slots of the rows among the next `max` entries after this version, and the last
    /// entry's version if more follow.
    pub(crate) fn slots_after(
        &self,
        after: Version,
        max: usize,
    ) -> (impl Iterator<Item = SlotId> + use<'_>, Option<Version>) {
        let first = self.log.partition_point(|entry| entry.version <= after);
        let end = self.log.len().min(first.saturating_add(max));
        let entries = &self.log[first..end];
        let present = entries.iter().filter(|entry| !entry.is_hole());
        let more = end < self.log.len();
        let last = entries.last().map(|entry| entry.version);
        (present.map(|entry| entry.slot), last.filter(|_| more))
    }

    /// Takes out the row of the latest version; `None` if there is none left.
    pub(crate) fn pop(&mut self) -> Option<SlotId> {
        loop {
            let entry = self.log.pop()?;
            if !entry.is_hole() {
                return Some(entry.slot);
            }
            self.n_holes -= 1;
        }
    }

    /// Notes one of the owner's own writes, which may make a row and may end one.
    pub(crate) fn write(&mut self, version: Version, made: Option<SlotId>, ended: Option<Version>) {
        if let Some(ended) = ended {
            self.take(ended);
        }
        if let Some(slot) = made {
            self.log.push(Entry { version, slot });
        }
        self.known.seen = version;
        self.known.pruned = version;
    }

    /// Brings the table forward by a delta that is well formed, and tells readers what changed.
    ///
    /// Costs the size of the delta, times the logarithm of the table's for each removal.
    pub(crate) fn apply(
        &mut self,
        now: MonoTime,
        delta: Delta,
        index: &mut Index,
        readers: &mut Readers,
    ) -> Applied {
        if self.has(&delta) {
            return Applied::Stale;
        }
        let Some(known) = self.known.and(&delta) else {
            return Applied::Gap;
        };
        let mut left = Vec::new();
        match &delta.gone {
            Gone::Exactly(rows) => {
                let taken = rows.iter().map(|(row, reason)| (self.take(*row), *reason));
                left.extend(taken.filter_map(|(slot, reason)| Some((slot?, reason))));
            }
            Gone::AllBut(alive) => {
                self.take_all_but(alive, delta.after, delta.until, &mut left);
            }
        }
        self.n_visited += delta.n_entries() as u64;
        let seen = self.known.seen;
        let n_known = delta.rows.partition_point(|row| row.version() <= seen);
        self.take_overlapped(delta.from, &delta.rows[..n_known], &mut left);
        let joined: Vec<Arc<Row>> = delta.rows.into_iter().skip(n_known).collect();
        // The same presence in both is an update.
        let mut replaced = replaced_rows(&left, &joined, index);
        for ((slot, reason), new) in left.into_iter().zip(replaced.by_left) {
            match new {
                Some(at) => replaced.by_joined[at] = readers.replace(slot, index),
                None => readers.ended(now, slot, End::Told(reason), index),
            }
        }
        for (row, old) in joined.into_iter().zip(replaced.by_joined) {
            let slot = self.insert(row, index);
            match old {
                Some(old) => readers.updated(old, slot, index),
                None => readers.joined(slot, index),
            }
        }
        self.known = known;
        Applied::Forward
    }

    /// Makes the delta that a reader lacks, of about `max_bytes` and at least one row or removal.
    ///
    /// `None` if it lacks nothing. Only for the owner's own table. Costs the size of the answer,
    /// and the size of the table up to what the reader has when the history does not reach back.
    pub(crate) fn extract(
        &self,
        reader: Known,
        history: &History,
        index: &Index,
        max_bytes: usize,
    ) -> Option<Delta> {
        let (seen, version) = (reader.seen, self.known.seen);
        if seen >= version {
            return None;
        }
        let pruning = reader.pruning.filter(|pruning| {
            pruning.to < seen && pruning.as_of > seen && pruning.as_of <= version
        });
        let after = pruning.map_or(Version::ZERO, |pruning| pruning.to);
        let base = reader.pruned.clamp(seen, version);
        let (base, (gone, cut)) = match history.ended(base, seen) {
            Some(mut ended) => {
                ended.retain(|(row, _)| *row > after);
                (base, Gone::exactly(ended, max_bytes))
            }
            None => {
                let alive = self.entries(after, seen).map(|entry| entry.version);
                (Version::ZERO, Gone::all_but(alive, max_bytes))
            }
        };
        let (rows, to) = match cut {
            Some(_) => (Vec::new(), seen),
            None => {
                let last = pruning.map_or(version, |pruning| pruning.as_of);
                let max_bytes = max_bytes.saturating_sub(gone.approximate_bytes());
                self.rows_within(seen, last, index, max_bytes)
            }
        };
        Some(Delta {
            from: seen,
            to,
            base,
            as_of: version,
            rows,
            gone,
            after,
            until: cut.unwrap_or(seen),
        })
    }

    /// Returns the rows in `(from, to]`, or the first of them, and the version that they reach.
    fn rows_within(
        &self,
        from: Version,
        to: Version,
        index: &Index,
        max_bytes: usize,
    ) -> (Vec<Arc<Row>>, Version) {
        let mut rows: Vec<Arc<Row>> = Vec::new();
        let mut sizes = RowSizes::default();
        for entry in self.entries(from, to) {
            let row = index.row(entry.slot);
            if sizes.add(row) > max_bytes
                && let Some(last) = rows.last()
            {
                let reached = last.version();
                return (rows, reached);
            }
            rows.push(row.clone());
        }
        (rows, to)
    }

    /// Returns what the log has in `(from, to]`, without the holes.
    fn entries(&self, from: Version, to: Version) -> impl Iterator<Item = &Entry> {
        let entries = self.log[self.places(from, to)].iter();
        entries.filter(|entry| !entry.is_hole())
    }

    fn places(&self, from: Version, to: Version) -> Range<usize> {
        let first = self.log.partition_point(|entry| entry.version <= from);
        let end = self.log.partition_point(|entry| entry.version <= to);
        first..end.max(first)
    }

    /// Returns whether the delta says nothing that is not known.
    fn has(&self, delta: &Delta) -> bool {
        let Known { seen, pruning, .. } = self.known;
        if delta.is_cut() {
            delta.from < seen || pruning.is_some_and(|done| delta.until <= done.to)
        } else {
            delta.to <= seen
        }
    }

    /// Returns whose rows these are.
    pub(crate) fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Takes in a row above all that are there.
    fn insert(&mut self, mut row: Arc<Row>, index: &mut Index) -> SlotId {
        if let Some(row) = Arc::get_mut(&mut row) {
            row.adopt_replica(&self.replica);
        }
        let version = row.version();
        let slot = index.insert(row);
        self.log.push(Entry { version, slot });
        slot
    }

    /// Takes the row of this version out of the log, if it is there.
    fn take(&mut self, version: Version) -> Option<SlotId> {
        let at = self
            .log
            .binary_search_by_key(&version, |entry| entry.version)
            .ok()?;
        let slot = self.take_at(at)?;
        self.compact_if_worth();
        Some(slot)
    }

    fn take_all_but(
        &mut self,
        alive: &RoaringTreemap,
        after: Version,
        until: Version,
        left: &mut Vec<(SlotId, LeaveReason)>,
    ) {
        let places = self.places(after, until);
        self.n_visited += places.len() as u64;
        for at in places {
            if !alive.contains(self.log[at].version.0) {
                left.extend(self.take_at(at).map(|slot| (slot, UNKNOWN)));
            }
        }
        self.compact_if_worth();
    }

    /// Takes out what is held in `(from, seen]` and is not among `known`, which ascends.
    fn take_overlapped(
        &mut self,
        from: Version,
        known: &[Arc<Row>],
        left: &mut Vec<(SlotId, LeaveReason)>,
    ) {
        let mut known = known.iter().map(|row| row.version()).peekable();
        let first = self.log.partition_point(|entry| entry.version <= from);
        self.n_visited += (self.log.len() - first) as u64;
        for at in first..self.log.len() {
            let version = self.log[at].version;
            while known.next_if(|&known| known < version).is_some() {}
            if known.peek() != Some(&version) {
                left.extend(self.take_at(at).map(|slot| (slot, UNKNOWN)));
            }
        }
        self.compact_if_worth();
    }

    fn take_at(&mut self, at: usize) -> Option<SlotId> {
        let entry = &mut self.log[at];
        if entry.is_hole() {
            return None;
        }
        self.n_holes += 1;
        Some(mem::replace(&mut entry.slot, SlotId::NONE))
    }

    fn compact_if_worth(&mut self) {
        if self.log.len() >= MIN_COMPACT && self.n_holes * 2 > self.log.len() {
            self.n_visited += self.log.len() as u64;
            self.log.retain(|entry| !entry.is_hole());
            self.log.shrink_to(self.log.len() * 2);
            self.n_holes = 0;
        }
    }

    /// Returns the first broken rule of this structure, if one is broken.
    pub(crate) fn broken_rule(&self, index: &Index) -> Option<&'static str> {
        if !self.log.is_sorted_by(|a, b| a.version < b.version) {
            return Some("a log does not ascend");
        }
        let n_holes = self.log.iter().filter(|entry| entry.is_hole()).count();
        if n_holes != self.n_holes {
            return Some("the number of holes in a log is wrong");
        }
        if self.known.pruned < self.known.seen {
            return Some("a table is pruned to less than it has seen");
        }
        for entry in self.log.iter().filter(|entry| !entry.is_hole()) {
            if entry.version > self.known.seen {
                return Some("a table holds a row above what it has seen");
            }
            if index.row(entry.slot).version() != entry.version {
                return Some("a log points at another row");
            }
        }
        None
    }
}

/// Which row that left was replaced by which that joined.
struct Replaced {
    /// For each that left, where its successor is among those that joined.
    by_left: Vec<Option<usize>>,
    /// For each that joined, the row it replaced; not filled in yet.
    by_joined: Vec<Option<Arc<Row>>>,
}

fn replaced_rows(left: &[(SlotId, LeaveReason)], joined: &[Arc<Row>], index: &Index) -> Replaced {
    let mut replaced = Replaced {
        by_left: vec![None; left.len()],
        by_joined: vec![None; joined.len()],
    };
    if left.is_empty() || joined.is_empty() {
        return replaced;
    }
    // A successor of a row that no reader saw is a join.
    let visible = |slot| index.is_visible(slot).then(|| index.row(slot));
    if let ([(old, _)], [new]) = (left, joined) {
        let is_same = visible(*old).is_some_and(|old| old.is_same_presence(new));
        replaced.by_left[0] = is_same.then_some(0);
        return replaced;
    }
    // Ordered, since the keys are a peer's and could be made to collide.
    let keyed = joined.iter().enumerate();
    let mut successors: BTreeMap<_, _> = keyed
        .map(|(at, row)| ((row.owner(), row.key(), row.topic()), at))
        .collect();
    for ((slot, _), successor) in left.iter().zip(&mut replaced.by_left) {
        *successor = visible(*slot)
            .and_then(|row| successors.remove(&(row.owner(), row.key(), row.topic())));
    }
    replaced
}
