//! One key's presences: its metas, and what the server's `fetch` added.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeOwned};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use crate::message::PayloadError;
use crate::serializer::{DecodeError, find, object, string};

/// Why a presence message cannot be folded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// The payload is raw bytes.
    #[error("a presence message must be JSON")]
    Payload(#[from] PayloadError),
    /// Not the JSON of a presence message.
    #[error("malformed presence message")]
    Json(#[from] serde_json::Error),
    /// A string in it that cannot be read.
    #[error("malformed presence message")]
    Text(#[from] DecodeError),
    /// An entry without `metas`.
    #[error("the entry of a key has no `metas`")]
    NoMetas,
    /// Diffs keep coming and a state does not.
    #[error("{max} diffs wait for a presence state, which is the limit")]
    TooManyPending {
        /// The limit.
        max: usize,
    },
}

/// One presence of a key: a JSON object with its `phx_ref`.
///
/// Clones share the text. `Debug` prints the ref and a length: metas are not logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Meta {
    phx_ref: SmolStr,
    phx_ref_prev: Option<SmolStr>,
    json: Arc<str>,
}

impl Meta {
    fn parse(raw: &RawValue) -> Result<Self, FoldError> {
        let fields = object(raw.get())?;
        let text = |name| match find(&fields, name) {
            Some(raw) => Ok(Some(
                string(raw)?.unwrap_or_else(|| SmolStr::new(raw.get())),
            )),
            None => Ok::<_, DecodeError>(None),
        };
        Ok(Self {
            // JavaScript compares missing refs as equal to each other; so do empty ones.
            phx_ref: text("phx_ref")?.unwrap_or_default(),
            phx_ref_prev: text("phx_ref_prev")?,
            json: raw.get().into(),
        })
    }

    /// The name of this writing of the meta.
    #[must_use]
    pub fn phx_ref(&self) -> &str {
        &self.phx_ref
    }

    /// The name of the writing that this one replaced, if it is an update.
    #[must_use]
    pub fn phx_ref_prev(&self) -> Option<&str> {
        self.phx_ref_prev.as_deref()
    }

    /// The whole object as JSON text, refs included.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Reads the object into a type; fields the type does not name are skipped.
    ///
    /// # Errors
    ///
    /// If the object does not fit the type.
    pub fn deserialize<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.json)
    }

    /// Reads one field; `None` if there is none or it is of another type.
    #[must_use]
    pub fn field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(find(&object(&self.json).ok()?, name)?.get()).ok()
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meta({}, {} bytes)", self.phx_ref, self.json.len())
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw(&self.json)?.serialize(serializer)
    }
}

/// What is known of one key: its metas in order, and the fields beside them.
///
/// Serializes as the wire has it, `{"metas": [...], ...fields}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub(super) metas: Vec<Meta>,
    fields: Arc<[(SmolStr, Box<str>)]>,
}

impl Entry {
    pub(super) fn parse(raw: &RawValue) -> Result<Self, FoldError> {
        let fields = object(raw.get())?;
        let metas = find(&fields, "metas").ok_or(FoldError::NoMetas)?;
        let metas: Vec<&RawValue> = serde_json::from_str(metas.get())?;
        let beside = fields.iter().filter(|(name, _)| name != "metas");
        Ok(Self {
            metas: metas
                .into_iter()
                .map(Meta::parse)
                .collect::<Result<_, _>>()?,
            fields: beside
                .map(|(name, raw)| (name.clone(), raw.get().into()))
                .collect(),
        })
    }

    /// This entry with other metas.
    pub(super) fn with_metas(&self, metas: Vec<Meta>) -> Self {
        Self {
            metas,
            fields: self.fields.clone(),
        }
    }

    /// The metas in order of tracking, one per device or tab; empty only in a
    /// [`Change`](super::Change) that tells of the last one's leave.
    #[must_use]
    pub fn metas(&self) -> &[Meta] {
        &self.metas
    }

    /// Reads a field beside the metas, which the server's `fetch` put there; `None` if there is
    /// none or it is of another type.
    #[must_use]
    pub fn field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let (_, json) = self.fields.iter().rev().find(|(field, _)| field == name)?;
        serde_json::from_str(json).ok()
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.fields.len()))?;
        for (name, json) in self.fields.iter() {
            map.serialize_entry(name.as_str(), raw(json)?)?;
        }
        map.serialize_entry("metas", &self.metas)?;
        map.end()
    }
}

fn raw<E: serde::ser::Error>(json: &str) -> Result<&RawValue, E> {
    serde_json::from_str(json).map_err(E::custom)
}
