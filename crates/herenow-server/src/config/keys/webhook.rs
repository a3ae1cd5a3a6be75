//! Keys of `[webhook]` and `[events]`: who is told of events.

use std::time::Duration;

use herenow_presence::is_pattern;

use super::{DAY, GIB};
use crate::config::kind::{Key, Kind, ListForm};
use crate::config::{EVENT_WORDS, Secret, ServerConfig, WebhookTarget, webhook};

const MS: Duration = Duration::from_millis(1);
const TOPICS_FORM: ListForm = ListForm {
    what: "a list of topics, or beginnings of topics and a single \"*\" at the end,",
    such_as: &["room:*", "lobby"],
    each: "",
};
const EVENTS_FORM: ListForm = ListForm {
    what: "a list of events",
    such_as: &EVENT_WORDS,
    each: "one of these",
};

/// Keys of one entry of `[[webhooks]]`.
pub(crate) static TARGET_KEYS: &[Key<WebhookTarget>] = &[
    Key {
        name: "url",
        help: "where to post events",
        kind: Kind::Url {
            expected: "a URL such as \"https://example.com/herenow\", without a user, a password or a fragment",
            check: webhook::is_url,
            get: |target| Some(&target.url),
            set: |target, url| target.url = url,
        },
    },
    Key {
        name: "name",
        help: "what it is called in metrics and in the log; without one it is its place among all webhooks, from 1, those of webhook.urls first",
        kind: Kind::MaybeText {
            expected: "a small letter, then small letters, digits, - and _, 32 at most",
            check: webhook::is_name,
            show: |target| target.name.clone(),
            set: |target, name| target.name = Some(name),
        },
    },
    Key {
        name: "topics",
        help: "which topics it hears of: topics, or beginnings of topics and `*`; without, as webhook.topics",
        kind: Kind::Texts {
            form: TOPICS_FORM,
            check: is_pattern,
            get: |target| target.topics.clone().unwrap_or_default(),
            set: |target, texts| target.topics = Some(texts),
        },
    },
    Key {
        name: "events",
        help: "which events it hears of; without, as webhook.events",
        kind: Kind::Texts {
            form: EVENTS_FORM,
            check: |text| EVENT_WORDS.contains(&text),
            get: |target| target.events.clone().unwrap_or_default(),
            set: |target, texts| target.events = Some(texts),
        },
    },
    Key {
        name: "secret",
        help: "what its requests are signed with; without, webhook.secret",
        kind: Kind::Secret {
            min_bytes: 16,
            set: |target, secret| target.secret = Some(Secret::new(secret)),
        },
    },
    Key {
        name: "secret_file",
        help: "a file with its secret; line breaks at its end are not part of it",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: |text| !text.is_empty(),
            show: |target| target.secret_file.clone(),
            set: |target, path| target.secret_file = Some(path),
        },
    },
];

