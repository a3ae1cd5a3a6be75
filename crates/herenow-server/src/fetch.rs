//! [`Fields`]: what adds fields to presences, as `[fetch]` and `[[topics]]` configure it.
//!
//! ```text
//! presence: one diff or list of a topic ── keys ──▶ the Source of the topic
//!                                                     │ cache: which of them are known?
//!                                                     │ flights: which are being asked for?
//!                                                     │ circuit: may it be asked?
//!                                                     │ permits: how many ask at a time?
//!                                                     ▼
//!                                                   Ask: one query, or one request, for the rest
//! ```
//!
//! A source is a query on the database or a callback; topics with the same one share it, with its
//! cache. A look-up always ends within `fetch.deadline`: what the source does not say in time is
//! taken from the cache, however old (`fetch.max_stale`), or left out. So a diff is late by no more
//! than the deadline, and while a source is known to be down it is not late at all. A look-up in
//! which something is old or left out is incomplete: those who list an unchanged topic share it
//! for a moment only, so that a list is whole again soon after the source is back.
//!
//! What is known can be forgotten, on all nodes: a key, a topic, or all ([`Fields::forget`]). What
//! was forgotten is not shown to anybody who asks after that. A look-up that had begun before asks
//! again, and shows what it had read only if there is no other answer by its deadline. A node that
//! could not be talked to is told when it is back.

mod cache;
mod flights;
mod circuit;
mod counters;
mod callback;
mod database;
mod source;
mod link;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use herenow_presence::{Fetch, FetchError, Key, Presence, PresenceConfig, Topic, first_match};
use herenow_pubsub::{AdapterError, Link, LinkError};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

pub(crate) use self::counters::SourceStats;
use self::link::Heard;
pub(crate) use self::link::Scope;
use self::source::{Ask, Source};
use crate::config::{FetchConfig, FieldsFrom, ServerConfig};
use crate::links;
use crate::outage::Outage;

/// How long the start of the server waits for the sources.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// What presence waits for a look-up beyond its deadline, in which it must have ended by itself.
const SLACK: Duration = Duration::from_secs(1);
/// Look-ups of presence at a time: each source has a limit of its own.
const MAX_LOOK_UPS: u32 = 100_000;
/// How long those who list an unchanged topic share its fields at most.
const MAX_SHARED: Duration = Duration::from_secs(10);
/// Scopes that a node has asked to forget and remembers; with one more it is simply all.
const MAX_FORGOTTEN: usize = 64;
/// For how long: with the default of `cluster.permdown_period` (20 minutes) who is away for longer
/// is forgotten by the others, too.
const FORGOTTEN_FOR: Duration = Duration::from_mins(20);

/// Why fields cannot be had as they are configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FieldsError {
    /// The URL of the database is none, or that of a callback.
    #[error("{key}: {reason}")]
    Source {
        /// The key that says where fields come from.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The database is there, and says that the query can never work.
    #[error("{key}: the query is wrong: {reason}; it is: {query}")]
    WrongQuery {
        /// The key that holds the query.
        key: String,
        /// What is wrong with it.
        reason: String,
        /// The query.
        query: String,
    },
}

/// Adds fields to presences. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Fields(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: Vec<Source>,
    /// The source of each pattern, the first match counts.
    topics: Vec<(String, Option<usize>)>,
    /// The source of topics that none of these is.
    general: Option<usize>,
    attached: OnceLock<(Presence, Arc<Link>)>,
    /// What this node told the others to forget, for those that could not hear it.
    forgotten: Mutex<VecDeque<(Instant, Scope)>>,
}

/// The fields of one key: a JSON object.
#[derive(Debug, Clone)]
pub(crate) struct Rendered(Arc<RawValue>);

