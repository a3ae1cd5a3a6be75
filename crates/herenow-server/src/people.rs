//! [`People`]: presences that this node holds for backends.
//!
//! One task owns the leases. A presence is held as long as its lease; who holds it renews it, and a
//! lease that runs out is a leave. A lease belongs to the node that was asked last: asked at
//! another one, it moves there, and the node that had it lets go as soon as it hears of it, so that
//! a load balancer may send renewals anywhere and a backend may go on when a node is lost. Of two
//! nodes that are asked at once the later one keeps it, by their clocks and then their names; a node
//! that knows of a claim makes a later one, whatever the clocks say.
//!
//! What is to end on all nodes, a lease or whatever a user has, is told to them as an order, and
//! again to a node that could not be talked to for a while. So are the leases that a node holds,
//! and as no broker says who is back, each of them about once a minute to all.
//!
//! ```text
//! routes ── command ──▶ inbox (bounded) ──▶ the task: leases, by topic and key, and by end
//! other nodes ── link ──▶ heard (bounded) ──▶   │ tracks, updates, lets go
//!                                               ▼
//!                                            Presence
//! ```

mod link;
mod command;
mod orders;
mod elsewhere;
mod leases;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herenow_presence::{Presence, TrackError, UpdateError};
use herenow_pubsub::{AdapterError, LinkError, LogLimit};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::command::{Command, Write};
use self::leases::Leases;
use self::link::{End, Heard};

/// The field of metas with the time at which a user came: in Unix seconds, as text.
pub(crate) const ONLINE_AT: &str = "online_at";

/// Commands that wait for the task at most.
const MAX_COMMANDS: usize = 1_024;

/// Acts for backends. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct People(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    presence: Presence,
    inbox: mpsc::Sender<Command>,
    stats: Arc<Stats>,
    task: Mutex<Option<JoinHandle<()>>>,
    busy_log: LogLimit,
}

/// What was counted, and the leases held now.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) n_leases: AtomicU64,
    pub(crate) n_expired: AtomicU64,
    pub(crate) n_moved: AtomicU64,
    /// Evictions that this node was asked for, and has told the others of.
    pub(crate) n_evicted: AtomicU64,
    /// For there being as many as there may.
    pub(crate) n_refused: AtomicU64,
    /// Messages of other nodes that found no room.
    pub(crate) n_dropped: AtomicU64,
}

/// The name of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Name {
    pub(crate) topic: String,
    pub(crate) key: String,
}

/// What to do with a presence's meta.
#[derive(Debug)]
pub(crate) enum Change {
    /// Nothing; an empty one if the presence is new.
    Keep,
    /// Replace it. The time at which the user came stays.
    Set(Map<String, Value>),
    /// Merge this into it, field by field; a null removes the field.
    Merge(Map<String, Value>),
}

impl Change {
    /// Returns a meta with this change. The time at which the user came stays, unless the backend
    /// sets it.
    fn applied_to(self, mut meta: Map<String, Value>) -> Map<String, Value> {
        match self {
            Self::Keep => {}
            Self::Set(mut new) => {
                if let Some(online_at) = meta.remove(ONLINE_AT) {
                    new.entry(ONLINE_AT).or_insert(online_at);
                }
                meta = new;
            }
            Self::Merge(patch) => {
                for (field, value) in patch {
                    if value.is_null() {
                        meta.remove(&field);
                    } else {
                        meta.insert(field, value);
                    }
                }
            }
        }
        meta
    }
}

/// A presence that is held now.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) is_new: bool,
    pub(crate) phx_ref: String,
    pub(crate) lease: Duration,
}

/// Why a presence is not held.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeopleError {
    #[error(transparent)]
    Track(#[from] TrackError),
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error("this node holds {max} presences for backends, which is the limit (api.max_leases)")]
    Full { max: usize },
    #[error("this node does not hold the presence")]
    NotHeld,
    #[error("{max} requests of backends wait already, which is the limit")]
    Busy { max: usize },
    #[error("the other nodes could not be told")]
    NotTold(#[from] AdapterError),
    #[error("the server is stopping")]
    Closed,
}

impl People {
    /// Starts the task, which holds at most `max_leases`.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if this node has one already.
    pub(crate) fn start(presence: &Presence, max_leases: usize) -> Result<Self, LinkError> {
        let (inbox, commands) = mpsc::channel(MAX_COMMANDS);
        let stats = Arc::<Stats>::default();
        let (heard, arrivals) = Heard::new(stats.clone());
        let link = presence.pubsub().link("people", Arc::new(heard))?;
        let leases = Leases::new(presence.clone(), link, max_leases, stats.clone());
        let task = tokio::spawn(leases.run(commands, arrivals));
        Ok(Self(Arc::new(Inner {
            presence: presence.clone(),
            inbox,
            stats,
            task: Mutex::new(Some(task)),
            busy_log: LogLimit::default(),
        })))
    }

