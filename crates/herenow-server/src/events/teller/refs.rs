//! [`Refs`]: what is remembered of presences, by their refs.
//!
//! It is kept for a time at least, until it is taken. There are two generations, so that nothing is
//! looked through: the older one goes when the younger one is as old as that, or full, and takes
//! its place.

use std::collections::HashMap;
use std::time::Duration;

use herenow_presence::MetaRef;
use tokio::time::Instant;

/// Presences that are remembered, in each of two generations.
const MAX_REFS: usize = 500_000;

/// See the module's documentation.
pub(super) struct Refs<T> {
    young: HashMap<MetaRef, T>,
    old: HashMap<MetaRef, T>,
    since: Instant,
    keep_time: Duration,
}

impl<T> Refs<T> {
    pub(super) fn kept_for(keep_time: Duration) -> Self {
        Self {
            keep_time,
            young: HashMap::new(),
            old: HashMap::new(),
            since: Instant::now(),
        }
    }

    pub(super) fn put(&mut self, meta_ref: MetaRef, what: T) {
        if self.since.elapsed() > self.keep_time || self.young.len() >= MAX_REFS {
            self.old = std::mem::take(&mut self.young);
            self.since = Instant::now();
        }
        self.young.insert(meta_ref, what);
    }

    pub(super) fn take(&mut self, meta_ref: MetaRef) -> Option<T> {
        if self.young.is_empty() && self.old.is_empty() {
            return None;
        }
        let young = self.young.remove(&meta_ref);
        young.or_else(|| self.old.remove(&meta_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn srv_1750_who_told_of_a_node_that_is_down_knows_it_for_as_long_as_it_may_come_back() {
        const MINUTE: Duration = Duration::from_secs(60);
        let meta_ref = |number: u64| -> MetaRef { format!("{number:016}").parse().unwrap() };
        let mut refs = Refs::kept_for(60 * MINUTE);
        refs.put(meta_ref(1), "first");
        for number in [2, 3] {
            tokio::time::advance(25 * MINUTE).await;
            refs.put(meta_ref(number), "later");
        }
        assert_eq!(refs.take(meta_ref(1)), Some("first"));
        assert_eq!(refs.take(meta_ref(1)), None);
        let mut refs = Refs::kept_for(20 * MINUTE);
        refs.put(meta_ref(1), "first");
        for number in [2, 3] {
            tokio::time::advance(25 * MINUTE).await;
            refs.put(meta_ref(number), "later");
        }
        assert_eq!(refs.take(meta_ref(1)), None, "it is not kept for ever");
    }
}
