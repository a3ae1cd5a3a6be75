//! Stopping, in order: who was served leaves before the node says good-bye, and the last to go are
//! those who watch.
//!
//! The [`Parts`] own what is stopped; here is only the order, and the two listeners that are served
//! meanwhile.

use axum::Router;
use herenow_channels::{DrainReport, ServeConfig, ServeError, Sockets, serve_through, serve_with};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::parts::Parts;
use crate::host;
use crate::tls::Tls;

impl Parts {
    /// Becomes ready when the cluster's presences are here; never ends.
    pub(super) async fn settle(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.settle(&self.presence).await;
        }
        self.ready.become_ready();
        host::tell_ready();
        std::future::pending().await
    }

    /// Says that it is not ready, for as long as a load balancer needs to see it, and then takes
    /// leave of clients, programs, operators and the other nodes, while all are still served.
    pub(super) async fn drain(&self) {
        self.ready.begin_to_drain();
        host::tell_stopping();
        if !self.drain_delay.is_zero() {
            let elapsed_ms = self.drain_delay.as_millis();
            tracing::info!(elapsed_ms, "stopping: not ready, and still serving");
            tokio::time::sleep(self.drain_delay).await;
        }
        // Not the other way round: a good-bye hides everybody, also those who are still served.
        drain(&self.sockets, self.dialect.as_ref()).await;
        self.api.people.close().await;
        // Last, so that an operator sees how it goes.
        self.dashboard.close().await;
        if let Some(cluster) = &self.cluster {
            cluster.say_bye(&self.presence).await;
        }
        self.api.events.close(&self.presence).await;
    }

    /// Ends what is left when nobody is served any more.
    pub(super) async fn end(&self) {
        self.presence.shutdown().await;
        if let Some(cluster) = &self.cluster {
            cluster.leave().await;
        }
    }
}

/// Serves the main listener until `stopped`, and the API's, if it has one, for as long.
pub(super) async fn serve_both(
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