impl Fields {
    /// Makes the sources that the configuration names, and asks none yet.
    ///
    /// # Errors
    ///
    /// [`FieldsError::Source`] if one cannot be.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, FieldsError> {
        let mut sources = Vec::new();
        let mut known = HashMap::new();
        let mut source_of = |from: Option<FieldsFrom<'_>>, key: String| {
            let Some(from) = from else {
                return Ok(None);
            };
            if let Some(at) = known.get(&format!("{from:?}")) {
                return Ok(Some(*at));
            }
            let ask = open(&config.fetch, from);
            let ask = ask.map_err(|reason| FieldsError::Source {
                key: from.place(&key).to_owned(),
                reason,
            })?;
            let at = sources.len();
            sources.push(Source::new(key, ask, &config.fetch));
            known.insert(format!("{from:?}"), at);
            Ok(Some(at))
        };
        let fetch = &config.fetch;
        let key = match fetch.query {
            Some(_) => "fetch.query",
            None => "fetch.url",
        };
        let general = source_of(fetch.general(), key.to_owned())?;
        let mut topics = Vec::new();
        for (at, topic) in config.topics.iter().enumerate() {
            let key = match topic.fetch.query {
                Some(_) => format!("topics[{at}].fetch_query"),
                None => format!("topics[{at}].fetch_url"),
            };
            let source = source_of(topic.fetch.over(fetch.general()), key)?;
            topics.push((topic.pattern.clone(), source));
        }
        Ok(Self(Arc::new(Inner {
            sources,
            topics,
            general,
            attached: OnceLock::new(),
            forgotten: Mutex::default(),
        })))
    }

    /// Tells whether there is a source.
    pub(crate) fn is_some(&self) -> bool {
        !self.0.sources.is_empty()
    }

    /// Sets what presence must know of look-ups.
    pub(crate) fn configure(config: &FetchConfig, presence: &mut PresenceConfig) {
        presence.fetch_deadline = config.deadline + SLACK;
        presence.fetch_max_age = config.ttl.min(MAX_SHARED);
        presence.max_fetches = MAX_LOOK_UPS.try_into().expect("it is not zero");
    }

    /// Asks each source whether it works, and says so in the log. One that is not there is asked
    /// again when it is needed.
    ///
    /// # Errors
    ///
    /// [`FieldsError::WrongQuery`] if a database is there and its query can never work.
    pub(crate) async fn check(&self) -> Result<(), FieldsError> {
        let checks = self
            .0
            .sources
            .iter()
            .map(|source| source.check(CHECK_TIMEOUT));
        futures_util::future::try_join_all(checks).await?;
        Ok(())
    }

    /// Begins to hear what other nodes forget. `presence` is the one that these are the fields of.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if this node does so already.
    pub(crate) fn attach(&self, presence: &Presence) -> Result<(), LinkError> {
        let heard = Arc::new(Heard::new(Arc::downgrade(&self.0)));
        let link = Arc::new(presence.pubsub().link("fields", heard)?);
        let _is_first = self.0.attached.set((presence.clone(), link));
        Ok(())
    }

    /// Forgets fields here and on every other node.
    ///
    /// # Errors
    ///
    /// If the other nodes could not be told; here they are forgotten then, too.
    pub(crate) fn forget(&self, scope: &Scope) -> Result<(), AdapterError> {
        self.0.forget(scope);
        self.0.remember(scope, Instant::now());
        match self.0.attached.get() {
            Some((_, link)) => link.broadcast(links::encode(scope)),
            None => Ok(()),
        }
    }

    /// What each source has done, for the metrics.
    pub(crate) fn stats(&self) -> Vec<SourceStats> {
        self.0.sources.iter().map(Source::stats).collect()
    }

    /// Which sources do not answer now.
    pub(crate) fn outages(&self) -> Vec<Outage> {
        self.0.sources.iter().filter_map(Source::outage).collect()
    }

    /// How each source does, for people and their programs.
    pub(crate) fn report(&self) -> Vec<Value> {
        self.0.sources.iter().map(Source::report).collect()
    }
}

impl Inner {
    fn source(&self, topic: &str) -> Option<&Source> {
        let found = first_match(&self.topics, topic).copied();
        let at = found.unwrap_or(self.general)?;
        Some(&self.sources[at])
    }

