//! What can go wrong, told apart by what to do about it. No error shows a URL or a password.

use std::time::Duration;

/// Why a URL names no database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Of another kind.
    #[error("a database's URL begins with postgres:// or sqlite:, not with {scheme:?}")]
    Scheme {
        /// What it begins with.
        scheme: String,
    },
    /// Of the right kind, but not readable.
    #[error("this is no URL of a database: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
}

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The database is not there, or went away.
    #[error("the database cannot be reached: {reason}")]
    Unreachable {
        /// What the system said.
        reason: String,
    },
    /// The database is there and takes no connection: the password is wrong, or there are too many.
    #[error("the database refuses: {reason}")]
    Refuses {
        /// What it said.
        reason: String,
    },
    /// The query can never work as it is.
    #[error(transparent)]
    Wrong(#[from] WrongQuery),
    /// The database answered with an error, this time.
    #[error("the database answered with an error: {reason}")]
    Failed {
        /// What it said; only its code where the text may repeat data.
        reason: String,
    },
    /// The query took longer than it may.
    #[error("the query was given up after {} ms (statement_timeout)", after.as_millis())]
    Late {
        /// What it may take.
        after: Duration,
    },
    /// More rows than one for each key.
    #[error("the query returned more than {max} rows for {max} keys, it may return one for each")]
    TooManyRows {
        /// The number of keys.
        max: usize,
    },
}

/// Why a query can never work as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrongQuery {
    /// The database does not understand it.
    #[error("{message}{}", at(*position))]
    Refused {
        /// What the database said.
        message: String,
        /// Which character of the query it means, from 1.
        position: Option<usize>,
    },
    /// It is more than one.
    #[error("it is more than one statement, it must be one")]
    Statements,
    /// It takes no keys, or something else too.
    #[error("it has {n} parameters, it must have one, which is for the keys: {expected}")]
    Parameters {
        /// How many it has.
        n: usize,
        /// What one looks like.
        expected: &'static str,
    },
    /// Its parameter takes one key, not many.
    #[error("its parameter is {found}, it must be an array: write `= any($1)` instead of `= $1`")]
    NotAnArray {
        /// The parameter's type.
        found: String,
    },
    /// There is no field in it.
    #[error("it returns {n} columns, it must return the key and at least one field after it")]
    Columns {
        /// How many it returns.
        n: usize,
    },
    /// Two columns have one name.
    #[error("it returns two columns called {name:?}; give one another name with `as`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A field would stand where the metas of a presence do.
    #[error("it returns a column called \"metas\", which is reserved; rename it with `as`")]
    Reserved,
    /// The first column is something that no key is.
    #[error("its first column, which is the key, must be text, a number or a uuid, not {found}")]
    Key {
        /// What it is.
        found: &'static str,
    },
}

impl SqlError {
    /// Tells whether the query, not the database, is what is wrong.
    pub fn is_wrong_query(&self) -> bool {
        matches!(self, Self::Wrong(_) | Self::TooManyRows { .. })
    }

    /// What the system said of a connection.
    pub(crate) fn unreachable(error: &sqlx::Error) -> Self {
        Self::Unreachable {
            reason: in_words(error),
        }
    }

    /// An error of a query that the database did not say: of the connection, unless it is of a
    /// value that came over it.
    pub(crate) fn not_said(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } => Self::Failed {
                reason: in_words(error),
            },
            error => Self::unreachable(error),
        }
    }

    /// Tells whether a connection is of no use any more.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refuses { .. })
    }
}

/// An error with its causes, which say what happened, without those that are said already.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}

fn at(position: Option<usize>) -> String {
    position.map_or_else(String::new, |at| format!(" (at character {at} of it)"))
}
