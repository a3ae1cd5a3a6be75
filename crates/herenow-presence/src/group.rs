//! Presences of one topic, grouped by key into `{"metas": [...]}`.
//!
//! [`Entries`] is an immutable collection that shares its rows with the shard's tables. Keys
//! ascend; the metas of a key stand in the order of tracking, an updated one at the end, which is
//! where a client that folds diffs has it. Up to 64 presences are one flat slice, copied at every
//! change; more are a persistent tree, so that a writer never pays for the size of the topic.
//!
//! A [`Snapshot`] is the entries of a topic at a version, with its JSON rendered at most once.
//! Those of a large topic share a [`Tape`], out of which a reader gets the list in parts.
//! [`Presences`] is what readers get: a snapshot, with the fields that `fetch` added.

mod entries;
mod tape;

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::HashMap;
use herenow_core::{Key, MetaRef, NodeName, Row, Topic};
use herenow_pubsub::{LocalPayload, Payload};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::BigRoom;
use crate::meta;

pub(crate) use entries::{Entries, EntriesEdit, is_same_write, row_bytes};
use tape::Piece;
pub use tape::StateParts;
pub(crate) use tape::Tape;

/// Extra fields by key, as they stand between the braces of an object.
pub(crate) type FieldMap = HashMap<Key, Bytes, foldhash::fast::RandomState>;

/// One presence as readers see it: its key, its meta and the refs of its writings.
#[derive(Clone)]
pub struct PresenceMeta(pub(crate) Arc<Row>);

impl PresenceMeta {
    /// Returns the key it is grouped under.
    pub fn key(&self) -> &Key {
        self.0.key()
    }

    /// Returns the name of this writing of the meta.
    pub fn meta_ref(&self) -> MetaRef {
        self.0.meta_ref()
    }

    /// Returns the name of the writing that this one replaced, if it was an update.
    pub fn prev_ref(&self) -> Option<MetaRef> {
        self.0.prev_ref()
    }

    /// Returns the node that the presence is on: the one whose owner holds it.
    pub fn node(&self) -> &NodeName {
        &self.0.replica().node
    }

    /// Returns the meta as JSON text with its `phx_ref`, as clients get it.
    pub fn json(&self) -> String {
        let mut out = Vec::with_capacity(row_bytes(&self.0));
        meta::render(&self.0, &mut out);
        String::from_utf8(out).expect("a meta is JSON text")
    }

    /// Reads the meta as a `T`; `phx_ref` is among its fields.
    ///
    /// # Errors
    ///
    /// What [`serde_json`] says if it is no `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.json())
    }
}

impl fmt::Debug for PresenceMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceMeta")
            .field("key", self.key())
            .field("meta_ref", &self.meta_ref())
            .field("meta_bytes", &self.0.meta().as_bytes().len())
            .finish()
    }
}

/// Writes `"key":{"metas":[…],…fields}`.
pub(crate) fn render_entry<'a>(
    key: &Key,
    rows: impl Iterator<Item = &'a Arc<Row>>,
    fields: Option<&FieldMap>,
    out: &mut Vec<u8>,
) {
    meta::render_text(key.as_str(), out);
    out.push(b':');
    render_entry_body(key, rows, fields, out);
}

fn render_entry_body<'a>(
    key: &Key,
    rows: impl Iterator<Item = &'a Arc<Row>>,
    fields: Option<&FieldMap>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"metas\":[");
    for (at, row) in rows.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        meta::render(row, out);
    }
    out.push(b']');
    if let Some(fields) = fields
        .and_then(|fields| fields.get(key))
        .filter(|f| !f.is_empty())
    {
        out.push(b',');
        out.extend_from_slice(fields);
    }
    out.push(b'}');
}

/// The presences of a topic at one version of its shard.
pub(crate) struct Snapshot {
    topic: Topic,
    version: u64,
    entries: Entries,
    json: OnceLock<Bytes>,
    /// Shared by all snapshots of the topic while it is large.
    tape: Option<Arc<Tape>>,
    /// What `fetch` added, shared by all who list this snapshot.
    enriched: Mutex<Option<Arc<Enriched>>>,
}

/// The fields of a snapshot, and its JSON with them.
pub(crate) struct Enriched {
    fields: Arc<FieldMap>,
    good_until: Instant,
    /// That of the fetcher when they were looked up.
    epoch: u64,
    json: OnceLock<Bytes>,
    whole: OnceLock<Arc<Piece>>,
}

