//! The application's say in one connection, after `connect` has accepted it.

use std::fmt;
use std::sync::{Arc, Weak};

use herenow_protocol::{
    CloseCode, MessageRef, Payload, Serializer, ServerMessage, WireText, event,
};
use smol_str::SmolStr;

use crate::frame::Frame;
use crate::info::InfoItem;
use crate::lane::PushError;
use crate::mailbox::Mailbox;
use crate::payload::{IntoPayload, wire_payload};
use crate::reason::CloseOrder;

/// The application's say in one connection, as long as it lives; see [`Connected::guard`].
///
/// Called in the connection's task, between its frames: no method may block.
///
/// [`Connected::guard`]: crate::Connected::guard
pub trait Guard: fmt::Debug + Send + Sync + 'static {
    /// Takes the way to close the connection. Called once, before the client is heard.
    fn opened(&self, connection: ConnectionHandle) {
        let _ = connection;
    }

    /// Tells whether the client may know of `topic`, yes by default. The join of one that it may
    /// not is answered exactly as if there were no channel for the topic.
    fn admits(&self, topic: &str) -> bool {
        let _ = topic;
        true
    }

    /// Handles a message of the client on topic `phoenix` that is no heartbeat, and answers it
    /// with `reply`, now or later. `false`, the default: it is answered `unmatched topic`.
    fn handle_in(self: Arc<Self>, event: &str, payload: &Payload, reply: &ConnectionRef) -> bool {
        let _ = (event, payload, reply);
        false
    }
}

/// A connection as other tasks see it. Cheap to clone; does not keep the connection alive.
#[derive(Debug, Clone, Default)]
pub struct ConnectionHandle(Weak<Mailbox>);

impl ConnectionHandle {
    pub(crate) fn new(mailbox: &Arc<Mailbox>) -> Self {
        Self(Arc::downgrade(mailbox))
    }

    /// Closes the connection because its client's right to it has ended: each of its channels is
    /// told `phx_error` with `{"reason": text}`, then the connection is closed with `code` and
    /// `text`. Tells whether the connection was there.
    pub fn close_unauthorized(&self, code: CloseCode, text: &'static str) -> bool {
        let mailbox = self.0.upgrade();
        if let Some(mailbox) = &mailbox {
            mailbox.order_close(CloseOrder::unauthorized(code, text));
        }
        mailbox.is_some()
    }

    /// Sends a message to the [`handle_info`](crate::Channel::handle_info) of each channel of the
    /// connection; those whose join is under way get it after that. If too many messages wait for
    /// the channels already, the connection is closed instead, as a slow channel's is, for they
    /// must not go on without it.
    pub fn tell_channels<T: Clone + Send + 'static>(&self, message: T) {
        if let Some(mailbox) = self.0.upgrade() {
            mailbox.push_vital(InfoItem::Notice(Box::new(message)));
        }
    }
}

/// A message on topic `phoenix` that can be replied to, from any task.
#[derive(Debug, Clone)]
pub struct ConnectionRef {
    mailbox: Arc<Mailbox>,
    serializer: Serializer,
    message_ref: Option<MessageRef>,
}

impl ConnectionRef {
    pub(crate) fn new(
        mailbox: &Arc<Mailbox>,
        serializer: Serializer,
        message_ref: Option<MessageRef>,
    ) -> Self {
        Self {
            mailbox: mailbox.clone(),
            serializer,
            message_ref,
        }
    }

    /// Replies to the message.
    ///
    /// # Errors
    ///
    /// [`PushError`] if the connection is closed or the payload cannot be written.
    pub fn reply(&self, status: &str, payload: impl IntoPayload) -> Result<(), PushError> {
        let message = ServerMessage::Reply {
            join_ref: None,
            message_ref: self.message_ref.clone(),
            topic: WireText::text(SmolStr::new_static(event::HEARTBEAT_TOPIC)),
            status: SmolStr::new(status),
            response: wire_payload(&payload.into_payload()?),
        };
        let encoded = self.serializer.encode(&message)?;
        Ok(self.mailbox.push(Frame::from_encoded(&encoded))?)
    }
}
