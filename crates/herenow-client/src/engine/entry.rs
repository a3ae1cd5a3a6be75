//! One channel as the engine keeps it.

use std::collections::VecDeque;
use std::time::Duration;

use herenow_protocol::{JoinRef, Message, MessageRef, Payload};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{ChannelKey, Params, number};
use crate::error::{JoinError, PushError};
use crate::event::{ChannelEvent, ErrorReason, Inbound, Reply};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Not joined, and to be joined when there is a connection and its time has come.
    Errored,
    Joining,
    Joined,
    Leaving,
}

/// Whoever waits for the first join.
pub(super) struct First {
    pub(super) done: oneshot::Sender<Result<Payload, JoinError>>,
    pub(super) deadline: Instant,
}

/// A push that waits for the channel to be joined. Its time runs.
pub(super) struct Waiting {
    pub(super) event: String,
    pub(super) payload: Payload,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    pub(super) done: oneshot::Sender<Result<Reply, PushError>>,
}

pub(super) struct Entry {
    pub(super) key: ChannelKey,
    pub(super) topic: String,
    pub(super) params: Params,
    pub(super) timeout: Duration,
    pub(super) phase: Phase,
    pub(super) join_ref: JoinRef,
    pub(super) first: Option<First>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) n_rejoins: usize,
    pub(super) rejoin_at: Option<Instant>,
    events: mpsc::Sender<Inbound>,
    n_missed: u64,
}

impl Entry {
    pub(super) fn new(
        key: ChannelKey,
        topic: String,
        params: Params,
        timeout: Duration,
        events: mpsc::Sender<Inbound>,
        first: First,
    ) -> Self {
        Self {
            key,
            topic,
            params,
            timeout,
            phase: Phase::Errored,
            join_ref: JoinRef(number(0)),
            first: Some(first),
            waiting: VecDeque::new(),
            n_rejoins: 0,
            rejoin_at: None,
            events,
            n_missed: 0,
        }
    }

    pub(super) fn message(&self, reference: u64, event: &str, payload: Payload) -> Message {
        Message {
            join_ref: Some(self.join_ref.clone()),
            message_ref: Some(MessageRef(number(reference))),
            topic: self.topic.as_str().into(),
            event: event.into(),
            payload,
        }
    }

    /// Whether a message is for this channel and this join.
    pub(super) fn is_addressed(&self, topic: &str, join_ref: Option<&JoinRef>) -> bool {
        self.topic == topic && join_ref.is_none_or(|join_ref| *join_ref == self.join_ref)
    }

    /// Not joined any more. Somebody who still waits for the first join is not told of the tries.
    pub(super) fn fail(&mut self, reason: ErrorReason) {
        self.phase = Phase::Errored;
        if self.first.is_none() {
            self.emit(ChannelEvent::Errored(reason));
        }
    }

    /// Queues an event. When nobody reads, it is counted, and the count is told first when
    /// somebody does.
    pub(super) fn emit(&mut self, event: ChannelEvent) {
        if self.n_missed > 0 {
            let lagged = ChannelEvent::Lagged {
                n_missed: self.n_missed,
            };
            if self.offer(lagged) {
                self.n_missed = 0;
            }
        }
        if self.n_missed > 0 || !self.offer(event) {
            self.n_missed += 1;
        }
    }

    fn offer(&self, event: ChannelEvent) -> bool {
        let inbound = Inbound {
            join_ref: self.join_ref.clone(),
            event,
        };
        match self.events.try_send(inbound) {
            // A channel whose handle is gone is about to leave; nothing is missed.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => false,
        }
    }
}
