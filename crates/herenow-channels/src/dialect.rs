//! [`Dialect`]: what the clients of a mount do otherwise than Phoenix's.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZero;

use herenow_protocol::{DecodeError, EncodeError, Encoded, Message, Payload, Serializer};

/// What a message that is not handled is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverLimit<'a> {
    /// A join: [`SocketConfig::max_channels`](crate::SocketConfig::max_channels).
    Channels,
    /// A join: [`SocketConfig::max_topic_bytes`](crate::SocketConfig::max_topic_bytes).
    TopicBytes,
    /// A join: [`SocketConfig::join_rate`](crate::SocketConfig::join_rate).
    JoinRate,
    /// Any message: [`SocketConfig::message_rate`](crate::SocketConfig::message_rate).
    MessageRate {
        /// Its event.
        event: &'a str,
        /// Whether its client waits for an answer, as far as its channel has said; see
        /// [`Socket::expect_no_answers`](crate::Socket::expect_no_answers).
        awaits_answer: bool,
    },
}

/// What a client is told of a message that is over a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Told {
    /// An error with this reason.
    Reason(String),
    /// An error with this reason; then its connection is closed with 1008.
    LastReason(String),
    /// Nothing.
    Nothing,
}

/// How the clients of a mount differ from Phoenix's: in frames, and in what a topic means.
///
/// The *topic* is what a client joins and finds in every frame; the *room* is the topic at the
/// pubsub, which is all that channels, presences and other nodes know. By default they are the
/// same. A room has one topic, so that a frame is encoded once for all clients in it.
///
/// Given to [`Sockets::dialect`](crate::Sockets::dialect). The methods run for every frame: they
/// may not block, and must take whatever a stranger sends.
pub trait Dialect: fmt::Debug + Send + Sync + 'static {
    /// Names the dialect among those of the process, Phoenix's own being 0.
    fn number(&self) -> NonZero<u8>;

    /// Returns the room that a join of `topic` with this payload enters.
    fn room<'a>(&self, topic: &'a str, payload: &Payload) -> Cow<'a, str> {
        let _ = payload;
        Cow::Borrowed(topic)
    }

    /// Returns the topic by which clients know `room`.
    fn topic<'a>(&self, room: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(room)
    }

    /// Reads a client's frame.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], after which [`Dialect::forgives`] decides.
    fn decode(&self, serializer: Serializer, frame: &Encoded) -> Result<Message, DecodeError> {
        serializer.decode(frame)
    }

    /// Tells whether a frame that is no message is dropped and counted; else, by default, its
    /// connection is closed.
    fn forgives(&self) -> bool {
        false
    }

    /// Returns what the client of a message that is over a limit is told; `text` names value and
    /// limit.
    fn over_limit(&self, limit: OverLimit<'_>, text: String) -> Told {
        let _ = limit;
        Told::Reason(text)
    }

    /// Writes what was broadcast in a room, for its topic; `None` if it is nothing to these
    /// clients.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; it is logged and counted, and nobody gets the broadcast.
    fn encode_broadcast(
        &self,
        serializer: Serializer,
        topic: &str,
        event: &str,
        payload: &Payload,
    ) -> Result<Option<Encoded>, EncodeError> {
        serializer.encode_broadcast(topic, event, payload).map(Some)
    }
}
