//! Metrics of the cluster: who is there, how complete their presences are here, and the engine.

use super::super::snapshot::Snapshot;
use super::{Labelled, Metric, by_word, counter, counters, gauge, gauges};
use crate::cluster::EngineStats;

pub(super) static METRICS: &[Metric] = &[
    gauges(
        "peers",
        "Other nodes of the cluster, by state",
        &["state"],
        |s| by_word([("up", s.peers.n_up as f64), ("down", s.peers.n_down as f64)]),
    ),
    gauge(
        "peers_incomplete",
        "Other nodes that are up and whose presences are not all here",
        |s| s.peers.n_incomplete as f64,
    ),
    gauge(
        "peers_unreached",
        "Nodes that cluster.peers gives by address and that this one has no connection to",
        |s| s.n_unreached as f64,
    ),
    counters(
        "peer_changes",
        "Times that a shard saw a node come or go",
        &["to"],
        |s| {
            by_word([
                ("up", s.presence.n_peers_up),
                ("down", s.presence.n_peers_down),
            ])
        },
    ),
    counter(
        "heartbeats_missed",
        "Heartbeats of other nodes that did not come when they were due",
        |s| s.presence.n_heartbeats_missed,
    ),
    gauge(
        "replication_lag_writes",
        "Writes that other nodes have announced and that are not here, of all nodes",
        |s| s.peers.lag as f64,
    ),
    gauge(
        "replication_lag_max_writes",
        "The same, of the node that lacks the most",
        |s| s.peers.max_lag as f64,
    ),
    counters(
        "replication_events",
        "What replication had to do, by kind",
        &["kind"],
        |s| {
            let counted = &s.peers.replication;
            by_word([
                ("applied", counted.n_applied),
                ("stale", counted.n_stale),
                ("gap", counted.n_gaps),
                ("request", counted.n_requests),
                ("transfer", counted.n_transfers),
            ])
        },
    ),
    counters(
        "cluster_messages_dropped",
        "Messages between nodes that were dropped, by reason",
        &["reason"],
        |s| {
            by_word([
                ("not_accepted", s.pubsub.n_refused),
                ("malformed", s.pubsub.n_malformed + s.presence.n_malformed),
                ("unclaimed", s.pubsub.n_unclaimed),
                ("inbox_full", s.presence.n_inbox_full),
                ("buried", s.peers.replication.n_buried),
                ("over_limit", s.peers.replication.n_refused),
                ("unproved", s.seal.n_unproved),
                ("replayed", s.seal.n_replayed),
                ("seal_refused", s.seal.n_refused),
            ])
        },
    ),
    gauge(
        "peers_refused",
        "Nodes that were refused in the last two minutes, as /api/cluster names them",
        |s| s.n_refused as f64,
    ),
    gauges(
        "engine_connected",
        "Whether the engine has its connection, to a broker if it has one",
        &["engine"],
        |s| of_engine(s, |engine| f64::from(u8::from(engine.is_connected))),
    ),
    counters(
        "engine_reconnects",
        "Connections of the engine made anew: to its broker, or to a node that was gone",
        &["engine"],
        |s| of_engine(s, |engine| engine.n_reconnects),
    ),
    gauges(
        "engine_queue_messages",
        "Messages that wait for the engine",
        &["engine"],
        |s| of_engine(s, |engine| engine.n_queued as f64),
    ),
    counters(
        "engine_sent_messages",
        "Messages handed to the engine",
        &["engine"],
        |s| of_engine(s, |engine| engine.n_sent),
    ),
    counters(
        "engine_received_messages",
        "Messages that the engine brought",
        &["engine"],
        |s| of_engine(s, |engine| engine.n_received),
    ),
    counters(
        "engine_lost_messages",
        "Messages that the engine took or brought and that were lost, or that it did not take",
        &["engine", "reason"],
        |s| {
            let Some((name, engine)) = s.engine else {
                return Vec::new();
            };
            [
                ("refused", engine.n_refused),
                ("lost", engine.n_lost),
                ("malformed", engine.n_malformed),
            ]
            .map(|(reason, n)| (vec![name.to_owned(), reason.to_owned()], n))
            .into()
        },
    ),
];

/// A value of the engine; none on a node that is alone.
fn of_engine<T>(snapshot: &Snapshot, read: impl Fn(&EngineStats) -> T) -> Labelled<T> {
    let engine = snapshot.engine.iter();
    engine
        .map(|(name, stats)| (vec![(*name).to_owned()], read(stats)))
        .collect()
}
