//! The task of one long-poll session: the transport's part that outlives the requests.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use herenow_protocol::{
    BufferError, CloseCode, Encoded, LongPollSession, PollAnswer, PollId, PollStep,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{LongPoll, SessionId};
use crate::auth::Transport;
use crate::config::MAX_MESSAGE_BYTES;
use crate::frame::Frame;
use crate::reason::CloseOrder;
use crate::socket::Session;

/// Polls of one session that may wait beside one another. One more, and the oldest is answered.
const MAX_WAITING_POLLS: usize = 8;
/// Polls that wait to be looked at.
const POLL_QUEUE: usize = 8;
/// Frames that wait to be accepted. Each request sends one after the other.
const FRAME_QUEUE: usize = 1;

/// A frame of a client, and who waits for it to be accepted.
struct Incoming {
    frame: Encoded,
    accepted: oneshot::Sender<()>,
}

/// How requests reach a session. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    polls: mpsc::Sender<oneshot::Sender<PollAnswer>>,
    frames: mpsc::Sender<Incoming>,
}

impl Handle {
    /// Waits for messages, the end of the window, or that of the session.
    pub(super) async fn poll(&self) -> PollAnswer {
        let (answer, answered) = oneshot::channel();
        if self.polls.send(answer).await.is_err() {
            return PollAnswer::Gone;
        }
        answered.await.unwrap_or(PollAnswer::Gone)
    }

    /// Waits until the session has accepted a frame. `None` if it ends before.
    pub(super) async fn accept(&self, frame: Encoded) -> Option<()> {
        let (accepted, is_accepted) = oneshot::channel();
        self.frames.send(Incoming { frame, accepted }).await.ok()?;
        is_accepted.await.ok()
    }
}

/// Takes the session off the list of living ones when its task ends, however it ends.
struct Listed {
    longpoll: Arc<LongPoll>,
    id: SessionId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.longpoll.remove(self.id);
    }
}

/// One session. Owned by its task.
pub(super) struct SessionTask {
    session: Session,
    state: LongPollSession,
    waiting: Vec<Waiting>,
    polls: mpsc::Receiver<oneshot::Sender<PollAnswer>>,
    frames: mpsc::Receiver<Incoming>,
    /// Who handed over the frame that ended the session.
    unaccepted: Option<oneshot::Sender<()>>,
    started: Instant,
    listed: Listed,
}

/// A poll that waits for messages.
struct Waiting {
    poll: PollId,
    until: Duration,
    answer: oneshot::Sender<PollAnswer>,
}

/// What the session has come to.
enum Progress {
    Frames(Vec<Encoded>),
    /// Channels that were too busy for another frame can take one now.
    Ready,
    Over(CloseOrder),
}

impl SessionTask {
    pub(super) fn new(longpoll: Arc<LongPoll>, id: SessionId, session: Session) -> (Self, Handle) {
        let (polls_in, polls) = mpsc::channel(POLL_QUEUE);
        let (frames_in, frames) = mpsc::channel(FRAME_QUEUE);
        let task = Self {
            session,
            state: LongPollSession::new(longpoll.session_config(), Duration::ZERO),
            waiting: Vec::new(),
            polls,
            frames,
            unaccepted: None,
            started: Instant::now(),
            listed: Listed { longpoll, id },
        };
        (
            task,
            Handle {
                polls: polls_in,
                frames: frames_in,
            },
        )
    }

    /// Runs until the session is over; polls that wait then are told that it is gone, and requests
    /// with frames that it has not taken them.
    pub(super) async fn run(mut self) {
        let order = self.run_until_over().await;
        let Self {
            mut session,
            waiting,
            polls,
            frames,
            unaccepted,
            listed,
            ..
        } = self;
        // Before the channels terminate: from now on the session is gone for its client. Off the
        // list first, so that who is answered now and polls at once begins a new one.
        drop(listed);
        drop((waiting, polls, frames, unaccepted));
        let socket = session.mailbox().id().map(|id| &**id);
        order.log(Transport::LongPoll.as_str(), socket);
        poll_fn(|cx| {
            session.end(cx, &order.reason);
            Poll::Ready(())
        })
        .await;
        let config = session.shared().config.clone();
        let limit = config.close_timeout.max(config.terminate_timeout);
        let ended = tokio::time::timeout(limit, poll_fn(|cx| session.poll_end(cx)));
        if ended.await.is_err() {
            session.abort();
        }
    }

