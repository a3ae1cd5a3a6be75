//! The cluster as the server takes part in it: the engine, under seal, and how far it has come.

mod peers;
mod engine;
mod given;

use std::sync::Arc;
use std::time::Duration;

use herenow_presence::{Presence, shard_format};
use herenow_pubsub::PubSub;
use herenow_pubsub::broker::Disconnected;
use herenow_pubsub::sealed::{SealConfig, Sealed};
use tokio::time::{Instant, interval, timeout};

pub(crate) use self::engine::EngineStats;
use self::engine::Opened;
use self::given::Given;
pub(crate) use self::peers::address;
use self::peers::others;
use crate::config::{ClusterConfig, Discovery, Engine, ServerConfig};
use crate::outage::{Outage, Part};

/// How often it is looked whether the rows of the first peers are here.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// How long an answer may be on its way.
const ANSWER_TIME: Duration = Duration::from_millis(150);
/// How long the good-byes, and what is queued before them, may take to leave.
const BYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a node does not take part in its cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The host has no name, and none was configured.
    #[error("this host has no name; say with --node how the node is called")]
    NoName,
    /// The engine does not start.
    #[error("{engine}: {reason}")]
    Engine {
        /// The engine.
        engine: Engine,
        /// What it said, with all causes.
        reason: String,
    },
    /// The secret or what nodes must agree on is refused.
    #[error(transparent)]
    Seal(#[from] herenow_pubsub::sealed::SealError),
}

/// A node's part in a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) engine: Engine,
    pub(crate) name: String,
    pub(crate) sealed: Arc<Sealed>,
    pub(crate) pubsub: PubSub,
    pub(crate) has_secret: bool,
    opened: Opened,
    /// Peers that are given by address; those of a broker are not known before they speak.
    given: Given,
    expects_peers: bool,
    ready_timeout: Duration,
    heartbeat_period: Duration,
}

impl Cluster {
    /// Opens the engine; `None` if none is configured.
    pub(crate) async fn join(config: &ServerConfig) -> Result<Option<Self>, ClusterError> {
        let cluster = &config.cluster;
        let Some(engine) = cluster.engine else {
            return Ok(None);
        };
        let node = node_name(cluster)?;
        // Whatever is wrong is named by its key, as `herenow config check` does.
        check(config)?;
        let opened = engine::open(engine, cluster, &node).await;
        let opened = opened.map_err(|reason| ClusterError::Engine { engine, reason })?;
        let given = others(&cluster.peers, &cluster.listen);
        let mut seal = SealConfig::new(&cluster.name);
        let secret = cluster.secret.as_ref();
        seal.secret = secret.map(|secret| secret.expose().as_bytes().to_vec());
        let n_shards = config.presence.n_shards.to_string();
        seal.agreement
            .insert("presence.n_shards".to_owned(), n_shards);
        let format = shard_format().to_string();
        seal.agreement
            .insert("the format of presences".to_owned(), format);
        let sealed = Arc::new(Sealed::new(opened.adapter.clone(), seal)?);
        let pubsub = PubSub::new(sealed.clone());
        let joined = Self {
            engine,
            name: cluster.name.clone(),
            sealed,
            pubsub,
            has_secret: cluster.secret.is_some(),
            given: Given::watch(given, &cluster.listen, &opened.probe),
            opened,
            expects_peers: expects_peers(cluster),
            ready_timeout: cluster.ready_timeout,
            heartbeat_period: config.presence.shard.heartbeat_period,
        };
        joined.announce(&node);
        Ok(Some(joined))
    }

    /// Returns what the engine has counted.
    pub(crate) fn engine_stats(&self) -> EngineStats {
        self.opened.probe.stats()
    }

    /// Peers that are given by address and not reached now.
    pub(crate) fn unreached(&self) -> Vec<Outage> {
        self.given.unreached()
    }

    /// What the node does without at the moment, besides peers: its broker.
    pub(crate) fn outages(&self) -> Vec<Outage> {
        let disconnected = self.opened.probe.disconnected();
        let of_engine = |gone: Disconnected| {
            let key = match self.engine {
                Engine::Nats => "cluster.nats_url",
                Engine::Redis => "cluster.redis_url",
                Engine::Zenoh => "cluster.engine",
            };
            let why = match &*gone.why {
                "" => "there is no connection yet",
                why => why,
            };
            Outage::new(Part::Engine, key, why, gone.elapsed)
        };
        disconnected.map(of_engine).into_iter().collect()
    }

