//! Who is here: topics, presences of a topic, topics of a key; one by one, paged, or many at once.
//!
//! Pages are in ascending order, of topics or of keys, and `next` is the cursor after the last
//! entry: whoever comes and goes between two pages, nobody who stays is left out or comes twice.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use herenow_presence::{Entry, NameError, Presence, Topic};
use serde::Serialize;
use serde_json::value::RawValue;

use super::request::{cursor, first_cursor};
use super::{Api, At, Kind, Members, Problem, Query, answer};
use crate::limits::Named;

/// How many are present in a topic.
#[derive(Debug, Serialize)]
struct Count {
    topic: String,
    n_presences: usize,
    n_keys: usize,
}

#[derive(Debug, Serialize)]
struct Topics {
    topics: Vec<Count>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Counts {
    counts: Vec<Count>,
}

/// One key of a topic.
#[derive(Debug, Serialize)]
struct Present {
    key: String,
    /// In the order of tracking.
    metas: Vec<Box<RawValue>>,
    /// The node of each meta.
    nodes: Vec<String>,
    /// What `fetch` added.
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct Presents {
    topic: String,
    n_presences: usize,
    n_keys: usize,
    presences: Vec<Present>,
    next: Option<String>,
}

/// One topic that a key is in.
#[derive(Debug, Serialize)]
struct Place {
    topic: String,
    metas: Vec<Box<RawValue>>,
    nodes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Places {
    key: String,
    places: Vec<Place>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct ManyPlaces {
    keys: Vec<Places>,
}

/// `GET /api/topics?prefix=&limit=&cursor=`: topics somebody is in, with their counts.
pub(super) async fn topics(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Query::read(query.as_deref())?;
    let prefix = query.take("prefix").unwrap_or_default();
    let (limit, after) = (query.take_limit(api.config.max_page)?, query.take_cursor()?);
    query.finish()?;
    let mut names = api
        .presence
        .topics_page(&prefix, after.as_deref(), limit + 1);
    let next = next(&mut names, limit);
    let counts = names
        .iter()
        .map(|name| count_of(&api.presence, name.as_str()));
    // One that is empty has been left since it was named.
    let topics = counts.filter(|count| count.n_presences > 0).collect();
    Ok(answer(&Topics { topics, next }))
}

/// `GET /api/topics/{topic}`: how many are in it; nobody is no error.
pub(super) async fn count(
    State(api): State<Arc<Api>>,
    At(topic): At<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::read(query.as_deref())?.finish()?;
    api.check_topic(&topic)?;
    Ok(answer(&count_of(&api.presence, &topic)))
}

/// `POST /api/counts` with `{"topics": […]}`: how many are in each, in this order.
pub(super) async fn counts(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut members = Members::read(&headers, body, &api.config).await?;
    let topics = members.texts("topics", api.config.max_batch)?;
    members.finish()?;
    let count = |topic: &String| {
        api.check_topic(topic)?;
        Ok(count_of(&api.presence, topic))
    };
    let counts = topics.iter().map(count).collect::<Result<_, Problem>>()?;
    Ok(answer(&Counts { counts }))
}

/// `GET /api/topics/{topic}/presences?limit=&cursor=&bare=`: who is in it, by key.
pub(super) async fn presences(
    State(api): State<Arc<Api>>,
    At(topic): At<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Query::read(query.as_deref())?;
    let (limit, after) = (query.take_limit(api.config.max_page)?, query.take_cursor()?);
    let is_bare = query.take_switch("bare")?.unwrap_or(false);
    query.finish()?;
    api.check_topic(&topic)?;
    let page = match is_bare {
        true => api.presence.page_bare(&topic, after.as_deref(), limit),
        false => api.presence.page(&topic, after.as_deref(), limit).await,
    };
    let last = page.entries.last().filter(|_| page.has_more);
    Ok(answer(&Presents {
        n_presences: page.n_metas,
        n_keys: page.n_keys,
        next: last.map(|entry| cursor(entry.key().as_str())),
        presences: page.entries.iter().map(present).collect(),
        topic,
    }))
}

/// `GET /api/topics/{topic}/presences/{key}?bare=`: one key of it.
pub(super) async fn presence(
    State(api): State<Arc<Api>>,
    At((topic, key)): At<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Query::read(query.as_deref())?;
    let is_bare = query.take_switch("bare")?.unwrap_or(false);
    query.finish()?;
    api.check_topic(&topic)?;
    api.check_key(&key)?;
    let entry = match is_bare {
        true => api.presence.entry(&topic, &key),
        false => api.presence.get_by_key(&topic, &key).await,
    };
    let entry = entry.ok_or_else(|| not_present(&key))?;
    Ok(answer(&present(&entry)))
}

/// `GET /api/keys/{key}?limit=&cursor=`: where a key is, over all topics and nodes.
pub(super) async fn where_is(
    State(api): State<Arc<Api>>,
    At(key): At<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Query::read(query.as_deref())?;
    let (limit, after) = (query.take_limit(api.config.max_page)?, query.take_cursor()?);
    query.finish()?;
    api.check_key(&key)?;
    Ok(answer(&places(&api.presence, key, after.as_deref(), limit)))
}

/// `POST /api/where` with `{"keys": […]}`: where many keys are, the first `api.max_page` topics of
/// all of them.
pub(super) async fn where_are(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut members = Members::read(&headers, body, &api.config).await?;
    let keys = members.texts("keys", api.config.max_batch)?;
    members.finish()?;
    let mut n_left = api.config.max_page;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        api.check_key(&key)?;
        let places = places(&api.presence, key, None, n_left);
        n_left -= places.places.len();
        found.push(places);
    }
    Ok(answer(&ManyPlaces { keys: found }))
}

impl Api {
    /// Checks that a topic can be one.
    pub(crate) fn check_topic(&self, topic: &str) -> Result<(), Problem> {
        let max = self.presence.config().max_topic_bytes;
        check_name("topic", topic, max, Named::Topic)
    }

