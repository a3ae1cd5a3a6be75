//! `GET /api/cluster`: what this node knows of its cluster, as JSON.
//!
//! ```json
//! {
//!   "node": "a", "cluster": "herenow", "engine": "zenoh", "authenticated": true, "ready": true,
//!   "n_shards": 64,
//!   "nodes": [{
//!     "node": "b", "self": false, "incarnation": "1787345678901234567",
//!     "state": "up", "since": "2026-11-24T22:26:19.123Z",
//!     "n_rows": 12, "version": 40, "lag": 0,
//!     "replicas": [{ "shard": 7, "state": "up", "version": 3, "seen": 3, "lag": 0, "n_rows": 1 }]
//!   }],
//!   "refused": [{ "node": "x", "why": "it has no cluster secret, this node has one",
//!                 "n_refused": 9, "last": "2026-11-24T22:26:19.123Z" }],
//!   "unreached": [{ "peer": "tcp/10.0.0.2:7447", "why": "there is no connection to it",
//!                   "since": "2026-11-24T22:26:19.123Z" }],
//!   "replication": { "n_applied": 0, "n_stale": 0, "n_gaps": 0, "n_buried": 0, "n_refused": 0,
//!                    "n_requests": 0, "n_transfers": 0 },
//!   "grace": { "n_now": 0, "n_held": 0, "n_returned": 0, "n_over": 0, "n_refused": 0 },
//!   "seal": { "n_taken": 0, "n_unproved": 0, "n_replayed": 0, "n_refused": 0 }
//! }
//! ```
//!
//! The node that answers comes first, then the others by name. `state` is `up` or `down`; a node
//! that said good-bye is not listed. `version` counts the writes a node has announced, `seen` those
//! that are here, `lag` is the difference: 0 is complete. `replicas` leaves out those without a
//! write. An incarnation is text because it does not fit into a JavaScript number. `cluster`,
//! `engine` and `seal` are null for a node alone.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use herenow_presence::{ClusterStatus, NodeStatus, ReplicaStatus};
use herenow_pubsub::sealed::RefusedPeer;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Api, Problem, Query, answer};
use crate::cluster::Cluster;
use crate::outage::Outage;

/// `GET /api/cluster`.
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::read(query.as_deref())?.finish()?;
    let status = api.presence.cluster().await;
    Ok(answer(&api.show(&status)))
}

impl Api {
    fn show(&self, status: &ClusterStatus) -> Value {
        let now = Timestamp::now();
        let cluster = self.cluster.as_deref();
        let nodes = status.nodes.iter().map(|node| show_node(node, now));
        let mut refused: Vec<Value> = cluster
            .map(|cluster| cluster.sealed.refused())
            .unwrap_or_default()
            .iter()
            .map(|peer| show_refused(peer, now))
            .collect();
        for (node, n_theirs) in &status.misfits {
            let why = format!(
                "presence.n_shards is {n_theirs} there and {} here",
                status.n_shards
            );
            refused.push(json!({ "node": node.as_str(), "why": why }));
        }
        let unreached = cluster.map(Cluster::unreached).unwrap_or_default();
        let seal = cluster.map(|cluster| cluster.sealed.stats());
        let counted = &status.stats;
        json!({
            "node": status.nodes.first().map(|node| node.node.as_str()),
            "cluster": cluster.map(|cluster| &cluster.name),
            "engine": cluster.map(|cluster| cluster.engine.as_str()),
            "authenticated": cluster.is_some_and(|cluster| cluster.has_secret),
            "ready": self.ready.is_ready(),
            "n_shards": status.n_shards,
            "nodes": nodes.collect::<Vec<_>>(),
            "refused": refused,
            "unreached": unreached.iter().map(|peer| show_unreached(peer, now)).collect::<Vec<_>>(),
            "replication": {
                "n_applied": counted.n_applied,
                "n_stale": counted.n_stale,
                "n_gaps": counted.n_gaps,
                "n_buried": counted.n_buried,
                "n_refused": counted.n_refused,
                "n_requests": counted.n_requests,
                "n_transfers": counted.n_transfers,
            },
            "grace": {
                "n_now": counted.n_in_grace,
                "n_held": counted.n_held,
                "n_returned": counted.n_returned,
                "n_over": counted.n_grace_over,
                "n_refused": counted.n_held_refused,
            },
            "seal": seal.map(|seal| json!({
                "n_taken": seal.n_taken,
                "n_unproved": seal.n_unproved,
                "n_replayed": seal.n_replayed,
                "n_refused": seal.n_refused,
            })),
        })
    }
}

fn show_node(node: &NodeStatus, now: Timestamp) -> Value {
    let written = node.replicas.iter().filter(|replica| replica.version > 0);
    json!({
        "node": node.node.as_str(),
        "self": node.is_self,
        "incarnation": node.incarnation.to_string(),
        "state": state(node.is_up),
        "since": ago(now, node.since),
        "n_rows": node.n_rows,
        "version": node.replicas.iter().map(|replica| replica.version).sum::<u64>(),
        "lag": node.lag,
        "replicas": written.map(show_replica).collect::<Vec<_>>(),
    })
}

fn show_replica(replica: &ReplicaStatus) -> Value {
    json!({
        "shard": replica.shard,
        "state": state(replica.is_up),
        "version": replica.version,
        "seen": replica.seen,
        "lag": replica.lag(),
        "n_rows": replica.n_rows,
    })
}

fn show_refused(refused: &RefusedPeer, now: Timestamp) -> Value {
    json!({
        "node": &*refused.peer,
        "why": refused.refusal.to_string(),
        "n_refused": refused.n_refused,
        "last": ago(now, refused.last.elapsed()),
    })
}

fn show_unreached(peer: &Outage, now: Timestamp) -> Value {
    json!({
        "peer": peer.name,
        "why": peer.why,
        "since": ago(now, Duration::from_millis(peer.for_ms)),
    })
}

fn state(is_up: bool) -> &'static str {
    if is_up { "up" } else { "down" }
}

/// The time of day this long ago, in UTC to the millisecond.
fn ago(now: Timestamp, time: Duration) -> Option<String> {
    let time = SignedDuration::try_from(time).ok()?;
    let then = now.checked_sub(time).ok()?;
    Some(format!("{then:.3}"))
}
