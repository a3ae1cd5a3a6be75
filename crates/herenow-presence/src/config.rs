//! [`PresenceConfig`]: every number of the presence system, with its default.

use std::num::NonZero;
use std::time::Duration;

use herenow_core::{ShardConfig, first_match};

/// The settings of one [`Presence`](crate::Presence). Start from the default and change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PresenceConfig {
    /// What this presence system is called between nodes; nodes of one cluster agree on it.
    /// Default `presence`.
    pub name: String,
    /// Parts that all topics are spread over, each with tasks of its own. A cluster agrees on it.
    /// Default 64.
    pub n_shards: NonZero<u16>,
    /// The settings of each shard: heartbeats, how long nodes may be silent, how deltas are
    /// batched, and on which topics a disconnect has a [`Grace`](crate::Grace). A `hash_seed` of 0
    /// is replaced by a random one.
    pub shard: ShardConfig,
    /// The longest topic in bytes. Default 512.
    pub max_topic_bytes: usize,
    /// The longest key in bytes. Default 256.
    pub max_key_bytes: usize,
    /// The largest meta in bytes of JSON. Default 8 KiB.
    pub max_meta_bytes: usize,
    /// The most presences under one key of one topic, on all nodes. Default 256.
    pub max_metas_per_key: usize,
    /// Writes that wait for one shard; the next ones wait for room. Default 4,096.
    pub max_queued: NonZero<u32>,
    /// How long a write may take in all before it is an error. Default 5 s.
    pub write_deadline: Duration,
    /// How long diffs wait to be sent as one where no pattern of `windows` matches.
    pub window: Window,
    /// Windows by topic pattern, the first match counts. `room:*` is a prefix, others are exact.
    pub windows: Vec<(String, Window)>,
    /// What is done in large topics where no pattern of `big_rooms` matches.
    pub big_room: BigRoom,
    /// The same by topic pattern, as `windows`.
    pub big_rooms: Vec<(String, BigRoom)>,
    /// Changes of one topic that wait for a window; more end the window early. Default 16,384.
    pub max_pending_changes: usize,
    /// How long a look-up of [`Fetch`](crate::Fetch) may hold a diff or a list. Default 1 s.
    pub fetch_deadline: Duration,
    /// How long those who list an unchanged topic share one look-up; one that failed or is
    /// incomplete for no longer than `fetch_deadline`. Default 10 s.
    pub fetch_max_age: Duration,
    /// Look-ups that run at the same time; the next ones wait, within their deadline. Default 32.
    pub max_fetches: NonZero<u32>,
    /// How long one call of [`HandleMetas`](crate::HandleMetas) may take. Default 5 s.
    pub observe_deadline: Duration,
    /// Diffs that wait for `handle_metas` before those of one topic are folded. Default 1,024.
    pub max_observed: usize,
    /// Diffs that wait in a [`Watch`](crate::Watch) before it starts over. Default 1,024.
    pub max_watched: usize,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            name: "presence".into(),
            n_shards: NonZero::new(64).expect("64 is not zero"),
            shard: ShardConfig::default(),
            max_topic_bytes: 512,
            max_key_bytes: 256,
            max_meta_bytes: 8 * 1024,
            max_metas_per_key: 256,
            max_queued: NonZero::new(4096).expect("4096 is not zero"),
            write_deadline: Duration::from_secs(5),
            window: Window::default(),
            windows: Vec::new(),
            big_room: BigRoom::default(),
            big_rooms: Vec::new(),
            max_pending_changes: 16_384,
            fetch_deadline: Duration::from_secs(1),
            fetch_max_age: Duration::from_secs(10),
            max_fetches: NonZero::new(32).expect("32 is not zero"),
            observe_deadline: Duration::from_secs(5),
            max_observed: 1024,
            max_watched: 1024,
        }
    }
}

