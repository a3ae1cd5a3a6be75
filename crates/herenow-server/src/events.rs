//! [`Events`]: what happened, told to the application: by webhooks, and as server-sent events.
//!
//! ```text
//! presence ── diff ──▶ Teller: which events a diff is, and which of them this node has to tell
//!                        │ all that this node saw         │ its own share of what happened
//!                        ▼                                ▼
//!                      Journal: the latest of them      Queue, one per webhook, bounded
//!                        │ each reader by its place       │ batches, of a topic one at a time
//!                        ▼                                ▼
//!                      GET /api/events                  Courier: signs, posts, tries again
//! ```
//!
//! A webhook hears of each event from one node of the cluster, a listener of `/api/events` hears
//! all that the node it is connected to sees; the record is the same. What is told and by whom is
//! in `teller`, how it reads in `event`. docs/events.md is the guide.
//!
//! Telling never waits: a queue that is full loses what comes, a reader that falls behind is
//! closed, and both are counted and said. Without a webhook, and while nobody listens, nothing is
//! done.

mod event;
mod signature;
mod queue;
mod journal;
mod teller;
mod courier;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use herenow_presence::Presence;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::courier::Courier;
pub(crate) use self::courier::WebhookStats;
pub(crate) use self::event::{Filter, reason_word};
use self::journal::Journal;
pub(crate) use self::journal::{ListenError, Resume, StreamStats};
pub(crate) use self::teller::{OwedStats, Teller};
use crate::config::ServerConfig;
use crate::health::Ready;
use crate::outage::Outage;

/// Why nobody can be told of events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// There is no way to make requests.
    #[error("no client for requests can be made")]
    Client(#[source] reqwest::Error),
    /// A URL or the secret is none; the configuration was not loaded, but made by hand.
    #[error("{setting} is missing or not what it must be")]
    Setting {
        /// The key of the configuration.
        setting: &'static str,
    },
}

/// Tells the application what happens. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Events(Arc<Inner>);

struct Inner {
    /// Whether anybody is to be told of anything.
    is_on: Arc<AtomicBool>,
    teller: Arc<Teller>,
    journal: Arc<Journal>,
    couriers: Vec<Arc<Courier>>,
    drain_timeout: Duration,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    couriers: Vec<JoinHandle<()>>,
    journal: Option<JoinHandle<()>>,
    /// What looks at the nodes of the cluster, if anything depends on them.
    nodes: Option<JoinHandle<()>>,
}

impl Events {
    /// Starts telling on the node called `node`.
    ///
    /// # Errors
    ///
    /// [`EventsError`] if webhooks are configured and cannot be called.
    pub(crate) fn start(
        config: &ServerConfig,
        node: &str,
        ready: &Ready,
    ) -> Result<Self, EventsError> {
        let couriers = Courier::of(config, node)?;
        let is_on = Arc::new(AtomicBool::new(!couriers.is_empty()));
        let journal = Journal::new(&config.events, is_on.clone());
        let queues = couriers.iter().map(|courier| courier.queue().clone());
        let shard = &config.presence.shard;
        let teller = Teller::new(node, ready, queues.collect(), journal.clone(), shard);
        let tasks = Tasks {
            couriers: couriers
                .iter()
                .map(|courier| tokio::spawn(courier.clone().run()))
                .collect(),
            journal: Some(tokio::spawn(journal.clone().run())),
            nodes: None,
        };
        Ok(Self(Arc::new(Inner {
            is_on,
            teller: Arc::new(teller),
            journal,
            couriers,
            drain_timeout: config.webhook.drain_timeout,
            tasks: Mutex::new(tasks),
        })))
    }

    /// Begins to look at the nodes that presence knows, to speak for those that cannot any more.
    pub(crate) fn attach(&self, presence: &Presence) {
        if self.0.couriers.is_empty() {
            return; // What is owed is owed to webhooks.
        }
        let teller = self.0.teller.clone();
        let watching = tokio::spawn(teller.watch_nodes(presence.clone()));
        self.0.tasks.lock().nodes = Some(watching);
    }

    /// Returns what presence is to tell of its diffs.
    pub(crate) fn hook(&self) -> Arc<Teller> {
        self.0.teller.clone()
    }

    /// Returns whether presence is to tell of its diffs, now.
    pub(crate) fn is_on(&self) -> Arc<AtomicBool> {
        self.0.is_on.clone()
    }

    /// Returns what listeners read.
    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.0.journal
    }

    /// Tells what has happened so far, ends all streams, and delivers what waits for webhooks, for
    /// `webhook.drain_timeout` at most.
    pub(crate) async fn close(&self, presence: &Presence) {
        let deadline = Instant::now() + self.0.drain_timeout;
        let _in_time = timeout_at(deadline, presence.flush()).await;
        self.0.journal.close();
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        for task in [tasks.journal, tasks.nodes].into_iter().flatten() {
            task.abort();
        }
        for courier in &self.0.couriers {
            courier.queue().close();
        }
        for mut task in tasks.couriers {
            match timeout_at(deadline, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the task of a webhook has failed"),
                Err(_) => task.abort(),
            }
        }
        for courier in &self.0.couriers {
            courier.say_what_is_left();
        }
    }

    /// Returns what each webhook has got, and what it has not.
    pub(crate) fn webhooks(&self) -> Vec<WebhookStats> {
        let couriers = self.0.couriers.iter();
        couriers.map(|courier| courier.stats()).collect()
    }

    /// Returns which webhooks do not take events now.
    pub(crate) fn outages(&self) -> Vec<Outage> {
        let couriers = self.0.couriers.iter();
        couriers.filter_map(|courier| courier.outage()).collect()
    }

    /// Returns what listeners have got, and what they have not.
    pub(crate) fn streams(&self) -> StreamStats {
        self.0.journal.stats()
    }

    /// Returns how many events were told to nobody because this node was too busy.
    pub(crate) fn n_missed(&self) -> u64 {
        self.0.teller.n_missed()
    }

    /// Returns what other nodes are to tell and is kept in case they do not.
    pub(crate) fn owed(&self) -> OwedStats {
        self.0.teller.owed()
    }

    /// Returns what `GET /api/node` shows of it.
    pub(crate) fn show(&self) -> Value {
        let webhooks = self.0.couriers.iter().map(|courier| courier.show());
        json!({
            "webhooks": webhooks.collect::<Vec<_>>(),
            "streams": self.0.journal.show(),
            "n_missed": self.n_missed(),
        })
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("n_webhooks", &self.0.couriers.len())
            .finish_non_exhaustive()
    }
}
