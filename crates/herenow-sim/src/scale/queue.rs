//! [`Queue`]: what is going to happen, in order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use herenow_core::{NodeHeartbeat, ShardMessage};

/// What is carried from node to node.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) n_bytes: usize,
    pub(super) body: Body,
}

/// Decoded once for all who get it.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Shard(u16, Rc<ShardMessage>),
    Heartbeat(Rc<NodeHeartbeat>),
}

/// Something that happens to a node.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A parcel has arrived.
    Arrive(usize, Parcel),
    /// It has time for the next parcel.
    Work(usize),
    /// A shard has something to do.
    Wake(usize, u16),
    /// It heartbeats, as it does every period.
    Beat(usize),
    /// It heartbeats out of turn.
    EarlyBeat(usize),
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

/// All that is going to happen, by virtual time in nanoseconds and then in the order of scheduling.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Scheduled>,
    n_scheduled: u64,
}

impl Queue {
    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.n_scheduled += 1;
        self.heap.push(Scheduled {
            at,
            number: self.n_scheduled,
            event,
        });
    }

    /// Takes what happens next, if it does not after `end`.
    pub(super) fn pop(&mut self, end: u64) -> Option<(u64, Event)> {
        if self.heap.peek()?.at > end {
            return None;
        }
        let next = self.heap.pop()?;
        Some((next.at, next.event))
    }
}

impl Ord for Scheduled {
    /// The greatest is what happens first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

/// Returns how many rows a message carries.
pub(super) fn n_rows(message: &ShardMessage) -> u32 {
    let n_rows = match message {
        ShardMessage::Delta { delta, .. } | ShardMessage::Transfer { delta, .. } => delta.n_rows(),
        ShardMessage::Held { rows, .. } => rows.len(),
        ShardMessage::Request { .. } | ShardMessage::Bye { .. } => 0,
    };
    u32::try_from(n_rows).unwrap_or(u32::MAX)
}

/// Returns a duration as virtual time is counted.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
