//! Every key of the configuration, once: the file, the environment, the flags and the documentation
//! are all made from these tables.

mod api;
mod cluster;
mod identity;
mod fetch;
mod limits;
mod presence;
mod socket;
mod supabase;
mod tls;
mod topic;
mod webhook;

use std::num::NonZero;
use std::time::Duration;

use self::api::API_KEYS;
use self::cluster::CLUSTER_KEYS;
use self::fetch::FETCH_KEYS;
use self::identity::IDENTITY_KEYS;
use self::limits::LIMIT_KEYS;
use self::presence::PRESENCE_KEYS;
use self::socket::{LONGPOLL_KEYS, SOCKET_KEYS};
use self::supabase::SUPABASE_KEYS;
use self::tls::TLS_KEYS;
pub(crate) use self::topic::TOPIC_KEYS;
pub(crate) use self::webhook::TARGET_KEYS;
use self::webhook::{EVENTS_KEYS, WEBHOOK_KEYS};
use super::kind::{Key, Kind};
use super::{LogFormat, ServerConfig};

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Longest time for which diffs can be made to wait: beyond it, a list would look broken.
const MAX_WINDOW: Duration = Duration::from_secs(60);
const GIB: usize = 1 << 30;

/// Keys at the top of the file and of its sections, in the order in which help lists them.
///
/// `topics` and `webhooks`, which are lists of tables, are read by [`super::load`].
pub(crate) fn keys() -> impl Iterator<Item = &'static Key<ServerConfig>> {
    [
        SERVER_KEYS,
        TLS_KEYS,
        IDENTITY_KEYS,
        API_KEYS,
        WEBHOOK_KEYS,
        EVENTS_KEYS,
        CLUSTER_KEYS,
        SOCKET_KEYS,
        LONGPOLL_KEYS,
        SUPABASE_KEYS,
        LIMIT_KEYS,
        PRESENCE_KEYS,
        FETCH_KEYS,
    ]
    .into_iter()
    .flatten()
}

static SERVER_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "listen",
        help: "the address and port to listen on",
        kind: Kind::Address {
            get: |config| config.listen,
            set: |config, address| config.listen = address,
        },
    },
    Key {
        name: "dev",
        help: "trust clients to say who they are; without it, true when listening on loopback with no key for tokens",
        kind: Kind::Switch {
            get: |config| config.dev,
            set: |config, on| config.dev = Some(on),
        },
    },
    Key {
        name: "ws_echo",
        help: "echo WebSocket messages of up to 16 MiB at /echo/websocket, for suites that judge WebSockets",
        kind: Kind::Switch {
            get: |config| Some(config.ws_echo),
            set: |config, on| config.ws_echo = on,
        },
    },
    Key {
        name: "log.level",
        help: "what to log: error, warn, info, debug, trace, or directives such as `info,herenow_channels=debug`; libraries are heard below info only if a directive names them",
        kind: Kind::Text {
            expected: "a level (error, warn, info, debug, trace) or directives such as \"info,herenow_channels=debug\"",
            check: super::is_log_filter,
            get: |config| config.log.level.clone(),
            set: |config, level| config.log.level = level,
        },
    },
    Key {
        name: "log.format",
        help: "how to write the log: `pretty` for people, `json` for machines",
        kind: Kind::Choice {
            words: &["pretty", "json"],
            get: |config| config.log.format.as_str(),
            set: |config, word| config.log.format = LogFormat::from_word(word),
        },
    },
    Key {
        name: "http.demo",
        help: "whether the demo page is served at /demo, and / leads there where api.listen has the dashboard",
        kind: Kind::Switch {
            get: |config| Some(config.demo),
            set: |config, on| config.demo = on,
        },
    },
    Key {
        name: "http.header_timeout",
        help: "time in which a connection must have sent its request's headers",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: DAY,
            get: |config| config.http.header_timeout,
            set: |config, time| config.http.header_timeout = time,
        },
    },
    Key {
        name: "http.max_header_bytes",
        help: "largest head of a request, its first line and headers as they are written; a larger one is answered 431, with a text that names this up to twice as much and an empty body beyond",
        kind: Kind::Size {
            min: 8192,
            max: 16 << 20,
            get: |config| config.http.max_header_bytes,
            set: |config, bytes| config.http.max_header_bytes = bytes,
        },
    },
    Key {
        name: "http.max_headers",
        help: "headers of one request; more are answered 431, with a text that names this up to twice as many and an empty body beyond",
        kind: Kind::Count {
            min: 1,
            max: 10_000,
            get: |config| config.http.max_headers.get(),
            set: |config, count| config.http.max_headers = at_least_one(count),
        },
    },
    Key {
        name: "http.max_handshakes",
        help: "connections that have not sent a request yet; more wait until one has, or is closed for them (http.crowded_timeout)",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            get: |config| config.http.max_handshakes.get(),
            set: |config, count| config.http.max_handshakes = at_least_one(count),
        },
    },
    Key {
        name: "http.crowded_timeout",
        help: "time after which, while all of http.max_handshakes are taken, a connection that has not sent a request yet is closed for a newcomer: the oldest of the address that has the most of them, if that has more than one and than a 64th of all",
        kind: Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            get: |config| config.http.crowded_timeout,
            set: |config, time| config.http.crowded_timeout = time,
        },
    },
    Key {
        name: "http.write_timeout",
        help: "time for which a client may take nothing of an answer that waits for it; then its connection is cut; WebSockets have socket.max_queue_bytes instead",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: DAY,
            get: |config| config.http.write_timeout,
            set: |config, time| config.http.write_timeout = time,
        },
    },
    Key {
        name: "http.shutdown_timeout",
        help: "time that requests in hand get after the sockets are drained",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: DAY,
            get: |config| config.http.shutdown_timeout,
            set: |config, time| config.http.shutdown_timeout = time,
        },
    },
    Key {
        name: "drain.delay",
        help: "time between /readyz turning false, when the server stops, and the first socket being closed: what a load balancer needs to see it; new sockets are answered 503 meanwhile, open ones live on",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: DAY,
            get: |config| config.drain_delay,
            set: |config, delay| config.drain_delay = delay,
        },
    },
    Key {
        name: "drain.batch_size",
        help: "sockets that are closed in one go when the server stops",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
            get: |config| config.drain.batch_size.get(),
            set: |config, count| config.drain.batch_size = at_least_one(count),
        },
    },
    Key {
        name: "drain.batch_interval",
        help: "pause between two batches; shorter if they would not fit into drain.total",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: DAY,
            get: |config| config.drain.batch_interval,
            set: |config, time| config.drain.batch_interval = time,
        },
    },
    Key {
        name: "drain.total",
        help: "time over which all sockets are closed when the server stops; 0s: they end with it",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: DAY,
            get: |config| config.drain.total,
            set: |config, time| config.drain.total = time,
        },
    },
];

fn at_least_one(count: usize) -> NonZero<usize> {
    NonZero::new(count).expect("the least value of this key is 1")
}

/// A count in a smaller type, whose range the key's limits are within.
fn narrowed<T: TryFrom<NonZero<usize>, Error: std::fmt::Debug>>(count: NonZero<usize>) -> T {
    T::try_from(count).expect("the greatest value of this key fits its type")
}
