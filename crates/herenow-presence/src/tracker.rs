//! [`Tracker`]: the pool of shards of this node, their tasks, and the way to each.
//!
//! A topic belongs to one shard, by a hash that all nodes share. Each shard has a driver and a
//! notifier, and an observer if somebody handles metas. The tasks end when the tracker is dropped
//! or shut down; a task that panics closes its shard's queue, so that callers get an error rather
//! than wait.

mod writes;

use std::future::Future;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use herenow_core::{Incarnation, Key, NodeName, ReplicaId, Shard, ShardIndex, Topic};
use herenow_pubsub::Link;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Clock, Misfits, Outbox, Pulse, open_link};
use crate::config::ConfigError;
use crate::driver::{Driver, Part, nodes_up};
use crate::group::{Entries, Snapshot};
use crate::notifier::{Notifier, Shared};
use crate::observer::{Hook, ObserverQueue};
use crate::places::first_of;
use crate::queue::{Command, ShardQueue};
use crate::status::ClusterStatus;
use crate::view::{Views, largest_of};

/// All shards of this node.
pub(crate) struct Tracker {
    parts: Box<[Part]>,
    shared: Arc<Shared>,
    is_clustered: bool,
    /// Told by drivers that meet a peer, which is to learn this node's versions.
    beat_soon: Arc<Notify>,
    misfits: Arc<Misfits>,
    identity: (NodeName, Incarnation),
    cancel: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Tracker {
    /// Starts all tasks.
    pub(crate) fn start(shared: &Arc<Shared>, observer: Option<Hook>) -> Result<Self, ConfigError> {
        let config = &shared.config;
        config.validate()?;
        let parts: Box<[Part]> = (0..config.n_shards.get())
            .map(|_| Part {
                queue: Arc::new(ShardQueue::new(config.max_queued.get())),
                views: Arc::default(),
                places: Arc::default(),
                inbox: Arc::default(),
                modes: Arc::default(),
                announced: Arc::new(AtomicU64::new(0)),
            })
            .collect();
        let (beat_soon, misfits, heard) = (Arc::default(), Arc::default(), Arc::default());
        let queues = parts.iter().map(|part| part.queue.clone()).collect();
        let link = open_link(shared, queues, &misfits, &heard, &beat_soon)?;
        let node =
            NodeName::new(shared.pubsub.node_name()).map_err(|_| ConfigError::OutOfRange {
                field: "node name bytes",
                value: shared.pubsub.node_name().len(),
                max: herenow_core::MAX_NODE_NAME_BYTES,
            })?;
        let incarnation = Incarnation(nanos_since_epoch());
        let tracker = Self {
            parts,
            shared: shared.clone(),
            is_clustered: link.is_some(),
            beat_soon,
            misfits,
            identity: (node.clone(), incarnation),
            cancel: CancellationToken::new(),
            tasks: Mutex::default(),
        };
        tracker.spawn_shards(&node, incarnation, link.as_ref(), observer.as_ref())?;
        if let Some(link) = link {
            let versions = tracker
                .parts
                .iter()
                .map(|part| part.announced.clone())
                .collect();
            let (config, metrics) = (config.clone(), shared.metrics.clone());
            let beat_soon = tracker.beat_soon.clone();
            let pulse = Pulse {
                heard,
                beat_soon,
                link,
                node,
                incarnation,
                versions,
                config,
                metrics,
            };
            tracker.spawn(None, pulse.run());
        }
        Ok(tracker)
    }

    fn spawn_shards(
        &self,
        node: &NodeName,
        incarnation: Incarnation,
        link: Option<&Arc<Link>>,
        observer: Option<&Hook>,
    ) -> Result<(), ConfigError> {
        let (shared, clock) = (&self.shared, Clock::new());
        let mut config = shared.config.shard.clone();
        if config.hash_seed == 0 {
            config.hash_seed = random_seed();
        }
        let sweeps = Arc::new(Semaphore::new(n_sweepers()));
        let mut drivers = Vec::with_capacity(self.parts.len());
        for (index, part) in (0u16..).zip(&self.parts) {
            let id = ReplicaId {
                node: node.clone(),
                incarnation,
                shard: ShardIndex(index),
            };
            let shard = Shard::new(&config, id, clock.now())?;
            let metrics = shared.metrics.clone();
            drivers.push(Driver {
                nodes: nodes_up(&shard),
                shard,
                part: part.clone(),
                outbox: Outbox {
                    link: link.cloned(),
                    shard: index,
                    n_shards: shared.config.n_shards.get(),
                    beat_soon: self.beat_soon.clone(),
                    metrics: metrics.clone(),
                },
                sweeps: sweeps.clone(),
                clock,
                config: shared.config.clone(),
                metrics,
                version: 0,
                replies: Vec::new(),
            });
        }
        for (driver, part) in drivers.into_iter().zip(&self.parts) {
            self.spawn(Some(&part.queue), driver.run());
            let queue = observer.map(|hook| self.spawn_observer(hook, part));
            let published = (part.views.clone(), part.modes.clone());
            let notifier = Notifier::new(shared.clone(), published, part.inbox.clone(), queue);
            self.spawn(Some(&part.queue), notifier.run());
        }
        Ok(())
    }

    fn spawn_observer(&self, hook: &Hook, part: &Part) -> Arc<ObserverQueue> {
        let (config, metrics) = (self.shared.config.clone(), self.shared.metrics.clone());
        let queue = Arc::new(ObserverQueue::new(
            hook,
            config.max_observed,
            config.max_pending_changes,
        ));
        let (its_queue, hook) = (queue.clone(), hook.handler.clone());
        self.spawn(Some(&part.queue), async move {
            its_queue
                .run(&*hook, config.observe_deadline, &metrics)
                .await;
        });
        queue
    }

    /// Spawns a task that ends with the tracker; if it ends by a panic, `queue` is closed.
    fn spawn(
        &self,
        queue: Option<&Arc<ShardQueue>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let cancel = self.cancel.clone();
        let closer = Closer(queue.cloned());
        let handle = tokio::spawn(async move {
            let closer = closer;
            tokio::select! {
                () = task => {}
                () = cancel.cancelled() => {}
            }
            drop(closer);
        });
        self.tasks.lock().push(handle);
    }

    pub(crate) fn part(&self, topic: &str) -> &Part {
        let shard = ShardIndex::of_topic(topic, self.shared.config.n_shards);
        &self.parts[usize::from(shard.0)]
    }

    pub(crate) fn views(&self, topic: &str) -> &Arc<Views> {
        &self.part(topic).views
    }

    /// Returns what is published of the topic.
    pub(crate) fn snapshot(&self, topic: &str) -> Arc<Snapshot> {
        let views = self.views(topic);
        if let Some(snapshot) = views.find(topic) {
            return snapshot;
        }
        match Topic::new(topic) {
            Ok(topic) => views.read(&topic),
            // Nobody can be in a topic that cannot be: any name will do for its emptiness.
            Err(_) => {
                let name = Topic::new("-").expect("one character is a topic");
                Arc::new(Snapshot::new(name, 0, Entries::empty()))
            }
        }
    }

    pub(crate) fn topics(&self) -> Vec<(Topic, usize)> {
        self.parts
            .iter()
            .flat_map(|part| part.views.topics())
            .collect()
    }

    /// Returns the `max` topics with the most presences, the largest first.
    pub(crate) fn largest_topics(&self, max: usize) -> Vec<(Topic, usize)> {
        largest_of(self.parts.iter().map(|part| &part.views), max)
    }

    /// Returns the first `max` topics that begin with `prefix` and come after `after`, ascending.
    pub(crate) fn first_topics(&self, prefix: &str, after: Option<&str>, max: usize) -> Vec<Topic> {
        let names: Vec<_> = self.parts.iter().map(|part| part.views.names()).collect();
        first_of(&names, prefix, after, max)
    }

    /// Returns the first `max` topics that a key is in and that come after `after`, ascending.
    pub(crate) fn topics_of_key(&self, key: &Key, after: Option<&str>, max: usize) -> Vec<Topic> {
        let places: Vec<_> = self
            .parts
            .iter()
            .map(|part| part.places.find(key))
            .collect();
        first_of(&places, "", after, max)
    }

    /// Returns how much waits for all shards.
    pub(crate) fn n_queued(&self) -> u64 {
        self.parts.iter().map(|part| part.queue.len() as u64).sum()
    }

    /// Returns the number of topics and of presences.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let sizes = self.parts.iter().map(|part| part.views.sizes());
        sizes.fold((0, 0), |(topics, metas), (t, m)| (topics + t, metas + m))
    }

