//! Metrics of the server around it all: state, tokens, the API, the process.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Metric, Read, Unit, by_word, counter, counters, gauge, gauges, histogram, maybe_gauge,
};

pub(super) static METRICS: &[Metric] = &[
    gauge(
        "ready",
        "1 if the node wants new work, as /readyz says",
        |s| f64::from(u8::from(s.api.ready.is_ready())),
    ),
    gauge("draining", "1 if the node is stopping", |s| {
        f64::from(u8::from(s.api.ready.is_draining()))
    }),
    gauges(
        "build_info",
        "Always 1; the version is the label",
        &["version"],
        |_| by_word([(env!("CARGO_PKG_VERSION"), 1.0)]),
    ),
    gauge("uptime", "Time since the start", |s| {
        s.api.started.elapsed().as_secs_f64()
    })
    .seconds(),
    gauge("process_resident_memory", "Memory in use", |s| {
        s.process.resident_bytes as f64
    })
    .bytes(),
    Metric {
        name: "process_cpu",
        unit: Some(Unit::Seconds),
        help: "Time of the processor used, of all threads",
        read: Read::Time(|s| s.process.cpu_seconds),
    },
    counter(
        "log_lines_dropped",
        "Lines of the log that were not written, because stderr did not take them",
        |s| s.n_dropped_log_lines,
    ),
    counter(
        "tokens_accepted",
        "Tokens of clients accepted, renewals included",
        |s| s.tokens.accepted(),
    ),
    counters(
        "tokens_refused",
        "Tokens of clients refused, by reason",
        &["reason"],
        |s| {
            let refused = s.tokens.refused();
            refused
                .map(|(reason, n)| (vec![reason.to_owned()], n))
                .collect()
        },
    ),
    counters(
        "key_fetches",
        "Attempts to fetch the keys for tokens from jwt.jwks_url, by result",
        &["result"],
        |s| {
            let (n, n_failed) = s.tokens.key_fetches();
            by_word([("ok", n - n_failed), ("failed", n_failed)])
        },
    ),
    counters(
        "tls_handshakes",
        "Handshakes of TLS, by result; those that took too long or were broken off failed",
        &["result"],
        |s| outcomes(&s.api.tls.handshakes, &s.api.tls.failed_handshakes),
    ),
    counters(
        "tls_reloads",
        "Attempts to take a new certificate of TLS, by result",
        &["result"],
        |s| outcomes(&s.api.tls.reloads, &s.api.tls.failed_reloads),
    ),
    gauge(
        "tls_reload_failing",
        "1 while the last attempt to take a new certificate of TLS has failed",
        |s| f64::from(u8::from(s.api.tls.is_failing())),
    ),
    maybe_gauge(
        "tls_certificate_not_after",
        "When the certificate of TLS ends, in seconds since 1970; nothing without TLS",
        |s| s.api.tls.ends().map(|ends| ends as f64),
    )
    .seconds(),
    counters(
        "api_requests",
        "Requests to the HTTP API, by method, route and class of status",
        &["method", "route", "status"],
        |s| {
            let mut counts = Vec::new();
            for route in &s.routes {
                counts.extend(route.counts().map(|(class, n)| {
                    let method = route.method.as_str().to_owned();
                    (vec![method, route.path.to_owned(), class.to_owned()], n)
                }));
            }
            counts
        },
    ),
    counters(
        "api_refusals",
        "Requests to the HTTP API, the dashboard and the metrics that were not let in, by why",
        &["reason"],
        |s| {
            let refusals = s.api.access.refusals();
            refusals.map(|(why, n)| (vec![why.to_owned()], n)).collect()
        },
    ),
    histogram(
        "api_request",
        "Time that requests to the HTTP API took",
        |s| s.requests,
    ),
    gauge("leases", "Presences held for backends", |s| {
        load(&s.api.people.stats().n_leases) as f64
    }),
    counter(
        "leases_expired",
        "Presences of backends that were not renewed in time",
        |s| load(&s.api.people.stats().n_expired),
    ),
    counter(
        "leases_refused",
        "Presences of backends refused for api.max_leases",
        |s| load(&s.api.people.stats().n_refused),
    ),
    counter(
        "lease_messages_dropped",
        "Messages of other nodes about leases and evictions that found no room in the queue",
        |s| load(&s.api.people.stats().n_dropped),
    ),
    counter(
        "evictions",
        "Evictions that this node was asked for, through the API or the dashboard",
        |s| load(&s.api.people.stats().n_evicted),
    ),
];

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What went well and what did not.
fn outcomes(done: &AtomicU64, failed: &AtomicU64) -> Vec<(Vec<String>, u64)> {
    by_word([
        ("ok", done.load(Ordering::Relaxed)),
        ("failed", failed.load(Ordering::Relaxed)),
    ])
}
