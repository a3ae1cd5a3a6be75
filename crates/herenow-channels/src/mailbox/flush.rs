//! Writing to many idle connections at once, past their tasks.
//!
//! Waking a task for each frame of a broadcast costs more than its write: the task polls what it
//! reads, its channels and its timer before it comes to writing, and the next write is that far
//! away. So a frame for an idle connection on a bare TCP stream only marks its mailbox, the marked
//! mailboxes of one dispatch make a [`FlushBatch`], and a task of their own writes them out in one
//! tight loop, each in one call. It runs once the broadcasting task gives way, so that what one
//! turn of it broadcasts leaves each connection in one write, as it would have from the
//! connection's own task.
//!
//! A connection on any other stream, TLS say, can only write in its own task. It is marked all the
//! same, and woken in its turn: a broadcast to 100,000 would otherwise put as many tasks in front of
//! whoever joins just then.
//!
//! A mailbox is flushed under its lock and only if its task has taken no frames that it has not
//! written yet, so there is one writer at a time and frames keep their order. What is out of the
//! ordinary (a full send buffer, a stream that fails, diffs kept aside) goes to the task.

use std::io;
use std::sync::Arc;
use std::vec::IntoIter;

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::yield_now;

use super::{Inner, Mailbox};
use crate::frame::FrameQueue;
use crate::metrics::Metrics;

/// Mailboxes that one task flushes; other threads may take the next batch.
const MAX_BATCH: usize = 4_096;
/// Mailboxes that are written out before other tasks get their turn, and what clients have sent
/// meanwhile is read: its broadcasts reach those that are not flushed yet in the same write.
const MAX_TURN: usize = 32;
/// As how many writes a task counts that is woken: in its own turn it does more than write.
const WAKE: usize = 8;

/// The mailboxes that one dispatch marked. Dropped at its end, it has them flushed.
#[derive(Debug, Default)]
pub(crate) struct FlushBatch(Vec<Arc<Mailbox>>);

impl FlushBatch {
    pub(crate) fn add(&mut self, mailbox: Arc<Mailbox>) {
        self.0.push(mailbox);
        if self.0.len() == MAX_BATCH {
            Marked(std::mem::take(&mut self.0).into_iter()).spawn();
        }
    }
}

impl Drop for FlushBatch {
    fn drop(&mut self) {
        let marked = std::mem::take(&mut self.0);
        if !marked.is_empty() {
            Marked(marked.into_iter()).spawn();
        }
    }
}

/// Mailboxes to flush. Those that it does not come to are left to their tasks.
struct Marked(IntoIter<Arc<Mailbox>>);

impl Marked {
    fn spawn(mut self) {
        // Outside a runtime, the drop wakes the tasks.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                while !self.flush_some() {
                    yield_now().await;
                }
            });
        }
    }

    /// Flushes what fits into one turn; true if it was the last.
    fn flush_some(&mut self) -> bool {
        let mut left = MAX_TURN;
        while left > 0
            && let Some(mailbox) = self.0.next()
        {
            let cost = if mailbox.flush() { 1 } else { WAKE };
            left = left.saturating_sub(cost);
        }
        self.0.as_slice().is_empty()
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        for mailbox in self.0.by_ref() {
            mailbox.wake_to_flush();
        }
    }
}

impl Mailbox {
    /// Lets the mailbox be flushed past its connection's task, until it is shut.
    pub(crate) fn set_stream(&self, stream: Arc<TcpStream>) {
        self.inner.lock().stream = Some(stream);
    }

    /// Writes what is queued, or leaves it to the connection's task if the stream does not take all of
    /// it at once; false if it had to wake that.
    fn flush(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.is_marked = false;
        if inner.is_writing || inner.is_closed || inner.frames.is_empty() {
            return true; // Its task is at it, or was here before.
        }
        let is_written = inner.cold.is_none() && inner.write(&self.metrics).is_ok();
        if !is_written {
            Self::wake(inner);
        }
        is_written
    }

    fn wake_to_flush(&self) {
        let mut inner = self.inner.lock();
        inner.is_marked = false;
        Self::wake(inner);
    }
}

impl Inner {
    /// Tells whether a frame that was just queued needs no wake: its task sees it before it waits
    /// again, or it will be flushed. Marks the mailbox for that; `Some(true)` if it was not before.
    pub(super) fn mark(&mut self) -> Option<bool> {
        if self.cold.is_some() {
            return None;
        }
        if self.is_writing || self.waker.is_none() {
            return Some(false);
        }
        Some(!std::mem::replace(&mut self.is_marked, true))
    }

    fn write(&mut self, metrics: &Metrics) -> io::Result<()> {
        let Some(stream) = &self.stream else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        while !self.frames.is_empty() {
            let n_bytes = write_once(stream, &self.frames)?;
            let finished = self.frames.advance(n_bytes);
            self.n_bytes -= finished.n_bytes;
            self.n_frames -= finished.n_frames;
            metrics.count_write(n_bytes, finished.n_frames);
        }
        Ok(())
    }
}

fn write_once(stream: &TcpStream, frames: &FrameQueue) -> io::Result<usize> {
    let n_bytes = match &*frames.slices() {
        [slice] => stream.try_write(slice)?,
        slices => stream.try_write_vectored(slices)?,
    };
    if n_bytes == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(n_bytes)
}
