//! SQLite: keys go in as a JSON list, for it has no arrays; rows are turned into JSON here, for it
//! has few types.

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use either::Either;
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Executor, SqlSafeStr, SqlStr};
use sqlx::{Row as _, Statement, TypeInfo, ValueRef};

use crate::error::{SqlError, WrongQuery, in_words};
use crate::pool::Backend;
use crate::row::{Fields, Row, check_columns, quoted};

const EXPECTED: &str = "`select id, name from users where id in (select value from json_each(?1))`";
/// The end of the name of a column whose texts are JSON.
const AS_JSON: &str = ": json";
/// After how many steps of a query SQLite asks whether it is to go on: less than a millisecond.
const STEPS: i32 = 1000;
/// SQLite's code for a query that it does not understand.
const WRONG: i32 = 1;
/// Its code for a query that writes; with details, it is for a file that somebody has to write to
/// before it can be read, such as one whose application died in the middle of a transaction.
const READ_ONLY: i32 = 8;
/// Its codes for a file that others have locked.
const LOCKED: [i32; 2] = [5, 6];
/// Its codes for a file that it cannot use.
const NOT_THERE: [i32; 5] = [3, 10, 11, 14, 26];
/// Its code for a query that was told not to go on.
const INTERRUPTED: i32 = 9;

pub(crate) struct Sqlite {
    options: SqliteConnectOptions,
    query: Arc<str>,
    statement_timeout: Duration,
    /// Whether the query's shape was looked at.
    is_checked: Mutex<bool>,
}

/// A connection, whose queries a thread of its own works on. Dropping it does not stop that thread
/// in the middle of a query, and neither does whoever stops waiting: `time` does.
pub(crate) struct Connection {
    sqlite: SqliteConnection,
    time: Arc<Mutex<Option<Instant>>>,
}

/// The device and the inode of a file; `None` if there is no file, as for a database in memory.
#[derive(PartialEq)]
pub(crate) struct Inode(Option<(u64, u64)>);

impl Sqlite {
    pub(crate) fn new(options: SqliteConnectOptions, query: &str, timeout: Duration) -> Self {
        Self {
            options: options
                .read_only(true)
                .create_if_missing(false)
                .busy_timeout(timeout)
                .disable_statement_logging(),
            query: query.into(),
            statement_timeout: timeout,
            is_checked: Mutex::new(false),
        }
    }

    fn sql(&self) -> SqlStr {
        AssertSqlSafe(self.query.clone()).into_sql_str()
    }

    /// From now on the connection may work for as long as one query may take.
    fn start(&self, connection: &Connection) {
        *connection.time.lock() = Instant::now().checked_add(self.statement_timeout);
    }

    /// Looks at the query's shape.
    async fn look(&self, connection: &mut SqliteConnection) -> Result<(), SqlError> {
        let prepared = connection.prepare(self.sql()).await;
        let statement = prepared.map_err(|error| self.failed(&error))?;
        let n = match statement.parameters() {
            Some(Either::Left(types)) => types.len(),
            Some(Either::Right(n)) => n,
            None => 0,
        };
        if n != 1 {
            let expected = EXPECTED;
            return Err(WrongQuery::Parameters { n, expected }.into());
        }
        let columns = statement.columns().iter();
        check_columns(columns.map(|column| name_of(column.name()).0))?;
        // Whether it writes, and how many statements it is, is only known when it is run.
        let mut n_done = 0;
        let mut tried = connection.fetch_many(sqlx::query(self.sql()).bind("[]"));
        while let Some(step) = tried.next().await {
            match step.map_err(|error| self.failed(&error))? {
                Either::Left(_done) => n_done += 1,
                Either::Right(_row) => break,
            }
        }
        if n_done > 1 {
            return Err(WrongQuery::Statements.into());
        }
        *self.is_checked.lock() = true;
        Ok(())
    }

    /// What SQLite says is wrong, of the query, or of the file, which is named then.
    fn failed(&self, error: &sqlx::Error) -> SqlError {
        let Some(said) = error.as_database_error() else {
            return SqlError::not_said(error);
        };
        let detailed = said.code().and_then(|code| code.parse::<i32>().ok());
        let detailed = detailed.unwrap_or_default();
        let code = detailed & 0xff; // The details are in the bytes above it.
        let message = said.message().to_owned();
        if code == WRONG || detailed == READ_ONLY {
            let position = None;
            WrongQuery::Refused { message, position }.into()
        } else if code == READ_ONLY || NOT_THERE.contains(&code) {
            let reason = self.of_file(&message);
            SqlError::Unreachable { reason }
        } else if LOCKED.contains(&code) {
            let reason = self.of_file(&message);
            SqlError::Failed { reason }
        } else if code == INTERRUPTED {
            let after = self.statement_timeout;
            SqlError::Late { after }
        } else {
            let reason = format!("error {code}");
            SqlError::Failed { reason }
        }
    }

    fn of_file(&self, message: &str) -> String {
        format!("{}: {message}", self.options.get_filename().display())
    }
}

impl Backend for Sqlite {
    type Connection = Connection;
    type Identity = Inode;

    /// A file that was moved to the place of another is another database; SQLite itself goes on
    /// with the one that it has open.
    async fn identity(&self) -> Inode {
        let looked = tokio::fs::metadata(self.options.get_filename()).await;
        Inode(looked.ok().map(|file| (file.dev(), file.ino())))
    }

