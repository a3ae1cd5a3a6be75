//! [`HandleMetas`]: server code that follows every diff, on a task of its own.
//!
//! The notifier hands over each diff after it was dispatched, with the presences after it. The
//! queue is bounded: when it is full, the diffs of one topic that wait are folded into one, and
//! when that one has too many changes, those that cancel are dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use herenow_core::Topic;
use herenow_pubsub::client_text;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::diff::PresenceDiff;
use crate::group::Presences;
use crate::metrics::Metrics;

/// Server code that is told of every diff of every topic, after the subscribers were.
///
/// One call at a time for the topics of one shard, in the order of the diffs of each topic. State
/// is a matter of the type itself. A panic or a call that is late ends that call and is counted.
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

    /// Takes note that events were left out, because the handler does not keep up. They are of
    /// diffs before the next one it gets. Does nothing by default.
    fn handle_missed(&self, n_events: usize) {
        let _unheeded = n_events;
    }
}

impl<H: HandleMetas> HandleMetas for Arc<H> {
    async fn handle_metas(&self, topic: &Topic, diff: &PresenceDiff, presences: &Presences) {
        H::handle_metas(self, topic, diff, presences).await;
    }

    fn handle_missed(&self, n_events: usize) {
        H::handle_missed(self, n_events);
    }
}

type Handling<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// [`HandleMetas`] without its type.
pub(crate) trait ErasedHandleMetas: Send + Sync {
    fn handle<'a>(&'a self, diff: &'a PresenceDiff, presences: &'a Presences) -> Handling<'a>;
    fn miss(&self, n_events: usize);
}

impl<H: HandleMetas> ErasedHandleMetas for H {
    fn handle<'a>(&'a self, diff: &'a PresenceDiff, presences: &'a Presences) -> Handling<'a> {
        Box::pin(self.handle_metas(diff.topic(), diff, presences))
    }

    fn miss(&self, n_events: usize) {
        self.handle_missed(n_events);
    }
}

/// A handler, and when it is told.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) handler: Arc<dyn ErasedHandleMetas>,
    /// Set for one that is told only while this is true, and without fields.
    is_on: Option<Arc<AtomicBool>>,
}

impl Hook {
    pub(crate) fn new(handler: impl HandleMetas, is_on: Option<Arc<AtomicBool>>) -> Self {
        let handler = Arc::new(handler);
        Self { handler, is_on }
    }
}

/// What waits for one shard's observer.
pub(crate) struct ObserverQueue {
    is_on: Option<Arc<AtomicBool>>,
    max_queued: usize,
    max_changes: usize,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// Events that were left out and not told of yet.
    n_missed: usize,
}

enum Item {
    Diff(Arc<PresenceDiff>, Presences),
    Flush(oneshot::Sender<()>),
}

impl ObserverQueue {
    pub(crate) fn new(hook: &Hook, max_queued: usize, max_changes: usize) -> Self {
        Self {
            is_on: hook.is_on.clone(),
            max_queued,
            max_changes,
            waiting: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Returns whether the handler is to be told of diffs now.
    pub(crate) fn is_on(&self) -> bool {
        let switch = self.is_on.as_ref();
        switch.is_none_or(|is_on| is_on.load(Ordering::Relaxed))
    }

    /// Returns whether fields are to be looked up for the handler alone.
    pub(crate) fn wants_fields(&self) -> bool {
        self.is_on.is_none()
    }

    /// Adds a diff; into an earlier one of the topic if too many wait.
    pub(crate) fn push(&self, diff: Arc<PresenceDiff>, presences: Presences, metrics: &Metrics) {
        let mut waiting = self.waiting.lock();
        if waiting.items.len() >= self.max_queued && self.fold_into(&mut waiting, &diff, &presences)
        {
            metrics.n_observe_folded.count();
        } else {
            waiting.items.push_back(Item::Diff(diff, presences));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Has `done` answered when all that waits now is handled.
    pub(crate) fn flush(&self, done: oneshot::Sender<()>) {
        self.waiting.lock().items.push_back(Item::Flush(done));
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
            let (item, n_missed) = self.waiting.lock().take();
            if n_missed > 0 {
                hook.miss(n_missed);
            }
            match item {
                Some(Item::Diff(diff, presences)) => {
                    metrics.n_observed.count();
                    let call = AssertUnwindSafe(async { hook.handle(&diff, &presences).await });
                    let outcome = timeout(deadline, call.catch_unwind()).await;
                    if !matches!(outcome, Ok(Ok(()))) {
                        metrics.n_observe_failures.count();
                        let topic = client_text(diff.topic().as_str());
                        tracing::error!(%topic, "handle_metas panicked or missed its deadline");
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
        waiting: &mut Waiting,
        diff: &Arc<PresenceDiff>,
        after: &Presences,
    ) -> bool {
        let is_same_topic = |item: &Item| match item {
            Item::Diff(earlier, _) => earlier.topic() == diff.topic(),
            Item::Flush(_) => false,
        };
        let Waiting { items, n_missed } = waiting;
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
        let n_before = earlier.n_changes() + diff.n_changes();
        *n_missed += n_before - folded.as_ref().map_or(0, |folded| folded.n_changes());
        match folded {
            Some(folded) => (*earlier, *presences) = (folded, after.clone()),
            None => drop(items.remove(at)), // Nothing is left to tell.
        }
        true
    }
}

impl Waiting {
    /// Takes what comes next, and how many events were left out since the last time.
    fn take(&mut self) -> (Option<Item>, usize) {
        (self.items.pop_front(), std::mem::take(&mut self.n_missed))
    }
}
