//! Connections, and channels with tokens of their own, by the time at which their tokens expire.
//!
//! One list for all, owned here and looked through twice a second by [`Expiries::run`]; each takes
//! its entry out when it ends. The times are of the wall clock, as tokens are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herenow_channels::{CloseCode, ConnectionHandle, Handle, InfoError};
use parking_lot::Mutex;

use super::refusal::TokenMetrics;
use crate::clock::unix_seconds;

/// How a connection is closed whose token is over: a code of the range for applications, after
/// which clients come back, with a new token if they have one.
pub(super) const CLOSE_CODE: CloseCode = CloseCode(4401);
/// The text of the close frame, and the reason in the `phx_error` of each channel.
pub(super) const CLOSE_TEXT: &str = "token_expired";
/// How often the list is looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// Tells a channel that its token is over.
#[derive(Debug)]
pub(crate) struct TokenExpired;

/// What ends with a token.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// Is closed.
    Connection(ConnectionHandle),
    /// Is told [`TokenExpired`].
    Channel(Handle),
}

/// The place of a channel in the list, until this is dropped.
#[derive(Debug)]
pub(crate) struct Expiry {
    expiries: Arc<Expiries>,
    place: Place,
}

/// The place of one of them in the list: its end in seconds since 1970, and a number.
pub(super) type Place = (u64, u64);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Expiries(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    held: BTreeMap<Place, Held>,
    next: u64,
}

impl Expiries {
    /// Has what is held ended at `expires_at`.
    pub(super) fn insert(&self, expires_at: u64, held: Held) -> Place {
        let mut list = self.0.lock();
        let place = (expires_at, list.next);
        list.next += 1;
        list.held.insert(place, held);
        place
    }

    /// As [`Expiries::insert`], for as long as what is returned is kept.
    pub(super) fn hold(self: &Arc<Self>, expires_at: u64, channel: Handle) -> Expiry {
        let place = self.insert(expires_at, Held::Channel(channel));
        let expiries = self.clone();
        Expiry { expiries, place }
    }

    /// Forgets what is at a place.
    pub(super) fn remove(&self, place: Place) {
        self.0.lock().held.remove(&place);
    }

    /// Ends whose time has come, for ever.
    pub(super) async fn run(self: Arc<Self>, metrics: Arc<TokenMetrics>) {
        let mut clock = tokio::time::interval(PERIOD);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let due = self.take_due(unix_seconds());
            let n_due = due.len();
            for (place, held) in due {
                self.end(place, held, &metrics);
            }
            if n_due > 0 {
                tracing::info!(n_expired = n_due, "tokens expired");
            }
        }
    }

    /// Ends what is held, and counts it if it was there.
    fn end(&self, place: Place, held: Held, metrics: &TokenMetrics) {
        match &held {
            Held::Connection(connection) => {
                if connection.close_unauthorized(CLOSE_CODE, CLOSE_TEXT) {
                    metrics.count_expired();
                }
            }
            Held::Channel(channel) => match channel.send(TokenExpired) {
                Ok(()) => metrics.count_expired_channel(),
                // The channels of its connection are behind: it is told the next time.
                Err(InfoError::Full { .. }) => {
                    self.0.lock().held.insert(place, held);
                }
                Err(_) => {}
            },
        }
    }

    fn take_due(&self, now: u64) -> Vec<(Place, Held)> {
        let mut list = self.0.lock();
        let rest = list.held.split_off(&(now.saturating_add(1), 0));
        std::mem::replace(&mut list.held, rest)
            .into_iter()
            .collect()
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.expiries.remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_605_what_is_due_leaves_the_list_and_what_ended_is_gone_from_it() {
        let expiries = Expiries::default();
        let insert = |at| expiries.insert(at, Held::Connection(ConnectionHandle::default()));
        let (_, second, _) = (insert(10), insert(10), insert(11));
        expiries.remove(second);
        assert_eq!(expiries.take_due(9).len(), 0);
        assert_eq!(expiries.take_due(10).len(), 1);
        assert_eq!(expiries.take_due(10).len(), 0);
        assert_eq!(expiries.take_due(u64::MAX).len(), 1);
    }
}
