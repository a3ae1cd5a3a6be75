//! Writing to many idle connections at once, past their tasks.
//!
//! Waking a task for each frame of a broadcast costs more than its write: the task polls what it
//! reads, its channels and its timer before it comes to writing, and the next write is that far
//! away. So a frame for an idle connection on a bare TCP stream only marks its mailbox, the marked
//! mailboxes of one dispatch make a [`FlushBatch`], and a task of the [`FlushQueue`]'s writes them
//! out in one tight loop, each in one call. It runs once the broadcasting task gives way, so that
//! what one turn of it broadcasts leaves each connection in one write, as it would have from the
//! connection's own task.
//!
//! A connection on any other stream, TLS say, can only write in its own task. It is marked all the
//! same, and woken in its turn: a broadcast to 100,000 would otherwise put as many tasks in front
//! of whoever joins just then.
//!
//! A mailbox is flushed under its lock and only if its task has taken no frames that it has not
//! written yet, so there is one writer at a time and frames keep their order. What is out of the
//! ordinary (a full send buffer, a stream that fails, diffs kept aside) goes to the task.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::vec::IntoIter;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::yield_now;

use super::{Inner, Mailbox};
use crate::frame::FrameQueue;
use crate::metrics::Metrics;

/// Mailboxes of one dispatch that are flushed one after the other; another thread may take the
/// next.
const MAX_BATCH: usize = 4_096;
/// Mailboxes that are written out before other tasks get their turn, and what clients have sent
/// meanwhile is read: its broadcasts reach those that are not flushed yet in the same write.
const MAX_TURN: usize = 32;
/// As how many writes a task counts that is woken: in its own turn it does more than write.
const WAKE: usize = 8;

/// The batches of one mount that wait to be flushed.
///
/// They take turns, so that a small one does not wait for a large one to end. However many there
/// are, no more tasks flush them than the runtime has threads, one turn each before all others get
/// theirs: who is behind with telling stays behind, and not everybody else with it.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<IntoIter<Arc<Mailbox>>>,
    n_tasks: usize,
}

impl FlushQueue {
    fn push(self: &Arc<Self>, batch: Vec<Arc<Mailbox>>) {
        let runtime = Handle::try_current();
        let mut waiting = self.0.lock();
        waiting.batches.push_back(batch.into_iter());
        match runtime {
            Ok(runtime) if waiting.n_tasks < runtime.metrics().num_workers() => {
                waiting.n_tasks += 1;
                drop(waiting);
                let task = FlushTask(Arc::clone(self));
                runtime.spawn(task.run());
            }
            Err(_) if waiting.n_tasks == 0 => {
                drop(waiting);
                self.leave_to_tasks();
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Has the mailboxes' own tasks write out all that waits.
    fn leave_to_tasks(&self) {
        let batches = std::mem::take(&mut self.0.lock().batches);
        for mailbox in batches.into_iter().flatten() {
            mailbox.wake_to_flush();
        }
    }
}

/// One task that flushes what waits, until nothing does. Dropped before, it leaves all to the
/// mailboxes' own tasks.
struct FlushTask(Arc<FlushQueue>);

impl FlushTask {
    async fn run(self) {
        while self.flush_some() {
            yield_now().await;
        }
    }

    /// Flushes what fits into one turn; false if nothing waits, and the task is to end.
    fn flush_some(&self) -> bool {
        let mut left = MAX_TURN;
        while left > 0 {
            let Some(mut batch) = self.0.0.lock().batches.pop_front() else {
                break;
            };
            while left > 0
                && let Some(mailbox) = batch.next()
            {
                let cost = if mailbox.flush() { 1 } else { WAKE };
                left = left.saturating_sub(cost);
            }
            if batch.len() > 0 {
                self.0.0.lock().batches.push_back(batch);
            }
        }
        !self.0.0.lock().batches.is_empty()
    }
}

impl Drop for FlushTask {
    fn drop(&mut self) {
        let is_last = {
            let mut waiting = self.0.0.lock();
            waiting.n_tasks -= 1;
            waiting.n_tasks == 0
        };
        if is_last {
            self.0.leave_to_tasks();
        }
    }
}

/// The mailboxes that one dispatch marked. Dropped at its end, it has them flushed.
#[derive(Debug, Default)]
pub(crate) struct FlushBatch(Vec<Arc<Mailbox>>);

impl FlushBatch {
    pub(crate) fn add(&mut self, mailbox: Arc<Mailbox>) {
        self.0.push(mailbox);
        if self.0.len() == MAX_BATCH {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let marked = std::mem::take(&mut self.0);
        if let Some(mailbox) = marked.first() {
            let queue = Arc::clone(&mailbox.flushes);
            queue.push(marked);
        }
    }
}

impl Drop for FlushBatch {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl Mailbox {
    /// Lets the mailbox be flushed past its connection's task, until it is shut.
    pub(crate) fn set_stream(&self, stream: Arc<TcpStream>) {
        self.inner.lock().stream = Some(stream);
    }

    /// Writes what is queued, or leaves it to the connection's task if the stream does not take all
    /// of it at once; false if it had to wake that.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mailboxes(n: usize) -> Vec<Arc<Mailbox>> {
        let mailbox = |_| Mailbox::new(Arc::default(), Arc::default(), Arc::default(), None);
        (0..n).map(mailbox).collect()
    }

    fn lens(queue: &FlushQueue) -> Vec<usize> {
        queue.0.lock().batches.iter().map(IntoIter::len).collect()
    }

    #[tokio::test]
    async fn soc_723_batches_take_turns_so_that_a_small_one_does_not_wait_for_a_large_one() {
        let queue = Arc::new(FlushQueue::default());
        queue.push(mailboxes(100));
        queue.push(mailboxes(3));
        queue.push(mailboxes(40));
        assert_eq!(
            queue.0.lock().n_tasks,
            1,
            "no more than the runtime has threads"
        );
        let task = FlushTask(queue.clone());
        assert!(task.flush_some());
        assert_eq!(lens(&queue), [3, 40, 68]);
        assert!(task.flush_some());
        assert_eq!(lens(&queue), [68, 11]);
        while task.flush_some() {}
        assert!(lens(&queue).is_empty());
        queue.0.lock().n_tasks += 1; // The one that was made here.
        drop(task);
        assert_eq!(queue.0.lock().n_tasks, 1);
    }

    #[test]
    fn soc_724_what_nobody_flushes_is_left_to_the_tasks_of_the_connections() {
        let queue = Arc::new(FlushQueue::default());
        queue.push(mailboxes(3)); // Outside a runtime.
        assert!(lens(&queue).is_empty());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async { queue.push(mailboxes(3)) });
        assert_eq!(lens(&queue), [3]);
        drop(runtime);
        assert!(lens(&queue).is_empty());
        assert_eq!(queue.0.lock().n_tasks, 0);
    }
}
