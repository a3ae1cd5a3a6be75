//! What all connections of one mount share.

use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use herenow_protocol::SocketConfig as ProtocolConfig;
use herenow_pubsub::{LogLimit, PubSub};
use http::{Extensions, StatusCode};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::connect::{AdmitFn, ConnectFn, ConnectRefused, Connected};
use crate::arrival::{Arrival, Arrivals};
use crate::auth::ConnectInfo;
use crate::config::SocketConfig;
use crate::dialect::Dialect;
use crate::drain::{Drain, DrainConfig};
use crate::forwarded::TrustedProxies;
use crate::mailbox::FlushQueue;
use crate::metrics::Metrics;
use crate::origin::CheckOrigin;
use crate::router::Router;

/// One mount of sockets: its routes, settings and live connections.
pub(crate) struct Shared {
    pub(crate) pubsub: PubSub,
    pub(crate) router: Router,
    pub(crate) config: Arc<SocketConfig>,
    pub(crate) protocol: ProtocolConfig,
    pub(crate) check_origin: CheckOrigin,
    pub(crate) proxies: TrustedProxies,
    pub(crate) admit: Option<AdmitFn>,
    pub(crate) connect: Option<ConnectFn>,
    /// Messages go back as they came, and no channel sees them.
    pub(crate) is_echo: bool,
    pub(crate) metrics: Arc<Metrics>,
    /// Who is on the way in.
    pub(crate) arrivals: Arrivals,
    /// Mailboxes that wait to be flushed past the connections' tasks.
    pub(crate) flushes: Arc<FlushQueue>,
    /// The tasks of all connections.
    pub(crate) tasks: TaskTracker,
    /// The open connections, and the way to close them all.
    pub(crate) drain: Drain,
    pub(crate) log_limits: LogLimits,
    /// The beginning of the time that rates are measured in.
    pub(crate) began: Instant,
}

/// How often the log says what clients did wrong: by kind, so that one does not hide the others.
#[derive(Debug, Default)]
pub(crate) struct LogLimits {
    /// Requests for a connection that are denied.
    pub(crate) requests: LogLimit,
    /// Joins that are refused.
    pub(crate) joins: LogLimit,
    /// Messages and bodies that are none.
    pub(crate) messages: LogLimit,
}

impl Shared {
    pub(crate) fn new(pubsub: PubSub, router: Router, config: SocketConfig) -> Self {
        let mut shared = Self {
            pubsub,
            router,
            config: Arc::default(),
            protocol: ProtocolConfig::default(),
            check_origin: CheckOrigin::default(),
            proxies: TrustedProxies::default(),
            admit: None,
            connect: None,
            is_echo: false,
            metrics: Arc::default(),
            arrivals: Arrivals::new(config.max_arrivals, config.max_checks),
            flushes: Arc::default(),
            tasks: TaskTracker::new(),
            drain: Drain::new(DrainConfig::default()),
            log_limits: LogLimits::default(),
            began: Instant::now(),
        };
        shared.set_config(config);
        shared
    }

    pub(crate) fn set_config(&mut self, mut config: SocketConfig) {
        config.dialect = config.dialect.or(self.config.dialect);
        self.protocol.max_channels = config.max_channels.get();
        self.protocol.max_topic_bytes = config.max_topic_bytes;
        self.protocol.join_ref_check = config.join_ref_check;
        self.arrivals = Arrivals::new(config.max_arrivals, config.max_checks);
        self.config = Arc::new(config);
    }

    /// Lets a client begin to come in; `None` if too many do, and it is to be told so.
    pub(crate) fn let_in(&self) -> Option<Arrival> {
        let arrival = self.arrivals.try_begin();
        if arrival.is_none() {
            self.metrics.busy_connects.increment();
            let n_arrivals = self.arrivals.n_now();
            tracing::debug!(n_arrivals, "sent away: too many arrive");
        }
        arrival
    }

    pub(crate) fn set_dialect(&mut self, dialect: &'static dyn Dialect) {
        let mut config = SocketConfig::clone(&self.config);
        config.dialect = Some(dialect);
        self.config = Arc::new(config);
    }

    /// Asks the application whether a request for a connection may be looked at.
    ///
    /// # Errors
    ///
    /// The application's refusal.
    pub(crate) fn admit(
        &self,
        client: Option<IpAddr>,
        extensions: &mut Extensions,
    ) -> Result<(), ConnectRefused> {
        let Some(admit) = &self.admit else {
            return Ok(());
        };
        let admitted = admit(client, extensions);
        if admitted.is_err() {
            self.metrics.refused_connects.increment();
        }
        admitted
    }

    /// Asks the application whether a client may connect, when it is the client's turn, which lasts
    /// as long as its arrival.
    ///
    /// # Errors
    ///
    /// The application's refusal; status 500 if it panicked.
    pub(crate) async fn connect(
        &self,
        info: ConnectInfo,
        arrival: &mut Arrival,
    ) -> Result<Connected, ConnectRefused> {
        self.arrivals.turn(arrival).await;
        let Some(connect) = &self.connect else {
            return Ok(Connected::anonymous());
        };
        let connecting = AssertUnwindSafe(async { connect(info).await });
        let connected = connecting.catch_unwind().await.unwrap_or_else(|_| {
            self.metrics.crashes.increment();
            tracing::error!("connect panicked");
            Err(ConnectRefused::response(StatusCode::INTERNAL_SERVER_ERROR))
        });
        if connected.is_err() {
            self.metrics.refused_connects.increment();
        }
        connected
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("router", &self.router)
            .field("config", &self.config)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
