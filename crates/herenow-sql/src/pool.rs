//! [`Pool`]: idle connections of one database.
//!
//! A connection is taken out for a query and put back when the query has ended well; whoever gives
//! up in the middle drops it, and with it what the database still had to say. So a connection here
//! is never in the middle of something. There is no limit: whoever queries limits how many do.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::SqlError;
use crate::row::Row;

/// Connections that were idle for longer are closed: what is between may have forgotten them.
const MAX_IDLE: Duration = Duration::from_secs(120);

/// Connections that are older are closed, idle or not: a name may stand for another machine by now,
/// and the one that it stood for may go on with what it had.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// A kind of database.
pub(crate) trait Backend: Send + Sync {
    type Connection: Send;
    /// What tells one database from another that took its place.
    type Identity: PartialEq + Send;

    /// Tells which database a connection would be to if it were opened now.
    fn identity(&self) -> impl Future<Output = Self::Identity> + Send;

    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, SqlError>> + Send;

    /// Checks that the query can work.
    fn check(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), SqlError>> + Send;

    /// Asks for rows of `keys`. After [`SqlError::Unreachable`] the connection is of no use.
    fn ask(
        &self,
        connection: &mut Self::Connection,
        keys: &[&str],
    ) -> impl Future<Output = Result<Vec<Row>, SqlError>> + Send;
}

/// A database and its idle connections, the one used last at the end.
pub(crate) struct Pool<B: Backend> {
    backend: B,
    idle: Mutex<Vec<Idle<B>>>,
}

struct Idle<B: Backend> {
    since: Instant,
    open: Open<B>,
}

/// A connection, and which database it is to.
struct Open<B: Backend> {
    at: Instant,
    identity: B::Identity,
    connection: B::Connection,
}

impl<B: Backend> Idle<B> {
    fn is_fit(&self, identity: &B::Identity) -> bool {
        self.since.elapsed() < MAX_IDLE
            && self.open.at.elapsed() < MAX_AGE
            && self.open.identity == *identity
    }
}

impl<B: Backend> Pool<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self {
            backend,
            idle: Mutex::default(),
        }
    }

    /// Connects, and checks the query.
    pub(crate) async fn check(&self) -> Result<(), SqlError> {
        let mut open = self.open(self.backend.identity().await).await?;
        self.backend.check(&mut open.connection).await?;
        self.put_back(open);
        Ok(())
    }

    /// Asks for rows of `keys`, on an idle connection or a new one. If the database restarted
    /// meanwhile, idle ones are dead: then it is asked again on a new one.
    pub(crate) async fn ask(&self, keys: &[&str]) -> Result<Vec<Row>, SqlError> {
        let identity = self.backend.identity().await;
        if let Some(mut open) = self.take(&identity) {
            match self.backend.ask(&mut open.connection, keys).await {
                Err(error) if error.is_unreachable() => self.idle.lock().clear(),
                answer => return self.done(open, answer),
            }
        }
        let mut open = self.open(identity).await?;
        let answer = self.backend.ask(&mut open.connection, keys).await;
        self.done(open, answer)
    }

    /// Opens a connection. `identity` was looked at before: if the database is replaced in between,
    /// the connection is taken for one to the old one, and not the other way round.
    async fn open(&self, identity: B::Identity) -> Result<Open<B>, SqlError> {
        let at = Instant::now();
        let connection = self.backend.connect().await?;
        Ok(Open {
            at,
            identity,
            connection,
        })
    }

    fn done(
        &self,
        open: Open<B>,
        answer: Result<Vec<Row>, SqlError>,
    ) -> Result<Vec<Row>, SqlError> {
        if answer.is_ok() {
            self.put_back(open);
        }
        answer
    }

    fn take(&self, identity: &B::Identity) -> Option<Open<B>> {
        let mut idle = self.idle.lock();
        idle.retain(|idle| idle.is_fit(identity));
        idle.pop().map(|idle| idle.open)
    }

    fn put_back(&self, open: Open<B>) {
        let since = Instant::now();
        self.idle.lock().push(Idle { since, open });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts the connections that were opened.
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Backend for Counter {
        type Connection = ();
        type Identity = ();

        async fn identity(&self) {}

        async fn connect(&self) -> Result<(), SqlError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        async fn check(&self, (): &mut ()) -> Result<(), SqlError> {
            Ok(())
        }

        async fn ask(&self, (): &mut (), _keys: &[&str]) -> Result<Vec<Row>, SqlError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1794_a_connection_that_was_idle_for_long_or_is_old_is_not_used_again() {
        let pool = Pool::new(Counter::default());
        let n_opened = || pool.backend.0.load(Ordering::Relaxed);
        let minute = Duration::from_secs(60);
        for _ in 0..30 {
            pool.ask(&[]).await.unwrap();
            tokio::time::advance(minute).await;
        }
        assert_eq!(n_opened(), 1, "it is in use");
        pool.ask(&[]).await.unwrap();
        assert_eq!(n_opened(), 2, "it was old");
        tokio::time::advance(2 * minute).await;
        pool.ask(&[]).await.unwrap();
        assert_eq!(n_opened(), 3, "it was idle");
    }
}
