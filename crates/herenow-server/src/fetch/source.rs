//! [`Source`]: one place that fields come from, with all that stands before it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use herenow_presence::{Key, Topic};
use herenow_pubsub::client_text;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::cache::{self, Cache, Known, Name};
use super::circuit::{self, Attempt, Change, Circuit, State};
use super::counters::{Counters, SourceStats, count};
use super::flights::{Flight, Flights, Need, Read, Reads, Seat};
use super::link::Scope;
use super::{FieldsError, Rendered, rendered};
use crate::config::FetchConfig;
use crate::outage::{Outage, Part};

/// What a source says of some keys: fields by key, each as JSON.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Found, AskError>> + Send + 'a>>;
/// Fields by key, each as JSON.
pub(super) type Found = Vec<(String, String)>;

/// What asks for fields: a query, or a callback. It has no deadline; it is dropped at its end.
pub(super) trait Ask: Send + Sync {
    /// What it is, in a word.
    fn kind(&self) -> &'static str;

    /// The query, if it is one.
    fn query(&self) -> Option<&str>;

    /// Whether the topic makes a difference.
    fn is_by_topic(&self) -> bool;

    /// Asks whether it works; `false` if there is no way to know.
    fn check(&self) -> Pin<Box<dyn Future<Output = Result<bool, AskError>> + Send + '_>>;

    /// Asks for the fields of `keys`, all at once.
    fn ask<'a>(&'a self, topic: &'a Topic, keys: &'a [Key]) -> Answer<'a>;
}

/// Why there is no answer. The reason is shown to operators: it holds no keys and no secrets.
#[derive(Debug)]
pub(super) struct AskError {
    pub(super) reason: String,
    /// It is the query that is wrong, for all keys and times.
    pub(super) is_wrong: bool,
}

/// See the module's documentation.
pub(super) struct Source {
    /// The key of the configuration that it comes from.
    key: String,
    ask: Box<dyn Ask>,
    cache: Mutex<Cache>,
    circuit: Mutex<Circuit>,
    permits: Semaphore,
    flights: Flights,
    deadline: Duration,
    max_keys: usize,
    max_fields_bytes: usize,
    counters: Counters,
}

/// What came of a look-up.
pub(super) struct Shown {
    pub(super) fields: HashMap<Key, Rendered>,
    /// Keys of which there is no answer, or an old one only.
    pub(super) n_unanswered: usize,
}

/// One look-up under way.
struct LookUp<'a> {
    topic: &'a Topic,
    start: Instant,
    deadline: Instant,
    /// How much had been forgotten when it began, or last began to ask.
    epoch: u64,
    found: HashMap<Key, Rendered>,
    /// Not known, or not of late.
    missing: Vec<Key>,
    /// What was told of them, for want of anything newer in the cache.
    reads: Reads,
    /// Whether it asks again, with less than the deadline left.
    is_again: bool,
}

impl Source {
    pub(super) fn new(key: String, ask: Box<dyn Ask>, config: &FetchConfig) -> Self {
        let cache = cache::Limits {
            max_entries: config.max_cached,
            max_bytes: config.max_cached_bytes,
            ttl: config.ttl,
            max_stale: config.max_stale,
        };
        let circuit = circuit::Limits {
            max_failures: config.max_failures,
            min_pause: config.min_pause,
            max_pause: config.max_pause,
        };
        Self {
            key,
            ask,
            cache: Mutex::new(Cache::new(cache)),
            circuit: Mutex::new(Circuit::new(circuit, Instant::now())),
            permits: Semaphore::new(config.max_queries),
            flights: Flights::default(),
            deadline: config.deadline,
            max_keys: config.max_keys,
            max_fields_bytes: config.max_fields_bytes,
            counters: Counters::default(),
        }
    }

