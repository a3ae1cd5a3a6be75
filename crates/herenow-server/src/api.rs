//! The HTTP API below `/api`: who is here, acting for a backend, and the state of the node.
//!
//! Every route needs a right that the request's key has, see [`Access`]; [`Table`] is how routes are
//! added, here and in other modules. What is not done is answered with a [`Problem`]. The document
//! `openapi.json` is kept by hand, and the tests hold it against the server: docs/api.md is the
//! guide.
//!
//! Reads look at what presence has published and wait for nobody, but for `fetch` where it is asked
//! for.

#[allow(dead_code, reason = "the routes that write come next")]
mod problem;
#[allow(dead_code, reason = "the routes that write come next")]
mod access;
#[allow(dead_code, reason = "the routes that write come next")]
mod request;
mod topics;
mod cluster;

use std::sync::Arc;

use axum::http::Method;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use herenow_presence::Presence;
use serde::Serialize;

pub(crate) use self::access::{Access, Table};
pub(crate) use self::problem::{Kind, Problem};
pub(crate) use self::request::{At, Members, Query};
use crate::cluster::Cluster;
use crate::config::{ApiConfig, Right};
use crate::health::Ready;

/// What the routes of the API share.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) presence: Presence,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) ready: Ready,
    pub(crate) config: ApiConfig,
}

/// The routes of this module.
pub(crate) fn table(api: Api, access: &Access) -> Table<()> {
    use Right::Read;
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    Table::new(access)
        .route(GET, "/api/topics", Read, topics::topics)
        .route(GET, "/api/topics/{topic}", Read, topics::count)
        .route(
            GET,
            "/api/topics/{topic}/presences",
            Read,
            topics::presences,
        )
        .route(
            GET,
            "/api/topics/{topic}/presences/{key}",
            Read,
            topics::presence,
        )
        .route(GET, "/api/keys/{key}", Read, topics::where_is)
        .route(POST, "/api/counts", Read, topics::counts)
        .route(POST, "/api/where", Read, topics::where_are)
        .route(GET, "/api/cluster", Read, cluster::show)
        .with_state(Arc::new(api))
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
