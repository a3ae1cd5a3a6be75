//! [`Delta`]: what happened at one replica between two versions.

use std::mem;
use std::sync::Arc;

use roaring::RoaringTreemap;

use crate::diff::LeaveReason;
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
#[derive(Debug, Clone)]
pub struct Delta {
    pub(crate) from: Version,
    pub(crate) to: Version,
    pub(crate) base: Version,
    pub(crate) as_of: Version,
    /// Ascending by version, all in the range.
    pub(crate) rows: Vec<Arc<Row>>,
    pub(crate) gone: Gone,
}

/// Which rows of `from` or earlier are gone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Gone {
    /// These, for these reasons; ascending.
    Exactly(Vec<(Version, LeaveReason)>),
    /// All but these.
    AllBut(RoaringTreemap),
}

/// What a row costs on the wire besides its texts, about.
const ROW_OVERHEAD_BYTES: usize = 16;

/// About how many bytes a row needs in a delta.
pub(crate) fn row_bytes(row: &Row) -> usize {
    ROW_OVERHEAD_BYTES + row.key().as_str().len() + row.meta().as_bytes().len()
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

    /// Returns about how many bytes it needs on the wire, without the topics' texts.
    pub fn approximate_bytes(&self) -> usize {
        let rows: usize = self.rows.iter().map(|row| row_bytes(row)).sum();
        let gone = match &self.gone {
            Gone::Exactly(versions) => versions.len() * mem::size_of::<Version>(),
            Gone::AllBut(alive) => alive.serialized_size(),
        };
        rows + gone
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
        } = self;
        let ordered = from < to && to <= as_of && base <= as_of;
        let rising = rows.is_sorted_by(|a, b| a.version() < b.version());
        let first_after = rows.first().is_none_or(|row| row.version() > *from);
        let last_within = rows.last().is_none_or(|row| row.version() <= *to);
        let replaces_older = rows.iter().all(|row| row.prev_or_zero() < row.version());
        let gone_before = match gone {
            Gone::Exactly(rows) => {
                rows.is_sorted_by(|(a, _), (b, _)| a < b)
                    && rows.last().is_none_or(|(last, _)| last <= from)
            }
            Gone::AllBut(_) => true,
        };
        ordered && rising && first_after && last_within && replaces_older && gone_before
    }
}
