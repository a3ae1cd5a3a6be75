//! PostgreSQL: the query stands in a sub-query whose rows the database turns into JSON itself, so
//! that each type looks as it does everywhere else in PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use either::Either;
use futures_util::StreamExt;
use parking_lot::Mutex;
use sqlx::query::Query;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Executor, SqlSafeStr, SqlStr};
use sqlx::{Row as _, Statement, Type, TypeInfo};
use sqlx_postgres::{PgArguments, PgConnectOptions, PgConnection, PgDatabaseError, PgTypeInfo};
use sqlx_postgres::{PgErrorPosition, Postgres as Db};

use crate::error::{SqlError, WrongQuery, in_words};
use crate::parameters;
use crate::pool::Backend;
use crate::row::{Row, check_columns};

const EXPECTED: &str = "`select id, name from users where id = any($1)`";
/// What stands before the query, and behind it: a line break, since it may end in a comment.
const BEFORE: &str = "select row_to_json(herenow_row)::text from (\n";
const BEHIND: &str = "\n) herenow_row";

pub(crate) struct Postgres {
    options: PgConnectOptions,
    query: Arc<str>,
    wrapped: Arc<str>,
    statement_timeout: Duration,
    /// What the query wants its keys as; `None` until it was asked, or after it changed.
    keys_as: Mutex<Option<KeysAs>>,
}

/// What an array of keys consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeysAs {
    Text,
    Int2,
    Int4,
    Int8,
    Uuid,
}

type Asking<'q> = Query<'q, Db, PgArguments>;

impl Postgres {
    pub(crate) fn new(options: PgConnectOptions, query: &str, statement_timeout: Duration) -> Self {
        let query = query.trim().trim_end_matches(';');
        Self {
            options: options.disable_statement_logging(),
            query: query.into(),
            wrapped: format!("{BEFORE}{query}{BEHIND}").into(),
            statement_timeout,
            keys_as: Mutex::new(None),
        }
    }

    /// Asks the database what the query takes and returns.
    async fn describe(&self, connection: &mut PgConnection) -> Result<KeysAs, SqlError> {
        let prepared = connection.prepare(sql(&self.query)).await;
        let statement = prepared.map_err(|error| refused(&error, 0))?;
        let types = match statement.parameters() {
            Some(Either::Left(types)) => types,
            Some(Either::Right(_)) | None => &[],
        };
        let [keys] = types else {
            let (n, expected) = (types.len(), EXPECTED);
            return Err(WrongQuery::Parameters { n, expected }.into());
        };
        check_columns(statement.columns().iter().map(Column::name))?;
        let keys_as = KeysAs::of(keys)?;
        let types = [keys_as.type_info()];
        let wrapped = connection.prepare_with(sql(&self.wrapped), &types).await;
        wrapped.map_err(|error| refused(&error, BEFORE.chars().count()))?;
        Ok(keys_as)
    }
}

impl Backend for Postgres {
    type Connection = PgConnection;
    type Identity = ();

    /// A server that was replaced has ended its connections.
    async fn identity(&self) {}

    async fn connect(&self) -> Result<PgConnection, SqlError> {
        let connected = self.options.connect().await;
        let mut connection = connected.map_err(|error| not_connected(&error))?;
        // A query that nobody waits for must end there, too.
        let timeout = self.statement_timeout.as_millis();
        let settings =
            format!("set statement_timeout = {timeout}; set default_transaction_read_only = on");
        let set = connection
            .execute(sqlx::raw_sql(AssertSqlSafe(settings)))
            .await;
        set.map_err(|error| failed(&error))?;
        Ok(connection)
    }

    async fn check(&self, connection: &mut PgConnection) -> Result<(), SqlError> {
        let keys_as = self.describe(connection).await?;
        *self.keys_as.lock() = Some(keys_as);
        Ok(())
    }

    async fn ask(
        &self,
        connection: &mut PgConnection,
        keys: &[&str],
    ) -> Result<Vec<Row>, SqlError> {
        let known = *self.keys_as.lock();
        let keys_as = match known {
            Some(keys_as) => keys_as,
            None => {
                self.check(connection).await?;
                self.keys_as.lock().unwrap_or(KeysAs::Text)
            }
        };
        let (asking, n_asked) = keys_as.bind(sqlx::query(sql(&self.wrapped)), keys);
        if n_asked == 0 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut rows = connection.fetch(asking);
        while let Some(row) = rows.next().await {
            let json = row.and_then(|row| row.try_get::<String, _>(0));
            let json = json.map_err(|error| {
                let error = failed(&error);
                if error.is_wrong_query() {
                    *self.keys_as.lock() = None; // A column may have another type now.
                }
                error
            })?;
            found.extend(Row::from_object(&json)?);
            if found.len() > n_asked {
                return Err(SqlError::TooManyRows { max: n_asked });
            }
        }
        Ok(found)
    }
}

