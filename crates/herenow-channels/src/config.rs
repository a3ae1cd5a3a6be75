//! Limits and time-outs of sockets, validated as a whole.

use std::num::NonZero;
use std::time::Duration;

use herenow_protocol::JoinRefCheck;

use crate::dialect::Dialect;
use crate::rate::Rate;

/// The setting's name for [`SocketConfig::max_message_bytes`], as a client over it is told.
pub(crate) const MAX_MESSAGE_BYTES: &str = "socket.max_message_bytes";

/// Limits of one mount of sockets.
///
/// Every field is a bound that a client can run into; what happens then is said with it.
/// A config is checked as a whole when the sockets are built, see [`SocketConfig::validate`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SocketConfig {
    /// Largest WebSocket frame from a client, 8,000,000 bytes: as much as a message, so that every
    /// message may come in one frame. A larger one closes with 1009.
    pub max_frame_bytes: usize,
    /// Largest message put together from frames, 8,000,000 bytes. A larger one closes with 1009;
    /// over long poll it ends the session and is answered 408, with a text that names this.
    pub max_message_bytes: usize,
    /// Channels that one connection may have joined, 100. One more is refused with the reason
    /// `too many channels joined, the limit is 100 (socket.max_channels)`.
    pub max_channels: NonZero<usize>,
    /// Clients that may be on their way in at the same time, 4,096: handshakes that are checked,
    /// and joins that are not answered yet. While there are more, handshakes are answered 503 with
    /// a `retry-after` of 1 to 5 seconds at random.
    pub max_arrivals: NonZero<usize>,
    /// Handshakes that are let in at the same time, 64; the next ones wait for their turn, which
    /// lasts from the check of the client's token, for which the application may have to ask
    /// somebody, until the connection runs.
    pub max_checks: NonZero<usize>,
    /// Messages that a client may send, 10,000 a second and 20,000 at once. One more is answered
    /// with a reason that names the limit, and not handled; only a heartbeat and a leave are. A
    /// client that goes on is closed with 1008.
    pub message_rate: Rate,
    /// Joins that a client may send, 100 a second and 1,000 at once. One more is refused with a
    /// reason.
    pub join_rate: Rate,
    /// Longest topic that can be joined, 1,024 bytes. A longer one is refused with a reason.
    pub max_topic_bytes: usize,
    /// Which join refs count as current; by default one that is missing always does.
    pub join_ref_check: JoinRefCheck,
    /// Silence after which a connection is closed with 1002, 60 seconds. Every frame received
    /// restarts it; frames sent do not.
    pub idle_timeout: Duration,
    /// Time from the first byte of a message to its last, 30 seconds; then a connection is closed
    /// with 1008. Frames between its fragments do not change that. Time in which the client is not
    /// read, because its channels are busy, does not count.
    pub message_timeout: Duration,
    /// Messages that may wait for a slow reader, 16,384. One more closes with 1008.
    pub max_queue_messages: NonZero<usize>,
    /// Bytes that may wait for a slow reader, 8 MiB. More close with 1008. A presence state with
    /// which the queue would be long waits outside of it.
    pub max_queue_bytes: usize,
    /// Waiting bytes from which presence diffs of a topic are folded into one, 256 KiB.
    pub fold_queue_bytes: usize,
    /// Client messages that may wait for one channel whose callback has not finished, 64. While
    /// they do, nothing more is read from the connection.
    pub max_channel_queue: NonZero<usize>,
    /// Messages from other tasks, and intercepted broadcasts, that may wait for the channels of
    /// one connection, 4,096. Tasks get an error for one more; a broadcast closes with 1008.
    pub max_infos: NonZero<usize>,
    /// Time that a channel's `terminate` may take, and that a duplicate join waits for the channel
    /// it replaces, 5 seconds.
    pub terminate_timeout: Duration,
    /// Time that the answer to a close frame may take before the connection is cut, 5 seconds.
    pub close_timeout: Duration,
    /// Sub-protocols to choose from, in order of preference; empty: the client's are ignored.
    pub subprotocols: Vec<String>,
    /// What the clients do otherwise than Phoenix's; here, because every mailbox has the config.
    pub(crate) dialect: Option<&'static dyn Dialect>,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            max_frame_bytes: 8_000_000,
            max_message_bytes: 8_000_000,
            max_channels: const { NonZero::new(100).expect("100 is not zero") },
            max_arrivals: const { NonZero::new(4_096).expect("4096 is not zero") },
            max_checks: const { NonZero::new(64).expect("64 is not zero") },
            message_rate: Rate::new(10_000, 20_000),
            join_rate: Rate::new(100, 1_000),
            max_topic_bytes: 1024,
            join_ref_check: JoinRefCheck::default(),
            idle_timeout: Duration::from_secs(60),
            message_timeout: Duration::from_secs(30),
            max_queue_messages: const { NonZero::new(16_384).expect("16384 is not zero") },
            max_queue_bytes: 8 << 20,
            fold_queue_bytes: 256 << 10,
            max_channel_queue: const { NonZero::new(64).expect("64 is not zero") },
            max_infos: const { NonZero::new(4_096).expect("4096 is not zero") },
            terminate_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            subprotocols: Vec::new(),
            dialect: None,
        }
    }
}