    fn announce(&self, node: &str) {
        let (cluster, engine) = (&self.name, self.engine.as_str());
        tracing::info!(node, cluster, engine, "taking part in a cluster");
        if !self.has_secret {
            tracing::warn!(
                "no cluster.secret: whoever reaches the cluster's ports or broker can take part"
            );
        }
    }

    /// Waits until the presences of the first peers are here, for `ready_timeout` at most.
    pub(crate) async fn settle(&self, presence: &Presence) {
        if !self.expects_peers {
            return; // The first node, which others are told of: there is nobody to wait for.
        }
        let began = Instant::now();
        let complete = timeout(self.ready_timeout, self.until_complete(presence)).await;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let unreached = self.unreached();
        let unreached: Vec<&str> = unreached.iter().map(|peer| &*peer.name).collect();
        match complete {
            Ok(n_peers) => tracing::info!(
                n_peers,
                ?unreached,
                elapsed_ms,
                "the cluster's presences are here"
            ),
            Err(_) => {
                let status = presence.cluster().await;
                let (n_complete, n_incomplete) = (status.n_complete(), status.n_incomplete());
                tracing::warn!(
                    n_complete,
                    n_incomplete,
                    ?unreached,
                    elapsed_ms,
                    "ready without all presences of the cluster: waited for ready_timeout"
                );
            }
        }
    }

    async fn until_complete(&self, presence: &Presence) -> usize {
        let mut ticks = interval(LOOK_PERIOD);
        let mut first_seen = None;
        loop {
            ticks.tick().await;
            let status = presence.cluster().await;
            let n_complete = status.n_complete();
            if n_complete == 0 || status.n_incomplete() > 0 {
                continue;
            }
            let first_seen = *first_seen.get_or_insert_with(Instant::now);
            // Every node answers the first heartbeat of a newcomer with one of its own, a hundredth
            // of a period later, and speaks once in a period anyhow. Where those that were given by
            // address have, others that they brought along follow soon.
            let n_given = self.given.len();
            let has_given = n_given > 0 && n_complete >= n_given;
            let patience = if has_given {
                ANSWER_TIME
            } else {
                self.heartbeat_period + ANSWER_TIME
            };
            if first_seen.elapsed() > patience {
                return n_complete;
            }
        }
    }

    /// Tells the others that this life of the node is over, and its presences are gone.
    pub(crate) async fn say_bye(&self, presence: &Presence) {
        tracing::info!("stopping: saying good-bye to the cluster");
        if timeout(BYE_TIMEOUT, presence.say_bye()).await.is_err() {
            tracing::warn!("could not say good-bye: other nodes will notice by themselves");
        }
    }

    /// Ends the engine, after what was accepted has left.
    pub(crate) async fn leave(&self) {
        if timeout(BYE_TIMEOUT, self.pubsub.close()).await.is_err() {
            tracing::warn!("the engine did not end in time; what it had queued may be lost");
        }
    }
}

/// Whether there can be peers whose presences a newcomer lacks.
fn expects_peers(cluster: &ClusterConfig) -> bool {
    let is_told = !others(&cluster.peers, &cluster.listen).is_empty();
    match cluster.engine {
        Some(Engine::Zenoh) => is_told || cluster.discovery == Discovery::Multicast,
        Some(Engine::Nats | Engine::Redis) => true,
        None => false,
    }
}

/// Says why the node would not take part in its cluster, as far as that can be known without
/// opening the engine.
pub(crate) fn check(config: &ServerConfig) -> Result<(), ClusterError> {
    let cluster = &config.cluster;
    let Some(engine) = cluster.engine else {
        return Ok(());
    };
    let checked = engine::check(engine, cluster, &node_name(cluster)?);
    checked.map_err(|reason| ClusterError::Engine { engine, reason })
}

fn node_name(cluster: &ClusterConfig) -> Result<String, ClusterError> {
    let given = cluster.node.clone();
    given.or_else(host_name).ok_or(ClusterError::NoName)
}

/// The name of this machine.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.or_else(|_| {
        let output = std::process::Command::new("hostname").output()?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let name = name.ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}
