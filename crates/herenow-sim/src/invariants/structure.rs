//! A shard's own structures fit together.
//!
//! Why: a list that is half right lies only later, and far from where it went wrong.
//! Source: `herenow_core::check`.

use super::{View, Violation};

pub(super) fn check(view: View<'_>) -> Result<(), Violation> {
    herenow_core::check(view.node.shard())
        .map_err(|violation| Violation::new("structure", violation.to_string()))
}
