//! Acting for a backend: broadcasts, presences with a lease, evictions, and draining the node.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use herenow_presence::Topic;
use herenow_pubsub::{MAX_EVENT_BYTES, Payload};
use serde_json::{Value, json};

use super::topics::not_present;
use super::{Api, At, Kind, Members, Problem, Query, answer};
use crate::builtin::is_reserved;
use crate::limits::Named;
use crate::people::{Change, Held, Name, PeopleError};

/// Why an event cannot be broadcast.
const RESERVED: &str = "an event of the backend's own: names that begin with phx_, presence_, \
                        presence: or herenow:, and disconnect, are the server's";

/// What is known of a presence from other nodes: that it is there, and not whose it is.
const ASKED: &str = "the nodes were asked: one that holds the presence for a backend ends it, a \
                     client's own stays";
const SILENT: &str = "the node that held the presence for a backend is silent, and is told when it \
                      is heard again: it ends the presence then, if it still has it";
const ELSEWHERE: &str = "this node holds no presence of this key for a backend; PUT moves one of \
                         another node here, and beside a client's own adds one";
const OF_CLIENT: &str = "the presence of this key is a client's own, which its socket ends, and not \
                         one of a backend; DELETE /api/keys/{key} evicts the user";

/// `POST /api/topics/{topic}/broadcast` with `{"event": …, "payload": {…}}`, to all who joined it.
pub(super) async fn broadcast(
    State(api): State<Arc<Api>>,
    At(topic): At<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut members = Members::read(&headers, body, &api.config).await?;
    let event = members.text("event")?;
    let payload = members.object("payload")?;
    members.finish()?;
    api.check_any_topic(&topic)?;
    check_event(&event)?;
    let payload = match payload {
        Some(payload) => Payload::json(Box::<str>::from(payload).into_string()),
        None => Payload::json("{}"),
    };
    api.presence.pubsub().broadcast(&topic, &event, payload)?;
    Ok(accepted(&json!({ "topic": topic, "event": event })))
}

/// `PUT /api/topics/{topic}/presences/{key}` with `{"meta": {…}, "lease_seconds": 60}`: makes a
/// user present, or renews that; without `meta` as it is.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    At((topic, key)): At<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut members = Members::read(&headers, body, &api.config).await?;
    let meta = members.meta(api.presence.config().max_meta_bytes)?;
    let change = meta.map_or(Change::Keep, Change::Set);
    let (min, max) = (api.config.min_lease, api.config.max_lease);
    let lease = members.seconds("lease_seconds", min, max)?;
    members.finish()?;
    let lease = Some(lease.unwrap_or(super::DEFAULT_LEASE.clamp(min, max)));
    if api.ready.is_draining() {
        let detail = "this node is draining; ask another one";
        return Err(Problem::new(Kind::Unavailable, detail));
    }
    let name = api.name(topic, key)?;
    let held = api.people.hold(name.clone(), change, lease).await;
    let held = held.map_err(|error| problem(error, &name))?;
    Ok(show(&api, &name, &held))
}

/// `PATCH /api/topics/{topic}/presences/{key}` with `{"meta": {…}}`: merges into the meta of a
/// presence that this node holds, and renews it for as long as before.
pub(super) async fn patch(
    State(api): State<Arc<Api>>,
    At((topic, key)): At<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut members = Members::read(&headers, body, &api.config).await?;
    let meta = members.meta(api.presence.config().max_meta_bytes)?;
    let (min, max) = (api.config.min_lease, api.config.max_lease);
    let lease = members.seconds("lease_seconds", min, max)?;
    members.finish()?;
    let name = api.name(topic, key)?;
    let change = meta.map_or(Change::Keep, Change::Merge);
    match api.people.renew(name.clone(), change, lease).await {
        Ok(held) => Ok(show(&api, &name, &held)),
        Err(PeopleError::NotHeld) => Err(not_held(&api, &name)),
        Err(error) => Err(problem(error, &name)),
    }
}

/// `DELETE /api/topics/{topic}/presences/{key}`: ends a presence that a node holds for a backend,
/// or held and that is in grace.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    At((topic, key)): At<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::read(query.as_deref())?.finish()?;
    let name = api.name(topic, key)?;
    let was_held = api.people.end(name.clone()).await;
    if was_held.map_err(|error| problem(error, &name))? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let (mut nodes, mut detail) = (api.people.other_nodes(&name), ASKED);
    if nodes.is_empty() {
        let silent = api.people.silent_claimant(name.clone()).await;
        nodes.extend(silent.map_err(|error| problem(error, &name))?);
        detail = SILENT;
    }
    if nodes.is_empty() {
        return Err(not_held(&api, &name));
    }
    let told = api.people.end_elsewhere(name.clone()).await;
    told.map_err(not_told)?;
    let asked = json!({
        "topic": name.topic, "key": name.key, "nodes": nodes, "detail": detail,
    });
    Ok(accepted(&asked))
}

