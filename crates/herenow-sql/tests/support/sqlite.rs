//! Writes to a file of SQLite, as the application does whose file it is.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

/// Runs statements on a file, which is made if it is not there.
pub(crate) async fn execute(path: &Path, statements: &str) {
    let options = SqliteConnectOptions::new().filename(path);
    let mut writer = options.create_if_missing(true).connect().await.unwrap();
    let statements = AssertSqlSafe(statements.to_owned());
    writer.execute(sqlx::raw_sql(statements)).await.unwrap();
    writer.close().await.unwrap();
}