/// Why a [`SocketConfig`] or the routes beside it are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A limit is below what makes sense.
    #[error("{field} is {value}, it must be at least {min}")]
    TooSmall {
        /// The field of the config.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The least it may be.
        min: usize,
    },
    /// Folding would begin only after the connection was closed.
    #[error("fold_queue_bytes is {fold}, it must be at most max_queue_bytes, {max}")]
    FoldAboveQueue {
        /// `fold_queue_bytes`.
        fold: usize,
        /// `max_queue_bytes`.
        max: usize,
    },
    /// A duration must not be zero.
    #[error("{field} is zero, it must be longer")]
    ZeroDuration {
        /// The field of the config.
        field: &'static str,
    },
    /// A sub-protocol is not a token that a header can carry.
    #[error("subprotocols has {value:?}, which is not a header token")]
    Subprotocol {
        /// The entry.
        value: String,
    },
}

impl SocketConfig {
    /// Checks all fields, alone and against one another.
    ///
    /// # Errors
    ///
    /// The first rule broken, with the value and the limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least = |field, value, min| {
            if value < min {
                Err(ConfigError::TooSmall { field, value, min })
            } else {
                Ok(())
            }
        };
        at_least("max_frame_bytes", self.max_frame_bytes, 125)?;
        at_least("max_message_bytes", self.max_message_bytes, 125)?;
        at_least("max_topic_bytes", self.max_topic_bytes, 1)?;
        at_least("message_rate.burst", self.message_rate.burst as usize, 1)?;
        at_least("join_rate.burst", self.join_rate.burst as usize, 1)?;
        at_least("max_queue_bytes", self.max_queue_bytes, 1024)?;
        if self.fold_queue_bytes > self.max_queue_bytes {
            return Err(ConfigError::FoldAboveQueue {
                fold: self.fold_queue_bytes,
                max: self.max_queue_bytes,
            });
        }
        let durations = [
            ("idle_timeout", self.idle_timeout),
            ("message_timeout", self.message_timeout),
            ("terminate_timeout", self.terminate_timeout),
            ("close_timeout", self.close_timeout),
        ];
        for (field, duration) in durations {
            if duration.is_zero() {
                return Err(ConfigError::ZeroDuration { field });
            }
        }
        match self.subprotocols.iter().find(|value| !is_token(value)) {
            Some(value) => Err(ConfigError::Subprotocol {
                value: value.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Tells whether `value` can stand in `sec-websocket-protocol` (RFC 7230, token).
fn is_token(value: &str) -> bool {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || MARKS.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soc_01_a_config_is_refused_with_value_and_limit() {
        assert!(SocketConfig::default().validate().is_ok());
        let config = SocketConfig {
            max_frame_bytes: 10,
            ..SocketConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "max_frame_bytes is 10, it must be at least 125");
        let config = SocketConfig {
            fold_queue_bytes: usize::MAX,
            ..SocketConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("it must be at most max_queue_bytes, 8388608"),
            "{error}"
        );
        let config = SocketConfig {
            idle_timeout: Duration::ZERO,
            ..SocketConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "idle_timeout is zero, it must be longer");
    }

    #[test]
    fn x_28_a_sub_protocol_that_no_header_can_carry_is_refused() {
        let config = SocketConfig {
            subprotocols: vec!["a, b".to_owned()],
            ..SocketConfig::default()
        };
        assert!(matches!(
            config.validate(),
            Err(ConfigError::Subprotocol { .. })
        ));
    }
}
