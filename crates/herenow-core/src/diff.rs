//! Diff: what changed for local readers, in the order caused, each leave with its reason.

use std::sync::Arc;

use crate::ids::Topic;
use crate::row::Row;

/// Why a presence left.
///
/// Known exactly on the presence's own node; other nodes are told [`Left`](Self::Left) whatever the
/// owner's reason was, and find out [`NodeDown`](Self::NodeDown) by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// It was untracked.
    Left,
    /// Its owner ended.
    Closed,
    /// Its node is silent, gone, or lives a new life.
    NodeDown,
    /// It was made to leave, for instance by a limit or an operator.
    Evicted,
}

/// One change of what local readers see.
#[derive(Debug, Clone)]
pub enum Change {
    /// A presence arrived.
    Joined(Arc<Row>),
    /// A presence got a new meta.
    Updated {
        /// The writing that is gone.
        old: Arc<Row>,
        /// The writing that replaced it: same topic, owner and key.
        new: Arc<Row>,
    },
    /// A presence departed.
    Left {
        /// The last writing that was seen here.
        row: Arc<Row>,
        /// Why it is gone.
        reason: LeaveReason,
    },
}

impl Change {
    /// Returns the row that is there now, or was there last.
    pub fn row(&self) -> &Arc<Row> {
        match self {
            Self::Joined(row) | Self::Updated { new: row, .. } | Self::Left { row, .. } => row,
        }
    }

    /// Returns the topic that changed.
    pub fn topic(&self) -> &Topic {
        self.row().topic()
    }
}

/// Everything that changed since the last drain, in the order caused; never empty.
///
/// Changes of different topics are mixed; the host groups them.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    /// The changes, oldest first.
    pub changes: Vec<Change>,
}
