//! [`HandleMetas`]: server code that follows every diff, on a task of its own.
//!
//! The notifier hands over each diff after it was dispatched, with the presences after it. The queue
//! is bounded: when it is full, the diffs of one topic that wait are folded into one, and when that
//! one has too many changes, those that cancel are dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use herenow_core::Topic;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::diff::PresenceDiff;
use crate::group::Presences;
use crate::metrics::Metrics;

/// Server code that is told of every diff of every topic, after the subscribers were.
///
/// One call at a time for the topics of one shard, in the order of the diffs of each topic. State is
/// a matter of the type itself. A panic or a call that is late ends that call and is counted.
///
/// A handler that does not keep up gets the diffs of a topic folded: beyond
/// [`max_observed`](crate::PresenceConfig::max_observed) diffs as one, with every event, and beyond
/// [`max_pending_changes`](crate::PresenceConfig::max_pending_changes) events without the presences
/// that came and went meanwhile.
pub trait HandleMetas: Send + Sync + 'static {
    /// Takes one diff of `topic`, and who is present after it (without fetched fields).
    fn handle_metas(
        &self,
        topic: &Topic,
        diff: &PresenceDiff,
        presences: &Presences,
    ) -> impl Future<Output = ()> + Send;
}

type Handling<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// [`HandleMetas`] without its type.
pub(crate) trait ErasedHandleMetas: Send + Sync {
    fn handle<'a>(&'a self, diff: &'a PresenceDiff, presences: &'a Presences) -> Handling<'a>;
}

impl<H: HandleMetas> ErasedHandleMetas for H {
    fn handle<'a>(&'a self, diff: &'a PresenceDiff, presences: &'a Presences) -> Handling<'a> {
        Box::pin(self.handle_metas(diff.topic(), diff, presences))
    }
}

/// What waits for one shard's observer.
pub(crate) struct ObserverQueue {
    max_queued: usize,
    max_changes: usize,
    items: Mutex<VecDeque<Item>>,
    wake: Notify,
}

enum Item {
    Diff(Arc<PresenceDiff>, Presences),
    Flush(oneshot::Sender<()>),
}

impl ObserverQueue {
    pub(crate) fn new(max_queued: usize, max_changes: usize) -> Self {
        Self {
            max_queued,
            max_changes,
            items: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Adds a diff; into an earlier one of the topic if too many wait.
    pub(crate) fn push(&self, diff: Arc<PresenceDiff>, presences: Presences, metrics: &Metrics) {
        let mut items = self.items.lock();
        if items.len() >= self.max_queued && self.fold_into(&mut items, &diff, &presences) {
            metrics.n_observe_folded.count();
        } else {
            items.push_back(Item::Diff(diff, presences));
        }
        drop(items);
        self.wake.notify_one();
    }

    /// Has `done` answered when all that waits now is handled.
    pub(crate) fn flush(&self, done: oneshot::Sender<()>) {
        self.items.lock().push_back(Item::Flush(done));
        self.wake.notify_one();
    }

    /// Hands diffs to `hook`, one at a time, for ever.
    pub(crate) async fn run(
        &self,
        hook: &dyn ErasedHandleMetas,
        deadline: Duration,
        metrics: &Metrics,
    ) {
        loop {
            let item = self.items.lock().pop_front();
            match item {
                Some(Item::Diff(diff, presences)) => {
                    metrics.n_observed.count();
                    let call = AssertUnwindSafe(async { hook.handle(&diff, &presences).await });
                    let outcome = timeout(deadline, call.catch_unwind()).await;
                    if !matches!(outcome, Ok(Ok(()))) {
                        metrics.n_observe_failures.count();
                        let topic = diff.topic().as_str();
                        tracing::error!(topic, "handle_metas panicked or missed its deadline");
                    }
                }
                Some(Item::Flush(done)) => {
                    let _ = done.send(()); // Whoever waited may be gone.
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// Folds a diff into the last one of its topic; false if there is none.
    fn fold_into(
        &self,
        items: &mut VecDeque<Item>,
        diff: &Arc<PresenceDiff>,
        after: &Presences,
    ) -> bool {
        let is_same_topic = |item: &Item| match item {
            Item::Diff(earlier, _) => earlier.topic() == diff.topic(),
            Item::Flush(_) => false,
        };
        let Some(at) = items.iter().rposition(is_same_topic) else {
            return false;
        };
        let Item::Diff(earlier, presences) = &mut items[at] else {
            return false;
        };
        let both = [earlier.clone(), diff.clone()];
        let folded = if earlier.n_changes() + diff.n_changes() <= self.max_changes {
            PresenceDiff::fold(&both)
        } else {
            PresenceDiff::fold_since(earlier.from(), &both)
        };
        match folded {
            Some(folded) => (*earlier, *presences) = (folded, after.clone()),
            None => drop(items.remove(at)), // Nothing is left to tell.
        }
        true
    }
}
