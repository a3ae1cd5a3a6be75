//! Keys of the HTTP API: `[api]`.

use std::time::Duration;

use super::DAY;
use crate::config::ServerConfig;
use crate::config::api::{ApiKey, KEYS_FORM};
use crate::config::kind::{Key, Kind, parse_address};

/// The longest body that can be allowed: it is held in memory.
const MAX_BODY: usize = 64 << 20;

/// Keys of `[api]`.
pub(super) static API_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "api.listen",
        help: "an address and port of its own for the HTTP API; without it, /api is on the main one",
        kind: Kind::MaybeText {
            expected: "an IP address and port such as \"127.0.0.1:4001\"",
            check: |text| parse_address(text).is_some(),
            show: |config| config.api.listen.map(|address| address.to_string()),
            set: |config, text| config.api.listen = parse_address(&text),
        },
    },
    Key {
        name: "api.keys",
        help: "who may use the HTTP API: entries NAME:RIGHT:SECRET, where the right is `read`, `write` or `admin`, each including those before it (better in the environment or in api.keys_file than in a flag, which all users of the machine can see)",
        kind: Kind::Secrets {
            form: KEYS_FORM,
            wrong: |text| ApiKey::read(text).err(),
            set: |config, texts| {
                config.api.keys = texts
                    .iter()
                    .filter_map(|text| ApiKey::parse(text))
                    .collect();
            },
        },
    },
    Key {
        name: "api.keys_file",
        help: "a file with more of api.keys, one a line; empty lines and those that begin with # are left out",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: |text| !text.is_empty(),
            show: |config| config.api.keys_file.clone(),
            set: |config, path| config.api.keys_file = Some(path),
        },
    },
    Key {
        name: "api.max_body_bytes",
        help: "largest body of a request to the HTTP API; a larger one is answered 413",
        kind: Kind::Size {
            min: 1024,
            max: MAX_BODY,
            get: |config| config.api.max_body_bytes,
            set: |config, bytes| config.api.max_body_bytes = bytes,
        },
    },
    Key {
        name: "api.body_timeout",
        help: "time that the body of a request to the HTTP API, or of a broadcast over HTTP, may take to arrive; a slower one is answered 408",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: DAY,
            get: |config| config.api.body_timeout,
            set: |config, time| config.api.body_timeout = time,
        },
    },
    Key {
        name: "api.max_page",
        help: "most entries of one page of the HTTP API",
        kind: Kind::Count {
            min: 1,
            max: 100_000,
            get: |config| config.api.max_page,
            set: |config, count| config.api.max_page = count,
        },
    },
    Key {
        name: "api.max_batch",
        help: "most topics or keys that one request to the HTTP API can ask for",
        kind: Kind::Count {
            min: 1,
            max: 100_000,
            get: |config| config.api.max_batch,
            set: |config, count| config.api.max_batch = count,
        },
    },
    Key {
        name: "api.max_leases",
        help: "presences that this node holds for backends; one more is answered 503",
        kind: Kind::Count {
            min: 0,
            max: 10_000_000,
            get: |config| config.api.max_leases,
            set: |config, count| config.api.max_leases = count,
        },
    },
    Key {
        name: "api.min_lease",
        help: "shortest time for which a backend can make a user present",
        kind: Kind::Duration {
            min: Duration::from_secs(1),
            max: DAY,
            get: |config| config.api.min_lease,
            set: |config, time| config.api.min_lease = time,
        },
    },
    Key {
        name: "api.max_lease",
        help: "longest time for which a backend can make a user present without renewing it",
        kind: Kind::Duration {
            min: Duration::from_secs(1),
            max: DAY,
            get: |config| config.api.max_lease,
            set: |config, time| config.api.max_lease = time,
        },
    },
];
