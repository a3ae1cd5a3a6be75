//! [`History`]: the owner's bounded memory of its latest removals.
//!
//! Each write that ends a row, an untrack or an update, notes its own version and the version of
//! the row that it ended. As long as the memory reaches back far enough, a reader is told exactly
//! which of its rows are gone, and why; after that it is told which are still alive.

use std::collections::VecDeque;

use crate::diff::LeaveReason;
use crate::row::Version;

/// Where a removal's cause is, above the 56 bits that suffice for a version.
const CAUSE_SHIFT: u32 = 56;

/// Why a row is no longer alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A later row of the same presence took its place.
    Updated,
    /// The presence left.
    Left(LeaveReason),
}

/// One removal, in 16 bytes.
#[derive(Debug, Clone, Copy)]
struct Removal {
    /// The write that removed.
    at: Version,
    /// The write that had made the row, and the cause.
    packed: u64,
}

impl Removal {
    fn new(at: Version, row: Version, cause: Cause) -> Self {
        let code = match cause {
            Cause::Left(reason) => u64::from(reason.code()),
            Cause::Updated => u64::from(u8::MAX),
        };
        Self {
            at,
            packed: row.0 | (code << CAUSE_SHIFT),
        }
    }

    fn row(self) -> Version {
        Version(self.packed & ((1 << CAUSE_SHIFT) - 1))
    }

    fn cause(self) -> Cause {
        let code = u8::try_from(self.packed >> CAUSE_SHIFT).ok();
        let reason = code.and_then(LeaveReason::from_code);
        reason.map_or(Cause::Updated, Cause::Left)
    }
}

/// The latest removals of one replica, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    removals: VecDeque<Removal>,
    /// All removals after this version are remembered.
    complete_since: Version,
    max_removals: usize,
}

impl History {
    pub(crate) fn new(max_removals: usize) -> Self {
        Self {
            removals: VecDeque::new(),
            complete_since: Version::ZERO,
            max_removals,
        }
    }

    /// Notes that the write `at` ended the row that the write `row` had made.
    pub(crate) fn note(&mut self, at: Version, row: Version, cause: Cause) {
        self.removals.push_back(Removal::new(at, row, cause));
        while self.removals.len() > self.max_removals {
            if let Some(forgotten) = self.removals.pop_front() {
                self.complete_since = forgotten.at;
            }
        }
    }

    pub(crate) fn n_removals(&self) -> usize {
        self.removals.len()
    }

    /// Returns the rows made at or before `made` and ended after `after`, ascending; `None` if the
    /// memory does not reach back to `after`. Costs the number of removals after `after`.
    ///
    /// Each comes with the reason of its leave. A row that was updated left for the reason that the
    /// last of its successors did; while one of them is alive, the reason means nothing.
    pub(crate) fn ended(
        &self,
        after: Version,
        made: Version,
    ) -> Option<Vec<(Version, LeaveReason)>> {
        if after < self.complete_since {
            return None;
        }
        let first = self.removals.partition_point(|removal| removal.at <= after);
        let mut ended: Vec<(Version, LeaveReason)> = Vec::new();
        // Successors of rows in `ended`, ascending, and the place of the row there.
        let mut successors: Vec<(Version, usize)> = Vec::new();
        for removal in self.removals.range(first..) {
            let place = if removal.row() <= made {
                ended.push((removal.row(), LeaveReason::Closed));
                ended.len() - 1
            } else {
                let found = successors.binary_search_by_key(&removal.row(), |(row, _)| *row);
                let Ok(found) = found else { continue };
                successors[found].1
            };
            match removal.cause() {
                Cause::Left(reason) => ended[place].1 = reason,
                Cause::Updated => successors.push((removal.at, place)),
            }
        }
        ended.sort_unstable_by_key(|(row, _)| *row);
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Cause = Cause::Left(LeaveReason::Left);

    fn ended(history: &History, after: u64, made: u64) -> Option<Vec<u64>> {
        let ended = history.ended(Version(after), Version(made))?;
        Some(ended.iter().map(|(row, _)| row.0).collect())
    }

    #[test]
    fn tbl_20_a_short_gap_is_answered_exactly_and_a_long_one_not() {
        let mut history = History::new(2);
        history.note(Version(5), Version(1), LEFT);
        history.note(Version(7), Version(2), LEFT);
        assert_eq!(ended(&history, 0, 4), Some(vec![1, 2]));
        assert_eq!(ended(&history, 5, 4), Some(vec![2]));
        assert_eq!(ended(&history, 5, 1), Some(vec![]));
        history.note(Version(9), Version(6), LEFT);
        assert_eq!(ended(&history, 4, 4), None);
        assert_eq!(ended(&history, 5, 8), Some(vec![2, 6]));
    }

    #[test]
    fn tbl_31_a_row_that_was_updated_left_for_the_reason_of_its_last_successor() {
        let mut history = History::new(10);
        history.note(Version(3), Version(1), Cause::Updated);
        history.note(Version(4), Version(2), Cause::Left(LeaveReason::Closed));
        history.note(Version(5), Version(3), Cause::Updated);
        history.note(Version(6), Version(5), Cause::Left(LeaveReason::Evicted));
        let ended = history.ended(Version(2), Version(2));
        let expected = [
            (Version(1), LeaveReason::Evicted),
            (Version(2), LeaveReason::Closed),
        ];
        assert_eq!(ended.as_deref(), Some(&expected[..]));
    }
}
