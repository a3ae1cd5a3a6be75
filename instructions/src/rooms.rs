//! Rooms that hold presences, and the diffs of those who come.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use herenow_presence::{Here, Presence, PresenceDiff};
use herenow_pubsub::{Broadcast, Once, Payload, PubSub, Sink};
use parking_lot::Mutex;
use serde_json::json;
use tokio::runtime::Runtime;

pub(crate) const TOPIC: &str = "room:1";

/// A topic with presences, and the one thread that all of it runs on.
pub struct Room {
    runtime: Runtime,
    presence: Presence,
    held: Vec<Here>,
}

impl Room {
    /// Returns a room of so many members that nobody has listed yet.
    pub fn new(n_members: usize) -> Self {
        let runtime = runtime();
        let presence = runtime.block_on(async { Presence::new(&PubSub::local()) });
        let held = runtime.block_on(come(&presence, n_members));
        Self {
            runtime,
            presence,
            held,
        }
    }

    /// The same, listed once.
    #[must_use]
    pub fn listed(self) -> Self {
        self.list();
        self
    }

    /// The same after one of its members has changed.
    ///
    /// # Panics
    ///
    /// If the room is empty.
    #[must_use]
    pub fn changed(self) -> Self {
        let change = self.held[0].update(json!({ "status": "away" }));
        let changed = self.runtime.block_on(change);
        changed.expect("it is present");
        self
    }

    /// Lists the room, as JSON.
    pub fn list(&self) -> Bytes {
        self.runtime
            .block_on(async { self.presence.list(TOPIC).await.json() })
    }
}

/// Returns the one diff that tells of so many joins.
///
/// # Panics
///
/// If it is not one.
pub fn diff(n_joins: usize) -> Arc<PresenceDiff> {
    let runtime = runtime();
    let pubsub = PubSub::local();
    let diffs = Arc::new(Diffs::default());
    let _attachment = pubsub.attach(TOPIC, diffs.clone());
    runtime.block_on(async {
        let presence = Presence::new(&pubsub);
        let held = come(&presence, n_joins).await;
        presence.flush().await;
        let diff = diffs.0.lock().pop().expect("somebody came");
        assert_eq!(diff.n_changes(), n_joins, "all came at once");
        drop(held);
        diff
    })
}

/// Runs all on the thread that asks it to.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().build();
    runtime.expect("the system has timers")
}

/// So many at once that they become one batch, and none is too late on a machine that is emulated.
async fn come(presence: &Presence, n_members: usize) -> Vec<Here> {
    const AT_ONCE: usize = 250;
    let meta = &json!({ "online_at": "1700000000", "status": "online" });
    let mut held = Vec::with_capacity(n_members);
    while held.len() < n_members {
        let next = held.len()..n_members.min(held.len() + AT_ONCE);
        let coming = next.map(|n| presence.track_on(TOPIC, format!("user-{n:05}"), meta));
        let here = join_all(coming).await.into_iter();
        held.extend(here.map(|here| here.expect("there is room for it")));
    }
    held
}

/// Keeps what is dispatched.
#[derive(Default)]
struct Diffs(Mutex<Vec<Arc<PresenceDiff>>>);

impl Sink for Diffs {
    fn deliver(&self, broadcast: &Broadcast, _: &mut Once) {
        if let Payload::Local(value) = &broadcast.payload
            && let Some(diff) = value.clone().downcast_arc::<PresenceDiff>()
        {
            self.0.lock().push(diff);
        }
    }
}
