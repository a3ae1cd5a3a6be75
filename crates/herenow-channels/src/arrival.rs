//! Arrivals: how many may be on their way in at the same time.
//!
//! Who comes back after a restart costs most: the token is checked, the channels are made, the
//! presences tracked, the states sent. Whoever is inside already must be served meanwhile, so the door
//! stays shut while too many are between it and their seats: handshakes that are checked, and joins
//! that are not answered yet. A client that is sent away learns when to come back, each at another
//! time; one that is inside is never sent away for it, its joins only keep the door shut.
//!
//! Handshakes that are let in are checked a few at a time, in order: checking a token takes a core
//! for a while, and a thousand of them at once would all stand in front of the next heartbeat.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The seconds that a client is asked to wait, from one to this.
const MAX_RETRY_SECONDS: u64 = 5;

/// Those who are on their way in, of one mount.
pub(crate) struct Arrivals {
    max: usize,
    n_now: Arc<AtomicUsize>,
    turns: Semaphore,
}

/// One that is on its way in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Arrival(Arc<AtomicUsize>);

impl Arrivals {
    pub(crate) fn new(max: NonZero<usize>, max_checks: NonZero<usize>) -> Self {
        Self {
            max: max.get(),
            n_now: Arc::default(),
            turns: Semaphore::new(max_checks.get().min(Semaphore::MAX_PERMITS)),
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
        Arrival(Arc::clone(&self.n_now))
    }

    /// Waits for the turn to be checked.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turns.acquire().await;
        turn.expect("the semaphore is never closed")
    }

    /// Returns how many are on their way in.
    pub(crate) fn n_now(&self) -> usize {
        self.n_now.load(Ordering::Relaxed)
    }

    /// Returns the answer to one too many.
    pub(crate) fn refuse(&self) -> Response {
        let max = self.max;
        come_back_later(format!(
            "too many clients are on their way in, the limit is {max}\n"
        ))
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

/// Returns 503 with a text, and a `retry-after` of 1 to 5 seconds at random: those who are sent away
/// together do not come back together.
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
