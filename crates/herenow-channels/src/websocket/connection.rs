//! The task of one WebSocket.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use herenow_protocol::CloseCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::codec::{self, Codec, Incoming};
use super::writer::Writer;
use crate::auth::Transport;
use crate::frame::Frame;
use crate::reason::CloseOrder;
use crate::socket::Session;

/// Size of the buffer that all connections of a thread read into.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Rounds of reading, running and writing before other tasks get their turn.
const MAX_ROUNDS: usize = 8;
/// Frames of the client before other tasks get their turn. Each may be a broadcast: handling more
/// of them at once would fill the queues of connections that had no chance to write.
const MAX_FRAMES: usize = 128;

thread_local! {
    /// Taken out while in use, because callbacks run while it is.
    static READ_BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// One WebSocket, a future that ends when the connection and all its channels have.
pub(crate) struct Connection<Io> {
    io: Io,
    codec: Codec,
    session: Session,
    writer: Writer,
    /// Bytes that were read while the channels could take no more, or it was others' turn.
    stalled: Option<Vec<u8>>,
    /// Frames that may still be handled in this turn.
    n_frames_left: usize,
    /// Idle time-out, or that of a message if it comes first; then close time-out. Otherwise rewound
    /// only when it fires.
    timer: Pin<Box<Sleep>>,
    last_read: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The close frame is being written.
    Closing(Awaited),
    /// The close frame is written.
    Lingering(Awaited),
    /// The stream is done with; channels may still terminate.
    Gone,
}

/// What the client is to do once the close frame is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Nothing,
    /// Answer the close frame, or hang up.
    Answer,
    /// Hang up: what it sends cannot be told apart into frames any more.
    HangUp,
}

/// What ends an open connection.
enum End {
    Order(CloseOrder),
    /// What the client sent is no frame, or none that is read.
    Unreadable(CloseOrder),
    /// The client's close frame, with its code.
    Peer(Option<CloseCode>),
    Lost,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<Io> {
    /// Begins with bytes that the HTTP connection has read already.
    pub(crate) fn new(io: Io, read: &Bytes, session: Session) -> Self {
        let config = session.shared().config.clone();
        Self {
            io,
            codec: Codec::new(&config),
            session,
            writer: Writer::default(),
            stalled: (!read.is_empty()).then(|| read.to_vec()),
            n_frames_left: MAX_FRAMES,
            timer: Box::pin(sleep(config.idle_timeout)),
            last_read: Instant::now(),
            phase: Phase::Open,
        }
    }

    /// Reads, runs and writes until nothing more can be done now.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.session.mailbox().unpark();
        self.n_frames_left = MAX_FRAMES;
        for _ in 0..MAX_ROUNDS {
            let was_ready = self.session.is_ready();
            let has_read = match self.read(context) {
                Ok(has_read) => has_read,
                Err(end) => return Poll::Ready(end),
            };
            if let Poll::Ready(order) = self.session.poll(context) {
                return Poll::Ready(End::Order(order));
            }
            let written = self
                .writer
                .poll_write(context, &mut self.io, &mut self.session);
            if let Poll::Ready(Err(_)) = written {
                return Poll::Ready(End::Lost);
            }
            if let Poll::Ready(order) = self.poll_idle(context) {
                return Poll::Ready(End::Order(order));
            }
            // Channels that were too busy to be read for may have caught up in this very round, and
            // nothing else would wake the task for what the client has sent meanwhile.
            let may_read = has_read || (!was_ready && self.session.is_ready());
            if !may_read && self.session.mailbox().park(context, written.is_ready()) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and handles what came; true if there may be more to read at once.
    fn read(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if !self.session.is_ready() {
            self.codec.begin_again();
            return Ok(false);
        }
        if self.n_frames_left == 0 {
            return Ok(true);
        }
        if let Some(stalled) = self.stalled.take() {
            self.handle_bytes(context, &stalled, Instant::now())?;
            return Ok(true);
        }
        let buffer = READ_BUFFER.take();
        let mut buffer = buffer.unwrap_or_else(|| vec![0; READ_BUFFER_BYTES].into_boxed_slice());
        let read = self.read_into(context, &mut buffer);
        READ_BUFFER.set(Some(buffer));
        read
    }

    fn read_into(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Result<bool, End> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                self.last_read = Instant::now();
                self.handle_bytes(context, buffer.filled(), self.last_read)?;
                Ok(true)
            }
            Poll::Ready(Ok(()) | Err(_)) => Err(End::Lost),
        }
    }

    fn handle_bytes(
        &mut self,
        context: &mut Context<'_>,
        mut bytes: &[u8],
        now: Instant,
    ) -> Result<(), End> {
        loop {
            if !self.session.is_ready() || self.n_frames_left == 0 {
                self.stalled = Some(bytes.to_vec());
                return Ok(());
            }
            let incoming = self.codec.next(&mut bytes, now).map_err(|order| {
                self.session.shared().metrics.client_errors.increment();
                codec::count(&order, &self.session.shared().metrics);
                tracing::debug!(
                    code = order.code.0,
                    text = order.close_text(),
                    "client error"
                );
                End::Unreadable(order)
            })?;
            self.n_frames_left -= 1;
            match incoming {
                Some(Incoming::Message(message)) => self.session.handle_frame(context, &message),
                // Closed: the connection is about to be closed for its slow reader.
                Some(Incoming::Ping(payload)) => {
                    drop(self.session.mailbox().push(Frame::pong(&payload)));
                }
                Some(Incoming::Pong) => {}
                Some(Incoming::Close(code)) => return Err(End::Peer(code)),
                None => return Ok(()),
            }
            if let Some(order) = self.session.take_close() {
                return Err(End::Order(order));
            }
        }
    }

