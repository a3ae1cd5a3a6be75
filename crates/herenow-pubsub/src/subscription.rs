//! [`Subscription`]: a bounded stream of one topic's broadcasts for server code.
//!
//! The mailbox holds at most its capacity. When it is full the oldest broadcast is dropped for the
//! newest, and the reader is told how many it missed before it gets the next.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::broadcast::{Broadcast, Once, Sink, SubscriberId};
use crate::registry::{Attachment, Registry};

/// Broadcasts whose room an empty mailbox keeps.
const MAX_IDLE_CAPACITY: usize = 32;

/// A bounded stream of one topic's broadcasts. Dropping it unsubscribes.
#[must_use = "dropping a subscription unsubscribes"]
pub struct Subscription {
    // Before the mailbox, so that nothing is delivered into one that is gone.
    attachment: Attachment,
    mailbox: Arc<Mailbox>,
}

/// The reader was too slow: this many broadcasts were dropped, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("missed {missed} broadcasts")]
pub struct Lagged {
    /// How many were dropped since the last report.
    pub missed: u64,
}

impl Subscription {
    pub(crate) fn new(registry: &Arc<Registry>, topic: &str, max_queued: usize) -> Self {
        let mailbox = Arc::new(Mailbox {
            max_queued: max_queued.max(1),
            state: Mutex::default(),
        });
        let attachment = Attachment::new(registry, topic, mailbox.clone());
        Self {
            attachment,
            mailbox,
        }
    }

    /// Returns the next broadcast, waiting for it. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Lagged`] once for every run of dropped broadcasts, before what came after them.
    pub async fn recv(&mut self) -> Result<Broadcast, Lagged> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Polls for the next broadcast; what a `Stream` is made of.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Broadcast, Lagged>> {
        let mut state = self.mailbox.state.lock();
        match state.next() {
            Some(next) => Poll::Ready(next),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Returns the next broadcast if there is one now.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Option<Result<Broadcast, Lagged>> {
        self.mailbox.state.lock().next()
    }

    /// Returns what [`PubSub::broadcast_from`](crate::PubSub::broadcast_from) takes to skip it.
    pub fn id(&self) -> SubscriberId {
        self.attachment.id()
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Arc<str> {
        self.attachment.topic()
    }

    /// Ends the subscription; the same as dropping it.
    pub fn unsubscribe(self) {}
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", self.topic())
            .field("id", &self.id())
            .field("n_queued", &self.mailbox.state.lock().queue.len())
            .finish_non_exhaustive()
    }
}

struct Mailbox {
    max_queued: usize,
    state: Mutex<MailboxState>,
}

#[derive(Default)]
struct MailboxState {
    queue: VecDeque<Broadcast>,
    missed: u64,
    waker: Option<Waker>,
}

impl MailboxState {
    fn next(&mut self) -> Option<Result<Broadcast, Lagged>> {
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            return Some(Err(Lagged { missed }));
        }
        let next = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > MAX_IDLE_CAPACITY {
            self.queue = VecDeque::new(); // A burst is over; its memory goes back.
        }
        next.map(Ok)
    }
}

impl Sink for Mailbox {
    fn deliver(&self, broadcast: &Broadcast, _once: &mut Once) {
        let mut state = self.state.lock();
        let dropped = if state.queue.len() >= self.max_queued {
            state.missed += 1;
            state.queue.pop_front()
        } else {
            None
        };
        state.queue.push_back(broadcast.clone());
        let waker = state.waker.take();
        drop(state);
        drop(dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
