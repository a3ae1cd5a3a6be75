//! Keys of TLS: `[tls]`.

use std::time::Duration;

use super::DAY;
use crate::config::kind::{Key, Kind};
use crate::config::{ServerConfig, TlsVersion};

/// Keys of `[tls]`.
pub(super) static TLS_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "tls.cert",
        help: "PEM file of the server's certificate and those between it and its authority; with it, all listeners speak TLS, and no plain HTTP",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.tls.cert.clone(),
            set: |config, path| config.tls.cert = Some(path),
        },
    },
    Key {
        name: "tls.key",
        help: "PEM file of the certificate's private key",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: is_some_text,
            show: |config| config.tls.key.clone(),
            set: |config, path| config.tls.key = Some(path),
        },
    },
    Key {
        name: "tls.min_version",
        help: "the oldest version of TLS that is spoken; the newest is 1.3",
        kind: Kind::Choice {
            words: &["1.2", "1.3"],
            get: |config| config.tls.min_version.as_str(),
            set: |config, word| config.tls.min_version = TlsVersion::from_word(word),
        },
    },
    Key {
        name: "tls.reload_interval",
        help: "how often it is looked whether tls.cert or tls.key has changed; SIGHUP has it done at once",
        kind: Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            get: |config| config.tls.reload_interval,
            set: |config, time| config.tls.reload_interval = time,
        },
    },
];

fn is_some_text(text: &str) -> bool {
    !text.is_empty()
}
