//! What the state asks of its host, and what the host tells it.

use smol_str::SmolStr;

#[cfg(doc)]
use super::SocketState;
use crate::message::{JoinRef, Message, MessageRef, Payload, ServerMessage};

/// Names one life of a channel on one socket; counts up from 0 and is not used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChannelId(pub(super) u64);

impl ChannelId {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// What the host has to do about a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this, and nothing else.
    Reply(ServerMessage),
    /// Answer a join that is over a limit with an error, and do nothing else.
    Refuse {
        /// What it is over.
        limit: JoinLimit,
        /// Names value and limit.
        reason: String,
        /// The join, untouched.
        message: Message,
    },
    /// Start a channel and say how it went with [`SocketState::on_joined`].
    Join(JoinRequest),
    /// Hand it to the channel.
    Deliver(Delivery),
    /// Let the channel finish what it has been given, then say so with [`SocketState::on_left`].
    Leave(LeaveRequest),
    /// Keep it until the channel's join is settled, then give it to
    /// [`SocketState::handle_message`] again, in order. How many to keep is the host's to bound.
    Hold {
        /// The channel that is joining.
        slot: ChannelId,
        /// The message, untouched.
        message: Message,
    },
    /// Nothing: the message belongs to an earlier join of its topic.
    IgnoreStale {
        /// The channel that has the topic now.
        slot: ChannelId,
    },
}

/// What a join may be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinLimit {
    /// [`SocketConfig::max_channels`](super::SocketConfig::max_channels).
    Channels,
    /// [`SocketConfig::max_topic_bytes`](super::SocketConfig::max_topic_bytes).
    TopicBytes,
}

/// A join to be decided by a channel.
#[derive(Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// The new channel.
    pub slot: ChannelId,
    /// The topic to join, routed already.
    pub topic: SmolStr,
    /// What the channel's own pushes and replies carry: the join ref or, for clients that send
    /// none, the ref of the join message.
    pub join_ref: Option<JoinRef>,
    /// The join's parameters.
    pub payload: Payload,
    /// The channel that had the topic. The host ends it (reason: duplicate join) before it starts
    /// the new one, and sends what it still had queued between the two messages of
    /// [`JoinSettled`].
    pub replaces: Option<ChannelId>,
}

/// An event for a joined channel.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The channel.
    pub slot: ChannelId,
    /// The event, never `phx_join` or `phx_leave`.
    pub event: SmolStr,
    /// The payload.
    pub payload: Payload,
    /// What a reply is tied to; `None` if the client wants none.
    pub message_ref: Option<MessageRef>,
}

/// A client's wish to leave a channel.
#[derive(Debug, PartialEq, Eq)]
pub struct LeaveRequest {
    /// The channel.
    pub slot: ChannelId,
    /// What the reply is tied to.
    pub message_ref: Option<MessageRef>,
}

/// How a join went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// Accepted, with the response.
    Joined(Payload),
    /// Refused, with the response.
    Refused(Payload),
    /// The channel panicked or could not be started.
    Crashed,
}

/// What to send when a join is settled.
#[derive(Debug, PartialEq, Eq)]
pub struct JoinSettled {
    /// The reply, before anything else of the topic.
    pub reply: ServerMessage,
    /// The `phx_close` of the channel that was replaced, if there was one; after what that
    /// channel had still queued and before what the new one pushes.
    pub replaced: Option<ServerMessage>,
}
