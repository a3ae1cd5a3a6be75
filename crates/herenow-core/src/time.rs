//! Monotonic time as the host hands it in.
//!
//! Nothing in this crate reads a clock. A wall clock that is set forward or back therefore cannot
//! change anything here: the host's origin is arbitrary and only differences count.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment on the host's monotonic clock: nanoseconds since an origin of the host's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than every other moment; as a deadline it means "never".
    pub const MAX: Self = Self(u64::MAX);

    /// Makes the moment that is `elapsed` after the origin; 584 years at the most.
    pub fn since_origin(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Returns how long after the origin this moment is.
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Returns how long ago `earlier` was, zero if it is not earlier.
    pub fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonoTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl fmt::Display for MonoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let second = MonoTime::since_origin(Duration::from_secs(1));
        assert_eq!(second + Duration::MAX, MonoTime::MAX);
        assert_eq!(MonoTime::ZERO.duration_since(second), Duration::ZERO);
        assert_eq!(
            second.duration_since(MonoTime::ZERO),
            Duration::from_secs(1)
        );
    }
}
