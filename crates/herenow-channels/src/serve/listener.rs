//! [`Listener`]: where connections come from.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, TcpStream};

/// Where a server's connections come from: a TCP listener, or one of an application's own making.
pub trait Listener: Send + Sync {
    /// A connection as it is accepted.
    type Stream: Send + 'static;

    /// Accepts the next connection, with the address of its peer.
    ///
    /// # Errors
    ///
    /// Whatever went wrong; the next call may succeed.
    fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Stream, SocketAddr)>>;

    /// Returns the address that peers connect to.
    ///
    /// # Errors
    ///
    /// If the listener is not usable.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Accepts connections without Nagle's algorithm.
impl Listener for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, peer) = ready!(Self::poll_accept(self, context))?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        Poll::Ready(Ok((stream, peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}
