//! Plain counters of one mount of sockets, free of any exporter.

use std::sync::atomic::{AtomicU64, Ordering};

use herenow_pubsub::Histogram;

/// A number that only grows, or a gauge that follows a count.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Returns the value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the sockets of one mount have done so far.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections open now.
    pub connections: Counter,
    /// Channels joined now.
    pub channels: Counter,
    /// Connections accepted.
    pub connects: Counter,
    /// Connections refused before they began: origin, version, `connect`.
    pub refused_connects: Counter,
    /// Connections refused because too many clients were on their way in.
    pub busy_connects: Counter,
    /// Connections refused because [`LongPollConfig::max_sessions`] lived.
    ///
    /// [`LongPollConfig::max_sessions`]: crate::LongPollConfig::max_sessions
    pub over_max_sessions: Counter,
    /// Joins refused because of [`SocketConfig::max_channels`].
    ///
    /// [`SocketConfig::max_channels`]: crate::SocketConfig::max_channels
    pub over_max_channels: Counter,
    /// Joins refused because of [`SocketConfig::max_topic_bytes`].
    ///
    /// [`SocketConfig::max_topic_bytes`]: crate::SocketConfig::max_topic_bytes
    pub over_topic_bytes: Counter,
    /// Connections closed because of [`SocketConfig::max_message_bytes`].
    ///
    /// [`SocketConfig::max_message_bytes`]: crate::SocketConfig::max_message_bytes
    pub over_message_bytes: Counter,
    /// Connections closed because of [`SocketConfig::max_frame_bytes`].
    ///
    /// [`SocketConfig::max_frame_bytes`]: crate::SocketConfig::max_frame_bytes
    pub over_frame_bytes: Counter,
    /// Connections closed because of [`SocketConfig::message_timeout`].
    ///
    /// [`SocketConfig::message_timeout`]: crate::SocketConfig::message_timeout
    pub late_messages: Counter,
    /// Requests refused because of [`LongPollConfig::max_body_bytes`].
    ///
    /// [`LongPollConfig::max_body_bytes`]: crate::LongPollConfig::max_body_bytes
    pub over_body_bytes: Counter,
    /// Requests given up because of [`LongPollConfig::body_timeout`].
    ///
    /// [`LongPollConfig::body_timeout`]: crate::LongPollConfig::body_timeout
    pub late_bodies: Counter,
    /// Joins accepted.
    pub joins: Counter,
    /// Joins refused: no route, too many channels, the channel's own refusal.
    pub refused_joins: Counter,
    /// Callbacks that panicked.
    pub crashes: Counter,
    /// Messages received from clients.
    pub messages_in: Counter,
    /// Bytes of those messages.
    pub bytes_in: Counter,
    /// Frames written to clients.
    pub frames_out: Counter,
    /// Bytes written to clients.
    pub bytes_out: Counter,
    /// Writes that carried them.
    pub writes: Counter,
    /// Messages dropped because their join ref is of an earlier join.
    pub stale_messages: Counter,
    /// Presence diffs that were folded for a slow reader.
    pub folded_diffs: Counter,
    /// Connections closed because their reader was too slow.
    pub slow_readers: Counter,
    /// Connections closed because they were silent for too long.
    pub idle_timeouts: Counter,
    /// Connections closed because a channel of theirs took no messages for too long.
    pub stuck_channels: Counter,
    /// Connections closed because of what they sent: malformed, too big, against the protocol.
    pub client_errors: Counter,
    /// Messages of other tasks that a full or closed connection did not take.
    pub dropped_infos: Counter,
    /// Frames that could not be encoded.
    pub encode_errors: Counter,
    /// Binary frames that were not sent because their client is on long poll, which carries text.
    pub binary_frames_lost: Counter,
    /// Messages refused because they were over [`SocketConfig::message_rate`].
    ///
    /// [`SocketConfig::message_rate`]: crate::SocketConfig::message_rate
    pub limited_messages: Counter,
    /// Joins refused because they were over [`SocketConfig::join_rate`].
    ///
    /// [`SocketConfig::join_rate`]: crate::SocketConfig::join_rate
    pub limited_joins: Counter,
    /// Connections closed because their clients sent far more than
    /// [`SocketConfig::message_rate`] allows, or joins over [`SocketConfig::join_rate`] where their
    /// dialect has it so.
    ///
    /// [`SocketConfig::message_rate`]: crate::SocketConfig::message_rate
    /// [`SocketConfig::join_rate`]: crate::SocketConfig::join_rate
    pub floods: Counter,
    /// How long accepted handshakes took, `connect` among it.
    pub handshakes: Histogram,
    /// How long it took from a join to its reply, whatever it said.
    pub join_times: Histogram,
}

impl Metrics {
    /// Counts one write to a client, and the frames that it finished.
    pub(crate) fn count_write(&self, n_bytes: usize, n_frames: usize) {
        self.writes.increment();
        self.bytes_out.add(n_bytes as u64);
        self.frames_out.add(n_frames as u64);
    }
}
