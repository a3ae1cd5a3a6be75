//! Frames to bytes: everything queued, in as few writes as it takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::frame::{Frame, FrameQueue};
use crate::metrics::Metrics;
use crate::socket::Session;

/// The frames being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    frames: FrameQueue,
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
            self.frames = session.take_frames();
            if self.frames.is_empty() {
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
        let n_bytes = match &*self.frames.slices() {
            [slice] => ready!(Pin::new(io).poll_write(context, slice))?,
            slices => ready!(Pin::new(io).poll_write_vectored(context, slices))?,
        };
        if n_bytes == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let finished = self.frames.advance(n_bytes);
        metrics.count_write(n_bytes, finished.n_frames);
        Poll::Ready(Ok(()))
    }

    /// Takes the last frames of a connection, with the close frame after them.
    pub(super) fn finish(&mut self, session: &mut Session, close: Frame) {
        self.frames.append(session.take_frames());
        self.frames.push(close);
    }

    /// Forgets all frames but the one that is begun, which the client waits for.
    pub(super) fn discard(&mut self) {
        self.frames.discard();
    }
}
