//! Metrics of what is told to the application: webhooks, and the streams of events.

use super::super::snapshot::Snapshot;
use super::{Labelled, Metric, by_word, counter, counters, gauge, gauges};
use crate::events::WebhookStats;

pub(super) static METRICS: &[Metric] = &[
    counters(
        "webhook_events_delivered",
        "Events that a webhook took, by webhook: its name, or its place among all",
        &["webhook"],
        |s| by_webhook(s, |webhook| webhook.n_delivered),
    ),
    counters(
        "webhook_events_lost",
        "Events that a webhook did not get and will not, by webhook and reason",
        &["webhook", "reason"],
        |s| {
            let mut counts = Vec::new();
            for webhook in s.api.events.webhooks() {
                counts.extend(webhook.lost.iter().map(|(reason, n)| {
                    let labels = vec![webhook.name.clone(), (*reason).to_owned()];
                    (labels, *n)
                }));
            }
            counts
        },
    ),
    counters(
        "webhook_requests",
        "Requests made to webhooks, those after a failure included",
        &["webhook"],
        |s| by_webhook(s, |webhook| webhook.n_requests),
    ),
    counters(
        "webhook_retries",
        "Requests made to webhooks because one before had failed",
        &["webhook"],
        |s| by_webhook(s, |webhook| webhook.n_retries),
    ),
    counters(
        "webhook_requests_failed",
        "Requests to webhooks that were refused or not answered",
        &["webhook"],
        |s| by_webhook(s, |webhook| webhook.n_failures),
    ),
    gauges(
        "webhook_failing",
        "1 if the last request to the webhook failed",
        &["webhook"],
        |s| by_webhook(s, |webhook| f64::from(u8::from(webhook.is_failing))),
    ),
    gauges(
        "webhook_queue_events",
        "Events that wait for a webhook or are under way to it",
        &["webhook"],
        |s| by_webhook(s, |webhook| webhook.n_waiting as f64),
    ),
    gauges(
        "webhook_queue",
        "Bytes of events that wait for a webhook or are under way to it",
        &["webhook"],
        |s| by_webhook(s, |webhook| webhook.waiting_bytes as f64),
    )
    .bytes(),
    gauge("event_streams", "Streams of events that are open", |s| {
        s.api.events.streams().n_open as f64
    }),
    counter("event_streams_opened", "Streams of events opened", |s| {
        s.api.events.streams().n_opened
    }),
    counter(
        "event_streams_refused",
        "Streams of events refused for events.max_streams",
        |s| s.api.events.streams().n_refused,
    ),
    counter(
        "event_streams_closed_slow",
        "Streams of events closed because their reader was too slow",
        |s| s.api.events.streams().n_slow,
    ),
    counter(
        "stream_events_sent",
        "Events sent to those who listen, once for each",
        |s| s.api.events.streams().n_sent,
    ),
    counters(
        "stream_events_lost",
        "Events that those who listen did not get, by reason",
        &["reason"],
        |s| {
            let streams = s.api.events.streams();
            by_word([
                ("too_slow", streams.n_too_slow),
                ("not_kept", streams.n_not_kept),
            ])
        },
    ),
    counter(
        "events_missed",
        "Events told to nobody because the node was too busy",
        |s| s.api.events.n_missed(),
    ),
    gauge(
        "events_owed",
        "Events of nodes that are down which another node is to tell, kept in case it is down too",
        |s| s.api.events.owed().n_owed as f64,
    ),
    gauge(
        "events_owed",
        "Bytes of events that another node is to tell, kept in case it is down too",
        |s| s.api.events.owed().owed_bytes as f64,
    )
    .bytes(),
    counter(
        "events_owed_dropped",
        "Events that another node is to tell, not kept because there were too many",
        |s| s.api.events.owed().n_dropped,
    ),
];

fn by_webhook<T>(snapshot: &Snapshot, read: impl Fn(&WebhookStats) -> T) -> Labelled<T> {
    let webhooks = snapshot.api.events.webhooks().into_iter();
    let labelled = |webhook: WebhookStats| {
        let value = read(&webhook);
        (vec![webhook.name], value)
    };
    webhooks.map(labelled).collect()
}
