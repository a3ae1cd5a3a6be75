//! [`Session`]: the protocol's state, the channels, and the mailbox of one connection.
//!
//! A transport hands frames in, polls, and takes frames out; it never looks at channels. All
//! callbacks of the connection run inside its calls. The order of what a client is told when a
//! channel joins, leaves, stops, crashes or is replaced is made here, see `ending`.

mod calls;
mod ending;
mod rates;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use herenow_protocol::{
    Action, ChannelId, CloseCode, Encoded, Message, Serializer, ServerMessage, SocketState, event,
};
use herenow_pubsub::{Attachment, client_text};

use self::rates::Rates;
use super::connect::{Connected, Kept};
use super::guard::{ConnectionHandle, ConnectionRef, Guard};
use super::shared::Shared;
use super::slot::{Slot, Stage, Task};
use crate::channel::{Assigns, Call};
use crate::dialect::Dialect;
use crate::drain::Registration;
use crate::frame::{Frame, FrameQueue};
use crate::info::{Info, InfoItem, Notice};
use crate::mailbox::Mailbox;
use crate::reason::{CloseOrder, Reason};

/// Why a join is refused before a channel is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JoinRefusal {
    NoChannel,
    NotAdmitted,
    TopicTooLong,
    TooManyChannels,
}

impl JoinRefusal {
    /// The word for the log.
    fn as_str(self) -> &'static str {
        match self {
            Self::NoChannel => "no_channel",
            Self::NotAdmitted => "not_admitted",
            Self::TopicTooLong => "topic_too_long",
            Self::TooManyChannels => "too_many_channels",
        }
    }
}

/// One connection without its transport.
pub(crate) struct Session {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    state: SocketState,
    /// In order of their ids.
    slots: Vec<Slot>,
    /// Messages that were held during a join that is settled now.
    replay: VecDeque<Message>,
    assigns: Assigns,
    guard: Option<Arc<dyn Guard>>,
    /// The application's, for the drop.
    _kept: Option<Kept>,
    id_attachment: Option<Attachment>,
    /// Dropped last: then the connection counts as gone.
    registration: Registration,
    serializer: Serializer,
    rates: Rates,
}

