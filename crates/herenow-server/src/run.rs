//! Builds a server out of its configuration, runs it, and stops it in order.
//!
//! `listeners` says which addresses do not go together, `parts` starts what a server consists of and owns it, `routes` says what is at which path, and
//! `shutdown` in which order all of it ends. Here they are put together.

mod listeners;
mod parts;
mod routes;
mod shutdown;

use std::io;
use std::net::SocketAddr;

use herenow_channels::{NetworkError, OriginError, SocketsError};
use herenow_presence::Presence;
use herenow_pubsub::PubSub;
use tokio::net::TcpListener;

pub use self::parts::sockets;
use self::parts::{Parts, presence_config};
use self::shutdown::serve_both;
use crate::cluster::{self, ClusterError};
use crate::config::{ConfigError, Mode, ServerConfig};
use crate::demo;
pub use crate::events::EventsError;
use crate::fetch::Fields;
pub use crate::fetch::FieldsError;
use crate::host;
use crate::identity::{Authority, AuthorityError};
use crate::signals;
use crate::tls::{Tls, TlsError};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {}", explain(cause, flag))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that says so.
        flag: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// Two listeners cannot both have their addresses.
    #[error(
        "{key} is {address}, but {other} is {other_address}: only one of them can listen there"
    )]
    OneAddress {
        /// The key of one.
        key: &'static str,
        /// Its address.
        address: String,
        /// The key of the other.
        other: &'static str,
        /// Its address.
        other_address: String,
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
    /// The limits of sockets or of long polling contradict each other, or a topic's pattern is
    /// none.
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
pub fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    listen_by(address, "--listen")
}

fn listen_by(address: SocketAddr, flag: &'static str) -> Result<TcpListener, RunError> {
    herenow_channels::listen(address).map_err(|cause| RunError::Listen {
        address,
        flag,
        cause,
    })
}

/// Runs a server on `listener` until `shutdown` completes, then stops it in order.
///
/// Stopping: `/readyz` turns false and no new socket is let in; after
/// [`ServerConfig::drain_delay`] the open sockets are closed with 1012 over
/// [`ServerConfig::drain`], and each user leaves, on all nodes, when their own socket is closed and
/// not before; then the other nodes of a cluster are told that this life is over, which takes out
/// whatever is left of it; requests in hand are finished.
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
    let address = listener.local_addr().unwrap_or(config.listen);
    if let Some(error) = listeners::check(&config, address).pop() {
        return Err(error);
    }
    let hangups = signals::hangups().map_err(RunError::Signals)?;
    let tls = Tls::load(&config.tls)?;
    let mut parts = Parts::start(&config, mode, &listener, Tls::status(tls.as_ref())).await?;
    let app = routes::for_clients(&config, &parts, &listener)?;
    let operators = routes::for_operators(&config, &parts)?;
    let api_listener = parts.api_listener.take();
    announce(&listener, api_listener.as_ref(), mode, &config);
    let (app, apart) = match api_listener {
        Some(listener) if config.demo => (app.merge(demo::root()), Some((listener, operators))),
        Some(listener) => (app, Some((listener, operators))),
        None => (app.merge(operators), None),
    };
    let stopped = async {
        tokio::select! {
            () = shutdown => {}
            () = parts.api.stop.notified() => {}
            () = parts.settle() => {}
            () = host::renew(tls.as_ref(), &parts.ready, hangups) => {}
        }
        parts.drain().await;
    };
    let http = (&config.http, tls.as_ref());
    serve_both((listener, app), apart, http, stopped).await?;
    parts.end().await;
    Ok(())
}

/// Tells why a server would not start with `config`, as far as that can be known without listening
/// or joining a cluster.
///
/// # Panics
///
/// Outside of tokio.
pub async fn check(config: &ServerConfig) -> Vec<RunError> {
    let mut errors = listeners::check(config, config.listen);
    errors.extend(cluster::check(config).err().map(RunError::from));
    let authority = match config.mode() {
        Ok(Mode::Tokens) => Authority::start(config).map_err(RunError::from),
        Ok(Mode::DevAsked | Mode::DevLoopback) => Ok(Authority::dev()),
        Err(error) => Err(error.into()),
    };
    let authority = authority.unwrap_or_else(|error| {
        errors.push(error);
        Authority::dev()
    });
    let tls = Tls::load(&config.tls);
    // A certificate that is over is used, if it is the only one; it is not fine.
    let wrong = tls.map_or_else(Some, |tls| tls.as_ref().and_then(Tls::wrong_time));
    errors.extend(wrong.map(RunError::from));
    errors.extend(Fields::new(config).err().map(RunError::from));
    let pubsub = PubSub::local();
    let presence = Presence::builder(&pubsub).config(presence_config(config));
    match presence.start() {
        Ok(presence) => {
            errors.extend(routes::check(config, &pubsub, &presence, &authority).err());
            presence.shutdown().await;
        }
        Err(error) => errors.push(error.into()),
    }
    errors
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
    // Whoever looks at it has no token.
    let has_demo = config.demo && mode.is_dev();
    let s = if config.tls.cert.is_some() { "s" } else { "" };
    tracing::info!(
        socket = %format_args!("ws{s}://{address}/socket"),
        demo = has_demo.then(|| display(format!("http{s}://{address}{}", demo::PATH))),
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

fn explain(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program listens there already; stop it, or choose another address with {flag}"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{error}; ports below 1024 need a right of their own")
        }
        io::ErrorKind::AddrNotAvailable => format!("{error}; this machine has no such address"),
        _ => error.to_string(),
    }
}
