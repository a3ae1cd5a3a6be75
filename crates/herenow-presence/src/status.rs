//! [`ClusterStatus`]: what a node knows of the others, put together from its shards.

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_core::{
    Incarnation, MonoTime, NodeName, PeerStatus, PeerView, Shard, ShardStats, Version,
};

/// What one node knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// The parts that all topics are spread over.
    pub n_shards: usize,
    /// This node first, then the others by name. A node that said good-bye, or was silent for
    /// `permdown_period`, is not there.
    pub nodes: Vec<NodeStatus>,
    /// Nodes that are refused because their number of shards is another, and theirs.
    pub misfits: Vec<(NodeName, u16)>,
    /// What this node's shards have counted, summed.
    pub stats: ReplicationStats,
}

/// One node as another one, or itself, knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeName,
    /// Which life of it: nanoseconds since 1970 at its start, by its own clock.
    pub incarnation: u64,
    /// Whether it is this node.
    pub is_self: bool,
    /// Whether it is heard from; its presences are visible then.
    pub is_up: bool,
    /// For how long it has been up or down.
    pub since: Duration,
    /// Presences held of it, visible or not.
    pub n_rows: u64,
    /// Writes that it has announced and that are not here yet, over all shards. Zero: complete.
    pub lag: u64,
    /// One for each shard that has heard of it, by shard.
    pub replicas: Vec<ReplicaStatus>,
}

/// One shard of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// The shard.
    pub shard: u16,
    /// Whether this shard hears from it.
    pub is_up: bool,
    /// The highest version that it announced.
    pub version: u64,
    /// The version up to which its presences are complete here.
    pub seen: u64,
    /// Presences held of it.
    pub n_rows: u64,
}

/// What the replication has counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReplicationStats {
    /// Deltas that brought a table forward.
    pub n_applied: u64,
    /// Deltas that said nothing new.
    pub n_stale: u64,
    /// Deltas before which something was missing.
    pub n_gaps: u64,
    /// Messages of lives that are over.
    pub n_buried: u64,
    /// Messages refused because of a limit.
    pub n_refused: u64,
    /// Requests for what was missing.
    pub n_requests: u64,
    /// Chunks sent in answer to requests.
    pub n_transfers: u64,
    /// Presences that have ended and are held back from readers, now.
    pub n_in_grace: u64,
    /// Presences that ended and were held back from readers.
    pub n_held: u64,
    /// Those of them whose key returned in time.
    pub n_returned: u64,
    /// Those of them whose grace was over.
    pub n_grace_over: u64,
    /// Presences that left at once because too many were held.
    pub n_held_refused: u64,
}

/// What one shard says.
pub(crate) struct ShardStatus {
    shard: u16,
    version: Version,
    n_own_rows: usize,
    /// With the time for which each was up or down.
    peers: Vec<(PeerView, Duration)>,
    stats: ShardStats,
    n_in_grace: usize,
    age: Duration,
}

impl ShardStatus {
    pub(crate) fn of(shard: &Shard, now: MonoTime) -> Self {
        let peers: Vec<_> = shard
            .peers()
            .map(|peer| {
                let since = now.duration_since(peer.since);
                (peer, since)
            })
            .collect();
        Self {
            shard: shard.id().shard.0,
            version: shard.version(),
            n_own_rows: shard.n_own_rows(),
            peers,
            stats: shard.stats(),
            n_in_grace: shard.memory().n_held,
            age: now.elapsed(),
        }
    }
}

impl ClusterStatus {
    pub(crate) fn of(
        node: NodeName,
        incarnation: Incarnation,
        shards: &[ShardStatus],
        misfits: Vec<(NodeName, u16)>,
    ) -> Self {
        let own = ReplicaStatus::own;
        let mut own = NodeStatus::new(node, incarnation, shards.iter().map(own).collect());
        own.is_self = true;
        own.since = shards
            .iter()
            .map(|shard| shard.age)
            .max()
            .unwrap_or_default();
        let mut nodes = vec![own];
        nodes.extend(peers(shards));
        let mut stats = ReplicationStats::default();
        for shard in shards {
            stats.add(&shard.stats);
            stats.n_in_grace += shard.n_in_grace as u64;
        }
        Self {
            n_shards: shards.len(),
            nodes,
            misfits,
            stats,
        }
    }