    /// When a message that is not whole must be.
    fn message_due(&self) -> Option<Instant> {
        let since = self.codec.unfinished_since()?;
        Some(since + self.session.shared().config.message_timeout)
    }

    fn give_up_message(&self) -> CloseOrder {
        let shared = self.session.shared();
        shared.metrics.client_errors.increment();
        shared.metrics.late_messages.increment();
        let order = CloseOrder::unfinished(shared.config.message_timeout);
        if let Some(n_left_out) = shared.log_limits.messages.may_log() {
            let text = order.close_text();
            tracing::warn!(
                text,
                n_left_out,
                "connection with an unfinished message closed"
            );
        }
        order
    }

    /// Ready when the client has been silent for too long, or not been read for twice as long, or
    /// has not come to the end of a message in time.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<CloseOrder> {
        let message_due = self.message_due();
        if let Some(due) = message_due.filter(|due| *due < self.timer.deadline()) {
            self.timer.as_mut().reset(due);
        }
        ready!(self.timer.as_mut().poll(context));
        let (timeout, now) = (self.session.shared().config.idle_timeout, Instant::now());
        if message_due.is_some_and(|due| due <= now) {
            return Poll::Ready(self.give_up_message());
        }
        let silent = now.duration_since(self.last_read);
        // A client that is not read because its channels are busy is not silent.
        let is_ready = self.session.is_ready();
        let metrics = &self.session.shared().metrics;
        if silent >= timeout && is_ready {
            metrics.idle_timeouts.increment();
            return Poll::Ready(CloseOrder::idle());
        }
        if silent >= timeout * 2 {
            metrics.stuck_channels.increment();
            return Poll::Ready(CloseOrder::stuck());
        }
        let again = (self.last_read + timeout).max(now + timeout / 8);
        let again = message_due.map_or(again, |due| due.min(again));
        self.timer.as_mut().reset(again);
        // For the wake; due at once only if the clock jumped.
        self.timer
            .as_mut()
            .poll(context)
            .map(|()| CloseOrder::idle())
    }

    /// Ends the channels and has the close frame written after what is queued.
    fn begin_close(&mut self, context: &mut Context<'_>, end: End) {
        let (order, phase) = match end {
            End::Order(order) => (order, Phase::Closing(Awaited::Answer)),
            End::Unreadable(order) => (order, Phase::Closing(Awaited::HangUp)),
            End::Peer(code) => {
                let order = CloseOrder::closed(CloseCode::answer_to(code));
                (order, Phase::Closing(Awaited::Nothing))
            }
            End::Lost => (CloseOrder::closed(CloseCode::NORMAL), Phase::Gone),
        };
        let socket = self.session.mailbox().id().map(|id| &**id);
        order.log(Transport::WebSocket.as_str(), socket);
        if order.code == CloseCode::POLICY_VIOLATION {
            // It would not read them, so the close frame must not wait behind them.
            self.writer.discard();
        }
        self.session.end(context, &order.reason);
        let close = Frame::close(order.code, order.close_text());
        self.writer.finish(&mut self.session, close);
        self.phase = phase;
        let config = &self.session.shared().config;
        let timeout = config.close_timeout.max(config.terminate_timeout);
        self.timer.as_mut().reset(Instant::now() + timeout);
    }

    /// Writes the close frame, waits for the client's and for the channels to terminate.
    fn poll_closing(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let has_ended = self.session.poll_end(context).is_ready();
        let is_closed = self.poll_close(context).map(|_| ()).is_ready();
        if is_closed {
            self.phase = Phase::Gone;
        }
        if (has_ended && is_closed) || self.timer.as_mut().poll(context).is_ready() {
            self.session.abort();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Phase::Closing(awaited) = self.phase {
            ready!(
                self.writer
                    .poll_write(context, &mut self.io, &mut self.session)
            )?;
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            self.phase = Phase::Lingering(awaited);
        }
        match self.phase {
            Phase::Lingering(Awaited::Answer | Awaited::HangUp) => self.poll_linger(context),
            Phase::Open | Phase::Closing(_) | Phase::Lingering(Awaited::Nothing) | Phase::Gone => {
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Reads on until the client's close frame, if it can be told, or until it hangs up.
    ///
    /// Closing with bytes unread would reset the connection and lose the close frame.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(stalled) = self.stalled.take()
            && self.has_close_frame(&stalled)
        {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() || self.has_close_frame(buffer.filled()) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes in bytes that come too late for the channels; true once the close frame is among them.
    fn has_close_frame(&mut self, mut bytes: &[u8]) -> bool {
        while self.phase == Phase::Lingering(Awaited::Answer) {
            match self.codec.next(&mut bytes, self.last_read) {
                Ok(Some(Incoming::Close(_))) => return true,
                Ok(Some(Incoming::Message(_) | Incoming::Ping(_) | Incoming::Pong)) => {}
                Ok(None) => return false,
                Err(_) => self.phase = Phase::Lingering(Awaited::HangUp),
            }
        }
        false
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Future for Connection<Io> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let connection = &mut *self;
        if connection.phase == Phase::Open {
            let end = ready!(connection.poll_open(context));
            connection.begin_close(context, end);
        }
        connection.poll_closing(context)
    }
}

impl<Io> fmt::Debug for Connection<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", &self.session)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::SharedStream;
    use super::*;

    /// Bytes that a WebSocket may take besides its session, the codec and the timer.
    const CONNECTION_BUDGET: usize = 176;

    #[test]
    fn soc_09_an_idle_websocket_stays_in_its_budget() {
        let connection = size_of::<Connection<SharedStream>>() - size_of::<Session>();
        assert!(connection <= CONNECTION_BUDGET, "{connection}");
    }
}