/// `DELETE /api/keys/{key}`: makes a user leave all topics and closes its sockets, on every node.
pub(super) async fn evict(
    State(api): State<Arc<Api>>,
    At(key): At<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::read(query.as_deref())?.finish()?;
    let topics = api.evict(&key).await?;
    let (api_key, n_topics) = (api.access.name_of(&headers), topics.len());
    tracing::info!(api_key, n_topics, "user evicted by the API");
    let topics: Vec<&str> = topics.iter().map(Topic::as_str).collect();
    Ok(accepted(&json!({ "key": key, "topics": topics })))
}

/// `DELETE /api/keys/{key}/topics/{topic}`: makes a user leave a topic, on every node.
pub(super) async fn evict_from(
    State(api): State<Arc<Api>>,
    At((key, topic)): At<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::read(query.as_deref())?.finish()?;
    let name = Name { topic, key };
    api.evict_from(&name).await?;
    let (api_key, n_topics) = (api.access.name_of(&headers), 1);
    tracing::info!(api_key, n_topics, "user evicted by the API");
    Ok(accepted(
        &json!({ "key": name.key, "topics": [name.topic] }),
    ))
}

/// `POST /api/drain`: begins to stop this node, as a signal would.
pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::read(query.as_deref())?.finish()?;
    let api_key = api.access.name_of(&headers);
    tracing::info!(api_key, "asked to drain by the API");
    api.stop.notify_one();
    let node = api.presence.pubsub().node_name();
    Ok(accepted(&json!({ "node": node, "state": "draining" })))
}

impl Api {
    /// Makes a user leave all topics and closes its sockets, on every node. Returns the topics that
    /// it was in.
    ///
    /// # Errors
    ///
    /// A problem if it can be no key, or if the other nodes cannot be told.
    pub(crate) async fn evict(&self, key: &str) -> Result<Vec<Topic>, Problem> {
        self.check_key(key)?;
        let topics = self.presence.topics_of_key(key, None, usize::MAX);
        self.people.evict(key, None).await.map_err(not_told)?;
        Ok(topics)
    }

    /// Makes a user leave a topic, on every node.
    ///
    /// # Errors
    ///
    /// A problem if there can be no such topic or key, or if the other nodes cannot be told.
    pub(crate) async fn evict_from(&self, name: &Name) -> Result<(), Problem> {
        let Name { topic, key } = name;
        self.check_any_topic(topic)?;
        self.check_key(key)?;
        let told = self.people.evict(key, Some(topic)).await;
        told.map_err(not_told)
    }

    /// Names a key in a topic.
    ///
    /// # Errors
    ///
    /// A problem if it can be none.
    fn name(&self, topic: String, key: String) -> Result<Name, Problem> {
        self.check_topic(&topic)?;
        self.check_key(&key)?;
        Ok(Name { topic, key })
    }
}

/// The same rules as for clients, and that nobody is disconnected by a broadcast.
fn check_event(event: &str) -> Result<(), Problem> {
    if event.is_empty() || event == "disconnect" || is_reserved(event) {
        return Err(Problem::invalid("event", event, RESERVED));
    }
    if event.len() > MAX_EVENT_BYTES {
        let (len, max) = (event.len(), MAX_EVENT_BYTES);
        return Err(Problem::too_long("event", len, max, Named::Event));
    }
    Ok(())
}