impl KeysAs {
    /// What the parameter's type asks for. Other types than these are given texts, which the
    /// database turns into what it needs or refuses when the query is checked.
    fn of(parameter: &PgTypeInfo) -> Result<Self, WrongQuery> {
        let name = parameter.name();
        match name {
            "INT2[]" => Ok(Self::Int2),
            "INT4[]" => Ok(Self::Int4),
            "INT8[]" => Ok(Self::Int8),
            "UUID[]" => Ok(Self::Uuid),
            "TEXT" | "VARCHAR" | "CHAR" | "INT2" | "INT4" | "INT8" | "UUID" => {
                let found = name.to_lowercase();
                Err(WrongQuery::NotAnArray { found })
            }
            _ => Ok(Self::Text),
        }
    }

    fn type_info(self) -> PgTypeInfo {
        match self {
            Self::Text => <Vec<String> as Type<Db>>::type_info(),
            Self::Int2 => <Vec<i16> as Type<Db>>::type_info(),
            Self::Int4 => <Vec<i32> as Type<Db>>::type_info(),
            Self::Int8 => <Vec<i64> as Type<Db>>::type_info(),
            Self::Uuid => <Vec<Uuid> as Type<Db>>::type_info(),
        }
    }

    /// Binds those keys that can be one, and tells how many they are.
    fn bind<'q>(self, query: Asking<'q>, keys: &[&str]) -> (Asking<'q>, usize) {
        match self {
            Self::Text => {
                // PostgreSQL's texts hold every character but this one.
                let keys: Vec<String> = keys
                    .iter()
                    .filter(|key| !key.contains('\0'))
                    .map(|key| (*key).to_owned())
                    .collect();
                let n_asked = keys.len();
                (query.bind(keys), n_asked)
            }
            Self::Int2 => bind_read::<i16>(query, keys),
            Self::Int4 => bind_read::<i32>(query, keys),
            Self::Int8 => bind_read::<i64>(query, keys),
            Self::Uuid => bind_read::<Uuid>(query, keys),
        }
    }
}

/// Binds the keys that are a `T`, written the way it is always written: `7`, and not `007`.
fn bind_read<'q, T>(query: Asking<'q>, keys: &[&str]) -> (Asking<'q>, usize)
where
    T: std::str::FromStr + ToString + Send + 'q,
    Vec<T>: sqlx::Encode<'q, Db> + Type<Db>,
{
    let read = |key: &&str| {
        key.parse()
            .ok()
            .filter(|read: &T| read.to_string() == **key)
    };
    let keys: Vec<T> = keys.iter().filter_map(read).collect();
    let n_asked = keys.len();
    (query.bind(keys), n_asked)
}

/// The operator's own text, which is what is to be run.
fn sql(text: &Arc<str>) -> SqlStr {
    AssertSqlSafe(text.clone()).into_sql_str()
}

/// An error of a query that is looked at for the first time, behind `n_before` characters.
fn refused(error: &sqlx::Error, n_before: usize) -> SqlError {
    let Some(said) = said(error) else {
        return failed(error);
    };
    if !said.code().starts_with("42") {
        return failed(error);
    }
    let position = match said.position() {
        Some(PgErrorPosition::Original(at)) => at.checked_sub(n_before),
        Some(PgErrorPosition::Internal { .. }) | None => None,
    };
    let hint = said.hint().map(|hint| format!("; {hint}"));
    let message = format!("{}{}", said.message(), hint.unwrap_or_default());
    WrongQuery::Refused { message, position }.into()
}

/// Why there is no connection. Where the database says so itself, what it said is all: the line
/// that comes with it is one of its own source.
fn not_connected(error: &sqlx::Error) -> SqlError {
    match said(error) {
        Some(said) => SqlError::Refuses {
            reason: said.message().to_owned(),
        },
        None => SqlError::unreachable(error),
    }
}

/// An error of a query that was fine.
fn failed(error: &sqlx::Error) -> SqlError {
    let Some(said) = said(error) else {
        return SqlError::not_said(error);
    };
    let (code, message) = (said.code(), said.message());
    // What stands between may leave the code out.
    match code.get(..2).unwrap_or_default() {
        // Connections and the server's life; what is below is said of the query or of data.
        "08" | "28" | "3D" | "53" | "57" | "58" if code != "57014" => SqlError::Refuses {
            reason: message.to_owned(),
        },
        "42" => WrongQuery::Refused {
            message: message.to_owned(),
            position: None,
        }
        .into(),
        "25" | "57" => SqlError::Failed {
            reason: message.to_owned(),
        },
        "" => SqlError::Failed {
            reason: "an error without a code".to_owned(),
        },
        _ => SqlError::Failed {
            reason: format!("error {code}"),
        },
    }
}

fn said(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Reads the options of a URL.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, String> {
    parameters::check(url)?;
    url.parse().map_err(|error: sqlx::Error| in_words(&error))
}
