//! [`Histogram`]: how long things take, for less than it takes to look at the clock.
//!
//! Buckets are powers of two from 4 µs to 8.4 s, so that finding one is a count of leading zeros
//! and an observation two relaxed additions. Bound to no exporter: who wants the counts reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets with an upper bound; one more takes what is above them all.
const N_BOUNDED: usize = 22;
/// The bound of the first bucket is two to the power of this, in microseconds.
const FIRST_POWER: u32 = 2;

/// Durations, counted by how long they were.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; N_BOUNDED + 1],
    sum_ns: AtomicU64,
}

/// The counts of a [`Histogram`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistogramCounts {
    counts: [u64; N_BOUNDED + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(ns.div_ceil(1_000))].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Reads the counts. What is observed meanwhile may be in a part of them only.
    pub fn read(&self) -> HistogramCounts {
        let mut read = HistogramCounts::default();
        for (count, of) in read.counts.iter_mut().zip(&self.counts) {
            *count = of.load(Ordering::Relaxed);
        }
        read.sum = Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed));
        read
    }
}

impl HistogramCounts {
    /// Returns how many durations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns all durations together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Returns each bucket's upper bound, which belongs to it, and how many were in it and in none
    /// before it, ascending. The last bucket has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bound = |index| Duration::from_micros(1_u64 << (FIRST_POWER + index));
        let bounds = (0..).map(move |index| (index < N_BOUNDED as u32).then(|| bound(index)));
        bounds.zip(self.counts)
    }

    /// Adds the counts of another one.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }
}

/// The bucket of so many microseconds, begun ones included.
fn bucket(us: u64) -> usize {
    let power = u64::BITS - us.saturating_sub(1).leading_zeros();
    N_BOUNDED.min(power.saturating_sub(FIRST_POWER) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_840_a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let bounds: Vec<_> = HistogramCounts::default().buckets().collect();
        assert_eq!(bounds.len(), N_BOUNDED + 1);
        assert_eq!(bounds[0].0, Some(Duration::from_micros(4)));
        assert_eq!(bounds[N_BOUNDED].0, None);
        let mut last = Duration::ZERO;
        for (at, (bound, _)) in bounds.iter().enumerate() {
            let longest = bound.unwrap_or(Duration::from_secs(3_600));
            for duration in [last + Duration::from_nanos(1), longest] {
                let histogram = Histogram::default();
                histogram.observe(duration);
                let read = histogram.read();
                let counted = read.buckets().position(|(_, count)| count == 1);
                assert_eq!(counted, Some(at), "{duration:?}");
                assert_eq!((read.count(), read.sum()), (1, duration));
            }
            last = longest;
        }
        let histogram = Histogram::default();
        histogram.observe(Duration::ZERO);
        assert_eq!(histogram.read().buckets().next(), Some((bounds[0].0, 1)));
    }

    #[test]
    fn srv_841_counts_add_up() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.observe(Duration::from_millis(1));
        other.observe(Duration::from_millis(1));
        other.observe(Duration::MAX);
        let mut both = one.read();
        both.add(&other.read());
        assert_eq!(both.count(), 3);
        assert!(both.buckets().any(|(_, count)| count == 2));
    }
}
