//! [`Delta`]: what happened at one replica between two versions; [`Known`]: what a reader has.

use std::sync::Arc;

use roaring::RoaringTreemap;

use crate::diff::{LeaveReason, REASON_BITS};
use crate::ids::Topic;
use crate::row::{Row, Version};

/// What happened at one replica in the range `(from, to]`, as its owner knew it at `as_of`.
///
/// It carries every row that was written in the range and is alive at `as_of`, and which rows of
/// `from` or earlier are gone. The latter is complete for removals after `base`: a reader that
/// does not know of the removals up to `base` cannot use it.
///
/// A delta of new writes has `base == from` and `as_of == to`. Only an answer that is cut into
/// chunks has other values: each chunk has a `base` that is the `as_of` of the one before, so that
/// it need not repeat what that one said, and cannot be mistaken by a reader that missed it.
///
/// What is gone is told of the rows in `(after, until]`: all up to `from`, unless that is too much
/// for one message. Then it is told piece by piece, in deltas that are [cut](Self::is_cut): they
/// bring no rows and have `to == from`. The last piece comes with rows again; they end at the
/// version as of which the first was told, since only up to there all pieces are true together.
#[derive(Debug, Clone)]
pub struct Delta {
    pub(crate) from: Version,
    pub(crate) to: Version,
    pub(crate) base: Version,
    pub(crate) as_of: Version,
    /// Ascending by version, all in the range.
    pub(crate) rows: Vec<Arc<Row>>,
    pub(crate) gone: Gone,
    pub(crate) after: Version,
    pub(crate) until: Version,
}

/// Which rows of `from` or earlier are gone; of those that the delta tells about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Gone {
    /// These, for these reasons; ascending.
    Exactly(Vec<(Version, LeaveReason)>),
    /// All but these.
    AllBut(RoaringTreemap),
}

/// How far a reader has got with what is gone, when it was too much for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruning {
    /// The rows up to this version are done.
    pub to: Version,
    /// The owner's version as of which they are, at least.
    pub as_of: Version,
}

/// What a reader has of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// The version up to which it is complete.
    pub(crate) seen: Version,
    /// The owner's version as of which it has taken out what is gone.
    pub(crate) pruned: Version,
    /// Of which rows it has taken out more, in the middle of a long list.
    pub(crate) pruning: Option<Pruning>,
}

impl Known {
    /// Returns what a reader that has this has once it has applied the delta; `None` for a gap.
    pub(crate) fn and(self, delta: &Delta) -> Option<Self> {
        if delta.from > self.seen || delta.base > self.pruned {
            return None;
        }
        let mut as_of = delta.as_of;
        if delta.after > Version::ZERO {
            let before = self.pruning.filter(|before| before.to >= delta.after)?;
            as_of = as_of.min(before.as_of);
        }
        if delta.is_cut() {
            let to = delta.until;
            let pruning = Some(Pruning { to, as_of });
            return Some(Self { pruning, ..self });
        }
        // Rows up to `to` with a list as of an earlier version: what went in between would stay.
        (delta.to <= as_of).then_some(Self {
            seen: delta.to,
            pruned: as_of,
            pruning: None,
        })
    }
}

/// What a row costs on the wire besides its texts, about.
const ROW_OVERHEAD_BYTES: usize = 16;

/// About how many bytes rows need in a delta, one after the other.
#[derive(Debug, Default)]
pub(crate) struct RowSizes<'a> {
    n_bytes: usize,
    topic: Option<&'a Topic>,
}

impl<'a> RowSizes<'a> {
    /// Adds a row and returns the sum. A topic's text is counted again where another stood between.
    pub(crate) fn add(&mut self, row: &'a Row) -> usize {
        self.n_bytes += ROW_OVERHEAD_BYTES + row.key().as_str().len() + row.meta().as_bytes().len();
        if self.topic != Some(row.topic()) {
            self.n_bytes += row.topic().as_str().len();
            self.topic = Some(row.topic());
        }
        self.n_bytes
    }
}

