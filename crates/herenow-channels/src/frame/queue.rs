//! [`FrameQueue`]: frames on their way to one client, the first of them perhaps begun.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{Frame, Slices};

/// Buffers in one vectored write.
const MAX_SLICES: usize = 64;

/// Frames in the order in which they are written.
#[derive(Debug, Default)]
pub(crate) struct FrameQueue {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written already.
    n_written: usize,
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
        self.frames.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns how many bytes its frames have, those included that are written already.
    pub(crate) fn n_bytes(&self) -> usize {
        self.frames.iter().map(Frame::n_bytes).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    pub(crate) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    pub(crate) fn extend(&mut self, frames: impl IntoIterator<Item = Frame>) {
        self.frames.extend(frames);
    }

    /// Takes all frames of `later`, of which none is begun unless this queue is empty.
    pub(crate) fn append(&mut self, mut later: Self) {
        if self.is_empty() {
            *self = later;
        } else {
            self.frames.append(&mut later.frames);
        }
    }

    /// Forgets all frames but the one that is begun, which the client waits for.
    pub(crate) fn discard(&mut self) {
        self.frames.truncate(usize::from(self.n_written > 0));
        self.frames.shrink_to_fit();
    }

    /// Returns what is left to write, as much of it as fits into one vectored write.
    pub(crate) fn slices(&self) -> Slices<'_, MAX_SLICES> {
        let mut slices = SmallVec::new();
        let mut skip = self.n_written;
        for frame in &self.frames {
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
        while let Some(frame) = self.frames.front()
            && self.n_written >= frame.n_bytes()
        {
            self.n_written -= frame.n_bytes();
            finished.n_bytes += frame.n_bytes();
            finished.n_frames += 1;
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            // An idle connection keeps no memory for frames.
            self.frames = VecDeque::new();
        }
        finished
    }
}
