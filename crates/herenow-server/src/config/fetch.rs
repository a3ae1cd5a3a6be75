//! [`FetchConfig`]: where fields of presences come from, and how long may be waited for them.

use std::time::Duration;

use super::{ConfigError, Conflict, Origin, Secret, ServerConfig, is_plain_and_remote, url};

/// What an URL of a database begins with.
const SCHEMES: [&str; 3] = ["postgres://", "postgresql://", "sqlite:"];
/// The key of the database of all queries.
const DATABASE_URL: &str = "fetch.database_url";
/// Why plain HTTP to another machine is refused.
const PLAIN: &str = "fields that come over plain HTTP can be anybody's; use https";

/// Where fields of presences come from: a query or a callback for all topics, and others for
/// those that say so. By default there is none.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FetchConfig {
    /// The database of all queries, none.
    pub database_url: Option<Secret>,
    /// A file to read it from, none.
    pub database_url_file: Option<String>,
    /// What the database is asked for topics without a query of their own, nothing.
    pub query: Option<String>,
    /// Where fields are asked for instead, nowhere.
    pub url: Option<String>,
    /// Whether that may be plain HTTP elsewhere than on loopback, no.
    pub allow_http: bool,
    /// What is presented there as `authorization: Bearer …`, nothing.
    pub token: Option<Secret>,
    /// A file to read it from, none.
    pub token_file: Option<String>,
    /// The longest that a diff or a list waits for fields, 500 ms.
    pub deadline: Duration,
    /// For how long fields are shown without asking again, 1 min.
    pub ttl: Duration,
    /// For how long after that they are shown while the source is down, 1 day.
    pub max_stale: Duration,
    /// Keys whose fields are kept for each source, 100,000.
    pub max_cached: usize,
    /// Bytes that are kept for each source, 64 MiB.
    pub max_cached_bytes: usize,
    /// Keys that one query asks for, 5,000.
    pub max_keys: usize,
    /// Queries of one source at a time, 8.
    pub max_queries: usize,
    /// Largest fields of one key, as JSON, 8 KiB.
    pub max_fields_bytes: usize,
    /// Largest answer of a callback, 16 MiB.
    pub max_answer_bytes: usize,
    /// Failures in a row after which a source gets a pause, 3.
    pub max_failures: usize,
    /// The first pause, 1 s; each one after it is twice as long.
    pub min_pause: Duration,
    /// The longest pause, 30 s.
    pub max_pause: Duration,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            database_url: None,
            database_url_file: None,
            query: None,
            url: None,
            allow_http: false,
            token: None,
            token_file: None,
            deadline: Duration::from_millis(500),
            ttl: Duration::from_secs(60),
            max_stale: Duration::from_secs(86_400),
            max_cached: 100_000,
            max_cached_bytes: 64 << 20,
            max_keys: 5_000,
            max_queries: 8,
            max_fields_bytes: 8 << 10,
            max_answer_bytes: 16 << 20,
            max_failures: 3,
            min_pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(30),
        }
    }
}

/// Where the topics of one pattern get their fields from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicFetch {
    /// `false`: from nowhere, whatever there is for others.
    pub on: Option<bool>,
    /// From the database, by this query.
    pub query: Option<String>,
    /// From a callback at this URL.
    pub url: Option<String>,
}

/// Where fields come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FieldsFrom<'a> {
    /// The database, by this query.
    Query(&'a str),
    /// A callback at this URL.
    Url(&'a str),
}

impl FieldsFrom<'_> {
    /// The key that says where that is, if `key` is the one that asks for it.
    pub(crate) fn place<'k>(&self, key: &'k str) -> &'k str {
        match self {
            Self::Query(_) => DATABASE_URL,
            Self::Url(_) => key,
        }
    }
}

impl FetchConfig {
    /// What topics get their fields from that have nothing of their own.
    pub(crate) fn general(&self) -> Option<FieldsFrom<'_>> {
        let url = self.url.as_deref().map(FieldsFrom::Url);
        self.query.as_deref().map(FieldsFrom::Query).or(url)
    }
}

impl TopicFetch {
    /// What the topics get their fields from, where `general` is for all that do not say.
    pub(crate) fn over<'a>(&'a self, general: Option<FieldsFrom<'a>>) -> Option<FieldsFrom<'a>> {
        let query = self.query.as_deref().map(FieldsFrom::Query);
        let own = query.or(self.url.as_deref().map(FieldsFrom::Url));
        match self.on {
            Some(false) => None,
            Some(true) | None => own.or(general),
        }
    }
}

