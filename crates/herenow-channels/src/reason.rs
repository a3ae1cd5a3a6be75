//! Why channels and connections end.

use std::borrow::Cow;
use std::time::Duration;

use herenow_protocol::CloseCode;
use smol_str::SmolStr;

/// Why a channel ends, as [`Channel::terminate`](crate::Channel::terminate) is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The client left the topic.
    Left,
    /// The client went away.
    Closed,
    /// The channel stopped itself as it should.
    Normal,
    /// The channel stopped itself because something is shut down; text of its own choice.
    Shutdown(Option<SmolStr>),
    /// The client joined the topic again.
    DuplicateJoin,
    /// The connection's id was disconnected.
    Disconnected,
    /// The user was made to leave the topic: its presences leave as evicted, and its client is told
    /// `phx_close`, after which it does not rejoin by itself.
    Evicted,
    /// The server drains.
    Draining,
    /// The client no longer polls.
    Inactive,
    /// The connection was closed for what its client did: silence, malformed messages, a queue
    /// that only grows.
    ClientError,
    /// The client sent far more messages than it may.
    Flooded,
    /// The client's right to be here has ended; text for the client. It is told `phx_error` with
    /// `{"reason": text}`.
    Unauthorized(SmolStr),
    /// A callback panicked.
    Crashed,
    /// The channel stopped itself for any other reason; its client is told that it crashed.
    Other(SmolStr),
}

impl Reason {
    /// Tells whether a channel that stops for this reason does so gracefully, with `phx_close`.
    pub(crate) fn is_graceful(&self) -> bool {
        match self {
            Self::Normal | Self::Shutdown(_) | Self::Left | Self::Evicted => true,
            Self::Closed
            | Self::DuplicateJoin
            | Self::Disconnected
            | Self::Draining
            | Self::Inactive
            | Self::ClientError
            | Self::Flooded
            | Self::Unauthorized(_)
            | Self::Crashed
            | Self::Other(_) => false,
        }
    }
}

/// An order to close a connection: what its client and its channels are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloseOrder {
    /// The close code; never 1000 unless the client is not meant to come back.
    pub(crate) code: CloseCode,
    /// The text of the close frame, at most 123 bytes.
    pub(crate) text: Cow<'static, str>,
    /// What the channels are told.
    pub(crate) reason: Reason,
    /// What the log says aloud: that is of a limit which an operator may want to look at.
    warning: Option<&'static str>,
}

impl CloseOrder {
    /// The connection's id was disconnected.
    pub(crate) fn disconnected() -> Self {
        Self::new(CloseCode::GOING_AWAY, "disconnected", Reason::Disconnected)
    }

    /// The server drains.
    pub(crate) fn draining() -> Self {
        Self::new(CloseCode::RESTART, "draining", Reason::Draining)
    }

    /// The client was silent for too long.
    pub(crate) fn idle() -> Self {
        Self::new(
            CloseCode::PROTOCOL_ERROR,
            "idle timeout",
            Reason::ClientError,
        )
    }

    /// The client's messages have waited for too long behind a callback that does not end.
    pub(crate) fn stuck() -> Self {
        let text = "a channel did not take messages for twice the idle timeout";
        Self::new(CloseCode::INTERNAL, text, Reason::ClientError)
    }

    /// The reader does not keep up; `text` names the limit.
    pub(crate) fn slow_reader(text: impl Into<Cow<'static, str>>) -> Self {
        let order = Self::new(CloseCode::POLICY_VIOLATION, text, Reason::ClientError);
        order.warning("slow reader closed")
    }

    /// The client did not come to the end of a message in this time.
    pub(crate) fn unfinished(time: Duration) -> Self {
        let text =
            format!("a message took longer than {time:?} to be sent (socket.message_timeout)");
        Self::new(CloseCode::POLICY_VIOLATION, text, Reason::ClientError)
    }

    /// The client sends far too many messages; `text` names the limit.
    pub(crate) fn flooded(text: impl Into<Cow<'static, str>>) -> Self {
        let order = Self::new(CloseCode::POLICY_VIOLATION, text, Reason::Flooded);
        order.warning("flooding client closed")
    }

    /// The client sent what it must not.
    pub(crate) fn client_error(code: CloseCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code, text, Reason::ClientError)
    }

    /// The client's right to be connected has ended.
    pub(crate) fn unauthorized(code: CloseCode, text: &'static str) -> Self {
        Self::new(code, text, Reason::Unauthorized(SmolStr::new_static(text)))
    }

    /// The client went away or closed.
    pub(crate) fn closed(code: CloseCode) -> Self {
        Self::new(code, "", Reason::Closed)
    }

    /// The client no longer polls.
    pub(crate) fn inactive() -> Self {
        Self::new(CloseCode::GOING_AWAY, "inactive", Reason::Inactive)
    }

    fn new(code: CloseCode, text: impl Into<Cow<'static, str>>, reason: Reason) -> Self {
        Self {
            code,
            text: text.into(),
            reason,
            warning: None,
        }
    }

    fn warning(mut self, warning: &'static str) -> Self {
        self.warning = Some(warning);
        self
    }

    /// Says in the log how a connection ends; aloud if it ran into a limit that its operator may
    /// want to look at. Whose it is, which its name says, is for `debug` only.
    pub(crate) fn log(&self, transport: &str, socket: Option<&str>) {
        let (code, text) = (self.code.0, self.close_text());
        if let Some(warning) = self.warning {
            tracing::warn!(transport, code, text, "{warning}");
        }
        tracing::debug!(transport, code, text, socket, "socket closes");
    }

    /// The text, cut to what a close frame can carry.
    pub(crate) fn close_text(&self) -> &str {
        const MAX_CLOSE_TEXT: usize = 123;
        let end = (0..=self.text.len().min(MAX_CLOSE_TEXT))
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0);
        &self.text[..end]
    }
}
