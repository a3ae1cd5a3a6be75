//! SQLite: keys go in as a JSON list, for it has no arrays; rows are turned into JSON here, for it
//! has few types.

use std::sync::Arc;
use std::time::Duration;

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
/// SQLite's codes for a query that it does not understand, and for one that writes.
const WRONG: [i32; 2] = [1, 8];
/// Its codes for a file that it cannot use, or not now.
const NOT_THERE: [i32; 7] = [3, 5, 6, 10, 11, 14, 26];

pub(crate) struct Sqlite {
    options: SqliteConnectOptions,
    query: Arc<str>,
    /// Whether the query's shape was looked at.
    is_checked: Mutex<bool>,
}

impl Sqlite {
    pub(crate) fn new(options: SqliteConnectOptions, query: &str, busy_timeout: Duration) -> Self {
        Self {
            options: options
                .read_only(true)
                .create_if_missing(false)
                .busy_timeout(busy_timeout)
                .disable_statement_logging(),
            query: query.into(),
            is_checked: Mutex::new(false),
        }
    }

    fn sql(&self) -> SqlStr {
        AssertSqlSafe(self.query.clone()).into_sql_str()
    }
}

impl Backend for Sqlite {
    type Connection = SqliteConnection;

    async fn connect(&self) -> Result<SqliteConnection, SqlError> {
        let connected = self.options.connect().await;
        connected.map_err(|error| SqlError::unreachable(&error))
    }

    async fn check(&self, connection: &mut SqliteConnection) -> Result<(), SqlError> {
        let prepared = connection.prepare(self.sql()).await;
        let statement = prepared.map_err(|error| failed(&error))?;
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
        // Whether it writes is only known when it is run.
        let tried = connection
            .fetch_optional(sqlx::query(self.sql()).bind("[]"))
            .await;
        tried.map_err(|error| failed(&error))?;
        *self.is_checked.lock() = true;
        Ok(())
    }

    async fn ask(
        &self,
        connection: &mut SqliteConnection,
        keys: &[&str],
    ) -> Result<Vec<Row>, SqlError> {
        let is_checked = *self.is_checked.lock();
        if !is_checked {
            self.check(connection).await?;
        }
        let list = serde_json::to_string(keys).expect("texts are JSON");
        let mut found = Vec::new();
        let mut rows = connection.fetch(sqlx::query(self.sql()).bind(list));
        while let Some(row) = rows.next().await {
            let row = row.map_err(|error| failed(&error))?;
            found.extend(read(&row)?);
            if found.len() > keys.len() {
                return Err(SqlError::TooManyRows { max: keys.len() });
            }
        }
        Ok(found)
    }
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
    let raw = row.try_get_raw(at).map_err(|error| failed(&error))?;
    let held = if raw.is_null() {
        return Ok(Value::Null);
    } else {
        raw.type_info().name().to_owned()
    };
    let read = match held.as_str() {
        "REAL" => row.try_get_unchecked(at).map(Value::Real),
        "BLOB" => row.try_get_unchecked(at).map(Value::Blob),
        "TEXT" => row.try_get_unchecked(at).map(Value::Text),
        _ => row
            .try_get_unchecked::<i64, _>(at)
            .map(|number| Value::Number(number.to_string())),
    };
    read.map_err(|error| failed(&error))
}

/// Bytes as PostgreSQL writes them.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("\\x{}", digits.collect::<String>())
}

fn failed(error: &sqlx::Error) -> SqlError {
    let Some(said) = error.as_database_error() else {
        return SqlError::unreachable(error);
    };
    // The primary code is in the lowest byte.
    let code = said.code().and_then(|code| code.parse::<i32>().ok());
    let code = code.unwrap_or_default() & 0xff;
    let message = said.message().to_owned();
    if WRONG.contains(&code) {
        let position = None;
        WrongQuery::Refused { message, position }.into()
    } else if NOT_THERE.contains(&code) {
        SqlError::Unreachable { reason: message }
    } else {
        let reason = format!("error {code}");
        SqlError::Failed { reason }
    }
}

/// Reads the options of a URL.
pub(crate) fn options(url: &str) -> Result<SqliteConnectOptions, String> {
    url.parse().map_err(|error: sqlx::Error| in_words(&error))
}
