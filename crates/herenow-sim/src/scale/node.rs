//! [`Node`]: one node's shards, its link, its core, and what went through them.

use std::collections::VecDeque;
use std::ops::Sub;

use herenow_core::{
    Incarnation, MonoTime, NodeHeartbeat, NodeName, ReplicaId, Shard, ShardConfig, ShardIndex,
    Version,
};

use crate::scale::queue::Parcel;

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) incarnation: Incarnation,
    /// `None` where it does not carry the shard.
    shards: Vec<Option<Shard>>,
    /// When each shard is to be woken, in the queue already.
    pub(super) wakes: Vec<u64>,
    pub(super) inbox: VecDeque<Parcel>,
    pub(super) is_working: bool,
    pub(super) busy_until: u64,
    pub(super) uplink_free: u64,
    pub(super) downlink_free: u64,
    pub(super) beats_early: bool,
    pub(super) load: Load,
}

impl Node {
    pub(super) fn new(
        config: &ShardConfig,
        index: usize,
        now: MonoTime,
        carries: impl Fn(u16) -> bool,
        n_shards: u16,
    ) -> Self {
        let name = NodeName::new(name_of(index)).expect("a short name is fine");
        let incarnation = Incarnation(1_700_000_000_000_000 + index as u64);
        let shards = (0..n_shards).map(|shard| {
            let id = ReplicaId {
                node: name.clone(),
                incarnation,
                shard: ShardIndex(shard),
            };
            let new = || Shard::new(config, id, now).expect("the settings fit together");
            carries(shard).then(new)
        });
        Self {
            shards: shards.collect(),
            name,
            incarnation,
            wakes: vec![u64::MAX; n_shards.into()],
            inbox: VecDeque::new(),
            is_working: false,
            busy_until: 0,
            uplink_free: 0,
            downlink_free: 0,
            beats_early: false,
            load: Load::default(),
        }
    }

    pub(super) fn shard(&self, shard: usize) -> Option<&Shard> {
        self.shards[shard].as_ref()
    }

    pub(super) fn shard_mut(&mut self, shard: usize) -> Option<&mut Shard> {
        self.shards[shard].as_mut()
    }

    pub(super) fn carries(&self, shard: u16) -> bool {
        self.shards[usize::from(shard)].is_some()
    }

    /// Returns the heartbeat; of shards that are not carried it says that nothing was written.
    pub(super) fn heartbeat(&self) -> NodeHeartbeat {
        let versions = self.shards.iter();
        let versions = versions.map(|shard| shard.as_ref().map_or(Version::ZERO, Shard::announced));
        NodeHeartbeat {
            node: self.name.clone(),
            incarnation: self.incarnation,
            versions: versions.collect(),
        }
    }
}

pub(super) fn name_of(index: usize) -> String {
    format!("n{index}")
}

/// Returns the place of a node by its name.
pub(super) fn index_of(name: &NodeName) -> usize {
    let number = name.as_str().strip_prefix('n').and_then(|n| n.parse().ok());
    number.expect("names are made of places")
}

/// What went through a node, or the mean of all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) received_bytes: u64,
    pub(super) received_heartbeat_bytes: u64,
    pub(super) received_messages: u64,
    pub(super) busy_nanos: u64,
}

/// The mean of all nodes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MeanLoad {
    pub(super) received_bytes: f64,
    pub(super) received_heartbeat_bytes: f64,
    pub(super) received_messages: f64,
    pub(super) busy_nanos: f64,
}

impl MeanLoad {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let mean = |what: fn(&Load) -> u64| {
            let sum: u64 = nodes.iter().map(|node| what(&node.load)).sum();
            sum as f64 / nodes.len() as f64
        };
        Self {
            received_bytes: mean(|load| load.received_bytes),
            received_heartbeat_bytes: mean(|load| load.received_heartbeat_bytes),
            received_messages: mean(|load| load.received_messages),
            busy_nanos: mean(|load| load.busy_nanos),
        }
    }

    pub(super) fn since(self, before: Self) -> Self {
        self - before
    }
}

impl Sub for MeanLoad {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            received_bytes: self.received_bytes - other.received_bytes,
            received_heartbeat_bytes: self.received_heartbeat_bytes
                - other.received_heartbeat_bytes,
            received_messages: self.received_messages - other.received_messages,
            busy_nanos: self.busy_nanos - other.busy_nanos,
        }
    }
}
