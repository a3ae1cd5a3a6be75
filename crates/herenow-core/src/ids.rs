//! The names of things: nodes, lives, shards, owners, topics, keys and meta refs.
//!
//! Every type here is a newtype whose constructor checks a generous fixed limit. Lower,
//! configurable limits are the business of the layers above; these only make sure that nothing a
//! peer sends can be larger than a message may be.

use std::borrow::Borrow;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use smol_str::SmolStr;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The longest [`NodeName`], in bytes.
pub const MAX_NODE_NAME_BYTES: usize = 255;
/// The longest [`Topic`], in bytes.
pub const MAX_TOPIC_BYTES: usize = 1024;
/// The longest [`Key`], in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// Topic to shard is part of what nodes of one cluster agree on, so this seed never changes.
const SHARD_SEED: u64 = 0x6865_7265_6e6f_7721;
const MASK_48: u64 = (1 << 48) - 1;
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Why a text cannot be the id that it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is longer than such an id may be.
    #[error("{field} is {len} bytes, the limit is {max}")]
    TooLong {
        /// What the text was meant to be.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The text is empty and must not be.
    #[error("{field} is empty")]
    Empty {
        /// What the text was meant to be.
        field: &'static str,
    },
    /// The text does not look like a JSON object.
    #[error("{field} is not a JSON object")]
    NotAnObject {
        /// What the text was meant to be.
        field: &'static str,
    },
    /// The text is not 16 characters of the URL-safe base64 alphabet.
    #[error("{text:?} is not a meta ref")]
    NotAMetaRef {
        /// The text, shortened to its first 32 characters.
        text: String,
    },
}

pub(crate) fn check_length(field: &'static str, len: usize, max: usize) -> Result<(), IdError> {
    if len > max {
        Err(IdError::TooLong { field, len, max })
    } else {
        Ok(())
    }
}

/// Names one node of the cluster: one running process, under the name its operator gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Makes a node name of at least one and at most [`MAX_NODE_NAME_BYTES`] bytes.
    ///
    /// # Errors
    ///
    /// [`IdError::Empty`] or [`IdError::TooLong`].
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, IdError> {
        let name = name.into();
        if name.is_empty() {
            return Err(IdError::Empty { field: "node name" });
        }
        check_length("node name", name.len(), MAX_NODE_NAME_BYTES)?;
        Ok(Self(name))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Tells the lives of one node apart: a later life should have a greater number.
///
/// Microseconds since the Unix epoch at start serve well. A clock that was set back costs a
/// restarted node a delay until its former life counts as down, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers one of a fixed number of partitions of all topics, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

impl ShardIndex {
    /// Returns the shard that a topic belongs to: a stable hash of the topic, the same on every
    /// node and in every version of this crate.
    pub fn of_topic(topic: &str, n_shards: NonZeroU16) -> Self {
        let shard = xxh3_64_with_seed(topic.as_bytes(), SHARD_SEED) % u64::from(n_shards.get());
        Self(u16::try_from(shard).expect("a remainder of a u16 fits into a u16"))
    }
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one shard's own presences on one node in one life.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    /// The node that owns the presences.
    pub node: NodeName,
    /// Which life of that node.
    pub incarnation: Incarnation,
    /// The partition of topics.
    pub shard: ShardIndex,
}

impl ReplicaId {
    /// Returns 48 bits that stand for this replica inside a [`MetaRef`].
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.node.as_str().len() + 10);
        bytes.extend_from_slice(&self.incarnation.0.to_be_bytes());
        bytes.extend_from_slice(&self.shard.0.to_be_bytes());
        bytes.extend_from_slice(self.node.as_str().as_bytes());
        xxh3_64(&bytes) & MASK_48
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.node, self.incarnation, self.shard)
    }
}

