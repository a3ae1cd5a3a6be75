//! [`Presence`]: track, update, untrack; list, get, count; watch.

mod builder;
mod here;
mod reads;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use herenow_core::{LeaveReason, MetaRef};
use herenow_pubsub::{HistogramCounts, PubSub};
use serde::Serialize;
use serde_json::{Map, Value};

pub use self::builder::PresenceBuilder;
pub use self::here::Here;
pub use self::reads::Page;
use crate::config::PresenceConfig;
use crate::errors::{TrackError, UpdateError};
use crate::group::Presences;
use crate::meta;
use crate::metrics::PresenceStats;
use crate::notifier::Shared;
use crate::owner::{Holder, Owner};
use crate::queue::Updated;
use crate::status::ClusterStatus;
use crate::tracker::Tracker;
use crate::watch::Watch;

/// Who is here, right now, on every node. Cloning shares it.
///
/// Ends with its last clone, or by [`shutdown`](Self::shutdown).
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use herenow_presence::Presence;
/// use herenow_pubsub::PubSub;
/// use serde_json::json;
///
/// let presence = Presence::new(&PubSub::local());
/// let here = presence.track_on("room:1", "ada", json!({"status": "online"})).await.unwrap();
/// assert_eq!(presence.count("room:1"), 1);
/// assert_eq!(presence.list("room:1").await.keys()[0].as_str(), "ada");
/// drop(here); // Ada leaves.
/// # });
/// ```
#[derive(Clone)]
pub struct Presence {
    inner: Arc<Inner>,
}

struct Inner {
    tracker: Tracker,
    shared: Arc<Shared>,
}

impl Presence {
    /// Starts a presence system with the default settings, inside a tokio runtime.
    ///
    /// # Panics
    ///
    /// If another one with the default name runs on the same clustered `pubsub`; the builder gives
    /// it another name.
    pub fn new(pubsub: &PubSub) -> Self {
        Self::builder(pubsub)
            .start()
            .expect("only one presence system of a node has the default name")
    }

    /// Returns a builder, for settings and hooks.
    pub fn builder(pubsub: &PubSub) -> PresenceBuilder {
        PresenceBuilder {
            pubsub: pubsub.clone(),
            config: PresenceConfig::default(),
            make_fetcher: None,
            observer: None,
        }
    }

    /// Makes the holder's owner present in the holder's topic under `key`, until it ends.
    ///
    /// When this returns, readers of this node see it. `meta` is anything that serializes as a JSON
    /// object; fields `phx_ref` and `phx_ref_prev` are ours and dropped. If the returned future is
    /// dropped early, nothing is tracked.
    ///
    /// # Errors
    ///
    /// [`TrackError`]; nothing is tracked then.
    pub async fn track(
        &self,
        holder: &impl Holder,
        key: impl AsRef<str>,
        meta: impl Serialize,
    ) -> Result<MetaRef, TrackError> {
        let json = meta::prepare(&meta, self.config().max_meta_bytes);
        let tracked = match json {
            Ok(json) => {
                let tracker = &self.inner.tracker;
                tracker
                    .track(holder.owner(), holder.topic(), key.as_ref(), json)
                    .await
            }
            Err(error) => Err(error.into()),
        };
        self.counted(tracked).map(|row| row.meta_ref())
    }

    /// Makes a new owner present in a topic; the returned guard is the presence.
    ///
    /// # Errors
    ///
    /// As [`track`](Self::track).
    pub async fn track_on(
        &self,
        topic: &str,
        key: impl AsRef<str>,
        meta: impl Serialize,
    ) -> Result<Here, TrackError> {
        let owner = Owner::new();
        owner.end_with(LeaveReason::Left);
        let meta_ref = self.track(&owner.at(topic), key.as_ref(), meta).await?;
        let (topic, key) = (topic.to_owned(), key.as_ref().to_owned());
        Ok(Here {
            presence: self.clone(),
            owner,
            topic,
            key,
            meta_ref,
        })
    }

    /// Replaces the meta of a presence.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]; the presence is as it was, unless it is [`UpdateError::Late`].
    pub async fn update(
        &self,
        holder: &impl Holder,
        key: impl AsRef<str>,
        meta: impl Serialize,
    ) -> Result<MetaRef, UpdateError> {
        let json = meta::prepare(&meta, self.config().max_meta_bytes);
        let updated = match json {
            Ok(json) => {
                let tracker = &self.inner.tracker;
                tracker
                    .update(holder.owner(), holder.topic(), key.as_ref(), json, None)
                    .await
            }
            Err(error) => Err(error.into()),
        };
        self.counted(updated)
            .map(|updated| updated.row().meta_ref())
    }

    /// Changes the meta of a presence by a function, which gets it with its `phx_ref`.
    ///
    /// The function runs in the calling task, so that nobody else waits for it. Should another
    /// update of the same presence come between, it is called again with that one's meta. If it
    /// panics, nothing is changed.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), and [`UpdateError::Panicked`].
    pub async fn update_with(
        &self,
        holder: &impl Holder,
        key: impl AsRef<str>,
        mut change: impl FnMut(&mut Map<String, Value>) + Send,
    ) -> Result<MetaRef, UpdateError> {
        let always = |meta: &mut Map<String, Value>| {
            change(meta);
            Ok(())
        };
        self.try_update_with(holder, key, always).await
    }