    /// Asks whether it works, and says so in the log.
    pub(super) async fn check(&self, patience: Duration) -> Result<(), FieldsError> {
        let (source, kind) = (self.key.as_str(), self.ask.kind());
        let reason = match timeout(patience, self.ask.check()).await {
            Ok(Ok(true)) => {
                tracing::info!(source, kind, "fields are fetched");
                return Ok(());
            }
            Ok(Ok(false)) => {
                tracing::info!(source, kind, "fields will be fetched");
                return Ok(());
            }
            Ok(Err(error)) if error.is_wrong => {
                return Err(FieldsError::WrongQuery {
                    key: self.key.clone(),
                    reason: error.reason,
                    query: self.ask.query().unwrap_or_default().to_owned(),
                });
            }
            Ok(Err(error)) => error.reason,
            Err(_) => format!("no answer within {} s", patience.as_secs()),
        };
        tracing::warn!(
            source,
            kind,
            error = reason,
            "fields cannot be fetched now; presences go without until they can"
        );
        self.circuit
            .lock()
            .failed(Attempt::Usual, Instant::now(), reason);
        Ok(())
    }

    /// Returns the fields of `keys`: from the cache, or asked for; never later than the deadline.
    pub(super) async fn fields(&self, topic: &Topic, keys: &[Key]) -> Shown {
        count(&self.counters.n_look_ups, 1);
        let start = Instant::now();
        let mut look_up = LookUp {
            topic,
            start,
            deadline: start + self.deadline,
            epoch: self.epoch(),
            found: HashMap::with_capacity(keys.len()),
            missing: Vec::new(),
            reads: Reads::new(),
            is_again: false,
        };
        self.take_fresh(&mut look_up, keys);
        count(
            &self.counters.n_keys_cached,
            keys.len() - look_up.missing.len(),
        );
        if look_up.missing.is_empty() {
            return Shown {
                fields: look_up.found,
                n_unanswered: 0,
            };
        }
        let mut keys = look_up.missing.clone();
        loop {
            let unknown = self.await_answers(&mut look_up, &keys).await;
            keys = self.open_of(&mut look_up, keys, &unknown);
            if keys.is_empty() || Instant::now() >= look_up.deadline {
                return self.take_what_there_is(look_up);
            }
            look_up.is_again = true;
        }
    }

    fn take_fresh(&self, look_up: &mut LookUp<'_>, keys: &[Key]) {
        let mut cache = self.cache.lock();
        for key in keys {
            match cache.get(look_up.topic, &self.name(look_up.topic, key), look_up.start) {
                Known::Fresh(Some(fields)) => {
                    look_up.found.insert(key.clone(), fields);
                }
                Known::Fresh(None) => {}
                Known::Stale(_) | Known::Nothing => look_up.missing.push(key.clone()),
            }
        }
    }

    /// Asks for those of `keys` that nobody asks for, and waits for the answers to the others.
    /// Returns those that are not known because whoever asked for them has gone away.
    async fn await_answers(&self, look_up: &mut LookUp<'_>, keys: &[Key]) -> HashSet<Key> {
        let (flight, mut seats) = self.board(look_up, keys);
        let mine = flight.keys();
        if !mine.is_empty() {
            seats.push(flight.seat());
            self.ask_for(look_up, &mine, &flight).await;
        }
        flight.end();
        let mut unknown = HashSet::new();
        for seat in seats {
            unknown.extend(seat.landed(look_up.deadline, &mut look_up.reads).await);
        }
        unknown
    }

    fn board(&self, look_up: &mut LookUp<'_>, keys: &[Key]) -> (Flight<'_>, Vec<Seat>) {
        let names = keys.iter().map(|key| self.name(look_up.topic, key));
        self.flights.board(look_up.epoch, names, |name| {
            let mut cache = self.cache.lock();
            match cache.get(look_up.topic, name, look_up.start) {
                Known::Fresh(fields) => {
                    // The cache can lose it to others while the rest is waited for.
                    let is_overtaken = false;
                    let read = Read {
                        fields,
                        is_overtaken,
                    };
                    look_up.reads.insert(name.key.clone(), read);
                    Need::Known
                }
                Known::Stale(_) | Known::Nothing => {
                    Need::Since(cache.since(look_up.topic, &name.key))
                }
            }
        })
    }

