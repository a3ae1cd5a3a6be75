//! Arrivals: how many may be on their way in at the same time.
//!
//! Who comes back after a restart costs most: the token is checked, the channels are made, the
//! presences tracked, the states sent. Whoever is inside already must be served meanwhile, so the
//! door stays shut while too many are between it and their seats: handshakes that are checked, and
//! joins that are not answered yet. A client that is sent away learns when to come back, each at
//! another time; one that is inside is never sent away for it, its joins only keep the door shut.
//!
//! Before the door is the entry, which has so many places for those who have not been looked at:
//! more wait where they cost nothing, in the backlog of the operating system. Who says nothing there
//! does not keep others out: `serve/entry.rs`.
//!
//! Handshakes are let in a few at a time, in order, each from its check until its connection runs:
//! that takes a core for a while, and a thousand of them at once would all stand in front of the
//! next heartbeat. Before its turn each gives way to whatever else can run.

use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{Extensions, HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// The seconds that a client is asked to wait, from one to this.
const MAX_RETRY_SECONDS: u64 = 5;
/// How long a handshake may keep its place after its head was read. One that waits for longer, for
/// keys from elsewhere say, must not keep out those who would not.
const PLACE_TIME: Duration = Duration::from_secs(1);
/// Tasks that may wait for their first thread while somebody is let in: what they take is what
/// those who are inside wait longer.
const MAX_WAITING: usize = 64;
/// How long one who has the turn gives way at most, so that also a node that is always busy lets
/// people in: so many in this time as have their turn at once.
const MAX_GIVE_WAY: Duration = Duration::from_millis(100);

/// One of the places at the entry, of which there are
/// [`max_handshakes`](crate::ServeConfig::max_handshakes); free again when all its clones are
/// dropped.
///
/// A connection has it from its accept until the head of its first request. A request for an
/// upgrade keeps it, among its extensions, until it is settled: so those who come faster than they
/// can be let in wait in the backlog of the operating system, and neither in memory nor in front of
/// others.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// Returns what frees the place after a while, whoever keeps it then.
    pub(crate) fn lease(&self) -> Lease {
        Lease(Arc::downgrade(&self.0))
    }
}

/// The time for which a place can be kept.
#[derive(Debug)]
pub(crate) struct Lease(Weak<Mutex<Option<OwnedSemaphorePermit>>>);

impl Lease {
    /// Waits for [`PLACE_TIME`], and frees the place.
    pub(crate) async fn run_out(self) {
        sleep(PLACE_TIME).await;
        self.end();
    }

    /// Frees the place now.
    pub(crate) fn end(&self) {
        if let Some(place) = self.0.upgrade() {
            place.lock().take();
        }
    }
}

/// Those who are on their way in, of one mount.
pub(crate) struct Arrivals {
    max: usize,
    n_now: Arc<AtomicUsize>,
    turns: Arc<Semaphore>,
}

/// One that is on its way in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Arrival {
    n_now: Arc<AtomicUsize>,
    turn: Option<OwnedSemaphorePermit>,
}

impl Arrivals {
    pub(crate) fn new(max: NonZero<usize>, max_checks: NonZero<usize>) -> Self {
        let max_turns = max_checks.get().min(Semaphore::MAX_PERMITS);
        Self {
            max: max.get(),
            n_now: Arc::default(),
            turns: Arc::new(Semaphore::new(max_turns)),
        }
    }

    /// Lets one more in, unless too many are on their way.
    pub(crate) fn try_begin(&self) -> Option<Arrival> {
        let arrival = self.begin();
        (self.n_now() <= self.max).then_some(arrival)
    }

    /// Counts one who is inside already, and joins.
    pub(crate) fn begin(&self) -> Arrival {
        self.n_now.fetch_add(1, Ordering::Relaxed);
        Arrival {
            n_now: Arc::clone(&self.n_now),
            turn: None,
        }
    }

    /// Waits for the turn to be checked, which lasts as long as the arrival.
    pub(crate) async fn turn(&self, arrival: &mut Arrival) {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        arrival.turn = Some(turn.expect("the semaphore is never closed"));
        give_way().await;
    }

    /// Returns how many are on their way in.
    pub(crate) fn n_now(&self) -> usize {
        self.n_now.load(Ordering::Relaxed)
    }

    /// Returns the answer to one too many.
    pub(crate) fn refuse(&self) -> Response {
        let max = self.max;
        come_back_later(format!(
            "too many clients are on their way in, the limit is {max} (socket.max_arrivals)\n"
        ))
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.n_now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals")
            .field("max", &self.max)
            .field("n_now", &self.n_now())
            .finish_non_exhaustive()
    }
}

/// Lets whatever else can run go first, again and again while much waits, but not for long.
async fn give_way() {
    let until = Instant::now() + MAX_GIVE_WAY;
    loop {
        yield_now().await;
        let n_waiting = Handle::current().metrics().global_queue_depth();
        if n_waiting <= MAX_WAITING || Instant::now() >= until {
            return;
        }
    }
}

/// That nobody new is let in now, and why: an extension of a request to the sockets.
///
/// A handshake is then answered as by [`come_back_later`], and so is a long poll that would begin a
/// session. One of a session that lives goes on, for its client has yet to be told what waits for
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoNewcomers(pub &'static str);

impl NoNewcomers {
    /// The answer to a newcomer, if nobody new is let in.
    pub(crate) fn answer(extensions: &Extensions) -> Option<Response> {
        let Self(why) = extensions.get()?;
        Some(come_back_later(*why))
    }
}

/// Returns 503 with a text, and a `retry-after` of 1 to 5 seconds at random: those who are sent
/// away together do not come back together.
pub fn come_back_later(text: impl Into<String>) -> Response {
    // Without a random source all come back at the same time, which is no reason to fail.
    let random = getrandom::u64().unwrap_or_default();
    let seconds = HeaderValue::from(1 + random % MAX_RETRY_SECONDS);
    let after = [(RETRY_AFTER, seconds)];
    (StatusCode::SERVICE_UNAVAILABLE, after, text.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn limit(n: usize) -> NonZero<usize> {
        NonZero::new(n).expect("a limit of a test is not zero")
    }

    #[test]
    fn soc_500_so_many_are_on_their_way_in_and_one_more_is_told_when_to_come_back() {
        let arrivals = Arrivals::new(limit(2), limit(1));
        let first = arrivals.try_begin();
        // One who is inside and joins counts, and is not refused.
        let joins = [arrivals.begin(), arrivals.begin()];
        assert!(first.is_some() && arrivals.try_begin().is_none());
        assert_eq!(arrivals.n_now(), 3);
        let mut seconds = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let answer = arrivals.refuse();
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            seconds.insert(answer.headers()[RETRY_AFTER].to_str().unwrap().to_owned());
        }
        assert!(
            seconds
                .iter()
                .all(|text| ("1"..="5").contains(&text.as_str()))
        );
        assert!(seconds.len() > 1, "all come back at once: {seconds:?}");
        drop(joins);
        drop(first);
        assert!(arrivals.try_begin().is_some());
        assert_eq!(arrivals.n_now(), 0);
    }
}
