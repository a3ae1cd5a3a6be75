//! Streams in memory, and the backlog of those that wait to be accepted.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use herenow_channels::Listener;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both directions of a connection. What is written to the client is kept until it is taken.
#[derive(Default)]
pub(super) struct Wire(Mutex<Bytes>);

#[derive(Default)]
struct Bytes {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// Of the server's task.
    waker: Option<Waker>,
}

impl Wire {
    /// Hands bytes to the server, which has read all that came before them.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        let mut wire = self.0.lock();
        wire.to_server = bytes;
        if let Some(waker) = wire.waker.take() {
            waker.wake();
        }
    }

    /// Takes all that has come.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().to_client)
    }
}

/// The server's end.
pub(super) struct End(pub(super) Arc<Wire>);

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.0.0.lock();
        if wire.to_server.is_empty() {
            wire.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let n_bytes = wire.to_server.len().min(buffer.remaining());
        buffer.put_slice(&wire.to_server[..n_bytes]);
        wire.to_server.drain(..n_bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.0.lock().to_client.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Connections that wait to be accepted, each from an address of its own.
#[derive(Clone, Default)]
pub(super) struct Backlog(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    ends: VecDeque<End>,
    n_accepted: u32,
    waker: Option<Waker>,
}

impl Backlog {
    /// Has these connect, all at once.
    pub(super) fn connect(&self, ends: impl Iterator<Item = End>) {
        let mut waiting = self.0.lock();
        waiting.ends.extend(ends);
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }
}

impl Listener for Backlog {
    type Stream = End;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(End, SocketAddr)>> {
        let mut waiting = self.0.lock();
        let Some(end) = waiting.ends.pop_front() else {
            waiting.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        waiting.n_accepted += 1;
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + waiting.n_accepted);
        Poll::Ready(Ok((end, (address, 1_024).into())))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::new(10, 0, 0, 0), 80).into())
    }
}
