//! Counters of one presence system: plain atomics, read as a struct, bound to no exporter.

use std::sync::atomic::{AtomicU64, Ordering};

use herenow_pubsub::Histogram;

/// What a presence system has counted since it began, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceStats {
    /// Presences of all nodes that are up, now.
    pub n_presences: u64,
    /// Topics that somebody is present in, now.
    pub n_topics: u64,
    /// Writes and messages of other nodes that wait for a shard, now.
    pub n_queued: u64,
    /// Presences tracked on this node.
    pub n_tracked: u64,
    /// Presences updated on this node.
    pub n_updated: u64,
    /// Tracks, updates and untracks that were refused with an error.
    pub n_refused: u64,
    /// Writes whose caller was gone before it got the answer, undone.
    pub n_undone: u64,
    /// Writes that were not done within their deadline.
    pub n_late_writes: u64,
    /// Joins in diffs, of all nodes.
    pub n_joins: u64,
    /// Leaves in diffs, of all nodes.
    pub n_leaves: u64,
    /// Batches of changes that shards published.
    pub n_batches: u64,
    /// Diffs handed to the subscribers of a topic.
    pub n_diffs: u64,
    /// Batches that were sent together with an earlier one.
    pub n_coalesced: u64,
    /// Times a topic's mode changed.
    pub n_mode_changes: u64,
    /// Look-ups made through `fetch`.
    pub n_fetches: u64,
    /// Look-ups that came back with an error.
    pub n_fetch_errors: u64,
    /// Look-ups that panicked.
    pub n_fetch_panics: u64,
    /// Look-ups that missed their deadline.
    pub n_fetch_late: u64,
    /// Calls of `handle_metas`.
    pub n_observed: u64,
    /// Calls of `handle_metas` that panicked or missed their deadline.
    pub n_observe_failures: u64,
    /// Diffs folded with another one because `handle_metas` was slow.
    pub n_observe_folded: u64,
    /// Times a watch fell behind and started over.
    pub n_watch_lagged: u64,
    /// Messages to other nodes that the adapter refused.
    pub n_send_refused: u64,
    /// Messages from other nodes that could not be read.
    pub n_malformed: u64,
    /// Messages from other nodes dropped because a shard's queue was full.
    pub n_inbox_full: u64,
    /// Times a peer came up.
    pub n_peers_up: u64,
    /// Times a peer was taken for down.
    pub n_peers_down: u64,
    /// Heartbeats of other nodes that did not come when they were due.
    pub n_heartbeats_missed: u64,
}

/// The counters behind [`PresenceStats`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) n_tracked: Counter,
    pub(crate) n_updated: Counter,
    pub(crate) n_refused: Counter,
    pub(crate) n_undone: Counter,
    pub(crate) n_late_writes: Counter,
    pub(crate) n_joins: Counter,
    pub(crate) n_leaves: Counter,
    pub(crate) n_batches: Counter,
    pub(crate) n_diffs: Counter,
    pub(crate) n_coalesced: Counter,
    pub(crate) n_mode_changes: Counter,
    pub(crate) n_fetches: Counter,
    pub(crate) n_fetch_errors: Counter,
    pub(crate) n_fetch_panics: Counter,
    pub(crate) n_fetch_late: Counter,
    pub(crate) n_observed: Counter,
    pub(crate) n_observe_failures: Counter,
    pub(crate) n_observe_folded: Counter,
    pub(crate) n_watch_lagged: Counter,
    pub(crate) n_send_refused: Counter,
    pub(crate) n_malformed: Counter,
    pub(crate) n_inbox_full: Counter,
    pub(crate) n_peers_up: Counter,
    pub(crate) n_peers_down: Counter,
    pub(crate) n_heartbeats_missed: Counter,
    pub(crate) fetches: Histogram,
}

impl Metrics {
    /// Reads all counters; the three gauges are left zero.
    pub(crate) fn read(&self) -> PresenceStats {
        PresenceStats {
            n_presences: 0,
            n_topics: 0,
            n_queued: 0,
            n_tracked: self.n_tracked.get(),
            n_updated: self.n_updated.get(),
            n_refused: self.n_refused.get(),
            n_undone: self.n_undone.get(),
            n_late_writes: self.n_late_writes.get(),
            n_joins: self.n_joins.get(),
            n_leaves: self.n_leaves.get(),
            n_batches: self.n_batches.get(),
            n_diffs: self.n_diffs.get(),
            n_coalesced: self.n_coalesced.get(),
            n_mode_changes: self.n_mode_changes.get(),
            n_fetches: self.n_fetches.get(),
            n_fetch_errors: self.n_fetch_errors.get(),
            n_fetch_panics: self.n_fetch_panics.get(),
            n_fetch_late: self.n_fetch_late.get(),
            n_observed: self.n_observed.get(),
            n_observe_failures: self.n_observe_failures.get(),
            n_observe_folded: self.n_observe_folded.get(),
            n_watch_lagged: self.n_watch_lagged.get(),
            n_send_refused: self.n_send_refused.get(),
            n_malformed: self.n_malformed.get(),
            n_inbox_full: self.n_inbox_full.get(),
            n_peers_up: self.n_peers_up.get(),
            n_peers_down: self.n_peers_down.get(),
            n_heartbeats_missed: self.n_heartbeats_missed.get(),
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
