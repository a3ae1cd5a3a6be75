//! [`Rate`] and [`Bucket`]: how often something may happen.
//!
//! A bucket is one number: the time at which it will be full again. Taking from it moves that time
//! on by what one token takes to come back (this is known as GCRA), so an idle bucket costs nothing
//! and needs no clock of its own.

use std::time::Duration;

/// So often a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rate {
    /// How many a second. Zero: there is no limit.
    pub per_second: u32,
    /// How many at once, after a time without any; at least one.
    pub burst: u32,
}

/// What a [`Rate`] has left for one user of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// When it will be full again, in nanoseconds of the clock that it is asked with.
    full_at_ns: u64,
}

/// What became of something that is charged in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// It is within the rate.
    Within,
    /// It is over the rate.
    Over,
    /// It is over the rate, and so were as many before it as may come at once.
    Flood,
}

impl Rate {
    /// So many a second, and `burst` at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst }
    }

    /// The time in which one token comes back, and that of a whole burst; `None` without a limit.
    fn times_ns(self) -> Option<(u64, u64)> {
        let token = 1_000_000_000_u64.checked_div(self.per_second.into())?;
        Some((token, token * u64::from(self.burst.max(1))))
    }
}

impl Bucket {
    /// Takes one token, if there is one. `now` is any clock's time that never goes backwards.
    pub fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let Some((token, burst)) = rate.times_ns() else {
            return true;
        };
        let full_at = self.full_at_ns.max(ns(now)) + token;
        let has_one = full_at - ns(now) <= burst;
        if has_one {
            self.full_at_ns = full_at;
        }
        has_one
    }

    /// Takes one token whether there is one or not, until a whole burst is owed.
    pub fn charge(&mut self, rate: Rate, now: Duration) -> Charge {
        let Some((token, burst)) = rate.times_ns() else {
            return Charge::Within;
        };
        let full_at = self.full_at_ns.max(ns(now)) + token;
        let missing = full_at - ns(now);
        if missing > 2 * burst {
            return Charge::Flood;
        }
        self.full_at_ns = full_at;
        if missing <= burst {
            Charge::Within
        } else {
            Charge::Over
        }
    }

    /// Tells whether nothing is missing, so that the bucket is as good as a new one.
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at_ns <= ns(now)
    }

    /// The time until there is one more token than now.
    pub fn wait(&self, rate: Rate, now: Duration) -> Duration {
        let Some((token, burst)) = rate.times_ns() else {
            return Duration::ZERO;
        };
        let over = (self.full_at_ns.max(ns(now)) + token - ns(now)).saturating_sub(burst);
        Duration::from_nanos(over)
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn srv_843_a_bucket_gives_a_burst_and_then_its_rate() {
        let (rate, mut bucket) = (Rate::new(10, 3), Bucket::default());
        let taken = |bucket: &mut Bucket, at| (0..9).filter(|_| bucket.take(rate, at)).count();
        assert_eq!(taken(&mut bucket, ms(1_000)), 3);
        assert_eq!(taken(&mut bucket, ms(1_099)), 0);
        assert_eq!(bucket.wait(rate, ms(1_099)), ms(1));
        assert_eq!(taken(&mut bucket, ms(1_100)), 1);
        assert_eq!(taken(&mut bucket, ms(1_300)), 2);
        assert!(!bucket.is_full(ms(1_599)));
        assert!(bucket.is_full(ms(1_600)));
        assert_eq!(taken(&mut bucket, ms(60_000)), 3);
    }

    #[test]
    fn srv_843_who_goes_on_over_the_rate_is_a_flood_and_who_stops_is_not() {
        let (rate, mut bucket) = (Rate::new(10, 3), Bucket::default());
        let mut charges = |at| [(); 4].map(|()| bucket.charge(rate, at));
        use Charge::{Flood, Over, Within};
        assert_eq!(charges(ms(0)), [Within, Within, Within, Over]);
        assert_eq!(charges(ms(0)), [Over, Over, Flood, Flood]);
        assert_eq!(charges(ms(600)), [Within, Within, Within, Over]);
    }

    #[test]
    fn srv_843_without_a_rate_there_is_no_limit() {
        let (none, mut bucket) = (Rate::new(0, 1), Bucket::default());
        assert!((0..1_000).all(|_| bucket.take(none, ms(0))));
        assert_eq!(bucket.charge(none, ms(0)), Charge::Within);
        assert_eq!(bucket.wait(none, ms(0)), Duration::ZERO);
    }
}
