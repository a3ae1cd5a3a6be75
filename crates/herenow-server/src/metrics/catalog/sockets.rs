//! Metrics of connections, what travels over them, and what was dropped.

use super::{Metric, by_word, counter, counters, gauge, histogram};
use crate::limits::Named;

pub(super) static METRICS: &[Metric] = &[
    gauge(
        "connections",
        "Connections of clients open now, WebSocket and long poll",
        |s| s.sockets.connections.value() as f64,
    ),
    counter("connects", "Connections accepted", |s| {
        s.sockets.connects.value()
    }),
    counter(
        "connects_refused",
        "Connections refused before they began: origin, version, token, limit",
        |s| s.sockets.refused_connects.value(),
    ),
    histogram(
        "handshake",
        "Time from the request for a connection to its acceptance, the token's check included",
        |s| s.sockets.handshakes.read(),
    ),
    counters(
        "connections_closed",
        "Connections that the server closed, by reason",
        &["reason"],
        |s| {
            by_word([
                ("slow_reader", s.sockets.slow_readers.value()),
                ("idle", s.sockets.idle_timeouts.value()),
                ("stuck_channel", s.sockets.stuck_channels.value()),
                ("client_error", s.sockets.client_errors.value()),
                ("flood", s.sockets.floods.value()),
                ("token_expired", s.tokens.expired()),
            ])
        },
    ),
    counter(
        "channels_expired",
        "Channels of the Supabase dialect told that their own token has expired",
        |s| s.tokens.expired_channels(),
    ),
    gauge("channels", "Channels joined now", |s| {
        s.sockets.channels.value() as f64
    }),
    counter("joins", "Joins of channels accepted", |s| {
        s.sockets.joins.value()
    }),
    counter(
        "joins_refused",
        "Joins of channels refused: no such topic, not admitted, too many",
        |s| s.sockets.refused_joins.value(),
    ),
    histogram("join", "Time from a join to its reply", |s| {
        s.sockets.join_times.read()
    }),
    counter(
        "channel_crashes",
        "Callbacks of channels that panicked",
        |s| s.sockets.crashes.value(),
    ),
    counter("messages_received", "Messages received from clients", |s| {
        s.sockets.messages_in.value()
    }),
    counter("received", "Bytes of messages received from clients", |s| {
        s.sockets.bytes_in.value()
    })
    .bytes(),
    counter("messages_sent", "Messages written to clients", |s| {
        s.sockets.frames_out.value()
    }),
    counter("sent", "Bytes written to clients", |s| {
        s.sockets.bytes_out.value()
    })
    .bytes(),
    counter(
        "writes",
        "Writes to clients, each with all that was queued",
        |s| s.sockets.writes.value(),
    ),
    counters("dropped", "Messages dropped, by reason", &["reason"], |s| {
        by_word([
            ("stale_join", s.sockets.stale_messages.value()),
            ("message_rate", s.sockets.limited_messages.value()),
            ("info_queue", s.sockets.dropped_infos.value()),
            ("not_encodable", s.sockets.encode_errors.value()),
            ("binary_on_long_poll", s.sockets.binary_frames_lost.value()),
            ("sink_panicked", s.pubsub.n_panicked),
        ])
    }),
    counter(
        "diffs_folded",
        "Presence diffs put together with others because their reader was slow",
        |s| s.sockets.folded_diffs.value(),
    ),
    gauge(
        "socket_queue_messages",
        "Messages that wait for readers, of all connections",
        |s| s.queued.n_messages as f64,
    ),
    gauge(
        "socket_queue",
        "Bytes that wait for readers, of all connections",
        |s| s.queued.n_bytes as f64,
    )
    .bytes(),
    gauge(
        "socket_queue_max",
        "Bytes that wait for the slowest reader; socket.max_queue_bytes closes it",
        |s| s.queued.max_bytes as f64,
    )
    .bytes(),
    gauge(
        "subscribed_topics",
        "Topics with a subscriber on this node",
        |s| s.pubsub.n_topics as f64,
    ),
    histogram(
        "broadcast_dispatch",
        "Time to hand one broadcast or diff to all subscribers of its topic on this node",
        |s| s.dispatches,
    ),
    counters(
        "limit_refusals",
        "What was refused for being over a limit, by the limit's setting",
        &["limit"],
        |s| {
            let counts = s.limits.counts();
            let mut refusals = by_word([
                ("http.header_timeout", s.served.late_heads()),
                ("http.max_handshakes", s.served.displaced()),
                ("http.max_header_bytes", s.served.over_bytes()),
                ("http.max_headers", s.served.over_headers()),
                ("http.write_timeout", s.served.unread_answers()),
                ("jwt.max_token_bytes", s.tokens.long_tokens()),
                ("longpoll.body_timeout", s.sockets.late_bodies.value()),
                ("longpoll.max_body_bytes", s.sockets.over_body_bytes.value()),
                ("longpoll.max_sessions", s.sockets.over_max_sessions.value()),
                ("socket.max_arrivals", s.sockets.busy_connects.value()),
                ("socket.max_channels", s.sockets.over_max_channels.value()),
                ("socket.max_frame_bytes", s.sockets.over_frame_bytes.value()),
                (
                    "socket.max_message_bytes",
                    s.sockets.over_message_bytes.value(),
                ),
                ("socket.message_timeout", s.sockets.late_messages.value()),
                ("socket.join_rate", s.sockets.limited_joins.value()),
                ("limits.sockets_per_address", counts.sockets_per_address),
                ("limits.sockets_per_user", counts.sockets_per_user),
                ("limits.handshake_rate", counts.handshake_rate),
                ("limits.user_rate", counts.user_rate),
            ]);
            refusals.extend(s.limits.named().map(|(limit, n)| {
                // Some of what is over these is counted where it is found.
                let n_others = match limit {
                    Named::SocketTopic => s.sockets.over_topic_bytes.value(),
                    Named::MessageRate => s.sockets.limited_messages.value(),
                    Named::Key => s.tokens.long_keys(),
                    _ => 0,
                };
                (vec![limit.to_string()], n + n_others)
            }));
            refusals
        },
    ),
    gauge(
        "limiter_addresses",
        "Addresses that the limits remember",
        |s| s.limits.n_addresses() as f64,
    ),
    gauge("limiter_users", "Users that the limits remember", |s| {
        s.limits.n_users() as f64
    }),
    counter(
        "limiter_overflows",
        "Connections let in without a look at their rate, because limits.max_addresses or limits.max_users were remembered",
        |s| s.limits.counts().overflows,
    ),
];
