//! The two wire formats, version choice, and what can be wrong with a frame.
//!
//! [`Serializer`] is which of the two a connection speaks. Servers use [`Serializer::decode_text`],
//! [`Serializer::decode_binary`] and the `encode_*` functions; clients use
//! [`Serializer::encode_client`] and [`Serializer::decode_server`].

mod parts;
mod server;
mod v1;
mod v2;

use bytes::Bytes;

pub(crate) use self::parts::{find, object, string};

use crate::message::{JoinRef, Message, MessageRef, Payload, ServerMessage};

/// Longest ref a client may choose, in bytes: what a V2 binary frame can echo.
pub(crate) const MAX_REF_BYTES: usize = 255;
/// Deepest nesting of arrays and objects in a frame, the frame's own array included.
pub(crate) const MAX_DEPTH: usize = 128;

/// Which wire format a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Serializer {
    /// `vsn=1.0.0`: JSON objects, without binary payloads.
    V1,
    /// `vsn=2.0.0`: JSON arrays, and binary frames for binary payloads.
    V2,
}

/// Whether a frame is text or binary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

/// One frame, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// How to send it.
    pub kind: FrameKind,
    /// What to send; shared by its clones.
    pub bytes: Bytes,
}

impl Encoded {
    /// A text frame.
    #[must_use]
    pub fn text(bytes: impl Into<Bytes>) -> Self {
        Self {
            kind: FrameKind::Text,
            bytes: bytes.into(),
        }
    }

    /// A binary frame.
    #[must_use]
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self {
            kind: FrameKind::Binary,
            bytes: bytes.into(),
        }
    }
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({} bytes)", self.kind, self.bytes.len())
    }
}

/// Why a frame is not a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Text that is not UTF-8.
    #[error("{field} is not UTF-8")]
    Utf8 {
        /// Which part: `frame`, or a field of a binary frame.
        field: &'static str,
    },
    /// Not JSON, or not the array or object the format wants.
    ///
    /// Its text has no part of the frame, which may be a secret.
    #[error("the frame is not the JSON of a message: line {} column {}", .0.line(), .0.column())]
    Json(#[from] serde_json::Error),
    /// An array with too few elements.
    #[error("the frame has {len} elements, it must have {min}")]
    TooFewElements {
        /// How many there are.
        len: usize,
        /// How many there must be.
        min: usize,
    },
    /// An object without a key that must be there.
    #[error("the frame has no `{field}`")]
    MissingField {
        /// The missing key.
        field: &'static str,
    },
    /// Arrays and objects nested too deep.
    #[error("the frame nests deeper than {max} levels")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// A field over its limit.
    #[error("{field} is {len} bytes, the limit is {max}")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A binary frame whose first byte names no kind that may come from this side.
    #[error("binary frame of unknown kind {kind}")]
    UnknownKind {
        /// The first byte.
        kind: u8,
    },
    /// A binary frame that ends before its header or its fields do.
    #[error("binary frame of {len} bytes ends before its fields, which need {need}")]
    Truncated {
        /// Length of the frame in bytes.
        len: usize,
        /// Length that header and fields would need.
        need: usize,
    },
}

/// Why a message cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field of a binary frame over 255 bytes.
    #[error("{field} is {len} bytes, the limit is {max}")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A V2 push or broadcast must carry an object or bytes.
    #[error("the payload of event `{event}` is not a JSON object")]
    PayloadNotObject {
        /// The event.
        event: String,
    },
    /// V1 has no binary frames.
    #[error("the payload is {len} raw bytes, which version 1 cannot carry")]
    BinaryPayload {
        /// Length of the payload in bytes.
        len: usize,
    },
}

/// A `vsn` parameter that names no version we speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocol version {version:?} is not supported, only ~> 1.0.0 and ~> 2.0.0 are")]
pub struct VersionError {
    /// What the client asked for.
    pub version: String,
}

impl Serializer {
    /// Chooses the format by the `vsn` parameter; none means 1.0.0.
    ///
    /// Any `1.0.x` is V1 and any `2.0.x` is V2, as the reference's `~> 1.0.0` and `~> 2.0.0`.
    ///
    /// # Errors
    ///
    /// [`VersionError`] for anything else; the connection is then refused with 403.
    pub fn negotiate(vsn: Option<&str>) -> Result<Self, VersionError> {
        let Some(vsn) = vsn else { return Ok(Self::V1) };
        match parts::parse_patch_release(vsn) {
            Some(("1", "0")) => Ok(Self::V1),
            Some(("2", "0")) => Ok(Self::V2),
            Some(_) | None => Err(VersionError {
                version: vsn.to_owned(),
            }),
        }
    }

