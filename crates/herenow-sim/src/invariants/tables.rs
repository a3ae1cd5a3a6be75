//! A table is a state that its owner's rows have been in, or between two such.
//!
//! With `seen` the version up to which it is complete: it holds no row that was gone at `seen`,
//! lacks none that was there at `seen` and still is, holds nothing that was not written like that,
//! and so equals the owner's rows once `seen` is the owner's version. A node's own rows are at all
//! times those that its owners have.
//!
//! Why: this is what loss, duplicates, reordering, overlap and replay must not break; what readers
//! see follows from it. Source: the header of `table.rs` in `herenow-core`; `phoenix_pubsub` issue
//! 148 (a stale transfer overwrites newer values, then loses the entry) is a breach of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use herenow_core::{Incarnation, NodeName, Row, Version};

use super::{View, Violation};
use crate::cluster::NodeStep;
use crate::network::NodeIndex;
use crate::oracle::{Life, ModelRow};

/// What was checked already: the life of a table, how far it was, and how many rows it had.
type Checked = (Incarnation, Version, usize);

#[derive(Debug, Default)]
pub(super) struct Tables {
    checked: BTreeMap<(NodeIndex, NodeName), Checked>,
    /// How many writes and deltas a node had taken in when it was looked at.
    looked_at: BTreeMap<NodeIndex, (Version, u64)>,
}

impl Tables {
    pub(super) fn begin(&mut self, index: NodeIndex) {
        self.checked.retain(|(of, _), _| *of != index);
        self.looked_at.remove(&index);
    }

    pub(super) fn check(&mut self, view: View<'_>, step: &NodeStep) -> Result<(), Violation> {
        let shard = view.node.shard();
        let progress = (shard.version(), shard.stats().n_applied);
        let before = self.looked_at.insert(view.index, progress);
        if before == Some(progress) && step.events.is_empty() && step.changes.is_empty() {
            return Ok(());
        }
        let id = shard.id();
        let own = (id.incarnation, shard.version(), shard.own_rows().count());
        if self.is_news(view.index, &id.node, own) {
            check_rows(view, &id.node, id.incarnation, own.1, shard.own_rows())?;
        }
        for peer in shard.peers() {
            let state = (peer.incarnation, peer.seen, peer.n_rows);
            if self.is_news(view.index, &peer.node, state) {
                let rows = shard.rows_of_peer(&peer.node);
                check_rows(view, &peer.node, peer.incarnation, peer.seen, rows)?;
            }
        }
        Ok(())
    }

    fn is_news(&mut self, index: NodeIndex, of: &NodeName, state: Checked) -> bool {
        let before = self.checked.insert((index, of.clone()), state);
        before != Some(state)
    }
}

fn check_rows<'a>(
    view: View<'_>,
    of: &NodeName,
    incarnation: Incarnation,
    seen: Version,
    rows: impl Iterator<Item = &'a Arc<Row>>,
) -> Result<(), Violation> {
    let violation = |what: String| {
        let table = format!("the table of {of} in life {incarnation}, complete up to {seen}");
        Violation::new("tables", format!("{table}, {what}"))
    };
    let Some(life) = view.oracle.life(of, incarnation) else {
        return Err(violation("is of a life that never was".to_owned()));
    };
    if seen > life.version() {
        return Err(violation(format!("knows the future: {}", life.version())));
    }
    let mut held = Vec::new();
    for row in rows {
        check_row(row, seen, life).map_err(violation)?;
        held.push(row.version());
    }
    let missing = life
        .alive()
        .into_iter()
        .find(|version| *version <= seen && held.binary_search(version).is_err());
    match missing {
        Some(version) => Err(violation(format!("lacks {version}, which is there"))),
        None => Ok(()),
    }
}

fn check_row(row: &Row, seen: Version, life: &Life) -> Result<(), String> {
    let version = row.version();
    let Some(written) = life.row(version) else {
        return Err(format!("holds {version}, which was never written"));
    };
    if !is_as_written(row, written) {
        return Err(format!(
            "holds {version} otherwise than it was written: {row:?}, {written:?}"
        ));
    }
    if version > seen {
        return Err(format!("holds {version}, which is above"));
    }
    match written.ended {
        Some(ended) if ended <= seen => Err(format!("holds {version}, which ended at {ended}")),
        Some(_) | None => Ok(()),
    }
}

fn is_as_written(row: &Row, written: &ModelRow) -> bool {
    let ModelRow {
        owner,
        topic,
        key,
        meta,
        prev,
        ended: _,
    } = written;
    row.owner() == *owner
        && row.topic() == topic
        && row.key() == key
        && row.meta() == meta
        && row.prev() == *prev
}