    /// Ends all leases and the task.
    pub(crate) async fn close(&self) {
        let task = self.0.task.lock().take();
        let is_told = self.0.inbox.send(Command::Close).await.is_ok();
        if let Some(task) = task.filter(|_| is_told)
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the task of backends' presences has failed");
        }
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// Makes `name.key` present in `name.topic` for `lease`, or renews that.
    pub(crate) async fn hold(
        &self,
        name: Name,
        change: Change,
        lease: Option<Duration>,
    ) -> Result<Held, PeopleError> {
        self.write(Command::Hold, name, change, lease).await
    }

    /// Renews a presence that this node holds.
    pub(crate) async fn renew(
        &self,
        name: Name,
        change: Change,
        lease: Option<Duration>,
    ) -> Result<Held, PeopleError> {
        self.write(Command::Renew, name, change, lease).await
    }

    async fn write(
        &self,
        command: fn(Write) -> Command,
        name: Name,
        change: Change,
        lease: Option<Duration>,
    ) -> Result<Held, PeopleError> {
        let (answer, answered) = oneshot::channel();
        let write = Write {
            name,
            change,
            lease,
            answer,
        };
        self.ask(command(write))?;
        let held = answered.await.map_err(|_| PeopleError::Closed)?;
        if let Err(PeopleError::Full { .. }) = held {
            self.0.stats.n_refused.fetch_add(1, Ordering::Relaxed);
        }
        held
    }

    /// Ends a presence that this node holds, or that is in grace here and is known to have been
    /// held for a backend, with what another node may hold of the same name; false if there is
    /// none.
    pub(crate) async fn end(&self, name: Name) -> Result<bool, PeopleError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Command::End { name, answer })?;
        answered.await.map_err(|_| PeopleError::Closed)?
    }

    /// Returns the node that has claimed a lease last, if it is silent: then nobody is shown what it
    /// holds, which is there again when it is heard.
    pub(crate) async fn silent_claimant(&self, name: Name) -> Result<Option<String>, PeopleError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Command::Claimant { name, answer })?;
        let Some(claimant) = answered.await.map_err(|_| PeopleError::Closed)? else {
            return Ok(None);
        };
        let cluster = self.0.presence.cluster().await;
        let mut nodes = cluster.nodes.iter();
        let is_silent = nodes.any(|node| node.node.as_str() == claimant && !node.is_up);
        Ok(is_silent.then_some(claimant))
    }

    /// Asks the other nodes to end a presence, if one of them holds it. One that is silent is asked
    /// when it is heard again.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] if the request was not accepted.
    pub(crate) async fn end_elsewhere(&self, name: Name) -> Result<(), AdapterError> {
        self.end_all(End::Lease(name)).await
    }

    /// Ends what there is of a user in a topic, or in all topics, on every node: presences, channels
    /// and, if it is all topics, connections. Whoever has a valid token may connect again; in dev
    /// mode connections are nobody's, and none is closed.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] if the other nodes cannot be told; then nothing is ended here either.
    pub(crate) async fn evict(&self, key: &str, topic: Option<&str>) -> Result<(), AdapterError> {
        let (key, topic) = (key.to_owned(), topic.map(str::to_owned));
        self.end_all(End::User { key, topic }).await?;
        self.0.stats.n_evicted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn end_all(&self, end: End) -> Result<(), AdapterError> {
        let (answer, answered) = oneshot::channel();
        // The task's queue can be full of renewals: this waits for its turn.
        let sent = self.0.inbox.send(Command::EndAll { end, answer }).await;
        sent.map_err(|_| AdapterError::Closed)?;
        answered.await.unwrap_or(Err(AdapterError::Closed))
    }

    fn ask(&self, command: Command) -> Result<(), PeopleError> {
        self.0.inbox.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                let max = MAX_COMMANDS;
                if let Some(n_left_out) = self.0.busy_log.may_log() {
                    tracing::warn!(max, n_left_out, "too many requests of backends wait");
                }
                PeopleError::Busy { max }
            }
            mpsc::error::TrySendError::Closed(_) => PeopleError::Closed,
        })
    }

    /// Returns the nodes that a key is present in a topic from, without this one.
    pub(crate) fn other_nodes(&self, name: &Name) -> Vec<String> {
        let entry = self.0.presence.entry(&name.topic, &name.key);
        let own = self.0.presence.pubsub().node_name();
        let nodes = entry.iter().flat_map(|entry| entry.metas());
        let nodes = nodes.map(|meta| meta.node().as_str());
        let mut nodes: Vec<String> = nodes.filter(|node| *node != own).map(Into::into).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

#[cfg(test)]
mod tests;
