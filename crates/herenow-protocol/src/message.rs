//! What travels on a socket: client messages, server messages, their refs and payloads.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A JSON value that should be a string, and is echoed as what it was.
///
/// Topics and refs come from clients, are compared and sent back, and are never interpreted, so a
/// ref that was the number `7` goes back as `7` and not as `"7"`. Clones cost no allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WireText(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Text(SmolStr),
    Json(SmolStr),
}

impl WireText {
    /// A string.
    #[must_use]
    pub fn text(text: impl Into<SmolStr>) -> Self {
        Self(Repr::Text(text.into()))
    }

    /// Another JSON value, kept as its text; the caller has checked that it is JSON.
    pub(crate) fn json(text: &str) -> Self {
        Self(Repr::Json(SmolStr::new(text)))
    }

    /// The string, or the JSON text of a value that is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Text(text) | Repr::Json(text) => text,
        }
    }

    /// The string; `None` if the value is of another JSON type.
    #[must_use]
    pub fn as_text(&self) -> Option<&SmolStr> {
        match &self.0 {
            Repr::Text(text) => Some(text),
            Repr::Json(_) => None,
        }
    }

    /// Whether this is a JSON string.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.as_text().is_some()
    }
}

impl fmt::Debug for WireText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Text(text) => write!(f, "{text:?}"),
            Repr::Json(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for WireText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for WireText {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<SmolStr> for WireText {
    fn from(text: SmolStr) -> Self {
        Self::text(text)
    }
}

/// Ties a reply to the client's message: the client's choice, echoed with its JSON type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MessageRef(pub WireText);

/// Names one join attempt of one topic: the client's choice, echoed with its JSON type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct JoinRef(pub WireText);

impl MessageRef {
    /// The string, or the JSON text of a ref that is no string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl JoinRef {
    /// The string, or the JSON text of a ref that is no string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<&str> for MessageRef {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<&str> for JoinRef {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// What a message carries: JSON text or raw bytes, as a slice of the frame it came in.
///
/// `Debug` prints the length only: payloads are never logged.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// One JSON value as UTF-8 text.
    ///
    /// Encoders copy it into the frame as it stands, so it must be valid JSON:
    /// [`Payload::serialize`] and [`Payload::from_json_text`] see to that.
    Json(Bytes),
    /// Raw bytes, from or for a V2 binary frame.
    Binary(Bytes),
}

impl Payload {
    /// The empty object, `{}`. Costs nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self::from_static_json("{}")
    }

    /// JSON that is part of the program. Costs nothing.
    #[must_use]
    pub const fn from_static_json(text: &'static str) -> Self {
        Self::Json(Bytes::from_static(text.as_bytes()))
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Json`] if the value does not serialize, a map with non-string keys for one.
    pub fn serialize(value: &(impl Serialize + ?Sized)) -> Result<Self, PayloadError> {
        Ok(Self::Json(serde_json::to_vec(value)?.into()))
    }

    /// Takes text that somebody else wrote, after checking that it is one JSON value.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Json`] if it is not.
    pub fn from_json_text(text: Bytes) -> Result<Self, PayloadError> {
        serde_json::from_slice::<&serde_json::value::RawValue>(&text)?;
        Ok(Self::Json(text))
    }

    /// Reads the JSON into a type.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Binary`] for raw bytes; [`PayloadError::Json`] if the JSON does not fit the
    /// type or nests deeper than 128 levels.
    pub fn deserialize<'a, T: Deserialize<'a>>(&'a self) -> Result<T, PayloadError> {
        match self {
            Self::Json(text) => Ok(serde_json::from_slice(text)?),
            Self::Binary(bytes) => Err(PayloadError::Binary { len: bytes.len() }),
        }
    }

    /// The JSON text or the raw bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
        }
    }

    /// Whether this is a JSON object, the only JSON that V2 lets a server push or broadcast.
    #[must_use]
    pub fn is_object(&self) -> bool {
        match self {
            Self::Json(text) => text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'),
            Self::Binary(_) => false,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(text) => write!(f, "Json({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// Why a payload could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// JSON was asked for and the payload is raw bytes.
    #[error("the payload is {len} raw bytes, not JSON")]
    Binary {
        /// Length of the payload in bytes.
        len: usize,
    },
    /// The JSON is malformed or of another shape.
    #[error("the payload's JSON does not fit")]
    Json(#[from] serde_json::Error),
}

/// What a client sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The join this message belongs to; many clients leave it out.
    pub join_ref: Option<JoinRef>,
    /// What the reply will be tied to; `None` if the client wants no reply.
    pub message_ref: Option<MessageRef>,
    /// The topic; not a string only if the client is at fault, and then it is never matched.
    pub topic: WireText,
    /// The event; a client's JSON value that is no string is here as its JSON text.
    pub event: SmolStr,
    /// Any JSON value, or bytes.
    pub payload: Payload,
}

/// What a server sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerMessage {
    /// A message to this one client, from a channel it has joined.
    Push {
        /// The channel's join.
        join_ref: Option<JoinRef>,
        /// The channel's topic.
        topic: WireText,
        /// The event.
        event: SmolStr,
        /// An object, or bytes.
        payload: Payload,
    },
    /// The answer to a client's message.
    Reply {
        /// The channel's join; `None` for heartbeats and unmatched topics.
        join_ref: Option<JoinRef>,
        /// The client's ref, echoed.
        message_ref: Option<MessageRef>,
        /// The message's topic, echoed.
        topic: WireText,
        /// `ok`, `error`, or another word.
        status: SmolStr,
        /// Any JSON value, or bytes.
        response: Payload,
    },
    /// A message to everybody on the topic.
    Broadcast {
        /// The topic.
        topic: WireText,
        /// The event.
        event: SmolStr,
        /// An object, or bytes.
        payload: Payload,
    },
    /// `phx_error`: the channel crashed, the client should rejoin.
    Error {
        /// The join that is over, as the client sent it.
        join_ref: Option<JoinRef>,
        /// The channel's topic.
        topic: WireText,
        /// `{"reason":"channel_crash"}`, whose real reason is not told to clients; or why the
        /// channel may not go on.
        payload: Payload,
    },
    /// `phx_close`: the channel ended as it should, the client should not rejoin.
    Close {
        /// The join that is over, as the client sent it.
        join_ref: Option<JoinRef>,
        /// The channel's topic.
        topic: WireText,
    },
}

impl ServerMessage {
    /// The `phx_error` of a crashed channel.
    #[must_use]
    pub fn channel_crash(join_ref: Option<JoinRef>, topic: impl Into<WireText>) -> Self {
        let payload = Payload::from_static_json(r#"{"reason":"channel_crash"}"#);
        Self::Error {
            join_ref,
            topic: topic.into(),
            payload,
        }
    }

    /// The topic it is about.
    #[must_use]
    pub fn topic(&self) -> &WireText {
        match self {
            Self::Push { topic, .. }
            | Self::Reply { topic, .. }
            | Self::Broadcast { topic, .. }
            | Self::Error { topic, .. }
            | Self::Close { topic, .. } => topic,
        }
    }
}