/// Keys of `[webhook]`.
pub(super) static WEBHOOK_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "webhook.urls",
        help: "where to post what happens: who joins and leaves, and which topics become occupied and vacated; each URL gets all of it, and those with filters of their own are [[webhooks]]",
        kind: Kind::Urls {
            form: ListForm {
                what: "a list of URLs",
                such_as: &["https://a.example/herenow", "https://b.example/herenow"],
                each: "without a user, a password or a fragment",
            },
            check: webhook::is_url,
            get: |config| &config.webhook.urls,
            set: |config, texts| config.webhook.urls = texts,
        },
    },
    Key {
        name: "webhook.allow_http",
        help: "whether webhooks may be plain HTTP to another machine",
        kind: Kind::Switch {
            get: |config| Some(config.webhook.allow_http),
            set: |config, on| config.webhook.allow_http = on,
        },
    },
    Key {
        name: "webhook.secret",
        help: "what requests to webhooks are signed with: at least 16 bytes, as they stand or as base64 behind whsec_",
        kind: Kind::Secret {
            min_bytes: 16,
            set: |config, secret| config.webhook.secret = Some(Secret::new(secret)),
        },
    },
    Key {
        name: "webhook.secret_file",
        help: "a file with webhook.secret; line breaks at its end are not part of it",
        kind: Kind::MaybeText {
            expected: "the path of a file",
            check: |text| !text.is_empty(),
            show: |config| config.webhook.secret_file.clone(),
            set: |config, path| config.webhook.secret_file = Some(path),
        },
    },
    Key {
        name: "webhook.topics",
        help: "which topics webhooks hear of: topics, or beginnings of topics and `*`",
        kind: Kind::Texts {
            form: TOPICS_FORM,
            check: is_pattern,
            get: |config| config.webhook.topics.clone(),
            set: |config, texts| config.webhook.topics = texts,
        },
    },
    Key {
        name: "webhook.events",
        help: "which events webhooks hear of",
        kind: Kind::Texts {
            form: EVENTS_FORM,
            check: |text| EVENT_WORDS.contains(&text),
            get: |config| config.webhook.events.clone(),
            set: |config, texts| config.webhook.events = texts,
        },
    },
    Key {
        name: "webhook.max_batch",
        help: "most events of one request to a webhook",
        kind: Kind::Count {
            min: 1,
            max: 10_000,
            get: |config| config.webhook.max_batch,
            set: |config, count| config.webhook.max_batch = count,
        },
    },
    Key {
        name: "webhook.max_batch_bytes",
        help: "largest request to a webhook; an event that is larger goes alone",
        kind: Kind::Size {
            min: 1_024,
            max: 64 << 20,
            get: |config| config.webhook.max_batch_bytes,
            set: |config, bytes| config.webhook.max_batch_bytes = bytes,
        },
    },
    Key {
        name: "webhook.max_delay",
        help: "how long events wait for others to go with them, when a request has just left",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(60),
            get: |config| config.webhook.max_delay,
            set: |config, time| config.webhook.max_delay = time,
        },
    },
    Key {
        name: "webhook.concurrency",
        help: "requests to a webhook that are under way or wait to be tried again; the events of a topic are in one of them at most",
        kind: Kind::Count {
            min: 1,
            max: 256,
            get: |config| config.webhook.concurrency,
            set: |config, count| config.webhook.concurrency = count,
        },
    },
    Key {
        name: "webhook.timeout",
        help: "time for one request to a webhook",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: Duration::from_secs(600),
            get: |config| config.webhook.timeout,
            set: |config, time| config.webhook.timeout = time,
        },
    },
    Key {
        name: "webhook.min_backoff",
        help: "wait after a request to a webhook has failed; it doubles with each failure, and half of it is left to chance",
        kind: Kind::Duration {
            min: MS,
            max: DAY,
            get: |config| config.webhook.min_backoff,
            set: |config, time| config.webhook.min_backoff = time,
        },
    },
    Key {
        name: "webhook.max_backoff",
        help: "longest wait between two attempts",
        kind: Kind::Duration {
            min: MS,
            max: DAY,
            get: |config| config.webhook.max_backoff,
            set: |config, time| config.webhook.max_backoff = time,
        },
    },
    Key {
        name: "webhook.max_attempts",
        help: "how often a webhook may refuse a request before its events are lost; no answer, 429, 502, 503 and 504 refuse nothing",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            get: |config| config.webhook.max_attempts,
            set: |config, count| config.webhook.max_attempts = count,
        },
    },
    Key {
        name: "webhook.max_age",
        help: "age at which an event that is not delivered is lost",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: Duration::from_secs(7 * 86_400),
            get: |config| config.webhook.max_age,
            set: |config, time| config.webhook.max_age = time,
        },
    },
    Key {
        name: "webhook.max_queued",
        help: "events that wait for a webhook; what comes when they are so many is lost",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
            get: |config| config.webhook.max_queued,
            set: |config, count| config.webhook.max_queued = count,
        },
    },
    Key {
        name: "webhook.max_queued_bytes",
        help: "bytes of events that wait for a webhook; what comes beyond is lost",
        kind: Kind::Size {
            min: 1_024,
            max: 64 * GIB,
            get: |config| config.webhook.max_queued_bytes,
            set: |config, bytes| config.webhook.max_queued_bytes = bytes,
        },
    },
    Key {
        name: "webhook.drain_timeout",
        help: "time for delivering the events that wait when the server stops",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: DAY,
            get: |config| config.webhook.drain_timeout,
            set: |config, time| config.webhook.drain_timeout = time,
        },
    },
];

/// Keys of `[events]`.
pub(super) static EVENTS_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "events.max_kept",
        help: "events that are kept for those who listen to /api/events; who falls further behind is closed",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
            get: |config| config.events.max_kept,
            set: |config, count| config.events.max_kept = count,
        },
    },
    Key {
        name: "events.max_kept_bytes",
        help: "bytes of events that are kept for those who listen to /api/events",
        kind: Kind::Size {
            min: 1_024,
            max: 64 * GIB,
            get: |config| config.events.max_kept_bytes,
            set: |config, bytes| config.events.max_kept_bytes = bytes,
        },
    },
    Key {
        name: "events.max_streams",
        help: "streams of /api/events that are open at once; one more is answered 503",
        kind: Kind::Count {
            min: 0,
            max: 100_000,
            get: |config| config.events.max_streams,
            set: |config, count| config.events.max_streams = count,
        },
    },
    Key {
        name: "events.keep_alive",
        help: "how long a stream of /api/events is silent before it gets a comment",
        kind: Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            get: |config| config.events.keep_alive,
            set: |config, time| config.events.keep_alive = time,
        },
    },
];
