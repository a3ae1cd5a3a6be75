//! [`Driver`]: the only loop that drives a shard.
//!
//! ```text
//! wait (a command, a deadline) → yield once → take what waits → for at most MAX_BATCH commands:
//!     feed the shard → perform its outputs, publish the views of changed topics → answer → notify
//! ```
//!
//! The one yield lets all sockets that are ready queue their writes, so that they become one batch,
//! one version of each topic and one delta. It is to the end of the run queue, no further: tokio's
//! own would ask the operating system for more that is ready, a system call for every lone write.
//! Views are published before the answers, so whoever was told that it is tracked finds itself in
//! the list. Nothing here runs foreign code.
//!
//! When a node with many rows goes down, comes back or is forgotten, its rows follow in slices,
//! each a batch of its own, in turn with the commands that wait. Few drivers of a node do such a
//! slice at the same time, or 64 of them would keep everyone else from the cores.

mod changes;
mod writes;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::SystemTime;

use herenow_core::{LeaveReason, NodeName, Output, PeerEvent, PeerStatus, Row, Shard};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use self::changes::Changes;
use crate::cluster::{Clock, Outbox};
use crate::config::PresenceConfig;
use crate::diff::Lives;
use crate::errors::{TrackError, UpdateError};
use crate::metrics::Metrics;
use crate::modes::Modes;
use crate::notifier::Inbox;
use crate::places::Places;
use crate::queue::{Command, ShardQueue, Tracked, UpdateAnswer, Updated};
use crate::status::ShardStatus;
use crate::view::Views;

/// Commands between two publications at most, so that deadlines and readers are served.
const MAX_BATCH: usize = 512;

/// What one shard's tasks share.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) queue: Arc<ShardQueue>,
    pub(crate) views: Arc<Views>,
    pub(crate) places: Arc<Places>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) modes: Arc<Modes>,
    /// The version up to which the shard's deltas went out, for the node's heartbeat.
    pub(crate) announced: Arc<AtomicU64>,
}

/// Owns one shard and feeds it.
pub(crate) struct Driver {
    pub(crate) shard: Shard,
    pub(crate) part: Part,
    pub(crate) outbox: Outbox,
    /// Turns for slices of sweeps, of all drivers of this node.
    pub(crate) sweeps: Arc<Semaphore>,
    pub(crate) clock: Clock,
    pub(crate) config: Arc<PresenceConfig>,
    pub(crate) metrics: Arc<Metrics>,
    /// Batches published so far: the version of views and diffs. It never repeats.
    pub(crate) version: u64,
    /// The nodes that are up, this one among them.
    pub(crate) nodes: Lives,
    pub(crate) replies: Vec<Reply>,
}

/// An answer that waits until the views are published.
pub(crate) enum Reply {
    Track(
        oneshot::Sender<Result<Tracked, TrackError>>,
        Result<Tracked, TrackError>,
        Option<Arc<Row>>,
    ),
    Update(UpdateAnswer, Result<Updated, UpdateError>),
    Untrack(oneshot::Sender<bool>, bool),
    Ended(oneshot::Sender<usize>, usize),
    Flush(oneshot::Sender<()>),
    Bye(oneshot::Sender<()>),
}

impl Driver {
    /// Runs for ever.
    ///
    /// It never sleeps for as long as a write may take: tokio interrupts its own wait for the
    /// operating system, with two system calls, whenever a timer is set that is due before all
    /// others. With the driver's in front, that of a write is not.
    pub(crate) async fn run(mut self) {
        let mut commands = VecDeque::new();
        loop {
            let due = self.clock.instant(self.shard.poll_timeout());
            let due = due.min(Instant::now() + self.config.write_deadline / 2);
            let sweeps = self.sweeps.clone();
            tokio::select! {
                () = self.part.queue.wait() => give_way().await,
                () = sleep_until(due) => {}
                Ok(_turn) = sweeps.acquire(), if self.shard.is_sweeping() => {
                    self.shard.handle_sweep(self.clock.now());
                    self.settle().await;
                    yield_now().await; // Before the turn is over: others first.
                }
            }
            self.part.queue.take(&mut commands);
            let mut waiting = std::mem::take(&mut commands).into_iter();
            loop {
                let now = self.clock.now();
                if self.shard.poll_timeout() <= now {
                    self.shard.handle_timeout(now);
                }
                for command in waiting.by_ref().take(MAX_BATCH) {
                    self.handle(command);
                }
                self.settle().await;
                if waiting.len() == 0 {
                    break;
                }
                yield_now().await;
            }
        }
    }

