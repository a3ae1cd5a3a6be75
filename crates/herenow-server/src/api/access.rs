//! [`Access`]: who may use the API, by its keys; [`Table`]: routes that each need a right.
//!
//! A key is presented as `authorization: Bearer SECRET` or `x-api-key: SECRET`. Secrets are
//! compared by their SHA-256, all of them and in constant time. Without keys the API is open to
//! pages and programs of this machine in dev mode on loopback, and closed otherwise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, any, get, on};
use axum::{Json, Router};
use herenow_pubsub::Histogram;
use serde_json::json;
use subtle::{Choice, ConstantTimeEq};

use super::counts::{RouteCounts, counted};
use super::problem::{Kind, Problem};
use super::refusals::{Refusals, Why};
use crate::config::{ApiKey, Right, digest};
use crate::limits::Limits;

/// The header that carries a secret and nothing else.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What proxies write about who asks them.
const FORWARDED: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];
/// What the log calls whoever needs no key.
const DEV: &str = "dev";
const NO_SUCH_KEY: &str = "the server has no such key";

/// Who may use the API. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rule: Rule,
    n_allowed: AtomicU64,
    refusals: Refusals,
}

/// Who has come in for longer than a request.
#[derive(Debug, Clone)]
pub(crate) struct Entrant {
    /// The name of the key; `None` in dev mode.
    pub(crate) name: Option<String>,
    pub(crate) right: Right,
}

#[derive(Debug)]
enum Rule {
    /// Everybody on this machine.
    Open,
    /// Nobody.
    Closed,
    /// Who has one of these.
    Keys(Vec<ApiKey>),
}

impl Access {
    /// Access by `keys`; without any, for nobody.
    pub(crate) fn by_keys(keys: Vec<ApiKey>) -> Self {
        Self::by(match keys.is_empty() {
            false => Rule::Keys(keys),
            true => Rule::Closed,
        })
    }

    /// Access by `keys`; without any, for everybody on this machine: in dev mode on loopback.
    pub(crate) fn by_keys_if_any(keys: Vec<ApiKey>) -> Self {
        Self::by(match keys.is_empty() {
            false => Rule::Keys(keys),
            true => Rule::Open,
        })
    }

    fn by(rule: Rule) -> Self {
        Self(Arc::new(Inner {
            rule,
            n_allowed: AtomicU64::new(0),
            refusals: Refusals::default(),
        }))
    }