    fn forget(&self, scope: &Scope) {
        for source in &self.sources {
            source.forget(scope);
        }
        if let Some((presence, _)) = self.attached.get() {
            presence.forget_fields();
        }
    }
}

impl Inner {
    fn remember(&self, scope: &Scope, now: Instant) {
        let mut forgotten = self.forgotten.lock();
        forgotten.retain(|(at, other)| other != scope && now - *at <= FORGOTTEN_FOR);
        let is_all = *scope == Scope::All || forgotten.len() == MAX_FORGOTTEN;
        if is_all {
            forgotten.clear();
        }
        let scope = if is_all { Scope::All } else { scope.clone() };
        forgotten.push_back((now, scope));
    }

    /// Tells a node that can be talked to again what it may have missed. To forget twice harms
    /// nobody.
    fn tell_again(&self, peer: &str) {
        let Some((_, link)) = self.attached.get() else {
            return;
        };
        let now = Instant::now();
        let mut forgotten = self.forgotten.lock().clone();
        forgotten.retain(|(at, _)| now - *at <= FORGOTTEN_FOR);
        for (_, scope) in forgotten {
            if let Err(error) = link.send(peer, links::encode(&scope)) {
                tracing::warn!(peer, %error, "could not tell again which fields to forget");
            }
        }
    }
}

impl Fetch for Fields {
    type Fields = Rendered;

    async fn fetch(
        &self,
        topic: &Topic,
        keys: &[Key],
    ) -> Result<HashMap<Key, Rendered>, FetchError> {
        let Some(source) = self.0.source(topic.as_str()) else {
            return Ok(HashMap::new());
        };
        let shown = source.fields(topic, keys).await;
        match shown.n_unanswered {
            0 => Ok(shown.fields),
            n => {
                let reason = format!("{n} keys without an answer, or with an old one");
                Err(FetchError::incomplete(reason, shown.fields))
            }
        }
    }
}

impl Serialize for Rendered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Makes what asks a source.
fn open(config: &FetchConfig, from: FieldsFrom<'_>) -> Result<Box<dyn Ask>, String> {
    match from {
        FieldsFrom::Query(query) => database::open(config, query),
        FieldsFrom::Url(url) => callback::open(config, url),
    }
}

