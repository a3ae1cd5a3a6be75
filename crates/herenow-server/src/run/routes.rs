//! What is served at which path: one router for clients, one for programs and operators.
//!
//! They may be served on one listener or on two; that is for whoever serves them. The paths of the
//! API are in the table of [`api`].

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use herenow_channels::{Sockets, TrustedProxies};
use herenow_presence::Presence;
use herenow_pubsub::PubSub;
use tokio::net::TcpListener;

use super::RunError;
use super::parts::{Parts, check_origin, dialect, is_loopback, limited_sockets};
use crate::api;
use crate::config::ServerConfig;
use crate::demo;
use crate::door::{self, Door};
use crate::echo;
use crate::health::{self, Ready};
use crate::identity::Authority;
use crate::limits::Limits;
use crate::metrics::{self, Source};
use crate::supabase::{self, Gate};

/// What clients ask: sockets of all dialects, with what belongs to them. `listener` is the main
/// one.
pub(super) fn for_clients(
    config: &ServerConfig,
    parts: &Parts,
    listener: &TcpListener,
) -> Result<Router, RunError> {
    let app = app(config, &parts.sockets, &parts.ready)?;
    let Some(sockets) = &parts.dialect else {
        return Ok(app);
    };
    let gate = Gate {
        is_local: parts.authority.is_dev() && is_loopback(listener),
        ..gate(config, &parts.limits, &parts.ready)?
    };
    let routes = supabase::routes(config, &parts.presence, &parts.authority, gate);
    Ok(app.merge(realtime(config, sockets, routes, &parts.ready)?))
}

/// Makes what clients ask out of nothing but the configuration, and lets it go: whether that can be
/// is all that is asked. Nothing is listened on.
pub(super) fn check(
    config: &ServerConfig,
    pubsub: &PubSub,
    presence: &Presence,
    authority: &Authority,
) -> Result<(), RunError> {
    let (limits, ready) = (Limits::new(config.limits.clone()), Ready::new());
    let sockets = limited_sockets(config, pubsub, presence, authority.clone(), &limits)?;
    let app = app(config, &sockets, &ready)?;
    if let Some(dialect) = dialect(config, &sockets, presence, authority, &limits)? {
        let gate = gate(config, &limits, &ready)?;
        let routes = supabase::routes(config, presence, authority, gate);
        drop(app.merge(realtime(config, &dialect, routes, &ready)?));
    }
    Ok(())
}

/// What programs and operators ask: the API, the metrics, the dashboard.
pub(super) fn for_operators(config: &ServerConfig, parts: &Parts) -> Result<Router, RunError> {
    let mounts = [&parts.sockets].into_iter().chain(&parts.dialect);
    let table = api::table(&parts.api);
    let source = Source {
        api: parts.api.clone(),
        mounts: mounts.cloned().collect(),
        tokens: parts.authority.metrics().clone(),
        limits: parts.limits.clone(),
        served: config.http.counts.clone(),
        routes: table.listed().to_vec(),
        request_times: table.times().clone(),
    };
    let metrics = match config.observe.is_open {
        true => metrics::open_router(source),
        false => metrics::router(source),
    };
    let routes = table.into_router().merge(metrics);
    Ok(routes.merge(parts.dashboard.router()?))
}

/// The routes of the dialect: its sockets, and `routes` for its broadcasts over HTTP.
fn realtime(
    config: &ServerConfig,
    sockets: &Sockets,
    routes: Router,
    ready: &Ready,
) -> Result<Router, RunError> {
    let socket = guarded(config, sockets, supabase::PATH, ready)?;
    Ok(socket.merge(Router::new().nest(supabase::PATH, routes)))
}

/// What stands before the dialect's broadcasts over HTTP: the same as before its sockets.
fn gate(config: &ServerConfig, limits: &Limits, ready: &Ready) -> Result<Gate, RunError> {
    Ok(Gate {
        door: Door::new(config, ready),
        limits: limits.clone(),
        proxies: TrustedProxies::new(&config.proxies.trusted, config.proxies.header)?,
        is_local: false,
    })
}

/// The routes that every server has, and what it answers where there is none.
fn app(config: &ServerConfig, sockets: &Sockets, ready: &Ready) -> Result<Router, RunError> {
    let health = health::router(ready.clone());
    let mut app = guarded(config, sockets, "/socket", ready)?.merge(health);
    if config.demo {
        app = app.merge(demo::router());
    }
    if config.ws_echo {
        let check_origin = check_origin(&config.check_origin)?;
        app = app.merge(echo::router(&config.socket, check_origin)?);
    }
    let nothing_there = nothing_there(config);
    Ok(app.fallback(async move || (StatusCode::NOT_FOUND, nothing_there)))
}

/// The routes of sockets below a path, behind the door that is shut while the server joins or
/// drains.
fn guarded(
    config: &ServerConfig,
    sockets: &Sockets,
    path: &str,
    ready: &Ready,
) -> Result<Router, RunError> {
    let door = middleware::from_fn_with_state(Door::new(config, ready), door::tell);
    Ok(sockets.clone().try_into_router_at(path)?.layer(door))
}

/// What is said of a path that nothing is at.
fn nothing_there(config: &ServerConfig) -> String {
    let demo = if config.demo { "/demo, " } else { "" };
    let supabase = match config.supabase.enabled {
        true => ", for clients of Supabase Realtime /realtime/v1",
        false => "",
    };
    format!(
        "there is nothing here; there is {demo}/healthz, /readyz, and for clients of Phoenix \
         channels /socket, which they complete to /socket/websocket or /socket/longpoll{supabase}\n"
    )
}
