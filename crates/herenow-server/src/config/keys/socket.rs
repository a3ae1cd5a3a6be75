//! Keys of connections: `[socket]` and `[longpoll]`.

use std::time::Duration;

use herenow_protocol::JoinRefCheck;
use herenow_pubsub::MAX_TOPIC_BYTES;

use super::{DAY, GIB, YEAR, at_least_one};
use crate::config::kind::{Key, Kind, ListForm, SwitchOrTexts};
use crate::config::{Origins, ServerConfig};

/// Keys of `[socket]`.
pub(super) static SOCKET_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "socket.check_origin",
        help: "true: browsers may connect from pages of this server's own host; false: from anywhere; or a list of origins such as `https://example.com` or `//*.example.com`",
        kind: Kind::SwitchOrTexts {
            form: ListForm {
                what: "true, false, or a list of origins",
                such_as: &["https://example.com", "//*.example.com"],
                each: "",
            },
            check: is_origin,
            get: |config| config.check_origin.to_string(),
            set: |config, origins| {
                config.check_origin = match origins {
                    SwitchOrTexts::Switch(true) => Origins::SameHost,
                    SwitchOrTexts::Switch(false) => Origins::Any,
                    SwitchOrTexts::Texts(list) => Origins::List(list),
                };
            },
        },
    },
    Key {
        name: "socket.join_ref_check",
        help: "which messages are ignored as coming from an earlier join of their topic: `safe` ignores those whose join_ref differs and takes those where a side has none; the versions of Phoenix differ in that; `off` ignores none",
        kind: Kind::Choice {
            words: &[
                "safe",
                "phoenix-1.8.12",
                "phoenix-1.8.3",
                "phoenix-1.6.16",
                "off",
            ],
            get: |config| join_ref_check_word(config.socket.join_ref_check),
            set: |config, word| config.socket.join_ref_check = join_ref_check(word),
        },
    },
    Key {
        name: "socket.max_arrivals",
        help: "clients on their way in: handshakes that are checked and joins not answered yet; with more, handshakes are answered 503 and a time to come back",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
            get: |config| config.socket.max_arrivals.get(),
            set: |config, count| config.socket.max_arrivals = at_least_one(count),
        },
    },
    Key {
        name: "socket.max_checks",
        help: "handshakes that are let in at the same time, from the check of the token until the connection runs; more wait for their turn",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            get: |config| config.socket.max_checks.get(),
            set: |config, count| config.socket.max_checks = at_least_one(count),
        },
    },
    Key {
        name: "socket.max_frame_bytes",
        help: "largest WebSocket frame from a client; a larger one closes the connection with 1009",
        kind: Kind::Size {
            min: 125,
            max: GIB,
            get: |config| config.socket.max_frame_bytes,
            set: |config, bytes| config.socket.max_frame_bytes = bytes,
        },
    },
    Key {
        name: "socket.max_message_bytes",
        help: "largest message put together from frames; a larger one closes the connection with 1009, or ends the session of long poll",
        kind: Kind::Size {
            min: 125,
            max: GIB,
            get: |config| config.socket.max_message_bytes,
            set: |config, bytes| config.socket.max_message_bytes = bytes,
        },
    },
    Key {
        name: "socket.max_topic_bytes",
        help: "longest topic that can be joined; presence.max_topic_bytes holds as well where there is presence",
        kind: Kind::Size {
            min: 1,
            max: MAX_TOPIC_BYTES,
            get: |config| config.socket.max_topic_bytes,
            set: |config, bytes| config.socket.max_topic_bytes = bytes,
        },
    },
    Key {
        name: "socket.max_channels",
        help: "channels that one connection may have joined; a join beyond it is refused",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            get: |config| config.socket.max_channels.get(),
            set: |config, count| config.socket.max_channels = at_least_one(count),
        },
    },
    Key {
        name: "socket.idle_timeout",
        help: "silence of a client after which its connection is closed",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: DAY,
            get: |config| config.socket.idle_timeout,
            set: |config, time| config.socket.idle_timeout = time,
        },
    },
    Key {
        name: "socket.message_timeout",
        help: "time from the first byte of a message to its last, whatever comes between its fragments; then the connection is closed with 1008",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: DAY,
            get: |config| config.socket.message_timeout,
            set: |config, time| config.socket.message_timeout = time,
        },
    },
    Key {
        name: "socket.max_queue_messages",
        help: "messages that may wait for a slow reader; one more closes its connection with 1008",
        kind: Kind::Count {
            min: 16,
            max: 100_000_000,
            get: |config| config.socket.max_queue_messages.get(),
            set: |config, count| config.socket.max_queue_messages = at_least_one(count),
        },
    },
    Key {
        name: "socket.max_queue_bytes",
        help: "bytes that may wait for a slow reader; more close its connection with 1008",
        kind: Kind::Size {
            min: 1024,
            max: 64 * GIB,
            get: |config| config.socket.max_queue_bytes,
            set: |config, bytes| config.socket.max_queue_bytes = bytes,
        },
    },
    Key {
        name: "socket.fold_queue_bytes",
        help: "waiting bytes from which presence diffs of a topic are folded into one; at most max_queue_bytes",
        kind: Kind::Size {
            min: 0,
            max: 64 * GIB,
            get: |config| config.socket.fold_queue_bytes,
            set: |config, bytes| config.socket.fold_queue_bytes = bytes,
        },
    },
    Key {
        name: "socket.max_channel_queue",
        help: "client messages that may wait for one channel; while they do, nothing more is read",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            get: |config| config.socket.max_channel_queue.get(),
            set: |config, count| config.socket.max_channel_queue = at_least_one(count),
        },
    },
    Key {
        name: "socket.max_infos",
        help: "messages from inside the server that may wait for the channels of one connection",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
            get: |config| config.socket.max_infos.get(),
            set: |config, count| config.socket.max_infos = at_least_one(count),
        },
    },
    Key {
        name: "socket.terminate_timeout",
        help: "time that a channel may take to end",
        kind: Kind::Duration {
            min: Duration::from_millis(1),
            max: DAY,
            get: |config| config.socket.terminate_timeout,
            set: |config, time| config.socket.terminate_timeout = time,
        },
    },
    Key {
        name: "socket.close_timeout",
        help: "time that the answer to a close frame may take before the connection is cut",
        kind: Kind::Duration {
            min: Duration::from_millis(1),
            max: DAY,
            get: |config| config.socket.close_timeout,
            set: |config, time| config.socket.close_timeout = time,
        },
    },
];

