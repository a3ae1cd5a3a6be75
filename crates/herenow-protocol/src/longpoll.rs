//! Long polling without IO: one session's buffer and waiting poll, batches, answers.
//!
//! The host keeps the requests and the tokens; it tells [`LongPollSession`] of polls, of frames to
//! send and of time, and answers requests with what it gets back. Frames of a POST come from
//! [`split_batch`] or are the whole body. Times are durations since any moment that stays the same
//! for the session, and never run backwards.

mod answer;
mod batch;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

pub use self::answer::PollAnswer;
pub use self::batch::{BatchError, split_batch};
use crate::serializer::{Encoded, FrameKind};

/// Settings of long-poll sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LongPollConfig {
    /// How long a poll waits for messages; 10 s. A session that was not polled for one and a half
    /// windows is over.
    pub window: Duration,
    /// Most frames that wait for a poll; 10,000.
    pub max_buffered_frames: usize,
    /// Most bytes that wait for a poll; 8 MiB.
    pub max_buffered_bytes: usize,
    /// Most parts of a batch that are handled; 100. The rest is ignored, as the reference does.
    pub max_parts: usize,
    /// Most base64 characters of one binary part; 10,000,000.
    pub max_base64_chars: usize,
}

impl Default for LongPollConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            max_buffered_frames: 10_000,
            max_buffered_bytes: 8 << 20,
            max_parts: 100,
            max_base64_chars: 10_000_000,
        }
    }
}

/// Why a frame could not be kept for the next poll.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// Too many frames wait: the client polls too slowly, the session should end.
    #[error("{max} frames wait for a poll, which is the limit")]
    TooManyFrames {
        /// The limit.
        max: usize,
    },
    /// Too many bytes wait: the client polls too slowly, the session should end.
    #[error("{len} bytes would wait for a poll, the limit is {max}")]
    TooManyBytes {
        /// Bytes that would wait, this frame included.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Long poll carries text only; this frame alone is lost.
    #[error("a binary frame of {len} bytes cannot be sent over long poll")]
    Binary {
        /// Length of the frame in bytes.
        len: usize,
    },
}

/// Names one waiting poll of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PollId(u64);

/// What to do with a poll.
#[derive(Debug, PartialEq, Eq)]
pub enum PollStep {
    /// Answer it now.
    Answer(PollAnswer),
    /// Wait for [`LongPollSession::poll_answer`] to name it; call
    /// [`LongPollSession::handle_window_end`] if that has not happened at the time given.
    Wait {
        /// The poll.
        poll: PollId,
        /// When its window ends.
        until: Duration,
    },
}

/// One long-poll session: what waits to be fetched, and who waits for it.
#[derive(Debug)]
pub struct LongPollSession {
    buffer: VecDeque<Bytes>,
    n_bytes: usize,
    waiting: Option<PollId>,
    next_poll: u64,
    window: Duration,
    max_frames: usize,
    max_bytes: usize,
    now: Duration,
    last_poll: Duration,
    next_check: Duration,
}

impl LongPollSession {
    /// A session that was created at `now`, which counts as its first poll.
    #[must_use]
    pub fn new(config: &LongPollConfig, now: Duration) -> Self {
        let mut session = Self {
            buffer: VecDeque::new(),
            n_bytes: 0,
            waiting: None,
            next_poll: 0,
            window: config.window,
            max_frames: config.max_buffered_frames,
            max_bytes: config.max_buffered_bytes,
            now,
            last_poll: now,
            next_check: now,
        };
        session.next_check = now.saturating_add(session.max_silence());
        session
    }

    /// Takes in a poll. An older one that still waits is not woken any more: it runs into its
    /// own window's end.
    pub fn handle_poll(&mut self, now: Duration) -> PollStep {
        self.advance(now);
        self.last_poll = self.now;
        if !self.buffer.is_empty() {
            self.waiting = None;
            return PollStep::Answer(self.drain());
        }
        let poll = PollId(self.next_poll);
        self.next_poll += 1;
        self.waiting = Some(poll);
        PollStep::Wait {
            poll,
            until: self.now.saturating_add(self.window),
        }
    }

    /// Takes in a frame for the client; it is kept until a poll fetches it.
    ///
    /// Binary frames cannot travel over long poll. The reference sends one that happens to be UTF-8
    /// as text, which its clients then fail to read as JSON, and loses the whole answer over
    /// another; here each is lost alone.
    ///
    /// # Errors
    ///
    /// [`BufferError`]; the frame is dropped. All but [`BufferError::Binary`] mean that the
    /// session should end.
    pub fn handle_frame(&mut self, frame: Encoded) -> Result<(), BufferError> {
        let len = self.n_bytes + frame.bytes.len();
        if frame.kind == FrameKind::Binary {
            return Err(BufferError::Binary {
                len: frame.bytes.len(),
            });
        }
        if self.buffer.len() >= self.max_frames {
            return Err(BufferError::TooManyFrames {
                max: self.max_frames,
            });
        }
        if len > self.max_bytes {
            return Err(BufferError::TooManyBytes {
                len,
                max: self.max_bytes,
            });
        }
        self.n_bytes = len;
        self.buffer.push_back(frame.bytes);
        Ok(())
    }

    /// The waiting poll and its answer, if there is something for it.
    pub fn poll_answer(&mut self) -> Option<(PollId, PollAnswer)> {
        if self.buffer.is_empty() {
            return None;
        }
        let poll = self.waiting.take()?;
        Some((poll, self.drain()))
    }

    /// Says that a poll's window has ended, or that its client is gone; its answer.
    ///
    /// Later frames are kept for the next poll.
    pub fn handle_window_end(&mut self, poll: PollId) -> PollAnswer {
        if self.waiting == Some(poll) {
            self.waiting = None;
        }
        PollAnswer::Empty
    }

    /// Whether the session is over, because nobody has polled for one and a half windows.
    ///
    /// Looks only when [`LongPollSession::poll_timeout`] has come, as the reference's timer does.
    pub fn handle_timeout(&mut self, now: Duration) -> bool {
        self.advance(now);
        if self.now < self.next_check {
            return false;
        }
        self.next_check = self.now.saturating_add(self.max_silence());
        self.now.saturating_sub(self.last_poll) > self.max_silence()
    }

    /// When [`LongPollSession::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Duration {
        self.next_check
    }

    /// How many frames wait to be fetched.
    #[must_use]
    pub fn n_buffered(&self) -> usize {
        self.buffer.len()
    }

    fn drain(&mut self) -> PollAnswer {
        self.n_bytes = 0;
        PollAnswer::Messages(std::mem::take(&mut self.buffer).into())
    }

    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn max_silence(&self) -> Duration {
        self.window.saturating_mul(3) / 2
    }
}
