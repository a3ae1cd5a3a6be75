//! [`ShardConfig`]: times and bounds of a shard.

use std::num::NonZero;
use std::time::Duration;

use crate::grace::Grace;

/// The settings of a shard. All nodes of a cluster should have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardConfig {
    /// How often the host sends its node's heartbeat. Default 1 s.
    pub heartbeat_period: Duration,
    /// The least time between two deltas. Default 5 ms.
    pub flush_interval: Duration,
    /// Silence after which a replica is down and its rows are hidden; at least three heartbeats.
    /// Default 5 s.
    pub down_period: Duration,
    /// Silence after which a replica is forgotten; longer than `down_period`. Default 20 min.
    pub permdown_period: Duration,
    /// How long an unanswered request waits before it is sent again. Default 500 ms.
    pub request_timeout: Duration,
    /// The size in bytes at which a delta is cut, rows and removals alike; one row may exceed it.
    /// At least 256 bytes. Default 256 KiB.
    pub max_delta_bytes: usize,
    /// Bytes per second that are given out in answer to requests; at least `max_delta_bytes`. What
    /// exceeds it is answered later. Default 64 MiB.
    pub transfer_bytes_per_second: usize,
    /// Removals that the owner remembers, 16 bytes each. Default 65,536.
    pub max_history: usize,
    /// Peers known at once; those beyond are ignored and counted. Default 1,024.
    pub max_peers: usize,
    /// Rows taken from one peer; a delta that would exceed it is refused. Default 10,000,000.
    pub max_peer_rows: usize,
    /// Rows that are shown, hidden or dropped at a time when a replica comes up, goes down or is
    /// forgotten. Default 128.
    pub sweep_rows: NonZero<usize>,
    /// For how long a disconnect that was not a leave is held back from this node's readers, by
    /// topic pattern; the first match counts. `room:*` is a prefix, others are exact. Default:
    /// nowhere.
    pub graces: Vec<(String, Grace)>,
    /// Presences held back at once; those beyond leave at once and are counted. Default 65,536.
    pub max_held: usize,
    /// Seeds the hash maps, which strangers fill with topics and keys. Default 0: for tests.
    pub hash_seed: u64,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            heartbeat_period: Duration::from_secs(1),
            flush_interval: Duration::from_millis(5),
            down_period: Duration::from_secs(5),
            permdown_period: Duration::from_secs(20 * 60),
            request_timeout: Duration::from_millis(500),
            max_delta_bytes: 256 * 1024,
            transfer_bytes_per_second: 64 * 1024 * 1024,
            max_history: 65_536,
            max_peers: 1024,
            max_peer_rows: 10_000_000,
            sweep_rows: NonZero::new(128).expect("128 is not zero"),
            graces: Vec::new(),
            max_held: 65_536,
            hash_seed: 0,
        }
    }
}

/// The least `max_delta_bytes`.
const MIN_DELTA_BYTES: usize = 256;

impl ShardConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], naming both values.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let least_down = self.heartbeat_period * 3;
        if self.heartbeat_period.is_zero() {
            return Err(ConfigError::NoHeartbeat);
        }
        if self.down_period < least_down {
            return Err(ConfigError::DownTooShort {
                down: self.down_period,
                least: least_down,
            });
        }
        if self.permdown_period <= self.down_period {
            return Err(ConfigError::PermdownTooShort {
                permdown: self.permdown_period,
                down: self.down_period,
            });
        }
        if self.max_delta_bytes < MIN_DELTA_BYTES {
            return Err(ConfigError::DeltaTooSmall {
                bytes: self.max_delta_bytes,
                least: MIN_DELTA_BYTES,
            });
        }
        if self.transfer_bytes_per_second < self.max_delta_bytes {
            return Err(ConfigError::TransferTooSlow {
                bytes: self.transfer_bytes_per_second,
                least: self.max_delta_bytes,
            });
        }
        Ok(())
    }
}

/// Why settings do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The heartbeat period is zero.
    #[error("heartbeat_period is 0, it must be longer")]
    NoHeartbeat,
    /// Replicas would go down between two heartbeats.
    #[error("down_period is {down:?}, it must be at least {least:?} (3 x heartbeat_period)")]
    DownTooShort {
        /// The period asked for.
        down: Duration,
        /// The shortest that works.
        least: Duration,
    },
    /// Replicas would be forgotten before they are down.
    #[error("permdown_period is {permdown:?}, it must be longer than down_period, {down:?}")]
    PermdownTooShort {
        /// The period asked for.
        permdown: Duration,
        /// The down period.
        down: Duration,
    },
    /// Deltas would be cut too small.
    #[error("max_delta_bytes is {bytes}, it must be at least {least}")]
    DeltaTooSmall {
        /// The size asked for.
        bytes: usize,
        /// The smallest that works.
        least: usize,
    },
    /// Not one delta a second could be given out.
    #[error("transfer_bytes_per_second is {bytes}, it must be at least max_delta_bytes, {least}")]
    TransferTooSlow {
        /// The rate asked for.
        bytes: usize,
        /// The least that works.
        least: usize,
    },
}
