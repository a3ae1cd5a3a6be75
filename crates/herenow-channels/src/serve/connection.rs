//! One accepted connection: its handshake, its requests, and what it has as an [`Entrant`].

use std::convert::Infallible;
use std::future::{self, Future};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures_util::future::Either;
use herenow_pubsub::LogLimit;
use http::Request;
use http::header::UPGRADE;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::counts::ServeCounts;
use super::entry::Entrant;
use super::head::HeadLimits;
use crate::arrival::Lease;
use crate::drain::DrainList;
use crate::watched::Watched;

/// How long a connection that was let in may take to its first request when the server stops. One
/// on its way must not be refused; one that never comes, such as a browser's spare, is not waited
/// for.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) app: Router,
    pub(super) http: http1::Builder,
    pub(super) header_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) counts: ServeCounts,
    /// Connections that are cut.
    pub(super) log: LogLimit,
    pub(super) heads: HeadLimits,
    pub(super) drains: DrainList,
    pub(super) stopping: CancellationToken,
}

impl Shared {
    /// Waits until the server has been stopping for that long.
    async fn stopped_for(&self, time: Duration) {
        self.stopping.cancelled().await;
        sleep(time).await;
    }

    /// Counts and logs that a connection is cut whose client reads nothing.
    fn give_up(&self, peer: SocketAddr) {
        self.counts.count_unread_answer();
        tracing::debug!(%peer, "connection cut: the client does not read");
        if let Some(n_left_out) = self.log.may_log() {
            let elapsed_ms = self.write_timeout.as_millis();
            tracing::warn!(
                elapsed_ms,
                n_left_out,
                "connection cut: nothing of an answer was read for as long as the limit is \
                 (http.write_timeout)"
            );
        }
    }
}

/// Ends the connection that a request came in on. An extension of each request that is served here.
///
/// For an answer that goes on as long as its reader reads, and a reader that does not.
#[derive(Debug, Clone)]
pub struct HangUp(CancellationToken);

impl HangUp {
    /// Cuts the connection, whatever is under way on it.
    pub fn now(&self) {
        self.0.cancel();
    }
}

/// Serves what comes on a connection, once its handshake is made.
pub(super) async fn serve_shaken<Io>(
    shared: Arc<Shared>,
    peer: SocketAddr,
    shaken: impl Future<Output = io::Result<Io>>,
    entrant: Entrant,
) where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if let Some(io) = shake(&shared, peer, shaken, &entrant.hang_up).await {
        serve_requests(shared, io, peer, entrant).await;
    }
}

/// Waits for a handshake, but not for ever, not for long while the server stops, and not when it is
/// to go. `None` if it fails.
async fn shake<Io>(
    shared: &Shared,
    peer: SocketAddr,
    shaken: impl Future<Output = io::Result<Io>>,
    hang_up: &CancellationToken,
) -> Option<Io> {
    let shaken = tokio::select! {
        biased; // Bare TCP is there at once.
        shaken = timeout(shared.header_timeout, shaken) => shaken,
        () = shared.stopped_for(FIRST_REQUEST_GRACE) => return None,
        () = hang_up.cancelled() => return None,
    };
    match shaken {
        Ok(Ok(io)) => return Some(io),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
        Err(_) => {
            shared.counts.count_late_head();
            tracing::debug!(%peer, "handshake took too long (http.header_timeout)");
        }
    }
    None
}

async fn serve_requests(
    shared: Arc<Shared>,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    entrant: Entrant,
) {
    let lease = entrant.place.lease();
    let hang_up = HangUp(entrant.hang_up);
    let first = Mutex::new(Some((entrant.place, entrant.standing)));
    let (began, lent) = (Notify::new(), Notify::new());
    let service = service_fn(|mut request: Request<Incoming>| {
        let place = first.lock().take().map(|(place, _)| place);
        if let Some(place) = place
            && request.headers().contains_key(UPGRADE)
        {
            request.extensions_mut().insert(place);
            lent.notify_one();
        }
        began.notify_one();
        match shared.heads.refuse(&request) {
            Some(refusal) => Either::Left(future::ready(Ok(refusal))),
            None => Either::Right(respond(&shared, peer, &hang_up, request)),
        }
    });
    let (io, mut stall) = Watched::new(io, shared.write_timeout);
    let connection = shared
        .http
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            ended = &mut connection => ended,
            () = may_end(&shared, &began) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            never = run_out(lease, &lent) => match never {},
        }
    };
    let ended = tokio::select! {
        biased; // A stall is looked at after the writing.
        ended = served => ended,
        () = hang_up.0.cancelled() => return tracing::debug!(%peer, "connection cut"),
        () = future::poll_fn(|context| stall.poll(context)) => return shared.give_up(peer),
    };
    if let Err(error) = ended {
        if error.is_parse_too_large() {
            shared.heads.count_unread();
        }
        // One that is idle after an answer ends this way, too, and is as it should be.
        if error.is_timeout() && first.lock().is_some() {
            shared.counts.count_late_head();
        }
        tracing::debug!(%peer, %error, "connection failed");
    }
}

/// Frees the place that was lent to a request, after a while.
async fn run_out(lease: Lease, lent: &Notify) -> Infallible {
    lent.notified().await;
    lease.run_out().await;
    future::pending().await
}

/// Waits until a connection may end because the server stops: not before its first request, which
/// hyper would hang up on, unless that does not come.
async fn may_end(shared: &Shared, began: &Notify) {
    tokio::select! {
        () = shared.stopped_for(FIRST_REQUEST_GRACE) => {}
        () = async {
            shared.stopping.cancelled().await;
            began.notified().await;
        } => {}
    }
}

fn respond(
    shared: &Shared,
    peer: SocketAddr,
    hang_up: &HangUp,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(shared.drains.clone());
    request.extensions_mut().insert(hang_up.clone());
    let mut app = shared.app.clone();
    async move {
        // A router is always ready; asking is the contract of a service.
        future::poll_fn(|cx| Service::<Request<Incoming>>::poll_ready(&mut app, cx)).await?;
        app.call(request).await
    }
}
