//! [`Flights`]: which keys somebody asks for, so that whoever needs one of them waits for that
//! answer.
//!
//! A flight is one query, or several one after the other. Nobody boards one that began before its
//! key was forgotten: its answer does not count any more. Those who had boarded it before get what
//! it read all the same, for want of anything newer; so do those whose answer the cache has no room
//! for.
//!
//! A flight ends, or it is abandoned, for whoever asked has gone away. That an abandoned one has not
//! read a key says nothing of the source, and those who are on it ask again.

use std::collections::{BTreeMap, HashMap};

use herenow_presence::Key;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Rendered;
use super::cache::Name;

/// What a flight was told, by key.
pub(super) type Reads = HashMap<Key, Read>;

/// What a flight was told of a key.
#[derive(Debug, Clone)]
pub(super) struct Read {
    /// `None`: there are no fields.
    pub(super) fields: Option<Rendered>,
    /// Whether the key was forgotten meanwhile.
    pub(super) is_overtaken: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<Board>);

/// Whether a key is to be asked for.
pub(super) enum Need {
    /// Somebody's answer is there.
    Known,
    /// What was asked for since this epoch counts.
    Since(u64),
}

/// A place on a flight, for some of its keys.
#[derive(Debug)]
pub(super) struct Seat {
    keys: Vec<Key>,
    /// Its sender is dropped when the flight is over.
    told: watch::Receiver<Told>,
}

/// Keys that one look-up asks for. They are off the list when it is dropped, whatever happens.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    number: u64,
    names: Vec<Name>,
    told: watch::Sender<Told>,
}

#[derive(Debug, Default)]
struct Board {
    /// How many flights there were: each has a number of its own.
    n_flights: u64,
    gates: HashMap<Name, Gate>,
}

/// Where a flight is boarded.
#[derive(Debug, Clone)]
struct Gate {
    number: u64,
    /// How much had been forgotten when the flight began.
    epoch: u64,
    told: watch::Receiver<Told>,
}

/// What those who are on a flight are told.
#[derive(Debug, Default)]
struct Told {
    reads: Reads,
    /// Whether it has ended, and was not abandoned.
    has_ended: bool,
}

impl Flights {
    /// Parts `names` into those to ask for, which are on the new flight, and seats for the others
    /// on theirs, each key on one. `epoch` is how much has been forgotten.
    pub(super) fn board(
        &self,
        epoch: u64,
        names: impl Iterator<Item = Name>,
        mut need: impl FnMut(&Name) -> Need,
    ) -> (Flight<'_>, Vec<Seat>) {
        let (sender, told) = watch::channel(Told::default());
        let mut own = Vec::new();
        let mut seats = BTreeMap::<u64, Seat>::new();
        let mut board = self.0.lock();
        board.n_flights += 1;
        let number = board.n_flights;
        for name in names {
            // Somebody's answer may have come since the look into the cache; it is kept before
            // their flight ends.
            let Need::Since(since) = need(&name) else {
                continue;
            };
            match board.gates.get(&name).filter(|gate| gate.epoch >= since) {
                Some(gate) => {
                    let seat = seats.entry(gate.number).or_insert_with(|| gate.seat());
                    seat.keys.push(name.key);
                }
                None => {
                    let told = told.clone();
                    let gate = Gate {
                        number,
                        epoch,
                        told,
                    };
                    board.gates.insert(name.clone(), gate);
                    own.push(name);
                }
            }
        }
        drop(board);
        let flight = Flight {
            flights: self,
            number,
            names: own,
            told: sender,
        };
        (flight, seats.into_values().collect())
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().gates.is_empty()
    }
}

impl Gate {
    fn seat(&self) -> Seat {
        Seat {
            keys: Vec::new(),
            told: self.told.clone(),
        }
    }
}

impl Seat {
    /// Waits until the flight is over, or until `deadline`; then notes in `reads` what it was told
    /// of the keys of this seat. Returns those that it was not told of because it was abandoned.
    pub(super) async fn landed(mut self, deadline: Instant, reads: &mut Reads) -> Vec<Key> {
        // It is an error when the sender is gone, which is what is waited for.
        let over = timeout_at(deadline, self.told.wait_for(|_| false));
        let is_over = over.await.is_ok();
        let told = self.told.borrow();
        let is_abandoned = is_over && !told.has_ended;
        let mut unknown = Vec::new();
        for key in self.keys {
            match told.reads.get(&key) {
                Some(read) => {
                    reads.insert(key, read.clone());
                }
                None if is_abandoned => unknown.push(key),
                None => {}
            }
        }
        unknown
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }
}

impl Flight<'_> {
    /// The keys to ask for.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.names.iter().map(|name| name.key.clone()).collect()
    }

    /// A place on it for all its keys, also after it is over.
    pub(super) fn seat(&self) -> Seat {
        Seat {
            keys: self.keys(),
            told: self.told.subscribe(),
        }
    }

    /// Takes note of what it was told.
    pub(super) fn tell(&self, reads: impl Iterator<Item = (Key, Read)>) {
        self.told.send_modify(|told| told.reads.extend(reads));
    }

    /// Ends it: what it was not told now, nobody on it will know. Without this it is abandoned.
    pub(super) fn end(self) {
        self.told.send_modify(|told| told.has_ended = true);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut board = self.flights.0.lock();
        for name in &self.names {
            // A later one can have the key by now.
            let gate = board.gates.get(name);
            if gate.is_some_and(|gate| gate.number == self.number) {
                board.gates.remove(name);
            }
        }
    }
}
