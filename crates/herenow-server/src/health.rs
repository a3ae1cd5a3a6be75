//! Whether the process lives (`/healthz`) and whether it wants new work (`/readyz`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::routing::get;

const JOINING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// How far the server is: joining its cluster, ready, draining; in this order.
#[derive(Debug, Clone)]
pub(crate) struct Ready(Arc<AtomicU8>);

impl Ready {
    /// A server that has just begun.
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(JOINING)))
    }

    /// The presences of the cluster are here, as far as they can be waited for.
    pub(crate) fn become_ready(&self) {
        self.0.fetch_max(READY, Ordering::Relaxed);
    }

    /// The server begins to stop.
    pub(crate) fn begin_to_drain(&self) {
        self.0.fetch_max(DRAINING, Ordering::Relaxed);
    }

    /// The word for it: `joining`, `ready` or `draining`.
    pub(crate) fn as_str(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            JOINING => "joining",
            READY => "ready",
            _ => "draining",
        }
    }

    /// Whether new work is wanted.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed) == READY
    }

    /// Whether new work is refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DRAINING
    }
}

/// Routes: `/healthz` is always 200 `ok`; `/readyz` is 200 `ready`, or 503 with `joining the
/// cluster` or `draining`.
pub(crate) fn router(ready: Ready) -> Router {
    Router::new()
        .route("/healthz", get(|| async { answer(StatusCode::OK, "ok\n") }))
        .route("/readyz", get(|| async move { readiness(&ready) }))
}

fn readiness(ready: &Ready) -> impl IntoResponse + use<> {
    if ready.is_ready() {
        answer(StatusCode::OK, "ready\n")
    } else if ready.is_draining() {
        answer(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, "joining the cluster\n")
    }
}

/// An answer that nothing between may keep.
fn answer(status: StatusCode, text: &'static str) -> impl IntoResponse {
    (status, [(CACHE_CONTROL, "no-store")], text)
}
