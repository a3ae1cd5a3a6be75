//! [`JwtConfig`]: where the keys of clients' tokens come from, and what tokens must say.

use std::net::IpAddr;
use std::time::Duration;

use super::units::show_duration;
use super::{ConfigError, Origin, Secret, ServerConfig};

/// How clients' tokens are checked. Without any key nothing is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JwtConfig {
    /// The secret of HS256 tokens, none.
    pub secret: Option<Secret>,
    /// A file to read the secret from, none.
    pub secret_file: Option<String>,
    /// PEM files with the public keys of RS256 and ES256 tokens, none.
    pub public_key_files: Vec<String>,
    /// Where public keys are fetched from, nowhere.
    pub jwks_url: Option<String>,
    /// Whether `jwks_url` may be plain HTTP elsewhere than on loopback, no.
    pub jwks_allow_http: bool,
    /// How often the keys are fetched again, 10 min.
    pub jwks_refresh: Duration,
    /// Time between two fetches that tokens ask for, 10 s.
    pub jwks_cooldown: Duration,
    /// Time for one fetch, 5 s.
    pub jwks_timeout: Duration,
    /// Audiences of which a token must name one; without any, `aud` is not looked at.
    pub audience: Vec<String>,
    /// Issuers of which a token's must be one; without any, `iss` is not looked at.
    pub issuer: Vec<String>,
    /// How far the clocks of issuers may be off, in whole seconds, 10 s.
    pub leeway: Duration,
    /// Whether a token must have an `exp`, yes.
    pub require_expiry: bool,
    /// Longest token, 8 KiB.
    pub max_token_bytes: usize,
}

impl JwtConfig {
    /// Tells whether there is something to check tokens with.
    pub fn has_keys(&self) -> bool {
        self.secret.is_some() || !self.public_key_files.is_empty() || self.jwks_url.is_some()
    }
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            secret: None,
            secret_file: None,
            public_key_files: Vec::new(),
            jwks_url: None,
            jwks_allow_http: false,
            jwks_refresh: Duration::from_secs(600),
            jwks_cooldown: Duration::from_secs(10),
            jwks_timeout: Duration::from_secs(5),
            audience: Vec::new(),
            issuer: Vec::new(),
            leeway: Duration::from_secs(10),
            require_expiry: true,
            max_token_bytes: 8 << 10,
        }
    }
}

/// What is wrong with the leeway: tokens count in seconds, and a part of one would not count.
pub(super) fn check(config: &ServerConfig, origin: &dyn Fn(&str) -> Origin) -> Option<ConfigError> {
    let (key, leeway) = ("jwt.leeway", config.jwt.leeway);
    (leeway.subsec_nanos() != 0).then(|| ConfigError::OutOfRange {
        origin: origin(key),
        key: key.to_owned(),
        value: show_duration(leeway),
        limit: "a whole number of seconds".to_owned(),
    })
}

/// Two keys that do not go together, and why, if `key` is one of them.
pub(super) fn conflict(
    config: &ServerConfig,
    key: &'static str,
    is_set: &dyn Fn(&str) -> bool,
) -> Option<(&'static str, &'static str, &'static str)> {
    let jwt = &config.jwt;
    match key {
        "jwt.secret_file" if is_set("jwt.secret") => {
            Some((key, "jwt.secret", "only one of them can hold the secret"))
        }
        "webhook.secret_file" if is_set("webhook.secret") => Some((
            key,
            "webhook.secret",
            "only one of them can hold the secret",
        )),
        "jwt.jwks_url" if !jwt.jwks_allow_http && is_plain_and_remote(jwt.jwks_url.as_deref()?) => {
            let rule = "keys that come over plain HTTP can be anybody's; use https";
            Some((key, "jwt.jwks_allow_http", rule))
        }
        _ => None,
    }
}

/// Tells whether a URL is plain HTTP to another machine.
pub(crate) fn is_plain_and_remote(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "http" && !is_loopback
}
