//! Writes to a file of SQLite, as the application does whose file it is.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

/// How long whoever reads the file may hold a writer up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at a file that is not read yet.
const LOOK: Duration = Duration::from_millis(5);
/// Works only while nobody reads.
const ALONE: &str = "begin exclusive; commit";

/// Runs statements on a file, which is made if it is not there.
pub(crate) async fn execute(path: &Path, statements: &str) {
    let mut writer = open(path).await;
    run(&mut writer, statements).await;
    writer.close().await.unwrap();
}

/// Opens a file, which is made if it is not there.
pub(crate) async fn open(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    let options = options.busy_timeout(PATIENCE);
    options.create_if_missing(true).connect().await.unwrap()
}

/// Runs statements, after which a transaction may be open.
pub(crate) async fn run(writer: &mut SqliteConnection, statements: &str) {
    let statements = AssertSqlSafe(statements.to_owned());
    writer.execute(sqlx::raw_sql(statements)).await.unwrap();
}

/// Waits until somebody reads the file, which keeps writers out meanwhile.
pub(crate) async fn until_read(path: &Path) {
    let options = SqliteConnectOptions::new().filename(path);
    let options = options.busy_timeout(Duration::ZERO);
    let mut writer = options.connect().await.unwrap();
    let looks = async {
        while writer.execute(ALONE).await.is_ok() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, looks).await;
    assert!(seen.is_ok(), "nobody reads {}", path.display());
}

/// Waits until nobody reads the file.
pub(crate) async fn until_free(path: &Path) {
    execute(path, ALONE).await;
}
