//! What time it is, for the world outside: claims, ids and records. What waits or measures goes by
//! [`tokio::time::Instant`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970; none of it if the clock is set to before.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// A name for this life of what begins now, which no earlier life had. Names ascend.
pub(crate) fn life() -> String {
    format!("{:016x}", since_1970().as_nanos())
}
