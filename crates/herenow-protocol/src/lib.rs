//! The Phoenix channel protocol without IO.
//!
//! What travels between a client and a server ([`Message`], [`ServerMessage`]), how it is written
//! ([`Serializer`]), which rules a connection follows ([`SocketState`], [`LongPollSession`]), and
//! how a client folds presence messages into a list ([`PresenceFold`]). Nothing here holds a
//! socket, a task or a clock: bytes and times are handed in, and what there is to do is handed
//! back. The hosts are `herenow-channels` on the server and `herenow-client`.
//!
//! No byte of a stranger makes anything in this crate panic, recurse without end, or keep more
//! memory than the frame it came in and the limits of the configurations.
#![warn(clippy::wildcard_enum_match_arm)]

mod message;
pub mod event;
mod serializer;
mod socket;
mod longpoll;
mod presence;

pub use longpoll::{
    BatchError, BufferError, LongPollConfig, LongPollSession, PollAnswer, PollId, PollStep,
    split_batch,
};
pub use message::{JoinRef, Message, MessageRef, Payload, PayloadError, ServerMessage, WireText};
pub use presence::{
    Change, Entry, FoldError, Folded, Meta, PresenceDiff, PresenceFold, PresenceState,
};
pub use serializer::{DecodeError, EncodeError, Encoded, FrameKind, Serializer, VersionError};
pub use socket::{
    Action, ChannelId, CloseCode, Delivery, JoinLimit, JoinOutcome, JoinRefCheck, JoinRequest,
    JoinSettled, LeaveRequest, SocketConfig, SocketState,
};
