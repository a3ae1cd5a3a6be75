//! Close codes, and the settings of a connection.

use std::fmt;

/// A WebSocket close code.
///
/// `phoenix.js` reconnects after every code but [`CloseCode::NORMAL`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The end was meant to be final; clients do not come back.
    pub const NORMAL: Self = Self(1000);
    /// The socket's id was disconnected.
    pub const GOING_AWAY: Self = Self(1001);
    /// The client broke the WebSocket protocol, or was silent for too long.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// Text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// The client does not keep up with what it subscribed to, or is over another limit.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A frame or message over its limit.
    pub const TOO_BIG: Self = Self(1009);
    /// A frame that is no message ([`crate::DecodeError`]), or a panic in the socket's code.
    pub const INTERNAL: Self = Self(1011);
    /// The server drains; clients should come back, to another node.
    pub const RESTART: Self = Self(1012);

    /// The code that answers a client's close frame.
    ///
    /// 1000 for the codes a client may use (1000 to 1003, 1007 to 1011, 3000 and up) and for none
    /// at all; 1002 for others.
    #[must_use]
    pub fn answer_to(code: Option<Self>) -> Self {
        match code.map_or(1000, |code| code.0) {
            1000..=1003 | 1007..=1011 | 3000.. => Self::NORMAL,
            _ => Self::PROTOCOL_ERROR,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which join refs count as current, on leaves and on other events.
///
/// The reference tightened this over time, and each time broke clients; see wire-protocol of the
/// versions named here. What does not count is dropped without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum JoinRefCheck {
    /// Equal, or one of the two is missing. Accepts every client the reference ever accepted,
    /// and still drops what belongs to an earlier join.
    #[default]
    EitherMissing,
    /// Equal, or the message has none (Phoenix 1.8.12 and later).
    IncomingMissing,
    /// Equal, or the join had none (Phoenix 1.8.3 to 1.8.11).
    RecordedMissing,
    /// As [`JoinRefCheck::RecordedMissing`] for leaves, anything for other events (Phoenix 1.6.16
    /// to 1.8.2).
    LeavesOnly,
    /// As [`JoinRefCheck::EitherMissing`] for leaves, anything for other events (what the server of
    /// Supabase Realtime does, whose clients count on it).
    LeavesUnlessMissing,
    /// Everything counts (Phoenix before 1.6.16).
    Never,
}

/// Settings of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SocketConfig {
    /// Most topics joined at once; 100.
    pub max_channels: usize,
    /// Longest topic that can be joined, in bytes; 1024.
    pub max_topic_bytes: usize,
    /// Which join refs count as current.
    pub join_ref_check: JoinRefCheck,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            max_channels: 100,
            max_topic_bytes: 1024,
            join_ref_check: JoinRefCheck::EitherMissing,
        }
    }
}