    /// Reads a text frame of a client.
    ///
    /// The payload is a slice of `frame`. Costs one pass over the frame.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the connection is then closed with [`crate::CloseCode::INTERNAL`].
    pub fn decode_text(self, frame: &Bytes) -> Result<Message, DecodeError> {
        match self {
            Self::V1 => v1::decode(frame),
            Self::V2 => v2::decode_text(frame),
        }
    }

    /// Reads a binary frame of a client: kind 0 in V2; JSON text in V1, which ignores the kind.
    ///
    /// # Errors
    ///
    /// As [`Serializer::decode_text`].
    pub fn decode_binary(self, frame: &Bytes) -> Result<Message, DecodeError> {
        match self {
            Self::V1 => v1::decode(frame),
            Self::V2 => v2::decode_push(frame),
        }
    }

    /// Reads a frame of a client.
    ///
    /// # Errors
    ///
    /// As [`Serializer::decode_text`].
    pub fn decode(self, frame: &Encoded) -> Result<Message, DecodeError> {
        match frame.kind {
            FrameKind::Text => self.decode_text(&frame.bytes),
            FrameKind::Binary => self.decode_binary(&frame.bytes),
        }
    }

    /// Writes a message of a server.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], each the sender's fault.
    pub fn encode(self, message: &ServerMessage) -> Result<Encoded, EncodeError> {
        match self {
            Self::V1 => v1::encode(message),
            Self::V2 => v2::encode(message),
        }
    }

    /// Writes a push to one client without building a [`ServerMessage`].
    ///
    /// # Errors
    ///
    /// [`EncodeError`], each the sender's fault.
    pub fn encode_push(
        self,
        join_ref: Option<&JoinRef>,
        topic: &str,
        event: &str,
        payload: &Payload,
    ) -> Result<Encoded, EncodeError> {
        match self {
            Self::V1 => v1::encode_push(topic.into(), event, payload),
            Self::V2 => v2::encode_push(join_ref, topic.into(), event, payload),
        }
    }

    /// Writes a broadcast: one frame for every client of the topic, in one allocation.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], each the sender's fault.
    pub fn encode_broadcast(
        self,
        topic: &str,
        event: &str,
        payload: &Payload,
    ) -> Result<Encoded, EncodeError> {
        match self {
            Self::V1 => v1::encode_push(topic.into(), event, payload),
            Self::V2 => v2::encode_broadcast(topic.into(), event, payload),
        }
    }

    /// Writes a reply without building a [`ServerMessage`].
    ///
    /// # Errors
    ///
    /// [`EncodeError`], each the sender's fault.
    pub fn encode_reply(
        self,
        join_ref: Option<&JoinRef>,
        message_ref: Option<&MessageRef>,
        topic: &str,
        status: &str,
        response: &Payload,
    ) -> Result<Encoded, EncodeError> {
        match self {
            Self::V1 => v1::encode_reply(message_ref, topic.into(), status, response),
            Self::V2 => v2::encode_reply(join_ref, message_ref, topic.into(), status, response),
        }
    }

    /// What stands before and after the JSON object of a push: `head + payload + tail` is the
    /// frame.
    ///
    /// For one body that goes to many clients, each with its own join, without being copied.
    #[must_use]
    pub fn push_envelope(
        self,
        join_ref: Option<&JoinRef>,
        topic: &str,
        event: &str,
    ) -> (Vec<u8>, &'static [u8]) {
        match self {
            Self::V1 => (v1::push_head(topic.into(), event), v1::PUSH_TAIL),
            Self::V2 => (v2::push_head(join_ref, topic.into(), event), v2::PUSH_TAIL),
        }
    }

    /// Writes a message of a client.
    ///
    /// # Errors
    ///
    /// [`EncodeError::FieldTooLong`] or [`EncodeError::BinaryPayload`], for binary payloads only.
    pub fn encode_client(self, message: &Message) -> Result<Encoded, EncodeError> {
        match self {
            Self::V1 => v1::encode_client(message),
            Self::V2 => v2::encode_client(message),
        }
    }

    /// Reads a frame of a server.
    ///
    /// A message without join ref that is neither reply, error nor close is read as a broadcast:
    /// in V1, which writes no join ref, that includes every push.
    ///
    /// # Errors
    ///
    /// As [`Serializer::decode_text`].
    pub fn decode_server(self, frame: &Encoded) -> Result<ServerMessage, DecodeError> {
        match (self, frame.kind) {
            (Self::V1, _) => server::classify(v1::decode(&frame.bytes)?, self),
            (Self::V2, FrameKind::Text) => server::classify(v2::decode_text(&frame.bytes)?, self),
            (Self::V2, FrameKind::Binary) => v2::decode_server_binary(&frame.bytes),
        }
    }
}
