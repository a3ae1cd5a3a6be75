//! The accept loop: serves an axum router over TCP or another [`Listener`]'s connections, or over
//! what a handshake such as TLS' makes of them, and lets nobody in who only stands in the door.
//!
//! `axum::serve` sets no timer, so that a client that never finishes its headers stays for ever,
//! and leaves Nagle's algorithm on. This loop has both, bounds the connections that have not yet
//! sent a request, lets no address have all of their places, gives up who reads no answer, survives
//! running out of file descriptors, and when it stops it drains the sockets that were opened
//! through it. Handlers find the peer's address as
//! [`axum::extract::ConnectInfo`].

mod counts;
mod head;
mod entry;
mod connection;
mod listener;

use std::future::{self, Future};
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use herenow_pubsub::LogLimit;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

pub use self::connection::HangUp;
use self::connection::{Shared, serve_shaken};
pub use self::counts::ServeCounts;
use self::entry::{Entrant, Entry};
use self::head::HeadLimits;
pub use self::listener::{Listener, listen};
use crate::drain::DrainList;

/// First pause after a failed accept. It doubles with each failure in a row.
const MIN_ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause after a failed accept.
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Connections that are accepted before all others get their turn, a client's next message among
/// them: who comes must not starve who is there.
const MAX_TURN: usize = 32;
/// How far over its limits a head is read, for an answer that names the limit: hyper's own has
/// none.
const SLACK: usize = 2;
/// The least that hyper takes for its read buffer.
const MIN_HEADER_BYTES: usize = 8 << 10;

/// Limits of one accept loop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeConfig {
    /// Time from the first moment of a connection, or from the previous answer on it, until the
    /// head of a request is complete, 10 seconds. Then the connection is closed. The handshake of
    /// [`serve_through`] has as much time, and the first head after it as much again.
    pub header_timeout: Duration,
    /// Largest head of a request, 64 KiB: its first line and its headers, as they are written. A
    /// larger one is answered 431, with a text that names this; one of more than twice as much with
    /// an empty body, before it is read to its end.
    pub max_header_bytes: usize,
    /// Headers of one request, 100. More are answered 431, with a text that names this; more than
    /// twice as many with an empty body.
    pub max_headers: NonZero<usize>,
    /// Connections that have not yet sent the head of a request, 1,024, those whose handshake is
    /// under way among them; also those whose upgrade to a WebSocket is not settled, for a second
    /// at most. One more is accepted and waits, and all others in the operating system's backlog.
    pub max_handshakes: NonZero<usize>,
    /// Time after which a connection that has not yet sent the head of a request may be closed for
    /// a newcomer, 1 second, while all [`max_handshakes`](Self::max_handshakes) are taken: the
    /// oldest one of the address that has the most of them, or of the IPv6 network of 64 bits, if it
    /// has more than one, and more than a 64th of all. So an address that opens fewer than
    /// `max_handshakes` in this time cannot keep others out.
    pub crowded_timeout: Duration,
    /// Time that requests in hand get after the sockets are drained, 10 seconds. Then their
    /// connections are cut.
    pub shutdown_timeout: Duration,
    /// Time for which a client may take nothing of an answer that waits for it, 30 seconds. Then
    /// its connection is cut. What counts is what the system's buffers take, and only while
    /// something is to be written: an upgraded connection, or a stream of events in which nothing
    /// happens, has no such time.
    pub write_timeout: Duration,
    /// Counts what is refused or cut for being over one of these.
    pub counts: ServeCounts,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 64 << 10,
            max_headers: const { NonZero::new(100).expect("100 is not zero") },
            max_handshakes: const { NonZero::new(1_024).expect("1024 is not zero") },
            crowded_timeout: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            counts: ServeCounts::default(),
        }
    }
}