fn show(api: &Api, name: &Name, held: &Held) -> Response {
    let mut response = answer(&json!({
        "topic": name.topic,
        "key": name.key,
        "phx_ref": held.phx_ref,
        "node": api.presence.pubsub().node_name(),
        "lease_seconds": held.lease.as_secs_f64(),
    }));
    if held.is_new {
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

fn accepted(value: &Value) -> Response {
    (StatusCode::ACCEPTED, answer(value)).into_response()
}

fn problem(error: PeopleError, name: &Name) -> Problem {
    let detail = error.to_string();
    match error {
        PeopleError::Track(error) => error.into(),
        PeopleError::Update(error) => error.into(),
        PeopleError::Full { max } => {
            Problem::new(Kind::LimitReached, detail).over(Named::ApiLeases, max)
        }
        PeopleError::Busy { max } => {
            let over = Named::Commands;
            Problem::new(Kind::LimitReached, format!("{detail} ({over})"))
                .over(over, max)
                .retry_after(1)
        }
        PeopleError::NotHeld => not_present(&name.key),
        PeopleError::NotTold(error) => not_told(error),
        PeopleError::Closed => Problem::new(Kind::Unavailable, detail),
    }
}

/// No presence of a backend is here; if the key is present from other nodes, for a backend or by
/// itself, these are named.
fn not_held(api: &Api, name: &Name) -> Problem {
    let nodes = api.people.other_nodes(name);
    if nodes.is_empty() {
        let detail = match api.presence.entry(&name.topic, &name.key) {
            Some(_) => OF_CLIENT,
            None => "no node holds a presence of this key in the topic for a backend",
        };
        return Problem::new(Kind::NotPresent, detail)
            .field("key")
            .value(&name.key);
    }
    Problem::new(Kind::LeaseElsewhere, ELSEWHERE).member("nodes", nodes)
}

/// The other nodes could not be told.
fn not_told(error: impl std::error::Error) -> Problem {
    Problem::new(Kind::Unavailable, error.to_string()).retry_after(1)
}

#[cfg(test)]
mod tests {
    use herenow_presence::{Watch, WatchEvent};
    use herenow_pubsub::{MemoryCluster, PubSub};

    use super::*;

    const ROOM: &str = "room:1";

    async fn body(response: Response) -> Value {
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await;
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    }

    /// Waits until a node sees `n` presences in the room.
    async fn until_count(api: &Api, watch: &mut Watch, n: usize) {
        while api.presence.count(ROOM) != n {
            watch.next().await;
        }
    }

    #[tokio::test]
    async fn srv_1829_a_clients_own_presence_at_this_node_is_said_to_be_one() {
        let api = Arc::new(Api::for_tests(&PubSub::local()));
        let at = || At((ROOM.to_owned(), "ada".to_owned()));
        let delete = async || {
            let asked = delete(State(api.clone()), at(), RawQuery(None)).await;
            let refused = asked.unwrap_err().into_response();
            assert_eq!(refused.status(), StatusCode::NOT_FOUND);
            body(refused).await["detail"].clone()
        };
        let none = "no node holds a presence of this key in the topic for a backend";
        assert_eq!(delete().await, none);
        let _of_client = api
            .presence
            .track_on(ROOM, "ada", &json!({}))
            .await
            .unwrap();
        assert_eq!(delete().await, OF_CLIENT);
    }

    #[tokio::test]
    async fn srv_1664_a_clients_own_presence_at_another_node_is_not_taken_for_a_lease() {
        let cluster = MemoryCluster::new();
        let node = |name| Arc::new(Api::for_tests(&PubSub::new(cluster.adapter(name))));
        let (a, b) = (node("a"), node("b"));
        let mut watch = b.presence.watch(ROOM);
        assert!(matches!(watch.next().await, WatchEvent::State(_)));
        let _of_client = a.presence.track_on(ROOM, "ada", &json!({})).await.unwrap();
        until_count(&b, &mut watch, 1).await;
        let at = || At((ROOM.to_owned(), "ada".to_owned()));
        let asked = delete(State(b.clone()), at(), RawQuery(None)).await;
        let asked = asked.unwrap();
        assert_eq!(asked.status(), StatusCode::ACCEPTED);
        let asked = body(asked).await;
        assert_eq!(asked["nodes"], json!(["a"]));
        let detail = asked["detail"].as_str().unwrap();
        assert!(detail.contains("a client's own stays"), "{detail}");
        let mut headers = HeaderMap::new();
        let json = axum::http::HeaderValue::from_static("application/json");
        headers.insert(axum::http::header::CONTENT_TYPE, json);
        let patched = patch(State(b.clone()), at(), headers, Body::from("{}")).await;
        let patched = patched.unwrap_err().into_response();
        assert_eq!(patched.status(), StatusCode::CONFLICT);
        let patched = body(patched).await;
        assert_eq!(patched["nodes"], json!(["a"]));
        let detail = patched["detail"].as_str().unwrap();
        assert!(
            detail.contains("beside a client's own adds one"),
            "{detail}"
        );
        // What both say is so.
        let name = b.name(ROOM.to_owned(), "ada".to_owned()).unwrap();
        let minute = Some(std::time::Duration::from_secs(60));
        let held = b.people.hold(name, Change::Keep, minute).await;
        assert!(held.unwrap().is_new);
        until_count(&b, &mut watch, 2).await;
    }
}
