//! [`Counters`]: what a source has done.

use std::sync::atomic::{AtomicU64, Ordering};

use super::circuit::State;

/// What a source has done.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) n_look_ups: AtomicU64,
    pub(super) n_queries: AtomicU64,
    pub(super) n_answered: AtomicU64,
    pub(super) n_keys_asked: AtomicU64,
    pub(super) n_keys_cached: AtomicU64,
    pub(super) n_keys_answered: AtomicU64,
    pub(super) n_keys_stale: AtomicU64,
    pub(super) n_keys_without: AtomicU64,
    pub(super) n_fields_refused: AtomicU64,
    pub(super) n_failed: AtomicU64,
    pub(super) n_late: AtomicU64,
    pub(super) n_paused: AtomicU64,
}

/// What a source has done, and how it is.
#[derive(Debug, Clone)]
pub(crate) struct SourceStats {
    /// The key of the configuration that it comes from.
    pub(crate) source: String,
    pub(super) state: State,
    /// Keys whose fields are kept, and their bytes.
    pub(crate) n_cached: usize,
    pub(crate) cached_bytes: usize,
    /// Diffs and lists that needed fields.
    pub(super) n_look_ups: u64,
    pub(super) n_queries: u64,
    /// Queries that were answered.
    pub(crate) n_answered: u64,
    pub(crate) n_keys_asked: u64,
    /// Keys by where their fields came from: what was known, an answer, what was known and is old,
    /// nothing.
    pub(crate) n_keys_cached: u64,
    pub(crate) n_keys_answered: u64,
    pub(crate) n_keys_stale: u64,
    pub(crate) n_keys_without: u64,
    pub(crate) n_fields_refused: u64,
    pub(crate) n_failed: u64,
    /// Queries that were not answered in time, and look-ups that did not get to ask in time.
    pub(crate) n_late: u64,
    /// Look-ups that asked nobody, because the source had a pause.
    pub(crate) n_paused: u64,
}

impl SourceStats {
    /// Whether the last query was answered.
    pub(crate) fn is_ok(&self) -> bool {
        self.state == State::Ok
    }
}

impl Counters {
    /// What was counted so far for a source, with how it is, and the keys and bytes that it keeps.
    pub(super) fn read(
        &self,
        source: String,
        state: State,
        (n_cached, cached_bytes): (usize, usize),
    ) -> SourceStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SourceStats {
            source,
            state,
            n_cached,
            cached_bytes,
            n_look_ups: read(&self.n_look_ups),
            n_queries: read(&self.n_queries),
            n_answered: read(&self.n_answered),
            n_keys_asked: read(&self.n_keys_asked),
            n_keys_cached: read(&self.n_keys_cached),
            n_keys_answered: read(&self.n_keys_answered),
            n_keys_stale: read(&self.n_keys_stale),
            n_keys_without: read(&self.n_keys_without),
            n_fields_refused: read(&self.n_fields_refused),
            n_failed: read(&self.n_failed),
            n_late: read(&self.n_late),
            n_paused: read(&self.n_paused),
        }
    }
}

pub(super) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
