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
mod orders;
mod elsewhere;
mod leases;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herenow_presence::{Presence, TrackError, UpdateError};
use herenow_pubsub::{AdapterError, LinkError};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::leases::{Command, Leases, Write};
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

    /// Asks the other nodes to end a presence, if one of them holds it.
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
                tracing::warn!(max, "too many requests of backends wait");
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
mod tests {
    use herenow_presence::{
        Event, Grace, LeaveReason, PresenceConfig, PresenceMeta, Watch, WatchEvent,
    };
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
            Self::start_with(cluster, node, PresenceConfig::default()).await
        }

        /// With a grace of five minutes.
        async fn with_grace(cluster: &MemoryCluster, node: &str) -> Self {
            let mut config = PresenceConfig::default();
            let grace = Grace::of(Duration::from_mins(5));
            config.shard.graces = vec![("room:*".to_owned(), grace)];
            Self::start_with(cluster, node, config).await
        }

        async fn start_with(cluster: &MemoryCluster, node: &str, config: PresenceConfig) -> Self {
            let pubsub = PubSub::new(cluster.adapter(node));
            let presence = Presence::builder(&pubsub).config(config).start().unwrap();
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
            self.people.hold(name(), change, MINUTE).await.unwrap()
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
        let elsewhere = b.people.renew(name(), Change::Keep, None).await;
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
        b.people.end_elsewhere(name()).await.unwrap();
        assert_eq!(b.next().await, "-a Left, last");

        a.put("tv").await;
        assert_eq!(b.next().await, "+a");
        b.people.evict("ada", Some("room:2")).await.unwrap();
        b.people.evict("bob", None).await.unwrap();
        b.people.evict("ada", None).await.unwrap();
        assert_eq!(b.next().await, "-a Evicted, last");
        // They are counted once in the cluster: where they were asked for.
        let n_evicted = |node: &Node| node.people.stats().n_evicted.load(Ordering::Relaxed);
        assert_eq!((n_evicted(&a), n_evicted(&b)), (0, 3));
        for expected in ["+a", "-a Left, last", "+a", "-a Evicted, last"] {
            assert_eq!(a.next().await, expected);
        }
    }

    /// The metas of the key with their nodes, as a node shows them.
    fn shown(node: &Node) -> Vec<(String, Value)> {
        let entry = node.presence.entry("room:1", "ada");
        let metas = entry.iter().flat_map(|entry| entry.metas());
        let show = |meta: &PresenceMeta| {
            let mut json: Value = meta.read().unwrap();
            let fields = json.as_object_mut().unwrap();
            fields.retain(|name, _| !name.starts_with("phx_ref"));
            (meta.node().to_string(), json)
        };
        metas.map(show).collect()
    }

    /// Time in which all that was sent arrives; it is paused time.
    async fn settled() {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1732_a_lease_that_moves_keeps_its_meta_and_since_when_and_takes_no_clients() {
        let cluster = MemoryCluster::new();
        let a = Node::start(&cluster, "a").await;
        let b = Node::start(&cluster, "b").await;
        let of_client = json!({ "device": "a client's own" });
        let client = a.presence.track_on("room:1", "ada", &of_client);
        let _client = client.await.unwrap();
        let own = ("a".to_owned(), of_client);
        let moved = |node: &str, device: &str| {
            let meta = json!({ "device": device, "online_at": "5" });
            [own.clone(), (node.to_owned(), meta)]
        };
        let meta = json!({ "device": "phone", "online_at": "5" });
        let change = Change::Set(meta.as_object().cloned().unwrap());
        a.people.hold(name(), change, MINUTE).await.unwrap();
        settled().await;
        b.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
        settled().await;
        assert_eq!(shown(&a), moved("b", "phone"));
        b.put("tablet").await;
        settled().await;
        a.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
        settled().await;
        assert_eq!(shown(&b), moved("a", "tablet"));
        b.put("tv").await;
        settled().await;
        assert_eq!(shown(&a), moved("b", "tv"));

        // A newcomer is told who holds what; and what has ended is not taken along.
        let c = Node::start(&cluster, "c").await;
        settled().await;
        c.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
        settled().await;
        assert_eq!(shown(&a), moved("c", "tv"));
        assert!(c.people.end(name()).await.unwrap());
        settled().await;
        b.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
        settled().await;
        let shown = shown(&a);
        assert_eq!((&shown[0], shown.len()), (&own, 2));
        assert_eq!(shown[1].1["device"], Value::Null);
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1751_a_lease_keeps_its_meta_also_at_a_node_that_missed_how_it_began() {
        let cluster = MemoryCluster::new();
        let a = Node::start(&cluster, "a").await;
        let b = Node::start(&cluster, "b").await;
        let meta = json!({ "device": "phone", "online_at": "5" });
        let change = Change::Set(meta.as_object().cloned().unwrap());
        cluster.partition(&["b"]);
        a.people.hold(name(), change, MINUTE).await.unwrap();
        cluster.heal(); // And nobody says that b is back.
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(30)).await;
            a.people.renew(name(), Change::Keep, None).await.unwrap();
        }
        b.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
        settled().await;
        assert_eq!(shown(&a), [("b".to_owned(), meta)]);
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1733_of_two_nodes_that_could_not_talk_the_one_asked_last_keeps_a_lease() {
        let cluster = MemoryCluster::new();
        let a = Node::start(&cluster, "a").await;
        let b = Node::start(&cluster, "b").await;
        let nodes = |at: &Node| -> Vec<String> {
            let shown = shown(at).into_iter();
            let mut nodes: Vec<String> = shown.map(|(node, _)| node).collect();
            nodes.sort();
            nodes
        };
        let both_hold = async || {
            cluster.partition(&["b"]);
            b.put("phone").await;
            a.put("phone").await;
            cluster.heal();
            settled().await;
            assert_eq!((nodes(&a), nodes(&b).len()), (nodes(&b), 2));
        };
        both_hold().await;
        cluster.report_seen("b");
        settled().await;
        assert_eq!((nodes(&a), nodes(&b)), (vec!["a".into()], vec!["a".into()]));

        // An engine need not say who is back: the next renewal decides.
        both_hold().await;
        assert!(!b.put("phone").await.is_new);
        settled().await;
        assert_eq!((nodes(&a), nodes(&b)), (vec!["b".into()], vec!["b".into()]));

        // Whoever ends it ends both; also where that is heard later.
        both_hold().await;
        assert!(a.people.end(name()).await.unwrap());
        settled().await;
        assert_eq!((shown(&a), shown(&b)), (Vec::new(), Vec::new()));
        both_hold().await;
        cluster.partition(&["b"]);
        assert!(a.people.end(name()).await.unwrap());
        cluster.heal();
        cluster.report_seen("b");
        settled().await;
        assert_eq!((shown(&a), shown(&b)), (Vec::new(), Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1752_the_end_of_a_lease_ends_its_grace_and_none_of_a_clients_own_presence() {
        let cluster = MemoryCluster::new();
        let a = Node::with_grace(&cluster, "a").await;
        let b = Node::with_grace(&cluster, "b").await;
        let counts = || (a.presence.count("room:1"), b.presence.count("room:1"));
        // A client that was cut off, also one that comes after a lease of its key.
        for _ in 0..2 {
            let client = a.presence.track_on("room:1", "ada", json!({}));
            let client = client.await.unwrap();
            client.end_with(LeaveReason::Closed);
            settled().await;
            drop(client);
            settled().await;
            for node in [&a, &b] {
                assert!(!node.people.end(name()).await.unwrap());
                node.people.end_elsewhere(name()).await.unwrap();
                settled().await;
                assert_eq!(counts(), (1, 1));
            }
            // The lease takes the client's place, and is ended while in grace, on either node.
            for node in [&a, &b] {
                a.put("phone").await;
                tokio::time::sleep(Duration::from_secs(63)).await;
                assert_eq!(a.people.stats().n_leases.load(Ordering::Relaxed), 0);
                assert_eq!(counts(), (1, 1));
                assert!(node.people.end(name()).await.unwrap());
                settled().await;
                assert_eq!(counts(), (0, 0));
                assert!(!node.people.end(name()).await.unwrap());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1752_a_lease_in_grace_whose_node_is_gone_can_be_ended_by_who_knew_of_it() {
        let cluster = MemoryCluster::new();
        let a = Node::with_grace(&cluster, "a").await;
        let b = Node::with_grace(&cluster, "b").await;
        a.put("phone").await;
        settled().await;
        cluster.kill("a");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(b.presence.count("room:1"), 1);
        assert!(b.people.end(name()).await.unwrap());
        settled().await;
        assert_eq!(b.presence.count("room:1"), 0);
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
        let late = a.people.hold(name(), Change::Keep, MINUTE).await;
        assert!(matches!(late, Err(PeopleError::Closed)));
    }
}
