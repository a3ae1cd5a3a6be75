//! A write takes exactly one version, or is refused and takes none.
//!
//! Why: a version without a write, or a write without a version, is a hole that every reader would
//! ask for in vain. A presence that is there is not tracked twice; one that is not is not updated.
//! Source: `herenow_core::Shard`; `Phoenix.Tracker.track/5` and `update/5` for what is refused.

use super::Violation;
use crate::cluster::Outcome;

pub(super) fn check(expected: Outcome, outcome: Outcome) -> Result<(), Violation> {
    if outcome == expected {
        return Ok(());
    }
    let what = format!("a write came to {outcome:?}, it should come to {expected:?}");
    Err(Violation::new("writes", what))
}
