//! Metrics of presences, their diffs, and the look-ups that add fields to them.

use super::{Metric, by_word, counter, counters, gauge, histogram};

pub(super) static METRICS: &[Metric] = &[
    gauge("presences", "Presences of all nodes that are up", |s| {
        s.presence.n_presences as f64
    }),
    gauge("topics", "Topics that somebody is present in", |s| {
        s.presence.n_topics as f64
    }),
    counter("presences_tracked", "Presences tracked on this node", |s| {
        s.presence.n_tracked
    }),
    counter("presences_updated", "Presences updated on this node", |s| {
        s.presence.n_updated
    }),
    counter("presence_joins", "Joins in diffs, of all nodes", |s| {
        s.presence.n_joins
    }),
    counter("presence_leaves", "Leaves in diffs, of all nodes", |s| {
        s.presence.n_leaves
    }),
    counters(
        "presence_writes_failed",
        "Writes of presences that were not done, by reason",
        &["reason"],
        |s| {
            by_word([
                ("refused", s.presence.n_refused),
                ("late", s.presence.n_late_writes),
                ("undone", s.presence.n_undone),
            ])
        },
    ),
    counter(
        "diffs",
        "Presence diffs handed to the subscribers of a topic",
        |s| s.presence.n_diffs,
    ),
    counter(
        "diffs_coalesced",
        "Batches of changes sent together with an earlier one",
        |s| s.presence.n_coalesced,
    ),
    counter(
        "presence_mode_changes",
        "Times a topic turned between list and summary, or began or ceased to coalesce",
        |s| s.presence.n_mode_changes,
    ),
    gauge(
        "presence_queue_commands",
        "Writes and messages of other nodes that wait for a shard",
        |s| s.presence.n_queued as f64,
    ),
    counter("fetches", "Look-ups made for presences", |s| {
        s.presence.n_fetches
    }),
    counters(
        "fetches_failed",
        "Look-ups that brought nothing, by reason; their diffs went out with what was known",
        &["reason"],
        |s| {
            by_word([
                ("error", s.presence.n_fetch_errors),
                ("panic", s.presence.n_fetch_panics),
                ("late", s.presence.n_fetch_late),
            ])
        },
    ),
    histogram(
        "fetch",
        "Time that look-ups took, failed and late ones too",
        |s| s.fetches,
    ),
    counter(
        "watches_lagged",
        "Times that a reader inside the server fell behind",
        |s| s.presence.n_watch_lagged,
    ),
];
