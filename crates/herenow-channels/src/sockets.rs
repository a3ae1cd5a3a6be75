//! [`Sockets`]: the front of this crate, from patterns and channels to an axum router.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router as HttpRouter;
use axum::routing::any;
use herenow_protocol::event;
use herenow_pubsub::{BroadcastError, PubSub};
use http::Extensions;

use crate::auth::ConnectInfo;
use crate::channel::{Assigns, Channel};
use crate::config::{ConfigError, SocketConfig};
use crate::dialect::Dialect;
use crate::drain::{Drain, DrainConfig, DrainReport, Queued};
use crate::forwarded::TrustedProxies;
use crate::longpoll::{LongPoll, LongPollConfig, LongPollError, LongPollRoute};
use crate::metrics::Metrics;
use crate::origin::CheckOrigin;
use crate::payload::IntoPayload;
use crate::router::{PatternError, Route, Router};
use crate::socket::{ConnectRefused, Connected, Shared, erase_connect};
use crate::websocket::websocket_route;

/// Routes topics to channels, and mounts sockets below an axum router.
///
/// A clone is a handle to the same sockets: made after everything is configured, it disconnects,
/// broadcasts and drains.
///
/// # Examples
///
/// ```
/// use herenow_channels::{Channel, Joined, Params, Refused, Socket, Sockets};
/// use herenow_pubsub::PubSub;
///
/// struct Room;
///
/// impl Channel for Room {
///     async fn join(&mut self, socket: &mut Socket, _: Params) -> Result<Joined, Refused> {
///         socket.push("hello", serde_json::json!({ "topic": socket.topic() }))?;
///         Ok(Joined::empty())
///     }
/// }
///
/// let sockets = Sockets::new(&PubSub::local()).channel("room:*", || Room);
/// let app: axum::Router = axum::Router::new().nest("/socket", sockets.into_router());
/// ```
#[derive(Clone)]
pub struct Sockets {
    shared: Arc<Shared>,
    long_poll: Option<LongPollConfig>,
    websocket_path: Option<Arc<str>>,
    pattern_error: Option<Arc<PatternError>>,
}

/// Why sockets cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketsError {
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Long polling cannot be offered.
    #[error(transparent)]
    LongPoll(#[from] LongPollError),
    /// A channel's pattern is not one.
    #[error(transparent)]
    Pattern(Arc<PatternError>),
}

impl Sockets {
    /// Returns sockets without channels, whose topics are those of `pubsub`.
    pub fn new(pubsub: &PubSub) -> Self {
        let (router, config) = (Router::default(), SocketConfig::default());
        Self {
            shared: Arc::new(Shared::new(pubsub.clone(), router, config)),
            long_poll: None,
            websocket_path: Some("/websocket".into()),
            pattern_error: None,
        }
    }

    /// Serves topics that match `pattern` by channels that `make` makes, one per join.
    ///
    /// A pattern matches its own text, or all topics that begin with the text before a final `*`.
    /// The first pattern declared that matches wins.
    #[must_use]
    pub fn channel<C: Channel>(
        self,
        pattern: &str,
        make: impl Fn() -> C + Send + Sync + 'static,
    ) -> Self {
        self.channel_with(pattern, Assigns::new(), make)
    }

    /// As [`Sockets::channel`], with values that are assigned to every socket of this route.
    #[must_use]
    pub fn channel_with<C: Channel>(
        mut self,
        pattern: &str,
        assigns: Assigns,
        make: impl Fn() -> C + Send + Sync + 'static,
    ) -> Self {
        match Route::new(pattern, assigns, make) {
            Ok(route) => self.configure().router.add(route),
            Err(error) => {
                self.pattern_error.get_or_insert(Arc::new(error));
            }
        }
        self
    }

    /// Asks `connect` who may connect, and as whom. Without it everybody may, anonymously.
    #[must_use]
    pub fn connect<F, Fut>(mut self, connect: F) -> Self
    where
        F: Fn(ConnectInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Connected, ConnectRefused>> + Send + 'static,
    {
        self.configure().connect = Some(erase_connect(connect));
        self
    }

    /// Asks `admit` about whoever comes for a connection, by its client's address, before anything
    /// of the request is looked at: once for each handshake, whatever becomes of it. What it puts
    /// among the request's extensions is there for `connect`, see [`ConnectInfo::extension`].
    #[must_use]
    pub fn admit<F>(mut self, admit: F) -> Self
    where
        F: Fn(Option<IpAddr>, &mut Extensions) -> Result<(), ConnectRefused>,
        F: Send + Sync + 'static,
    {
        self.configure().admit = Some(Box::new(admit));
        self
    }

    /// Sets the limits and time-outs.
    #[must_use]
    pub fn config(mut self, config: SocketConfig) -> Self {
        self.configure().set_config(config);
        self
    }

    /// Serves clients that differ from Phoenix's as `dialect` says.
    #[must_use]
    pub fn dialect(mut self, dialect: &'static dyn Dialect) -> Self {
        self.configure().set_dialect(dialect);
        self
    }

    /// Sets which web pages may connect; by default those of the host they ask.
    #[must_use]
    pub fn check_origin(mut self, check_origin: CheckOrigin) -> Self {
        self.configure().check_origin = check_origin;
        self
    }

    /// Believes what these proxies say of the clients that they speak for; by default none is.
    ///
    /// It decides on [`ConnectInfo::client`], and on the host and the scheme that a page's origin
    /// is compared with.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.configure().proxies = proxies;
        self
    }

