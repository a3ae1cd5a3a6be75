//! [`Fetch`]: one look-up per batch that adds fields to presences, contained in every respect.
//!
//! A look-up runs on a task of its own with a deadline, and at most so many run at a time. Whether
//! it fails, panics, stalls or blocks its thread, the caller goes on at the deadline with the
//! fields known last, or with none. Known fields are kept for keys that are present, and no longer:
//! they are written and removed under one lock that looks at the published view each time.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use herenow_core::{Key, Topic};
use herenow_pubsub::client_text;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::group::FieldMap;
use crate::meta;
use crate::metrics::Metrics;
use crate::view::Views;

/// The field of an entry that a fetch cannot set.
const METAS: &str = "metas";
/// Capacity up to which a map is not worth shrinking.
const SMALL_MAP: usize = 64;

/// Adds fields to presences, by one look-up per batch and node, never one per subscriber.
///
/// Called for every diff that somebody listens to, with the keys that joined or left, and for a
/// list with all keys of the topic. What it returns stands beside `metas` in the entry of the key;
/// a key it does not return gets no fields. When it fails, or is later than
/// [`PresenceConfig::fetch_deadline`], the fields known last are shown; a hook that knows better
/// what to show then fails with [`FetchError::incomplete`].
///
/// [`PresenceConfig::fetch_deadline`]: crate::PresenceConfig::fetch_deadline
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use herenow_presence::{Fetch, FetchError, Key, Topic};
///
/// struct Names;
///
/// #[derive(serde::Serialize)]
/// struct Named { name: String }
///
/// impl Fetch for Names {
///     type Fields = Named;
///     async fn fetch(&self, _: &Topic, keys: &[Key]) -> Result<HashMap<Key, Named>, FetchError> {
///         Ok(keys.iter().map(|key| (key.clone(), Named { name: key.to_string() })).collect())
///     }
/// }
/// ```
pub trait Fetch: Send + Sync + 'static {
    /// The fields of one key: anything that serializes as a JSON object.
    type Fields: Serialize + Send;

    /// Looks up the fields of `keys`, which are distinct and not empty.
    fn fetch(
        &self,
        topic: &Topic,
        keys: &[Key],
    ) -> impl Future<Output = Result<HashMap<Key, Self::Fields>, FetchError>> + Send;
}

/// Why a look-up failed. Made from any error by `?`.
pub struct FetchError {
    reason: String,
    /// What to show all the same.
    found: Option<FieldMap>,
}

impl FetchError {
    /// Returns an error that is logged as `reason`.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            found: None,
        }
    }

    /// Returns an error of a look-up that has an answer for some keys only, or an old one: what it
    /// found is shown as it is, and whoever lists the topic
    /// [`fetch_deadline`](crate::PresenceConfig::fetch_deadline) later has it looked up again.
    ///
    /// `found` may be empty; keys that it leaves out get no fields, not even those known last. It
    /// is not counted as a failure, and logged at `debug` only: a hook that has a cache says itself
    /// when its source is down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use herenow_presence::{FetchError, Key};
    /// # fn fetched(known: HashMap<Key, serde_json::Value>) -> Result<(), FetchError> {
    /// // The database is down.
    /// Err(FetchError::incomplete("names are from the cache", known))
    /// # }
    /// # assert!(fetched(HashMap::new()).is_err());
    /// ```
    pub fn incomplete(reason: impl fmt::Display, found: HashMap<Key, impl Serialize>) -> Self {
        match rendered(found) {
            Ok(found) => Self {
                reason: reason.to_string(),
                found: Some(found),
            },
            Err(error) => error,
        }
    }
}

impl<E: std::error::Error> From<E> for FetchError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl fmt::Debug for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchError")
            .field("reason", &self.reason)
            .finish()
    }
}

type LookUp = Pin<Box<dyn Future<Output = Result<FieldMap, FetchError>> + Send>>;

/// [`Fetch`] without its type, its fields rendered.
trait ErasedFetch: Send + Sync {
    fn look_up(self: Arc<Self>, topic: Topic, keys: Arc<[Key]>) -> LookUp;
}

impl<F: Fetch> ErasedFetch for F {
    fn look_up(self: Arc<Self>, topic: Topic, keys: Arc<[Key]>) -> LookUp {
        Box::pin(async move {
            let found = self.fetch(&topic, &keys).await?;
            rendered(found)
        })
    }
}

fn rendered(found: HashMap<Key, impl Serialize>) -> Result<FieldMap, FetchError> {
    let mut fields = FieldMap::default();
    for (key, value) in found {
        fields.insert(key, meta::fields_without(&value, METAS)?);
    }
    Ok(fields)
}

/// Gives the memory of a map back that was much larger once.
fn shrink(known: &mut HashMap<Topic, FieldMap>) {
    if known.capacity() > SMALL_MAP && known.len() * 8 < known.capacity() {
        known.shrink_to_fit();
    }
}

/// What came of a look-up.
pub(crate) struct Fetched {
    pub(crate) fields: FieldMap,
    /// Whether an answer is missing, so that the next one should ask again soon.
    pub(crate) is_incomplete: bool,
}

/// The fetch hook of a presence system, and the fields known last.
pub(crate) struct Fetcher {
    hook: Arc<dyn ErasedFetch>,
    permits: Arc<Semaphore>,
    deadline: Duration,
    metrics: Arc<Metrics>,
    known: Mutex<HashMap<Topic, FieldMap>>,
    /// How often all fields were forgotten.
    epoch: AtomicU64,
}