    async fn run_until_over(&mut self) -> CloseOrder {
        loop {
            let deadline = self.started + self.next_deadline();
            let can_write = !self.waiting.is_empty();
            let is_ready = self.session.is_ready();
            let progress = tokio::select! {
                progress = poll_fn(|cx| poll_progress(&mut self.session, cx, can_write, is_ready)) => Some(progress),
                Some(answer) = self.polls.recv() => {
                    self.on_poll(answer);
                    None
                }
                Some(incoming) = self.frames.recv(), if is_ready => self.on_incoming(incoming).await,
                () = tokio::time::sleep_until(deadline) => {
                    self.on_time();
                    None
                }
            };
            match progress {
                Some(Progress::Frames(frames)) => self.on_frames(frames),
                Some(Progress::Over(order)) => return order,
                Some(Progress::Ready) | None => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn next_deadline(&self) -> Duration {
        let windows = self.waiting.iter().map(|waiting| waiting.until);
        windows.fold(self.state.poll_timeout(), Duration::min)
    }

    /// Hands a frame over. What it does to the session shows at once; a malformed one is over.
    async fn on_incoming(&mut self, incoming: Incoming) -> Option<Progress> {
        let Incoming { frame, accepted } = incoming;
        let session = &mut self.session;
        let over = poll_fn(|cx| {
            if is_within_limit(session, &frame) {
                session.handle_frame(cx, &frame);
            }
            Poll::Ready(match session.poll(cx) {
                Poll::Ready(order) => Some(Progress::Over(order)),
                Poll::Pending => None,
            })
        })
        .await;
        if over.is_none() {
            // A request that went away does not wait for the answer.
            let _ = accepted.send(());
        } else {
            self.unaccepted = Some(accepted);
        }
        over
    }

    fn on_poll(&mut self, answer: oneshot::Sender<PollAnswer>) {
        let frames = take_encoded(&mut self.session);
        self.keep(frames);
        let now = self.now();
        match self.state.handle_poll(now) {
            PollStep::Answer(messages) => self.answer(answer, messages),
            PollStep::Wait { poll, until } => {
                self.waiting.retain(|waiting| !waiting.answer.is_closed());
                if self.waiting.len() == MAX_WAITING_POLLS {
                    self.end_window(0);
                }
                self.waiting.push(Waiting {
                    poll,
                    until,
                    answer,
                });
                tracing::trace!(n_waiting = self.waiting.len(), "poll waits");
            }
        }
    }

    fn on_frames(&mut self, frames: Vec<Encoded>) {
        self.keep(frames);
        // A poll whose client is gone must not take the messages with it.
        while let Some(at) = self
            .waiting
            .iter()
            .position(|waiting| waiting.answer.is_closed())
        {
            self.end_window(at);
        }
        let Some((poll, messages)) = self.state.poll_answer() else {
            return;
        };
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.poll == poll) {
            let answer = self.waiting.remove(at).answer;
            self.answer(answer, messages);
        }
    }

    /// Answers a poll with messages, or keeps them for the next if its client has just gone.
    fn answer(&mut self, answer: oneshot::Sender<PollAnswer>, messages: PollAnswer) {
        if let Err(PollAnswer::Messages(messages)) = answer.send(messages) {
            self.keep(messages.into_iter().map(Encoded::text).collect());
        }
    }

    fn keep(&mut self, frames: Vec<Encoded>) {
        for frame in frames {
            match self.state.handle_frame(frame) {
                Ok(()) => {}
                Err(error @ BufferError::Binary { .. }) => {
                    // One broadcast is lost on every session of its topic: a line for each would
                    // be a flood.
                    self.session.shared().metrics.binary_frames_lost.increment();
                    tracing::debug!(%error, "frame lost on long poll");
                }
                Err(error) => {
                    let order = CloseOrder::slow_reader(error.to_string());
                    self.session.mailbox().order_close(order);
                }
            }
        }
    }

    fn on_time(&mut self) {
        let now = self.now();
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.until <= now) {
            self.end_window(at);
        }
        if self.state.handle_timeout(now) {
            self.session.mailbox().order_close(CloseOrder::inactive());
        }
    }

    fn end_window(&mut self, at: usize) {
        let waiting = self.waiting.remove(at);
        // A client that is gone does not wait for the answer.
        let _ = waiting
            .answer
            .send(self.state.handle_window_end(waiting.poll));
    }
}

/// Tells whether a frame is no larger than messages may be; orders the session to close if it is.
fn is_within_limit(session: &Session, frame: &Encoded) -> bool {
    let shared = session.shared();
    let Some(text) = too_large(frame, shared.config.max_message_bytes) else {
        return true;
    };
    shared.metrics.client_errors.increment();
    shared.metrics.over_message_bytes.increment();
    let order = CloseOrder::client_error(CloseCode::TOO_BIG, text);
    let (code, text) = (order.code.0, order.close_text());
    tracing::debug!(code, text, "client error");
    session.mailbox().order_close(order);
    false
}

/// What is said of a frame that is larger than messages may be; `None` if it is not.
pub(super) fn too_large(frame: &Encoded, max: usize) -> Option<String> {
    let len = frame.bytes.len();
    let text = || format!("the message is {len} bytes, the limit is {max} ({MAX_MESSAGE_BYTES})");
    (len > max).then(text)
}

/// Runs the channels until there are frames, if someone waits for them, or the session is over, or
/// it can take frames again that it could not when the caller looked.
fn poll_progress(
    session: &mut Session,
    context: &mut Context<'_>,
    can_write: bool,
    was_ready: bool,
) -> Poll<Progress> {
    session.mailbox().unpark();
    loop {
        if let Poll::Ready(order) = session.poll(context) {
            return Poll::Ready(Progress::Over(order));
        }
        if !was_ready && session.is_ready() {
            return Poll::Ready(Progress::Ready);
        }
        if can_write {
            let frames = take_encoded(session);
            if !frames.is_empty() {
                return Poll::Ready(Progress::Frames(frames));
            }
        }
        if session.mailbox().park(context, can_write) {
            return Poll::Pending;
        }
    }
}

fn take_encoded(session: &mut Session) -> Vec<Encoded> {
    let frames = session.take_frames();
    frames.iter().filter_map(Frame::to_encoded).collect()
}