    /// Says in the log who may use the API, and where if it has an address of its own.
    pub(crate) fn announce(&self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            tracing::info!(%address, "the API has a listener of its own");
        }
        match &self.0.rule {
            Rule::Open => tracing::info!("the API is open to this machine: dev mode, no api.keys"),
            Rule::Closed => tracing::info!("the API is closed: there are no api.keys"),
            Rule::Keys(keys) => {
                for key in keys {
                    let (name, right) = (key.name(), key.right().as_str());
                    tracing::info!(name, right, "key of the API");
                }
            }
        }
    }

    /// Returns how many requests were let in, and how many were not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let n_refused = self.0.refusals.counts().map(|(_, n)| n).sum();
        (self.0.n_allowed.load(Ordering::Relaxed), n_refused)
    }

    /// Returns how many requests were not let in, by why.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.refusals.counts()
    }

    /// Checks that a request with these headers has `right`.
    ///
    /// # Errors
    ///
    /// The problem to answer with: 401 without a key or with an unknown one, 403 without the right.
    pub(crate) fn check(&self, headers: &HeaderMap, right: Right) -> Result<(), Problem> {
        let checked = match &self.0.rule {
            Rule::Open => check_is_local(headers).map_err(|problem| (Why::NotLocal, problem)),
            Rule::Closed => Err((Why::Closed, closed())),
            Rule::Keys(keys) => check_key(keys, headers, right),
        };
        match checked {
            Ok(()) => {
                self.0.n_allowed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err((why, problem)) => {
                let api_key = (why == Why::Right).then(|| self.name_of(headers));
                self.0.refusals.add(why, api_key);
                Err(problem)
            }
        }
    }

    /// Tells who comes in for longer than a request, by a secret beside the headers or in them: the
    /// name of its key, none in dev mode, and all that it may do. At least [`Right::Read`].
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub(crate) fn enter(
        &self,
        headers: &HeaderMap,
        secret: Option<&str>,
    ) -> Result<Entrant, Problem> {
        let mut presenting = headers.clone();
        if let Some(secret) = secret {
            let secret = HeaderValue::from_str(secret);
            let secret = secret.map_err(|_| {
                self.0.refusals.add(Why::UnknownKey, None);
                Problem::unauthorized(NO_SUCH_KEY)
            })?;
            presenting.insert(API_KEY, secret);
        }
        self.check(&presenting, Right::Read)?;
        let key = match &self.0.rule {
            Rule::Open | Rule::Closed => None,
            Rule::Keys(keys) => presented(&presenting)?.and_then(|secret| find(keys, secret)),
        };
        Ok(Entrant {
            name: key.map(|key| key.name().to_owned()),
            right: key.map_or(Right::Admin, ApiKey::right),
        })
    }

    /// Tells the name of the key that a request with these headers presents, for the log; `dev`
    /// where none is needed.
    pub(crate) fn name_of(&self, headers: &HeaderMap) -> &str {
        let Rule::Keys(keys) = &self.0.rule else {
            return DEV;
        };
        let secret = presented(headers).ok().flatten();
        let key = secret.and_then(|secret| find(keys, secret));
        key.map_or("", ApiKey::name)
    }

    /// Puts routes behind a right.
    pub(crate) fn guard<S>(&self, right: Right, routes: MethodRouter<S>) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        routes.route_layer(middleware::from_fn_with_state(
            (self.clone(), right),
            let_in,
        ))
    }
}

async fn let_in(
    State((access, right)): State<(Access, Right)>,
    request: Request,
    next: Next,
) -> Response {
    match access.check(request.headers(), right) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            tracing::debug!(right = right.as_str(), "request to the API refused");
            problem.into_response()
        }
    }
}

/// What there is to do where nobody may come in.
fn closed() -> Problem {
    Problem::new(
        Kind::ApiClosed,
        "set a key, such as HERENOW_API_KEYS=shop:write:SECRET with a secret of at least 16 \
         characters (openssl rand -hex 16), and send it as `authorization: Bearer SECRET`",
    )
}

fn check_key(keys: &[ApiKey], headers: &HeaderMap, right: Right) -> Result<(), (Why, Problem)> {
    let Some(secret) = presented(headers).map_err(|problem| (Why::UnknownKey, problem))? else {
        let problem = Problem::unauthorized(
            "send a key of the API as `authorization: Bearer SECRET` or `x-api-key: SECRET`",
        );
        return Err((Why::NoKey, problem));
    };
    let Some(key) = find(keys, secret) else {
        return Err((Why::UnknownKey, Problem::unauthorized(NO_SUCH_KEY)));
    };
    if key.right() < right {
        let (name, has, needs) = (key.name(), key.right().as_str(), right.as_str());
        let detail = format!("the key {name} may {has}, this needs {needs}");
        return Err((Why::Right, Problem::new(Kind::Forbidden, detail)));
    }
    Ok(())
}

/// The key of a secret. All of them are compared, in constant time.
fn find<'a>(keys: &'a [ApiKey], secret: &[u8]) -> Option<&'a ApiKey> {
    let digest = digest(secret);
    let mut found = None;
    for key in keys {
        if Choice::into(key.digest().ct_eq(&digest)) {
            found = Some(key);
        }
    }
    found
}

/// The secret that a request presents, if it does.
fn presented(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    if let Some(value) = headers.get(API_KEY) {
        return Ok(Some(value.as_bytes()));
    }
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    match value.as_bytes().split_at_checked(7) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(Some(secret)),
        _ => Err(
            Problem::unauthorized("the authorization must be `Bearer SECRET`")
                .field("authorization"),
        ),
    }
}