    /// Which of `keys` are to be asked for again: the `unknown` ones, and those that were forgotten
    /// while they were asked for, so that the answer did not count.
    fn open_of(
        &self,
        look_up: &mut LookUp<'_>,
        mut keys: Vec<Key>,
        unknown: &HashSet<Key>,
    ) -> Vec<Key> {
        let mut cache = self.cache.lock();
        let before = std::mem::replace(&mut look_up.epoch, cache.epoch());
        keys.retain(|key| {
            let name = self.name(look_up.topic, key);
            let is_forgotten = cache.since(look_up.topic, key) > before;
            (is_forgotten || unknown.contains(key))
                && !matches!(
                    cache.get(look_up.topic, &name, look_up.start),
                    Known::Fresh(_)
                )
        });
        keys
    }

    /// Asks for keys, if the source may be asked, and keeps what it says.
    async fn ask_for(&self, look_up: &LookUp<'_>, keys: &[Key], flight: &Flight<'_>) {
        let deadline = look_up.deadline;
        let Ok(Ok(_permit)) = timeout_at(deadline, self.permits.acquire()).await else {
            // Those before it are late themselves, and say so.
            return count(&self.counters.n_late, 1);
        };
        for some in keys.chunks(self.max_keys) {
            let Some(attempt) = self.circuit.lock().try_attempt(Instant::now()) else {
                return count(&self.counters.n_paused, 1);
            };
            count(&self.counters.n_queries, 1);
            count(&self.counters.n_keys_asked, some.len());
            let answer = timeout_at(deadline, self.ask.ask(look_up.topic, some)).await;
            let reason = match answer {
                Ok(Ok(found)) => {
                    count(&self.counters.n_answered, 1);
                    let change = self.circuit.lock().succeeded(Instant::now());
                    self.tell(change);
                    self.keep(look_up, some, found, flight);
                    continue;
                }
                Ok(Err(error)) => {
                    count(&self.counters.n_failed, 1);
                    error.reason
                }
                Err(_) => {
                    count(&self.counters.n_late, 1);
                    if look_up.is_again && attempt == Attempt::Usual {
                        return; // It had less time than it is to have: that is no failure of its.
                    }
                    let deadline_ms = self.deadline.as_millis();
                    format!("no answer within {deadline_ms} ms (fetch.deadline)")
                }
            };
            let change = self.circuit.lock().failed(attempt, Instant::now(), reason);
            return self.tell(change);
        }
    }

    /// Keeps what the source said of `keys`, but for what was forgotten meanwhile, and tells all
    /// who are on the flight. What it did not say of a key is that it has no fields.
    fn keep(&self, look_up: &LookUp<'_>, keys: &[Key], found: Found, flight: &Flight<'_>) {
        let mut by_key: HashMap<String, String> = HashMap::with_capacity(found.len());
        for (key, fields) in found {
            by_key.entry(key).or_insert(fields);
        }
        let mut n_refused = 0;
        let fields = keys.iter().map(|key| {
            let fields = by_key.remove(key.as_str())?;
            let (max, fields_bytes) = (self.max_fields_bytes, fields.len());
            let kept = rendered(fields, max);
            if kept.is_none() {
                n_refused += 1;
                let (key, source) = (client_text(key.as_str()), self.key.as_str());
                tracing::debug!(source, %key, fields_bytes, max, "fields refused");
            }
            kept
        });
        let fields: Vec<Option<Rendered>> = fields.collect();
        count(&self.counters.n_fields_refused, n_refused);
        let mut cache = self.cache.lock();
        flight.tell(keys.iter().zip(fields).map(|(key, fields)| {
            let name = self.name(look_up.topic, key);
            let is_kept = cache.put(look_up.topic, name, fields.clone(), look_up.epoch);
            let is_overtaken = !is_kept;
            (
                key.clone(),
                Read {
                    fields,
                    is_overtaken,
                },
            )
        }));
    }

