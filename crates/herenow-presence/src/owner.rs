//! [`Owner`]: whose end is a leave. [`Holder`]: what has an owner and a topic.
//!
//! An owner is a number and the list of shards it is present in. Its drop, which cannot wait,
//! leaves one command with each of them. The list is kept by the calls that track and untrack, so
//! an owner without presences costs a shard nothing, and dropping it does nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use herenow_core::{LeaveReason, OwnerId};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::queue::{Command, ShardQueue};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Something whose end is a leave: one per channel instance, or per task.
///
/// All that was tracked for it leaves when it is dropped, whenever and however that happens.
pub struct Owner {
    id: OwnerId,
    reason: AtomicU8,
    holds: Mutex<SmallVec<[Hold; 1]>>,
}

/// A shard that an owner is present in.
struct Hold {
    queue: Arc<ShardQueue>,
    n_presences: usize,
}

impl Owner {
    /// Returns an owner that nothing is tracked for yet.
    pub fn new() -> Self {
        Self {
            id: OwnerId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            reason: AtomicU8::new(to_code(LeaveReason::Closed)),
            holds: Mutex::default(),
        }
    }

    /// Sets the reason that its leaves will have when it is dropped; [`LeaveReason::Closed`] if
    /// never.
    pub fn end_with(&self, reason: LeaveReason) {
        self.reason.store(to_code(reason), Ordering::Relaxed);
    }

    /// Returns the owner together with a topic, as [`Presence::track`](crate::Presence::track)
    /// takes it.
    pub fn at<'a>(&'a self, topic: &'a str) -> OwnerAt<'a> {
        OwnerAt { owner: self, topic }
    }

    pub(crate) fn id(&self) -> OwnerId {
        self.id
    }

    /// Remembers that it has one more presence in the queue's shard.
    pub(crate) fn hold(&self, queue: &Arc<ShardQueue>) {
        let mut holds = self.holds.lock();
        match holds
            .iter_mut()
            .find(|hold| Arc::ptr_eq(&hold.queue, queue))
        {
            Some(hold) => hold.n_presences += 1,
            None => holds.push(Hold {
                queue: queue.clone(),
                n_presences: 1,
            }),
        }
    }

    /// Remembers that it has one presence less in the queue's shard.
    pub(crate) fn release(&self, queue: &Arc<ShardQueue>) {
        let mut holds = self.holds.lock();
        let found = holds
            .iter()
            .position(|hold| Arc::ptr_eq(&hold.queue, queue));
        if let Some(at) = found {
            holds[at].n_presences -= 1;
            if holds[at].n_presences == 0 {
                holds.swap_remove(at);
            }
        }
    }

    /// Forgets all shards it is present in and returns them.
    pub(crate) fn release_all(&self) -> Vec<Arc<ShardQueue>> {
        self.holds.lock().drain(..).map(|hold| hold.queue).collect()
    }

    /// Returns how many shards watch for its end.
    pub(crate) fn n_holds(&self) -> usize {
        self.holds.lock().len()
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let reason = from_code(self.reason.load(Ordering::Relaxed));
        for queue in self.release_all() {
            queue.push(Command::EndOwner {
                owner: self.id,
                reason,
                answer: None,
            });
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("id", &self.id)
            .field("n_holds", &self.n_holds())
            .finish_non_exhaustive()
    }
}

/// What has an owner and a topic, such as a channel's socket.
pub trait Holder {
    /// Returns the owner whose end is the leave.
    fn owner(&self) -> &Owner;

    /// Returns the topic to be present in.
    fn topic(&self) -> &str;
}

/// An [`Owner`] together with a topic. Made by [`Owner::at`].
#[derive(Debug, Clone, Copy)]
pub struct OwnerAt<'a> {
    owner: &'a Owner,
    topic: &'a str,
}

impl Holder for OwnerAt<'_> {
    fn owner(&self) -> &Owner {
        self.owner
    }

    fn topic(&self) -> &str {
        self.topic
    }
}

fn to_code(reason: LeaveReason) -> u8 {
    match reason {
        LeaveReason::Left => 0,
        LeaveReason::Closed => 1,
        LeaveReason::NodeDown => 2,
        LeaveReason::Evicted => 3,
    }
}

fn from_code(code: u8) -> LeaveReason {
    match code {
        0 => LeaveReason::Left,
        2 => LeaveReason::NodeDown,
        3 => LeaveReason::Evicted,
        _ => LeaveReason::Closed,
    }
}
