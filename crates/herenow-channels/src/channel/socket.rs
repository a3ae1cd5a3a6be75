//! [`Socket`]: a channel's own end of the connection.

use std::sync::Arc;

use herenow_presence::{Holder, LeaveReason, ModeNews, Owner};
use herenow_protocol::{MessageRef, Serializer};
use herenow_pubsub::{Attachment, Payload as Outgoing, PubSub, SubscriberId};

use super::assigns::Assigns;
use crate::lane::{Handle, InfoSink, Lane, PushError, SocketRef};
use crate::payload::{IntoPayload, wire_payload};
use crate::reason::Reason;

/// A channel's end of the connection: pushes, broadcasts, replies, and what is assigned to it.
///
/// Holds the presences that the channel tracks; they leave when the channel ends.
#[derive(Debug)]
pub struct Socket {
    lane: Arc<Lane>,
    pubsub: PubSub,
    owner: Owner,
    assigns: Assigns,
    /// The channel's own subscription, for `broadcast_from`.
    subscriber: Option<SubscriberId>,
    /// The ref of the message that is being handled.
    message_ref: Option<MessageRef>,
    is_joined: bool,
    subscriptions: Vec<Attachment>,
}

/// Why a broadcast was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The value does not serialize.
    #[error("the payload does not serialize")]
    Json(#[from] serde_json::Error),
    /// A V2 socket broadcasts JSON objects and bytes only.
    #[error("the payload of event {event:?} is not a JSON object")]
    NotObject {
        /// The event.
        event: String,
    },
    /// The topic or the event is too long, or the adapter did not take it.
    #[error(transparent)]
    PubSub(#[from] herenow_pubsub::BroadcastError),
}

/// Why there is nothing to reply to later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefError {
    /// The join itself is answered by its result.
    #[error("a socket ref needs a socket that has joined; the join is answered by its result")]
    NotJoined,
    /// No message is being handled, or its client wants no reply.
    #[error("a socket ref needs a message with a ref; none is being handled")]
    NoRef,
}

impl Socket {
    pub(crate) fn new(lane: Arc<Lane>, pubsub: PubSub, assigns: Assigns) -> Self {
        Self {
            lane,
            pubsub,
            owner: Owner::new(),
            assigns,
            subscriber: None,
            message_ref: None,
            is_joined: false,
            subscriptions: Vec::new(),
        }
    }

    /// Returns the channel's topic; the room, where a [`Dialect`](crate::Dialect) has both.
    pub fn topic(&self) -> &str {
        self.lane.topic()
    }

    /// Returns the connection's id, as `connect` gave it.
    pub fn id(&self) -> Option<&str> {
        self.lane.mailbox().id().map(|id| &**id)
    }

    /// Returns the wire format that the client speaks.
    pub fn serializer(&self) -> Serializer {
        self.lane.serializer()
    }

    /// Returns the system that the channel's topic belongs to.
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Tells whether the join has been accepted.
    pub fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// Returns the values assigned to the connection, the route and this channel.
    pub fn assigns(&self) -> &Assigns {
        &self.assigns
    }

    /// Returns the assigned values to change for this channel.
    pub fn assigns_mut(&mut self) -> &mut Assigns {
        &mut self.assigns
    }

    /// Pushes an event to this client only. V2 takes objects and bytes, V1 any JSON.
    ///
    /// # Errors
    ///
    /// [`PushError`]; nothing is sent then.
    pub fn push(&self, event: &str, payload: impl IntoPayload) -> Result<(), PushError> {
        self.lane.push(event, payload)
    }

    /// Lets no broadcast of the topic reach this client any more, presence diffs included; what the
    /// channel pushes does, and what it intercepts reaches the channel. To be called before
    /// anything is pushed: what a join holds is dropped.
    pub fn deafen(&self) {
        self.lane.deafen();
    }

    /// Says that this client does not wait for answers to what it sends, which decides what it is
    /// told of a message over a rate, see
    /// [`OverLimit::MessageRate`](crate::OverLimit::MessageRate).
    pub fn expect_no_answers(&self) {
        self.lane.expect_no_answers();
    }

