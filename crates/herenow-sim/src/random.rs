//! [`Random`]: the one source of chance, a seeded generator whose stream never changes.

use std::time::Duration;

use oorandom::Rand64;

/// A stream of numbers that depends on its seed only.
#[derive(Debug, Clone)]
pub(crate) struct Random(Rand64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rand64::new(u128::from(seed)))
    }

    /// Returns a generator of its own for one part of a run, so that parts do not disturb each
    /// other.
    pub(crate) fn fork(&mut self) -> Self {
        Self(Rand64::new(u128::from(self.0.rand_u64())))
    }

    /// Returns a number below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.rand_range(0..end)
    }

    /// Returns a number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.rand_range(low..high + 1)
    }

    /// Returns true in so many of a thousand cases.
    pub(crate) fn per_mille(&mut self, chances: u64) -> bool {
        self.below(1000) < chances
    }

    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    pub(crate) fn micros(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low, high))
    }

    /// Returns one of the choices, of which there is at least one.
    pub(crate) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())].clone()
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it is below a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_seed_is_pinned() {
        // Seeds that failed once are kept in tests: they must go on meaning the same run.
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..4).map(|_| random.below(1000)).collect();
        assert_eq!(drawn, PINNED);
        assert_ne!(Random::new(8).below(1000), PINNED[0]);
    }

    const PINNED: [u64; 4] = [419, 238, 420, 513];
}
