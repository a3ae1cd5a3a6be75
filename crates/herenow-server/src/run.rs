//! Builds a server out of its configuration, runs it, and stops it in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::IntoResponse;
use herenow_channels::{
    CheckOrigin, DrainReport, NetworkError, OriginError, ServeConfig, ServeError, Sockets,
    SocketsError, TrustedProxies, serve_through, serve_with,
};
use herenow_presence::Presence;
use herenow_pubsub::PubSub;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::api::{self, Access, Api};
use crate::builtin::{BuiltIn, Rules};
use crate::cluster::{Cluster, ClusterError};
use crate::config::{ConfigError, Mode, ObserveConfig, Origins, ServerConfig};
use crate::dashboard::Dashboard;
use crate::demo;
use crate::door::{self, Door};
use crate::echo;
use crate::events::Events;
pub use crate::events::EventsError;
use crate::fetch::Fields;
pub use crate::fetch::FieldsError;
use crate::health::{self, Ready};
use crate::host;
use crate::identity::{Authority, AuthorityError, TokenMetrics};
use crate::limits::Limits;
use crate::metrics::{self, Source};
use crate::people::People;
use crate::signals;
use crate::supabase;
use crate::tls::{Tls, TlsError, TlsMetrics};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {}", explain(cause))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The configuration does not say who clients are.
    #[error(transparent)]
    Identity(#[from] ConfigError),
    /// A key for clients' tokens is none, or cannot be read.
    #[error(transparent)]
    Keys(#[from] AuthorityError),
    /// An origin of `socket.check_origin` is not one.
    #[error("socket.check_origin: {0}")]
    Origin(#[from] OriginError),
    /// An entry of `http.trusted_proxies` is not one.
    #[error("http.trusted_proxies: {0}")]
    Proxies(#[from] NetworkError),
    /// The limits of presences contradict each other.
    #[error("presence: {0}")]
    Presence(#[from] herenow_presence::ConfigError),
    /// The limits of sockets or of long polling contradict each other, or a topic's pattern is none.
    #[error("sockets: {0}")]
    Sockets(#[from] SocketsError),
    /// The node cannot take part in its cluster.
    #[error("cluster: {0}")]
    Cluster(#[from] ClusterError),
    /// Fields of presences cannot be had as they are configured.
    #[error(transparent)]
    Fields(#[from] FieldsError),
    /// A part of the server cannot talk to its like on other nodes.
    #[error("link: {0}")]
    Link(#[from] herenow_pubsub::LinkError),
    /// There is no certificate to speak TLS with.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system does not let the process listen to SIGHUP.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] io::Error),
    /// Nobody can be told of events.
    #[error("webhook: {0}")]
    Events(#[from] EventsError),
    /// The limits of HTTP contradict each other, or the listener is not usable.
    #[error("http: {0}")]
    Http(#[from] herenow_channels::ServeError),
}

/// Listens on `address`.
///
/// # Errors
///
/// [`RunError::Listen`], with the address and what to do if another program has it.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| RunError::Listen { address, cause })
}

/// Runs a server on `listener` until `shutdown` completes, then stops it in order.
///
/// Stopping: `/readyz` turns false and no new socket is let in; the open sockets are closed with
/// 1012 over [`ServerConfig::drain`], and each user leaves, on all nodes, when their own socket is
/// closed and not before; then the other nodes of a cluster are told that this life is over, which
/// takes out whatever is left of it; requests in hand are finished.
///
/// # Errors
///
/// [`RunError`] before anything is accepted; a running server has none.
pub async fn serve(
    config: ServerConfig,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let mode = config.mode()?;
    let hangups = signals::hangups().map_err(RunError::Signals)?;
    let tls = Tls::load(&config.tls)?;
    let cluster = Cluster::join(&config).await?.map(Arc::new);
    let of_cluster = cluster.as_ref().map(|cluster| cluster.pubsub.clone());
    let pubsub = of_cluster.unwrap_or_else(PubSub::local);
    let fields = Fields::new(&config)?;
    fields.check().await?;
    let ready = Ready::new();
    let (presence, events) = presence(&config, &pubsub, &ready, &fields)?;
    let authority = authority(&config, mode)?;
    let tokens = authority.metrics().clone();
    let limits = Limits::new(config.limits.clone());
    let sockets = limited_sockets(&config, &pubsub, &presence, authority.clone(), &limits)?;
    let dialect = dialect(&config, &sockets, &presence, &authority, &limits)?;
    let api_listener = api_listener(&config).await?;
    let api = Arc::new(Api {
        access: access(&config, api_listener.as_ref().unwrap_or(&listener)),
        people: People::start(&presence, config.api.max_leases)?,
        fields,
        presence: presence.clone(),
        cluster: cluster.clone(),
        ready: ready.clone(),
        config: config.api.clone(),
        sockets: sockets.clone(),
        events,
        stop: Notify::new(),
        started: Instant::now(),
    });
    let dashboard = Dashboard::start(&api, &config.socket)?;
    let app = app(&config, &sockets, &ready)?;
    let realtime = (dialect.as_ref(), &presence, &authority);
    let app = app.merge(realtime_routes(&config, realtime, &listener, &ready)?);
    let mounts = [&sockets].into_iter().chain(&dialect).cloned().collect();
    let tls_metrics = Tls::metrics(tls.as_ref());
    let routes = operators_routes(&api, mounts, (tokens, limits, tls_metrics), &config.observe);
    let routes = routes.merge(dashboard.router()?);
    announce(&listener, api_listener.as_ref(), mode, &config);
    let (app, apart) = match api_listener {
        Some(listener) => (app.merge(demo::root()), Some((listener, routes))),
        None => (app.merge(routes), None),
    };
    let stopped = async {
        tokio::select! {
            () = shutdown => {}
            () = api.stop.notified() => {}
            () = settle(cluster.as_deref(), &presence, &ready) => {}
            () = host::renew(tls.as_ref(), &ready, hangups) => {}
        }
        ready.begin_to_drain();
        host::tell_stopping();
        // Not the other way round: a good-bye hides everybody, also those who are still served.
        drain(&sockets, dialect.as_ref()).await;
        api.people.close().await;
        // Last, so that an operator sees how it goes.
        dashboard.close().await;
        if let Some(cluster) = &cluster {
            cluster.say_bye(&presence).await;
        }
        api.events.close(&presence).await;
    };
    let http = (&config.http, tls.as_ref());
    serve_both((listener, app), apart, http, stopped).await?;
    presence.shutdown().await;
    if let Some(cluster) = &cluster {
        cluster.leave().await;
    }
    Ok(())
}

fn authority(config: &ServerConfig, mode: Mode) -> Result<Authority, AuthorityError> {
    match mode.is_dev() {
        true => Ok(Authority::dev()),
        false => Authority::start(config),
    }
}

/// What programs and operators ask: the API and the metrics.
fn operators_routes(
    api: &Arc<Api>,
    mounts: Vec<Sockets>,
    (tokens, limits, tls): (Arc<TokenMetrics>, Limits, Arc<TlsMetrics>),
    config: &ObserveConfig,
) -> Router {
    let table = api::table(api);
    let source = Source {
        api: api.clone(),
        mounts,
        tokens,
        limits,
        tls,
        routes: table.listed().to_vec(),
        request_times: table.times().clone(),
    };
    let metrics = metrics::router(source, config.is_open);
    table.into_router().merge(metrics)
}

/// Tells why a server would not start with `config`, as far as that can be known without listening
/// or joining a cluster.
///
/// # Panics
///
/// Outside of tokio.
pub async fn check(config: &ServerConfig) -> Vec<RunError> {
    let mut errors = Vec::new();
    let authority = match config.mode() {
        Ok(Mode::Tokens) => Authority::start(config).map_err(RunError::from),
        Ok(Mode::DevAsked | Mode::DevLoopback) => Ok(Authority::dev()),
        Err(error) => Err(error.into()),
    };
    let authority = authority.unwrap_or_else(|error| {
        errors.push(error);
        Authority::dev()
    });
    errors.extend(Tls::load(&config.tls).err().map(RunError::from));
    let pubsub = PubSub::local();
    let presence = Presence::builder(&pubsub).config(presence_config(config));
    match presence.start() {
        Ok(presence) => {
            let sockets = sockets(config, &pubsub, &presence, authority);
            let app = sockets.and_then(|sockets| app(config, &sockets, &Ready::new()));
            errors.extend(app.err());
            presence.shutdown().await;
        }
        Err(error) => errors.push(error.into()),
    }
    errors
}

/// Serves the main listener until `stopped`, and the API's, if it has one, for as long.
async fn serve_both(
    (listener, app): (TcpListener, Router),
    api: Option<(TcpListener, Router)>,
    (http, tls): (&ServeConfig, Option<&Tls>),
    stopped: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let ended = Notify::new();
    let main = async {
        let ending = serve_one((listener, app), http, tls, stopped).await;
        ended.notify_one();
        ending
    };
    let api = async {
        match api {
            Some((listener, api)) => serve_one((listener, api), http, tls, ended.notified()).await,
            None => Ok(()),
        }
    };
    let (main, api) = tokio::join!(main, api);
    main.and(api)
}

async fn serve_one(
    (listener, app): (TcpListener, Router),
    http: &ServeConfig,
    tls: Option<&Tls>,
    stopped: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let http = http.clone();
    match tls {
        Some(tls) => serve_through(listener, app, http, tls.handshake(), stopped).await,
        None => serve_with(listener, app, http, stopped).await,
    }
}

/// Becomes ready when the cluster's presences are here; never ends.
async fn settle(cluster: Option<&Cluster>, presence: &Presence, ready: &Ready) {
    if let Some(cluster) = cluster {
        cluster.settle(presence).await;
    }
    ready.become_ready();
    host::tell_ready();
    std::future::pending().await
}

async fn drain(sockets: &Sockets, dialect: Option<&Sockets>) {
    tracing::info!("stopping: closing sockets");
    let of_dialect = async {
        match dialect {
            Some(sockets) => sockets.drain().await,
            None => DrainReport::default(),
        }
    };
    let (report, other) = tokio::join!(sockets.drain(), of_dialect);
    tracing::info!(
        n_sockets = report.n_sockets + other.n_sockets,
        n_still_open = report.n_left + other.n_left,
        "sockets closed"
    );
}

/// The API's own listener, if it has one.
async fn api_listener(config: &ServerConfig) -> Result<Option<TcpListener>, RunError> {
    match config.api.listen {
        Some(address) => Ok(Some(listen(address).await?)),
        None => Ok(None),
    }
}

/// Starts presence, and what tells the application of it.
fn presence(
    config: &ServerConfig,
    pubsub: &PubSub,
    ready: &Ready,
    fields: &Fields,
) -> Result<(Presence, Events), RunError> {
    let events = Events::start(config, pubsub.node_name(), ready)?;
    let mut settings = presence_config(config);
    let mut builder = Presence::builder(pubsub).handle_bare_metas(events.hook(), events.is_on());
    // Without a source, diffs need not take the way through look-ups.
    if fields.is_some() {
        Fields::configure(&config.fetch, &mut settings);
        builder = builder.fetch(fields.clone());
    }
    let presence = builder.config(settings).start()?;
    fields.attach(&presence)?;
    Ok((presence, events))
}

fn presence_config(config: &ServerConfig) -> herenow_presence::PresenceConfig {
    let mut presence = config.presence.clone();
    let general = presence.window;
    let windows = config
        .topics
        .iter()
        .map(|t| (t.pattern.clone(), t.window.over(general)));
    presence.windows = windows.collect();
    let graces = config.topics.iter().map(|t| (t.pattern.clone(), t.grace));
    presence.shard.graces = graces.collect();
    let big_rooms = config
        .topics
        .iter()
        .map(|t| (t.pattern.clone(), t.size.over(&presence.big_room)));
    presence.big_rooms = big_rooms.collect();
    presence
}

/// Makes the front for sockets with the built-in channels that the configuration names.
///
/// # Errors
///
/// [`RunError`] if an origin, a limit or a pattern of the configuration is none.
pub fn sockets(
    config: &ServerConfig,
    pubsub: &PubSub,
    presence: &Presence,
    authority: Authority,
) -> Result<Sockets, RunError> {
    let limits = Limits::new(config.limits.clone());
    limited_sockets(config, pubsub, presence, authority, &limits)
}

fn limited_sockets(
    config: &ServerConfig,
    pubsub: &PubSub,
    presence: &Presence,
    authority: Authority,
    limits: &Limits,
) -> Result<Sockets, RunError> {
    let limits = limits.clone();
    let proxies = TrustedProxies::new(&config.proxies.trusted, config.proxies.header)?;
    let mut sockets = Sockets::new(pubsub)
        .config(config.socket.clone())
        .drain_config(config.drain.clone())
        .check_origin(check_origin(&config.check_origin)?)
        .trusted_proxies(proxies)
        .long_poll(config.longpoll.clone())
        .connect(move |info| {
            let (authority, limits) = (authority.clone(), limits.clone());
            async move {
                let permit = limits.admit(&info)?;
                permit.enter(authority.connect(&info).await?)
            }
        });
    for topic in &config.topics {
        let rules = Arc::new(Rules {
            topic: topic.clone(),
            presence: presence.clone(),
        });
        sockets = sockets.channel(&topic.pattern, move || BuiltIn::new(&rules));
    }
    Ok(sockets)
}

/// Makes the front for sockets of Supabase's clients, if they are served.
fn dialect(
    config: &ServerConfig,
    first: &Sockets,
    presence: &Presence,
    authority: &Authority,
    limits: &Limits,
) -> Result<Option<Sockets>, RunError> {
    if !config.supabase.enabled {
        return Ok(None);
    }
    let proxies = TrustedProxies::new(&config.proxies.trusted, config.proxies.header)?;
    let sockets = supabase::sockets(config, presence, authority, limits)
        .count_into(first.metrics())
        .check_origin(check_origin(&config.check_origin)?)
        .trusted_proxies(proxies);
    Ok(Some(sockets))
}

/// The routes of the dialect, if it is served.
fn realtime_routes(
    config: &ServerConfig,
    (sockets, presence, authority): (Option<&Sockets>, &Presence, &Authority),
    listener: &TcpListener,
    ready: &Ready,
) -> Result<Router, RunError> {
    let Some(sockets) = sockets else {
        return Ok(Router::new());
    };
    let is_local = authority.is_dev() && is_loopback(listener);
    let routes = supabase::routes(config, presence, authority, is_local);
    let socket = guarded(config, sockets, ready)?;
    Ok(Router::new().nest(supabase::PATH, socket.merge(routes)))
}

fn check_origin(origins: &Origins) -> Result<CheckOrigin, OriginError> {
    match origins {
        Origins::SameHost => Ok(CheckOrigin::same_host()),
        Origins::Any => Ok(CheckOrigin::off()),
        Origins::List(list) => CheckOrigin::list(list),
    }
}

/// Who may use the API: without keys, whoever reaches it on loopback in dev mode.
fn access(config: &ServerConfig, listener: &TcpListener) -> Access {
    let is_dev = config.mode().is_ok_and(Mode::is_dev);
    let access = Access::new(config.api.keys.clone(), is_dev && is_loopback(listener));
    let address = config.api.listen.and(listener.local_addr().ok());
    access.announce(address);
    access
}

fn is_loopback(listener: &TcpListener) -> bool {
    let address = listener.local_addr();
    address.is_ok_and(|address| address.ip().is_loopback())
}

/// The routes of sockets, behind the door that is shut while the server joins or drains.
fn guarded(config: &ServerConfig, sockets: &Sockets, ready: &Ready) -> Result<Router, RunError> {
    let door = middleware::from_fn_with_state(Door::new(config, ready), door::admit);
    Ok(sockets.clone().try_into_router()?.layer(door))
}

fn app(config: &ServerConfig, sockets: &Sockets, ready: &Ready) -> Result<Router, RunError> {
    let socket = guarded(config, sockets, ready)?;
    let health = health::router(ready.clone());
    let mut app = Router::new()
        .nest("/socket", socket)
        .merge(demo::router())
        .merge(health);
    if config.ws_echo {
        let check_origin = check_origin(&config.check_origin)?;
        app = app.merge(echo::router(&config.socket, check_origin)?);
    }
    Ok(app.fallback(nothing_there))
}

/// Answers a path that nothing is at.
async fn nothing_there() -> impl IntoResponse {
    let text = "there is nothing here; there is /demo, /healthz, /readyz, and for clients of \
                Phoenix channels /socket, which they complete to /socket/websocket or \
                /socket/longpoll, for clients of Supabase Realtime /realtime/v1\n";
    (StatusCode::NOT_FOUND, text)
}

/// Says in the log where to go and whom the server believes.
fn announce(
    listener: &TcpListener,
    apart: Option<&TcpListener>,
    mode: Mode,
    config: &ServerConfig,
) {
    let address = listener.local_addr().unwrap_or(config.listen);
    let dashboard = apart.unwrap_or(listener).local_addr().unwrap_or(address);
    let s = if config.tls.cert.is_some() { "s" } else { "" };
    tracing::info!(
        socket = %format_args!("ws{s}://{address}/socket"),
        demo = %format_args!("http{s}://{address}{}", demo::PATH),
        dashboard = %format_args!("http{s}://{dashboard}/"),
        "herenow is here"
    );
    for topic in &config.topics {
        let (presence, broadcast) = (topic.presence, topic.broadcast);
        tracing::info!(
            pattern = topic.pattern,
            presence,
            broadcast,
            "serving topics"
        );
    }
    let because = mode.reason();
    if !mode.is_dev() {
        tracing::info!(because, "clients are who their tokens say they are");
        return;
    }
    if address.ip().is_loopback() {
        tracing::info!(
            because,
            "dev mode: clients are believed to be who they say they are"
        );
    } else {
        tracing::warn!(
            because,
            "dev mode on a public address: anyone who reaches it can be anyone"
        );
    }
    if config.jwt.has_keys() {
        tracing::warn!("a key for tokens is set but tokens are not checked in dev mode");
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there already; stop it, or choose another address with --listen"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}; ports below 1024 need a right of their own")
        }
        io::ErrorKind::AddrNotAvailable => format!("{error}; this machine has no such address"),
        _ => error.to_string(),
    }
}
