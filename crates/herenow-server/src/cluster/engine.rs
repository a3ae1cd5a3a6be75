//! Opens an engine with the settings of `[cluster]`. Each is a feature of this crate.

use std::sync::Arc;

use herenow_pubsub::Adapter;

use crate::config::{ClusterConfig, Engine};

/// Opens `engine` for `node`; an error is what the engine said, with all causes.
pub(super) async fn open(
    engine: Engine,
    config: &ClusterConfig,
    node: &str,
) -> Result<Arc<dyn Adapter>, String> {
    match engine {
        Engine::Zenoh => zenoh::open(config, node).await,
        Engine::Nats => nats::open(config, node).await,
        Engine::Redis => redis::open(config, node).await,
    }
}

#[cfg(any(feature = "zenoh", feature = "nats", feature = "redis"))]
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[cfg(feature = "zenoh")]
mod zenoh {
    use herenow_zenoh::{Discovery, Tls, ZenohAdapter, ZenohConfig};

    use super::{Adapter, Arc, ClusterConfig, in_words};
    use crate::config;

    /// zenoh's own group for finding peers.
    const MULTICAST: &str = "224.0.0.224:7446";

    pub(super) async fn open(
        config: &ClusterConfig,
        node: &str,
    ) -> Result<Arc<dyn Adapter>, String> {
        let mut zenoh = ZenohConfig::default();
        node.clone_into(&mut zenoh.node);
        zenoh.cluster.clone_from(&config.name);
        zenoh.listen.clone_from(&config.listen);
        zenoh.peers.clone_from(&config.peers);
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
        let adapter = ZenohAdapter::open(&zenoh).await;
        Ok(adapter.map_err(|error| in_words(&error))?)
    }
}

#[cfg(feature = "nats")]
mod nats {
    use herenow_nats::{Identity, NatsAdapter, NatsConfig, Tls};

    use super::{Adapter, Arc, ClusterConfig, in_words};

    pub(super) async fn open(
        config: &ClusterConfig,
        node: &str,
    ) -> Result<Arc<dyn Adapter>, String> {
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
        let adapter = NatsAdapter::connect(nats).await;
        Ok(adapter.map_err(|error| in_words(&error))?)
    }
}

#[cfg(feature = "redis")]
mod redis {
    use herenow_redis::{Identity, RedisAdapter, RedisConfig, Tls};

    use super::{Adapter, Arc, ClusterConfig, in_words};

    pub(super) async fn open(
        config: &ClusterConfig,
        node: &str,
    ) -> Result<Arc<dyn Adapter>, String> {
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
        let adapter = RedisAdapter::connect(redis).await;
        Ok(adapter.map_err(|error| in_words(&error))?)
    }
}

/// What stands for an engine that is not built in; the configuration has refused it before.
macro_rules! not_built {
    ($feature:literal, $name:ident) => {
        #[cfg(not(feature = $feature))]
        mod $name {
            use super::{Adapter, Arc, ClusterConfig};

            pub(super) async fn open(
                _config: &ClusterConfig,
                _node: &str,
            ) -> Result<Arc<dyn Adapter>, String> {
                Err("this program was built without it".to_owned())
            }
        }
    };
}

not_built!("zenoh", zenoh);
not_built!("nats", nats);
not_built!("redis", redis);
