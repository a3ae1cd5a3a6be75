//! What can go wrong, and for whom.

use std::io;
use std::time::Duration;

use herenow_protocol::{EncodeError, Payload, PayloadError};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A URL that names no socket.
    #[error("{url:?} is not the URL of a socket: {reason}")]
    BadUrl {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server could not be reached; connection refused, for one.
    #[error("cannot connect to {url}")]
    Io {
        /// Where to.
        url: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The server answered 403 to the upgrade.
    #[error(
        "{url} refused the connection (403): it does not accept this origin, token or version{}",
        said(reason.as_deref())
    )]
    Forbidden {
        /// Where to.
        url: String,
        /// What the server says of it, shortened; `None` if it says nothing.
        reason: Option<String>,
    },
    /// The server answered something else than an upgrade.
    #[error("{url} answered {status} and not with a WebSocket{}", said(reason.as_deref()))]
    Status {
        /// Where to.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the server says of it, shortened; `None` if it says nothing.
        reason: Option<String>,
    },
    /// The server does not speak WebSocket as it should.
    #[error("{url} did not complete the WebSocket handshake: {reason}")]
    Handshake {
        /// Where to.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("{url} did not answer within {after:?}")]
    Timeout {
        /// Where to.
        url: String,
        /// How long was waited.
        after: Duration,
    },
}

/// Why a channel was not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The server said no.
    #[error("joining {topic:?} was refused: {}", reason_of(response))]
    Refused {
        /// The topic.
        topic: String,
        /// The server's response; by convention an object with a `reason`.
        response: Payload,
    },
    /// The server did not answer in time.
    #[error("joining {topic:?} was not answered within {after:?}")]
    Timeout {
        /// The topic.
        topic: String,
        /// How long was waited.
        after: Duration,
    },
    /// The server closed the channel, or it crashed, instead of answering.
    #[error("the channel of {topic:?} ended while it was joined")]
    Ended {
        /// The topic.
        topic: String,
    },
    /// The parameters do not serialize.
    #[error("the join's parameters cannot be written")]
    Params(#[from] PayloadError),
    /// The client has been disconnected.
    #[error("the client is disconnected")]
    Disconnected,
}

/// Why a push was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// No reply in time. It may have been handled all the same, unless it was never sent because
    /// the channel was not joined.
    #[error("{event:?} was not answered within {after:?}")]
    Timeout {
        /// The event.
        event: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection or the channel was lost after it was sent; it may have been handled.
    #[error("the connection was lost before {event:?} was answered")]
    Lost {
        /// The event.
        event: String,
    },
    /// The channel is closed, or the client disconnected.
    #[error("the channel is closed")]
    Closed,
    /// Too many pushes wait for the channel to be joined again.
    #[error("{max} pushes wait for the channel to be joined, which is the limit")]
    TooManyWaiting {
        /// The limit.
        max: usize,
    },
    /// The payload does not serialize.
    #[error("the payload cannot be written")]
    Payload(#[from] PayloadError),
    /// The message cannot be written in the connection's format.
    #[error("the message cannot be written")]
    Encode(#[from] EncodeError),
}

fn said(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!("; it says: {reason}"))
}

/// The `reason` of a response, or its JSON text.
pub(crate) fn reason_of(response: &Payload) -> String {
    #[derive(serde::Deserialize)]
    struct Reason {
        reason: String,
    }
    match response.deserialize::<Reason>() {
        Ok(Reason { reason }) => reason,
        Err(_) => String::from_utf8_lossy(response.bytes()).into_owned(),
    }
}
