//! `GET /api/node`: how this node does, in a few numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::json;

use super::{Api, Problem, Query, answer};
use crate::outage::Outage;

/// Outages that a node tells of, and the characters of why.
const MAX_OUTAGES: usize = 24;
const MAX_WHY_CHARS: usize = 160;

/// `GET /api/node`.
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::read(query.as_deref())?.finish()?;
    let presences = api.presence.stats();
    let people = api.people.stats();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (n_allowed, n_refused) = api.access.counts();
    Ok(answer(&json!({
        "node": api.presence.pubsub().node_name(),
        "version": env!("CARGO_PKG_VERSION"),
        "state": api.ready.as_str(),
        "uptime_seconds": api.started.elapsed().as_secs(),
        "n_sockets": api.sockets.metrics().connections.value(),
        "n_topics": presences.n_topics,
        "n_presences": presences.n_presences,
        "leases": {
            "n_held": read(&people.n_leases),
            "limit": api.config.max_leases,
            "n_expired": read(&people.n_expired),
            "n_moved": read(&people.n_moved),
            "n_refused": read(&people.n_refused),
        },
        "outages": api.outages(),
        "n_evictions": read(&people.n_evicted),
        "fetch": api.fields.report(),
        "events": api.events.show(),
        "requests": { "n_allowed": n_allowed, "n_refused": n_refused },
    })))
}

impl Api {
    /// What this node does without at the moment: who may come in first, then the other nodes.
    pub(crate) fn outages(&self) -> Vec<Outage> {
        let keys = self.authority.outage().into_iter();
        let cluster = self.cluster.iter().flat_map(|cluster| cluster.outages());
        let outages = keys.chain(self.tls.outage()).chain(cluster);
        let outages = outages.chain(self.fields.outages());
        let peers = self.cluster.iter().flat_map(|cluster| cluster.unreached());
        let outages = outages.chain(self.events.outages()).chain(peers);
        let outages = outages.take(MAX_OUTAGES);
        outages.map(cut).collect()
    }
}

fn cut(mut outage: Outage) -> Outage {
    if let Some((at, _)) = outage.why.char_indices().nth(MAX_WHY_CHARS) {
        outage.why.truncate(at);
        outage.why.push('…');
    }
    outage
}
