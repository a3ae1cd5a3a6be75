//! One channel's way to its client: encodes, and puts frames into the connection's mailbox.
//!
//! The lane is what a channel attaches to its topic, so broadcasts go from the broadcasting task
//! straight into the mailbox; the channel itself is not involved unless it intercepts the event.
//! Here is what a lane is and what it lets through; how far its client has come with the topic's
//! presence is `presence`, with its `modes`; frames that lanes share are `fastlane`, and `handle`
//! is what other tasks hold of a channel.

mod fastlane;
mod handle;
mod modes;
mod presence;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use herenow_presence::{ModeNews, PresenceDiff, Presences};
use herenow_protocol::{ChannelId, EncodeError, Encoded, JoinRef, MessageRef, Serializer, event};
use herenow_pubsub::{Broadcast, Once, Payload as Outgoing, Sink};

pub(crate) use self::handle::InfoSink;
pub use self::handle::{Handle, SocketRef};
use crate::frame::Frame;
use crate::info::InfoItem;
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
    /// The topic at the pubsub: the room, if the client's dialect tells the two apart.
    topic: Arc<str>,
    join_ref: Option<JoinRef>,
    intercept: &'static [&'static str],
    /// Version of the presence state that the client has: older diffs are not for this client.
    seen: AtomicU64,
    /// Version of the state pushed last. A diff across it goes out in two parts: a join before it
    /// and the leave after it must not cancel, for the state has that presence.
    cut: AtomicU64,
    /// Version up to which diffs that waited were folded with all that cancels: a state older than
    /// that does not go with them.
    folded_to: AtomicU64,
    /// Whether the client was sent a diff. A state that is pushed after it trims nothing: the
    /// client applies that diff to the state, so it needs the diffs in between as well.
    has_diffs: AtomicBool,
    /// Which mode of the topic's presence the client knows of: its number and, in the lowest bit,
    /// whether it is the summary. 0 if it is told of none. Changes under the mailbox's lock.
    mode: AtomicU64,
    /// Whether frames wait for a reply that must come before them.
    is_held: AtomicBool,
    /// Whether the join was refused: nothing goes to the client any more.
    is_refused: AtomicBool,
    /// Whether broadcasts of the topic are not for this client.
    is_deaf: AtomicBool,
    /// Whether the client does not wait for answers to its messages.
    is_unanswered: AtomicBool,
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
            cut: AtomicU64::new(0),
            folded_to: AtomicU64::new(0),
            has_diffs: AtomicBool::new(false),
            mode: AtomicU64::new(0),
            is_held: AtomicBool::new(true),
            is_refused: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
            is_unanswered: AtomicBool::new(false),
            serializer,
        }
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The topic as the client knows it.
    fn wire_topic(&self) -> Cow<'_, str> {
        match self.mailbox.dialect() {
            Some(dialect) => dialect.topic(&self.topic),
            None => Cow::Borrowed(&self.topic),
        }
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

    /// Takes the place of `old` for the same client, which may have diffs of that lane.
    pub(crate) fn succeed(&self, old: &Self) {
        let has_diffs = old.has_diffs.load(Ordering::Relaxed);
        self.has_diffs.fetch_or(has_diffs, Ordering::Relaxed);
    }

    /// Lets go what was held, and what comes.
    pub(crate) fn release(&self) {
        self.mailbox.release(self.slot, &self.is_held);
    }

    /// Drops what was held, and what comes.
    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
        self.mailbox.discard(self.slot);
    }

    /// Notes that the client does not wait for answers to its messages.
    pub(crate) fn expect_no_answers(&self) {
        self.is_unanswered.store(true, Ordering::Relaxed);
    }

    /// Tells whether the client waits for answers to its messages.
    pub(crate) fn awaits_answers(&self) -> bool {
        !self.is_unanswered.load(Ordering::Relaxed)
    }

    /// Drops broadcasts of the topic from now on, and what is held already.
    pub(crate) fn deafen(&self) {
        self.is_deaf.store(true, Ordering::Relaxed);
        self.mailbox.discard(self.slot);
    }

    /// Pushes to this client.
    pub(crate) fn push(&self, event: &str, payload: impl IntoPayload) -> Result<(), PushError> {
        let payload = payload.into_payload()?;
        if let Outgoing::Local(value) = &payload
            && let Some(presences) = value.downcast_ref::<Presences>()
        {
            return self.push_presences(event, presences);
        }
        if let Outgoing::Local(value) = &payload
            && event == event::PRESENCE_DIFF
            && let Some(diff) = value.downcast_ref::<PresenceDiff>()
            && diff.topic().as_str() == &*self.topic
        {
            if self.is_refused.load(Ordering::Relaxed) {
                return Err(PushError::Closed);
            }
            // Intercepted and pushed by the channel: the client's state may be newer all the same.
            let broadcast = Broadcast::new(self.topic.clone(), event, payload.clone());
            return Ok(self.deliver_diff(&broadcast, diff, None)?);
        }
        let (join_ref, payload) = (self.join_ref.as_ref(), wire_payload(&payload));
        let encoded = self
            .serializer
            .encode_push(join_ref, &self.wire_topic(), event, &payload);
        self.send(&self.counted(encoded)?)
    }

    /// Replies to a message of this client.
    pub(crate) fn reply(
        &self,
        message_ref: Option<&MessageRef>,
        status: &str,
        payload: &Outgoing,
    ) -> Result<(), PushError> {
        let (join_ref, payload) = (self.join_ref.as_ref(), wire_payload(payload));
        let encoded = self.serializer.encode_reply(
            join_ref,
            message_ref,
            &self.wire_topic(),
            status,
            &payload,
        );
        self.send(&self.counted(encoded)?)
    }

    fn counted<T>(&self, encoded: Result<T, EncodeError>) -> Result<T, EncodeError> {
        encoded.inspect_err(|_| self.mailbox.metrics().encode_errors.increment())
    }

    fn send(&self, encoded: &Encoded) -> Result<(), PushError> {
        self.send_frame(Frame::from_encoded(encoded))
    }

    fn send_frame(&self, frame: Frame) -> Result<(), PushError> {
        let is_wanted = || !self.is_refused.load(Ordering::Relaxed);
        if self
            .mailbox
            .push_for(self.slot, &self.is_held, frame, is_wanted)?
        {
            Ok(())
        } else {
            Err(PushError::Closed)
        }
    }
}

