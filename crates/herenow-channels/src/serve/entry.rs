//! [`Entry`]: the places of those who have not sent a request yet, and who gives one to a newcomer.
//!
//! While all places are taken the next ones wait in the backlog of the operating system. In a storm
//! that is all it takes: each place is free again after a moment. It is not where somebody opens
//! connections and says nothing: then the address with the most of them gives up the one that it
//! has had for longest, as soon as that has had its time. Who has no more than a share keeps what
//! it has, so that whoever says what it wants gets in beside a flood, and stays.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use herenow_pubsub::LogLimit;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::ServeConfig;
use super::counts::ServeCounts;
use crate::arrival::{Lease, Place};
use crate::network::Network;

/// Of so many places one is each address's own, and one is in any case.
const PLACES_PER_SHARE: usize = 64;

/// Where those stand who have not sent a request.
pub(super) struct Entry {
    places: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
    /// Connections of one address that are not closed for others.
    share: usize,
    /// Time that each has in any case.
    time: Duration,
    counts: ServeCounts,
    log: LogLimit,
}

/// One who was let in, and has not sent a request.
pub(super) struct Entrant {
    pub(super) place: Place,
    pub(super) standing: Standing,
    /// Ends the connection, for a newcomer or by whoever answers it.
    pub(super) hang_up: CancellationToken,
}

/// The entrant may be closed for a newcomer until this is dropped.
pub(super) struct Standing {
    waiting: Arc<Mutex<Waiting>>,
    number: u64,
}

#[derive(Default)]
struct Waiting {
    /// By their numbers: who came first is the first.
    waiters: BTreeMap<u64, Waiter>,
    n_by_network: HashMap<Network, usize>,
    n_come: u64,
}

struct Waiter {
    network: Network,
    since: Instant,
    lease: Lease,
    hang_up: CancellationToken,
}

/// What can be done for a newcomer.
enum Room {
    Made,
    /// Nothing before this moment.
    From(Instant),
    /// Nothing but wait.
    None,
}

impl Entry {
    pub(super) fn new(config: &ServeConfig) -> Self {
        let n_places = config.max_handshakes.get();
        Self {
            places: Arc::new(Semaphore::new(n_places)),
            waiting: Arc::default(),
            share: (n_places / PLACES_PER_SHARE).max(1),
            time: config.crowded_timeout,
            counts: config.counts.clone(),
            log: LogLimit::default(),
        }
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return place;
            }
            let place = Arc::clone(&self.places).acquire_owned();
            let place = match self.make_room() {
                Room::Made => continue,
                Room::From(due) => timeout_at(due, place).await,
                Room::None => Ok(place.await),
            };
            if let Ok(place) = place {
                return place.expect("the semaphore is never closed");
            }
        }
    }

    /// Lets a connection in to its place.
    pub(super) fn let_in(&self, peer: SocketAddr, place: OwnedSemaphorePermit) -> Entrant {
        let (place, hang_up) = (Place::new(place), CancellationToken::new());
        let number = self.waiting.lock().enter(Waiter {
            network: Network::from(peer.ip()),
            since: Instant::now(),
            lease: place.lease(),
            hang_up: hang_up.clone(),
        });
        let waiting = Arc::clone(&self.waiting);
        Entrant {
            place,
            standing: Standing { waiting, number },
            hang_up,
        }
    }

    /// Closes the connection whose turn it is to go.
    fn make_room(&self) -> Room {
        let mut waiting = self.waiting.lock();
        let Some(oldest) = waiting.oldest() else {
            return Room::None;
        };
        if oldest.elapsed() < self.time {
            return Room::From(oldest + self.time); // In a storm this is all that is done.
        }
        let Some((number, since)) = waiting.next_to_go(self.share) else {
            return Room::None;
        };
        if since.elapsed() < self.time {
            return Room::From(since + self.time);
        }
        let gone = waiting.leave(number);
        drop(waiting); // Not under the lock: wakes tasks.
        if let Some(waiter) = gone {
            waiter.lease.end();
            waiter.hang_up.cancel();
        }
        self.counts.count_displaced();
        if let Some(n_left_out) = self.log.may_log() {
            let elapsed_ms = since.elapsed().as_millis();
            tracing::warn!(
                elapsed_ms,
                n_left_out,
                "connection closed for a newcomer: its address has the most of those that sent no \
                 request, and there is no place left (http.max_handshakes)"
            );
        }
        Room::Made
    }
}

impl Waiting {
    fn enter(&mut self, waiter: Waiter) -> u64 {
        let number = self.n_come;
        self.n_come += 1;
        *self.n_by_network.entry(waiter.network).or_default() += 1;
        self.waiters.insert(number, waiter);
        number
    }

