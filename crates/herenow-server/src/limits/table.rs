//! [`Table`]: how many connections each of those who have any has, and what is left of their rates.

use std::hash::Hash;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use herenow_channels::{Bucket, Rate};

/// How often those that need not be remembered are looked for, at most.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// Addresses, or users. An entry is there while it has a connection or has not got all tokens of
/// its rate back.
pub(super) struct Table<K> {
    entries: HashMap<K, Known>,
    /// How many of them have no connection.
    n_idle: usize,
    swept: Duration,
    n_overflows: u64,
}

#[derive(Debug, Default)]
struct Known {
    n_sockets: usize,
    arrivals: Bucket,
}

/// What each of a table may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Connections at a time; zero: any number.
    pub(super) max_sockets: usize,
    /// New connections.
    pub(super) rate: Rate,
    /// Of all: how many are remembered without having a connection.
    pub(super) max_idle: usize,
    /// Whether all are let in, and only counted.
    pub(super) is_exempt: bool,
}

/// What one more connection would be over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Sockets,
    Rate { wait: Duration },
}

impl Allowance {
    /// Whether there is nothing to count.
    pub(super) fn is_off(&self) -> bool {
        self.max_sockets == 0 && self.rate.per_second == 0
    }
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            n_idle: 0,
            swept: Duration::ZERO,
            n_overflows: 0,
        }
    }
}

impl<K: Eq + Hash + Clone> Table<K> {
    /// Counts one more connection in.
    ///
    /// # Errors
    ///
    /// [`Excess`], unless all are let in; it is not counted in then, but as one that came.
    pub(super) fn enter(
        &mut self,
        who: &K,
        allowance: &Allowance,
        now: Duration,
    ) -> Result<(), Excess> {
        if !self.has_room_for(who, allowance.max_idle, now) {
            self.n_overflows += 1;
            // It is remembered from here on: as a connection, which there are not too many of.
        }
        let entry = self.entries.entry(who.clone());
        let is_new = matches!(entry, Entry::Vacant(_));
        let known = entry.or_default();
        let (max, rate) = (allowance.max_sockets, allowance.rate);
        let has_token = known.arrivals.take(rate, now);
        let is_over = max > 0 && known.n_sockets >= max;
        if (!has_token || is_over) && !allowance.is_exempt {
            let wait = known.arrivals.wait(rate, now);
            self.n_idle += usize::from(is_new);
            return Err(match has_token {
                true => Excess::Sockets,
                false => Excess::Rate { wait },
            });
        }
        let was_idle = !is_new && known.n_sockets == 0;
        known.n_sockets += 1;
        self.n_idle -= usize::from(was_idle);
        Ok(())
    }

    /// Counts a connection out; whose it was is remembered while its rate is, if there is room.
    pub(super) fn leave(&mut self, who: &K, max_idle: usize, now: Duration) {
        let Some(known) = self.entries.get_mut(who) else {
            return;
        };
        known.n_sockets -= 1;
        if known.n_sockets > 0 {
            return;
        }
        if known.arrivals.is_full(now) || self.n_idle >= max_idle {
            self.entries.remove(who);
        } else {
            self.n_idle += 1;
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many came for whom there was no room, so that nothing of their rate was known.
    pub(super) fn n_overflows(&self) -> u64 {
        self.n_overflows
    }

    /// Makes room for a newcomer, if there is none; false if that cannot be had now.
    fn has_room_for(&mut self, who: &K, max_idle: usize, now: Duration) -> bool {
        if self.n_idle < max_idle || self.entries.contains_key(who) {
            return true;
        }
        if now.saturating_sub(self.swept) >= SWEEP_PERIOD {
            self.swept = now;
            self.entries
                .retain(|_, known| known.n_sockets > 0 || !known.arrivals.is_full(now));
            let known = self.entries.values();
            self.n_idle = known.filter(|known| known.n_sockets == 0).count();
        }
        self.n_idle < max_idle
    }
}
