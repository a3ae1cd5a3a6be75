//! Metrics of the server around it all: state, tokens, the API, the process.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Metric, Read, Unit, by_word, counter, counters, gauge, gauges, histogram};

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
        |s| outcomes(&s.tls.handshakes, &s.tls.failed_handshakes),
    ),
    counters(
        "tls_reloads",
        "Attempts to take a new certificate of TLS, by result",
        &["result"],
        |s| outcomes(&s.tls.reloads, &s.tls.failed_reloads),
    ),
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
    counter("evictions", "Users evicted through the API", |s| {
        load(&s.api.people.stats().n_evicted)
    }),
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