/// How many bytes a number takes on the wire.
fn number_bytes(number: u64) -> usize {
    match number {
        0..0x18 => 1,
        0x18..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

/// The most bytes that a list of removals or a set of versions takes besides its entries.
const LIST_BYTES: usize = 16;
/// The most bytes that a set takes for each block of 65,536 versions, besides these.
const BLOCK_BYTES: usize = 24;
/// From so many versions on a block is a bitmap, which does not grow.
const MAX_IN_BLOCK: usize = 4096;

impl Gone {
    /// Keeps as many of the removals as fit into about `max_bytes`, at least one.
    ///
    /// Returns the last that is kept if there are more.
    pub(crate) fn exactly(
        mut rows: Vec<(Version, LeaveReason)>,
        max_bytes: usize,
    ) -> (Self, Option<Version>) {
        let (mut n_bytes, mut before) = (LIST_BYTES, 0);
        let too_many = rows.iter().position(|(row, _)| {
            n_bytes += number_bytes((row.0 - before) << REASON_BITS);
            before = row.0;
            n_bytes > max_bytes
        });
        let n_kept = too_many.map_or(rows.len(), |at| at.max(1));
        let is_cut = n_kept < rows.len();
        rows.truncate(n_kept);
        let last = rows.last().map(|(row, _)| *row).filter(|_| is_cut);
        (Self::Exactly(rows), last)
    }

    /// Makes the set of as many of these ascending versions as fit into about `max_bytes`.
    ///
    /// Returns the last that is in if there are more.
    pub(crate) fn all_but(
        alive: impl Iterator<Item = Version>,
        max_bytes: usize,
    ) -> (Self, Option<Version>) {
        let mut versions = RoaringTreemap::new();
        let (mut n_bytes, mut block, mut n_in_block) = (LIST_BYTES, None, 0);
        let mut cut = None;
        for version in alive {
            if block != Some(version.0 >> 16) {
                n_bytes += BLOCK_BYTES;
                block = Some(version.0 >> 16);
                n_in_block = 0;
            }
            n_in_block += 1;
            if n_in_block <= MAX_IN_BLOCK {
                n_bytes += 2;
            }
            if n_bytes > max_bytes && !versions.is_empty() {
                cut = versions.max().map(Version);
                break;
            }
            versions.insert(version.0);
        }
        versions.optimize();
        (Self::AllBut(versions), cut)
    }

    /// Returns about how many bytes it needs on the wire.
    pub(crate) fn approximate_bytes(&self) -> usize {
        match self {
            Self::Exactly(rows) => {
                let mut before = 0;
                let steps = rows.iter().map(|(row, _)| {
                    let step = row.0 - before;
                    before = row.0;
                    number_bytes(step << REASON_BITS)
                });
                LIST_BYTES + steps.sum::<usize>()
            }
            Self::AllBut(alive) => LIST_BYTES + alive.serialized_size(),
        }
    }
}

impl Delta {
    /// Returns the version after which this begins.
    pub fn from(&self) -> Version {
        self.from
    }

    /// Returns the version up to which a reader is complete once it has applied this.
    pub fn to(&self) -> Version {
        self.to
    }

    /// Returns the owner's version when this was made: more is to be had if it is after `to`.
    pub fn as_of(&self) -> Version {
        self.as_of
    }

    /// Returns how many rows it carries.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Returns how many rows it speaks of one by one.
    pub(crate) fn n_entries(&self) -> usize {
        match &self.gone {
            Gone::Exactly(gone) => self.rows.len() + gone.len(),
            Gone::AllBut(_) => self.rows.len(),
        }
    }

    /// Returns whether this is only a piece of what is gone, and more follows before any row.
    pub fn is_cut(&self) -> bool {
        self.until < self.from
    }

    /// Returns about how many bytes it needs on the wire.
    pub fn approximate_bytes(&self) -> usize {
        let mut sizes = RowSizes::default();
        let rows = self.rows.iter().map(|row| sizes.add(row)).last();
        rows.unwrap_or_default() + self.gone.approximate_bytes()
    }

    /// Returns whether what it says of itself fits together. A peer's delta may not.
    pub(crate) fn is_well_formed(&self) -> bool {
        let Self {
            from,
            to,
            base,
            as_of,
            rows,
            gone,
            after,
            until,
        } = self;
        let moves = match self.is_cut() {
            true => from == to && rows.is_empty() && after < until,
            false => from < to && after <= until,
        };
        let ordered = moves && until <= from && to <= as_of && base <= as_of;
        let rising = rows.is_sorted_by(|a, b| a.version() < b.version());
        let first_after = rows.first().is_none_or(|row| row.version() > *from);
        let last_within = rows.last().is_none_or(|row| row.version() <= *to);
        let replaces_older = rows.iter().all(|row| row.prev_or_zero() < row.version());
        let gone_before = match gone {
            Gone::Exactly(rows) => {
                rows.is_sorted_by(|(a, _), (b, _)| a < b)
                    && rows.first().is_none_or(|(first, _)| first > after)
                    && rows.last().is_none_or(|(last, _)| last <= until)
            }
            Gone::AllBut(_) => true,
        };
        ordered && rising && first_after && last_within && replaces_older && gone_before
    }
}
