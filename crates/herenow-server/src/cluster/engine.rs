//! Opens an engine with the settings of `[cluster]`. Each is a feature of this crate.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use herenow_pubsub::Adapter;
use herenow_pubsub::broker::Disconnected;

use crate::config::{ClusterConfig, Engine};

/// An engine that is open.
pub(super) struct Opened {
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) probe: Arc<dyn Probe>,
}

/// How an engine that is open is asked how it does.
pub(super) trait Probe: Send + Sync {
    /// Reads what it has counted.
    fn stats(&self) -> EngineStats;

    /// For how long it has no broker, and why; never of one that needs none.
    fn disconnected(&self) -> Option<Disconnected> {
        None
    }

    /// Who is linked to at any of these addresses; nobody by one that has a broker.
    fn who_is_at(&self, _addresses: &[SocketAddr]) -> Who {
        Who::Nobody
    }

    /// Whether a node is there, at whichever address.
    fn is_there(&self, _node: &str) -> bool {
        false
    }
}

/// Who is at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "zenoh"),
    allow(dead_code, reason = "others have no addresses")
)]
pub(super) enum Who {
    Nobody,
    /// Somebody who is no node of this cluster.
    Stranger,
    /// A router, which others may be behind.
    Router,
    /// This node.
    Node(String),
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// What an engine has counted, whichever it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EngineStats {
    /// Whether it has its connection; one without a broker always has.
    pub(crate) is_connected: bool,
    /// Connections to its broker after the first, or to nodes that had been gone.
    pub(crate) n_reconnects: u64,
    /// Messages that wait for it.
    pub(crate) n_queued: u64,
    pub(crate) n_sent: u64,
    pub(crate) n_received: u64,
    /// Messages that it did not take.
    pub(crate) n_refused: u64,
    /// Messages that it took or brought, and that were lost.
    pub(crate) n_lost: u64,
    pub(crate) n_malformed: u64,
}

/// Opens `engine` for `node`; an error is what the engine said, with all causes.
pub(super) async fn open(
    engine: Engine,
    config: &ClusterConfig,
    node: &str,
) -> Result<Opened, String> {
    match engine {
        Engine::Zenoh => zenoh::open(config, node).await,
        Engine::Nats => nats::open(config, node).await,
        Engine::Redis => redis::open(config, node).await,
    }
}

/// Says what is wrong with the settings of `engine` for `node`, as far as that can be known without
/// opening it.
pub(super) fn check(engine: Engine, config: &ClusterConfig, node: &str) -> Result<(), String> {
    match engine {
        Engine::Zenoh => zenoh::check(config, node),
        Engine::Nats => nats::check(config, node),
        Engine::Redis => redis::check(config, node),
    }
}

/// What a broker's client says of its settings, with the key if it is the address.
#[cfg(any(feature = "nats", feature = "redis"))]
fn of_broker(key: &str, error: &herenow_pubsub::broker::ConfigError) -> String {
    match error {
        herenow_pubsub::broker::ConfigError::Url { .. } => format!("{key}: {error}"),
        _ => error.to_string(),
    }
}

#[cfg(any(feature = "nats", feature = "redis"))]
impl EngineStats {
    fn of_broker(stats: herenow_pubsub::broker::BrokerStats) -> Self {
        Self {
            is_connected: stats.is_connected,
            n_reconnects: stats.n_reconnects,
            n_queued: stats.n_queued as u64,
            n_sent: stats.n_sent,
            n_received: stats.n_received,
            n_refused: stats.n_refused,
            n_lost: stats.n_lost,
            n_malformed: stats.n_malformed,
        }
    }
}

#[cfg(feature = "zenoh")]
mod zenoh {
    use std::io;

    use herenow_pubsub::broker::in_words;
    use herenow_zenoh::{
        ConfigError, Discovery, Linked, OpenError, Tls, ZenohAdapter, ZenohConfig,
    };

    use super::super::peers::others;
    use super::{Arc, ClusterConfig, EngineStats, Opened, Probe, SocketAddr, Who};
    use crate::config;

    /// zenoh's own group for finding peers.
    const MULTICAST: &str = "224.0.0.224:7446";

    pub(super) fn check(config: &ClusterConfig, node: &str) -> Result<(), String> {
        let checked = settings(config, node).check();
        checked.map_err(|error| match error {
            ConfigError::Address { .. } => format!("cluster.{error}"),
            error => error.to_string(),
        })
    }

    pub(super) async fn open(config: &ClusterConfig, node: &str) -> Result<Opened, String> {
        let adapter = ZenohAdapter::open(&settings(config, node)).await;
        let adapter = adapter.map_err(|error| match error {
            OpenError::Listen { address, cause } => not_listened(&address, &cause),
            error => in_words(&error),
        })?;
        Ok(Opened {
            adapter: adapter.clone(),
            probe: Arc::new(adapter),
        })
    }

    fn not_listened(address: &str, cause: &io::Error) -> String {
        let why = match cause.kind() {
            io::ErrorKind::AddrInUse => "another node or program listens there already; stop it, \
                 or give this node an address of its own with --cluster-listen"
                .to_owned(),
            _ => cause.to_string(),
        };
        format!("cluster.listen: cannot listen on {address}: {why}")
    }

    fn settings(config: &ClusterConfig, node: &str) -> ZenohConfig {
        let mut zenoh = ZenohConfig::default();
        node.clone_into(&mut zenoh.node);
        zenoh.cluster.clone_from(&config.name);
        zenoh.listen.clone_from(&config.listen);
        zenoh.peers = others(&config.peers, &config.listen);
        if config.discovery == config::Discovery::Multicast {
            zenoh.discovery = Discovery::Multicast {
                group: MULTICAST.parse().expect("it is an address"),
                interface: "auto".to_owned(),
            };
        }
        let files = &config.tls;
        if let (Some(ca), Some(certificate), Some(key)) = (&files.ca, &files.cert, &files.key) {
            zenoh.tls = Some(Tls {
                ca: ca.into(),
                certificate: certificate.into(),
                private_key: key.into(),
                verify_names: false,
            });
        }
        zenoh
    }

