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
    identity: B::Identity,
    connection: B::Connection,
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
        let connection = self.backend.connect().await?;
        Ok(Open {
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
        idle.retain(|idle| idle.since.elapsed() < MAX_IDLE && idle.open.identity == *identity);
        idle.pop().map(|idle| idle.open)
    }

    fn put_back(&self, open: Open<B>) {
        let since = Instant::now();
        self.idle.lock().push(Idle { since, open });
    }
}