    async fn connect(&self) -> Result<Connection, SqlError> {
        let not_there = |error| {
            let reason = self.of_file(&in_words(&error));
            SqlError::Unreachable { reason }
        };
        let mut sqlite = self.options.connect().await.map_err(not_there)?;
        let time = Arc::default();
        let watched = Arc::downgrade(&time);
        let mut handle = sqlite.lock_handle().await.map_err(not_there)?;
        handle.set_progress_handler(STEPS, move || goes_on(&watched));
        drop(handle);
        Ok(Connection { sqlite, time })
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), SqlError> {
        self.start(connection);
        self.look(&mut connection.sqlite).await
    }

    async fn ask(&self, connection: &mut Connection, keys: &[&str]) -> Result<Vec<Row>, SqlError> {
        self.start(connection);
        let is_checked = *self.is_checked.lock();
        if !is_checked {
            self.look(&mut connection.sqlite).await?;
        }
        let list = serde_json::to_string(keys).expect("texts are JSON");
        let mut found = Vec::new();
        let mut rows = connection.sqlite.fetch(sqlx::query(self.sql()).bind(list));
        while let Some(row) = rows.next().await {
            let row = row.map_err(|error| self.failed(&error))?;
            found.extend(read(&row)?);
            if found.len() > keys.len() {
                return Err(SqlError::TooManyRows { max: keys.len() });
            }
        }
        Ok(found)
    }
}

/// Tells whether a query is to go on: until its time is over, or its connection is dropped.
fn goes_on(time: &Weak<Mutex<Option<Instant>>>) -> bool {
    let Some(time) = time.upgrade() else {
        return false;
    };
    let until = *time.lock();
    until.is_none_or(|until| Instant::now() < until)
}

/// Turns a row into JSON; `None` if its key is null.
fn read(row: &SqliteRow) -> Result<Option<Row>, SqlError> {
    let key = match value(row, 0)? {
        Value::Null => return Ok(None),
        Value::Text(key) => key,
        Value::Number(key) => key,
        Value::Real(_) | Value::Blob(_) => {
            let found = "a blob or a fraction";
            return Err(WrongQuery::Key { found }.into());
        }
    };
    let mut fields = Fields::default();
    for (at, column) in row.columns().iter().enumerate().skip(1) {
        let (name, is_json) = name_of(column.name());
        let is_boolean = column.type_info().name() == "BOOLEAN";
        let json = match value(row, at)? {
            Value::Null => "null".to_owned(),
            Value::Number(number) if is_boolean => (number != "0").to_string(),
            Value::Number(number) => number,
            // There is no such number in JSON as infinity.
            Value::Real(real) => {
                serde_json::to_string(&real).expect("a number, or null if it is not finite")
            }
            Value::Text(text) if is_json && is_valid(&text) => text,
            Value::Text(text) => quoted(&text),
            Value::Blob(bytes) => quoted(&hex(&bytes)),
        };
        fields.add(name, &json);
    }
    Ok(Some(Row {
        key,
        fields: fields.finish(),
    }))
}

/// The name of a column's field, and whether its texts are JSON: SQLite has no type that says so,
/// so the column's name does.
fn name_of(column: &str) -> (&str, bool) {
    match column.strip_suffix(AS_JSON) {
        Some(name) => (name, true),
        None => (column, false),
    }
}

fn is_valid(json: &str) -> bool {
    serde_json::from_str::<&RawValue>(json).is_ok()
}

/// What SQLite itself knows of a value.
enum Value {
    Null,
    Number(String),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

fn value(row: &SqliteRow, at: usize) -> Result<Value, SqlError> {
    let raw = row
        .try_get_raw(at)
        .map_err(|error| SqlError::not_said(&error))?;
    let held = if raw.is_null() {
        return Ok(Value::Null);
    } else {
        raw.type_info().name().to_owned()
    };
    let read = match held.as_str() {
        "REAL" => row.try_get_unchecked(at).map(Value::Real),
        "BLOB" => row.try_get_unchecked(at).map(Value::Blob),
        // SQLite does not check its texts, and one that is none is not to cost the others theirs.
        "TEXT" => row
            .try_get_unchecked::<Vec<u8>, _>(at)
            .map(|bytes| Value::Text(String::from_utf8_lossy(&bytes).into_owned())),
        _ => row
            .try_get_unchecked::<i64, _>(at)
            .map(|number| Value::Number(number.to_string())),
    };
    read.map_err(|error| SqlError::not_said(&error))
}

/// Bytes as PostgreSQL writes them.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("\\x{}", digits.collect::<String>())
}

/// Reads the options of a URL.
pub(crate) fn options(url: &str) -> Result<SqliteConnectOptions, String> {
    url.parse().map_err(|error: sqlx::Error| in_words(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn srv_1790_each_query_on_a_connection_of_sqlite_has_its_own_time() {
        let query = "with recursive c (x) as (select 1 union all select x + 1 from c limit 10000) \
                     select value as id, (select max(x) from c) as n from json_each(?1)";
        let timeout = Duration::from_secs(3600);
        let sqlite = Sqlite::new(options("sqlite::memory:").unwrap(), query, timeout);
        let mut connection = sqlite.connect().await.unwrap();
        for _ in 0..2 {
            // As if the time of the query before was over.
            *connection.time.lock() = Some(Instant::now());
            let rows = sqlite.ask(&mut connection, &["ada"]).await.unwrap();
            assert_eq!(rows[0].fields, r#"{"n":10000}"#);
        }
    }
}