    impl Probe for Arc<ZenohAdapter> {
        fn stats(&self) -> EngineStats {
            let stats = ZenohAdapter::stats(self);
            EngineStats {
                is_connected: true,
                n_reconnects: stats.n_reconnects,
                n_queued: (stats.n_queued + stats.n_waiting) as u64,
                n_sent: stats.n_sent,
                n_received: stats.n_received,
                n_refused: stats.n_refused,
                n_lost: stats.n_failed + stats.n_overrun,
                n_malformed: stats.n_malformed,
            }
        }

        fn who_is_at(&self, addresses: &[SocketAddr]) -> Who {
            match self.linked_at(addresses) {
                Linked::Nobody => Who::Nobody,
                Linked::Router => Who::Router,
                Linked::Node(node) => Who::Node(node),
                _ => Who::Stranger,
            }
        }

        fn is_there(&self, node: &str) -> bool {
            ZenohAdapter::is_there(self, node)
        }
    }
}

#[cfg(feature = "nats")]
mod nats {
    use herenow_nats::{Identity, NatsAdapter, NatsConfig, Tls};
    use herenow_pubsub::broker::in_words;

    use super::{Arc, ClusterConfig, Disconnected, EngineStats, Opened, Probe, of_broker};

    pub(super) fn check(config: &ClusterConfig, node: &str) -> Result<(), String> {
        let checked = settings(config, node).check();
        checked.map_err(|error| of_broker("cluster.nats_url", &error))
    }

    pub(super) async fn open(config: &ClusterConfig, node: &str) -> Result<Opened, String> {
        let adapter = NatsAdapter::connect(settings(config, node)).await;
        let adapter = adapter.map_err(|error| in_words(&error))?;
        Ok(Opened {
            adapter: adapter.clone(),
            probe: Arc::new(adapter),
        })
    }

    impl Probe for Arc<NatsAdapter> {
        fn stats(&self) -> EngineStats {
            EngineStats::of_broker(NatsAdapter::stats(self))
        }

        fn disconnected(&self) -> Option<Disconnected> {
            NatsAdapter::disconnected(self)
        }
    }

    fn settings(config: &ClusterConfig, node: &str) -> NatsConfig {
        let mut nats = NatsConfig::new(node);
        nats.cluster.clone_from(&config.name);
        if let Some(url) = &config.nats_url {
            nats.url.clone_from(url);
        }
        let files = &config.tls;
        if files.ca.is_some() || files.cert.is_some() {
            let pair = files.cert.as_ref().zip(files.key.as_ref());
            nats.tls = Some(Tls {
                ca: files.ca.as_ref().map(Into::into),
                identity: pair.map(|(certificate, key)| Identity {
                    certificate: certificate.into(),
                    key: key.into(),
                }),
            });
        }
        nats
    }
}

#[cfg(feature = "redis")]
mod redis {
    use herenow_pubsub::broker::in_words;
    use herenow_redis::{Identity, RedisAdapter, RedisConfig, Tls};

    use super::{Arc, ClusterConfig, Disconnected, EngineStats, Opened, Probe, of_broker};

    pub(super) fn check(config: &ClusterConfig, node: &str) -> Result<(), String> {
        let checked = settings(config, node).check();
        checked.map_err(|error| of_broker("cluster.redis_url", &error))
    }

    pub(super) async fn open(config: &ClusterConfig, node: &str) -> Result<Opened, String> {
        let adapter = RedisAdapter::connect(settings(config, node)).await;
        let adapter = adapter.map_err(|error| in_words(&error))?;
        Ok(Opened {
            adapter: adapter.clone(),
            probe: Arc::new(adapter),
        })
    }

    impl Probe for Arc<RedisAdapter> {
        fn stats(&self) -> EngineStats {
            EngineStats::of_broker(RedisAdapter::stats(self))
        }

        fn disconnected(&self) -> Option<Disconnected> {
            RedisAdapter::disconnected(self)
        }
    }

    fn settings(config: &ClusterConfig, node: &str) -> RedisConfig {
        let mut redis = RedisConfig::new(node);
        redis.cluster.clone_from(&config.name);
        if let Some(url) = &config.redis_url {
            redis.url.clone_from(url);
        }
        let files = &config.tls;
        if files.ca.is_some() || files.cert.is_some() {
            let pair = files.cert.as_ref().zip(files.key.as_ref());
            redis.tls = Some(Tls {
                ca: files.ca.as_ref().map(Into::into),
                identity: pair.map(|(certificate, key)| Identity {
                    certificate: certificate.into(),
                    key: key.into(),
                }),
            });
        }
        redis
    }
}

/// What stands for an engine that is not built in; the configuration has refused it before.
macro_rules! not_built {
    ($feature:literal, $name:ident) => {
        #[cfg(not(feature = $feature))]
        mod $name {
            use super::{ClusterConfig, Opened};

            pub(super) async fn open(
                _config: &ClusterConfig,
                _node: &str,
            ) -> Result<Opened, String> {
                Err("this program was built without it".to_owned())
            }

            pub(super) fn check(_config: &ClusterConfig, _node: &str) -> Result<(), String> {
                Err("this program was built without it".to_owned())
            }
        }
    };
}

not_built!("zenoh", zenoh);
not_built!("nats", nats);
not_built!("redis", redis);
