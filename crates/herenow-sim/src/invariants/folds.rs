//! The diffs, folded over the empty list, are the list; no ref leaves that is not there, none joins
//! that is.
//!
//! Why: a client only ever sees one state and then diffs. What the diffs do not say it never
//! learns; a leave without a join, or a second join, is shown to people as a ghost or a twin.
//! Source: `Phoenix.Presence` (`handle_diff/2`) and the fold of `phoenix.js`; `phoenix_pubsub`
//! issues 148 (a join without a leave) and 182 (leave and rejoin inside one window).

use std::collections::{BTreeMap, BTreeSet};

use herenow_core::{Change, MetaRef, Row, Topic};

use super::{View, Violation};
use crate::cluster::NodeStep;
use crate::network::NodeIndex;

/// What one reader that has listened from the beginning believes.
#[derive(Debug, Default)]
struct Fold {
    topics: BTreeMap<Topic, BTreeSet<MetaRef>>,
    n_refs: usize,
}

#[derive(Debug, Default)]
pub(super) struct Folds {
    folds: BTreeMap<NodeIndex, Fold>,
}

impl Folds {
    pub(super) fn begin(&mut self, index: NodeIndex) {
        self.folds.insert(index, Fold::default());
    }

    pub(super) fn check(&mut self, view: View<'_>, step: &NodeStep) -> Result<(), Violation> {
        let fold = self.folds.entry(view.index).or_default();
        let mut touched = BTreeSet::new();
        for change in &step.changes {
            fold.take_in(change).map_err(violation)?;
            touched.insert(change.topic());
        }
        for topic in touched {
            fold.compare(view, topic)?;
        }
        let n_rows = view.node.shard().n_rows();
        if fold.n_refs != n_rows {
            let what = format!(
                "the diffs add up to {} rows, {n_rows} are listed",
                fold.n_refs
            );
            return Err(violation(what));
        }
        Ok(())
    }

    /// Compares all topics, also those that no diff spoke of.
    pub(super) fn check_all(&self, view: View<'_>) -> Result<(), Violation> {
        let Some(fold) = self.folds.get(&view.index) else {
            return Ok(());
        };
        let listed = view.node.shard().topics().map(|(topic, _)| topic);
        let topics: BTreeSet<&Topic> = listed.chain(fold.topics.keys()).collect();
        topics
            .into_iter()
            .try_for_each(|topic| fold.compare(view, topic))
    }
}

impl Fold {
    fn take_in(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::Joined(row) => self.join(row),
            Change::Updated { old, new } => {
                let is_same = old.topic() == new.topic()
                    && old.key() == new.key()
                    && old.owner() == new.owner()
                    && old.replica() == new.replica();
                if !is_same || old.version() >= new.version() {
                    return Err(format!("an update from {old:?} to {new:?}"));
                }
                self.leave(old)?;
                self.join(new)
            }
            Change::Left { row, .. } => self.leave(row),
        }
    }

    fn join(&mut self, row: &Row) -> Result<(), String> {
        let refs = self.topics.entry(row.topic().clone()).or_default();
        if !refs.insert(row.meta_ref()) {
            return Err(format!("{row:?} joined twice"));
        }
        self.n_refs += 1;
        Ok(())
    }

    fn leave(&mut self, row: &Row) -> Result<(), String> {
        let refs = self.topics.get_mut(row.topic());
        if !refs.is_some_and(|refs| refs.remove(&row.meta_ref())) {
            return Err(format!("{row:?} left and had not joined"));
        }
        self.n_refs -= 1;
        Ok(())
    }

    fn compare(&self, view: View<'_>, topic: &Topic) -> Result<(), Violation> {
        let rows = view.node.shard().rows_of_topic(topic);
        let listed: BTreeSet<MetaRef> = rows.map(|row| row.meta_ref()).collect();
        let none = BTreeSet::new();
        let folded = self.topics.get(topic).unwrap_or(&none);
        if listed == *folded {
            return Ok(());
        }
        let unsaid: Vec<_> = listed.difference(folded).collect();
        let unlisted: Vec<_> = folded.difference(&listed).collect();
        let what =
            format!("{topic}: {unsaid:?} were listed and not said, {unlisted:?} the reverse");
        Err(violation(what))
    }
}

fn violation(what: String) -> Violation {
    Violation::new("folds", what)
}
