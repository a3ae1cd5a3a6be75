//! [`Notifier`]: from what a shard published to what its subscribers get.
//!
//! One task per shard. It owns a lane per topic that has something under way, and nothing else:
//!
//! ```text
//! driver ──batches──▶ inbox ──▶ lane of the topic: waiting for its window
//!                                  │ due
//!                                  ├─ no fetch ──▶ dispatch, observe, lane gone
//!                                  └─ fetch ─────▶ lane busy; what comes meanwhile waits in it
//!                                        └─ fields or deadline ──▶ dispatch, observe, next round
//! ```
//!
//! A lane has one diff under way at most, so the diffs of a topic leave in order; lanes do not wait
//! for one another. Between its diffs, a topic's mode follows its size, see
//! [`modes`](crate::modes). Without fetch and window a batch is dispatched in the same turn,
//! without a task or a timer. What a topic of very many subscribers gets is handed out in turns,
//! other tasks in between; the shard's other topics wait for that. What must never happen: a change
//! in no diff, or in two; a diff before an earlier one of its topic; a lane that stays when nothing
//! is under way.

mod modes;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use herenow_core::{Key, Topic};
use herenow_protocol::event::PRESENCE_DIFF;
use herenow_pubsub::{Payload, PubSub};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use self::modes::Room;
use crate::config::PresenceConfig;
use crate::diff::{Event, Lives, PresenceDiff, Stamped};
use crate::fetch::Fetcher;
use crate::group::{FieldMap, Presences, Snapshot};
use crate::metrics::Metrics;
use crate::modes::Modes;
use crate::observer::ObserverQueue;
use crate::view::Views;

/// Batches that wait for the notifier before the driver waits for it.
const MAX_BATCHES: usize = 8192;
/// Deliveries to subscribers before other tasks get their turn: a few milliseconds.
const MAX_DELIVERIES: NonZero<usize> = NonZero::new(4096).unwrap();

/// Room for lanes that is kept when none is left.
const MIN_SHRINK: usize = 64;

/// The changes of one topic in one batch of its shard.
pub(crate) struct Batch {
    pub(crate) changes: Vec<Stamped>,
    /// The topic after them.
    pub(crate) after: Arc<Snapshot>,
    /// The nodes that were up then.
    pub(crate) nodes: Lives,
}

/// What waits for one notifier.
#[derive(Default)]
pub(crate) struct Inbox {
    items: Mutex<Vec<Item>>,
    wake: Notify,
    has_room: Notify,
}

pub(crate) enum Item {
    Batch(Batch),
    Flush {
        until: u64,
        done: oneshot::Sender<()>,
    },
}

impl Inbox {
    /// Adds the batches of several topics, waiting while too many wait. The notifier never blocks,
    /// so that is short.
    pub(crate) async fn push(&self, batches: impl Iterator<Item = Batch>) {
        while self.items.lock().len() >= MAX_BATCHES {
            self.has_room.notified().await;
        }
        self.items.lock().extend(batches.map(Item::Batch));
        self.wake.notify_one();
    }

    /// Has `done` answered when all changes up to version `until` are out.
    pub(crate) fn flush(&self, until: u64, done: oneshot::Sender<()>) {
        self.items.lock().push(Item::Flush { until, done });
        self.wake.notify_one();
    }

    /// Takes all that waits.
    pub(crate) fn take(&self) -> Vec<Item> {
        let items = std::mem::take(&mut *self.items.lock());
        self.has_room.notify_one();
        items
    }
}

/// A topic that has something under way.
struct Lane {
    pending: Vec<Stamped>,
    after: Arc<Snapshot>,
    nodes: Lives,
    state: LaneState,
}

enum LaneState {
    /// Its changes leave at this time; it is on the agenda.
    Waiting(Instant),
    /// These changes wait for their fields.
    Fetching {
        changes: Vec<Stamped>,
        after: Arc<Snapshot>,
    },
}

impl Lane {
    /// Returns the version of the earliest change that is not out yet.
    fn oldest(&self) -> u64 {
        let first = match &self.state {
            LaneState::Fetching { changes, .. } => changes.first(),
            LaneState::Waiting(_) => self.pending.first(),
        };
        first.map_or(u64::MAX, |change| change.version)
    }
}

/// The parts that all notifiers share.
pub(crate) struct Shared {
    pub(crate) pubsub: PubSub,
    pub(crate) config: Arc<PresenceConfig>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fetcher: Option<Arc<Fetcher>>,
}

type Fetching = Pin<Box<dyn Future<Output = (Topic, FieldMap)> + Send>>;

