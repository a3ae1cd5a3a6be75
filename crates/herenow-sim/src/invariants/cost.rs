//! The work that deltas make depends on what they span, never on how much is held.
//!
//! Counted, not timed: the entries of tables that were looked at. A delta of so many versions may
//! carry as many rows, name as many that are gone, and overlap as many that are known; the holes
//! that this leaves are closed now and then, at most twice the number of removals. A removal told
//! as "all but these" does walk the table, so this is checked where the owners' history is long
//! enough.
//!
//! Why: in the reference every delta walks the whole table, however small it is; that made large
//! rooms slow. Source: the header of `table.rs` in `herenow-core`; `phoenix_pubsub` pull request 126.

use std::collections::BTreeMap;

use super::{View, Violation};
use crate::cluster::NodeStep;
use crate::network::NodeIndex;

/// Entries looked at for each version that a delta spans, at most.
const PER_VERSION: u64 = 6;
/// A history of this length forgets nothing in any plan.
const LONG_HISTORY: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Cost {
    /// The versions that the deltas spanned which a node took in.
    spans: BTreeMap<NodeIndex, u64>,
}

impl Cost {
    pub(super) fn begin(&mut self, index: NodeIndex) {
        self.spans.remove(&index);
    }

    pub(super) fn check(&mut self, view: View<'_>, step: &NodeStep) -> Result<(), Violation> {
        let span = self.spans.entry(view.index).or_default();
        *span += step.span;
        let n_visited = view.node.shard().stats().n_visited;
        let is_bounded = view.cluster.config().max_history >= LONG_HISTORY;
        if is_bounded && n_visited > *span * PER_VERSION {
            let what = format!("{n_visited} entries were looked at for {span} versions");
            return Err(Violation::new("cost", what));
        }
        Ok(())
    }
}
