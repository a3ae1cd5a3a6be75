//! [`Hidden`]: presences of nodes that are down, which may come back.

use std::collections::HashMap;
use std::time::Duration;

use herenow_presence::MetaRef;
use tokio::time::Instant;

/// Presences of nodes that are down that are remembered, in each of two generations.
const MAX_HIDDEN: usize = 500_000;
/// How long they are, at least; a node that is down for longer is forgotten by its peers as well.
const HIDDEN_TIME: Duration = Duration::from_secs(20 * 60);

/// Presences that have left because their node is down, and who told so.
pub(super) struct Hidden {
    young: HashMap<MetaRef, ToldBy>,
    old: HashMap<MetaRef, ToldBy>,
    since: Instant,
}

/// Who told that a presence had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToldBy {
    ThisNode,
    Another,
}

impl Hidden {
    pub(super) fn new() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            since: Instant::now(),
        }
    }

    pub(super) fn put(&mut self, meta_ref: MetaRef, by: ToldBy) {
        if self.since.elapsed() > HIDDEN_TIME || self.young.len() >= MAX_HIDDEN {
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
