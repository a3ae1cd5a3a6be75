//! [`PresenceBuilder`]: settings and hooks, before there is a presence.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use herenow_pubsub::PubSub;

use super::{Inner, Presence};
use crate::config::{ConfigError, PresenceConfig};
use crate::fetch::{Fetch, Fetcher};
use crate::metrics::Metrics;
use crate::notifier::Shared;
use crate::observer::{HandleMetas, Hook};
use crate::tracker::Tracker;

/// Puts a [`Presence`] together. Made by [`Presence::builder`].
#[must_use = "call start"]
pub struct PresenceBuilder {
    pub(super) pubsub: PubSub,
    pub(super) config: PresenceConfig,
    pub(super) make_fetcher: Option<MakeFetcher>,
    pub(super) observer: Option<Hook>,
}

pub(super) type MakeFetcher = Box<dyn FnOnce(&PresenceConfig, &Arc<Metrics>) -> Fetcher + Send>;

impl PresenceBuilder {
    /// Uses these settings instead of the defaults.
    pub fn config(mut self, config: PresenceConfig) -> Self {
        self.config = config;
        self
    }

    /// Adds fields to presences by `hook`.
    pub fn fetch(mut self, hook: impl Fetch) -> Self {
        self.make_fetcher = Some(Box::new(move |config, metrics| {
            Fetcher::new(
                hook,
                config.max_fetches.get(),
                config.fetch_deadline,
                metrics.clone(),
            )
        }));
        self
    }

    /// Tells `hook` of every diff.
    pub fn handle_metas(mut self, hook: impl HandleMetas) -> Self {
        self.observer = Some(Hook::new(hook, None));
        self
    }

    /// Tells `hook` of every diff for as long as `is_on` is true, and has nothing fetched for it.
    ///
    /// For server code that needs no fields, and not always: while it is off, a topic without
    /// subscribers costs nothing. Instead of [`handle_metas`](Self::handle_metas); one can be set.
    pub fn handle_bare_metas(mut self, hook: impl HandleMetas, is_on: Arc<AtomicBool>) -> Self {
        self.observer = Some(Hook::new(hook, Some(is_on)));
        self
    }

    /// Starts the tasks of the presence system, inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the settings contradict each other or the name is taken.
    pub fn start(self) -> Result<Presence, ConfigError> {
        let metrics = Arc::new(Metrics::default());
        let fetcher = self
            .make_fetcher
            .map(|make| Arc::new(make(&self.config, &metrics)));
        let config = Arc::new(self.config);
        let shared = Arc::new(Shared {
            pubsub: self.pubsub,
            config,
            metrics,
            fetcher,
        });
        let tracker = Tracker::start(&shared, self.observer)?;
        Ok(Presence {
            inner: Arc::new(Inner { tracker, shared }),
        })
    }
}

impl fmt::Debug for PresenceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
