//! Presences of one topic, grouped by key into `{"metas": [...]}`.
//!
//! [`Entries`] is an immutable collection that shares its rows with the shard's tables. Keys ascend;
//! the metas of a key stand in the order of tracking, an updated one at the end, which is where a
//! client that folds diffs has it. Up to [`MAX_SMALL`] presences are one flat slice, copied at every
//! change; more are a persistent tree, so that a writer never pays for the size of the topic.
//!
//! A [`Snapshot`] is the entries of a topic at a version, with its JSON rendered at most once.
//! [`Presences`] is what readers get: a snapshot, with the fields that `fetch` added.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::HashMap;
use herenow_core::{Key, MetaRef, Row, Topic};
use herenow_pubsub::{LocalPayload, Payload};
use imbl::OrdMap;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use crate::meta;

/// Presences up to which a topic is one flat slice.
const MAX_SMALL: usize = 64;
/// Presences down to which a large topic stays a tree; less than the above, so that it cannot flap.
const MIN_LARGE: usize = 32;
/// Bytes of JSON that surround a key: `"":{"metas":[]},`.
const KEY_FRAME_BYTES: usize = 16;

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

/// Returns whether two rows are the same writing of the same presence.
pub(crate) fn is_same_write(one: &Arc<Row>, other: &Arc<Row>) -> bool {
    Arc::ptr_eq(one, other) || one.meta_ref() == other.meta_ref()
}

/// Returns the JSON bytes that a row needs at most, its key included.
pub(crate) fn row_bytes(row: &Row) -> usize {
    row.key().as_str().len() + row.meta().as_bytes().len() + meta::MAX_REF_BYTES + KEY_FRAME_BYTES
}

/// The metas of one key, in the order of tracking; never empty.
#[derive(Clone)]
pub(crate) enum Group {
    One(Arc<Row>),
    Many(Arc<[Arc<Row>]>),
}

impl Group {
    fn rows(&self) -> &[Arc<Row>] {
        match self {
            Self::One(row) => std::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }

    fn of(rows: Vec<Arc<Row>>) -> Option<Self> {
        match <[Arc<Row>; 1]>::try_from(rows) {
            Ok([row]) => Some(Self::One(row)),
            Err(rows) if rows.is_empty() => None,
            Err(rows) => Some(Self::Many(rows.into())),
        }
    }
}

/// The presences of one topic. Cloning shares them.
#[derive(Clone)]
pub(crate) enum Entries {
    /// Sorted by key, then in the order of tracking.
    Small(Arc<[Arc<Row>]>),
    Large {
        groups: OrdMap<Key, Group>,
        n_metas: usize,
        n_bytes: usize,
    },
}

impl Entries {
    pub(crate) fn empty() -> Self {
        Self::Small(Arc::default())
    }

    pub(crate) fn n_metas(&self) -> usize {
        match self {
            Self::Small(rows) => rows.len(),
            Self::Large { n_metas, .. } => *n_metas,
        }
    }

    pub(crate) fn n_keys(&self) -> usize {
        match self {
            Self::Small(rows) => rows.chunk_by(|a, b| a.key() == b.key()).count(),
            Self::Large { groups, .. } => groups.len(),
        }
    }

    /// Returns the metas of one key, none if it is not there.
    pub(crate) fn metas(&self, key: &str) -> &[Arc<Row>] {
        match self {
            Self::Small(rows) => {
                let begin = rows.partition_point(|row| row.key().as_str() < key);
                let len = rows[begin..].partition_point(|row| row.key().as_str() == key);
                &rows[begin..begin + len]
            }
            Self::Large { groups, .. } => match Key::new(key) {
                Ok(key) => groups.get(&key).map_or(&[], Group::rows),
                Err(_) => &[],
            },
        }
    }

    /// Calls `visit` with each key's metas, in ascending order of keys.
    pub(crate) fn for_each_key(&self, mut visit: impl FnMut(&[Arc<Row>])) {
        match self {
            Self::Small(rows) => rows.chunk_by(|a, b| a.key() == b.key()).for_each(visit),
            Self::Large { groups, .. } => groups.values().for_each(|group| visit(group.rows())),
        }
    }

    fn json_bytes(&self) -> usize {
        match self {
            Self::Small(rows) => rows.iter().map(|row| row_bytes(row)).sum(),
            Self::Large { n_bytes, .. } => *n_bytes,
        }
    }

