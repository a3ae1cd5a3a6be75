//! The client's rules without IO: joins, refs, time-outs, heartbeats, when to try again.
//!
//! The driver hands in commands, messages, the ups and downs of the connection, and time; it sends
//! what [`Engine::poll_output`] yields and calls again at [`Engine::poll_timeout`].

mod entry;
mod inbound;
mod timeouts;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use herenow_protocol::{
    EncodeError, Encoded, JoinRef, Message, MessageRef, Payload, WireText, event as names,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::entry::{Entry, First, Phase, Waiting};
use crate::config::ClientConfig;
use crate::error::{JoinError, PushError};
use crate::event::{ChannelEvent, ErrorReason, Inbound, Reply};

/// Names a channel for the life of its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChannelKey(pub(crate) u64);

/// The parameters of a join, the same each time or asked for anew.
pub(crate) enum Params {
    Fixed(Payload),
    Each(Box<dyn Fn() -> Payload + Send + Sync>),
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(payload) => payload.fmt(f),
            Self::Each(_) => f.write_str("Each"),
        }
    }
}

impl Params {
    fn payload(&self) -> Payload {
        match self {
            Self::Fixed(payload) => payload.clone(),
            Self::Each(payload) => payload(),
        }
    }
}

/// What handles ask for.
pub(crate) enum Command {
    Join {
        channel: ChannelKey,
        topic: String,
        params: Params,
        timeout: Duration,
        events: mpsc::Sender<Inbound>,
        done: oneshot::Sender<Result<Payload, JoinError>>,
    },
    /// Joins again at once, for a fresh start after lost events.
    Rejoin {
        channel: ChannelKey,
    },
    Push {
        channel: ChannelKey,
        event: String,
        payload: Payload,
        timeout: Duration,
        done: oneshot::Sender<Result<Reply, PushError>>,
    },
    Leave {
        channel: ChannelKey,
        timeout: Duration,
        done: Option<oneshot::Sender<()>>,
    },
    Ping {
        done: oneshot::Sender<Duration>,
    },
    Disconnect {
        done: oneshot::Sender<()>,
    },
}

/// What the driver has to do.
pub(crate) enum Output {
    Send(Encoded),
    /// Close the connection, if there is one, and report it with [`Engine::handle_closed`].
    GiveUp,
    Connect,
}

struct Pending {
    channel: Option<ChannelKey>,
    deadline: Instant,
    kind: PendingKind,
}

enum PendingKind {
    Join,
    Leave(Option<oneshot::Sender<()>>),
    Push {
        event: String,
        timeout: Duration,
        done: oneshot::Sender<Result<Reply, PushError>>,
    },
    Ping {
        sent: Instant,
        done: oneshot::Sender<Duration>,
    },
}

#[derive(Clone, Copy)]
enum Heartbeat {
    Off,
    Due(Instant),
    Sent { reference: u64, deadline: Instant },
}