    /// Completes a look-up with what the cache has by now, fresh or not, or else with what was read
    /// and is not kept: it was forgotten meanwhile, or there was no room.
    fn take_what_there_is(&self, mut look_up: LookUp<'_>) -> Shown {
        let (mut found, mut n_stale, mut n_without) = (look_up.found, 0, 0);
        let n_missing = look_up.missing.len();
        let mut cache = self.cache.lock();
        for key in look_up.missing {
            let known = cache.get(
                look_up.topic,
                &self.name(look_up.topic, &key),
                look_up.start,
            );
            let fields = match known {
                Known::Fresh(fields) => fields,
                Known::Stale(fields) => {
                    n_stale += 1;
                    fields
                }
                Known::Nothing => match look_up.reads.remove(&key) {
                    Some(read) if !read.is_overtaken => read.fields,
                    read => {
                        let fields = read.and_then(|read| read.fields);
                        n_stale += usize::from(fields.is_some());
                        n_without += usize::from(fields.is_none());
                        fields
                    }
                },
            };
            if let Some(fields) = fields {
                found.insert(key, fields);
            }
        }
        drop(cache);
        let n_answered = n_missing - n_stale - n_without;
        count(&self.counters.n_keys_answered, n_answered);
        count(&self.counters.n_keys_stale, n_stale);
        count(&self.counters.n_keys_without, n_without);
        Shown {
            fields: found,
            n_unanswered: n_stale + n_without,
        }
    }

    /// Forgets what is known of a scope.
    pub(super) fn forget(&self, scope: &Scope) {
        self.cache.lock().forget(scope);
    }

    /// How much was forgotten so far.
    pub(super) fn epoch(&self) -> u64 {
        self.cache.lock().epoch()
    }

    fn name(&self, topic: &Topic, key: &Key) -> Name {
        Name {
            topic: self.ask.is_by_topic().then(|| topic.clone()),
            key: key.clone(),
        }
    }

    /// Says in the log what has changed, once.
    fn tell(&self, change: Option<Change>) {
        let Some(Change { state, after }) = change else {
            return;
        };
        let circuit = self.circuit.lock();
        let error = circuit.details().1.unwrap_or_default().to_owned();
        drop(circuit);
        let (source, kind) = (self.key.as_str(), self.ask.kind());
        let elapsed_ms = after.as_millis();
        match state {
            State::Ok => tracing::info!(source, kind, elapsed_ms, "fields are fetched again"),
            State::Failing => tracing::warn!(source, kind, error, "fields not fetched"),
            State::Down => tracing::warn!(
                source,
                kind,
                error,
                "fields not fetched several times: their source gets a pause"
            ),
        }
    }

    /// What it has done.
    pub(super) fn stats(&self) -> SourceStats {
        let state = self.circuit.lock().state();
        let kept = self.cache.lock().size();
        self.counters.read(self.key.clone(), state, kept)
    }

    /// What is missing, if the last look-up failed.
    pub(super) fn outage(&self) -> Option<Outage> {
        let circuit = self.circuit.lock();
        let (since, why) = circuit.outage()?;
        Some(Outage::new(Part::Fields, &self.key, why, since.elapsed()))
    }

    /// How it does, for people and their programs.
    pub(super) fn report(&self) -> Value {
        let circuit = self.circuit.lock();
        let (since, error) = circuit.details();
        let (for_seconds, error) = (since.elapsed().as_secs(), error.map(str::to_owned));
        drop(circuit);
        let stats = self.stats();
        json!({
            "source": self.key,
            "kind": self.ask.kind(),
            "state": stats.state.as_str(),
            "for_seconds": for_seconds,
            "error": error,
            "n_cached": stats.n_cached,
            "cached_bytes": stats.cached_bytes,
            "n_look_ups": stats.n_look_ups,
            "n_queries": stats.n_queries,
            "n_keys_asked": stats.n_keys_asked,
            "n_keys_cached": stats.n_keys_cached,
            "n_keys_stale": stats.n_keys_stale,
            "n_keys_without": stats.n_keys_without,
            "n_fields_refused": stats.n_fields_refused,
            "n_failed": stats.n_failed,
            "n_late": stats.n_late,
            "n_paused": stats.n_paused,
        })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("key", &self.key)
            .field("kind", &self.ask.kind())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