    /// As [`update_with`](Self::update_with), by a function that can say no, and why.
    ///
    /// # Errors
    ///
    /// As [`update_with`](Self::update_with), and [`UpdateError::Refused`].
    pub async fn try_update_with(
        &self,
        holder: &impl Holder,
        key: impl AsRef<str>,
        mut change: impl FnMut(&mut Map<String, Value>) -> Result<(), String> + Send,
    ) -> Result<MetaRef, UpdateError> {
        loop {
            let attempt = self.attempt_update(holder, key.as_ref(), &mut change).await;
            match self.counted(attempt)? {
                Updated::Done(row) => return Ok(row.meta_ref()),
                Updated::Conflict(_) => {}
            }
        }
    }

    async fn attempt_update(
        &self,
        holder: &impl Holder,
        key: &str,
        change: &mut (impl FnMut(&mut Map<String, Value>) -> Result<(), String> + Send),
    ) -> Result<Updated, UpdateError> {
        let tracker = &self.inner.tracker;
        let (owner, topic) = (holder.owner(), holder.topic());
        let row = tracker.read_row(owner, topic, key).await?;
        let mut map = meta::to_map(&row);
        let outcome = catch_unwind(AssertUnwindSafe(|| change(&mut map)));
        let outcome = outcome.map_err(|_| UpdateError::Panicked)?;
        outcome.map_err(|reason| UpdateError::Refused { reason })?;
        let json = meta::prepare(&map, self.config().max_meta_bytes)?;
        tracker
            .update(owner, topic, key, json, Some(row.version()))
            .await
    }

    /// Ends one presence of the holder. False if there was none.
    pub async fn untrack(&self, holder: &impl Holder, key: impl AsRef<str>) -> bool {
        self.inner
            .tracker
            .untrack(holder.owner(), holder.topic(), key.as_ref())
            .await
    }

    /// Ends all presences of the holder's owner, in all topics, and returns how many there were.
    pub async fn untrack_all(&self, holder: &impl Holder) -> usize {
        self.inner.tracker.untrack_all(holder.owner()).await
    }

    /// Lets a key go that is in grace: it is not present any more, and readers of this node are
    /// told so, with this reason. Returns whether it was in grace here.
    ///
    /// Each node holds presences back for its own readers (see [`Grace`](crate::Grace)), so to let
    /// a user go everywhere, say it on every node.
    pub async fn end_grace(&self, topic: &str, key: &str, reason: LeaveReason) -> bool {
        self.inner.tracker.end_grace(topic, key, reason).await
    }

    /// Forgets all fields that `fetch` returned, because some are other ones now. Nobody is told;
    /// every list, and every diff whose look-up begins from now on, has those of after this.
    pub fn forget_fields(&self) {
        if let Some(fetcher) = &self.inner.shared.fetcher {
            fetcher.forget_all();
        }
    }

    /// Follows a topic: its state, then each event.
    pub fn watch(&self, topic: &str) -> Watch {
        let (presence, its_topic) = (self.clone(), topic.to_owned());
        let lister = Box::new(
            move || -> std::pin::Pin<Box<dyn Future<Output = Presences> + Send>> {
                let (presence, topic) = (presence.clone(), its_topic.clone());
                Box::pin(async move { presence.list(&topic).await })
            },
        );
        let shared = &self.inner.shared;
        let max_queued = self.config().max_watched;
        Watch::new(
            &shared.pubsub,
            topic,
            max_queued,
            shared.metrics.clone(),
            lister,
        )
    }

    /// Waits until every diff of what was written before is out, its look-up and `handle_metas`
    /// done.
    ///
    /// Windows are cut short for it. For tests, and before an orderly end.
    pub async fn flush(&self) {
        self.inner.tracker.flush().await;
    }

    /// Ends the presence system: sends what is pending, tells the other nodes, ends the tasks.
    ///
    /// Writes are refused from now on; reads go on with what was published last. Owners can be
    /// dropped before or after.
    pub async fn shutdown(&self) {
        self.inner.tracker.shutdown().await;
    }

    /// Tells all other nodes that this one's presences are gone, ahead of
    /// [`shutdown`](Self::shutdown). On this node nothing changes.
    ///
    /// For a server that has closed its sockets and still has something to finish: what it says of
    /// presences from here on is not heard by nodes that know it is going.
    pub async fn say_bye(&self) {
        self.inner.tracker.say_bye().await;
    }

    /// Returns what this node knows of the others: who is up, and how far their rows are here.
    ///
    /// Asks every shard, so it costs shards times nodes.
    pub async fn cluster(&self) -> ClusterStatus {
        self.inner.tracker.status().await
    }

    /// Returns what was counted so far, and what is held.
    pub fn stats(&self) -> PresenceStats {
        let mut stats = self.inner.shared.metrics.read();
        (stats.n_topics, stats.n_presences) = self.inner.tracker.sizes();
        stats.n_queued = self.inner.tracker.n_queued();
        stats
    }

    /// Returns how long look-ups through [`Fetch`](crate::Fetch) took, those that failed or were
    /// late among them.
    pub fn fetches(&self) -> HistogramCounts {
        self.inner.shared.metrics.fetches.read()
    }

    /// Returns the settings in use.
    pub fn config(&self) -> &PresenceConfig {
        &self.inner.shared.config
    }

    /// Returns the PubSub that diffs are dispatched on.
    pub fn pubsub(&self) -> &PubSub {
        &self.inner.shared.pubsub
    }

    fn counted<T, E>(&self, outcome: Result<T, E>) -> Result<T, E> {
        if outcome.is_err() {
            self.inner.shared.metrics.n_refused.count();
        }
        outcome
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("name", &self.config().name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
