//! Keys of the section `[fetch]`: where fields of presences come from.

use std::time::Duration;

use super::identity::is_some_text;
use super::{DAY, GIB, YEAR};
use crate::config::kind::{Key, Kind};
use crate::config::{Secret, ServerConfig, fetch, url};

/// Where fields come from, and what is shown there.
pub(super) static FETCH_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "fetch.database_url",
        help: "the database that fields of presences are read from: postgres://… or sqlite:…",
        kind: Kind::Secret {
            min_bytes: 8,
            set: |config, url| config.fetch.database_url = Some(Secret::new(url)),
        },
    },
    Key {
        name: "fetch.database_url_file",
        help: "a file with fetch.database_url; line breaks at its end are not part of it",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.fetch.database_url_file.clone(),
            set: |config, path| config.fetch.database_url_file = Some(path),
        },
    },
    Key {
        name: "fetch.query",
        help: "what the database is asked: the key first, then fields, such as `select id, name from users where id = any($1)`",
        kind: Kind::MaybeText {
            expected: "a query such as \"select id, name from users where id = any($1)\"",
            check: fetch::is_query,
            show: |config| config.fetch.query.clone(),
            set: |config, query| config.fetch.query = Some(query),
        },
    },
    Key {
        name: "fetch.url",
        help: "where fields are asked for over HTTP instead, by POST of {\"topic\", \"keys\"}",
        kind: Kind::Url {
            expected: "a URL such as \"https://app.example.com/herenow/fields\", without a user or a password",
            check: url::is_bare_http,
            get: |config| config.fetch.url.as_deref(),
            set: |config, url| config.fetch.url = Some(url),
        },
    },
    Key {
        name: "fetch.allow_http",
        help: "whether fetch.url may be plain HTTP to another machine",
        kind: Kind::Switch {
            get: |config| Some(config.fetch.allow_http),
            set: |config, on| config.fetch.allow_http = on,
        },
    },
    Key {
        name: "fetch.token",
        help: "what is presented at fetch.url as `authorization: Bearer …`",
        kind: Kind::Secret {
            min_bytes: 16,
            set: |config, token| config.fetch.token = Some(Secret::new(token)),
        },
    },
    Key {
        name: "fetch.token_file",
        help: "a file with fetch.token; line breaks at its end are not part of it",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.fetch.token_file.clone(),
            set: |config, path| config.fetch.token_file = Some(path),
        },
    },
    Key {
        name: "fetch.deadline",
        help: "longest time that a diff or a list waits for fields",
        kind: Kind::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_secs(60),
            get: |config| config.fetch.deadline,
            set: |config, time| config.fetch.deadline = time,
        },
    },
    Key {
        name: "fetch.ttl",
        help: "time for which fields are shown without asking again",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: YEAR,
            get: |config| config.fetch.ttl,
            set: |config, time| config.fetch.ttl = time,
        },
    },
    Key {
        name: "fetch.max_stale",
        help: "time for which they are shown after that while the source is down",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: YEAR,
            get: |config| config.fetch.max_stale,
            set: |config, time| config.fetch.max_stale = time,
        },
    },
    Key {
        name: "fetch.max_cached",
        help: "keys whose fields are kept for each source; beyond it, those used longest ago are forgotten",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
            get: |config| config.fetch.max_cached,
            set: |config, count| config.fetch.max_cached = count,
        },
    },
    Key {
        name: "fetch.max_cached_bytes",
        help: "bytes that are kept for each source; beyond it, what was used longest ago is forgotten",
        kind: Kind::Size {
            min: 1 << 10,
            max: 64 * GIB,
            get: |config| config.fetch.max_cached_bytes,
            set: |config, bytes| config.fetch.max_cached_bytes = bytes,
        },
    },
    Key {
        name: "fetch.max_keys",
        help: "keys that one query asks for; more are asked for by several, one after the other",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            get: |config| config.fetch.max_keys,
            set: |config, count| config.fetch.max_keys = count,
        },
    },
    Key {
        name: "fetch.max_queries",
        help: "queries, or requests, of one source at a time; more wait, within fetch.deadline",
        kind: Kind::Count {
            min: 1,
            max: 1_000,
            get: |config| config.fetch.max_queries,
            set: |config, count| config.fetch.max_queries = count,
        },
    },
    Key {
        name: "fetch.max_fields_bytes",
        help: "largest fields of one key, as JSON; larger ones are left out",
        kind: Kind::Size {
            min: 2,
            max: 1 << 20,
            get: |config| config.fetch.max_fields_bytes,
            set: |config, bytes| config.fetch.max_fields_bytes = bytes,
        },
    },
    Key {
        name: "fetch.max_answer_bytes",
        help: "largest answer of fetch.url; a larger one is a failure",
        kind: Kind::Size {
            min: 2,
            max: GIB,
            get: |config| config.fetch.max_answer_bytes,
            set: |config, bytes| config.fetch.max_answer_bytes = bytes,
        },
    },
    Key {
        name: "fetch.max_failures",
        help: "failures in a row after which a source is not asked for a while",
        kind: Kind::Count {
            min: 1,
            max: 1_000,
            get: |config| config.fetch.max_failures,
            set: |config, count| config.fetch.max_failures = count,
        },
    },
    Key {
        name: "fetch.min_pause",
        help: "the first pause of a source that fails; each one after it is twice as long",
        kind: Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            get: |config| config.fetch.min_pause,
            set: |config, time| config.fetch.min_pause = time,
        },
    },
    Key {
        name: "fetch.max_pause",
        help: "the longest pause of a source that fails",
        kind: Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            get: |config| config.fetch.max_pause,
            set: |config, time| config.fetch.max_pause = time,
        },
    },
];
