//! What callbacks answer.

use herenow_pubsub::Payload as Outgoing;
use smol_str::SmolStr;

use crate::payload::IntoPayload;
use crate::reason::Reason;

/// An accepted join, with the response.
#[derive(Debug)]
pub struct Joined(pub(crate) Result<Outgoing, serde_json::Error>);

impl Joined {
    /// Accepts with the response `{}`.
    pub fn empty() -> Self {
        Self::reply(())
    }

    /// Accepts with a response, any JSON value. One that does not serialize is `join crashed`.
    pub fn reply(payload: impl IntoPayload) -> Self {
        Self(payload.into_payload())
    }
}

/// A refused join, with the response that says why.
///
/// Any error becomes one, `{"reason": <its text>}`, so `?` works in `join`.
#[derive(Debug)]
pub struct Refused(pub(crate) Result<Outgoing, serde_json::Error>);

impl Refused {
    /// Refuses with `{"reason": reason}`.
    pub fn reason(reason: impl AsRef<str>) -> Self {
        Self::reply(serde_json::json!({ "reason": reason.as_ref() }))
    }

    /// Refuses with a response, any JSON value. One that does not serialize is `join crashed`.
    pub fn reply(payload: impl IntoPayload) -> Self {
        Self(payload.into_payload())
    }
}

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::reason(error.to_string())
    }
}

/// What becomes of a client's message.
#[derive(Debug)]
pub struct Outcome {
    pub(crate) reply: Option<Reply>,
    pub(crate) then: Then,
}

/// A reply as a callback gave it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: SmolStr,
    pub(crate) payload: Result<Outgoing, serde_json::Error>,
}

/// How a channel goes on after a callback.
#[derive(Debug)]
pub(crate) enum Then {
    Continue,
    Stop(Reason),
}

impl Outcome {
    /// Answers nothing; a reply may follow through
    /// [`Socket::reply_later`](crate::Socket::reply_later).
    pub fn noreply() -> Self {
        Self {
            reply: None,
            then: Then::Continue,
        }
    }

    /// Replies with the status `ok`.
    pub fn ok(payload: impl IntoPayload) -> Self {
        Self::reply("ok", payload)
    }

    /// Replies with the status `error`.
    pub fn error(payload: impl IntoPayload) -> Self {
        Self::reply("error", payload)
    }

    /// Replies with a status and any JSON value, or bytes. A payload that does not serialize
    /// crashes the channel.
    pub fn reply(status: &str, payload: impl IntoPayload) -> Self {
        let reply = Reply {
            status: SmolStr::new(status),
            payload: payload.into_payload(),
        };
        Self {
            reply: Some(reply),
            then: Then::Continue,
        }
    }

    /// Stops the channel without a reply.
    ///
    /// [`Reason::Normal`] and [`Reason::Shutdown`] tell the client `phx_close`; any other reason
    /// `phx_error`, and it will rejoin.
    pub fn stop(reason: Reason) -> Self {
        Self {
            reply: None,
            then: Then::Stop(reason),
        }
    }

    /// Stops the channel after the reply, if there is one.
    #[must_use]
    pub fn and_stop(mut self, reason: Reason) -> Self {
        self.then = Then::Stop(reason);
        self
    }
}

/// How a channel goes on after a broadcast or a message from inside the server.
#[derive(Debug)]
pub enum Flow {
    /// As before.
    Continue,
    /// The channel stops, as with [`Outcome::stop`].
    Stop(Reason),
}