/// What turns the batches of one shard into diffs.
pub(crate) struct Notifier {
    shared: Arc<Shared>,
    views: Arc<Views>,
    inbox: Arc<Inbox>,
    observer: Option<Arc<ObserverQueue>>,
    lanes: HashMap<Topic, Lane>,
    agenda: BTreeSet<(Instant, Topic)>,
    modes: Arc<Modes>,
    rooms: HashMap<Topic, Room>,
    counts: BTreeSet<(Instant, Topic)>,
    fetches: FuturesUnordered<Fetching>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    /// Deliveries since other tasks had their turn.
    n_deliveries: usize,
}

impl Notifier {
    pub(crate) fn new(
        shared: Arc<Shared>,
        (views, modes): (Arc<Views>, Arc<Modes>),
        inbox: Arc<Inbox>,
        observer: Option<Arc<ObserverQueue>>,
    ) -> Self {
        Self {
            shared,
            views,
            inbox,
            observer,
            lanes: HashMap::new(),
            agenda: BTreeSet::new(),
            modes,
            rooms: HashMap::new(),
            counts: BTreeSet::new(),
            fetches: FuturesUnordered::new(),
            flushes: Vec::new(),
            n_deliveries: 0,
        }
    }

    /// Runs for ever.
    pub(crate) async fn run(mut self) {
        loop {
            for item in self.inbox.take() {
                self.on_item(item).await;
                self.give_way().await;
            }
            let now = Instant::now();
            while let Some(topic) = self.pop_due(now) {
                self.on_due(topic).await;
                self.give_way().await;
            }
            self.tell_counts(now).await;
            self.answer_flushes();
            if self.lanes.is_empty() && self.lanes.capacity() > MIN_SHRINK {
                self.lanes = HashMap::new();
            }
            let next = self.agenda.first().into_iter().chain(self.counts.first());
            let next_due = next.map(|(due, _)| *due).min();
            tokio::select! {
                () = self.inbox.wake.notified() => {}
                Some((topic, fields)) = self.fetches.next(), if !self.fetches.is_empty() => {
                    self.on_fetched(topic, fields).await;
                }
                () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
            }
        }
    }

    async fn on_item(&mut self, item: Item) {
        match item {
            Item::Batch(batch) => self.on_batch(batch).await,
            Item::Flush { until, done } => {
                self.flushes.push((until, done));
                let topics: Vec<Topic> =
                    self.agenda.iter().map(|(_, topic)| topic.clone()).collect();
                for topic in topics {
                    self.reschedule(&topic, Instant::now());
                }
            }
        }
    }

    async fn on_batch(&mut self, batch: Batch) {
        let topic = batch.after.topic().clone();
        if let Some(lane) = self.lanes.get_mut(&topic) {
            self.shared.metrics.n_coalesced.count();
            lane.pending.extend(batch.changes);
            lane.after = batch.after;
            lane.nodes = batch.nodes;
            let is_full = lane.pending.len() >= self.shared.config.max_pending_changes;
            if is_full && matches!(lane.state, LaneState::Waiting(_)) {
                self.reschedule(&topic, Instant::now());
            }
            return;
        }
        let n_subscribers = self.shared.pubsub.n_subscribers(topic.as_str());
        let window = self.shared.config.window_of(topic.as_str());
        let window = self.mode_of(&topic).window(window).length(n_subscribers);
        if window.is_zero() && self.shared.fetcher.is_none() {
            return self
                .dispatch(batch.changes, batch.after, batch.nodes, None)
                .await;
        }
        let is_flushing = !self.flushes.is_empty();
        let due = Instant::now() + if is_flushing { Duration::ZERO } else { window };
        let state = LaneState::Waiting(due);
        self.agenda.insert((due, topic.clone()));
        self.lanes.insert(
            topic,
            Lane {
                pending: batch.changes,
                after: batch.after,
                nodes: batch.nodes,
                state,
            },
        );
    }

    /// Moves a waiting lane to another time.
    fn reschedule(&mut self, topic: &Topic, due: Instant) {
        if let Some(lane) = self.lanes.get_mut(topic)
            && let LaneState::Waiting(before) = &mut lane.state
        {
            self.agenda.remove(&(*before, topic.clone()));
            self.agenda.insert((due, topic.clone()));
            *before = due;
        }
    }

    /// Lets other tasks run after many deliveries.
    async fn give_way(&mut self) {
        if self.n_deliveries >= MAX_DELIVERIES.get() {
            self.n_deliveries = 0;
            yield_now().await;
        }
    }

    fn pop_due(&mut self, now: Instant) -> Option<Topic> {
        let (due, _) = self.agenda.first()?;
        if *due > now {
            return None;
        }
        self.agenda.pop_first().map(|(_, topic)| topic)
    }

    async fn on_due(&mut self, topic: Topic) {
        let Some(mut lane) = self.lanes.remove(&topic) else {
            return;
        };
        let changes = std::mem::take(&mut lane.pending);
        match self.fetching(&topic, &changes) {
            Some(fetching) => {
                self.fetches.push(fetching);
                let after = lane.after.clone();
                lane.state = LaneState::Fetching { changes, after };
                self.lanes.insert(topic, lane);
            }
            None => self.dispatch(changes, lane.after, lane.nodes, None).await,
        }
    }