    /// Checks that a topic can be one that sockets join, with presence or without, or one that
    /// somebody can be present in.
    pub(crate) fn check_any_topic(&self, topic: &str) -> Result<(), Problem> {
        match self.max_topic_bytes > self.presence.config().max_topic_bytes {
            true => check_name("topic", topic, self.max_topic_bytes, Named::SocketTopic),
            false => self.check_topic(topic),
        }
    }

    /// Checks that a key can be one.
    pub(crate) fn check_key(&self, key: &str) -> Result<(), Problem> {
        let max = self.presence.config().max_key_bytes;
        check_name("key", key, max, Named::Key)
    }
}

fn check_name(field: &'static str, name: &str, max: usize, over: Named) -> Result<(), Problem> {
    match name.len() {
        0 => Err(NameError::Empty { field }.into()),
        len if len > max => Err(Problem::too_long(field, len, max, over)),
        _ => Ok(()),
    }
}

/// The key is not present where it was asked for.
pub(super) fn not_present(key: &str) -> Problem {
    let detail = "nobody is present in the topic by this key";
    Problem::new(Kind::NotPresent, detail)
        .field("key")
        .value(key)
}

fn count_of(presence: &Presence, topic: &str) -> Count {
    Count {
        n_presences: presence.count(topic),
        n_keys: presence.count_keys(topic),
        topic: topic.to_owned(),
    }
}

fn present(entry: &Entry) -> Present {
    let fields = entry.fields_json().map(raw);
    let (metas, nodes) = metas_and_nodes(entry);
    Present {
        key: entry.key().to_string(),
        metas,
        nodes,
        fields,
    }
}

fn places(presence: &Presence, key: String, after: Option<&str>, limit: usize) -> Places {
    let mut topics = presence.topics_of_key(&key, after, limit + 1);
    let next = match limit {
        0 => (!topics.is_empty()).then(first_cursor),
        _ => next(&mut topics, limit),
    };
    topics.truncate(limit);
    let place = |topic: &Topic| {
        // None: the key has left since the topic was named.
        let entry = presence.entry(topic.as_str(), &key)?;
        let (metas, nodes) = metas_and_nodes(&entry);
        Some(Place {
            topic: topic.to_string(),
            metas,
            nodes,
        })
    };
    let places = topics.iter().filter_map(place).collect();
    Places { key, places, next }
}

fn metas_and_nodes(entry: &Entry) -> (Vec<Box<RawValue>>, Vec<String>) {
    let metas = entry.metas().iter();
    metas
        .map(|meta| (raw(meta.json()), meta.node().to_string()))
        .unzip()
}

fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("presence renders JSON")
}

/// Cuts what is beyond the page, and returns the cursor of the next one if there is one.
fn next(topics: &mut Vec<Topic>, limit: usize) -> Option<String> {
    let has_more = topics.len() > limit;
    topics.truncate(limit);
    let last = topics.last().filter(|_| has_more)?;
    Some(cursor(last.as_str()))
}
