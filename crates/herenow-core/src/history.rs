//! [`History`]: the owner's bounded memory of its latest removals.
//!
//! Each write that ends a row, an untrack or an update, notes its own version and the version of
//! the row that it ended. As long as the memory reaches back far enough, a reader is told exactly
//! which of its rows are gone; after that it is told which are still alive.

use std::collections::VecDeque;

use crate::row::Version;

/// One removal.
#[derive(Debug, Clone, Copy)]
struct Removal {
    /// The write that removed.
    at: Version,
    /// The write that had made the row.
    row: Version,
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
    pub(crate) fn note(&mut self, at: Version, row: Version) {
        self.removals.push_back(Removal { at, row });
        while self.removals.len() > self.max_removals {
            if let Some(forgotten) = self.removals.pop_front() {
                self.complete_since = forgotten.at;
            }
        }
    }

    /// Returns the rows made at or before `made` and ended after `after`, ascending; `None` if the
    /// memory does not reach back to `after`. Costs the number of removals after `after`.
    pub(crate) fn ended(&self, after: Version, made: Version) -> Option<Vec<Version>> {
        if after < self.complete_since {
            return None;
        }
        let first = self.removals.partition_point(|removal| removal.at <= after);
        let later = self.removals.range(first..);
        let mut ended: Vec<Version> = later
            .filter(|removal| removal.row <= made)
            .map(|removal| removal.row)
            .collect();
        ended.sort_unstable();
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tbl_20_a_short_gap_is_answered_exactly_and_a_long_one_not() {
        let mut history = History::new(2);
        history.note(Version(5), Version(1));
        history.note(Version(7), Version(2));
        assert_eq!(
            history.ended(Version::ZERO, Version(4)),
            Some(vec![Version(1), Version(2)])
        );
        assert_eq!(
            history.ended(Version(5), Version(4)),
            Some(vec![Version(2)])
        );
        assert_eq!(history.ended(Version(5), Version(1)), Some(vec![]));
        history.note(Version(9), Version(6));
        assert_eq!(history.ended(Version(4), Version(4)), None);
        assert_eq!(
            history.ended(Version(5), Version(8)),
            Some(vec![Version(2), Version(6)])
        );
    }
}