impl Session {
    /// Begins a connection that `connect` has accepted.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        mut connected: Connected,
        serializer: Serializer,
    ) -> Self {
        let kept = connected.take_kept();
        let id = connected.id;
        let mailbox = Mailbox::new(
            shared.config.clone(),
            shared.metrics.clone(),
            shared.flushes.clone(),
            id.clone(),
        );
        let id_attachment = id.map(|id| shared.pubsub.attach_shared(id, mailbox.clone()));
        if let Some(guard) = &connected.guard {
            guard.opened(ConnectionHandle::new(&mailbox));
        }
        shared.metrics.connections.increment();
        shared.metrics.connects.increment();
        Self {
            registration: shared.drain.register(mailbox.clone()),
            shared: shared.clone(),
            mailbox,
            state: SocketState::new(),
            slots: Vec::new(),
            replay: VecDeque::new(),
            assigns: connected.assigns,
            guard: connected.guard,
            _kept: kept,
            id_attachment,
            serializer,
            rates: Rates::default(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Tells whether another frame may be handed in; if not, [`Session::poll`] will make room.
    pub(crate) fn is_ready(&self) -> bool {
        let max = self.shared.config.max_channel_queue.get();
        self.slots.iter().all(|slot| slot.n_waiting() < max)
    }

    /// Takes in a message of the client. A malformed one orders the connection to close.
    pub(crate) fn handle_frame(&mut self, context: &mut Context<'_>, frame: &Encoded) {
        self.shared.metrics.messages_in.increment();
        self.shared.metrics.bytes_in.add(frame.bytes.len() as u64);
        if self.shared.is_echo {
            // Closed: nobody is there to read it.
            return drop(self.mailbox.push(Frame::from_encoded(frame)));
        }
        let dialect = self.mailbox.dialect();
        let decoded = match dialect {
            Some(dialect) => dialect.decode(self.serializer, frame),
            None => self.serializer.decode(frame),
        };
        match decoded {
            Ok(message) if self.may_send(&message) => {
                self.handle_message(context, message);
                self.handle_replay(context);
            }
            Ok(_) => {}
            Err(error) if dialect.is_some_and(Dialect::forgives) => {
                self.shared.metrics.client_errors.increment();
                tracing::debug!(%error, frame_bytes = frame.bytes.len(), "malformed message dropped");
            }
            Err(error) => {
                self.shared.metrics.client_errors.increment();
                if let Some(n_left_out) = self.shared.log_limits.messages.may_log() {
                    let frame_bytes = frame.bytes.len();
                    tracing::warn!(%error, frame_bytes, n_left_out, "malformed message");
                }
                let text = format!("malformed message: {error}");
                self.mailbox
                    .order_close(CloseOrder::client_error(CloseCode::INTERNAL, text));
            }
        }
    }

    fn handle_message(&mut self, context: &mut Context<'_>, message: Message) {
        if self.is_for_guard(&message) {
            return;
        }
        let is_join = message.event == event::JOIN;
        let router = &self.shared.router;
        let mut refusal = JoinRefusal::NoChannel;
        let is_routed = |topic: &str| {
            let is_admitted = self.guard.as_ref().is_none_or(|guard| guard.admits(topic));
            if !is_admitted {
                refusal = JoinRefusal::NotAdmitted;
            }
            is_admitted && router.find(topic).is_some()
        };
        match self
            .state
            .handle_message(&self.shared.protocol, message, is_routed)
        {
            Action::Reply(reply) => {
                if is_join {
                    self.shared.metrics.refused_joins.increment();
                    self.log_refused_join(reply.topic().as_str(), refusal);
                }
                self.send(&reply);
            }
            Action::Refuse {
                limit,
                reason,
                message,
            } => self.refuse_join(&message, limit, reason),
            Action::Join(request) => self.start_join(context, request),
            Action::Deliver(delivery) => {
                let call = Call::In {
                    event: delivery.event,
                    payload: delivery.payload,
                    message_ref: delivery.message_ref,
                };
                self.enqueue(context, delivery.slot, Task::Call(call));
            }
            Action::Leave(leave) => {
                self.enqueue(context, leave.slot, Task::Leave(leave.message_ref));
            }
            Action::Hold { slot, message } => {
                let at = self.find(slot);
                match at.map(|at| &mut self.slots[at].stage) {
                    Some(Stage::Joining(joining)) => joining.held.push(message),
                    Some(Stage::Open | Stage::Ending { .. }) | None => {}
                }
            }
            Action::IgnoreStale { .. } => self.shared.metrics.stale_messages.increment(),
        }
    }

    /// The log is the only place that tells why: a client is not told of what it may not join.
    fn log_refused_join(&self, topic: &str, refusal: JoinRefusal) {
        if let Some(n_left_out) = self.shared.log_limits.joins.may_log() {
            tracing::warn!(
                reason = refusal.as_str(),
                topic = %client_text(topic),
                n_channels = self.slots.len(),
                n_left_out,
                "join refused"
            );
        }
    }

    /// Hands a message to the guard, if it is about the connection; tells whether it was.
    fn is_for_guard(&self, message: &Message) -> bool {
        let Some(guard) = &self.guard else {
            return false;
        };
        let is_ours = message
            .topic
            .as_text()
            .is_some_and(|topic| topic == event::HEARTBEAT_TOPIC)
            && ![event::HEARTBEAT, event::JOIN, event::LEAVE].contains(&message.event.as_str());
        is_ours && {
            let reply =
                ConnectionRef::new(&self.mailbox, self.serializer, message.message_ref.clone());
            Arc::clone(guard).handle_in(&message.event, &message.payload, &reply)
        }
    }

    fn handle_replay(&mut self, context: &mut Context<'_>) {
        while let Some(message) = self.replay.pop_front() {
            self.handle_message(context, message);
        }
        self.replay = VecDeque::new();
    }

    /// Runs whatever can run; ready with the order to close, if there is one.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<CloseOrder> {
        for item in self.mailbox.take_infos() {
            let (slot, call) = match item {
                InfoItem::Info(slot, info) => (slot, Call::Info(info)),
                InfoItem::Intercepted(slot, broadcast) => (slot, Call::Out(broadcast)),
                InfoItem::Notice(notice) => {
                    self.tell_channels(context, &*notice);
                    continue;
                }
            };
            self.enqueue(context, slot, Task::CountedCall(call));
        }
        self.pump_all(context);
        self.handle_replay(context);
        self.take_close().map_or(Poll::Pending, Poll::Ready)
    }

    /// Tells each channel something that is about the connection.
    fn tell_channels(&mut self, context: &mut Context<'_>, notice: &dyn Notice) {
        for id in self.slots.iter().map(|slot| slot.id).collect::<Vec<_>>() {
            let info = Info::Message(notice.message());
            self.enqueue(context, id, Task::Call(Call::Info(info)));
        }
        self.mailbox.info_handled();
    }

    /// Returns the order to close, once.
    pub(crate) fn take_close(&mut self) -> Option<CloseOrder> {
        let order = self.mailbox.take_close()?;
        if let Reason::Unauthorized(text) = &order.reason {
            self.tell_unauthorized(text);
        }
        Some(order)
    }

    /// Tells the client of each channel why it may not go on.
    fn tell_unauthorized(&mut self, text: &str) {
        let open = self
            .slots
            .iter()
            .filter(|slot| matches!(slot.stage, Stage::Open));
        for id in open.map(|slot| slot.id).collect::<Vec<_>>() {
            if let Some(error) = self.state.on_channel_unauthorized(id, text) {
                self.send(&error);
            }
        }
    }

    /// Takes all frames for the client; those that it returned before are written.
    pub(crate) fn take_frames(&mut self) -> FrameQueue {
        loop {
            let frames = self.mailbox.take_frames();
            if !frames.is_empty() || !self.deliver_aside() {
                return frames;
            }
        }
    }

    /// Delivers what was kept aside, until there is enough for a write; tells whether it did any.
    fn deliver_aside(&self) -> bool {
        let mut has_any = false;
        while let Some((slot, taken)) = self.mailbox.take_aside() {
            has_any = true;
            if let Some(at) = self.find(slot) {
                self.slots[at].lane.deliver_aside(taken);
            }
        }
        has_any
    }

    /// Queues a message for the client.
    fn send(&self, message: &ServerMessage) {
        match self.serializer.encode(message) {
            // Closed: nobody is there to read it.
            Ok(encoded) => drop(self.mailbox.push(Frame::from_encoded(&encoded))),
            Err(error) => {
                self.shared.metrics.encode_errors.increment();
                let topic = client_text(message.topic().as_str());
                tracing::error!(%topic, %error, "message not encodable");
            }
        }
    }

    fn find(&self, slot: ChannelId) -> Option<usize> {
        self.slots.binary_search_by_key(&slot, |slot| slot.id).ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.id_attachment = None;
        self.mailbox.shut();
        self.abort();
        self.shared.metrics.connections.decrement();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.mailbox.id())
            .field("slots", &self.slots)
            .field("registration", &self.registration)
            .finish_non_exhaustive()
    }
}
