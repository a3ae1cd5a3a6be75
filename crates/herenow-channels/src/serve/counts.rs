//! [`ServeCounts`]: what a server refused and whom it cut, by the limit.

use std::sync::Arc;

use crate::metrics::Counter;

/// What a server refused and whom it cut, by the limit of its [`ServeConfig`](crate::ServeConfig).
/// Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct ServeCounts(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    over_bytes: Counter,
    over_headers: Counter,
    late_heads: Counter,
    displaced: Counter,
    unread_answers: Counter,
}

impl ServeCounts {
    /// Heads over [`max_header_bytes`](crate::ServeConfig::max_header_bytes), those among them that
    /// were over twice of either limit.
    pub fn over_bytes(&self) -> u64 {
        self.0.over_bytes.value()
    }

    /// Heads over [`max_headers`](crate::ServeConfig::max_headers).
    pub fn over_headers(&self) -> u64 {
        self.0.over_headers.value()
    }

    /// Connections whose handshake or first head was not there in
    /// [`header_timeout`](crate::ServeConfig::header_timeout). One that is idle after an answer is
    /// closed as well, and not counted: most end that way.
    pub fn late_heads(&self) -> u64 {
        self.0.late_heads.value()
    }

    /// Connections that gave their place to a newcomer when all
    /// [`max_handshakes`](crate::ServeConfig::max_handshakes) were taken.
    pub fn displaced(&self) -> u64 {
        self.0.displaced.value()
    }

    /// Connections whose client took nothing of an answer for
    /// [`write_timeout`](crate::ServeConfig::write_timeout).
    pub fn unread_answers(&self) -> u64 {
        self.0.unread_answers.value()
    }

    pub(super) fn count_bytes(&self) {
        self.0.over_bytes.increment();
    }

    pub(super) fn count_headers(&self) {
        self.0.over_headers.increment();
    }

    pub(super) fn count_late_head(&self) {
        self.0.late_heads.increment();
    }

    pub(super) fn count_displaced(&self) {
        self.0.displaced.increment();
    }

    pub(super) fn count_unread_answer(&self) {
        self.0.unread_answers.increment();
    }
}

/// What was counted is no setting, so that any two are equal.
impl PartialEq for ServeCounts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ServeCounts {}
