//! [`FrameQueue`]: frames on their way to one client, the first of them perhaps begun.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{Frame, Slices};

/// Frames for which there is room when there is more than one.
const FIRST_CAPACITY: usize = 4;
/// Buffers in one vectored write.
const MAX_SLICES: usize = 64;

/// Frames in the order in which they are written.
#[derive(Debug, Default)]
pub(crate) struct FrameQueue {
    frames: Frames,
    /// Bytes of the first frame that are written already.
    n_written: usize,
}

/// A single frame, which is what most connections have if they have any, needs no memory of its
/// own: to get it and give it back took two fifths of a dispatch's instructions.
#[derive(Debug, Default)]
enum Frames {
    #[default]
    None,
    One(Frame),
    Many(VecDeque<Frame>),
}

impl Frames {
    fn as_slices(&self) -> (&[Frame], &[Frame]) {
        match self {
            Self::None => (&[], &[]),
            Self::One(frame) => (std::slice::from_ref(frame), &[]),
            Self::Many(frames) => frames.as_slices(),
        }
    }

    fn front(&self) -> Option<&Frame> {
        self.as_slices().0.first()
    }

    fn push_back(&mut self, frame: Frame) {
        match self {
            Self::None => *self = Self::One(frame),
            Self::One(_) => {
                let mut frames = VecDeque::with_capacity(FIRST_CAPACITY);
                frames.extend(self.pop_front());
                frames.push_back(frame);
                *self = Self::Many(frames);
            }
            Self::Many(frames) => frames.push_back(frame),
        }
    }

    /// Takes the first; with the last, no memory is left.
    fn pop_front(&mut self) -> Option<Frame> {
        if let Self::Many(frames) = self
            && frames.len() > 1
        {
            return frames.pop_front();
        }
        match std::mem::take(self) {
            Self::None => None,
            Self::One(frame) => Some(frame),
            Self::Many(mut last) => last.pop_front(),
        }
    }
}

/// What a write finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) n_frames: usize,
    /// The whole length of those frames, whichever write they were begun in.
    pub(crate) n_bytes: usize,
}

impl FrameQueue {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.frames, Frames::None)
    }

    pub(crate) fn len(&self) -> usize {
        let (first, rest) = self.frames.as_slices();
        first.len() + rest.len()
    }

    /// Returns how many bytes its frames have, those included that are written already.
    pub(crate) fn n_bytes(&self) -> usize {
        self.iter().map(Frame::n_bytes).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Frame> {
        let (first, rest) = self.frames.as_slices();
        first.iter().chain(rest)
    }

    pub(crate) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    pub(crate) fn extend(&mut self, frames: impl IntoIterator<Item = Frame>) {
        frames.into_iter().for_each(|frame| self.push(frame));
    }

    /// Takes all frames of `later`, of which none is begun unless this queue is empty.
    pub(crate) fn append(&mut self, mut later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        while let Some(frame) = later.frames.pop_front() {
            self.push(frame);
        }
    }

    /// Forgets all frames but the one that is begun, which the client waits for.
    pub(crate) fn discard(&mut self) {
        let first = self.frames.pop_front().filter(|_| self.n_written > 0);
        self.frames = first.map_or(Frames::None, Frames::One);
    }

    /// Returns what is left to write, as much of it as fits into one vectored write.
    pub(crate) fn slices(&self) -> Slices<'_, MAX_SLICES> {
        let mut slices = SmallVec::new();
        let mut skip = self.n_written;
        for frame in self.iter() {
            if slices.len() + Frame::MAX_SLICES > MAX_SLICES {
                break;
            }
            frame.push_slices(skip, &mut slices);
            skip = 0;
        }
        slices
    }

    /// Drops what is written.
    pub(crate) fn advance(&mut self, n_bytes: usize) -> Finished {
        let mut finished = Finished {
            n_frames: 0,
            n_bytes: 0,
        };
        self.n_written += n_bytes;
        while let Some(n_bytes) = self.frames.front().map(Frame::n_bytes)
            && self.n_written >= n_bytes
        {
            self.n_written -= n_bytes;
            finished.n_bytes += n_bytes;
            finished.n_frames += 1;
            self.frames.pop_front();
        }
        finished
    }
}
