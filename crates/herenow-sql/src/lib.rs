//! Fields of presences out of a database: many keys in, one query, fields by key out.
//!
//! A [`Database`] is one query on PostgreSQL or SQLite. The query takes all keys in its only
//! parameter, and returns at most one row for each: the key in the first column, whatever that is
//! called, and one field in each column after it.
//!
//! | | PostgreSQL | SQLite |
//! | --- | --- | --- |
//! | URL | `postgres://user:password@host/name?sslmode=verify-full` | `sqlite:///var/lib/app/app.db` |
//! | query | `select id, name from users where id = any($1)` | `select id, name from users where id in (select value from json_each(?1))` |
//! | keys are given as | an array of the type that the column has: text, integer or uuid | a JSON list of texts |
//! | a field is | what PostgreSQL's own `to_json` makes of the value | a number, a text, null; `true` or `false` if the column was declared `boolean`; JSON if the column is called so, as in `select id, prefs as "prefs: json"` |
//!
//! Keys and the first column are compared by their text. Keys that cannot be of the column's type,
//! such as `guest-7` where ids are numbers, are not asked for. The database is only read.
//!
//! This crate does not limit how many queries there are at a time, and waits for a connection as
//! long as it takes: whoever calls drops what takes too long, which closes its connection. The query
//! ends, too: at once on SQLite, if it does not wait for a lock, and after
//! [`Settings::statement_timeout`] otherwise. What is kept is idle connections, and the query's shape
//! is looked at on the first connection that there is.
//!
//! # Examples
//!
//! ```
//! use herenow_sql::{Database, Settings};
//!
//! let query = "select id, name from users where id = any($1)";
//! let settings = Settings::new("postgres://app@db.internal/app?sslmode=verify-full", query);
//! let users = Database::new(&settings)?;
//! assert_eq!(users.kind(), "postgres");
//! # Ok::<(), herenow_sql::UrlError>(())
//! ```

mod error;
mod row;
mod pool;
mod parameters;
mod postgres;
mod sqlite;
mod database;

pub use database::{Database, Settings};
pub use error::{SqlError, UrlError, WrongQuery};
pub use row::Row;
