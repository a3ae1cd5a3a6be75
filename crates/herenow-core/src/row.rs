//! Meta, Version, Row: one tracked presence and the version that wrote it.

use std::fmt;
use std::sync::Arc;

use crate::ids::{IdError, Key, MetaRef, OwnerId, ReplicaId, Topic, check_length};

/// The longest [`Meta`], in bytes.
pub const MAX_META_BYTES: usize = 64 * 1024;

/// The JSON object attached to one presence, as text and without `phx_ref`.
///
/// Opaque here: only its length and its braces are checked. A clone copies the text; rows are
/// shared instead.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Meta(Box<str>);

impl Meta {
    /// Makes a meta from the text of a JSON object of at most [`MAX_META_BYTES`] bytes.
    ///
    /// The caller vouches for the JSON between the braces.
    ///
    /// # Errors
    ///
    /// [`IdError::TooLong`], or [`IdError::NotAnObject`] if the text does not begin with `{` and
    /// end with `}`.
    pub fn new(json: impl Into<Box<str>>) -> Result<Self, IdError> {
        let json = json.into();
        check_length("meta", json.len(), MAX_META_BYTES)?;
        if json.len() < 2 || !json.starts_with('{') || !json.ends_with('}') {
            return Err(IdError::NotAnObject { field: "meta" });
        }
        Ok(Self(json))
    }

    /// Returns the JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the JSON text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Meta {
    /// Prints the length only: metas are people's data and must not end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meta({} bytes)", self.0.len())
    }
}

/// A replica's count of its own writes, from 1; 0 is "before the first".
///
/// Purely logical: it says nothing about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

impl Version {
    /// Before the first write.
    pub const ZERO: Self = Self(0);
    /// The last version there can be: 48 bits, nine years of a million writes a second.
    pub const MAX: Self = Self((1 << 48) - 1);

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A replica's id with what is derived from it once, shared by all rows of the replica.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) id: ReplicaId,
    pub(crate) fingerprint: u64,
}

impl Replica {
    pub(crate) fn new(id: ReplicaId) -> Arc<Self> {
        let fingerprint = id.fingerprint();
        Arc::new(Self { id, fingerprint })
    }
}

/// One presence: who is where, with which meta, and the version that wrote it.
///
/// Shared as `Arc<Row>` between tables, indexes, views and diffs; never changed once shared.
#[derive(Debug, Clone)]
pub struct Row {
    topic: Topic,
    key: Key,
    meta: Meta,
    owner: OwnerId,
    version: Version,
    /// The version of the writing that this one replaced, [`Version::ZERO`] if it is the first.
    prev: Version,
    replica: Arc<Replica>,
}

/// What a host or a peer says of a row; the rest is known from the replica.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(crate) topic: Topic,
    pub(crate) key: Key,
    pub(crate) meta: Meta,
    pub(crate) owner: OwnerId,
}

impl Row {
    pub(crate) fn new(replica: Arc<Replica>, version: Version, prev: Version, new: NewRow) -> Self {
        let NewRow {
            topic,
            key,
            meta,
            owner,
        } = new;
        Self {
            topic,
            key,
            meta,
            owner,
            version,
            prev,
            replica,
        }
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Returns what the presence is grouped by.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the attached meta.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Returns the owner's number on its own node.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// Returns the replica that owns the row.
    pub fn replica(&self) -> &ReplicaId {
        &self.replica.id
    }

    /// Returns the version that wrote the row.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the version of the writing that an update replaced by this one.
    pub fn prev(&self) -> Option<Version> {
        (self.prev != Version::ZERO).then_some(self.prev)
    }

    /// Returns the name of this writing.
    pub fn meta_ref(&self) -> MetaRef {
        MetaRef::new(self.replica.fingerprint, self.version.0)
    }

    /// Returns the name of the writing that an update replaced by this one.
    pub fn prev_ref(&self) -> Option<MetaRef> {
        self.prev()
            .map(|prev| MetaRef::new(self.replica.fingerprint, prev.0))
    }

    /// Returns how many bytes its texts are: its replica's node, topic, key and meta.
    pub(crate) fn text_bytes(&self) -> usize {
        let node = self.replica.id.node.as_str().len();
        node + self.topic.as_str().len() + self.key.as_str().len() + self.meta.as_bytes().len()
    }

    /// Tells whether two rows of one replica are writings of the same presence.
    pub(crate) fn is_same_presence(&self, other: &Self) -> bool {
        self.owner == other.owner && self.key == other.key && self.topic == other.topic
    }

    /// Returns the version of the writing that this one replaced, [`Version::ZERO`] if none.
    pub(crate) fn prev_or_zero(&self) -> Version {
        self.prev
    }

    /// Makes the row share the topic's text that its new home already has.
    pub(crate) fn adopt_topic(&mut self, topic: &Topic) {
        self.topic = topic.clone();
    }

    /// Makes the row share the replica that its new home already has.
    pub(crate) fn adopt_replica(&mut self, replica: &Arc<Replica>) {
        self.replica = Arc::clone(replica);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_is_an_object_and_prints_its_length_only() {
        assert!(Meta::new("{}").is_ok());
        for text in ["", "{", "[]", "\"x\"", "{}x", "null"] {
            assert_eq!(
                Meta::new(text).unwrap_err(),
                IdError::NotAnObject { field: "meta" }
            );
        }
        assert!(Meta::new(format!("{{{}}}", " ".repeat(MAX_META_BYTES))).is_err());
        assert_eq!(
            format!("{:?}", Meta::new("{\"a\":1}").unwrap()),
            "Meta(7 bytes)"
        );
    }
}
