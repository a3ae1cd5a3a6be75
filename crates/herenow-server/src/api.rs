//! The HTTP API below `/api`: who is here, acting for a backend, and the state of the node.
//!
//! Every route needs a right that the request's key has, see [`Access`]; [`Table`] is how routes
//! are added. What is not done is answered with a [`Problem`]. The document `openapi.json` is kept
//! by hand, and the tests hold it against the server: docs/api.md is the guide.
//!
//! Reads look at what presence has published and wait for nobody, but for `fetch` where it is asked
//! for.

mod problem;
mod counts;
mod refusals;
mod access;
mod request;
mod topics;
mod fields;
mod acts;
mod events;
mod cluster;
mod node;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use herenow_channels::Sockets;
use herenow_presence::Presence;
use serde::Serialize;
use tokio::sync::Notify;

pub(crate) use self::access::{Access, Entrant, Table, check_is_local};
pub(crate) use self::counts::RouteCounts;
pub(crate) use self::problem::{Kind, Problem};
use self::request::{At, Members, Query};
pub(crate) use self::request::{Unread, read_body, too_slow};
use crate::cluster::Cluster;
use crate::config::{ApiConfig, Right};
use crate::events::Events;
use crate::fetch::Fields;
use crate::health::Ready;
use crate::identity::Authority;
use crate::limits::Limits;
use crate::people::People;
use crate::tls::TlsStatus;

/// What the routes take and answer, as OpenAPI 3.1 has it.
const DOCUMENT: &str = include_str!("api/openapi.json");
/// The lease of a request that names none.
const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// What the routes of the API share.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) presence: Presence,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) ready: Ready,
    pub(crate) config: ApiConfig,
    /// The longest topic that sockets can join.
    pub(crate) max_topic_bytes: usize,
    /// Counts what is refused for being over a limit.
    pub(crate) limits: Limits,
    pub(crate) access: Access,
    pub(crate) authority: Authority,
    pub(crate) people: People,
    pub(crate) fields: Fields,
    pub(crate) sockets: Sockets,
    pub(crate) events: Events,
    pub(crate) tls: Arc<TlsStatus>,
    /// Told when the node is to stop.
    pub(crate) stop: Notify,
    pub(crate) started: Instant,
}

/// The routes of this module.
pub(crate) fn table(api: &Arc<Api>) -> Table<()> {
    use Right::{Admin, Read, Write};
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;
    const PRESENCE: &str = "/api/topics/{topic}/presences/{key}";
    Table::new(&api.access, &api.limits)
        .route(GET, "/api/topics", Read, topics::topics)
        .route(GET, "/api/topics/{topic}", Read, topics::count)
        .route(
            GET,
            "/api/topics/{topic}/presences",
            Read,
            topics::presences,
        )
        .route(GET, PRESENCE, Read, topics::presence)
        .route(GET, "/api/keys/{key}", Read, topics::where_is)
        .route(POST, "/api/counts", Read, topics::counts)
        .route(POST, "/api/where", Read, topics::where_are)
        .route(
            POST,
            "/api/topics/{topic}/broadcast",
            Write,
            acts::broadcast,
        )
        .route(Method::PUT, PRESENCE, Write, acts::put)
        .route(Method::PATCH, PRESENCE, Write, acts::patch)
        .route(DELETE, PRESENCE, Write, acts::delete)
        .route(DELETE, "/api/keys/{key}", Write, acts::evict)
        .route(
            DELETE,
            "/api/keys/{key}/topics/{topic}",
            Write,
            acts::evict_from,
        )
        .route(DELETE, "/api/fields", Write, fields::forget)
        .route(GET, "/api/events", Read, events::listen)
        .route(GET, "/api/cluster", Read, cluster::show)
        .route(GET, "/api/node", Read, node::show)
        .route(POST, "/api/drain", Admin, acts::drain)
        .open(GET, "/api/openapi.json", document)
        .with_state(api.clone())
}

/// `GET /api/openapi.json`: what the routes take and answer.
async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

/// A JSON answer of now, that nothing between may keep.
pub(crate) fn answer(value: &impl Serialize) -> Response {
    let body = serde_json::to_string(value).expect("answers have texts for keys");
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use herenow_pubsub::PubSub;
    use serde_json::Value;

    use super::*;
    use crate::config::{LimitsConfig, ServerConfig};

    impl Api {
        /// That of a node that is ready, in dev mode.
        pub(crate) fn for_tests(pubsub: &PubSub) -> Self {
            let presence = Presence::new(pubsub);
            let ready = Ready::new();
            ready.become_ready();
            let config = ServerConfig::default();
            Self {
                people: People::start(&presence, 1).unwrap(),
                fields: Fields::new(&config).unwrap(),
                presence,
                cluster: None,
                events: Events::start(&config, pubsub.node_name(), &ready).unwrap(),
                ready,
                config: ApiConfig::default(),
                max_topic_bytes: config.socket.max_topic_bytes,
                limits: Limits::new(LimitsConfig::default()),
                access: Access::by_keys_if_any(Vec::new()),
                authority: Authority::dev(),
                sockets: Sockets::new(pubsub),
                tls: Arc::default(),
                stop: Notify::new(),
                started: Instant::now(),
            }
        }
    }

    #[tokio::test]
    async fn srv_661_the_document_has_every_route_and_no_other() {
        let pubsub = PubSub::local();
        let table = table(&Arc::new(Api::for_tests(&pubsub)));
        let routes = table.listed().iter();
        let mut routes: BTreeSet<(String, String)> = routes
            .map(|route| (route.path.to_owned(), route.method.as_str().to_lowercase()))
            .collect();
        routes.insert(("/api".to_owned(), "get".to_owned())); // The list of the others.
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let methods = methods.as_object().unwrap().keys();
            described.extend(methods.map(|method| (path.clone(), method.clone())));
        }
        assert_eq!(routes, described);
    }
}
