//! [`People`]: presences that this node holds for backends.
//!
//! One task owns the leases. A presence is held as long as its lease; who holds it renews it, and a
//! lease that runs out is a leave. A lease belongs to the node that was asked last: asked at another
//! one, it moves there, and the node that had it lets go as soon as it hears of it, so that a load
//! balancer may send renewals anywhere and a backend may go on when a node is lost. Of two nodes that
//! are asked at once the later one keeps it, by their clocks and then their names.
//!
//! ```text
//! routes ── command ──▶ inbox (bounded) ──▶ the task: leases, by topic and key, and by end
//! other nodes ── link ──▶ heard (bounded) ──▶   │ tracks, updates, lets go
//!                                               ▼
//!                                            Presence
//! ```

mod leases;
mod link;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herenow_presence::{Presence, TrackError, UpdateError};
use herenow_pubsub::{AdapterError, Link, LinkError};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::leases::{Command, Leases};
use self::link::{Heard, Message};

/// Commands that wait for the task at most.
const MAX_COMMANDS: usize = 1_024;

/// Acts for backends. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct People(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    presence: Presence,
    link: Arc<Link>,
    inbox: mpsc::Sender<Command>,
    stats: Arc<Stats>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What was counted, and the leases held now.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) n_leases: AtomicU64,
    pub(crate) n_expired: AtomicU64,
    pub(crate) n_moved: AtomicU64,
    pub(crate) n_evicted: AtomicU64,
    pub(crate) n_refused: AtomicU64,
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
    #[error("{MAX_COMMANDS} requests of backends wait already, which is the limit")]
    Busy,
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
        let (heard, messages) = Heard::new();
        let link = Arc::new(presence.pubsub().link("people", Arc::new(heard))?);
        let stats = Arc::<Stats>::default();
        let leases = Leases::new(presence.clone(), link.clone(), max_leases, stats.clone());
        let task = tokio::spawn(leases.run(commands, messages));
        Ok(Self(Arc::new(Inner {
            presence: presence.clone(),
            link,
            inbox,
            stats,
            task: Mutex::new(Some(task)),
        })))
    }

    /// Ends all leases and the task.
    pub(crate) async fn close(&self) {
        let task = self
            .0
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
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

    /// Makes `name.key` present in `name.topic` for `lease`, or renews that. Without `may_begin`
    /// it must be held here.
    pub(crate) async fn hold(
        &self,
        name: Name,
        change: Change,
        lease: Option<Duration>,
        may_begin: bool,
    ) -> Result<Held, PeopleError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Command::Hold {
            name,
            change,
            lease,
            may_begin,
            answer,
        })?;
        let held = answered.await.map_err(|_| PeopleError::Closed)?;
        if held.is_err() {
            self.0.stats.n_refused.fetch_add(1, Ordering::Relaxed);
        }
        held
    }

    /// Ends a presence that this node holds; false if it holds none.
    pub(crate) async fn end(&self, name: Name) -> Result<bool, PeopleError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Command::End { name, answer })?;
        answered.await.map_err(|_| PeopleError::Closed)
    }

    /// Asks the other nodes to end a presence, if one of them holds it.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] if the request was not accepted.
    pub(crate) fn end_elsewhere(&self, name: Name) -> Result<(), AdapterError> {
        self.0.link.broadcast(Message::End(name).encode())
    }

    /// Ends what nodes hold of a user in a topic, or in all topics, as evicted.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] if the other nodes cannot be told; then nothing is ended here either.
    pub(crate) async fn evict(&self, key: &str, topic: Option<&str>) -> Result<(), AdapterError> {
        let message = Message::Evict {
            key: key.to_owned(),
            topic: topic.map(str::to_owned),
        };
        self.0.link.broadcast(message.encode())?;
        // The task's queue can be full of renewals: an eviction waits for its turn.
        let _closed = self.0.inbox.send(Command::Heard(message)).await;
        Ok(())
    }

    fn ask(&self, command: Command) -> Result<(), PeopleError> {
        self.0.inbox.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.0.stats.n_refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(max = MAX_COMMANDS, "too many requests of backends wait");
                PeopleError::Busy
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
mod tests {
    use herenow_presence::{Event, Watch, WatchEvent};
    use herenow_pubsub::{MemoryCluster, PubSub};
    use serde_json::json;

    use super::*;

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    struct Node {
        presence: Presence,
        people: People,
        watch: Watch,
    }

    impl Node {
        async fn start(cluster: &MemoryCluster, node: &str) -> Self {
            let presence = Presence::new(&PubSub::new(cluster.adapter(node)));
            let people = People::start(&presence, 10).unwrap();
            let mut watch = presence.watch("room:1");
            assert!(matches!(watch.next().await, WatchEvent::State(_)));
            Self {
                presence,
                people,
                watch,
            }
        }

        async fn put(&self, device: &str) -> Held {
            let meta = json!({ "device": device }).as_object().cloned();
            let change = meta.map_or(Change::Keep, Change::Set);
            self.people
                .hold(name(), change, MINUTE, true)
                .await
                .unwrap()
        }

        /// What happens next, as `+node`, `+node again`, `-node reason`, `-node reason, last`.
        async fn next(&mut self) -> String {
            match self.watch.next().await {
                WatchEvent::Changed(Event::Joined {
                    meta, first: true, ..
                }) => {
                    format!("+{}", meta.node())
                }
                WatchEvent::Changed(Event::Joined {
                    meta, first: false, ..
                }) => {
                    format!("+{} again", meta.node())
                }
                WatchEvent::Changed(Event::Left {
                    meta, last, reason, ..
                }) => {
                    let last = if last { ", last" } else { "" };
                    format!("-{} {reason:?}{last}", meta.node())
                }
                other => format!("{other:?}"),
            }
        }
    }

    fn name() -> Name {
        Name {
            topic: "room:1".to_owned(),
            key: "ada".to_owned(),
        }
    }

    #[tokio::test]
    async fn srv_672_a_lease_moves_to_the_node_that_is_asked_and_back_without_a_gap() {
        let cluster = MemoryCluster::new();
        let mut a = Node::start(&cluster, "a").await;
        let mut b = Node::start(&cluster, "b").await;
        assert!(a.put("tv").await.is_new);
        assert_eq!((a.next().await, b.next().await), ("+a".into(), "+a".into()));
        let elsewhere = b.people.hold(name(), Change::Keep, None, false).await;
        assert!(matches!(elsewhere, Err(PeopleError::NotHeld)));
        assert_eq!(b.people.other_nodes(&name()), ["a"]);

        assert!(b.put("phone").await.is_new);
        assert_eq!(
            (a.next().await, a.next().await),
            ("+b again".into(), "-a Closed".into())
        );
        assert_eq!(
            (b.next().await, b.next().await),
            ("+b again".into(), "-a Closed".into())
        );
        assert!(!b.put("phone").await.is_new);
        assert!(a.put("tv").await.is_new);
        assert_eq!(
            (b.next().await, b.next().await),
            ("+a again".into(), "-b Closed".into())
        );
        assert_eq!(
            (a.next().await, a.next().await),
            ("+a again".into(), "-b Closed".into())
        );
        assert_eq!(b.people.stats().n_moved.load(Ordering::Relaxed), 1);
        assert_eq!(a.presence.count("room:1"), 1);
    }

    #[tokio::test]
    async fn srv_673_another_node_can_end_a_lease_or_evict_its_user() {
        let cluster = MemoryCluster::new();
        let mut a = Node::start(&cluster, "a").await;
        let mut b = Node::start(&cluster, "b").await;
        a.put("tv").await;
        assert_eq!(b.next().await, "+a");
        assert!(!b.people.end(name()).await.unwrap());
        b.people.end_elsewhere(name()).unwrap();
        assert_eq!(b.next().await, "-a Left, last");

        a.put("tv").await;
        assert_eq!(b.next().await, "+a");
        b.people.evict("ada", Some("room:2")).await.unwrap();
        b.people.evict("bob", None).await.unwrap();
        b.people.evict("ada", None).await.unwrap();
        assert_eq!(b.next().await, "-a Evicted, last");
        for expected in ["+a", "-a Left, last", "+a", "-a Evicted, last"] {
            assert_eq!(a.next().await, expected);
        }
    }

    #[tokio::test]
    async fn srv_674_when_the_task_ends_its_presences_leave_and_requests_are_refused() {
        let cluster = MemoryCluster::new();
        let mut a = Node::start(&cluster, "a").await;
        a.put("tv").await;
        a.people.close().await;
        assert_eq!(
            (a.next().await, a.next().await),
            ("+a".into(), "-a Closed, last".into())
        );
        let late = a.people.hold(name(), Change::Keep, MINUTE, true).await;
        assert!(matches!(late, Err(PeopleError::Closed)));
    }
}
