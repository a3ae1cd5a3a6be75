//! [`Backoff`]: how long to wait before the next attempt to connect.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::settings::ConfigError;

/// Waits that double from a lower to an upper bound, half of each left to chance.
///
/// Without chance all nodes that lost a broker together would come back together, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// Returns waits between `min` and `max`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Backoff`] if `min` is zero or over `max`.
    pub fn new(min: Duration, max: Duration) -> Result<Self, ConfigError> {
        if min.is_zero() || min > max {
            return Err(ConfigError::Backoff { min, max });
        }
        Ok(Self { min, max })
    }

    /// Returns the wait before attempt `n_failed + 1`, after `n_failed` failures in a row.
    ///
    /// Lies between half of `min * 2^n_failed` (`max` at most) and all of it.
    pub fn wait(&self, n_failed: usize) -> Duration {
        let doublings = u32::try_from(n_failed).unwrap_or(u32::MAX).min(30);
        let whole = self.min.saturating_mul(1 << doublings).min(self.max);
        // A fresh `RandomState` is seeded by chance, which is all the chance that a wait needs.
        let chance = RandomState::new().hash_one(n_failed) >> 32;
        #[allow(clippy::cast_precision_loss)] // 32 bits fit.
        let part = chance as f64 / f64::from(u32::MAX);
        whole / 2 + (whole / 2).mul_f64(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_bounds() {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1)).unwrap();
        for (n_failed, whole_ms) in [(0, 50), (1, 100), (2, 200), (5, 1_000), (usize::MAX, 1_000)] {
            let wait = backoff.wait(n_failed);
            let whole = Duration::from_millis(whole_ms);
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
    }

    #[test]
    fn nodes_do_not_wait_in_step() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).unwrap();
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| backoff.wait(3)).collect();
        assert!(
            waits.len() > 10,
            "20 waits, only {} of them differ",
            waits.len()
        );
    }

    #[test]
    fn bounds_are_checked() {
        let one = Duration::from_secs(1);
        assert!(Backoff::new(Duration::ZERO, one).is_err());
        let error = Backoff::new(one * 2, one).unwrap_err();
        assert_eq!(
            error.to_string(),
            "back-off begins at 2s, which must be over 0s and at most 1s"
        );
    }
}
