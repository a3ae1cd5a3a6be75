//! Whether the process lives (`/healthz`) and whether it wants new work (`/readyz`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::routing::get;

/// Whether the server takes new work; false from the moment it begins to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says that from now on the answer is `is_ready`.
    pub(crate) fn set(&self, is_ready: bool) {
        self.0.store(is_ready, Ordering::Relaxed);
    }

    /// Whether new work is taken.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Routes: `/healthz` is always 200 `ok`; `/readyz` is 200 `ready`, or 503 `draining`.
pub(crate) fn router(ready: Ready) -> Router {
    Router::new()
        .route("/healthz", get(|| async { answer(StatusCode::OK, "ok\n") }))
        .route("/readyz", get(|| async move { readiness(&ready) }))
}

fn readiness(ready: &Ready) -> impl IntoResponse + use<> {
    if ready.is_set() {
        answer(StatusCode::OK, "ready\n")
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    }
}

/// An answer that nothing between may keep.
fn answer(status: StatusCode, text: &'static str) -> impl IntoResponse {
    (status, [(CACHE_CONTROL, "no-store")], text)
}
