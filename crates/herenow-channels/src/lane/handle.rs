//! What other tasks hold of a channel: [`Handle`], [`SocketRef`], and its sink for other topics.

use std::sync::Arc;

use herenow_protocol::MessageRef;
use herenow_pubsub::{Broadcast, Once, Sink};

use super::{Lane, PushError};
use crate::info::{Info, InfoError, InfoItem};
use crate::payload::IntoPayload;

/// Takes broadcasts of another topic to a channel's `handle_info`.
#[derive(Debug)]
pub(crate) struct InfoSink(pub(crate) Arc<Lane>);

impl Sink for InfoSink {
    fn deliver(&self, broadcast: &Broadcast, _: &mut Once) {
        let info = Info::Broadcast(broadcast.clone());
        self.0.mailbox.push_vital(InfoItem::Info(self.0.slot, info));
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
    pub fn send<T: Send + 'static>(&self, message: T) -> Result<(), InfoError> {
        let info = Info::Message(Box::new(message));
        self.0.mailbox.push_info(InfoItem::Info(self.0.slot, info))
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
