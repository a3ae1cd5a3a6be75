//! Answers to requests: one chunk each, within a budget of bytes per second.
//!
//! The owner keeps nothing about a reader but its place in the queue. A reader that has applied a
//! chunk and lacks more asks on, so the pace is the reader's; the budget keeps readers that ask too
//! much from crowding out the owner's own work. One request per node waits, the latest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::delta::Known;
use crate::ids::NodeName;
use crate::message::ShardMessage;
use crate::row::{Row, Version};
use crate::shard::{Output, Shard};
use crate::time::MonoTime;

/// What a held row costs on the wire besides its texts, about.
const HELD_OVERHEAD_BYTES: usize = 48;

/// A reader's request.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    reader: NodeName,
    known: Known,
}

/// Who waits, and when there are bytes for it.
#[derive(Debug)]
pub(crate) struct Transfers {
    waiting: VecDeque<Waiting>,
    bytes_per_second: usize,
    /// When all that was given out is paid for; in the past, at most a second of it counts.
    paid_at: MonoTime,
}

impl Transfers {
    pub(crate) fn new(now: MonoTime, bytes_per_second: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes_per_second,
            paid_at: now,
        }
    }

    /// Returns when the next request can be answered.
    pub(crate) fn next_due(&self) -> MonoTime {
        if self.waiting.is_empty() {
            MonoTime::MAX
        } else {
            self.paid_at
        }
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    fn push(&mut self, request: Waiting) {
        self.waiting.retain(|other| other.reader != request.reader);
        self.waiting.push_back(request);
    }

    fn pop_due(&mut self, now: MonoTime) -> Option<Waiting> {
        (self.paid_at <= now).then(|| self.waiting.pop_front())?
    }

    fn spend(&mut self, now: MonoTime, n_bytes: usize) {
        let oldest = now.elapsed().saturating_sub(Duration::from_secs(1));
        let paid_at = self.paid_at.max(MonoTime::since_origin(oldest));
        let nanos = n_bytes as u64 * 1_000_000_000 / self.bytes_per_second as u64;
        self.paid_at = paid_at + Duration::from_nanos(nanos);
    }
}

impl Shard {
    pub(super) fn on_request(&mut self, reader: &NodeName, known: Known) {
        if known.seen == Version::ZERO {
            self.send_held(reader);
        }
        self.transfers.push(Waiting {
            reader: reader.clone(),
            known,
        });
        self.serve_waiting();
    }

    /// Tells a node that may be new whom readers here are not told of yet, before anything else.
    fn send_held(&mut self, reader: &NodeName) {
        let held = self.readers.held(self.now, &self.index);
        let mut held = held.map(|(row, left)| (row.clone(), left)).peekable();
        let mut messages = Vec::new();
        while held.peek().is_some() {
            let (mut rows, mut n_bytes) = (Vec::new(), 0);
            while n_bytes < self.config.max_delta_bytes
                && let Some((row, left)) = held.next()
            {
                n_bytes += HELD_OVERHEAD_BYTES + row.text_bytes();
                rows.push((row, left));
            }
            messages.push((rows, n_bytes));
        }
        drop(held);
        for (rows, n_bytes) in messages {
            self.transfers.spend(self.now, n_bytes);
            let incarnation = self.id.incarnation;
            self.outputs.push_back(Output::Send {
                to: reader.clone(),
                message: ShardMessage::Held { incarnation, rows },
            });
        }
    }

    /// Takes in whom another node holds, unless this one is old enough to know by itself.
    pub(super) fn on_held(&mut self, rows: Vec<(Arc<Row>, Duration)>) {
        if self.now.duration_since(self.started) >= self.readers.longest() {
            self.stats.n_stale += 1;
            return;
        }
        for (row, left) in rows {
            if row.replica() == &self.id {
                self.stats.n_refused += 1;
                continue;
            }
            self.readers.adopt(self.now, row, left, &mut self.index);
        }
    }

    pub(super) fn serve_waiting(&mut self) {
        while let Some(request) = self.transfers.pop_due(self.now) {
            let Waiting { reader, known } = request;
            let max_bytes = self.config.max_delta_bytes;
            let delta = self
                .own
                .extract(known, &self.history, &self.index, max_bytes);
            let Some(delta) = delta else { continue };
            self.transfers.spend(self.now, delta.approximate_bytes());
            self.stats.n_transfers += 1;
            let incarnation = self.id.incarnation;
            self.outputs.push_back(Output::Send {
                to: reader,
                message: ShardMessage::Transfer { incarnation, delta },
            });
        }
    }
}