    /// Counts into `metrics`, which other mounts may count into as well.
    #[must_use]
    pub fn count_into(mut self, metrics: &Arc<Metrics>) -> Self {
        self.configure().metrics = metrics.clone();
        self
    }

    /// Sends every message back as it came, and serves no channels.
    ///
    /// All else is as for channels: the handshake, the limits, the queues, the close codes. For
    /// suites that judge implementations of WebSockets.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.configure().is_echo = true;
        self
    }

    /// Hangs the WebSocket below another path than `/websocket`.
    #[must_use]
    pub fn websocket_path(mut self, path: &str) -> Self {
        self.websocket_path = Some(path.into());
        self
    }

    /// Serves no WebSockets.
    #[must_use]
    pub fn without_websocket(mut self) -> Self {
        self.websocket_path = None;
        self
    }

    /// Serves long polling as well, below `/longpoll`.
    #[must_use]
    pub fn long_poll(mut self, config: LongPollConfig) -> Self {
        self.long_poll = Some(config);
        self
    }

    /// Sets how connections are closed when the server stops.
    #[must_use]
    pub fn drain_config(mut self, config: DrainConfig) -> Self {
        self.configure().drain = Drain::new(config);
        self
    }

    /// Returns the router with all transports, to be nested at the mount's path.
    ///
    /// # Panics
    ///
    /// If a pattern or the config is wrong; [`Sockets::try_into_router`] says so instead.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> HttpRouter<S> {
        match self.try_into_router() {
            Ok(router) => router,
            Err(error) => panic!("sockets are misconfigured: {error}"),
        }
    }

    /// Returns the router with all transports, to be nested at the mount's path.
    ///
    /// # Errors
    ///
    /// [`SocketsError`] for the first thing that is misconfigured.
    pub fn try_into_router<S: Clone + Send + Sync + 'static>(
        self,
    ) -> Result<HttpRouter<S>, SocketsError> {
        self.try_into_router_at("")
    }

    /// Returns the router with all transports below `path`, to be merged. A nested router takes
    /// each request's address apart once more; this one does not.
    ///
    /// # Errors
    ///
    /// [`SocketsError`] for the first thing that is misconfigured.
    pub fn try_into_router_at<S: Clone + Send + Sync + 'static>(
        self,
        path: &str,
    ) -> Result<HttpRouter<S>, SocketsError> {
        if let Some(error) = self.pattern_error {
            return Err(SocketsError::Pattern(error));
        }
        self.shared.config.validate()?;
        let mut router = HttpRouter::new();
        if let Some(below) = &self.websocket_path {
            router = router.route(&format!("{path}{below}"), websocket_route(&self.shared));
        }
        if let Some(config) = self.long_poll {
            let longpoll = LongPoll::new(config, &self.shared.config)?;
            let shared = self.shared.clone();
            let route = LongPollRoute { shared, longpoll };
            let path = format!("{path}/longpoll");
            router = router.route(&path, any(|request| route.handle(request)));
        }
        // The routes have no state of the application's.
        Ok(router.with_state(()))
    }

    /// Returns the system that the topics belong to.
    pub fn pubsub(&self) -> &PubSub {
        &self.shared.pubsub
    }

    /// Returns what the sockets have done so far.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Returns what waits for the readers of all connections of this mount. Looks at each of them.
    pub fn queued(&self) -> Queued {
        self.shared.drain.queued()
    }

    /// Broadcasts an event to all subscribers of a topic, on every node.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`](crate::BroadcastError); nobody gets it then.
    pub fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), crate::channel::BroadcastError> {
        Ok(self
            .shared
            .pubsub
            .broadcast(topic, event, payload.into_payload()?)?)
    }

    /// Closes all connections whose id is `id`, on every node, with code 1001.
    ///
    /// # Errors
    ///
    /// If the adapter did not take the broadcast; then nobody is disconnected.
    pub fn disconnect(&self, id: &str) -> Result<(), BroadcastError> {
        let payload = herenow_pubsub::Payload::json("{}");
        self.shared.pubsub.broadcast(id, event::DISCONNECT, payload)
    }

    /// Closes all connections of this mount with code 1012, in batches, and waits for them and
    /// their channels to end. Clients reconnect, elsewhere if there is an elsewhere; a connection
    /// that opens from now on is closed at once. [`serve`](crate::serve()) does this by itself.
    pub async fn drain(&self) -> DrainReport {
        self.shared.drain.run().await
    }

    /// Returns what all connections share.
    #[cfg(feature = "testing")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the settings to change.
    fn configure(&mut self) -> &mut Shared {
        Arc::get_mut(&mut self.shared).expect("sockets are configured before they are cloned")
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}
