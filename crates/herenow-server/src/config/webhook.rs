//! [`WebhookConfig`], [`WebhookTarget`] and [`EventsConfig`]: who is told of events, and within
//! which limits.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::jwt::is_plain_and_remote;
use super::units::show_duration;
use super::{ConfigError, Conflict, Origin, Secret, ServerConfig, url};

/// Where events are posted to, and the limits of all webhooks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebhookConfig {
    /// Where to, nowhere. Each gets all of it. Those with filters of their own are
    /// [`ServerConfig::webhooks`].
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
    /// How often a request may be refused, 20; who does not answer refuses nothing.
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

/// A webhook with filters of its own: an entry of `[[webhooks]]`. What it leaves open is as in
/// [`WebhookConfig`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebhookTarget {
    /// What it is called in metrics and in the log; its place among all webhooks, from 1, without
    /// one.
    pub name: Option<String>,
    /// Where to.
    pub url: String,
    /// What requests are signed with.
    pub secret: Option<Secret>,
    /// A file to read the secret from, none.
    pub secret_file: Option<String>,
    /// Of which topics: patterns.
    pub topics: Option<Vec<String>>,
    /// Of which kinds of events.
    pub events: Option<Vec<String>>,
}

/// Somebody who is told of events, with all that holds for them.
#[derive(Debug, Clone)]
pub(crate) struct Receiver<'a> {
    /// Its name, or its place among all.
    pub(crate) label: String,
    pub(crate) name: Option<&'a str>,
    pub(crate) url: &'a str,
    pub(crate) secret: Option<&'a Secret>,
    pub(crate) topics: &'a [String],
    pub(crate) events: &'a [String],
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

impl WebhookTarget {
    /// One at `url` that hears of what [`WebhookConfig`] says.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            name: None,
            url: url.into(),
            secret: None,
            secret_file: None,
            topics: None,
            events: None,
        }
    }
}

impl ServerConfig {
    /// Who is told of events: first `webhook.urls`, then `[[webhooks]]`.
    pub(crate) fn receivers(&self) -> Vec<Receiver<'_>> {
        let general = &self.webhook;
        let simple = general.urls.iter().map(|url| Receiver {
            label: String::new(),
            name: None,
            url,
            secret: general.secret.as_ref(),
            topics: &general.topics,
            events: &general.events,
        });
        let own = self.webhooks.iter().map(|target| Receiver {
            label: String::new(),
            name: target.name.as_deref(),
            url: &target.url,
            secret: target.secret.as_ref().or(general.secret.as_ref()),
            topics: target.topics.as_ref().unwrap_or(&general.topics),
            events: target.events.as_ref().unwrap_or(&general.events),
        });
        let all = (1..).zip(simple.chain(own));
        let labelled = all.map(|(place, receiver)| Receiver {
            label: receiver
                .name
                .map_or_else(|| place.to_string(), str::to_owned),
            ..receiver
        });
        labelled.collect()
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
/// Why a URL must not be plain HTTP to another machine.
const PLAIN: &str = "what comes over plain HTTP can be read on the way; use https";
/// What a secret that is base64 begins with, as Standard Webhooks has it.
const BASE64_SECRET: &str = "whsec_";
/// The shortest key to sign with, in bytes.
const MIN_KEY_BYTES: usize = 16;
/// The longest name of a webhook.
const MAX_NAME_BYTES: usize = 32;

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

/// Tells whether a webhook can be called `text`: a name is never the number of a place.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    begins && text.len() <= MAX_NAME_BYTES && text.bytes().all(is_part)
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
            conflict(
                "webhook.urls",
                url::known(url),
                "webhook.allow_http",
                "false".to_owned(),
                PLAIN,
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

/// Reads the secrets of `[[webhooks]]` out of their files, and tells what of an entry is missing or
/// does not go together.
pub(super) fn check_targets(
    config: &mut ServerConfig,
    origin: &dyn Fn(&str) -> Origin,
) -> Vec<ConfigError> {
    let (general, mut errors) = (&config.webhook, Vec::new());
    for (index, target) in config.webhooks.iter_mut().enumerate() {
        let key = |name: &str| format!("webhooks[{index}].{name}");
        if target.secret.is_some() && target.secret_file.is_some() {
            errors.push(ConfigError::Conflict(Box::new(Conflict {
                origin: origin("webhooks"),
                key: key("secret_file"),
                value: "set".to_owned(),
                other: key("secret"),
                other_value: "set".to_owned(),
                other_origin: origin("webhooks"),
                rule: "only one of them can hold the secret",
            })));
        }
        if let Some(path) = &target.secret_file {
            match std::fs::read_to_string(path) {
                Ok(text) => {
                    let text = text.trim_end_matches(['\r', '\n']);
                    target.secret = Some(Secret::new(text));
                }
                Err(cause) => errors.push(ConfigError::SecretFile {
                    origin: origin("webhooks"),
                    key: key("secret_file"),
                    path: path.clone(),
                    cause,
                }),
            }
        }
        let own = target.secret.as_ref();
        if own.is_some_and(|secret| signing_key(secret.expose()).is_none()) {
            errors.push(ConfigError::WrongType {
                origin: origin("webhooks"),
                key: key("secret"),
                value: "something else".to_owned(),
                expected: SECRET_FORM.to_owned(),
            });
        }
        if own.is_none() && target.secret_file.is_none() && general.secret.is_none() {
            errors.push(ConfigError::Missing {
                origin: origin("webhooks"),
                key: format!("{}, or webhook.secret for all,", key("secret")),
            });
        }
        if is_plain_and_remote(&target.url) && !general.allow_http {
            errors.push(ConfigError::Conflict(Box::new(Conflict {
                origin: origin("webhooks"),
                key: key("url"),
                value: url::known(&target.url),
                other: "webhook.allow_http".to_owned(),
                other_value: "false".to_owned(),
                other_origin: origin("webhook.allow_http"),
                rule: PLAIN,
            })));
        }
    }
    errors
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
