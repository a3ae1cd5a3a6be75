//! One channel of a connection: what it does now, and what waits for it.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use herenow_protocol::{ChannelId, Message, MessageRef};
use herenow_pubsub::Attachment;
use tokio::time::{Instant, Sleep};
use tracing::Span;

use crate::arrival::Arrival;
use crate::channel::{AnyChannel, Call, Running};
use crate::lane::Lane;
use crate::mailbox::Mailbox;

/// A channel in its place on a connection.
pub(super) struct Slot {
    pub(super) id: ChannelId,
    pub(super) lane: Arc<Lane>,
    /// The lane's place on its topic, until the channel begins to end.
    pub(super) attachment: Option<Attachment>,
    pub(super) work: Work,
    pub(super) stage: Stage,
    queue: Option<Box<Queue>>,
}

/// What waits for a busy channel. Boxed, because most channels have nothing waiting.
#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
}

/// What a channel does now.
pub(super) enum Work {
    Idle(Box<dyn AnyChannel>),
    Running(Running),
    /// The channel is being made to move to another state; or never came to be.
    Gone,
}

/// Where a channel is in its life.
pub(super) enum Stage {
    Joining(Box<Joining>),
    Open,
    /// No more calls but the one to `terminate`; then the client is told, if it has not been.
    Ending {
        /// Whether the client is told `phx_error` at the end.
        is_crash: bool,
        /// Whether `terminate` has begun.
        is_ended: bool,
    },
}

impl Stage {
    /// The span of the join that is under way.
    pub(super) fn span(&self) -> Option<&Span> {
        match self {
            Self::Joining(joining) => Some(&joining.span),
            Self::Open | Self::Ending { .. } => None,
        }
    }
}

/// A join that is not settled.
pub(super) struct Joining {
    /// When the client's message came.
    pub(super) began: Instant,
    pub(super) span: Span,
    /// The channel that had the topic before, and how long to wait for its end.
    pub(super) replaces: Option<Replaced>,
    /// The client's messages for the topic, for later.
    pub(super) held: Vec<Message>,
    /// Counts the join until it is settled.
    pub(super) _arrival: Option<Arrival>,
}

/// A channel that a later join of its topic replaces.
pub(super) struct Replaced {
    pub(super) lane: Arc<Lane>,
    /// `None` once it has ended and the new channel may start.
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
}

/// What waits for a channel that is busy.
#[derive(Debug)]
pub(super) enum Task {
    Call(Call),
    /// A call that the mailbox counts.
    CountedCall(Call),
    /// The client's wish to leave, in its place among the client's messages.
    Leave(Option<MessageRef>),
}

impl Slot {
    pub(super) fn new(lane: Arc<Lane>, work: Work, stage: Stage) -> Self {
        Self {
            id: lane.slot(),
            lane,
            attachment: None,
            work,
            stage,
            queue: None,
        }
    }

    /// Tells whether polling the channel may lead to something.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.work, Work::Running(_)) || self.queue.is_some()
    }

    /// Tells whether the join waits for the end of the channel it replaces.
    fn is_waiting(&self) -> bool {
        match &self.stage {
            Stage::Joining(joining) => {
                let replaced = joining.replaces.as_ref();
                replaced.is_some_and(|replaced| replaced.deadline.is_some())
            }
            Stage::Open | Stage::Ending { .. } => false,
        }
    }

    fn n_queued(&self) -> usize {
        self.queue.as_deref().map_or(0, |queue| queue.tasks.len())
    }

    /// Returns how many tasks wait, held messages of a join included.
    pub(super) fn n_waiting(&self) -> usize {
        let held = match &self.stage {
            Stage::Joining(joining) => joining.held.len(),
            Stage::Open | Stage::Ending { .. } => 0,
        };
        held + self.n_queued()
    }

    pub(super) fn push(&mut self, task: Task) {
        self.queue.get_or_insert_default().tasks.push_back(task);
    }

    /// Returns the next task if the channel is free to begin it.
    pub(super) fn next_task(&mut self, mailbox: &Mailbox) -> Option<Task> {
        if !matches!(self.work, Work::Idle(_)) || self.is_waiting() {
            return None;
        }
        let task = self.queue.as_deref_mut()?.tasks.pop_front();
        if self.n_queued() == 0 {
            self.queue = None;
        }
        if let Some(Task::CountedCall(_)) = &task {
            mailbox.info_handled();
        }
        task
    }

    /// Forgets what waits.
    pub(super) fn clear_queue(&mut self, mailbox: &Mailbox) {
        let tasks = self.queue.take().map(|queue| queue.tasks);
        for task in tasks.into_iter().flatten() {
            if let Task::CountedCall(_) = task {
                mailbox.info_handled();
            }
        }
    }

    /// Takes the channel out to call it.
    pub(super) fn take_idle(&mut self) -> Option<Box<dyn AnyChannel>> {
        match std::mem::replace(&mut self.work, Work::Gone) {
            Work::Idle(channel) => Some(channel),
            work @ (Work::Running(_) | Work::Gone) => {
                self.work = work;
                None
            }
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("topic", self.lane.topic())
            .field("n_waiting", &self.n_waiting())
            .finish_non_exhaustive()
    }
}