/// Keys of `[longpoll]`.
pub(super) static LONGPOLL_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "longpoll.window",
        help: "time that a poll waits for messages; a client that does not poll for one and a half of it is gone",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: Duration::from_secs(600),
            get: |config| config.longpoll.window,
            set: |config, time| config.longpoll.window = time,
        },
    },
    Key {
        name: "longpoll.max_body_bytes",
        help: "largest body of a request; a larger one is answered 400, with a text that names this",
        kind: Kind::Size {
            min: 1024,
            max: GIB,
            get: |config| config.longpoll.max_body_bytes,
            set: |config, bytes| config.longpoll.max_body_bytes = bytes,
        },
    },
    Key {
        name: "longpoll.body_timeout",
        help: "time that a client may take to send a body; then it is answered 400, with a reason that names this",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: DAY,
            get: |config| config.longpoll.body_timeout,
            set: |config, time| config.longpoll.body_timeout = time,
        },
    },
    Key {
        name: "longpoll.token_max_age",
        help: "time that a session's token is valid",
        kind: Kind::Duration {
            min: Duration::from_secs(60),
            max: YEAR,
            get: |config| config.longpoll.token_max_age,
            set: |config, time| config.longpoll.token_max_age = time,
        },
    },
    Key {
        name: "longpoll.max_sessions",
        help: "sessions that may live at a time; one more is refused",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
            get: |config| config.longpoll.max_sessions.get(),
            set: |config, count| config.longpoll.max_sessions = at_least_one(count),
        },
    },
];

/// The checks of a message's join_ref by their words.
const JOIN_REF_CHECKS: [(&str, JoinRefCheck); 5] = [
    ("safe", JoinRefCheck::EitherMissing),
    ("phoenix-1.8.12", JoinRefCheck::IncomingMissing),
    ("phoenix-1.8.3", JoinRefCheck::RecordedMissing),
    ("phoenix-1.6.16", JoinRefCheck::LeavesOnly),
    ("off", JoinRefCheck::Never),
];

fn join_ref_check_word(check: JoinRefCheck) -> &'static str {
    JOIN_REF_CHECKS
        .iter()
        .find(|(_, known)| *known == check)
        .map_or("safe", |(word, _)| word)
}

fn join_ref_check(word: &str) -> JoinRefCheck {
    let known = JOIN_REF_CHECKS.iter().find(|(known, _)| *known == word);
    known.map_or_else(JoinRefCheck::default, |(_, check)| *check)
}

/// Tells whether `text` names a host that an origin can be compared with.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("//") else {
        return false;
    };
    let host = rest.strip_prefix("*.").unwrap_or(rest);
    let is_scheme = |scheme: &str| scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    (scheme.is_empty() || scheme.strip_suffix(':').is_some_and(is_scheme))
        && !host.is_empty()
        && !host.contains(['/', '*', ' ', '@', '?', '#'])
}
