//! [`Listener`]: where connections come from, and [`listen`].

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait to be accepted; the system allows fewer, 4,096 on Linux unless told
/// otherwise (`net.core.somaxconn`).
const BACKLOG: u32 = 1 << 16;

/// Listens on an address with room for many who come at once.
///
/// [`TcpListener::bind`] has room for 128: of those who come back together after a restart the rest
/// would be dropped, and try again after a second or more.
///
/// # Errors
///
/// What the system says: the address is in use, or not of this machine.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    #[cfg(unix)] // So that a restart can bind at once; on Windows it would share the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

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