    /// Returns how many other nodes are up and have all their presences here.
    pub fn n_complete(&self) -> usize {
        let peers = self.nodes.iter().filter(|node| !node.is_self);
        peers
            .filter(|node| node.is_up && self.is_complete(node))
            .count()
    }

    /// Returns how many other nodes are up and have not all their presences here.
    pub fn n_incomplete(&self) -> usize {
        let peers = self.nodes.iter().filter(|node| !node.is_self);
        peers
            .filter(|node| node.is_up && !self.is_complete(node))
            .count()
    }

    fn is_complete(&self, node: &NodeStatus) -> bool {
        node.lag == 0 && node.replicas.len() == self.n_shards
    }
}

/// The peers of all shards by name. A node that some shards know in a newer life than others is
/// shown in its newest.
fn peers(shards: &[ShardStatus]) -> impl Iterator<Item = NodeStatus> {
    let mut nodes: BTreeMap<NodeName, NodeStatus> = BTreeMap::new();
    for shard in shards {
        for (peer, since) in &shard.peers {
            let fresh = || NodeStatus::new(peer.node.clone(), peer.incarnation, Vec::new());
            let node = nodes.entry(peer.node.clone()).or_insert_with(fresh);
            if peer.incarnation.0 > node.incarnation {
                *node = fresh();
            }
            if peer.incarnation.0 == node.incarnation {
                node.add(ReplicaStatus::of_peer(shard.shard, peer), *since);
            }
        }
    }
    nodes.into_values()
}

impl NodeStatus {
    fn new(node: NodeName, incarnation: Incarnation, replicas: Vec<ReplicaStatus>) -> Self {
        Self {
            node,
            incarnation: incarnation.0,
            is_self: false,
            is_up: true,
            since: Duration::MAX,
            n_rows: replicas.iter().map(|replica| replica.n_rows).sum(),
            lag: 0,
            replicas,
        }
    }

    fn add(&mut self, replica: ReplicaStatus, since: Duration) {
        // Down as soon as one shard says so, and for as long as the latest of the changes is past.
        self.is_up &= replica.is_up;
        self.since = self.since.min(since);
        self.n_rows += replica.n_rows;
        self.lag += replica.lag();
        self.replicas.push(replica);
    }
}

impl ReplicaStatus {
    fn own(shard: &ShardStatus) -> Self {
        Self {
            shard: shard.shard,
            is_up: true,
            version: shard.version.0,
            seen: shard.version.0,
            n_rows: shard.n_own_rows as u64,
        }
    }

    fn of_peer(shard: u16, peer: &PeerView) -> Self {
        Self {
            shard,
            is_up: is_up(peer),
            version: peer.announced.0.max(peer.seen.0),
            seen: peer.seen.0,
            n_rows: peer.n_rows as u64,
        }
    }

    /// Returns how many writes are announced and not here yet.
    pub fn lag(&self) -> u64 {
        self.version - self.seen
    }
}

impl ReplicationStats {
    fn add(&mut self, shard: &ShardStats) {
        self.n_applied += shard.n_applied;
        self.n_stale += shard.n_stale;
        self.n_gaps += shard.n_gaps;
        self.n_buried += shard.n_buried;
        self.n_refused += shard.n_refused;
        self.n_requests += shard.n_requests;
        self.n_transfers += shard.n_transfers;
        self.n_held += shard.n_held;
        self.n_returned += shard.n_returned;
        self.n_grace_over += shard.n_grace_over;
        self.n_held_refused += shard.n_held_refused;
    }
}

fn is_up(peer: &PeerView) -> bool {
    match peer.status {
        PeerStatus::Up => true,
        PeerStatus::Down => false,
    }
}
