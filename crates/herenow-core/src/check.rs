//! Every structural invariant of a shard, in one call for tests and the simulator.

use crate::shard::Shard;

/// A rule of the shard's own structures that does not hold: a bug of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("broken invariant: {rule}")]
pub struct Violation {
    /// The rule, as a sentence of what is wrong.
    pub rule: &'static str,
}

/// Checks all structural invariants of a shard. Costs the number of its rows.
///
/// # Errors
///
/// [`Violation`] with the first rule that is broken.
pub fn check(shard: &Shard) -> Result<(), Violation> {
    match shard.broken_rule() {
        None => Ok(()),
        Some(rule) => Err(Violation { rule }),
    }
}
