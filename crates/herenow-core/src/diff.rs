//! Diff: what changed for local readers, in the order caused, each leave with its reason.

use std::sync::Arc;

use crate::ids::Topic;
use crate::row::Row;

/// Why a presence left.
///
/// Other nodes are told the reason too. A node that missed so much that the presence's own node no
/// longer remembers is told [`Closed`](Self::Closed).
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

/// How many bits of a number say why a row left.
pub(crate) const REASON_BITS: u32 = 2;

impl LeaveReason {
    /// Returns the reason as history and messages write it: [`REASON_BITS`].
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Left => 0,
            Self::Closed => 1,
            Self::NodeDown => 2,
            Self::Evicted => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Left),
            1 => Some(Self::Closed),
            2 => Some(Self::NodeDown),
            3 => Some(Self::Evicted),
            _ => None,
        }
    }
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
        /// Whether a grace kept it from readers for a while. What was not held leaves when it is
        /// told: with another reason than [`NodeDown`](LeaveReason::NodeDown), by its own node.
        was_held: bool,
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
