//! [`ShardQueue`]: all that waits for one shard's driver, in one order.
//!
//! Writes take room first, and wait for it. Ends of owners and undone writes need none: there are
//! never more of them than live presences. Messages of other nodes are dropped when too many wait;
//! the next heartbeat repairs that. One order for all means that what a task did before is before.

use std::collections::VecDeque;
use std::sync::Arc;

use herenow_core::{
    Incarnation, Key, LeaveReason, NodeName, OwnerId, Row, ShardMessage, Topic, Version,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::errors::{TrackError, UpdateError};
use crate::status::ShardStatus;

/// Messages of other nodes that wait for one shard.
const MAX_MESSAGES: usize = 4096;

/// Something for a driver to do.
pub(crate) enum Command {
    Track {
        write: Write,
        answer: oneshot::Sender<Result<Tracked, TrackError>>,
    },
    Update {
        write: Write,
        expected: Option<Version>,
        answer: UpdateAnswer,
    },
    ReadRow {
        owner: OwnerId,
        topic: Topic,
        key: Key,
        answer: oneshot::Sender<Option<Arc<Row>>>,
    },
    Untrack {
        owner: OwnerId,
        topic: Topic,
        key: Key,
        answer: oneshot::Sender<bool>,
    },
    Undo(Arc<Row>),
    EndGrace {
        topic: Topic,
        key: Key,
        reason: LeaveReason,
        answer: oneshot::Sender<bool>,
    },
    EndOwner {
        owner: OwnerId,
        reason: LeaveReason,
        answer: Option<oneshot::Sender<usize>>,
    },
    Message {
        from: NodeName,
        message: ShardMessage,
    },
    Heartbeat {
        from: NodeName,
        incarnation: Incarnation,
        announced: Version,
    },
    PeerGone(NodeName),
    Flush(oneshot::Sender<()>),
    Bye(oneshot::Sender<()>),
    Inspect(oneshot::Sender<ShardStatus>),
}

/// Where the outcome of an update goes.
pub(crate) type UpdateAnswer = oneshot::Sender<Result<Updated, UpdateError>>;

/// What a track and an update have in common.
pub(crate) struct Write {
    pub(crate) owner: OwnerId,
    pub(crate) topic: Topic,
    pub(crate) key: Key,
    pub(crate) meta: herenow_core::Meta,
}

/// The outcome of an update that was not refused.
pub(crate) enum Updated {
    Done(Arc<Row>),
    /// Another update came between; this is the row now.
    Conflict(Arc<Row>),
}

impl Updated {
    /// Returns the row as it is now.
    pub(crate) fn row(&self) -> &Arc<Row> {
        match self {
            Self::Done(row) | Self::Conflict(row) => row,
        }
    }
}

/// A tracked row on its way to the caller. Dropped before it is accepted, it is undone.
pub(crate) struct Tracked {
    queue: Arc<ShardQueue>,
    row: Option<Arc<Row>>,
}

impl Tracked {
    pub(crate) fn new(queue: &Arc<ShardQueue>, row: Arc<Row>) -> Self {
        Self {
            queue: queue.clone(),
            row: Some(row),
        }
    }

    /// Hands the row over; nothing is undone any more.
    pub(crate) fn accept(mut self) -> Arc<Row> {
        self.row
            .take()
            .expect("only accept takes it, and accept consumes")
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if let Some(row) = self.row.take() {
            self.queue.push_first(Command::Undo(row));
        }
    }
}

/// All that waits for one driver.
pub(crate) struct ShardQueue {
    state: Mutex<Waiting>,
    wake: Notify,
    /// Room for writes; a driver that is gone closes it.
    room: Semaphore,
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Command>,
    n_messages: usize,
    is_closed: bool,
}

impl ShardQueue {
    pub(crate) fn new(max_queued: u32) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            room: Semaphore::new(max_queued as usize),
        }
    }

    /// Adds a write, waiting for room. False if the driver is gone.
    pub(crate) async fn push_write(&self, command: Command) -> bool {
        let Ok(room) = self.room.acquire().await else {
            return false;
        };
        room.forget(); // Given back when the driver takes the command.
        self.push(command)
    }

    /// Adds what needs no room. False, and the command dropped, if the driver is gone.
    pub(crate) fn push(&self, command: Command) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state); // The command's own drop may come back here.
            drop(command);
            return false;
        }
        state.commands.push_back(command);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Adds an undo before all that waits: its caller may have gone on to something that must find
    /// the write undone.
    fn push_first(&self, command: Command) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.commands.push_front(command);
        drop(state);
        self.wake.notify_one();
    }

    /// Adds a message of another node. False if too many wait.
    pub(crate) fn push_message(&self, command: Command) -> bool {
        let mut state = self.state.lock();
        if state.is_closed || state.n_messages >= MAX_MESSAGES {
            return false;
        }
        state.n_messages += 1;
        state.commands.push_back(command);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Returns how many commands wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().commands.len()
    }

    /// Waits until something was added since the last [`take`](Self::take). Cancel-safe.
    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Moves all that waits into `batch`, which is empty.
    pub(crate) fn take(&self, batch: &mut VecDeque<Command>) {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.commands, batch);
        state.n_messages = 0;
        drop(state);
        let is_write =
            |command: &&Command| matches!(command, Command::Track { .. } | Command::Update { .. });
        let n_writes = batch.iter().filter(is_write).count();
        if n_writes > 0 {
            self.room.add_permits(n_writes);
        }
    }

    /// Refuses all that comes from now on and drops what waits; callers see it as closed.
    pub(crate) fn close(&self) {
        self.room.close();
        let mut state = self.state.lock();
        state.is_closed = true;
        let commands = std::mem::take(&mut state.commands);
        drop(state);
        drop(commands);
    }
}
