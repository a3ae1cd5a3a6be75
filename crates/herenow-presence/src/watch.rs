//! [`Watch`]: one topic as a stream for server code: the state, then what happens.
//!
//! It listens before it lists, and skips what the state already has, so nothing is missed and
//! nothing comes twice. When the reader falls behind by more than the configured number of diffs,
//! it starts over with a new state.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use herenow_protocol::event::PRESENCE_DIFF;
use herenow_pubsub::{Attachment, Broadcast, Once, Payload, PubSub, Sink};
use parking_lot::Mutex;

use crate::diff::{Event, PresenceDiff};
use crate::group::Presences;
use crate::metrics::Metrics;

/// What a [`Watch`] yields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WatchEvent {
    /// Who is present: first of all, and again after the reader fell behind.
    State(Presences),
    /// What happened since.
    Changed(Event),
}

/// Makes the list that a watch begins with.
pub(crate) type Lister =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Presences> + Send>> + Send + Sync>;

/// A stream of one topic that never ends. Made by [`Presence::watch`](crate::Presence::watch).
pub struct Watch {
    lister: Lister,
    sink: Arc<WatchSink>,
    attachment: Attachment,
    phase: Phase,
    ready: VecDeque<WatchEvent>,
}

enum Phase {
    Listing(Pin<Box<dyn Future<Output = Presences> + Send>>),
    /// What comes after this version is new.
    Following(u64),
}

impl Watch {
    pub(crate) fn new(
        pubsub: &PubSub,
        topic: &str,
        max_queued: usize,
        metrics: Arc<Metrics>,
        lister: Lister,
    ) -> Self {
        let sink = Arc::new(WatchSink {
            max_queued,
            metrics,
            state: Mutex::default(),
        });
        let attachment = pubsub.attach(topic, sink.clone());
        let phase = Phase::Listing(lister());
        Self {
            lister,
            sink,
            attachment,
            phase,
            ready: VecDeque::new(),
        }
    }

    /// Returns the next event, waiting for it. Cancel-safe.
    pub async fn next(&mut self) -> WatchEvent {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<WatchEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(event);
            }
            match &mut self.phase {
                Phase::Listing(listing) => {
                    let state = std::task::ready!(listing.as_mut().poll(context));
                    self.phase = Phase::Following(state.version());
                    self.ready.push_back(WatchEvent::State(state));
                }
                Phase::Following(seen) => match self.sink.poll_next(context) {
                    Poll::Ready(Some(diff)) => {
                        let events = diff.events_since(*seen).cloned().map(WatchEvent::Changed);
                        self.ready.extend(events);
                        *seen = (*seen).max(diff.to());
                    }
                    Poll::Ready(None) => self.phase = Phase::Listing((self.lister)()),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

impl Stream for Watch {
    type Item = WatchEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.get_mut().poll(context).map(Some)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("attachment", &self.attachment)
            .finish_non_exhaustive()
    }
}

/// Collects the diffs of the topic for one watch.
struct WatchSink {
    max_queued: usize,
    metrics: Arc<Metrics>,
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    diffs: VecDeque<Arc<PresenceDiff>>,
    has_lagged: bool,
    waker: Option<Waker>,
}

impl WatchSink {
    /// Yields the next diff, or `None` once after some were dropped.
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Arc<PresenceDiff>>> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.has_lagged) {
            return Poll::Ready(None);
        }
        match state.diffs.pop_front() {
            Some(diff) => Poll::Ready(Some(diff)),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Sink for WatchSink {
    fn deliver(&self, broadcast: &Broadcast, _once: &mut Once) {
        if &*broadcast.event != PRESENCE_DIFF {
            return;
        }
        let Payload::Local(value) = &broadcast.payload else {
            return;
        };
        let Some(diff) = value.clone().downcast_arc::<PresenceDiff>() else {
            return;
        };
        let mut state = self.state.lock();
        if state.diffs.len() >= self.max_queued {
            // The state that it starts over with has all of them: it is published before it is
            // dispatched. What comes from now on may be in it, too; its version tells.
            state.diffs.clear();
            state.has_lagged = true;
            self.metrics.n_watch_lagged.count();
        } else {
            state.diffs.push_back(diff);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
