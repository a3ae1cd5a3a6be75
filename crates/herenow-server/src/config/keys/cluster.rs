//! Keys of the cluster: `[cluster]`.

use std::time::Duration;

use super::DAY;
use crate::config::cluster::{Discovery, Engine, NATS_URL, REDIS_URL};
use crate::config::kind::{Key, Kind, ListForm};
use crate::config::{Secret, ServerConfig};

/// The longest name of a node or cluster that all engines take.
const MAX_NAME_BYTES: usize = 128;

/// Keys of `[cluster]`.
pub(super) static CLUSTER_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "cluster.engine",
        help: "what connects this node to others: `zenoh` (peer to peer), `nats`, `redis`, or `none`",
        kind: Kind::Choice {
            words: &["none", "zenoh", "nats", "redis"],
            get: |config| config.cluster.engine.map_or("none", Engine::as_str),
            set: |config, word| config.cluster.engine = Engine::from_word(word),
        },
    },
    Key {
        name: "cluster.node",
        help: "this node's name, unique in the cluster; without it, the host's name",
        kind: Kind::MaybeText {
            expected: "a name of 1 to 128 bytes",
            check: is_name,
            show: |config| config.cluster.node.clone(),
            set: |config, node| config.cluster.node = Some(node),
        },
    },
    Key {
        name: "cluster.name",
        help: "the cluster's name; nodes of others are not heard, even on the same engine",
        kind: Kind::Text {
            expected: "a name of 1 to 128 bytes",
            check: is_name,
            get: |config| config.cluster.name.clone(),
            set: |config, name| config.cluster.name = name,
        },
    },
    Key {
        name: "cluster.secret",
        help: "what all nodes know and others do not; nodes without it are refused (better in the environment or in cluster.secret_file than in a flag, which all users of the machine can see)",
        kind: Kind::Secret {
            min_bytes: 16,
            set: |config, secret| config.cluster.secret = Some(Secret::new(secret)),
        },
    },
    Key {
        name: "cluster.secret_file",
        help: "a file to read cluster.secret from",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.cluster.secret_file.clone(),
            set: |config, path| config.cluster.secret_file = Some(path),
        },
    },
    Key {
        name: "cluster.listen",
        help: "where to listen to other nodes, for zenoh; a list, or given again",
        kind: Kind::Texts {
            form: ListForm {
                what: "a list of addresses",
                such_as: &["tcp/10.0.0.1:7447", "tcp/[fd00::1]:7447"],
                each: "tcp/HOST:PORT or, with cluster.tls_cert, tls/HOST:PORT",
            },
            check: is_endpoint,
            get: |config| config.cluster.listen.clone(),
            set: |config, addresses| config.cluster.listen = addresses,
        },
    },
    Key {
        name: "cluster.peers",
        help: "other nodes to connect to, for zenoh; a list, or given again; one that all have in common is enough",
        kind: Kind::Texts {
            form: ListForm {
                what: "a list of addresses",
                such_as: &["tcp/10.0.0.2:7447", "tcp/10.0.0.3:7447"],
                each: "tcp/HOST:PORT or, with cluster.tls_cert, tls/HOST:PORT",
            },
            check: is_endpoint,
            get: |config| config.cluster.peers.clone(),
            set: |config, addresses| config.cluster.peers = addresses,
        },
    },
    Key {
        name: "cluster.discovery",
        help: "whether zenoh nodes also find each other by themselves: `off`, or `multicast` on the local network",
        kind: Kind::Choice {
            words: &["off", "multicast"],
            get: |config| match config.cluster.discovery {
                Discovery::Off => "off",
                Discovery::Multicast => "multicast",
            },
            set: |config, word| {
                config.cluster.discovery = match word {
                    "multicast" => Discovery::Multicast,
                    _ => Discovery::Off,
                };
            },
        },
    },
    Key {
        name: "cluster.nats_url",
        help: "the NATS server, such as nats://10.0.0.1:4222, also with user:password@",
        kind: Kind::MaybeText {
            expected: "an address such as \"nats://127.0.0.1:4222\"",
            check: is_some_text,
            show: |config| {
                Some(without_password(
                    config.cluster.nats_url.as_deref().unwrap_or(NATS_URL),
                ))
            },
            set: |config, url| config.cluster.nats_url = Some(url),
        },
    },
    Key {
        name: "cluster.redis_url",
        help: "the Redis server, such as redis://10.0.0.1:6379, also with user:password@",
        kind: Kind::MaybeText {
            expected: "an address such as \"redis://127.0.0.1:6379\"",
            check: is_some_text,
            show: |config| {
                Some(without_password(
                    config.cluster.redis_url.as_deref().unwrap_or(REDIS_URL),
                ))
            },
            set: |config, url| config.cluster.redis_url = Some(url),
        },
    },
    Key {
        name: "cluster.tls_ca",
        help: "PEM file of the authority that certificates of other nodes, or of the broker, must be of",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.cluster.tls.ca.clone(),
            set: |config, path| config.cluster.tls.ca = Some(path),
        },
    },
    Key {
        name: "cluster.tls_cert",
        help: "PEM file of this node's certificate",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.cluster.tls.cert.clone(),
            set: |config, path| config.cluster.tls.cert = Some(path),
        },
    },
    Key {
        name: "cluster.tls_key",
        help: "PEM file of the certificate's private key",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.cluster.tls.key.clone(),
            set: |config, path| config.cluster.tls.key = Some(path),
        },
    },
    Key {
        name: "cluster.heartbeat_period",
        help: "how often a node says that it lives; all nodes should have the same",
        kind: Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            get: |config| config.presence.shard.heartbeat_period,
            set: |config, time| config.presence.shard.heartbeat_period = time,
        },
    },
    Key {
        name: "cluster.down_period",
        help: "silence after which a node's presences are hidden; at least three heartbeats",
        kind: Kind::Duration {
            min: Duration::from_millis(30),
            max: DAY,
            get: |config| config.presence.shard.down_period,
            set: |config, time| config.presence.shard.down_period = time,
        },
    },
    Key {
        name: "cluster.permdown_period",
        help: "silence after which a node is forgotten",
        kind: Kind::Duration {
            min: Duration::from_millis(31),
            max: DAY,
            get: |config| config.presence.shard.permdown_period,
            set: |config, time| config.presence.shard.permdown_period = time,
        },
    },
    Key {
        name: "cluster.ready_timeout",
        help: "how long /readyz waits until the presences of the other nodes are here",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: DAY,
            get: |config| config.cluster.ready_timeout,
            set: |config, time| config.cluster.ready_timeout = time,
        },
    },
];

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
}

fn is_some_text(text: &str) -> bool {
    !text.is_empty()
}

fn is_endpoint(text: &str) -> bool {
    let rest = text
        .strip_prefix("tcp/")
        .or_else(|| text.strip_prefix("tls/"));
    let parts = rest.and_then(|rest| rest.rsplit_once(':'));
    parts.is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', '?', '#', ' ']) && port.parse::<u16>().is_ok()
    })
}

/// An address as it may be shown.
fn without_password(url: &str) -> String {
    let shown = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    };
    let parts = url.split(',').map(shown);
    let without_query = |text: String| text.split('?').next().unwrap_or_default().to_owned();
    let parts: Vec<String> = parts.map(without_query).collect();
    parts.join(",")
}
