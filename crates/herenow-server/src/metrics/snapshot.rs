//! [`Source`]: where a scrape looks; [`Snapshot`]: what it saw.

use std::sync::Arc;
use std::time::Duration;

use herenow_channels::{Metrics as SocketMetrics, Queued, ServeCounts, Sockets};
use herenow_presence::{ClusterStatus, PresenceStats, ReplicationStats};
use herenow_pubsub::sealed::SealStats;
use herenow_pubsub::{HistogramCounts, PubSubStats};
use tokio::time::timeout;

use super::process::Process;
use crate::api::{Api, RouteCounts};
use crate::cluster::EngineStats;
use crate::identity::TokenMetrics;
use crate::limits::Limits;
use crate::logging::n_dropped_lines;

/// How long the shards may take to say how the cluster is; then a scrape goes on without.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(2);

/// All that is looked at for a scrape.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) api: Arc<Api>,
    /// All mounts of sockets; they count into the metrics of the first.
    pub(crate) mounts: Vec<Sockets>,
    pub(crate) tokens: Arc<TokenMetrics>,
    pub(crate) limits: Limits,
    pub(crate) served: ServeCounts,
    pub(crate) routes: Vec<Arc<RouteCounts>>,
    pub(crate) request_times: Arc<herenow_pubsub::Histogram>,
}

/// What one scrape saw.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) api: Arc<Api>,
    pub(super) sockets: Arc<SocketMetrics>,
    pub(super) queued: Queued,
    pub(super) presence: PresenceStats,
    pub(super) fetches: HistogramCounts,
    pub(super) pubsub: PubSubStats,
    pub(super) dispatches: HistogramCounts,
    pub(super) peers: Peers,
    /// Nodes that are refused, as `/api/cluster` has them.
    pub(super) n_refused: u64,
    /// Peers that are given by address and not reached.
    pub(super) n_unreached: u64,
    pub(super) engine: Option<(&'static str, EngineStats)>,
    pub(super) seal: SealStats,
    pub(super) tokens: Arc<TokenMetrics>,
    pub(super) limits: Limits,
    pub(super) served: ServeCounts,
    pub(super) routes: Vec<Arc<RouteCounts>>,
    pub(super) requests: HistogramCounts,
    pub(super) process: Process,
    pub(super) n_dropped_log_lines: u64,
}

/// The other nodes, as far as this one knows them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peers {
    pub(super) n_up: u64,
    pub(super) n_down: u64,
    /// Of those that are up, the ones whose presences are not all here.
    pub(super) n_incomplete: u64,
    /// Writes that others have announced and that are not here, of all nodes that are up.
    pub(super) lag: u64,
    /// The same, of the node that lacks the most.
    pub(super) max_lag: u64,
    /// Nodes that are refused for another number of shards, behind the seal.
    pub(super) n_misfits: u64,
    pub(super) replication: ReplicationStats,
}

impl Source {
    /// Reads everything.
    pub(super) async fn look(&self) -> Snapshot {
        let presence = &self.api.presence;
        let cluster = self.api.cluster.as_deref();
        // A node alone has nobody to ask about.
        let peers = match cluster {
            Some(_) => match timeout(CLUSTER_TIMEOUT, presence.cluster()).await {
                Ok(status) => Peers::of(&status),
                Err(_) => Peers::default(),
            },
            None => Peers::default(),
        };
        Snapshot {
            api: self.api.clone(),
            sockets: self.api.sockets.metrics().clone(),
            queued: self.queued(),
            presence: presence.stats(),
            fetches: presence.fetches(),
            pubsub: presence.pubsub().stats(),
            dispatches: presence.pubsub().dispatches(),
            peers,
            n_refused: peers.n_misfits
                + cluster.map_or(0, |cluster| cluster.sealed.refused().len() as u64),
            n_unreached: cluster.map_or(0, |cluster| cluster.unreached().len() as u64),
            engine: cluster.map(|cluster| (cluster.engine.as_str(), cluster.engine_stats())),
            seal: cluster.map_or_else(SealStats::default, |cluster| cluster.sealed.stats()),
            tokens: self.tokens.clone(),
            limits: self.limits.clone(),
            served: self.served.clone(),
            routes: self.routes.clone(),
            requests: self.request_times.read(),
            process: Process::read(),
            n_dropped_log_lines: n_dropped_lines(),
        }
    }

    fn queued(&self) -> Queued {
        let mut all = Queued::default();
        for queued in self.mounts.iter().map(Sockets::queued) {
            all.n_messages += queued.n_messages;
            all.n_bytes += queued.n_bytes;
            all.max_bytes = all.max_bytes.max(queued.max_bytes);
        }
        all
    }
}

impl Peers {
    fn of(status: &ClusterStatus) -> Self {
        let others = status.nodes.iter().filter(|node| !node.is_self);
        let (up, down): (Vec<_>, Vec<_>) = others.partition(|node| node.is_up);
        Self {
            n_up: up.len() as u64,
            n_down: down.len() as u64,
            n_incomplete: status.n_incomplete() as u64,
            lag: up.iter().map(|node| node.lag).sum(),
            max_lag: up.iter().map(|node| node.lag).max().unwrap_or_default(),
            n_misfits: status.misfits.len() as u64,
            replication: status.stats,
        }
    }
}
