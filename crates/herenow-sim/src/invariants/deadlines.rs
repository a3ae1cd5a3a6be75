//! After a deadline was handled and the outputs were drained, the next deadline is later.
//!
//! Why: a host sleeps until the deadline; one that stays in the past makes it spin.
//! Source: the run loop on the front page of `herenow-core`.

use super::{View, Violation};

pub(super) fn check(view: View<'_>) -> Result<(), Violation> {
    let (due, now) = (view.node.shard().poll_timeout(), view.node.shown());
    if due <= now {
        let what = format!("the next deadline is {due} and it is {now} already");
        return Err(Violation::new("deadlines", what));
    }
    Ok(())
}