impl PresenceConfig {
    /// Checks that the settings fit together.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let limits = [
            (
                "max_topic_bytes",
                self.max_topic_bytes,
                herenow_core::MAX_TOPIC_BYTES,
            ),
            (
                "max_key_bytes",
                self.max_key_bytes,
                herenow_core::MAX_KEY_BYTES,
            ),
            (
                "max_meta_bytes",
                self.max_meta_bytes,
                herenow_core::MAX_META_BYTES,
            ),
            ("max_metas_per_key", self.max_metas_per_key, usize::MAX),
        ];
        for (field, value, max) in limits {
            if value == 0 || value > max {
                return Err(ConfigError::OutOfRange { field, value, max });
            }
        }
        let big_rooms = self.big_rooms.iter().map(|(_, big_room)| big_room);
        for big_room in big_rooms.chain([&self.big_room]) {
            let (from, until) = (big_room.summary_from, big_room.summary_until);
            if until > from {
                return Err(ConfigError::SummaryRange { from, until });
            }
        }
        self.shard.validate()?;
        Ok(())
    }

    /// Returns the window of a topic: that of the first pattern that matches it.
    pub(crate) fn window_of(&self, topic: &str) -> Window {
        *first_match(&self.windows, topic).unwrap_or(&self.window)
    }

    /// Returns what is done in a topic when it is large.
    pub(crate) fn big_room_of(&self, topic: &str) -> &BigRoom {
        first_match(&self.big_rooms, topic).unwrap_or(&self.big_room)
    }
}

/// How long the diffs of a topic wait to be sent as one, by its number of subscribers.
///
/// Without it, N joins in a room of N cost N² messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// Up to this many subscribers every diff leaves at once. Default 100.
    pub free_subscribers: usize,
    /// Above that a diff waits this long for each subscriber. Default 50 µs.
    pub per_subscriber: Duration,
    /// And never longer than this. Default 250 ms.
    pub max: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            free_subscribers: 100,
            per_subscriber: Duration::from_micros(50),
            max: Duration::from_millis(250),
        }
    }
}

impl Window {
    /// Returns a window in which every diff leaves at once.
    pub fn none() -> Self {
        Self {
            free_subscribers: usize::MAX,
            ..Self::default()
        }
    }

    /// Returns how long the diff of a topic with this many subscribers waits.
    pub fn length(&self, n_subscribers: usize) -> Duration {
        if n_subscribers <= self.free_subscribers {
            return Duration::ZERO;
        }
        let n_subscribers = u32::try_from(n_subscribers).unwrap_or(u32::MAX);
        self.per_subscriber
            .saturating_mul(n_subscribers)
            .min(self.max)
    }
}

/// What is done in a topic with very many presences, so that those who join it cost little.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BigRoom {
    /// Bytes of JSON from which a list is given in parts, a `presence_state` and `presence_diff`s
    /// after it: what changed since it was last rendered is a part of its own. Default 64 KiB.
    pub parts_from_bytes: usize,
    /// The size from which a part is full; one more key is put into the next. Default 256 KiB.
    pub part_bytes: NonZero<usize>,
    /// Presences from which clients that asked for modes get a count and a sample instead of the
    /// list. Default 10,000.
    pub summary_from: usize,
    /// The list is back with fewer presences than this. Default 8,000.
    pub summary_until: usize,
    /// The least time between two counts. Default 1 s.
    pub count_interval: Duration,
    /// Keys in a sample at most. Default 10.
    pub max_sample: usize,
}

impl Default for BigRoom {
    fn default() -> Self {
        Self {
            parts_from_bytes: 64 * 1024,
            part_bytes: NonZero::new(256 * 1024).expect("262144 is not zero"),
            summary_from: 10_000,
            summary_until: 8_000,
            count_interval: Duration::from_secs(1),
            max_sample: 10,
        }
    }
}

/// Why a [`PresenceConfig`] was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The settings of the shards contradict each other.
    #[error("the shard settings are contradictory")]
    Shard(#[from] herenow_core::ConfigError),
    /// A limit is zero or above what the shards can hold.
    #[error("{field} is {value}, it must be between 1 and {max}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What it was set to.
        value: usize,
        /// The most it may be.
        max: usize,
    },
    /// A summary would end at a size at which it begins.
    #[error("summary_until is {until}, it must be at most summary_from, {from}")]
    SummaryRange {
        /// `summary_from`.
        from: usize,
        /// `summary_until`.
        until: usize,
    },
    /// Another presence system of the same name runs on this node's PubSub.
    #[error("another presence system is named {name} on this node")]
    NameTaken {
        /// The name.
        name: String,
    },
}