    pub(crate) fn edit(&self) -> EntriesEdit {
        match self {
            Self::Small(rows) => EntriesEdit::Small(rows.to_vec()),
            Self::Large {
                groups,
                n_metas,
                n_bytes,
            } => EntriesEdit::Large {
                groups: groups.clone(),
                n_metas: *n_metas,
                n_bytes: *n_bytes,
            },
        }
    }
}

/// A copy of [`Entries`] that is being changed.
pub(crate) enum EntriesEdit {
    Small(Vec<Arc<Row>>),
    Large {
        groups: OrdMap<Key, Group>,
        n_metas: usize,
        n_bytes: usize,
    },
}

impl EntriesEdit {
    /// Adds a row behind the others of its key. Returns how many metas the key had before.
    pub(crate) fn insert(&mut self, row: Arc<Row>) -> usize {
        self.grow();
        match self {
            Self::Small(rows) => {
                let end = rows.partition_point(|other| other.key() <= row.key());
                let begin = rows[..end].partition_point(|other| other.key() < row.key());
                rows.insert(end, row);
                end - begin
            }
            Self::Large {
                groups,
                n_metas,
                n_bytes,
            } => {
                *n_metas += 1;
                *n_bytes += row_bytes(&row);
                let mut rows = groups
                    .get(row.key())
                    .map_or(Vec::new(), |group| group.rows().to_vec());
                let n_before = rows.len();
                let key = row.key().clone();
                rows.push(row);
                groups.insert(key, Group::of(rows).expect("it holds the new row"));
                n_before
            }
        }
    }

    /// Removes a row. Returns how many metas the key has left, or `None` if the row is not there.
    pub(crate) fn remove(&mut self, row: &Arc<Row>) -> Option<usize> {
        match self {
            Self::Small(rows) => {
                let begin = rows.partition_point(|other| other.key() < row.key());
                let len = rows[begin..].partition_point(|other| other.key() == row.key());
                let at = rows[begin..begin + len]
                    .iter()
                    .position(|o| is_same_write(o, row))?;
                rows.remove(begin + at);
                Some(len - 1)
            }
            Self::Large {
                groups,
                n_metas,
                n_bytes,
            } => {
                let mut rows = groups.get(row.key())?.rows().to_vec();
                let at = rows.iter().position(|other| is_same_write(other, row))?;
                rows.remove(at);
                *n_metas -= 1;
                *n_bytes -= row_bytes(row);
                let n_left = rows.len();
                match Group::of(rows) {
                    Some(group) => groups.insert(row.key().clone(), group),
                    None => groups.remove(row.key()),
                };
                Some(n_left)
            }
        }
    }

    pub(crate) fn finish(self) -> Entries {
        match self {
            Self::Small(rows) => Entries::Small(rows.into()),
            Self::Large {
                groups, n_metas, ..
            } if n_metas < MIN_LARGE => {
                let rows = groups
                    .values()
                    .flat_map(|group| group.rows().iter().cloned());
                Entries::Small(rows.collect())
            }
            Self::Large {
                groups,
                n_metas,
                n_bytes,
            } => Entries::Large {
                groups,
                n_metas,
                n_bytes,
            },
        }
    }

    /// Turns a slice that is full into a tree.
    fn grow(&mut self) {
        let Self::Small(rows) = self else {
            return;
        };
        if rows.len() < MAX_SMALL {
            return;
        }
        let n_metas = rows.len();
        let n_bytes = rows.iter().map(|row| row_bytes(row)).sum();
        let groups = rows
            .chunk_by(|a, b| a.key() == b.key())
            .filter_map(|rows| Some((rows[0].key().clone(), Group::of(rows.to_vec())?)))
            .collect();
        *self = Self::Large {
            groups,
            n_metas,
            n_bytes,
        };
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
    /// What `fetch` added, shared by all who list this snapshot.
    pub(crate) enriched: OnceCell<Arc<Enriched>>,
}

/// The fields of a snapshot, and its JSON with them.
pub(crate) struct Enriched {
    fields: Arc<FieldMap>,
    json: OnceLock<Bytes>,
}

impl Enriched {
    pub(crate) fn new(fields: Arc<FieldMap>) -> Self {
        Self {
            fields,
            json: OnceLock::new(),
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
            enriched: OnceCell::new(),
        }
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
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

    /// Returns the key.
    pub fn key(&self) -> &Key {
        self.metas[0].key()
    }

    /// Returns the metas in the order of tracking; at least one.
    pub fn metas(&self) -> &[PresenceMeta] {
        &self.metas
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