impl Fetcher {
    pub(crate) fn new(
        hook: impl Fetch,
        max_fetches: u32,
        deadline: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            hook: Arc::new(hook),
            permits: Arc::new(Semaphore::new(max_fetches as usize)),
            deadline,
            metrics,
            known: Mutex::default(),
            epoch: AtomicU64::new(0),
        }
    }

    /// Returns the fields of `keys`: looked up, or else those known last. Never fails, and takes
    /// little longer than the deadline.
    pub(crate) async fn fields(&self, views: &Views, topic: &Topic, keys: Vec<Key>) -> Fetched {
        if keys.is_empty() {
            return Fetched {
                fields: FieldMap::default(),
                is_incomplete: false,
            };
        }
        let keys: Arc<[Key]> = keys.into();
        let epoch = self.epoch();
        match self.look_up(topic, &keys).await {
            Some(fetched) => {
                self.remember(views, topic, &fetched.fields, epoch);
                fetched
            }
            None => Fetched {
                fields: self.known_fields(topic, &keys),
                is_incomplete: true,
            },
        }
    }

    /// Forgets all fields, also those of look-ups that have begun.
    pub(crate) fn forget_all(&self) {
        let mut known = self.known.lock();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        *known = HashMap::new();
    }

    /// How often all fields were forgotten: what was looked up before is of no use after.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Forgets the fields of those keys that are not present any more.
    pub(crate) fn forget(&self, views: &Views, topic: &Topic, keys: impl Iterator<Item = Key>) {
        let mut known = self.known.lock();
        let Some(fields) = known.get_mut(topic) else {
            return;
        };
        let is_gone = |key: &Key| views.peek(topic.as_str(), |e| e.metas(key.as_str()).is_empty());
        for key in keys {
            if is_gone(&key).unwrap_or(true) {
                fields.remove(&key);
            }
        }
        if fields.is_empty() {
            known.remove(topic);
            shrink(&mut known);
        } else if fields.capacity() > SMALL_MAP && fields.len() * 8 < fields.capacity() {
            fields.shrink_to_fit();
        }
    }

    /// Looks fields up; `None` if that failed.
    async fn look_up(&self, topic: &Topic, keys: &Arc<[Key]>) -> Option<Fetched> {
        self.metrics.n_fetches.count();
        let (hook, permits) = (self.hook.clone(), self.permits.clone());
        let (its_topic, its_keys) = (topic.clone(), keys.clone());
        // A task of its own: a panic ends there, and a hook that blocks its thread blocks no other.
        // It ends with its deadline or with whoever waits for it: it must not keep its permit.
        let span = tracing::debug_span!("fetch", n_keys = keys.len());
        let looking_up = async move {
            let _permit = permits.acquire_owned().await;
            hook.look_up(its_topic, its_keys).await
        };
        let mut task = AbortOnDropHandle::new(tokio::spawn(looking_up.instrument(span)));
        let began = Instant::now();
        let looked_up = timeout(self.deadline, &mut task).await;
        self.metrics.fetches.observe(began.elapsed());
        match looked_up {
            Ok(Ok(Ok(fields))) => {
                return Some(Fetched {
                    fields,
                    is_incomplete: false,
                });
            }
            Ok(Ok(Err(FetchError {
                reason,
                found: Some(fields),
            }))) => {
                tracing::debug!(
                    topic = %client_text(topic.as_str()),
                    error = reason,
                    "fetch incomplete"
                );
                return Some(Fetched {
                    fields,
                    is_incomplete: true,
                });
            }
            Ok(Ok(Err(error))) => {
                self.metrics.n_fetch_errors.count();
                tracing::warn!(topic = %client_text(topic.as_str()), %error, "fetch failed");
            }
            Ok(Err(_)) => {
                self.metrics.n_fetch_panics.count();
                tracing::error!(topic = %client_text(topic.as_str()), "fetch panicked");
            }
            Err(_) => {
                self.metrics.n_fetch_late.count();
                let elapsed_ms = self.deadline.as_millis();
                tracing::warn!(
                    topic = %client_text(topic.as_str()),
                    elapsed_ms,
                    "fetch missed its deadline"
                );
            }
        }
        None
    }

    fn remember(&self, views: &Views, topic: &Topic, fetched: &FieldMap, epoch: u64) {
        let mut known = self.known.lock();
        if self.epoch() != epoch {
            return;
        }
        // Looked at under the lock: whoever leaves later is forgotten later, by the notifier.
        let present = views.peek(topic.as_str(), |entries| {
            let is_present = |key: &&Key| !entries.metas(key.as_str()).is_empty();
            fetched
                .keys()
                .filter(is_present)
                .cloned()
                .collect::<Vec<Key>>()
        });
        let Some(present) = present.filter(|present| !present.is_empty()) else {
            return;
        };
        let fields = known.entry(topic.clone()).or_default();
        for key in present {
            fields.insert(key.clone(), fetched[&key].clone());
        }
    }

    fn known_fields(&self, topic: &Topic, keys: &[Key]) -> FieldMap {
        let known = self.known.lock();
        let Some(fields) = known.get(topic) else {
            return FieldMap::default();
        };
        let known =
            |key: &Key| -> Option<(Key, Bytes)> { Some((key.clone(), fields.get(key)?.clone())) };
        keys.iter().filter_map(known).collect()
    }
}