impl Enriched {
    pub(crate) fn new(fields: FieldMap, good_until: Instant, epoch: u64) -> Self {
        let fields = Arc::new(fields);
        Self {
            fields,
            good_until,
            epoch,
            json: OnceLock::new(),
            whole: OnceLock::new(),
        }
    }
}

impl Snapshot {
    pub(crate) fn new(topic: Topic, version: u64, entries: Entries) -> Self {
        Self {
            topic,
            version,
            entries,
            json: OnceLock::new(),
            tape: None,
            enriched: Mutex::new(None),
        }
    }

    /// Takes the tape of the topic: that of the snapshot before it, or a new one.
    pub(crate) fn with_tape(self, tape: Option<Arc<Tape>>, config: &BigRoom) -> Self {
        let tape = Tape::of(&self.entries, tape, config);
        Self { tape, ..self }
    }

    pub(crate) fn tape(&self) -> Option<&Arc<Tape>> {
        self.tape.as_ref()
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Returns what `look_up` finds, shared by all who ask while it is good: for a time, and while
    /// `epoch` is what it was. They wait for one another; if the one who looks up goes away, the
    /// next one does it.
    pub(crate) async fn enriched(
        &self,
        epoch: u64,
        look_up: impl AsyncFnOnce() -> Enriched,
    ) -> Arc<Enriched> {
        let mut shared = self.enriched.lock().await;
        if let Some(enriched) = &*shared
            && Instant::now() < enriched.good_until
            && enriched.epoch >= epoch
        {
            return enriched.clone();
        }
        let enriched = Arc::new(look_up().await);
        *shared = Some(enriched.clone());
        enriched
    }

    fn render(&self, fields: Option<&FieldMap>) -> Bytes {
        let field_bytes = fields.map_or(0, |fields| fields.values().map(|f| f.len() + 1).sum());
        let mut out = Vec::with_capacity(2 + self.entries.json_bytes() + field_bytes);
        out.push(b'{');
        self.entries.for_each_key(|rows| {
            if out.len() > 1 {
                out.push(b',');
            }
            render_entry(rows[0].key(), rows.iter(), fields, &mut out);
        });
        out.push(b'}');
        out.shrink_to_fit();
        Bytes::from(out)
    }
}

/// Who is present in one topic: keys in ascending order, each with its metas. Cloning shares it.
#[derive(Clone)]
pub struct Presences {
    snapshot: Arc<Snapshot>,
    enriched: Option<Arc<Enriched>>,
}

impl Presences {
    pub(crate) fn new(snapshot: Arc<Snapshot>, enriched: Option<Arc<Enriched>>) -> Self {
        Self { snapshot, enriched }
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Topic {
        &self.snapshot.topic
    }

    /// Returns the version of the topic's shard at which this was so.
    ///
    /// The changes after it are exactly those that [`PresenceDiff::json_since`] gives for it.
    ///
    /// [`PresenceDiff::json_since`]: crate::PresenceDiff::json_since
    pub fn version(&self) -> u64 {
        self.snapshot.version
    }

    /// Returns how many keys are present. Cost: O(1) for more than 64 presences, else O(n).
    pub fn len(&self) -> usize {
        self.snapshot.entries.n_keys()
    }

    /// Returns how many presences there are, counting every meta of every key.
    pub fn n_metas(&self) -> usize {
        self.snapshot.entries.n_metas()
    }

    /// Returns whether nobody is present.
    pub fn is_empty(&self) -> bool {
        self.n_metas() == 0
    }

    /// Returns the entry of one key.
    pub fn get(&self, key: &str) -> Option<Entry> {
        let metas = self.snapshot.entries.metas(key);
        Entry::new(
            metas,
            self.enriched.as_ref().map(|enriched| &*enriched.fields),
        )
    }

    /// Returns all keys, ascending.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.snapshot
            .entries
            .for_each_key(|rows| keys.push(rows[0].key().clone()));
        keys
    }

    /// Returns all entries, ascending by key.
    pub fn entries(&self) -> Vec<Entry> {
        let fields = self.enriched.as_ref().map(|enriched| &*enriched.fields);
        let mut entries = Vec::new();
        self.snapshot
            .entries
            .for_each_key(|rows| entries.extend(Entry::new(rows, fields)));
        entries
    }