impl Sink for Lane {
    fn deliver(&self, broadcast: &Broadcast, once: &mut Once) {
        if self.intercept.contains(&broadcast.event.as_str()) {
            let item = InfoItem::Intercepted(self.slot, broadcast.clone());
            return self.mailbox.push_vital(item);
        }
        if self.is_deaf.load(Ordering::Relaxed) {
            return;
        }
        if let Outgoing::Local(value) = &broadcast.payload
            && let Some(diff) = Arc::clone(value).downcast_arc::<PresenceDiff>()
        {
            if !self.is_summary() && !self.try_set_aside(&diff) {
                // Closed: the connection's task is about to take the lane off the topic.
                let _closed = self.deliver_diff(broadcast, &diff, Some(once));
            }
            return;
        }
        if let Outgoing::Local(value) = &broadcast.payload
            && let Some(news) = value.downcast_ref::<ModeNews>()
        {
            return self.deliver_news(news, once);
        }
        let slot = self.shared_slot(0, 0);
        let payload = || wire_payload(&broadcast.payload);
        if let Some(frame) = self.shared_frame(&broadcast.event, once, slot, payload) {
            let is_wanted = || {
                !self.is_refused.load(Ordering::Relaxed) && !self.is_deaf.load(Ordering::Relaxed)
            };
            let (slot, is_held) = (self.slot, &self.is_held);
            // Closed: the connection's task is about to take the lane off the topic.
            let _closed = self.mailbox.push_in(slot, is_held, frame, is_wanted, once);
        }
    }
}