/// Turns an answer's text into fields, if it is an object of JSON within the limit.
fn rendered(json: String, max: usize) -> Option<Rendered> {
    if json.len() > max {
        return None;
    }
    let raw = RawValue::from_string(json).ok()?;
    raw.get().starts_with('{').then(|| Rendered(raw.into()))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use herenow_pubsub::{MemoryCluster, PubSub};
    use serde_json::json;

    use super::source::{Answer, AskError};
    use super::*;

    /// A source that is down, or says a name.
    #[derive(Clone, Default)]
    struct Fickle(Arc<Mutex<Option<&'static str>>>);

    impl Ask for Fickle {
        fn kind(&self) -> &'static str {
            "fickle"
        }

        fn query(&self) -> Option<&str> {
            None
        }

        fn is_by_topic(&self) -> bool {
            false
        }

        fn check(&self) -> Pin<Box<dyn Future<Output = Result<bool, AskError>> + Send + '_>> {
            Box::pin(async { Ok(true) })
        }

        fn ask<'a>(&'a self, _topic: &'a Topic, keys: &'a [Key]) -> Answer<'a> {
            let name = *self.0.lock();
            let answer = name.ok_or_else(|| AskError {
                reason: "status 500".to_owned(),
                is_wrong: false,
            });
            let fields = |name| json!({ "name": name }).to_string();
            let found = |name| {
                keys.iter()
                    .map(|key| (key.to_string(), fields(name)))
                    .collect()
            };
            let answer = answer.map(found);
            Box::pin(async { answer })
        }
    }

    /// Two nodes, each with a source that is never asked.
    fn two_nodes(cluster: &MemoryCluster) -> Vec<(Fields, Presence)> {
        let mut config = ServerConfig::default();
        config.fetch.url = Some("http://127.0.0.1:9/never-asked".to_owned());
        let node = |name: &str| {
            let fields = Fields::new(&config).unwrap();
            let pubsub = PubSub::new(cluster.adapter(name));
            let presence = Presence::builder(&pubsub).fetch(fields.clone()).start();
            let presence = presence.unwrap();
            fields.attach(&presence).unwrap();
            (fields, presence)
        };
        ["a", "b"].map(node).into()
    }

    /// Waits until a source has forgotten something since this epoch.
    async fn until_forgotten(source: &Source, before: u64, what: &str) {
        let forgotten = async {
            while source.epoch() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let forgotten = tokio::time::timeout(Duration::from_secs(30), forgotten).await;
        assert!(forgotten.is_ok(), "{what}");
    }

    #[tokio::test]
    async fn srv_764_what_one_node_forgets_the_others_forget_too() {
        let nodes = two_nodes(&MemoryCluster::new());
        let source = &nodes[1].0.0.sources[0];
        for scope in [Scope::Key("ada".to_owned()), Scope::All] {
            let before = source.epoch();
            nodes[0].0.forget(&scope).unwrap();
            until_forgotten(source, before, &format!("{scope:?}")).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1741_a_list_has_its_names_again_soon_after_the_source_is_back() {
        let (config, fickle) = (FetchConfig::default(), Fickle::default());
        let source = Source::new("fetch.url".to_owned(), Box::new(fickle.clone()), &config);
        let fields = Fields(Arc::new(Inner {
            sources: vec![source],
            topics: Vec::new(),
            general: Some(0),
            attached: OnceLock::new(),
            forgotten: Mutex::default(),
        }));
        let mut shared = PresenceConfig::default();
        Fields::configure(&config, &mut shared);
        let soon = shared.fetch_deadline;
        assert!(soon <= Duration::from_secs(2));
        let builder = Presence::builder(&PubSub::local()).config(shared);
        let presence = builder.fetch(fields).start().unwrap();
        let here = presence.track_on("room:1", "ada", json!({}));
        let _here = here.await.unwrap();
        let name = async || json!(presence.list("room:1").await)["ada"]["name"].clone();

        assert_eq!(name().await, Value::Null, "nothing is known");
        *fickle.0.lock() = Some("Ada");
        tokio::time::advance(soon).await;
        assert_eq!(name().await, "Ada");

        *fickle.0.lock() = None;
        tokio::time::advance(config.ttl).await;
        assert_eq!(name().await, "Ada", "it is old");
        *fickle.0.lock() = Some("Countess");
        tokio::time::advance(soon).await;
        assert_eq!(name().await, "Countess");
        *fickle.0.lock() = Some("Lovelace");
        tokio::time::advance(soon).await;
        assert_eq!(name().await, "Countess", "what is complete is kept");
    }

    #[tokio::test]
    async fn srv_1731_who_could_not_hear_what_is_to_be_forgotten_is_told_when_it_is_back() {
        let cluster = MemoryCluster::new();
        let nodes = two_nodes(&cluster);
        let source = &nodes[1].0.0.sources[0];
        let before = source.epoch();
        cluster.partition(&["b"]);
        nodes[0].0.forget(&Scope::Key("ada".to_owned())).unwrap();
        cluster.heal();
        cluster.report_seen("b");
        until_forgotten(source, before, "the key, missed in the cut").await;

        let inner = &nodes[0].0.0;
        let (now, all) = (Instant::now(), Scope::All);
        for n in 0..=MAX_FORGOTTEN {
            inner.remember(&Scope::Topic(format!("room:{n}")), now);
        }
        let scopes = || -> Vec<Scope> {
            let forgotten = inner.forgotten.lock();
            forgotten.iter().map(|(_, scope)| scope.clone()).collect()
        };
        // One of the last ones of them, and the key before, were too many.
        assert_eq!(scopes()[0], all);
        let late = now + FORGOTTEN_FOR + Duration::from_secs(1);
        inner.remember(&Scope::Topic("room:late".to_owned()), late);
        assert_eq!(scopes(), [Scope::Topic("room:late".to_owned())]);
    }
}
