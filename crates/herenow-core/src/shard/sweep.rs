//! Sweeps: rows come and go with their replica some at a time, so that nothing else waits.
//!
//! What a replica is, up, down or forgotten, is decided at once. Its rows follow: each slice looks
//! at [`sweep_rows`](crate::ShardConfig::sweep_rows) entries of its table and shows, hides or drops
//! them. A replica that is no larger than a slice is done with the decision; for a larger one the
//! host calls [`Shard::handle_sweep`] as long as [`Shard::is_sweeping`]. Whatever else happens
//! in between is right: a row is visible or not by itself, a replica that turns again begins anew
//! with rows that need nothing, and the rows of a life that was dropped are no one's any more. If
//! that life is heard again before the last of them is gone, the rest goes first.

use std::collections::VecDeque;

use crate::grace::End;
use crate::ids::{Incarnation, NodeName};
use crate::liveness::PeerStatus;
use crate::row::Version;
use crate::shard::Shard;
use crate::table::Table;
use crate::time::MonoTime;

/// Tables of lives that are over and wait to be dropped. Peers that come and go faster than that
/// are dropped on the spot, so that they cannot pile up.
const MAX_LEAVING: usize = 8;

/// What is still to be swept.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    /// Nodes whose rows do not all follow their status yet; one that is gone or done is skipped.
    turning: VecDeque<NodeName>,
    /// Tables of lives that are over, and how they ended.
    leaving: VecDeque<(Table, End)>,
}

impl Sweeps {
    /// Returns the tables of lives that are over, as far as they are not dropped yet.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &Table> {
        self.leaving.iter().map(|(table, _)| table)
    }

    fn take_leaving(&mut self, node: &NodeName, incarnation: Incarnation) -> Option<(Table, End)> {
        let at = self.leaving.iter().position(|(table, _)| {
            let id = &table.replica().id;
            id.node == *node && id.incarnation == incarnation
        })?;
        self.leaving.remove(at)
    }
}

impl Shard {
    /// Returns whether rows are still to be shown, hidden or dropped by
    /// [`handle_sweep`](Self::handle_sweep).
    pub fn is_sweeping(&self) -> bool {
        let has_rows = !self.sweeps.turning.is_empty() || !self.sweeps.leaving.is_empty();
        has_rows || self.readers.is_expiring()
    }

    /// Shows, hides or drops the next rows of replicas that came up, went down or are forgotten.
    ///
    /// Costs [`sweep_rows`](crate::ShardConfig::sweep_rows) rows. The host calls it soon while
    /// [`is_sweeping`](Self::is_sweeping), in turn with its other work, and drains as ever.
    pub fn handle_sweep(&mut self, now: MonoTime) {
        self.advance(now);
        if let Some((mut table, end)) = self.sweeps.leaving.pop_front() {
            self.drop_slice(&mut table, end, self.config.sweep_rows.get());
            if table.n_rows() > 0 {
                self.sweeps.leaving.push_front((table, end));
            }
        } else if let Some(node) = self.sweeps.turning.pop_front()
            && self.turn_slice(&node)
        {
            self.sweeps.turning.push_front(node);
        } else if self.readers.is_expiring() {
            let max = self.config.sweep_rows.get();
            self.readers.expire(self.now, max, &mut self.index);
        }
    }

    /// Lets the rows of a node follow its status, which has just changed.
    pub(super) fn begin_turning(&mut self, node: &NodeName) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        peer.swept = Some(Version::ZERO);
        if peer.table.n_rows() <= self.config.sweep_rows.get() {
            while self.turn_slice(node) {}
        } else if !self.sweeps.turning.contains(node) {
            self.sweeps.turning.push_back(node.clone());
        }
    }

    /// Lets the rows of a life go that is over.
    pub(super) fn begin_leaving(&mut self, mut table: Table, end: End) {
        let max = self.config.sweep_rows.get();
        if table.n_rows() <= max {
            self.drop_slice(&mut table, end, max);
            return;
        }
        self.sweeps.leaving.push_back((table, end));
        if self.sweeps.leaving.len() > MAX_LEAVING
            && let Some((mut oldest, end)) = self.sweeps.leaving.pop_front()
        {
            self.drop_slice(&mut oldest, end, usize::MAX);
        }
    }

    /// Lets the rest of a life go at once that is heard again: its rows arrive anew, and must not
    /// be visible twice. It takes a node that was itself stopped, so that it has much to catch up
    /// with.
    pub(super) fn end_leaving(&mut self, node: &NodeName, incarnation: Incarnation) {
        if let Some((mut table, end)) = self.sweeps.take_leaving(node, incarnation) {
            self.drop_slice(&mut table, end, usize::MAX);
        }
    }

    /// Shows or hides the next rows of a node, and returns whether there are more.
    fn turn_slice(&mut self, node: &NodeName) -> bool {
        let Some(peer) = self.peers.get_mut(node) else {
            return false;
        };
        let Some(after) = peer.swept else {
            return false;
        };
        let max = self.config.sweep_rows.get();
        let (slots, next) = peer.table.slots_after(after, max);
        peer.swept = next;
        for slot in slots {
            match peer.status {
                PeerStatus::Up => self.readers.shown(slot, &mut self.index),
                PeerStatus::Down => self.readers.hidden(self.now, slot, &mut self.index),
            }
        }
        next.is_some()
    }

    fn drop_slice(&mut self, table: &mut Table, end: End, max: usize) {
        for _ in 0..max {
            let Some(slot) = table.pop() else { return };
            self.readers.ended(self.now, slot, end, &mut self.index);
        }
    }
}
