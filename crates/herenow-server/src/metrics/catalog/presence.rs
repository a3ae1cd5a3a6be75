//! Metrics of presences, their diffs, and the look-ups that add fields to them.

use super::super::snapshot::Snapshot;
use super::{Labelled, Metric, by_word, counter, counters, gauge, gauges, histogram};
use crate::fetch::SourceStats;

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
    counters(
        "fetch_queries",
        "Times that a source was to be asked for fields, by source (the key of the configuration) \
         and result: answered, an error, no answer in time, not asked because it gets a pause",
        &["source", "result"],
        |s| {
            by_source(s, |source| {
                [
                    ("ok", source.n_answered),
                    ("failed", source.n_failed),
                    ("late", source.n_late),
                    ("paused", source.n_paused),
                ]
            })
        },
    ),
    counters(
        "fetch_keys",
        "Keys that fields were needed for, by source and where they came from: what was known, an \
         answer, what was known and is old, nowhere",
        &["source", "from"],
        |s| {
            by_source(s, |source| {
                [
                    ("cache", source.n_keys_cached),
                    ("answer", source.n_keys_answered),
                    ("stale", source.n_keys_stale),
                    ("nowhere", source.n_keys_without),
                ]
            })
        },
    ),
    counters(
        "fetch_keys_asked",
        "Keys in the queries, by source",
        &["source"],
        |s| of_source(s, |source| source.n_keys_asked),
    ),
    counters(
        "fetch_fields_refused",
        "Fields of keys left out because they are too large or no object, by source",
        &["source"],
        |s| of_source(s, |source| source.n_fields_refused),
    ),
    gauges(
        "fetch_source_ok",
        "1 if the last query of the source was answered",
        &["source"],
        |s| of_source(s, |source| f64::from(u8::from(source.is_ok()))),
    ),
    gauges(
        "fetch_cached_keys",
        "Keys whose fields are kept, by source",
        &["source"],
        |s| of_source(s, |source| source.n_cached as f64),
    ),
    gauges(
        "fetch_cached",
        "Bytes of the fields that are kept, by source",
        &["source"],
        |s| of_source(s, |source| source.cached_bytes as f64),
    )
    .bytes(),
    counter(
        "watches_lagged",
        "Times that a reader inside the server fell behind",
        |s| s.presence.n_watch_lagged,
    ),
];

fn of_source<T>(snapshot: &Snapshot, read: impl Fn(&SourceStats) -> T) -> Labelled<T> {
    let sources = snapshot.api.fields.stats().into_iter();
    let labelled = |source: SourceStats| {
        let value = read(&source);
        (vec![source.source], value)
    };
    sources.map(labelled).collect()
}

fn by_source<const N: usize>(
    snapshot: &Snapshot,
    read: impl Fn(&SourceStats) -> [(&'static str, u64); N],
) -> Labelled<u64> {
    let mut counts = Vec::new();
    for source in snapshot.api.fields.stats() {
        counts.extend(read(&source).map(|(word, n)| {
            let labels = vec![source.source.clone(), word.to_owned()];
            (labels, n)
        }));
    }
    counts
}
