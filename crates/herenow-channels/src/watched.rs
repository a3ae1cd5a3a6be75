//! [`Watched`]: a stream, and [`Stall`], which ends when the other end reads nothing for too long.
//!
//! A write that can be made costs a few stores, and no timer is set for it; one is only while a
//! write waits. Both are polled by one task, the stream first. Whoever takes the stream over for
//! something else, a WebSocket say, has rules of its own for a slow reader.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How far the writing to a stream has come.
#[derive(Debug, Default)]
struct Progress {
    /// Whether the last write waits.
    is_waiting: AtomicBool,
    /// Writes that took something.
    n_writes: AtomicU64,
}

/// A stream whose writing is watched.
#[derive(Debug)]
pub(crate) struct Watched<Io> {
    io: Io,
    progress: Arc<Progress>,
}

/// Waits until a write to a [`Watched`] has waited for as long as it may.
#[derive(Debug)]
pub(crate) struct Stall {
    progress: Arc<Progress>,
    timeout: Duration,
    /// While a write waits: how many there were before, and how long this one still may.
    waiting: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<Io> Watched<Io> {
    pub(crate) fn new(io: Io, timeout: Duration) -> (Self, Stall) {
        let progress = Arc::<Progress>::default();
        let stall = Stall {
            progress: Arc::clone(&progress),
            timeout,
            waiting: None,
        };
        (Self { io, progress }, stall)
    }

    pub(crate) fn into_inner(self) -> Io {
        self.io
    }
}

impl Progress {
    /// Takes note of how a write went, or a flush, which comes when all is written.
    fn note<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let is_waiting = polled.is_pending();
        self.is_waiting.store(is_waiting, Ordering::Relaxed);
        if !is_waiting {
            let n_writes = self.n_writes.load(Ordering::Relaxed);
            self.n_writes
                .store(n_writes.wrapping_add(1), Ordering::Relaxed);
        }
        polled
    }
}

impl Stall {
    /// Ready when a write has waited for so long that the other end is given up.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.progress.is_waiting.load(Ordering::Relaxed) {
            self.waiting = None;
            return Poll::Pending;
        }
        let n_writes = self.progress.n_writes.load(Ordering::Relaxed);
        let timeout = self.timeout;
        let (since, timer) = self
            .waiting
            .get_or_insert_with(|| (n_writes, Box::pin(sleep(timeout))));
        if *since != n_writes {
            *since = n_writes;
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(context)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.progress.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.progress.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(context);
        self.progress.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(context);
        self.progress.note(polled)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{advance, timeout};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn srv_1768_only_a_write_that_waits_is_timed_and_each_byte_taken_gives_it_all_its_time() {
        let (near, mut far) = duplex(10);
        let (mut near, mut stall) = Watched::new(near, TIMEOUT);
        near.write_all(b"0123456789").await.unwrap();
        near.flush().await.unwrap();
        let mut is_over = async |time: Duration| {
            let over = poll_fn(|context| stall.poll(context));
            timeout(time, over).await.is_ok()
        };
        assert!(!is_over(TIMEOUT * 100).await, "nothing waits");
        let mut begin = async |bytes: &[u8]| {
            poll_fn(|context| Poll::Ready(Pin::new(&mut near).poll_write(context, bytes))).await
        };
        assert!(begin(b"more").await.is_pending());
        assert!(!is_over(TIMEOUT - Duration::from_secs(1)).await);
        // One byte is read, so that one can be written, and the next has all the time.
        far.read_u8().await.unwrap();
        assert!(begin(b"more").await.is_ready());
        assert!(begin(b"ore").await.is_pending());
        assert!(!is_over(TIMEOUT - Duration::from_secs(1)).await);
        assert!(is_over(Duration::from_secs(2)).await);
        // What was read meanwhile is enough.
        let mut rest = [0; 10];
        far.read_exact(&mut rest).await.unwrap();
        assert!(begin(b"ore").await.is_ready());
        advance(TIMEOUT).await;
        assert!(!is_over(TIMEOUT).await);
    }
}
