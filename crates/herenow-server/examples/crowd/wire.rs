//! A stream in memory that costs next to nothing while it is idle, and a backlog of such streams.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use herenow_channels::Listener;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that the server can have written and the client not read, as in a socket's buffers.
const MAX_UNREAD: usize = 64 << 10;

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    /// Of the server's task.
    waker: Option<Waker>,
    is_closed: bool,
}

impl Pipe {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Both directions.
#[derive(Default)]
pub(crate) struct Wire {
    to_server: Mutex<Pipe>,
    to_client: Mutex<Pipe>,
}

/// What the client does.
impl Wire {
    pub(crate) fn send(&self, parts: &[&[u8]]) {
        let mut pipe = self.to_server.lock();
        for part in parts {
            pipe.bytes.extend_from_slice(part);
        }
        pipe.wake();
    }

    /// Takes all that has come.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut pipe = self.to_client.lock();
        let bytes = std::mem::take(&mut pipe.bytes);
        if !bytes.is_empty() {
            pipe.wake();
        }
        bytes
    }

    pub(crate) fn hang_up(&self) {
        let mut pipe = self.to_server.lock();
        pipe.is_closed = true;
        pipe.wake();
    }

    /// Tells whether the server has hung up.
    pub(crate) fn is_closed(&self) -> bool {
        self.to_client.lock().is_closed
    }
}

/// The server's end.
pub(crate) struct End(Arc<Wire>);

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.0.to_server.lock();
        if pipe.bytes.is_empty() && !pipe.is_closed {
            pipe.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let n_bytes = pipe.bytes.len().min(buffer.remaining());
        buffer.put_slice(&pipe.bytes[..n_bytes]);
        pipe.bytes.drain(..n_bytes);
        if pipe.bytes.is_empty() {
            pipe.bytes = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.to_client.lock();
        let before = pipe.bytes.len();
        for slice in slices {
            let n_bytes = slice.len().min(MAX_UNREAD.saturating_sub(pipe.bytes.len()));
            pipe.bytes.extend_from_slice(&slice[..n_bytes]);
        }
        let n_bytes = pipe.bytes.len() - before;
        if n_bytes == 0 {
            pipe.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(n_bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.to_client.lock().is_closed = true;
    }
}

/// Connections that wait to be accepted. Not bounded: who comes is there at once.
#[derive(Clone, Default)]
pub(crate) struct Backlog(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    ends: VecDeque<(End, SocketAddr)>,
    n_so_far: u32,
    waker: Option<Waker>,
}

impl Backlog {
    /// Connects, from an address that nobody else has.
    pub(crate) fn connect(&self) -> Arc<Wire> {
        let wire = Arc::new(Wire::default());
        let mut waiting = self.0.lock();
        waiting.n_so_far += 1;
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + waiting.n_so_far);
        let end = End(wire.clone());
        waiting.ends.push_back((end, (address, 1_024).into()));
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
        wire
    }
}

impl Listener for Backlog {
    type Stream = End;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(End, SocketAddr)>> {
        let mut waiting = self.0.lock();
        if let Some(accepted) = waiting.ends.pop_front() {
            return Poll::Ready(Ok(accepted));
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::new(10, 0, 0, 0), 80).into())
    }
}