pub(crate) struct Engine {
    config: Arc<ClientConfig>,
    is_connected: bool,
    last_ref: u64,
    channels: Vec<Entry>,
    pending: BTreeMap<u64, Pending>,
    heartbeat: Heartbeat,
    n_connects: usize,
    connect_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Engine {
    pub(crate) fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            is_connected: false,
            last_ref: 0,
            channels: Vec::new(),
            pending: BTreeMap::new(),
            heartbeat: Heartbeat::Off,
            n_connects: 0,
            connect_at: None,
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The connection is open: heartbeats begin, and what is not joined is joined at once.
    pub(crate) fn handle_open(&mut self, now: Instant) {
        self.is_connected = true;
        self.n_connects = 0;
        self.connect_at = None;
        self.heartbeat = Heartbeat::Due(now + self.config.heartbeat);
        for at in 0..self.channels.len() {
            self.channels[at].n_rejoins = 0;
            self.start_join(now, at);
        }
    }

    /// The connection is gone: what was sent stays unanswered, and the next try is planned.
    pub(crate) fn handle_closed(&mut self, now: Instant, reason: &ErrorReason) {
        self.is_connected = false;
        self.heartbeat = Heartbeat::Off;
        self.outputs.clear();
        for (_, pending) in std::mem::take(&mut self.pending) {
            match pending.kind {
                PendingKind::Push { event, done, .. } => {
                    let _ = done.send(Err(PushError::Lost { event }));
                }
                PendingKind::Join | PendingKind::Leave(_) | PendingKind::Ping { .. } => {}
            }
        }
        self.channels
            .retain(|entry| !matches!(entry.phase, Phase::Leaving));
        for entry in &mut self.channels {
            entry.rejoin_at = None;
            if !matches!(entry.phase, Phase::Errored) {
                entry.fail(reason.clone());
            }
        }
        self.plan_connect(now);
    }

    /// A try to connect has failed: the next one is planned.
    pub(crate) fn plan_connect(&mut self, now: Instant) {
        let pause = self.config.reconnect_after.pause(self.n_connects);
        self.n_connects += 1;
        self.connect_at = Some(now + pause);
    }

    /// Nothing will be joined or answered any more.
    pub(crate) fn handle_end(&mut self) {
        for at in (0..self.channels.len()).rev() {
            if let Some(first) = self.channels[at].first.take() {
                let _ = first.done.send(Err(JoinError::Disconnected));
            }
            self.remove(at);
        }
        self.pending.clear();
    }

    pub(crate) fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Join {
                channel,
                topic,
                params,
                timeout,
                events,
                done,
            } => {
                self.leave_same_topic(now, &topic);
                let first = First {
                    done,
                    deadline: now + timeout,
                };
                self.channels
                    .push(Entry::new(channel, topic, params, timeout, events, first));
                if self.is_connected {
                    self.start_join(now, self.channels.len() - 1);
                }
            }
            Command::Rejoin { channel } => {
                let Some(at) = self.find(channel) else { return };
                if self.is_connected && matches!(self.channels[at].phase, Phase::Joined) {
                    self.start_join(now, at);
                }
            }
            Command::Push {
                channel,
                event,
                payload,
                timeout,
                done,
            } => {
                let waiting = Waiting {
                    event,
                    payload,
                    timeout,
                    deadline: now + timeout,
                    done,
                };
                match self.find(channel) {
                    Some(at) => self.on_push(at, waiting),
                    None => drop(waiting.done.send(Err(PushError::Closed))),
                }
            }
            Command::Leave {
                channel,
                timeout,
                done,
            } => {
                if let Some(at) = self.find(channel) {
                    self.on_leave(now, at, timeout, done);
                }
            }
            Command::Ping { done } => self.on_ping(now, done),
            // The driver ends itself; see its loop.
            Command::Disconnect { .. } => {}
        }
    }

    fn on_ping(&mut self, now: Instant, done: oneshot::Sender<Duration>) {
        if !self.is_connected {
            return;
        }
        let reference = self.send_heartbeat();
        let kind = PendingKind::Ping { sent: now, done };
        let deadline = now + self.config.timeout;
        self.pending.insert(
            reference,
            Pending {
                channel: None,
                deadline,
                kind,
            },
        );
    }

    fn on_push(&mut self, at: usize, waiting: Waiting) {
        let max = self.config.max_waiting_pushes;
        let entry = &mut self.channels[at];
        match entry.phase {
            Phase::Joined if self.is_connected => self.send_push(at, waiting),
            Phase::Leaving => drop(waiting.done.send(Err(PushError::Closed))),
            Phase::Joined | Phase::Joining | Phase::Errored if entry.waiting.len() >= max => {
                let _ = waiting.done.send(Err(PushError::TooManyWaiting { max }));
            }
            Phase::Joined | Phase::Joining | Phase::Errored => entry.waiting.push_back(waiting),
        }
    }

    fn send_push(&mut self, at: usize, waiting: Waiting) {
        let Waiting {
            event,
            payload,
            timeout,
            deadline,
            done,
        } = waiting;
        let reference = self.next_ref();
        let entry = &self.channels[at];
        let channel = Some(entry.key);
        let message = entry.message(reference, &event, payload);
        match self.send(&message) {
            Ok(()) => {
                let kind = PendingKind::Push {
                    event,
                    timeout,
                    done,
                };
                self.pending.insert(
                    reference,
                    Pending {
                        channel,
                        deadline,
                        kind,
                    },
                );
            }
            Err(error) => drop(done.send(Err(error.into()))),
        }
    }

    fn on_leave(
        &mut self,
        now: Instant,
        at: usize,
        timeout: Duration,
        done: Option<oneshot::Sender<()>>,
    ) {
        if matches!(self.channels[at].phase, Phase::Leaving) {
            return;
        }
        let is_to_be_told =
            self.is_connected && matches!(self.channels[at].phase, Phase::Joined | Phase::Joining);
        if !is_to_be_told {
            self.remove(at);
            return;
        }
        let reference = self.send_leave(at);
        let entry = &mut self.channels[at];
        entry.phase = Phase::Leaving;
        let (channel, deadline, kind) = (Some(entry.key), now + timeout, PendingKind::Leave(done));
        self.pending.insert(
            reference,
            Pending {
                channel,
                deadline,
                kind,
            },
        );
    }

    /// One topic is joined once per connection: the older channel makes way, as in JavaScript.
    fn leave_same_topic(&mut self, now: Instant, topic: &str) {
        let older = |entry: &Entry| entry.topic == topic && !matches!(entry.phase, Phase::Leaving);
        if let Some(at) = self.channels.iter().position(older) {
            self.on_leave(now, at, self.config.timeout, None);
        }
    }

    fn start_join(&mut self, now: Instant, at: usize) {
        let reference = self.next_ref();
        let entry = &mut self.channels[at];
        entry.phase = Phase::Joining;
        entry.rejoin_at = None;
        entry.join_ref = JoinRef(number(reference));
        let payload = entry.params.payload();
        let (channel, deadline) = (Some(entry.key), now + entry.timeout);
        let message = entry.message(reference, names::JOIN, payload);
        // Joins carry JSON, which every format can carry; a binary payload is the caller's doing
        // and goes unanswered until the time-out.
        let _ = self.send(&message);
        self.pending.insert(
            reference,
            Pending {
                channel,
                deadline,
                kind: PendingKind::Join,
            },
        );
    }

    fn send_leave(&mut self, at: usize) -> u64 {
        let reference = self.next_ref();
        let message = self.channels[at].message(reference, names::LEAVE, Payload::empty());
        let _ = self.send(&message);
        reference
    }

    fn send_heartbeat(&mut self) -> u64 {
        let reference = self.next_ref();
        let message = Message {
            join_ref: None,
            message_ref: Some(MessageRef(number(reference))),
            topic: names::HEARTBEAT_TOPIC.into(),
            event: names::HEARTBEAT.into(),
            payload: Payload::empty(),
        };
        let _ = self.send(&message);
        reference
    }

    fn send(&mut self, message: &Message) -> Result<(), EncodeError> {
        let frame = self.config.serializer.encode_client(message)?;
        self.outputs.push_back(Output::Send(frame));
        Ok(())
    }

    fn plan_rejoin(&mut self, now: Instant, at: usize) {
        let entry = &mut self.channels[at];
        if self.is_connected {
            let pause = self.config.rejoin_after.pause(entry.n_rejoins);
            entry.n_rejoins += 1;
            entry.rejoin_at = Some(now + pause);
        }
    }

    /// Ends a channel: whoever waits for it is told.
    fn remove(&mut self, at: usize) {
        let mut entry = self.channels.remove(at);
        entry.emit(ChannelEvent::Closed);
        for waiting in entry.waiting {
            let _ = waiting.done.send(Err(PushError::Closed));
        }
        let of_channel = |pending: &Pending| pending.channel == Some(entry.key);
        let gone: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| of_channel(pending))
            .map(|(reference, _)| *reference)
            .collect();
        for reference in gone {
            if let Some(Pending {
                kind: PendingKind::Push { done, .. },
                ..
            }) = self.pending.remove(&reference)
            {
                let _ = done.send(Err(PushError::Closed));
            }
        }
    }

    fn find(&self, key: ChannelKey) -> Option<usize> {
        self.channels.iter().position(|entry| entry.key == key)
    }

    fn next_ref(&mut self) -> u64 {
        self.last_ref += 1;
        self.last_ref
    }
}

fn number(reference: u64) -> WireText {
    WireText::text(reference.to_string())
}