    /// Tells this client how the topic tells of who is here, now and whenever that changes: in
    /// `presence:mode`, as [`Mode`](herenow_presence::Mode) has it. In a topic with very many
    /// presences it then gets `presence:count` instead of diffs, its list is emptied, and a
    /// `presence_state` pushed meanwhile is dropped; it gets one when the topic is smaller again.
    ///
    /// Call it before pushing the state, and with `mode` to ask for the mode: it is asked for after
    /// the client is known to follow, so that it misses no change.
    pub fn follow_modes(&self, mode: impl FnOnce() -> ModeNews) {
        self.lane.follow_modes();
        self.lane.push_mode(&mode());
    }

    /// Broadcasts an event to all subscribers of the topic, this client included.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`]; nobody gets it then.
    pub fn broadcast(&self, event: &str, payload: impl IntoPayload) -> Result<(), BroadcastError> {
        let payload = self.broadcast_payload(event, payload)?;
        Ok(self.pubsub.broadcast(self.topic(), event, payload)?)
    }

    /// Broadcasts an event to all subscribers of the topic but this channel.
    ///
    /// # Errors
    ///
    /// As [`Socket::broadcast`].
    pub fn broadcast_from(
        &self,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), BroadcastError> {
        let payload = self.broadcast_payload(event, payload)?;
        match self.subscriber {
            Some(from) => self
                .pubsub
                .broadcast_from(from, self.topic(), event, payload)?,
            None => self.pubsub.broadcast(self.topic(), event, payload)?,
        }
        Ok(())
    }

    fn broadcast_payload(
        &self,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<Outgoing, BroadcastError> {
        let payload = payload.into_payload()?;
        let is_json = matches!(payload, Outgoing::Json(_));
        if self.serializer() == Serializer::V2 && is_json && !wire_payload(&payload).is_object() {
            return Err(BroadcastError::NotObject {
                event: event.to_owned(),
            });
        }
        Ok(payload)
    }

    /// Takes the message being handled out for a reply later, from any task.
    ///
    /// # Errors
    ///
    /// [`RefError`] outside [`Channel::handle_in`](crate::Channel::handle_in), or if the client's
    /// message had no ref.
    pub fn reply_later(&self) -> Result<SocketRef, RefError> {
        if !self.is_joined {
            return Err(RefError::NotJoined);
        }
        let message_ref = self.message_ref.clone().ok_or(RefError::NoRef)?;
        Ok(SocketRef::new(self.lane.clone(), message_ref))
    }

    /// Returns what other tasks can send messages to this channel with.
    pub fn handle(&self) -> Handle {
        Handle::new(self.lane.clone())
    }

    /// Subscribes the channel to another topic, whose broadcasts go to
    /// [`Channel::handle_info`](crate::Channel::handle_info). A second time changes nothing.
    pub fn subscribe(&mut self, topic: &str) {
        if !self.subscriptions.iter().any(|one| &**one.topic() == topic) {
            let sink = Arc::new(InfoSink(self.lane.clone()));
            self.subscriptions.push(self.pubsub.attach(topic, sink));
        }
    }

    /// Ends a subscription made with [`Socket::subscribe`].
    pub fn unsubscribe(&mut self, topic: &str) {
        self.subscriptions.retain(|one| &**one.topic() != topic);
        self.subscriptions.shrink_to_fit();
    }

    pub(crate) fn set_subscriber(&mut self, subscriber: SubscriberId) {
        self.subscriber = Some(subscriber);
    }

    pub(crate) fn set_joined(&mut self) {
        self.is_joined = true;
    }

    pub(crate) fn set_message_ref(&mut self, message_ref: Option<MessageRef>) {
        self.message_ref = message_ref;
    }

    /// Hears no other topics any more.
    pub(crate) fn unsubscribe_all(&mut self) {
        self.subscriptions = Vec::new();
    }

    /// Says why the presences that the channel tracks leave.
    pub(crate) fn end_owner(&self, reason: &Reason) {
        self.owner.end_with(match reason {
            Reason::Left | Reason::Normal | Reason::Shutdown(_) => LeaveReason::Left,
            Reason::Evicted | Reason::Disconnected => LeaveReason::Evicted,
            Reason::Closed
            | Reason::DuplicateJoin
            | Reason::Draining
            | Reason::Inactive
            | Reason::ClientError
            | Reason::Unauthorized(_)
            | Reason::Crashed
            | Reason::Flooded
            | Reason::Other(_) => LeaveReason::Closed,
        });
    }
}

impl Holder for Socket {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn topic(&self) -> &str {
        self.lane.topic()
    }
}
