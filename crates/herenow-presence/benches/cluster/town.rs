//! [`Side`]: a node with many presences in rooms of a hundred, and what it must show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herenow_presence::{Owner, Presence, PresenceConfig};
use herenow_pubsub::{MemoryCluster, PubSub};
use serde_json::json;
use tokio::time::sleep;

use crate::carrier::Counted;

/// Presences in a room, of each side.
const MEMBERS: usize = 100;
/// How long anything may take before the run has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// One node.
pub(crate) struct Side {
    pub(crate) presence: Presence,
    pub(crate) carrier: Arc<Counted>,
    name: &'static str,
    owners: BTreeMap<usize, Owner>,
}

/// Returns the room of a presence with this number.
pub(crate) fn room(number: usize) -> String {
    format!("room:{}", number / MEMBERS)
}

impl Side {
    pub(crate) fn new(
        cluster: &MemoryCluster,
        name: &'static str,
        config: &PresenceConfig,
    ) -> Self {
        let carrier = Counted::new(cluster.adapter(name));
        let pubsub = PubSub::new(carrier.clone());
        let builder = Presence::builder(&pubsub).config(config.clone());
        Self {
            presence: builder.start().unwrap(),
            carrier,
            name,
            owners: BTreeMap::new(),
        }
    }

    fn key(&self, number: usize) -> String {
        format!("{}-{number:07}", self.name)
    }

    /// Lets these join, many at a time.
    pub(crate) async fn join(&mut self, numbers: impl Iterator<Item = usize>) {
        let numbers: Vec<usize> = numbers.collect();
        for numbers in numbers.chunks(2_000) {
            let side = &*self;
            let joining = numbers.iter().map(|&number| async move {
                let owner = Owner::new();
                let (room, key) = (room(number), side.key(number));
                let meta = json!({ "online_at": "1700000000", "status": "online" });
                side.presence
                    .track(&owner.at(&room), &key, meta)
                    .await
                    .unwrap();
                (number, owner)
            });
            let joined = join_all(joining).await;
            self.owners.extend(joined);
        }
    }

    /// Lets these leave, whose owners end.
    pub(crate) fn leave(&mut self, numbers: impl Iterator<Item = usize>) {
        for number in numbers {
            self.owners.remove(&number);
        }
    }

    /// Lets these change their metas.
    pub(crate) async fn update(&mut self, numbers: impl Iterator<Item = usize>) {
        for number in numbers {
            let (room, key) = (room(number), self.key(number));
            let owner = self.owners[&number].at(&room);
            let meta = json!({ "online_at": "1700000000", "status": "away" });
            self.presence.update(&owner, &key, meta).await.unwrap();
        }
    }

    /// Returns how many presences of its own it has.
    pub(crate) fn n_own(&self) -> usize {
        self.owners.len()
    }

    /// Waits until so many presences are shown; returns how long that took.
    pub(crate) async fn shows(&self, n_presences: usize) -> Duration {
        let began = Instant::now();
        while self.presence.stats().n_presences != n_presences as u64 {
            assert!(
                began.elapsed() < PATIENCE,
                "{}: {:?}",
                self.name,
                self.presence.stats()
            );
            sleep(Duration::from_millis(1)).await;
        }
        began.elapsed()
    }

    /// Waits until it has all that the other side has written, and shows so many presences.
    pub(crate) async fn has_all(&self, n_presences: usize) {
        let began = Instant::now();
        loop {
            self.shows(n_presences).await;
            let status = self.presence.cluster().await;
            if status.n_complete() == 1 && self.presence.stats().n_presences == n_presences as u64 {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{}: {status:?}", self.name);
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Returns what is shown: the JSON of every room.
    pub(crate) async fn all(&self) -> BTreeMap<String, serde_json::Value> {
        let mut all = BTreeMap::new();
        for (topic, _) in self.presence.topics() {
            let shown = self.presence.list(topic.as_str()).await.json();
            let shown = serde_json::from_slice(&shown).unwrap();
            all.insert(topic.to_string(), shown);
        }
        all
    }
}
