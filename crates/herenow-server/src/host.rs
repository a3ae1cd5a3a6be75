//! The service manager that runs the program, systemd say: the socket it may hand in, and what it
//! is told. Without one, nothing is handed in and telling does nothing.
//!
//! A socket that the manager holds stays open while the program is restarted, so that whoever
//! connects meanwhile waits and is not refused. `READY=1` is said when `/readyz` turns true:
//! whoever waits for the start has a node that takes part in its cluster.

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;

use crate::health::Ready;
use crate::signals::Hangups;
use crate::tls::Tls;

/// Why a socket of the service manager is not listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// More than the one that can be used.
    #[error("the service manager handed in {n_sockets} sockets (LISTEN_FDS), one can be used")]
    TooMany {
        /// How many there are.
        n_sockets: usize,
    },
    /// It is no listening TCP socket.
    #[error("the service manager's socket (LISTEN_FDS) is not usable: {0}")]
    NotUsable(#[from] io::Error),
}

/// Returns the socket that the service manager listens on for this program, if it does.
///
/// `configured` is where the program would listen without it; the log says if that is elsewhere.
/// Call it once, before anything else opens files; and inside a runtime.
///
/// # Errors
///
/// [`HostError`] if there is more than one, or it is no TCP socket.
pub fn listener(configured: SocketAddr) -> Result<Option<TcpListener>, HostError> {
    let mut handed = ListenFd::from_env();
    match handed.len() {
        0 => return Ok(None),
        1 => {}
        n_sockets => return Err(HostError::TooMany { n_sockets }),
    }
    let Some(listener) = handed.take_tcp_listener(0)? else {
        return Ok(None);
    };
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    if address == configured {
        tracing::info!(%address, "listening on the service manager's socket");
    } else {
        tracing::warn!(
            %address,
            listen = %configured,
            "listening on the service manager's socket, and not where `listen` says"
        );
    }
    Ok(Some(listener))
}

/// Says that the start, or a reload, is done.
pub(crate) fn tell_ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the program has begun to stop.
pub(crate) fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Reads again what can be read again while the server runs: when it changes, and at each SIGHUP.
/// Never ends.
pub(crate) async fn renew(tls: Option<&Tls>, ready: &Ready, mut hangups: Hangups) {
    let changed = async {
        match tls {
            Some(tls) => tls.keep_current().await,
            None => std::future::pending().await,
        }
    };
    let asked = async {
        loop {
            hangups.next().await;
            match NotifyState::monotonic_usec_now() {
                Ok(now) => tell(&[NotifyState::Reloading, now]),
                Err(error) => tracing::warn!(%error, "no monotonic time for the service manager"),
            }
            match tls {
                Some(tls) => tls.reload().await,
                None => tracing::info!("SIGHUP, and nothing that it reloads: there is no TLS"),
            }
            if ready.is_ready() {
                tell_ready();
            }
        }
    };
    tokio::join!(changed, asked);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
