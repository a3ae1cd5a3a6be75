//! [`ClusterConfig`]: the engine between nodes, and which keys go with which engine.

use std::fmt;
use std::time::Duration;

use super::{Secret, ServerConfig};

/// The NATS server of who names none.
pub(super) const NATS_URL: &str = "nats://127.0.0.1:4222";
/// The Redis server of who names none.
pub(super) const REDIS_URL: &str = "redis://127.0.0.1:6379";

/// What connects this node to others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// What carries messages between nodes; `None`, the default, is a node alone.
    pub engine: Option<Engine>,
    /// This node's name, unique in the cluster; `None`, the default, is the host's name.
    pub node: Option<String>,
    /// The cluster's name, `herenow`.
    pub name: String,
    /// What all nodes of the cluster know and others do not, none.
    pub secret: Option<Secret>,
    /// A file to read the secret from, none.
    pub secret_file: Option<String>,
    /// Where to listen to other nodes, `tcp/127.0.0.1:7447`; zenoh.
    pub listen: Vec<String>,
    /// Nodes to connect to; zenoh.
    pub peers: Vec<String>,
    /// Whether nodes are also found by themselves, no; zenoh.
    pub discovery: Discovery,
    /// The NATS server, `nats://127.0.0.1:4222` if `None`.
    pub nats_url: Option<String>,
    /// The Redis server, `redis://127.0.0.1:6379` if `None`.
    pub redis_url: Option<String>,
    /// Files of TLS between nodes, or to the broker.
    pub tls: TlsFiles,
    /// How long `/readyz` waits for the rows of the first peers, 5 s.
    pub ready_timeout: Duration,
}

/// What carries messages between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// zenoh: the nodes talk to each other.
    Zenoh,
    /// A NATS server.
    Nats,
    /// A Redis server.
    Redis,
}

/// Whether nodes find each other without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Only those that are given, and those they know.
    Off,
    /// By multicast on the local network.
    Multicast,
}

/// PEM files of TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The authority that others' certificates must be of.
    pub ca: Option<String>,
    /// This node's certificate.
    pub cert: Option<String>,
    /// The certificate's private key.
    pub key: Option<String>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            engine: None,
            node: None,
            name: "herenow".to_owned(),
            secret: None,
            secret_file: None,
            listen: vec!["tcp/127.0.0.1:7447".to_owned()],
            peers: Vec::new(),
            discovery: Discovery::Off,
            nats_url: None,
            redis_url: None,
            tls: TlsFiles::default(),
            ready_timeout: Duration::from_secs(5),
        }
    }
}

impl Engine {
    const ALL: [Self; 3] = [Self::Zenoh, Self::Nats, Self::Redis];

    /// Whether this program has the engine.
    pub fn is_built(self) -> bool {
        match self {
            Self::Zenoh => cfg!(feature = "zenoh"),
            Self::Nats => cfg!(feature = "nats"),
            Self::Redis => cfg!(feature = "redis"),
        }
    }

    /// The engines that this program has, or `none`.
    pub(super) fn built() -> String {
        let built = Self::ALL.into_iter().filter(|engine| engine.is_built());
        let names: Vec<&str> = built.map(Self::as_str).collect();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    }

    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zenoh => "zenoh",
            Self::Nats => "nats",
            Self::Redis => "redis",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == word)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key, another one that it does not go with, and why.
type Conflicting = (&'static str, &'static str, &'static str);

/// Tells what `key`, which is set, does not go with.
pub(super) fn conflict(
    config: &ServerConfig,
    key: &'static str,
    is_set: &dyn Fn(&str) -> bool,
) -> Option<Conflicting> {
    let cluster = &config.cluster;
    let name = key.strip_prefix("cluster.")?;
    let (is_fine, rule) = match name {
        "engine" => (true, ""),
        "listen" | "peers" | "discovery" => (
            cluster.engine == Some(Engine::Zenoh),
            "it is a setting of --cluster zenoh",
        ),
        "nats_url" => (
            cluster.engine == Some(Engine::Nats),
            "it is a setting of --cluster nats",
        ),
        "redis_url" => (
            cluster.engine == Some(Engine::Redis),
            "it is a setting of --cluster redis",
        ),
        _ => (
            cluster.engine.is_some(),
            "it needs an engine, such as --cluster zenoh",
        ),
    };
    if !is_fine {
        return Some((key, "cluster.engine", rule));
    }
    let shard = &config.presence.shard;
    match name {
        "secret" if is_set("cluster.secret_file") => Some((
            key,
            "cluster.secret_file",
            "one of them has to go, or nobody knows which counts",
        )),
        "down_period" | "heartbeat_period" if shard.down_period < shard.heartbeat_period * 3 => {
            // Said once, of the one that is set, or of the first if both are.
            let is_second = name == "down_period" && is_set("cluster.heartbeat_period");
            let rule = "down_period must be at least three times heartbeat_period";
            let other = match name {
                "down_period" => "cluster.heartbeat_period",
                _ => "cluster.down_period",
            };
            (!is_second).then_some((key, other, rule))
        }
        "permdown_period" if shard.permdown_period <= shard.down_period => Some((
            key,
            "cluster.down_period",
            "permdown_period must be longer than down_period",
        )),
        _ => None,
    }
}

/// Returns keys that are missing, each with one that is set and needs it.
pub(super) fn missing(
    config: &ServerConfig,
    is_set: &dyn Fn(&str) -> bool,
) -> Vec<(&'static str, &'static str)> {
    const CA: &str = "cluster.tls_ca";
    const CERT: &str = "cluster.tls_cert";
    const KEY: &str = "cluster.tls_key";
    // Between peers both sides show a certificate; a broker may be content with a password.
    let needs: &[(&str, &str)] = match config.cluster.engine {
        Some(Engine::Zenoh) => &[(CA, CERT), (CERT, KEY), (KEY, CA)],
        Some(Engine::Nats | Engine::Redis) => &[(CERT, KEY), (KEY, CERT)],
        None => &[],
    };
    let missing = needs
        .iter()
        .filter(|(has, needs)| is_set(has) && !is_set(needs));
    missing.copied().collect()
}

#[cfg(test)]
#[cfg(all(feature = "nats", feature = "redis"))]
mod tests {
    use super::*;

    #[test]
    fn srv_1812_the_brokers_that_are_shown_are_those_that_engines_connect_to_by_themselves() {
        assert_eq!(herenow_nats::NatsConfig::default().url, NATS_URL);
        assert_eq!(herenow_redis::RedisConfig::default().url, REDIS_URL);
    }
}