    /// Returns the look-up that these changes need, if somebody wants to see them.
    fn fetching(&self, topic: &Topic, changes: &[Stamped]) -> Option<Fetching> {
        let fetcher = self.shared.fetcher.clone()?;
        let observer = self.observer.as_ref();
        let is_observed = observer.is_some_and(|observer| observer.wants_fields());
        if !is_observed && self.shared.pubsub.n_subscribers(topic.as_str()) == 0 {
            return None;
        }
        let mut keys: Vec<Key> = changes
            .iter()
            .map(|change| change.event.key().clone())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let (topic, views) = (topic.clone(), self.views.clone());
        Some(Box::pin(async move {
            let fetched = fetcher.fields(&views, &topic, keys).await;
            (topic, fetched.fields)
        }))
    }

    async fn on_fetched(&mut self, topic: Topic, fields: FieldMap) {
        let Some(lane) = self.lanes.remove(&topic) else {
            return;
        };
        let LaneState::Fetching { changes, after } = lane.state else {
            return;
        };
        let nodes = lane.nodes.clone();
        let fields = Some(Arc::new(fields));
        self.dispatch(changes, after, nodes, fields).await;
        if !lane.pending.is_empty() {
            // It waited for longer than a window already, most likely.
            let due = Instant::now();
            self.agenda.insert((due, topic.clone()));
            let state = LaneState::Waiting(due);
            self.lanes.insert(
                topic,
                Lane {
                    pending: lane.pending,
                    after: lane.after,
                    nodes: lane.nodes,
                    state,
                },
            );
        }
    }

    async fn dispatch(
        &mut self,
        changes: Vec<Stamped>,
        after: Arc<Snapshot>,
        nodes: Lives,
        fields: Option<Arc<FieldMap>>,
    ) {
        let topic = after.topic().clone();
        if let Some(fetcher) = &self.shared.fetcher {
            let gone = changes.iter().filter_map(|change| match &change.event {
                Event::Left {
                    last: true, meta, ..
                } => Some(meta.key().clone()),
                Event::Left { .. } | Event::Joined { .. } | Event::Updated { .. } => None,
            });
            let gone: HashSet<Key> = gone.collect();
            fetcher.forget(&self.views, &topic, gone.into_iter());
        }
        let n_subscribers = self.shared.pubsub.n_subscribers(topic.as_str());
        let pivot = changes.last().map(|change| change.event.key().clone());
        let observer = self.observer.clone();
        let observer = observer.filter(|observer| observer.is_on());
        if n_subscribers == 0 && observer.is_none() {
            return self.mind_mode(&after, n_subscribers, pivot).await;
        }
        let changes = (changes, after.entries().n_metas());
        let diff = PresenceDiff::new(topic.clone(), changes, nodes, fields);
        let diff = Arc::new(diff);
        self.shared.metrics.n_diffs.count();
        let payload = Payload::Local(diff.clone());
        self.deliver(&topic, n_subscribers, PRESENCE_DIFF, payload)
            .await;
        if let Some(observer) = observer {
            let presences = Presences::new(after.clone(), None);
            observer.push(diff, presences, &self.shared.metrics);
        }
        self.mind_mode(&after, n_subscribers, pivot).await;
    }

    /// Delivers to the subscribers of a topic, of which there were so many a moment ago: to many of
    /// them in turns, with other tasks in between.
    ///
    /// Who joins between two turns has the list by then, and takes nothing from it that is older.
    async fn deliver(&mut self, topic: &Topic, n_subscribers: usize, event: &str, what: Payload) {
        let (pubsub, topic) = (&self.shared.pubsub, topic.as_str());
        if n_subscribers <= MAX_DELIVERIES.get() {
            self.n_deliveries += n_subscribers;
            return pubsub.local_broadcast(topic, event, what);
        }
        pubsub
            .local_broadcast_in_turns(topic, event, what, MAX_DELIVERIES)
            .await;
        self.n_deliveries = 0;
    }

    fn answer_flushes(&mut self) {
        if self.flushes.is_empty() {
            return;
        }
        let oldest = self
            .lanes
            .values()
            .map(Lane::oldest)
            .min()
            .unwrap_or(u64::MAX);
        let (done, waiting) = std::mem::take(&mut self.flushes)
            .into_iter()
            .partition(|(until, _)| *until < oldest);
        self.flushes = waiting;
        for (_, answer) in done {
            match &self.observer {
                Some(observer) => observer.flush(answer),
                None => {
                    let _ = answer.send(()); // Whoever waited may be gone.
                }
            }
        }
    }
}
