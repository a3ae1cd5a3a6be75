//! Keys of one entry of `[[topics]]`.

use std::time::Duration;

use herenow_presence::{BigRoom, Window, is_pattern};

use super::{DAY, GIB, MAX_WINDOW, at_least_one};
use crate::config::kind::{Key, Kind};
use crate::config::{TopicConfig, WhenBig, fetch, url};

/// Keys of one entry of `[[topics]]`.
pub(crate) static TOPIC_KEYS: &[Key<TopicConfig>] = &[
    Key {
        name: "pattern",
        help: "the topics this is about: a topic, or the beginning of one and `*`",
        kind: Kind::Text {
            expected: "a topic such as \"lobby\", or the beginning of one and a single \"*\" at the end, such as \"room:*\"",
            check: is_pattern,
            get: |topic| topic.pattern.clone(),
            set: |topic, pattern| topic.pattern = pattern,
        },
    },
    Key {
        name: "presence",
        help: "whether joining tracks the user and members see who is here",
        kind: Kind::Switch {
            get: |topic| Some(topic.presence),
            set: |topic, on| topic.presence = on,
        },
    },
    Key {
        name: "broadcast",
        help: "whether events of clients are broadcast to the topic",
        kind: Kind::Switch {
            get: |topic| Some(topic.broadcast),
            set: |topic, on| topic.broadcast = on,
        },
    },
    Key {
        name: "max_meta_bytes",
        help: "largest meta that a client of these topics may have, as JSON; presence.max_meta_bytes holds as well",
        kind: Kind::Size {
            min: 2,
            max: 65_536,
            get: |topic| topic.max_meta_bytes,
            set: |topic, bytes| topic.max_meta_bytes = bytes,
        },
    },
    Key {
        name: "max_payload_bytes",
        help: "largest payload that a client of these topics may broadcast",
        kind: Kind::Size {
            min: 2,
            max: GIB,
            get: |topic| topic.max_payload_bytes,
            set: |topic, bytes| topic.max_payload_bytes = bytes,
        },
    },
    Key {
        name: "window_free_subscribers",
        help: "what presence.window_free_subscribers is, for these topics only; that one if left out",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000_000,
            get: |topic| topic.window.over(Window::default()).free_subscribers,
            set: |topic, count| topic.window.free_subscribers = Some(count),
        },
    },
    Key {
        name: "window_per_subscriber",
        help: "what presence.window_per_subscriber is, for these topics only; that one if left out",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: MAX_WINDOW,
            get: |topic| topic.window.over(Window::default()).per_subscriber,
            set: |topic, time| topic.window.per_subscriber = Some(time),
        },
    },
    Key {
        name: "window_max",
        help: "what presence.window_max is, for these topics only; that one if left out",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: MAX_WINDOW,
            get: |topic| topic.window.over(Window::default()).max,
            set: |topic, time| topic.window.max = Some(time),
        },
    },
    Key {
        name: "fetch",
        help: "false: no fields are added to presences of these topics",
        kind: Kind::Switch {
            get: |topic| topic.fetch.on,
            set: |topic, on| topic.fetch.on = Some(on),
        },
    },
    Key {
        name: "fetch_query",
        help: "what fetch.query is, for these topics only; that one or fetch.url if left out",
        kind: Kind::MaybeText {
            expected: "a query such as \"select id, name from users where id = any($1)\"",
            check: fetch::is_query,
            show: |topic| topic.fetch.query.clone(),
            set: |topic, query| topic.fetch.query = Some(query),
        },
    },
    Key {
        name: "fetch_url",
        help: "what fetch.url is, for these topics only; that one or fetch.query if left out",
        kind: Kind::Url {
            expected: "a URL such as \"https://app.example.com/herenow/fields\", without a user or a password",
            check: url::is_bare_http,
            get: |topic| topic.fetch.url.as_deref(),
            set: |topic, url| topic.fetch.url = Some(url),
        },
    },
    Key {
        name: "grace",
        help: "how long a user whose connection ended without a leave is still shown; one who returns in time was never away",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: MAX_GRACE,
            get: |topic| topic.grace.period,
            set: |topic, time| topic.grace.period = time,
        },
    },
    Key {
        name: "grace_on_node_down",
        help: "whether that holds for the users of a node that crashed or is cut off, too",
        kind: Kind::Switch {
            get: |topic| Some(topic.grace.on_node_down),
            set: |topic, on| topic.grace.on_node_down = on,
        },
    },
    Key {
        name: "big_room",
        help: "what clients that did not ask for modes get where very many are present: the list, or the summary",
        kind: Kind::Choice {
            words: &["list", "summary"],
            get: |topic| topic.big_room.as_str(),
            set: |topic, word| topic.big_room = WhenBig::from_word(word),
        },
    },
    Key {
        name: "parts_from_bytes",
        help: "what presence.parts_from_bytes is, for these topics only; that one if left out",
        kind: Kind::Size {
            min: 1,
            max: GIB,
            get: |topic| topic.size.over(&BigRoom::default()).parts_from_bytes,
            set: |topic, bytes| topic.size.parts_from_bytes = Some(bytes),
        },
    },
    Key {
        name: "part_bytes",
        help: "what presence.part_bytes is, for these topics only; that one if left out",
        kind: Kind::Size {
            min: 1_024,
            max: GIB,
            get: |topic| topic.size.over(&BigRoom::default()).part_bytes.get(),
            set: |topic, bytes| topic.size.part_bytes = Some(at_least_one(bytes)),
        },
    },
    Key {
        name: "summary_from",
        help: "what presence.summary_from is, for these topics only; that one if left out",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000_000,
            get: |topic| topic.size.over(&BigRoom::default()).summary_from,
            set: |topic, count| topic.size.summary_from = Some(count),
        },
    },
    Key {
        name: "summary_until",
        help: "what presence.summary_until is, for these topics only; that one if left out; four fifths of summary_from if only that is set",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000_000,
            get: |topic| topic.size.over(&BigRoom::default()).summary_until,
            set: |topic, count| topic.size.summary_until = Some(count),
        },
    },
    Key {
        name: "count_interval",
        help: "what presence.count_interval is, for these topics only; that one if left out",
        kind: Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            get: |topic| topic.size.over(&BigRoom::default()).count_interval,
            set: |topic, time| topic.size.count_interval = Some(time),
        },
    },
    Key {
        name: "max_sample",
        help: "what presence.max_sample is, for these topics only; that one if left out",
        kind: Kind::Count {
            min: 0,
            max: 1_000,
            get: |topic| topic.size.over(&BigRoom::default()).max_sample,
            set: |topic, count| topic.size.max_sample = Some(count),
        },
    },
];

/// The longest grace.
const MAX_GRACE: Duration = Duration::from_secs(60 * 60);
