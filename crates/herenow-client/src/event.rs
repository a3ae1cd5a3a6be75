//! What a channel hears: replies, messages, and the ups and downs of its connection.

use herenow_protocol::{JoinRef, Payload, PayloadError};
use serde::Deserialize;

use crate::error::reason_of;

/// The server's answer to a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `ok`, `error`, or another word.
    pub status: String,
    /// Any JSON value, or bytes.
    pub response: Payload,
}

impl Reply {
    /// Whether the status is `ok`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == "ok"
    }

    /// Reads the response into a type.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] if it does not fit.
    pub fn deserialize<'a, T: Deserialize<'a>>(&'a self) -> Result<T, PayloadError> {
        self.response.deserialize()
    }

    /// The response of an `ok`.
    ///
    /// # Errors
    ///
    /// [`Refusal`] for every other status.
    pub fn into_result(self) -> Result<Payload, Refusal> {
        if self.is_ok() {
            return Ok(self.response);
        }
        Err(Refusal {
            reason: reason_of(&self.response),
            reply: self,
        })
    }
}

/// A reply whose status is not `ok`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server answered {:?}: {reason}", reply.status)]
pub struct Refusal {
    /// The `reason` in the response, or the response's text.
    pub reason: String,
    /// The whole reply.
    pub reply: Reply,
}

/// Why a channel is not joined for now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorReason {
    /// The server's channel crashed (`phx_error`), with what the server tells of it.
    Crashed(Payload),
    /// The connection ended.
    ConnectionLost,
    /// The connection was given up, because a heartbeat was not answered.
    HeartbeatTimeout,
    /// Joining again was refused, with the server's response.
    Refused(Payload),
    /// Joining again was not answered in time.
    JoinTimeout,
}

/// What a joined channel hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// A push or a broadcast.
    Message {
        /// The event.
        event: String,
        /// An object, or bytes.
        payload: Payload,
    },
    /// The channel is not joined for now; the client sees to it that it will be.
    Errored(ErrorReason),
    /// The channel is joined again, with the server's response.
    Rejoined(Payload),
    /// The events before this one were read too slowly, and so many were dropped.
    Lagged {
        /// How many.
        n_missed: u64,
    },
    /// The channel is over, by the server's or the client's wish. Nothing comes after.
    Closed,
}

/// An event and the join during which it came.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) join_ref: JoinRef,
    pub(crate) event: ChannelEvent,
}