impl ServeConfig {
    fn validate(&self) -> Result<(), ServeError> {
        let durations = [
            ("header_timeout", self.header_timeout),
            ("crowded_timeout", self.crowded_timeout),
            ("write_timeout", self.write_timeout),
        ];
        if let Some((field, _)) = durations.iter().find(|(_, time)| time.is_zero()) {
            return Err(ServeError::ZeroDuration { field });
        }
        if self.max_header_bytes < MIN_HEADER_BYTES {
            let (value, min) = (self.max_header_bytes, MIN_HEADER_BYTES);
            return Err(ServeError::HeaderBytes { value, min });
        }
        Ok(())
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nobody could do anything in no time.
    #[error("{field} is zero, it must be longer")]
    ZeroDuration {
        /// The field of the config.
        field: &'static str,
    },
    /// The read buffer cannot be that small.
    #[error("max_header_bytes is {value}, it must be at least {min}")]
    HeaderBytes {
        /// `max_header_bytes`.
        value: usize,
        /// The least it may be.
        min: usize,
    },
    /// The listener is not usable.
    #[error("the listener is not usable")]
    Listener(#[source] io::Error),
}

/// Serves `app` on `listener` until `shutdown` completes, with the default [`ServeConfig`].
/// [`listen`] makes a listener that has room for many who come at once.
///
/// Then it accepts no more, drains the sockets opened through it (see
/// [`DrainConfig`](crate::DrainConfig)), lets requests in hand finish and first ones arrive, for a
/// second, and returns.
///
/// # Errors
///
/// Only if the listener is not usable from the start: a failed accept is logged and tried again.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// use herenow_channels::{Sockets, serve};
/// use herenow_pubsub::PubSub;
///
/// let sockets = Sockets::new(&PubSub::local());
/// let app = axum::Router::new().nest("/socket", sockets.into_router());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await?;
/// serve(listener, app, std::future::pending()).await
/// # }
/// ```
pub async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    match serve_with(listener, app, ServeConfig::default(), shutdown).await {
        Ok(()) => Ok(()),
        Err(ServeError::Listener(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Serves `app` as [`serve()`] does, with limits of one's own.
///
/// # Errors
///
/// [`ServeError`] for a wrong limit or an unusable listener, before anything is accepted.
pub async fn serve_with(
    listener: TcpListener,
    app: Router,
    config: ServeConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    serve_through(
        listener,
        app,
        config,
        |tcp| future::ready(Ok(tcp)),
        shutdown,
    )
    .await
}

/// Serves `app` as [`serve_with`] does, over what `handshake` makes of each connection: TLS, say.
/// The listener may be any [`Listener`].
///
/// A handshake that fails, or takes longer than [`ServeConfig::header_timeout`], ends its
/// connection and is logged at `debug`; whoever wants to count them does so in `handshake`, whose
/// future is dropped when the time is over. WebSockets that are not on bare TCP are written to by
/// their own tasks only, which is slower when a broadcast goes to many that are idle.
///
/// # Errors
///
/// As [`serve_with`].
pub async fn serve_through<L, Io, Shaken>(
    listener: L,
    app: Router,
    config: ServeConfig,
    handshake: impl Fn(L::Stream) -> Shaken,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    L: Listener,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Shaken: Future<Output = io::Result<Io>> + Send + 'static,
{
    config.validate()?;
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let mut server = Server::new(app, &config);
    tracing::info!(%address, "listening");
    server.accept_until(&listener, &handshake, shutdown).await;
    drop(listener); // Refuse newcomers now, not after the drain.
    tracing::info!(%address, n_connections = server.connections.len(), "stopping");
    server.stop(config.shutdown_timeout).await;
    tracing::info!(%address, "stopped");
    Ok(())
}

/// The connections that are still HTTP: an upgraded one belongs to its socket's task.
struct Server {
    shared: Arc<Shared>,
    entry: Entry,
    connections: JoinSet<()>,
}

impl Server {
    fn new(app: Router, config: &ServeConfig) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(config.max_header_bytes.saturating_mul(SLACK))
            .max_headers(config.max_headers.get().saturating_mul(SLACK));
        let (drains, stopping) = (DrainList::default(), CancellationToken::new());
        Self {
            shared: Arc::new(Shared {
                app,
                http,
                header_timeout: config.header_timeout,
                write_timeout: config.write_timeout,
                counts: config.counts.clone(),
                log: LogLimit::default(),
                heads: HeadLimits::new(config),
                drains,
                stopping,
            }),
            entry: Entry::new(config),
            connections: JoinSet::new(),
        }
    }

    async fn accept_until<L, Io, Shaken>(
        &mut self,
        listener: &L,
        handshake: &impl Fn(L::Stream) -> Shaken,
        shutdown: impl Future<Output = ()>,
    ) where
        L: Listener,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        Shaken: Future<Output = io::Result<Io>> + Send + 'static,
    {
        let mut shutdown = pin!(shutdown);
        let (mut pause, mut newcomer) = (Pause::default(), None);
        let mut n_in_turn = 0;
        loop {
            let entered = tokio::select! {
                () = &mut shutdown => return,
                entered = enter(listener, &self.entry, &mut pause, &mut newcomer) => entered,
                Some(ended) = self.connections.join_next() => {
                    report_panic(ended);
                    continue;
                }
            };
            if let Some((stream, peer, entrant)) = entered {
                let shaken = handshake(stream);
                let served = serve_shaken(Arc::clone(&self.shared), peer, shaken, entrant);
                self.connections.spawn(served);
                n_in_turn += 1;
            }
            if n_in_turn == MAX_TURN {
                n_in_turn = 0;
                yield_now().await;
            }
        }
    }

    async fn stop(mut self, timeout: Duration) {
        self.shared.stopping.cancel();
        let drains = self.shared.drains.close();
        let reports = join_all(drains.iter().map(crate::drain::Drain::run)).await;
        for report in reports.iter().filter(|report| report.n_sockets > 0) {
            tracing::info!(
                n_sockets = report.n_sockets,
                n_batches = report.n_batches,
                n_still_open = report.n_left,
                "sockets closed"
            );
        }
        let all_ended = async {
            while let Some(ended) = self.connections.join_next().await {
                report_panic(ended);
            }
        };
        if tokio::time::timeout(timeout, all_ended).await.is_err() {
            tracing::warn!(
                n_connections = self.connections.len(),
                "cutting connections"
            );
            self.connections.shutdown().await;
        }
    }
}

/// Accepts one connection, and lets it in as soon as there is a place. `None` if it could not be
/// accepted. Cancelling it loses no connection: who waits for a place
/// is the `newcomer`.
async fn enter<L: Listener>(
    listener: &L,
    entry: &Entry,
    pause: &mut Pause,
    newcomer: &mut Option<(L::Stream, SocketAddr)>,
) -> Option<(L::Stream, SocketAddr, Entrant)> {
    if newcomer.is_none() {
        *newcomer = Some(accept(listener, pause).await?);
    }
    let place = entry.place().await;
    let (stream, peer) = newcomer.take()?;
    Some((stream, peer, entry.let_in(peer, place)))
}

/// Accepts one connection. `None` if that failed; the pause comes before the next.
async fn accept<L: Listener>(listener: &L, pause: &mut Pause) -> Option<(L::Stream, SocketAddr)> {
    pause.wait().await;
    match future::poll_fn(|context| listener.poll_accept(context)).await {
        Ok(accepted) => {
            pause.reset();
            Some(accepted)
        }
        Err(error) if is_of_one_connection(&error) => None,
        Err(error) => {
            let pause = pause.lengthen();
            tracing::warn!(%error, pause_ms = pause.as_millis(), "accept failed");
            None
        }
    }
}

/// Tells the errors that concern only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// The growing pause between accepts that fail, for want of file descriptors most of the time.
#[derive(Debug, Default)]
struct Pause {
    length: Duration,
    until: Option<tokio::time::Instant>,
}

impl Pause {
    fn lengthen(&mut self) -> Duration {
        self.length = (self.length * 2).clamp(MIN_ACCEPT_PAUSE, MAX_ACCEPT_PAUSE);
        self.until = Some(tokio::time::Instant::now() + self.length);
        self.length
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    async fn wait(&mut self) {
        if let Some(until) = self.until {
            tokio::time::sleep_until(until).await;
            self.until = None;
        }
    }
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request handler panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn soc_116_failed_accepts_pause_longer_and_longer() {
        let mut pause = Pause::default();
        let mut lengths = Vec::new();
        for _ in 0..10 {
            lengths.push(pause.lengthen().as_millis());
            let before = tokio::time::Instant::now();
            pause.wait().await;
            assert_eq!(before.elapsed().as_millis(), lengths[lengths.len() - 1]);
        }
        assert_eq!(lengths, [5, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        pause.reset();
        assert_eq!(pause.lengthen().as_millis(), 5);
        assert!(is_of_one_connection(
            &io::ErrorKind::ConnectionAborted.into()
        ));
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(24)));
    }

    #[tokio::test]
    async fn soc_117_wrong_limits_are_refused_with_value_and_limit() {
        let start = async |config: ServeConfig| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let served = serve_with(listener, Router::new(), config, async {}).await;
            served.map_err(|error| error.to_string())
        };
        let config = ServeConfig {
            max_header_bytes: 100,
            ..ServeConfig::default()
        };
        let message = "max_header_bytes is 100, it must be at least 8192";
        assert_eq!(start(config).await, Err(message.to_owned()));
        let config = ServeConfig {
            write_timeout: Duration::ZERO,
            ..ServeConfig::default()
        };
        let message = "write_timeout is zero, it must be longer";
        assert_eq!(start(config).await, Err(message.to_owned()));
        assert_eq!(start(ServeConfig::default()).await, Ok(()));
    }
}