/// Numbers a local task whose end removes its presences.
///
/// Unique on its node for one incarnation; two nodes use the same numbers for different owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u64);

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The string a conversation is named by, such as `room:42`. A table takes an empty one, presence
/// refuses it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Makes a topic of at most [`MAX_TOPIC_BYTES`] bytes.
    ///
    /// # Errors
    ///
    /// [`IdError::TooLong`].
    pub fn new(topic: impl Into<Arc<str>>) -> Result<Self, IdError> {
        let topic = topic.into();
        check_length("topic", topic.len(), MAX_TOPIC_BYTES)?;
        Ok(Self(topic))
    }

    /// Returns the topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the shared text itself, for a host that interns topics.
    pub fn as_arc(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What presences of a topic are grouped by, usually a user id. A table takes an empty one,
/// presence refuses it.
///
/// Up to 23 bytes are kept without an allocation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(SmolStr);

impl Key {
    /// Makes a key of at most [`MAX_KEY_BYTES`] bytes.
    ///
    /// # Errors
    ///
    /// [`IdError::TooLong`].
    pub fn new(key: impl AsRef<str>) -> Result<Self, IdError> {
        let key = key.as_ref();
        check_length("key", key.len(), MAX_KEY_BYTES)?;
        Ok(Self(SmolStr::new(key)))
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The opaque name of one writing of a meta: what clients see as `phx_ref` and `phx_ref_prev`.
///
/// 16 characters of URL-safe base64: 48 bits that stand for the replica, then 48 bits of the
/// version, both big endian. It is computed from a row when asked for, never stored or sent, and
/// comes out the same on every node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetaRef([u8; 16]);

impl MetaRef {
    pub(crate) fn new(fingerprint: u64, version: u64) -> Self {
        let bits = (u128::from(fingerprint & MASK_48) << 48) | u128::from(version & MASK_48);
        let mut text = [0; 16];
        for (i, character) in text.iter_mut().enumerate() {
            let index = (bits >> (90 - 6 * i)) & 63;
            *character = BASE64_URL[usize::try_from(index).expect("six bits fit into a usize")];
        }
        Self(text)
    }

    /// Returns the 16 characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("both constructors admit the base64 alphabet only")
    }
}

impl fmt::Debug for MetaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MetaRef({})", self.as_str())
    }
}

impl fmt::Display for MetaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MetaRef {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match <[u8; 16]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().all(|byte| BASE64_URL.contains(byte)) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(IdError::NotAMetaRef {
                text: text.chars().take(32).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_name_the_field_the_length_and_the_limit() {
        let error = Topic::new("x".repeat(MAX_TOPIC_BYTES + 1)).unwrap_err();
        assert_eq!(error.to_string(), "topic is 1025 bytes, the limit is 1024");
        assert!(Topic::new("").is_ok());
        assert!(Key::new("k".repeat(MAX_KEY_BYTES)).is_ok());
        assert!(Key::new("k".repeat(MAX_KEY_BYTES + 1)).is_err());
        assert_eq!(
            NodeName::new("").unwrap_err().to_string(),
            "node name is empty"
        );
    }

    #[test]
    fn a_meta_ref_is_sixteen_characters_that_tell_replica_and_version_apart() {
        let one = MetaRef::new(1, 2);
        assert_eq!(one.as_str(), "AAAAAAABAAAAAAAC");
        assert_eq!(one.as_str().parse::<MetaRef>().unwrap(), one);
        assert_ne!(MetaRef::new(1, 3), one);
        assert_ne!(MetaRef::new(2, 2), one);
        assert!("AAAAAAABAAAAAAA".parse::<MetaRef>().is_err());
        assert!("AAAAAAABAAAAAAA!".parse::<MetaRef>().is_err());
    }

    #[test]
    fn shd_1_a_topic_belongs_to_the_same_shard_everywhere() {
        let n_shards = NonZeroU16::new(64).unwrap();
        // Pinned: another value here would split a cluster of mixed versions.
        assert_eq!(
            ShardIndex::of_topic("room:lobby", n_shards),
            ShardIndex(PINNED_LOBBY)
        );
        let mut hit = [false; 64];
        for i in 0..1_000 {
            hit[usize::from(ShardIndex::of_topic(&format!("room:{i}"), n_shards).0)] = true;
        }
        assert!(
            hit.iter().all(|hit| *hit),
            "every shard gets some of a thousand topics"
        );
    }

    const PINNED_LOBBY: u16 = 24;
}
