//! [`RouteCounts`]: how often a route was asked, and how it answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::MethodRouter;
use herenow_pubsub::Histogram;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::limits::{Limits, Named};

/// Classes of statuses, as they are shown.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The requests to one route, refused ones too.
#[derive(Debug)]
pub(crate) struct RouteCounts {
    pub(crate) method: Method,
    /// With its variables, such as `/api/topics/{topic}`.
    pub(crate) path: &'static str,
    by_class: [AtomicU64; CLASSES.len()],
    /// How long requests to all routes took.
    times: Arc<Histogram>,
    /// What requests were over.
    limits: Limits,
}

impl RouteCounts {
    pub(crate) fn new(
        method: &Method,
        path: &'static str,
        times: &Arc<Histogram>,
        limits: &Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            method: method.clone(),
            path,
            by_class: Default::default(),
            times: times.clone(),
            limits: limits.clone(),
        })
    }

    /// Returns how many requests were answered with each class of status, those that there were.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.by_class.iter().map(|n| n.load(Ordering::Relaxed));
        CLASSES.into_iter().zip(counts).filter(|(_, n)| *n > 0)
    }

    fn count(&self, status: StatusCode, began: Instant) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len());
        self.by_class[class - 1].fetch_add(1, Ordering::Relaxed);
        self.times.observe(began.elapsed());
    }
}

/// Has the requests to a route counted.
pub(crate) fn counted<S>(counts: &Arc<RouteCounts>, route: MethodRouter<S>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    route.route_layer(middleware::from_fn_with_state(counts.clone(), count))
}

async fn count(State(counts): State<Arc<RouteCounts>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (method, route) = (counts.method.as_str(), counts.path);
    let span = tracing::debug_span!("api_request", method, route, status = Empty);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    counts.count(response.status(), began);
    if let Some(over) = response.extensions().get::<Named>() {
        counts.limits.count(*over);
    }
    response
}
