//! [`TlsConfig`]: whether the server's listeners speak TLS.

use std::time::Duration;

/// TLS of the server's listeners, the one of the HTTP API among them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TlsConfig {
    /// PEM file of the certificate and those between it and its authority; `None`, the default:
    /// plain TCP.
    pub cert: Option<String>,
    /// PEM file of the certificate's private key.
    pub key: Option<String>,
    /// The oldest version that is spoken, 1.2.
    pub min_version: TlsVersion,
    /// How often it is looked whether the files have changed, every 10 s.
    pub reload_interval: Duration,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            min_version: TlsVersion::V12,
            reload_interval: Duration::from_secs(10),
        }
    }
}

impl TlsVersion {
    /// The word for it in `tls.min_version`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }

    pub(super) fn from_word(word: &str) -> Self {
        match word {
            "1.3" => Self::V13,
            _ => Self::V12,
        }
    }
}

/// Returns the key that is missing, with the one that is set and needs it.
pub(super) fn missing(is_set: &dyn Fn(&str) -> bool) -> Option<(&'static str, &'static str)> {
    match (is_set("tls.cert"), is_set("tls.key")) {
        (true, false) => Some(("tls.cert", "tls.key")),
        (false, true) => Some(("tls.key", "tls.cert")),
        (true, true) | (false, false) => None,
    }
}