    fn handle(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Track { write, answer } => self.on_track(write, answer),
            Command::Update {
                write,
                expected,
                answer,
            } => {
                let outcome = self.on_update(write, expected);
                self.replies.push(Reply::Update(answer, outcome));
            }
            Command::ReadRow {
                owner,
                topic,
                key,
                answer,
            } => {
                // Of what is written, published or not: an update must build on it.
                let row = self.shard.row(owner, &topic, &key).cloned();
                let _ = answer.send(row); // The caller may be gone.
            }
            Command::Untrack {
                owner,
                topic,
                key,
                answer,
            } => {
                let reason = LeaveReason::Left;
                let was_there = self.shard.handle_untrack(now, owner, &topic, &key, reason);
                self.replies.push(Reply::Untrack(answer, was_there));
            }
            Command::Undo(row) => self.on_undo(&row),
            Command::EndGrace {
                topic,
                key,
                reason,
                answer,
            } => {
                let was_held = self.shard.handle_release(now, &topic, &key, reason);
                self.replies.push(Reply::Untrack(answer, was_held));
            }
            Command::EndOwner {
                owner,
                reason,
                answer,
            } => {
                let n_left = self.shard.handle_owner_end(now, owner, reason);
                self.replies
                    .extend(answer.map(|answer| Reply::Ended(answer, n_left)));
            }
            Command::Message { from, message } => self.shard.handle_message(now, &from, message),
            Command::Heartbeat {
                from,
                incarnation,
                announced,
            } => {
                self.shard
                    .handle_heartbeat(now, &from, incarnation, announced);
            }
            Command::PeerGone(peer) => self.shard.handle_peer_gone(now, &peer),
            Command::Flush(done) => self.replies.push(Reply::Flush(done)),
            Command::Bye(done) => {
                self.shard.handle_shutdown(now);
                self.replies.push(Reply::Bye(done));
            }
            Command::Inspect(answer) => {
                let _ = answer.send(ShardStatus::of(&self.shard, now)); // The caller may be gone.
            }
        }
    }

    /// Performs what the shard put out, publishes, answers and notifies, in this order.
    async fn settle(&mut self) {
        let mut changes = Changes::default();
        let now = SystemTime::now();
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::Diff(diff) => self.collect(diff, now, &mut changes),
                Output::Broadcast(message) => self.outbox.broadcast(&message),
                Output::Send { to, message } => self.outbox.send(&to, &message),
                Output::Peer {
                    node,
                    incarnation: _,
                    event,
                } => {
                    self.note(&node, event);
                    self.nodes = nodes_up(&self.shard);
                }
            }
        }
        self.part
            .announced
            .store(self.shard.announced().0, Ordering::Release);
        let batches = self.publish(changes);
        let flushes = self.answer();
        if !batches.is_empty() {
            self.part.inbox.push(batches.into_iter()).await;
        }
        for done in flushes {
            self.part.inbox.flush(self.version, done);
        }
    }

    fn note(&self, peer: &NodeName, event: PeerEvent) {
        match event {
            PeerEvent::Up => {
                self.metrics.n_peers_up.count();
                self.outbox.beat_soon();
            }
            PeerEvent::Down => self.metrics.n_peers_down.count(),
            PeerEvent::Forgotten => {}
        }
        let what = match event {
            PeerEvent::Up => "peer up",
            PeerEvent::Down => "peer down: its presences are hidden",
            PeerEvent::Forgotten => "peer forgotten",
        };
        // Heartbeats are a node's: all shards see the same, one speaks for all.
        match self.outbox.shard {
            0 => tracing::info!(%peer, "{what}"),
            shard => tracing::debug!(shard, %peer, "{what}"),
        }
    }

    /// Sends the answers, and returns those that have to wait until the changes are out. One whose
    /// caller is gone drops here, which undoes a track.
    fn answer(&mut self) -> Vec<oneshot::Sender<()>> {
        let mut flushes = Vec::new();
        for reply in self.replies.drain(..) {
            match reply {
                Reply::Track(answer, outcome, _) => drop(answer.send(outcome)),
                Reply::Update(answer, outcome) => drop(answer.send(outcome)),
                Reply::Untrack(answer, was_there) => drop(answer.send(was_there)),
                Reply::Ended(answer, n_left) => drop(answer.send(n_left)),
                Reply::Flush(done) => flushes.push(done),
                Reply::Bye(done) => drop(done.send(())),
            }
        }
        flushes
    }
}

