//! Frames to bytes: everything queued, in as few writes as it takes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use crate::frame::{Frame, Slices};
use crate::metrics::Metrics;
use crate::socket::Session;

/// Buffers in one vectored write.
const MAX_SLICES: usize = 64;

/// The frames being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written already.
    n_written: usize,
}

impl Writer {
    /// Writes all that is queued, and flushes.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
        session: &mut Session,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.frames.is_empty() {
                ready!(self.poll_write_once(context, io, &session.shared().metrics))?;
            }
            session.take_frames(&mut self.frames);
            if self.frames.is_empty() {
                self.frames = VecDeque::new();
                return Pin::new(io).poll_flush(context);
            }
        }
    }

    fn poll_write_once(
        &mut self,
        context: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
        metrics: &Metrics,
    ) -> Poll<io::Result<()>> {
        let mut slices: Slices<'_, MAX_SLICES> = SmallVec::new();
        let mut skip = self.n_written;
        for frame in &self.frames {
            if slices.len() + Frame::MAX_SLICES > MAX_SLICES {
                break;
            }
            frame.push_slices(skip, &mut slices);
            skip = 0;
        }
        let n_bytes = match &*slices {
            [slice] => ready!(Pin::new(io).poll_write(context, slice))?,
            slices => ready!(Pin::new(io).poll_write_vectored(context, slices))?,
        };
        if n_bytes == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        drop(slices);
        metrics.writes.increment();
        metrics.bytes_out.add(n_bytes as u64);
        metrics.frames_out.add(self.advance(n_bytes));
        Poll::Ready(Ok(()))
    }

    /// Drops what is written; returns how many frames that finished.
    fn advance(&mut self, n_bytes: usize) -> u64 {
        let mut n_frames = 0;
        self.n_written += n_bytes;
        while let Some(frame) = self.frames.front()
            && self.n_written >= frame.n_bytes()
        {
            self.n_written -= frame.n_bytes();
            self.frames.pop_front();
            n_frames += 1;
        }
        n_frames
    }

    /// Takes the last frames of a connection, with the close frame after them.
    pub(super) fn finish(&mut self, session: &mut Session, close: Frame) {
        let mut rest = VecDeque::new();
        session.take_frames(&mut rest);
        self.frames.append(&mut rest);
        self.frames.push_back(close);
    }

    /// Forgets all frames but the one that is begun, which the client waits for.
    pub(super) fn discard(&mut self) {
        self.frames.truncate(usize::from(self.n_written > 0));
    }
}
