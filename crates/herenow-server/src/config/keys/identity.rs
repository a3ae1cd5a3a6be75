//! Keys of the section `[jwt]`: how clients' tokens are checked.

use std::time::Duration;

use super::DAY;
use crate::config::kind::{Key, Kind, ListForm};
use crate::config::{Secret, ServerConfig, url};

pub(super) static IDENTITY_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "jwt.secret",
        help: "the secret that clients' tokens are signed with by HS256; with it, every socket must have one",
        kind: Kind::Secret {
            min_bytes: 32,
            set: |config, secret| config.jwt.secret = Some(Secret::new(secret)),
        },
    },
    Key {
        name: "jwt.secret_file",
        help: "a file with jwt.secret; line breaks at its end are not part of it",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.jwt.secret_file.clone(),
            set: |config, path| config.jwt.secret_file = Some(path),
        },
    },
    Key {
        name: "jwt.public_key_files",
        help: "PEM files with public keys of tokens that are signed by RS256 or ES256",
        kind: Kind::Texts {
            form: ListForm {
                what: "a list of paths of files",
                such_as: &["/etc/herenow/old.pem", "/etc/herenow/new.pem"],
                each: "",
            },
            check: is_some_text,
            get: |config| config.jwt.public_key_files.clone(),
            set: |config, paths| config.jwt.public_key_files = paths,
        },
    },
    Key {
        name: "jwt.jwks_url",
        help: "where to fetch public keys from, as a JWKS",
        kind: Kind::Url {
            expected: "a URL such as \"https://example.com/.well-known/jwks.json\", without a user or a password",
            check: url::is_bare_http,
            get: |config| config.jwt.jwks_url.as_deref(),
            set: |config, url| config.jwt.jwks_url = Some(url),
        },
    },
    Key {
        name: "jwt.jwks_allow_http",
        help: "whether jwt.jwks_url may be plain HTTP to another machine",
        kind: Kind::Switch {
            get: |config| Some(config.jwt.jwks_allow_http),
            set: |config, on| config.jwt.jwks_allow_http = on,
        },
    },
    Key {
        name: "jwt.jwks_refresh",
        help: "how often keys are fetched again",
        kind: Kind::Duration {
            min: Duration::from_secs(1),
            max: DAY,
            get: |config| config.jwt.jwks_refresh,
            set: |config, time| config.jwt.jwks_refresh = time,
        },
    },
    Key {
        name: "jwt.jwks_cooldown",
        help: "time between two fetches that tokens ask for, which are not signed by a key that is here",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: DAY,
            get: |config| config.jwt.jwks_cooldown,
            set: |config, time| config.jwt.jwks_cooldown = time,
        },
    },
    Key {
        name: "jwt.jwks_timeout",
        help: "time for fetching keys once",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: Duration::from_secs(60),
            get: |config| config.jwt.jwks_timeout,
            set: |config, time| config.jwt.jwks_timeout = time,
        },
    },
    Key {
        name: "jwt.audience",
        help: "audiences of which a token's aud must name one; without any, aud is not looked at",
        kind: Kind::Texts {
            form: ListForm {
                what: "a list of texts",
                such_as: &["shop", "admin"],
                each: "",
            },
            check: is_some_text,
            get: |config| config.jwt.audience.clone(),
            set: |config, list| config.jwt.audience = list,
        },
    },
    Key {
        name: "jwt.issuer",
        help: "issuers of which a token's iss must be one; without any, iss is not looked at",
        kind: Kind::Texts {
            form: ListForm {
                what: "a list of texts",
                such_as: &["https://a.example", "https://b.example"],
                each: "",
            },
            check: is_some_text,
            get: |config| config.jwt.issuer.clone(),
            set: |config, list| config.jwt.issuer = list,
        },
    },
    Key {
        name: "jwt.leeway",
        help: "how far the clocks of those who make tokens may be off, in whole seconds",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(600),
            get: |config| config.jwt.leeway,
            set: |config, time| config.jwt.leeway = time,
        },
    },
    Key {
        name: "jwt.require_expiry",
        help: "whether a token must have an exp",
        kind: Kind::Switch {
            get: |config| Some(config.jwt.require_expiry),
            set: |config, on| config.jwt.require_expiry = on,
        },
    },
    Key {
        name: "jwt.max_token_bytes",
        help: "longest token of a client; http.max_header_bytes holds as well",
        kind: Kind::Size {
            min: 256,
            max: 48 << 10,
            get: |config| config.jwt.max_token_bytes,
            set: |config, bytes| config.jwt.max_token_bytes = bytes,
        },
    },
];

pub(super) fn is_some_text(text: &str) -> bool {
    !text.is_empty()
}