/// Checks that the request was made on this machine, is meant for it, and comes from a page of it,
/// if from a page.
///
/// A proxy on this machine sends requests of anybody here, as a rule for a loopback name; and any
/// web site can let a browser on this machine send some. They would be let in for coming from
/// loopback.
pub(crate) fn check_is_local(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let is_local_origin = |origin: &str| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_some_and(is_loopback)
    };
    if let Some(name) = FORWARDED
        .into_iter()
        .find(|name| headers.contains_key(*name))
    {
        let detail = format!(
            "this came through a proxy, for it has the header {name}, and without keys the API \
             answers to this machine only: set api.keys (HERENOW_API_KEYS)"
        );
        return Err(Problem::new(Kind::Forbidden, detail).field(name));
    }
    if !text(HOST).is_none_or(is_loopback) {
        let detail = "without keys the API answers to localhost and loopback addresses only";
        return Err(Problem::new(Kind::Forbidden, detail).field("host"));
    }
    if !text(ORIGIN).is_none_or(is_local_origin) {
        let detail = "without keys the API does not answer to pages of other hosts";
        return Err(Problem::new(Kind::Forbidden, detail).field("origin"));
    }
    Ok(())
}

/// Tells whether a host, with or without a port, is a name of the loopback.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Routes in the making: each with the right that it needs, and on the list that the API's document
/// is held against.
#[derive(Debug)]
pub(crate) struct Table<S> {
    access: Access,
    router: Router<S>,
    listed: Vec<Arc<RouteCounts>>,
    times: Arc<Histogram>,
    limits: Limits,
}

impl<S: Clone + Send + Sync + 'static> Table<S> {
    /// No routes yet.
    pub(crate) fn new(access: &Access, limits: &Limits) -> Self {
        Self {
            access: access.clone(),
            router: Router::new(),
            listed: Vec::new(),
            times: Arc::default(),
            limits: limits.clone(),
        }
    }

    /// Adds a route that whoever has `right` may use.
    #[must_use]
    pub(crate) fn route<H, T>(
        self,
        method: Method,
        path: &'static str,
        right: Right,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let access = self.access.clone();
        self.add(&method, path, |filter| {
            access.guard(right, on(filter, handler))
        })
    }

    /// Adds a route that everybody may use.
    #[must_use]
    pub(crate) fn open<H, T>(self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.add(&method, path, |filter| on(filter, handler))
    }

    fn add(
        mut self,
        method: &Method,
        path: &'static str,
        make: impl FnOnce(MethodFilter) -> MethodRouter<S>,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).expect("a method of HTTP's own");
        let counts = RouteCounts::new(method, path, &self.times, &self.limits);
        self.router = self.router.route(path, counted(&counts, make(filter)));
        self.listed.push(counts);
        self
    }

    /// Gives the routes what they share.
    pub(crate) fn with_state(self, state: S) -> Table<()> {
        Table {
            access: self.access,
            router: self.router.with_state(state),
            listed: self.listed,
            times: self.times,
            limits: self.limits,
        }
    }
}

impl Table<()> {
    /// Returns the routes with what is counted of each, in the order in which they were added.
    pub(crate) fn listed(&self) -> &[Arc<RouteCounts>] {
        &self.listed
    }

    /// Returns how long requests to all routes take.
    pub(crate) fn times(&self) -> &Arc<Histogram> {
        &self.times
    }

    /// Returns the router: with `/api`, which lists the routes, and problems for all that is none.
    pub(crate) fn into_router(self) -> Router {
        let routes = self.listed().iter();
        let routes: Vec<String> = routes
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        let index = Json(json!({ "routes": routes, "openapi": "/api/openapi.json" }));
        self.router
            .route("/api", get(async move || index.clone()))
            .route("/api/", any(nothing_there))
            .route("/api/{*path}", any(nothing_there))
            .method_not_allowed_fallback(async |method: Method| {
                Problem::method_not_allowed(method.as_str())
            })
    }
}

async fn nothing_there(uri: Uri) -> Problem {
    let detail = "there is no such route; GET /api lists them, /api/openapi.json describes them";
    Problem::new(Kind::NotFound, detail)
        .field("path")
        .value(uri.path())
}