/// The nodes that are up as the shard knows them, its own among them.
pub(crate) fn nodes_up(shard: &Shard) -> Lives {
    let others = shard.peers().filter(|peer| match peer.status {
        PeerStatus::Up => true,
        PeerStatus::Down => false,
    });
    let mut nodes: Vec<_> = others.map(|peer| (peer.node, peer.incarnation)).collect();
    let id = shard.id();
    nodes.push((id.node.clone(), id.incarnation));
    nodes.sort_unstable();
    nodes.into()
}

/// Lets all tasks run that are ready now.
async fn give_way() {
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use herenow_core::{Incarnation, Key, Meta, OwnerId, ReplicaId, ShardIndex, Topic, Version};
    use tokio::sync::Notify;

    use super::*;
    use crate::notifier::Item;
    use crate::queue::Write;

    fn driver() -> Driver {
        let (config, clock) = (Arc::new(PresenceConfig::default()), Clock::new());
        let id = ReplicaId {
            node: NodeName::new("a").unwrap(),
            incarnation: Incarnation(1),
            shard: ShardIndex(0),
        };
        let metrics = Arc::<Metrics>::default();
        let shard = Shard::new(&config.shard, id, clock.now()).unwrap();
        Driver {
            nodes: nodes_up(&shard),
            shard,
            part: Part {
                queue: Arc::new(ShardQueue::new(16)),
                views: Arc::default(),
                places: Arc::default(),
                inbox: Arc::default(),
                modes: Arc::default(),
                announced: Arc::default(),
            },
            outbox: Outbox {
                link: None,
                shard: 0,
                n_shards: 1,
                beat_soon: Arc::new(Notify::new()),
                metrics: metrics.clone(),
            },
            sweeps: Arc::new(Semaphore::new(1)),
            clock,
            config,
            metrics,
            version: 0,
            replies: Vec::new(),
        }
    }

    fn write() -> Write {
        Write {
            owner: OwnerId(1),
            topic: Topic::new("room:1").unwrap(),
            key: Key::new("ada").unwrap(),
            meta: Meta::new("{}").unwrap(),
        }
    }

    #[tokio::test]
    async fn prs_100_a_flush_waits_for_the_changes_of_its_own_batch() {
        let mut driver = driver();
        let (answer, _answered) = oneshot::channel();
        driver.handle(Command::Track {
            write: write(),
            answer,
        });
        driver.handle(Command::Flush(oneshot::channel().0));
        driver.settle().await;
        let items = driver.part.inbox.take();
        assert!(matches!(
            items[..],
            [Item::Batch(_), Item::Flush { until: 1, .. }]
        ));
    }

    #[tokio::test]
    async fn prs_101_a_track_is_undone_before_what_its_caller_does_next() {
        let mut driver = driver();
        let (answer, answered) = oneshot::channel();
        driver.handle(Command::Track {
            write: write(),
            answer,
        });
        drop(answered); // Its caller gives up in the middle of the batch, and tries again.
        let (answer, mut answered) = oneshot::channel();
        let again = Command::Track {
            write: write(),
            answer,
        };
        assert!(driver.part.queue.push_write(again).await);
        driver.settle().await;
        let mut commands = VecDeque::new();
        driver.part.queue.take(&mut commands);
        commands
            .into_iter()
            .for_each(|command| driver.handle(command));
        driver.settle().await;
        let tracked = answered.try_recv().unwrap();
        assert!(tracked.is_ok_and(|tracked| tracked.accept().version() == Version(3)));
    }
}
