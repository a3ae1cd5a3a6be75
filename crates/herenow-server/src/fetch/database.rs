//! Fields from a database, by a query. A feature of this crate.

use super::source::Ask;
use crate::config::FetchConfig;

/// Makes what asks the database of `config` by `query`.
#[cfg(feature = "sql")]
pub(super) fn open(config: &FetchConfig, query: &str) -> Result<Box<dyn Ask>, String> {
    sql::open(config, query)
}

/// There is none; the configuration was refused for it already.
#[cfg(not(feature = "sql"))]
pub(super) fn open(_config: &FetchConfig, _query: &str) -> Result<Box<dyn Ask>, String> {
    Err("this program was built without databases".to_owned())
}

#[cfg(feature = "sql")]
mod sql {
    use std::pin::Pin;
    use std::time::Duration;

    use herenow_presence::{Key, Topic};
    use herenow_sql::{Database, Settings, SqlError};

    use super::super::source::{Answer, Ask, AskError, Found};
    use super::FetchConfig;

    struct Query {
        database: Database,
        text: String,
    }

    pub(super) fn open(config: &FetchConfig, query: &str) -> Result<Box<dyn Ask>, String> {
        let url = config.database_url.as_ref();
        let url = url.ok_or_else(|| "fetch.database_url is missing".to_owned())?;
        let mut settings = Settings::new(url.expose(), query);
        // Nobody waits for longer; the database need not either.
        settings.statement_timeout = config.deadline.max(Duration::from_millis(1));
        let database = Database::new(&settings).map_err(|error| error.to_string())?;
        let text = query.to_owned();
        Ok(Box::new(Query { database, text }))
    }

    impl Query {
        async fn rows(&self, keys: &[Key]) -> Result<Found, AskError> {
            let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
            let rows = self.database.ask(&keys).await.map_err(failed)?;
            Ok(rows.into_iter().map(|row| (row.key, row.fields)).collect())
        }
    }

    impl Ask for Query {
        fn kind(&self) -> &'static str {
            self.database.kind()
        }

        fn query(&self) -> Option<&str> {
            Some(&self.text)
        }

        fn is_by_topic(&self) -> bool {
            false
        }

        fn check(&self) -> Pin<Box<dyn Future<Output = Result<bool, AskError>> + Send + '_>> {
            Box::pin(async {
                self.database.check().await.map_err(failed)?;
                Ok(true)
            })
        }

        fn ask<'a>(&'a self, _topic: &'a Topic, keys: &'a [Key]) -> Answer<'a> {
            Box::pin(self.rows(keys))
        }
    }

    fn failed(error: SqlError) -> AskError {
        let is_wrong = error.is_wrong_query();
        let reason = match error {
            // Whoever waits gives up in the same moment, and says it like this.
            SqlError::Late { after } => {
                format!("no answer within {} ms (fetch.deadline)", after.as_millis())
            }
            error => error.to_string(),
        };
        AskError { reason, is_wrong }
    }
}
