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
    idle: Mutex<Vec<(Instant, B::Connection)>>,
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
        let mut connection = self.backend.connect().await?;
        self.backend.check(&mut connection).await?;
        self.put_back(connection);
        Ok(())
    }

    /// Asks for rows of `keys`, on an idle connection or a new one. If the database restarted
    /// meanwhile, idle ones are dead: then it is asked again on a new one.
    pub(crate) async fn ask(&self, keys: &[&str]) -> Result<Vec<Row>, SqlError> {
        if let Some(mut connection) = self.take() {
            match self.backend.ask(&mut connection, keys).await {
                Err(error) if error.is_unreachable() => self.idle.lock().clear(),
                answer => return self.done(connection, answer),
            }
        }
        let mut connection = self.backend.connect().await?;
        let answer = self.backend.ask(&mut connection, keys).await;
        self.done(connection, answer)
    }

    fn done(
        &self,
        connection: B::Connection,
        answer: Result<Vec<Row>, SqlError>,
    ) -> Result<Vec<Row>, SqlError> {
        if answer.is_ok() {
            self.put_back(connection);
        }
        answer
    }

    fn take(&self) -> Option<B::Connection> {
        let mut idle = self.idle.lock();
        idle.retain(|(since, _)| since.elapsed() < MAX_IDLE);
        idle.pop().map(|(_, connection)| connection)
    }

    fn put_back(&self, connection: B::Connection) {
        self.idle.lock().push((Instant::now(), connection));
    }
}
