//! [`Hidden`]: presences of nodes that are down, which may come back.
//!
//! They are kept until they do, and at least for as long as peers remember a node that is down,
//! `cluster.permdown_period`: what it returns with after that is new to them. There are two
//! generations, so that nothing is looked through: the older one goes when the younger one is as
//! old as that, or full, and takes its place.

use std::collections::HashMap;
use std::time::Duration;

use herenow_presence::MetaRef;
use tokio::time::Instant;

/// Presences of nodes that are down that are remembered, in each of two generations.
const MAX_HIDDEN: usize = 500_000;
/// How long they are, at least.
const MIN_HIDDEN_TIME: Duration = Duration::from_secs(20 * 60);

/// Presences that have left because their node is down, and who told so.
pub(super) struct Hidden {
    young: HashMap<MetaRef, ToldBy>,
    old: HashMap<MetaRef, ToldBy>,
    since: Instant,
    keep_time: Duration,
}

/// Who told that a presence had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToldBy {
    ThisNode,
    Another,
}

impl Hidden {
    pub(super) fn new(permdown_period: Duration) -> Self {
        Self {
            keep_time: permdown_period.max(MIN_HIDDEN_TIME),
            young: HashMap::new(),
            old: HashMap::new(),
            since: Instant::now(),
        }
    }

    pub(super) fn put(&mut self, meta_ref: MetaRef, by: ToldBy) {
        if self.since.elapsed() > self.keep_time || self.young.len() >= MAX_HIDDEN {
            self.old = std::mem::take(&mut self.young);
            self.since = Instant::now();
        }
        self.young.insert(meta_ref, by);
    }

    /// Returns who told that the presence had left, if it had.
    pub(super) fn take(&mut self, meta_ref: MetaRef) -> Option<ToldBy> {
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
        let mut hidden = Hidden::new(60 * MINUTE);
        hidden.put(meta_ref(1), ToldBy::ThisNode);
        for number in [2, 3] {
            tokio::time::advance(25 * MINUTE).await;
            hidden.put(meta_ref(number), ToldBy::Another);
        }
        assert_eq!(hidden.take(meta_ref(1)), Some(ToldBy::ThisNode));
        assert_eq!(hidden.take(meta_ref(1)), None);
        let mut hidden = Hidden::new(MINUTE);
        hidden.put(meta_ref(1), ToldBy::ThisNode);
        for number in [2, 3] {
            tokio::time::advance(25 * MINUTE).await;
            hidden.put(meta_ref(number), ToldBy::Another);
        }
        assert_eq!(hidden.take(meta_ref(1)), None, "it is not kept for ever");
    }
}
