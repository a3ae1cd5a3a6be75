//! [`Flights`]: which keys are asked for now, so that whoever needs one of them waits for that answer.
//!
//! A flight is one query, or several one after the other. Nobody boards one that began before its
//! key was forgotten: its answer does not count any more. Those who had boarded it before get what
//! it read all the same, for want of anything newer; so do those whose answer the cache has no room
//! for.

use std::collections::HashMap;

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
pub(super) struct Flights(Mutex<HashMap<Name, Seat>>);

/// Whether a key is to be asked for.
pub(super) enum Need {
    /// Somebody's answer is there.
    Known,
    /// What was asked for since this epoch counts.
    Since(u64),
}

/// A place on a flight.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    /// How much had been forgotten when the flight began.
    epoch: u64,
    /// Its sender is dropped when the flight has ended.
    landed: watch::Receiver<Reads>,
}

/// Keys that one look-up asks for. They are off the list when it is dropped, whatever happens.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    names: Vec<Name>,
    reads: watch::Sender<Reads>,
}

impl Flights {
    /// Parts `names` into those to ask for, which are on the new flight, and the flights that the
    /// others are on. `epoch` is how much has been forgotten.
    pub(super) fn board(
        &self,
        epoch: u64,
        names: impl Iterator<Item = Name>,
        need: impl Fn(&Name) -> Need,
    ) -> (Flight<'_>, Vec<Seat>) {
        let (reads, landed) = watch::channel(Reads::new());
        let mut flight = Flight {
            flights: self,
            names: Vec::new(),
            reads,
        };
        let mut others = Vec::<Seat>::new();
        let mut flights = self.0.lock();
        for name in names {
            // Somebody's answer may have come since the look into the cache; it is kept before
            // their flight ends.
            let Need::Since(since) = need(&name) else {
                continue;
            };
            match flights.get(&name).filter(|seat| seat.epoch >= since) {
                Some(seat) if others.iter().any(|other| other.is_beside(seat)) => {}
                Some(seat) => others.push(seat.clone()),
                None => {
                    let landed = landed.clone();
                    flights.insert(name.clone(), Seat { epoch, landed });
                    flight.names.push(name);
                }
            }
        }
        drop(flights);
        (flight, others)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Seat {
    /// Waits until the flight has ended, or until `deadline`.
    pub(super) async fn landed(&mut self, deadline: Instant) {
        // It ends with an error when the sender is gone, which is what is waited for.
        let _ended = timeout_at(deadline, self.landed.wait_for(|_| false)).await;
    }

    /// What it was told of a key.
    pub(super) fn read(&self, key: &Key) -> Option<Read> {
        self.landed.borrow().get(key).cloned()
    }

    fn is_beside(&self, other: &Self) -> bool {
        self.landed.same_channel(&other.landed)
    }
}

impl Flight<'_> {
    /// The keys to ask for.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.names.iter().map(|name| name.key.clone()).collect()
    }

    /// A place on it, also after its end.
    pub(super) fn seat(&self, epoch: u64) -> Seat {
        let landed = self.reads.subscribe();
        Seat { epoch, landed }
    }

    /// Takes note of what it was told.
    pub(super) fn tell(&self, read: impl Iterator<Item = (Key, Read)>) {
        self.reads.send_modify(|reads| reads.extend(read));
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let own = self.reads.subscribe();
        let mut flights = self.flights.0.lock();
        for name in &self.names {
            // A later one can have the key by now.
            if flights
                .get(name)
                .is_some_and(|seat| seat.landed.same_channel(&own))
            {
                flights.remove(name);
            }
        }
    }
}