/// Two keys that do not go together, and why, if `key` is one of them.
pub(super) fn conflict(
    config: &ServerConfig,
    key: &'static str,
    is_set: &dyn Fn(&str) -> bool,
) -> Option<(&'static str, &'static str, &'static str)> {
    let fetch = &config.fetch;
    match key {
        "fetch.database_url_file" if is_set("fetch.database_url") => {
            Some((key, "fetch.database_url", "only one of them can hold it"))
        }
        "fetch.token_file" if is_set("fetch.token") => {
            Some((key, "fetch.token", "only one of them can hold the token"))
        }
        "fetch.url" if is_set("fetch.query") => {
            let rule = "fields come from one of them; a topic can have another one of its own";
            Some((key, "fetch.query", rule))
        }
        "fetch.url" if !fetch.allow_http && is_plain_and_remote(fetch.url.as_deref()?) => {
            Some((key, "fetch.allow_http", PLAIN))
        }
        "fetch.min_pause" | "fetch.max_pause" if fetch.min_pause > fetch.max_pause => {
            let is_second = key == "fetch.max_pause" && is_set("fetch.min_pause");
            let other = match key {
                "fetch.min_pause" => "fetch.max_pause",
                _ => "fetch.min_pause",
            };
            let rule = "the least pause must not be longer than the longest";
            (!is_second).then_some((key, other, rule))
        }
        _ => None,
    }
}

/// Tells what does not go together with the topics, or is not there to work with.
pub(super) fn check(config: &ServerConfig, origin: &dyn Fn(&str) -> Origin) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for (at, topic) in config.topics.iter().enumerate() {
        errors.extend(check_topic(
            config.fetch.allow_http,
            at,
            &topic.fetch,
            origin,
        ));
    }
    errors.extend(check_database(config, origin));
    errors
}

/// What does not go together in an entry of the topics.
fn check_topic(
    allow_http: bool,
    at: usize,
    topic: &TopicFetch,
    origin: &dyn Fn(&str) -> Origin,
) -> Option<ConfigError> {
    let url = topic.url.as_deref()?;
    let (other, other_value, other_origin, rule) = match &topic.query {
        Some(query) => (
            format!("topics[{at}].fetch_query"),
            format!("{query:?}"),
            origin("topics"),
            "fields come from one of them",
        ),
        None if !allow_http && is_plain_and_remote(url) => (
            "fetch.allow_http".to_owned(),
            "false".to_owned(),
            origin("fetch.allow_http"),
            PLAIN,
        ),
        None => return None,
    };
    Some(ConfigError::Conflict(Box::new(Conflict {
        origin: origin("topics"),
        key: format!("topics[{at}].fetch_url"),
        value: url::known(url),
        other,
        other_value,
        other_origin,
        rule,
    })))
}

/// What is missing for queries, or wrong with the database that they are for.
fn check_database(config: &ServerConfig, origin: &dyn Fn(&str) -> Origin) -> Option<ConfigError> {
    let fetch = &config.fetch;
    let general = fetch
        .query
        .as_ref()
        .map(|_| ("fetch.query".to_owned(), "fetch.query"));
    let mut topics = config.topics.iter();
    let own = topics.position(|topic| topic.fetch.query.is_some());
    let asked = general.or(own.map(|at| (format!("topics[{at}].fetch_query"), "topics")));
    let url = fetch.database_url.as_ref();
    let Some((key, place)) = asked else {
        return url.map(|_| ConfigError::Missing {
            origin: origin(DATABASE_URL),
            key: "fetch.query, which says what to ask the database,".to_owned(),
        });
    };
    let Some(url) = url else {
        // If there is a file to read it from, that it could not be read was said already.
        return fetch
            .database_url_file
            .is_none()
            .then(|| ConfigError::Missing {
                origin: origin(place),
                key: format!("{DATABASE_URL}, which {key} is for,"),
            });
    };
    let is_known = SCHEMES
        .iter()
        .any(|scheme| url.expose().starts_with(scheme));
    if !is_known {
        return Some(ConfigError::WrongType {
            origin: origin(DATABASE_URL),
            key: DATABASE_URL.to_owned(),
            value: "something else".to_owned(), // It may hold a password.
            expected: "postgres://… or sqlite:…".to_owned(),
        });
    }
    let origin = origin(place);
    (!cfg!(feature = "sql")).then_some(ConfigError::SqlNotBuilt { origin, key })
}

/// Tells whether `text` can be a query.
pub(super) fn is_query(text: &str) -> bool {
    !text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_722_a_topic_has_its_own_source_or_the_general_one_or_none() {
        let general = Some(FieldsFrom::Query("select 1"));
        let mut topic = TopicFetch::default();
        assert_eq!(topic.over(general), general);
        assert_eq!(topic.over(None), None);
        topic.url = Some("http://localhost/".to_owned());
        assert_eq!(
            topic.over(general),
            Some(FieldsFrom::Url("http://localhost/"))
        );
        topic.on = Some(false);
        assert_eq!(topic.over(general), None);
    }
}
