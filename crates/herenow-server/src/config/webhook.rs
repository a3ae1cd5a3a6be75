//! [`WebhookConfig`] and [`EventsConfig`]: who is told of events, and within which limits.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::jwt::is_plain_and_remote;
use super::units::show_duration;
use super::{ConfigError, Conflict, Origin, Secret, ServerConfig};

/// Where events are posted to. Without a URL nowhere.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebhookConfig {
    /// Where to, nowhere. Each gets all of it.
    pub urls: Vec<String>,
    /// Whether a URL may be plain HTTP elsewhere than on loopback, no.
    pub allow_http: bool,
    /// What requests are signed with; needed with a URL.
    pub secret: Option<Secret>,
    /// A file to read the secret from, none.
    pub secret_file: Option<String>,
    /// Of which topics: patterns, all.
    pub topics: Vec<String>,
    /// Of which kinds of events, all.
    pub events: Vec<String>,
    /// Most events of one request, 200.
    pub max_batch: usize,
    /// Largest request, 256 KiB; an event that is larger goes alone.
    pub max_batch_bytes: usize,
    /// How long events wait for others to fill a batch, when one has just left, 20 ms.
    pub max_delay: Duration,
    /// Requests that are under way at once, or wait to be tried again, 8.
    pub concurrency: usize,
    /// Time for one request, 10 s.
    pub timeout: Duration,
    /// The wait after a first failure, 500 ms. It doubles with each one more.
    pub min_backoff: Duration,
    /// The longest wait, 1 min.
    pub max_backoff: Duration,
    /// How often a request is tried, 20.
    pub max_attempts: usize,
    /// How old an event may become before it is given up, 1 h.
    pub max_age: Duration,
    /// Events that wait at most, 100,000.
    pub max_queued: usize,
    /// Their bytes, 64 MiB.
    pub max_queued_bytes: usize,
    /// Time for delivering what waits when the server stops, 5 s.
    pub drain_timeout: Duration,
}

/// The stream of events at `GET /api/events`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EventsConfig {
    /// Events that are kept for listeners, 65,536.
    pub max_kept: usize,
    /// Their bytes, 32 MiB.
    pub max_kept_bytes: usize,
    /// Listeners at once, 100.
    pub max_streams: usize,
    /// After so long without an event a listener gets a comment, 15 s.
    pub keep_alive: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            allow_http: false,
            secret: None,
            secret_file: None,
            topics: vec!["*".to_owned()],
            events: EVENT_WORDS.map(str::to_owned).into(),
            max_batch: 200,
            max_batch_bytes: 256 << 10,
            max_delay: Duration::from_millis(20),
            concurrency: 8,
            timeout: Duration::from_secs(10),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(60),
            max_attempts: 20,
            max_age: Duration::from_secs(3_600),
            max_queued: 100_000,
            max_queued_bytes: 64 << 20,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            max_kept: 65_536,
            max_kept_bytes: 32 << 20,
            max_streams: 100,
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// The words for kinds of events.
pub(crate) const EVENT_WORDS: [&str; 5] = [
    "joined",
    "updated",
    "left",
    "topic_occupied",
    "topic_vacated",
];

/// What the secret must be.
const SECRET_FORM: &str = "at least 16 bytes, as they stand or as base64 behind whsec_";
/// What a secret that is base64 begins with, as Standard Webhooks has it.
const BASE64_SECRET: &str = "whsec_";
/// The shortest key to sign with, in bytes.
const MIN_KEY_BYTES: usize = 16;

/// Returns the key that a secret stands for; `None` if it is none.
pub(crate) fn signing_key(secret: &str) -> Option<Vec<u8>> {
    let key = match secret.strip_prefix(BASE64_SECRET) {
        Some(rest) => STANDARD.decode(rest).ok()?,
        None => secret.as_bytes().to_vec(),
    };
    (key.len() >= MIN_KEY_BYTES).then_some(key)
}

/// Tells whether events can be posted to `text`.
pub(super) fn is_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else {
        return false;
    };
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    is_http && !has_credentials && url.fragment().is_none()
}

/// Tells whether `text` is a topic, or the beginning of one and `*`.
pub(super) fn is_pattern(text: &str) -> bool {
    let prefix = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty() && !prefix.contains('*')
}

/// Tells what of the webhooks' settings is missing or does not go together.
pub(super) fn check(config: &ServerConfig, origin: &dyn Fn(&str) -> Origin) -> Vec<ConfigError> {
    let (webhook, mut errors) = (&config.webhook, Vec::new());
    let mut conflict = |key: &str, value: String, other: &str, other_value: String, rule| {
        errors.push(ConfigError::Conflict(Box::new(Conflict {
            origin: origin(key),
            key: key.to_owned(),
            value,
            other: other.to_owned(),
            other_value,
            other_origin: origin(other),
            rule,
        })));
    };
    for url in webhook.urls.iter().filter(|url| is_plain_and_remote(url)) {
        if !webhook.allow_http {
            let rule = "what comes over plain HTTP can be read on the way; use https";
            conflict(
                "webhook.urls",
                shown(url),
                "webhook.allow_http",
                "false".to_owned(),
                rule,
            );
        }
    }
    if webhook.min_backoff > webhook.max_backoff {
        let (min, max) = (webhook.min_backoff, webhook.max_backoff);
        let (min, max) = (show_duration(min), show_duration(max));
        let rule = "the first must not be above the second";
        conflict("webhook.min_backoff", min, "webhook.max_backoff", max, rule);
    }
    match &webhook.secret {
        None if !webhook.urls.is_empty() => errors.push(ConfigError::Missing {
            origin: origin("webhook.urls"),
            key: "webhook.secret (or webhook.secret_file), with which requests are signed,"
                .to_owned(),
        }),
        Some(secret) if signing_key(secret.expose()).is_none() => {
            errors.push(ConfigError::WrongType {
                origin: origin("webhook.secret"),
                key: "webhook.secret".to_owned(),
                value: "something else".to_owned(),
                expected: SECRET_FORM.to_owned(),
            });
        }
        None | Some(_) => {}
    }
    errors
}

/// A URL without its path, which can be a secret.
fn shown(url: &str) -> String {
    let url = reqwest::Url::parse(url).ok();
    url.map_or_else(String::new, |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_683_a_secret_is_its_bytes_or_base64_behind_whsec() {
        assert_eq!(
            signing_key("sixteen bytes ok").unwrap(),
            b"sixteen bytes ok"
        );
        let standard = signing_key("whsec_MDEyMzQ1Njc4OWFiY2RlZg==");
        assert_eq!(standard.unwrap(), b"0123456789abcdef");
        for wrong in [
            "",
            "too short",
            "whsec_",
            "whsec_no base64 at all!",
            "whsec_c2hvcnQ=",
        ] {
            assert_eq!(signing_key(wrong), None, "{wrong}");
        }
    }
}
