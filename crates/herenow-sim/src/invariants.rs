//! What must hold: after every step of a node, and once it is calm.
//!
//! One file per property, each with its reason and its source. All but the last two look at one
//! node that has just done something.

mod structure;
mod tables;
mod writes;
mod folds;
mod counts;
mod ghosts;
mod goodbyes;
mod graces;
mod deadlines;
mod memory;
mod cost;
mod size;
mod convergence;
mod quiet;

use std::fmt;

use crate::cluster::{Cluster, Node, NodeStep, Outcome, Traffic};
use crate::network::NodeIndex;
use crate::oracle::Oracle;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    invariant: &'static str,
    what: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { invariant, what }
    }

    /// Returns the invariant's name: that of the file that says why it must hold.
    pub fn invariant(&self) -> &'static str {
        self.invariant
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

impl std::error::Error for Violation {}

/// A node that has just done something, and what is true.
#[derive(Clone, Copy)]
struct View<'a> {
    cluster: &'a Cluster,
    oracle: &'a Oracle,
    index: NodeIndex,
    node: &'a Node,
}

/// All invariants, with what they remember.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    tables: tables::Tables,
    folds: folds::Folds,
    ghosts: ghosts::Ghosts,
    goodbyes: goodbyes::Goodbyes,
    graces: graces::Graces,
    cost: cost::Cost,
}

impl Checks {
    /// Forgets what is remembered of a node: it begins anew.
    pub(crate) fn begin(&mut self, index: NodeIndex) {
        self.tables.begin(index);
        self.folds.begin(index);
        self.ghosts.begin(index);
        self.goodbyes.begin(index);
        self.graces.begin(index);
        self.cost.begin(index);
    }

    pub(crate) fn after_write(expected: Outcome, outcome: Outcome) -> Result<(), Violation> {
        writes::check(expected, outcome)
    }

    pub(crate) fn after_step(
        &mut self,
        cluster: &Cluster,
        oracle: &Oracle,
        index: NodeIndex,
        step: &NodeStep,
    ) -> Result<(), Violation> {
        let Some(node) = cluster.node(index) else {
            return Ok(());
        };
        let view = View {
            cluster,
            oracle,
            index,
            node,
        };
        self.tables.check(view, step)?;
        self.folds.check(view, step)?;
        self.ghosts.check(view, step)?;
        self.goodbyes.check(view, step)?;
        self.graces.check(view, step)?;
        self.cost.check(view, step)?;
        size::check(view, step)?;
        deadlines::check(view)?;
        if !step.changes.is_empty() {
            structure::check(view)?;
            counts::check(view)?;
        }
        memory::check(view)
    }

    /// Checks what must hold once everything that was sent has had time to arrive.
    ///
    /// Returns the node at which it does not, too.
    pub(crate) fn when_calm(
        &self,
        cluster: &Cluster,
        oracle: &Oracle,
    ) -> Result<(), (NodeIndex, Violation)> {
        cluster.running().try_for_each(|(index, node)| {
            let view = View {
                cluster,
                oracle,
                index,
                node,
            };
            self.check_calm(view)
                .map_err(|violation| (index, violation))
        })
    }

    fn check_calm(&self, view: View<'_>) -> Result<(), Violation> {
        structure::check(view)?;
        counts::check(view)?;
        self.folds.check_all(view)?;
        convergence::check(view)
    }

    /// Checks what must hold after a time in which nobody did anything.
    pub(crate) fn when_quiet(cluster: &Cluster, before: Traffic) -> Result<(), Violation> {
        quiet::check(cluster, before)
    }
}
