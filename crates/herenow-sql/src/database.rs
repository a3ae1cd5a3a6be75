//! [`Database`]: one query on one database.

use std::fmt;
use std::time::Duration;

use crate::error::{SqlError, UrlError};
use crate::pool::Pool;
use crate::postgres::{self, Postgres};
use crate::row::Row;
use crate::sqlite::{self, Sqlite};

/// What databases can count, in milliseconds: none would be for ever on PostgreSQL.
const TIMEOUTS: (Duration, Duration) = (
    Duration::from_millis(1),
    Duration::from_secs(24 * 24 * 60 * 60),
);

/// Which database, and what to ask it. The URL may hold a password, so `Debug` does not show it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Where it is: `postgres://…` or `sqlite:…`.
    pub url: String,
    /// What it is asked, see the front page.
    pub query: String,
    /// After this time the database itself gives a query up, or the wait for a lock. Default 5 s;
    /// less than 1 ms is 1 ms, and more than 24 days are 24 days.
    pub statement_timeout: Duration,
}

impl Settings {
    /// The settings of `query` on the database at `url`.
    pub fn new(url: impl Into<String>, query: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            query: query.into(),
            statement_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("query", &self.query)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

/// One query on one database, and connections to it. See the front page.
pub struct Database {
    query: String,
    pool: AnyPool,
}

enum AnyPool {
    Postgres(Pool<Postgres>),
    Sqlite(Pool<Sqlite>),
}

impl Database {
    /// Reads the settings; nothing is connected to yet.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL is none of PostgreSQL's or SQLite's.
    pub fn new(settings: &Settings) -> Result<Self, UrlError> {
        let Settings {
            url,
            query,
            statement_timeout,
        } = settings;
        let timeout = (*statement_timeout).clamp(TIMEOUTS.0, TIMEOUTS.1);
        let invalid = |reason| UrlError::Invalid { reason };
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let pool = match scheme {
            "postgres" | "postgresql" => {
                let options = postgres::options(url).map_err(invalid)?;
                AnyPool::Postgres(Pool::new(Postgres::new(options, query, timeout)))
            }
            "sqlite" => {
                let options = sqlite::options(url).map_err(invalid)?;
                AnyPool::Sqlite(Pool::new(Sqlite::new(options, query, timeout)))
            }
            _ => {
                let scheme = scheme.to_owned();
                return Err(UrlError::Scheme { scheme });
            }
        };
        Ok(Self {
            query: query.clone(),
            pool,
        })
    }

    /// Returns what kind of database it is: `postgres` or `sqlite`.
    pub fn kind(&self) -> &'static str {
        match &self.pool {
            AnyPool::Postgres(_) => "postgres",
            AnyPool::Sqlite(_) => "sqlite",
        }
    }

    /// Connects, and has the database look at the query.
    ///
    /// # Errors
    ///
    /// [`SqlError::Unreachable`] if the database is not there; [`SqlError::Refuses`] if it is, and
    /// takes no connection; [`SqlError::Wrong`] if it does, and the query can never work.
    pub async fn check(&self) -> Result<(), SqlError> {
        match &self.pool {
            AnyPool::Postgres(pool) => pool.check().await,
            AnyPool::Sqlite(pool) => pool.check().await,
        }
    }

    /// Returns the rows of `keys`, which must be distinct, by one query. Their order is the
    /// database's; a key without a row has none.
    ///
    /// Dropped before it is done, it closes its connection, and the query ends as the front page
    /// says.
    ///
    /// # Errors
    ///
    /// [`SqlError`], and no row then.
    pub async fn ask(&self, keys: &[&str]) -> Result<Vec<Row>, SqlError> {
        match &self.pool {
            AnyPool::Postgres(pool) => pool.ask(keys).await,
            AnyPool::Sqlite(pool) => pool.ask(keys).await,
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("kind", &self.kind())
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}