    /// Returns the JSON of a `presence_state`, rendered once and shared by all readers.
    pub fn json(&self) -> Bytes {
        match &self.enriched {
            Some(enriched) => enriched
                .json
                .get_or_init(|| self.snapshot.render(Some(&enriched.fields)))
                .clone(),
            None => self
                .snapshot
                .json
                .get_or_init(|| self.snapshot.render(None))
                .clone(),
        }
    }
}

impl Presences {
    /// Returns the list as a `presence_state` and `presence_diff`s after it, each of a bounded
    /// size.
    ///
    /// One part, [`json`](Self::json), unless the topic is large ([`BigRoom`]). A large topic's
    /// parts are shared by all who ask, and so is most of them from one version to the next. The
    /// list can be newer than this one: [`StateParts::version`] says of when it is.
    pub fn parts(&self) -> StateParts {
        match (&self.snapshot.tape, &self.enriched) {
            (None, _) => StateParts::of(self, self.version(), vec![Piece::ready(self.json())]),
            (Some(tape), None) => tape.parts(self),
            (Some(tape), Some(enriched)) => {
                let fields = || Some(enriched.fields.clone());
                let whole = || Piece::whole(self.snapshot.entries.clone(), fields(), tape);
                let whole = enriched.whole.get_or_init(whole).clone();
                StateParts::of(self, self.version(), vec![whole])
            }
        }
    }
}

impl LocalPayload for Presences {
    fn json(&self) -> Bytes {
        Self::json(self)
    }
}

impl From<Presences> for Payload {
    fn from(presences: Presences) -> Self {
        Self::Local(Arc::new(presences))
    }
}

/// As the JSON of [`Presences::json`]; for JSON serializers.
impl Serialize for Presences {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw(&self.json()).serialize(serializer)
    }
}

impl fmt::Debug for Presences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presences")
            .field("topic", self.topic())
            .field("version", &self.version())
            .field("n_metas", &self.n_metas())
            .finish_non_exhaustive()
    }
}

/// One key of a topic with all its metas, and the fields that `fetch` added.
#[derive(Clone)]
pub struct Entry {
    metas: Vec<PresenceMeta>,
    fields: Option<Bytes>,
}

impl Entry {
    /// Returns `None` if there are no rows.
    pub(crate) fn new(rows: &[Arc<Row>], fields: Option<&FieldMap>) -> Option<Self> {
        let key = rows.first()?.key();
        let fields = fields.and_then(|fields| fields.get(key)).cloned();
        Some(Self {
            metas: rows.iter().cloned().map(PresenceMeta).collect(),
            fields,
        })
    }

    /// Takes the fields of its key.
    pub(crate) fn set_fields(&mut self, fields: &FieldMap) {
        self.fields = fields.get(self.key()).cloned();
    }

    /// Returns the key.
    pub fn key(&self) -> &Key {
        self.metas[0].key()
    }

    /// Returns the metas in the order of tracking; at least one.
    pub fn metas(&self) -> &[PresenceMeta] {
        &self.metas
    }

    /// Returns the fields that `fetch` added as JSON text, an object; `None` if there are none.
    pub fn fields_json(&self) -> Option<String> {
        let fields = self.fields.as_ref().filter(|fields| !fields.is_empty())?;
        let fields = std::str::from_utf8(fields).expect("fields were rendered as JSON");
        Some(format!("{{{fields}}}"))
    }

    /// Returns the entry as JSON text: `{"metas":[…],…fields}`.
    pub fn json(&self) -> String {
        let fields: Option<FieldMap> = self
            .fields
            .clone()
            .map(|fields| [(self.key().clone(), fields)].into_iter().collect());
        let mut out = Vec::new();
        let rows = self.metas.iter().map(|meta| &meta.0);
        render_entry_body(self.key(), rows, fields.as_ref(), &mut out);
        String::from_utf8(out).expect("an entry is JSON text")
    }
}

/// As the JSON of [`Entry::json`]; for JSON serializers.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw(self.json().as_bytes()).serialize(serializer)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("metas", &self.metas)
            .finish_non_exhaustive()
    }
}

fn raw(json: &[u8]) -> &RawValue {
    serde_json::from_slice(json).expect("it was rendered from JSON objects and texts")
}

/// Orders rows by key, for grouping.
pub(crate) fn by_key(one: &Arc<Row>, other: &Arc<Row>) -> Ordering {
    one.key().cmp(other.key())
}