    fn leave(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&number)?;
        if let Some(n) = self.n_by_network.get_mut(&waiter.network) {
            *n -= 1;
            if *n == 0 {
                self.n_by_network.remove(&waiter.network);
            }
        }
        Some(waiter)
    }

    /// Since when the first of all is here.
    fn oldest(&self) -> Option<Instant> {
        let (_, waiter) = self.waiters.first_key_value()?;
        Some(waiter.since)
    }

    /// Who is the first to go, and since when it is here: the oldest one of the address that has
    /// the most, if that is more than its share.
    fn next_to_go(&self, share: usize) -> Option<(u64, Instant)> {
        let (network, n) = self.n_by_network.iter().max_by_key(|(_, n)| **n)?;
        if *n <= share {
            return None;
        }
        let mut waiters = self.waiters.iter();
        let (number, waiter) = waiters.find(|(_, waiter)| waiter.network == *network)?;
        Some((*number, waiter.since))
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let gone = self.waiting.lock().leave(self.number);
        drop(gone); // Not under the lock.
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const TIME: Duration = Duration::from_secs(1);

    fn entry(n_places: usize) -> Entry {
        Entry::new(&ServeConfig {
            max_handshakes: NonZero::new(n_places).unwrap(),
            crowded_timeout: TIME,
            ..ServeConfig::default()
        })
    }

    /// Lets somebody in of whom it is known that there is a place.
    fn let_in(entry: &Entry, address: &str) -> Entrant {
        let place = entry.place().now_or_never().expect("a place");
        entry.let_in(SocketAddr::new(address.parse().unwrap(), 1), place)
    }

    fn n_closed(entrants: &[Entrant]) -> usize {
        let closed = entrants.iter().map(|one| one.hang_up.is_cancelled());
        closed.filter(|is_closed| *is_closed).count()
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1771_who_has_the_most_places_gives_its_oldest_to_a_newcomer() {
        let entry = entry(64);
        let honest = let_in(&entry, "203.0.113.1");
        let flood: Vec<_> = (0..63).map(|_| let_in(&entry, "203.0.113.2")).collect();
        let began = Instant::now();
        let place = entry.place().await;
        assert_eq!(began.elapsed(), TIME, "each has its time");
        assert!(flood[0].hang_up.is_cancelled());
        assert_eq!(n_closed(&flood), 1);
        let newcomer = entry.let_in(([203, 0, 113, 3], 1).into(), place);
        // The time of all is over, and one goes for each that comes, in order.
        let mut more = Vec::new();
        for n in 2..=40 {
            let come = let_in(&entry, "203.0.113.3");
            assert_eq!(n_closed(&flood), n);
            assert!(flood[n - 1].hang_up.is_cancelled());
            drop(come);
            more.push(let_in(&entry, "203.0.113.2"));
        }
        assert_eq!(entry.counts.displaced(), 40);
        assert!(!honest.hang_up.is_cancelled(), "it has its share");
        assert!(!newcomer.hang_up.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1771_beside_a_flood_nobody_waits_and_who_came_is_not_closed() {
        let entry = entry(64);
        let mut flood = Vec::new();
        // Of an IPv6 network, each time from another address of it, for ten times what it takes.
        for n in 0..640 {
            flood.push(let_in(&entry, &format!("2001:db8::{n:x}")));
            advance(TIME / 60).await;
            let honest = let_in(&entry, "2001:db8:1::1");
            drop(honest);
        }
        let silent = let_in(&entry, "2001:db8:1::1");
        advance(TIME * 10).await;
        for n in 0..63 {
            flood.push(let_in(&entry, &format!("2001:db8::{n:x}")));
        }
        assert!(!silent.hang_up.is_cancelled());
        assert!(entry.counts.displaced() > 500);
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1771_in_a_storm_nobody_is_closed() {
        let entry = entry(64);
        let address = |n: usize| format!("203.0.113.{n}");
        let storm: Vec<_> = (0..64).map(|n| let_in(&entry, &address(n))).collect();
        advance(TIME * 10).await;
        assert!(entry.place().now_or_never().is_none(), "all have a share");
        // Whoever has sent a request and keeps its place is not closed, however many there are.
        drop(storm);
        let entrants = (0..64).map(|_| let_in(&entry, "203.0.113.1"));
        let upgrades: Vec<_> = entrants
            .map(|entrant| {
                drop(entrant.standing);
                (entrant.place, entrant.hang_up)
            })
            .collect();
        advance(TIME * 10).await;
        let (place, ()) = tokio::join!(entry.place(), async { drop(upgrades) });
        drop(place);
        assert_eq!(entry.counts.displaced(), 0);
        assert!(entry.waiting.lock().n_by_network.is_empty());
    }
}
