//! Keys of what one client may have and send: `[limits]`, rates of `[socket]`, trusted proxies of
//! `[http]`; and of what is shown of the server: `[metrics]` and `[otel]`.

use herenow_channels::{ForwardedHeader, TrustedProxies};

use crate::config::kind::{Key, Kind, ListForm};
use crate::config::{ServerConfig, url};

/// The highest rate and burst that can be asked for.
const MAX_RATE: usize = 10_000_000;

/// Keys of limits.
pub(super) static LIMIT_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "http.trusted_proxies",
        help: "addresses and networks of proxies, such as 10.0.0.0/8, whose forwarded headers say who the client is and which host and scheme it asked for; the headers of others are ignored",
        kind: Kind::Texts {
            form: ListForm {
                what: "a list of addresses and networks",
                such_as: &["127.0.0.1", "10.0.0.0/8", "fd00::/8"],
                each: "",
            },
            check: is_network,
            get: |config| config.proxies.trusted.clone(),
            set: |config, networks| config.proxies.trusted = networks,
        },
    },
    Key {
        name: "http.forwarded_header",
        help: "the header that trusted proxies write: x-forwarded-for (with x-forwarded-proto and x-forwarded-host), or forwarded as RFC 7239 has it; the other one is ignored",
        kind: Kind::Choice {
            words: &["x-forwarded-for", "forwarded"],
            get: |config| match config.proxies.header {
                ForwardedHeader::XForwardedFor => "x-forwarded-for",
                ForwardedHeader::Forwarded => "forwarded",
            },
            set: |config, word| {
                config.proxies.header = match word {
                    "forwarded" => ForwardedHeader::Forwarded,
                    _ => ForwardedHeader::XForwardedFor,
                };
            },
        },
    },
    Key {
        name: "limits.sockets_per_address",
        help: "connections that one address may have, or one IPv6 network of 64 bits; one more is answered 429; 0: no limit; the loopback has none",
        kind: Kind::Count {
            min: 0,
            max: 100_000_000,
            get: |config| config.limits.sockets_per_address,
            set: |config, count| config.limits.sockets_per_address = count,
        },
    },
    Key {
        name: "limits.sockets_per_user",
        help: "connections that one user may have, by its token; one more is answered 429, or the join with the token is refused; 0: no limit",
        kind: Kind::Count {
            min: 0,
            max: 100_000_000,
            get: |config| config.limits.sockets_per_user,
            set: |config, count| config.limits.sockets_per_user = count,
        },
    },
    Key {
        name: "limits.handshake_rate",
        help: "new connections of one address in a second; more are answered 429; 0: no limit; the loopback has none",
        kind: Kind::Count {
            min: 0,
            max: MAX_RATE,
            get: |config| config.limits.handshake_rate.per_second as usize,
            set: |config, count| config.limits.handshake_rate.per_second = narrow(count),
        },
    },
    Key {
        name: "limits.handshake_burst",
        help: "new connections of one address at once, after a time without any",
        kind: Kind::Count {
            min: 1,
            max: MAX_RATE,
            get: |config| config.limits.handshake_rate.burst as usize,
            set: |config, count| config.limits.handshake_rate.burst = narrow(count),
        },
    },
    Key {
        name: "limits.user_rate",
        help: "new connections of one user in a second, by its token; more are answered 429, or the join with the token is refused; 0: no limit",
        kind: Kind::Count {
            min: 0,
            max: MAX_RATE,
            get: |config| config.limits.user_rate.per_second as usize,
            set: |config, count| config.limits.user_rate.per_second = narrow(count),
        },
    },
    Key {
        name: "limits.user_burst",
        help: "new connections of one user at once, after a time without any",
        kind: Kind::Count {
            min: 1,
            max: MAX_RATE,
            get: |config| config.limits.user_rate.burst as usize,
            set: |config, count| config.limits.user_rate.burst = narrow(count),
        },
    },
    Key {
        name: "limits.max_addresses",
        help: "addresses without a connection whose rate is remembered; more are let in without a look at it",
        kind: Kind::Count {
            min: 1_000,
            max: 100_000_000,
            get: |config| config.limits.max_addresses,
            set: |config, count| config.limits.max_addresses = count,
        },
    },
    Key {
        name: "limits.max_users",
        help: "users without a connection whose rate is remembered; more are let in without a look at it",
        kind: Kind::Count {
            min: 1_000,
            max: 100_000_000,
            get: |config| config.limits.max_users,
            set: |config, count| config.limits.max_users = count,
        },
    },
    Key {
        name: "socket.message_rate",
        help: "messages that one connection may send in a second; one more is answered with an error, and a client that goes on is closed with 1008; 0: no limit",
        kind: Kind::Count {
            min: 0,
            max: MAX_RATE,
            get: |config| config.socket.message_rate.per_second as usize,
            set: |config, count| config.socket.message_rate.per_second = narrow(count),
        },
    },
    Key {
        name: "socket.message_burst",
        help: "messages that one connection may send at once, after a time without any",
        kind: Kind::Count {
            min: 1,
            max: MAX_RATE,
            get: |config| config.socket.message_rate.burst as usize,
            set: |config, count| config.socket.message_rate.burst = narrow(count),
        },
    },
    Key {
        name: "socket.join_rate",
        help: "joins that one connection may send in a second; one more is refused; 0: no limit",
        kind: Kind::Count {
            min: 0,
            max: MAX_RATE,
            get: |config| config.socket.join_rate.per_second as usize,
            set: |config, count| config.socket.join_rate.per_second = narrow(count),
        },
    },
    Key {
        name: "socket.join_burst",
        help: "joins that one connection may send at once, after a time without any",
        kind: Kind::Count {
            min: 1,
            max: MAX_RATE,
            get: |config| config.socket.join_rate.burst as usize,
            set: |config, count| config.socket.join_rate.burst = narrow(count),
        },
    },
    Key {
        name: "metrics.open",
        help: "whether /metrics answers everybody who reaches it; without it, a scrape needs a key of the API with the right `read`",
        kind: Kind::Switch {
            get: |config| Some(config.observe.is_open),
            set: |config, on| config.observe.is_open = on,
        },
    },
    Key {
        name: "otel.endpoint",
        help: "where traces go: the URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; the program must be built with --features otel",
        kind: Kind::Url {
            expected: "a URL that begins with http:// or https://, without a user or a password",
            check: url::is_bare_http,
            get: |config| config.observe.traces.endpoint.as_deref(),
            set: |config, url| config.observe.traces.endpoint = Some(url),
        },
    },
    Key {
        name: "otel.sample_percent",
        help: "how many of a hundred traces are sent",
        kind: Kind::Count {
            min: 0,
            max: 100,
            get: |config| config.observe.traces.sample_percent,
            set: |config, count| config.observe.traces.sample_percent = count,
        },
    },
];

/// A count within [`MAX_RATE`].
fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("the greatest value of this key fits its type")
}

fn is_network(text: &str) -> bool {
    TrustedProxies::new([text], ForwardedHeader::default()).is_ok()
}
