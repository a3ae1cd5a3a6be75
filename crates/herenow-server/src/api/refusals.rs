//! [`Refusals`]: who was not let in, by why, for the metrics, the log and the dashboard.

use std::sync::atomic::{AtomicU64, Ordering};

use herenow_pubsub::LogLimit;

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It has no key.
    NoKey,
    /// It has a key that is none of the server's.
    UnknownKey,
    /// Its key has not the right.
    Right,
    /// There are no keys, so that nobody may come in.
    Closed,
    /// There are no keys, and it does not come from this machine.
    NotLocal,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: [AtomicU64; Why::WORDS.len()],
    /// What bounds the lines of each reason.
    log: [LogLimit; Why::WORDS.len()],
}

impl Why {
    const WORDS: [&str; 5] = ["no_key", "unknown_key", "right", "closed", "not_local"];

    /// Whether somebody has tried something: a page is opened without a key, too.
    fn is_a_warning(self) -> bool {
        match self {
            Self::UnknownKey | Self::Right => true,
            Self::NoKey | Self::Closed | Self::NotLocal => false,
        }
    }
}

impl Refusals {
    /// Counts one, and says so in the log unless it did too often just now: with the name of the
    /// key, if it is known, and never with its secret.
    pub(super) fn add(&self, why: Why, api_key: Option<&str>) {
        self.counts[why as usize].fetch_add(1, Ordering::Relaxed);
        let reason = Why::WORDS[why as usize];
        if !why.is_a_warning() {
            tracing::debug!(reason, "request refused");
        } else if let Some(n_left_out) = self.log[why as usize].may_log() {
            tracing::warn!(reason, api_key, n_left_out, "API key refused");
        }
    }

    /// How many there were, by why.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|n| n.load(Ordering::Relaxed));
        Why::WORDS.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1302_refused_keys_are_all_counted_by_why() {
        let refusals = Refusals::default();
        for why in [Why::UnknownKey, Why::Right, Why::UnknownKey, Why::NoKey] {
            refusals.add(why, None);
        }
        let counts: Vec<_> = refusals.counts().map(|(_, n)| n).collect();
        assert_eq!(counts, [1, 2, 1, 0, 0]);
    }
}
