//! Connections by the time at which their tokens expire.
//!
//! One list for all, owned here and looked through twice a second by [`Expiries::run`]; a
//! connection takes its entry out when it ends. The times are of the wall clock, as tokens are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herenow_channels::{CloseCode, ConnectionHandle};
use parking_lot::Mutex;

use super::refusal::TokenMetrics;

/// How a connection is closed whose token is over: a code of the range for applications, after
/// which clients come back, with a new token if they have one.
pub(super) const CLOSE_CODE: CloseCode = CloseCode(4401);
/// The text of the close frame, and the reason in the `phx_error` of each channel.
pub(super) const CLOSE_TEXT: &str = "token_expired";
/// How often the list is looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// The place of a connection in the list: its end in seconds since 1970, and a number.
pub(super) type Place = (u64, u64);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Expiries(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    connections: BTreeMap<Place, ConnectionHandle>,
    next: u64,
}

impl Expiries {
    /// Has a connection closed at `expires_at`.
    pub(super) fn insert(&self, expires_at: u64, connection: ConnectionHandle) -> Place {
        let mut list = self.0.lock();
        let place = (expires_at, list.next);
        list.next += 1;
        list.connections.insert(place, connection);
        place
    }

    /// Forgets a connection.
    pub(super) fn remove(&self, place: Place) {
        self.0.lock().connections.remove(&place);
    }

    /// Closes connections whose time has come, for ever.
    pub(super) async fn run(self: Arc<Self>, metrics: Arc<TokenMetrics>) {
        let mut clock = tokio::time::interval(PERIOD);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let due = self.take_due(unix_seconds());
            for connection in &due {
                if connection.close_unauthorized(CLOSE_CODE, CLOSE_TEXT) {
                    metrics.count_expired();
                }
            }
            if !due.is_empty() {
                tracing::info!(n_connections = due.len(), "tokens expired");
            }
        }
    }

    fn take_due(&self, now: u64) -> Vec<ConnectionHandle> {
        let mut list = self.0.lock();
        let rest = list.connections.split_off(&(now.saturating_add(1), 0));
        std::mem::replace(&mut list.connections, rest)
            .into_values()
            .collect()
    }
}

/// Seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_605_what_is_due_leaves_the_list_and_what_ended_is_gone_from_it() {
        let expiries = Expiries::default();
        let insert = |at| expiries.insert(at, ConnectionHandle::default());
        let (_, second, _) = (insert(10), insert(10), insert(11));
        expiries.remove(second);
        assert_eq!(expiries.take_due(9).len(), 0);
        assert_eq!(expiries.take_due(10).len(), 1);
        assert_eq!(expiries.take_due(10).len(), 0);
        assert_eq!(expiries.take_due(u64::MAX).len(), 1);
    }
}
