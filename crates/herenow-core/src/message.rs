//! [`ShardMessage`] and [`NodeHeartbeat`]: all that nodes say to each other.

use std::sync::Arc;
use std::time::Duration;

use crate::delta::{Delta, Pruning};
use crate::ids::{Incarnation, NodeName, ShardIndex};
use crate::row::{Meta, Row, Version};

/// What one shard says to its counterparts on other nodes. The carrier tells who sent it.
#[derive(Debug, Clone)]
pub enum ShardMessage {
    /// Owner to all: what happened at its replica.
    Delta {
        /// Which life of the owner.
        incarnation: Incarnation,
        /// One range of its history.
        delta: Delta,
    },
    /// Reader to owner: send what I lack.
    Request {
        /// Which life of the reader, since a request is a sign of life too.
        incarnation: Incarnation,
        /// Which life of the owner is meant.
        owner: Incarnation,
        /// The version up to which the reader is complete.
        seen: Version,
        /// The owner's version as of which the reader has taken out what is gone.
        pruned: Version,
        /// Of which rows it has taken out more, if the list of what is gone comes in pieces.
        pruning: Option<Pruning>,
    },
    /// Owner to reader: the answer, one chunk of it. The reader asks on until it has all.
    Transfer {
        /// Which life of the owner.
        incarnation: Incarnation,
        /// The chunk.
        delta: Delta,
    },
    /// To a node that has nothing of the sender yet: presences that have ended, on whatever node,
    /// and that readers are not told of yet, with the time that is left. See
    /// [`Grace`](crate::Grace).
    Held {
        /// Which life of the sender.
        incarnation: Incarnation,
        /// The presences.
        rows: Vec<(Arc<Row>, Duration)>,
    },
    /// Owner to all: this life ends, drop its rows now.
    Bye {
        /// Which life of the owner.
        incarnation: Incarnation,
    },
}

impl ShardMessage {
    /// Returns the metas that the message brings, so that a host which knows what metas are can
    /// refuse it; empty for a message without rows.
    pub fn metas(&self) -> impl Iterator<Item = &Meta> {
        let (rows, held) = match self {
            Self::Delta { delta, .. } | Self::Transfer { delta, .. } => (&delta.rows[..], &[][..]),
            Self::Held { rows, .. } => (&[][..], &rows[..]),
            Self::Request { .. } | Self::Bye { .. } => (&[][..], &[][..]),
        };
        let held = held.iter().map(|(row, _)| row);
        rows.iter().chain(held).map(|row| row.meta())
    }
}

/// What a node says to all others at each heartbeat, for all of its shards at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHeartbeat {
    /// The node.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What each shard has announced, from shard 0.
    pub versions: Vec<Version>,
}

impl NodeHeartbeat {
    /// Returns what the node's shard has announced; `None` if the node has fewer shards.
    pub fn version_of(&self, shard: ShardIndex) -> Option<Version> {
        self.versions.get(usize::from(shard.0)).copied()
    }
}
