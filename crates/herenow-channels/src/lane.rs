//! One channel's way to its client: encodes, and puts frames into the connection's mailbox.
//!
//! The lane is what a channel attaches to its topic, so broadcasts go from the broadcasting task
//! straight into the mailbox; the channel itself is not involved unless it intercepts the event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use herenow_presence::{PresenceDiff, Presences};
use herenow_protocol::{ChannelId, EncodeError, Encoded, JoinRef, MessageRef, Payload, Serializer};
use herenow_pubsub::{Broadcast, LocalPayload, Once, Payload as Outgoing, Sink};

use crate::frame::Frame;
use crate::info::{Info, InfoItem};
use crate::mailbox::{Mailbox, MailboxClosed};
use crate::payload::{IntoPayload, wire_payload};

/// Why something was not sent to a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The connection is closed, or is being closed for being too slow.
    #[error("the connection is closed")]
    Closed,
    /// The value does not serialize.
    #[error("the payload does not serialize")]
    Json(#[from] serde_json::Error),
    /// The message cannot be written in the connection's format.
    #[error("the message cannot be encoded")]
    Encode(#[from] EncodeError),
}

impl From<MailboxClosed> for PushError {
    fn from(MailboxClosed: MailboxClosed) -> Self {
        Self::Closed
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Lane {
    mailbox: Arc<Mailbox>,
    slot: ChannelId,
    topic: Arc<str>,
    join_ref: Option<JoinRef>,
    intercept: &'static [&'static str],
    /// Version of the presence state that was pushed last: older diffs are not for this client.
    seen: AtomicU64,
    /// Whether the client was sent a diff. A state that is pushed after it trims nothing: the
    /// client applies that diff to the state, so it needs the diffs in between as well.
    has_diffs: AtomicBool,
    /// Whether frames wait for a reply that must come before them.
    is_held: AtomicBool,
    serializer: Serializer,
}

impl Lane {
    /// A lane whose frames are held until [`Lane::release`].
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        serializer: Serializer,
        slot: ChannelId,
        topic: Arc<str>,
        join_ref: Option<JoinRef>,
        intercept: &'static [&'static str],
    ) -> Self {
        Self {
            mailbox,
            slot,
            topic,
            join_ref,
            intercept,
            seen: AtomicU64::new(0),
            has_diffs: AtomicBool::new(false),
            is_held: AtomicBool::new(true),
            serializer,
        }
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(crate) fn slot(&self) -> ChannelId {
        self.slot
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    pub(crate) fn serializer(&self) -> Serializer {
        self.serializer
    }

    /// Holds frames back from now on.
    pub(crate) fn hold(&self) {
        self.is_held.store(true, Ordering::Relaxed);
    }

    /// Lets go what was held, and what comes.
    pub(crate) fn release(&self) {
        self.mailbox.release(self.slot, &self.is_held);
    }

    /// Pushes to this client.
    pub(crate) fn push(&self, event: &str, payload: impl IntoPayload) -> Result<(), PushError> {
        let payload = payload.into_payload()?;
        if let Outgoing::Local(value) = &payload
            && let Some(presences) = value.downcast_ref::<Presences>()
        {
            return self.push_presences(event, presences);
        }
        let (join_ref, payload) = (self.join_ref.as_ref(), wire_payload(&payload));
        let encoded = self
            .serializer
            .encode_push(join_ref, &self.topic, event, &payload);
        self.send(&self.counted(encoded)?)
    }

    /// Pushes a state whose JSON all pushes of that state share, and remembers how new it is.
    fn push_presences(&self, event: &str, presences: &Presences) -> Result<(), PushError> {
        let (head, tail) =
            self.serializer
                .push_envelope(self.join_ref.as_ref(), &self.topic, event);
        let frame = Frame::around(&head, presences.json(), tail);
        let is_own = presences.topic().as_str() == &*self.topic;
        let note_seen = || {
            if is_own && !self.has_diffs.load(Ordering::Relaxed) {
                self.seen.fetch_max(presences.version(), Ordering::Relaxed);
            }
            true
        };
        self.mailbox
            .push_for(self.slot, &self.is_held, frame, note_seen)?;
        Ok(())
    }

    /// Replies to a message of this client.
    pub(crate) fn reply(
        &self,
        message_ref: Option<&MessageRef>,
        status: &str,
        payload: &Outgoing,
    ) -> Result<(), PushError> {
        let (join_ref, payload) = (self.join_ref.as_ref(), wire_payload(payload));
        let encoded =
            self.serializer
                .encode_reply(join_ref, message_ref, &self.topic, status, &payload);
        self.send(&self.counted(encoded)?)
    }

    fn counted<T>(&self, encoded: Result<T, EncodeError>) -> Result<T, EncodeError> {
        encoded.inspect_err(|_| self.mailbox.metrics().encode_errors.increment())
    }

    fn send(&self, encoded: &Encoded) -> Result<(), PushError> {
        self.send_frame(Frame::from_encoded(encoded))
    }

    fn send_frame(&self, frame: Frame) -> Result<(), PushError> {
        self.mailbox
            .push_for(self.slot, &self.is_held, frame, || true)?;
        Ok(())
    }

    /// Returns what other sinks of this dispatch encoded already, or encodes it for them.
    fn shared_frame(
        &self,
        broadcast: &Broadcast,
        once: &mut Once,
        slot: u128,
        payload: impl FnOnce() -> Payload,
    ) -> Option<Frame> {
        let frame = once.get_or_encode(slot, || {
            let (topic, event) = (&broadcast.topic, &broadcast.event);
            let encoded = self.serializer.encode_broadcast(topic, event, &payload());
            encoded.map(|encoded| Frame::shareable(&encoded))
        });
        match frame {
            Ok(frame) => Some(Frame::from_shared(frame)),
            Err(error) => {
                self.mailbox.metrics().encode_errors.increment();
                tracing::warn!(topic = &*self.topic, %error, "broadcast not encodable");
                None
            }
        }
    }

    /// Delivers the part of a diff that the client's state does not have yet.
    fn deliver_diff(&self, broadcast: &Broadcast, diff: &PresenceDiff, once: &mut Once) {
        loop {
            let seen = self.seen.load(Ordering::Relaxed);
            if diff.to() <= seen {
                return;
            }
            let frame = if diff.from() >= seen {
                let slot = shared_slot(self.serializer, 0);
                self.shared_frame(broadcast, once, slot, || Payload::Json(diff.json()))
            } else {
                let Some(rest) = diff.json_since(seen) else {
                    return;
                };
                let slot = shared_slot(self.serializer, seen);
                self.shared_frame(broadcast, once, slot, || Payload::Json(rest))
            };
            let Some(frame) = frame else { return };
            // A state may be pushed meanwhile, by the channel in its own task.
            let is_still_right = || {
                let is_right = self.seen.load(Ordering::Relaxed) == seen;
                self.has_diffs.fetch_or(is_right, Ordering::Relaxed);
                is_right
            };
            match self
                .mailbox
                .push_for(self.slot, &self.is_held, frame, is_still_right)
            {
                Ok(true) | Err(MailboxClosed) => return,
                Ok(false) => {}
            }
        }
    }

    /// Delivers a diff that was kept aside for the reader.
    pub(crate) fn deliver_aside(&self, diffs: &[Arc<PresenceDiff>]) {
        let Some(diff) = PresenceDiff::fold(diffs) else {
            return;
        };
        let event = herenow_protocol::event::PRESENCE_DIFF;
        let payload = Outgoing::Local(diff.clone());
        let broadcast = Broadcast::new(self.topic.clone(), event, payload);
        self.deliver_diff(&broadcast, &diff, &mut Once::new());
    }
}

impl Sink for Lane {
    fn deliver(&self, broadcast: &Broadcast, once: &mut Once) {
        if self.intercept.contains(&broadcast.event.as_str()) {
            let item = InfoItem::Intercepted(broadcast.clone());
            return self.mailbox.push_broadcast(self.slot, item);
        }
        if let Outgoing::Local(value) = &broadcast.payload
            && let Some(diff) = Arc::clone(value).downcast_arc::<PresenceDiff>()
        {
            if !self.mailbox.try_set_aside(self.slot, &self.is_held, &diff) {
                self.deliver_diff(broadcast, &diff, once);
            }
            return;
        }
        let slot = shared_slot(self.serializer, 0);
        let payload = || wire_payload(&broadcast.payload);
        if let Some(frame) = self.shared_frame(broadcast, once, slot, payload) {
            // Closed: the connection's task is about to take the lane off the topic.
            let _closed = self.send_frame(frame);
        }
    }
}

/// Names an encoding among those of one dispatch.
fn shared_slot(serializer: Serializer, seen: u64) -> u128 {
    let serializer = match serializer {
        Serializer::V1 => 1,
        Serializer::V2 => 2,
    };
    u128::from(seen) << 8 | serializer
}

/// Takes broadcasts of another topic to a channel's `handle_info`.
#[derive(Debug)]
pub(crate) struct InfoSink(pub(crate) Arc<Lane>);

impl Sink for InfoSink {
    fn deliver(&self, broadcast: &Broadcast, _: &mut Once) {
        let item = InfoItem::Info(Info::Broadcast(broadcast.clone()));
        self.0.mailbox.push_broadcast(self.0.slot, item);
    }
}

/// A message that can be replied to later, from any task, once or several times.
#[derive(Debug, Clone)]
pub struct SocketRef {
    lane: Arc<Lane>,
    message_ref: MessageRef,
}

impl SocketRef {
    pub(crate) fn new(lane: Arc<Lane>, message_ref: MessageRef) -> Self {
        Self { lane, message_ref }
    }

    /// Replies to the message.
    ///
    /// # Errors
    ///
    /// [`PushError`] if the connection is closed or the payload cannot be written.
    pub fn reply(&self, status: &str, payload: impl IntoPayload) -> Result<(), PushError> {
        self.lane
            .reply(Some(&self.message_ref), status, &payload.into_payload()?)
    }
}

/// A channel as other tasks see it. Cheap to clone; does not keep the channel alive.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Lane>);

impl Handle {
    pub(crate) fn new(lane: Arc<Lane>) -> Self {
        Self(lane)
    }

    /// Returns the channel's topic.
    pub fn topic(&self) -> &str {
        self.0.topic()
    }

    /// Sends a message to the channel's [`handle_info`](crate::Channel::handle_info).
    ///
    /// A channel that has ended on a connection that lives on drops it silently.
    ///
    /// # Errors
    ///
    /// [`InfoError`](crate::InfoError) if the connection has ended or its channels are behind.
    pub fn send<T: Send + 'static>(&self, message: T) -> Result<(), crate::info::InfoError> {
        let item = InfoItem::Info(Info::Message(Box::new(message)));
        self.0.mailbox.push_info(self.0.slot, item)
    }

    /// Pushes to the channel's client, past the channel.
    ///
    /// # Errors
    ///
    /// As [`Socket::push`](crate::Socket::push).
    pub fn push(&self, event: &str, payload: impl IntoPayload) -> Result<(), PushError> {
        self.0.push(event, payload)
    }
}

impl IntoPayload for Presences {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Ok(Outgoing::Local(Arc::new(self) as Arc<dyn LocalPayload>))
    }
}