    pub(crate) async fn flush(&self) {
        self.ask_all(Command::Flush).await;
    }

    /// Tells the other nodes that this one's presences are gone; here nothing changes.
    pub(crate) async fn say_bye(&self) {
        if self.is_clustered {
            self.ask_all(Command::Bye).await;
        }
    }

    /// Returns what every shard knows of itself and its peers.
    pub(crate) async fn status(&self) -> ClusterStatus {
        let mut waiting = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let (answer, answered) = oneshot::channel();
            part.queue.push(Command::Inspect(answer));
            waiting.push(answered);
        }
        let mut shards = Vec::with_capacity(waiting.len());
        for answered in waiting {
            shards.extend(answered.await.ok());
        }
        let (node, incarnation) = &self.identity;
        ClusterStatus::of(node.clone(), *incarnation, &shards, self.misfits.list())
    }

    pub(crate) async fn shutdown(&self) {
        self.flush().await;
        self.say_bye().await;
        self.cancel.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            let _ = task.await; // A panic was logged when it closed its shard.
        }
    }

    async fn ask_all(&self, command: impl Fn(oneshot::Sender<()>) -> Command) {
        let mut waiting = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let (answer, answered) = oneshot::channel();
            part.queue.push(command(answer));
            waiting.push(answered);
        }
        for answered in waiting {
            let _ = answered.await; // Closed: there is nothing left to wait for.
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Closes a shard's queue when the task that holds it ends.
struct Closer(Option<Arc<ShardQueue>>);

impl Drop for Closer {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.close();
        }
        if std::thread::panicking() {
            tracing::error!("a presence task panicked; its shard is closed");
        }
    }
}

/// Returns how many drivers may do a slice of a sweep at the same time: a quarter of the cores.
fn n_sweepers() -> usize {
    let n_cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    (n_cores / 4).max(1)
}

/// Returns a seed that strangers cannot know, for hash maps that they fill.
fn random_seed() -> u64 {
    // Without a random source the clock is better than a constant.
    getrandom::u64().unwrap_or_else(|_| nanos_since_epoch())
}

fn nanos_since_epoch() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
