//! The list of presences and the two ways a message changes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::entry::{Entry, FoldError, Meta};
use crate::message::Payload;
use crate::serializer::{find, object};

/// One change of the list: a call of `onJoin` or `onLeave` in the JavaScript client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Metas of a key joined.
    Joined {
        /// The key.
        key: &'a str,
        /// The entry before; `None` if the key was not there.
        current: Option<&'a Entry>,
        /// The entry with only the metas that joined.
        joined: &'a Entry,
    },
    /// Metas of a key left.
    Left {
        /// The key.
        key: &'a str,
        /// The entry after; without metas if the key is gone.
        current: &'a Entry,
        /// The entry with only the metas that left, as the message has it.
        left: &'a Entry,
        /// The metas that were here until now; none if the message told nothing new. The
        /// JavaScript client does not tell this.
        removed: &'a [Meta],
    },
}

/// A topic's presences by key.
///
/// Iterates in the order of a JavaScript object: keys that look like array indices first, in
/// ascending order; then the others in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct PresenceState {
    ranks: BTreeMap<SmolStr, Rank>,
    entries: BTreeMap<Rank, (SmolStr, Entry)>,
    next: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    Index(u32),
    Nth(u64),
}

/// The joins and leaves of a `presence_diff`.
#[derive(Clone, Debug, Default)]
pub struct PresenceDiff {
    /// Keys with the metas that joined.
    pub joins: PresenceState,
    /// Keys with the metas that left.
    pub leaves: PresenceState,
}

impl PresenceDiff {
    /// Reads the payload of a `presence_diff`, `{"joins": …, "leaves": …}`; either may be missing.
    ///
    /// # Errors
    ///
    /// [`FoldError`] if it has another shape.
    pub fn from_payload(payload: &Payload) -> Result<Self, FoldError> {
        let fields = object(payload.deserialize::<&RawValue>()?.get())?;
        let half = |name| match find(&fields, name) {
            Some(raw) => PresenceState::parse(raw.get()),
            None => Ok(PresenceState::default()),
        };
        Ok(Self {
            joins: half("joins")?,
            leaves: half("leaves")?,
        })
    }
}

impl PresenceState {
    /// Reads the payload of a `presence_state`, `{key: {"metas": […]}}`.
    ///
    /// # Errors
    ///
    /// [`FoldError`] if it has another shape.
    pub fn from_payload(payload: &Payload) -> Result<Self, FoldError> {
        Self::parse(payload.deserialize::<&RawValue>()?.get())
    }

    fn parse(json: &str) -> Result<Self, FoldError> {
        let mut state = Self::default();
        for (key, raw) in object(json)? {
            state.insert(key, Entry::parse(raw)?);
        }
        Ok(state)
    }

    /// Brings the list to `new`: leaves for what is not in it, joins for what was not here.
    ///
    /// Entries that are in both and have the same refs are not touched: fields beside the metas
    /// are only taken over where a meta joined.
    pub fn sync_state(&mut self, new: &Self, observe: &mut dyn FnMut(Change<'_>)) {
        let mut diff = PresenceDiff::default();
        for (key, entry) in self.entries.values() {
            if new.get(key).is_none() {
                diff.leaves.insert(key.clone(), entry.clone());
            }
        }
        for (key, entry) in new.entries.values() {
            let Some(current) = self.get(key) else {
                diff.joins.insert(key.clone(), entry.clone());
                continue;
            };
            let joined = without(&entry.metas, &current.metas);
            if !joined.is_empty() {
                diff.joins.insert(key.clone(), entry.with_metas(joined));
            }
            let left = without(&current.metas, &entry.metas);
            if !left.is_empty() {
                diff.leaves.insert(key.clone(), current.with_metas(left));
            }
        }
        self.sync_diff(&diff, observe);
    }

    /// Applies joins, then leaves. Applying a join again changes nothing but is told again.
    pub fn sync_diff(&mut self, diff: &PresenceDiff, observe: &mut dyn FnMut(Change<'_>)) {
        for (key, joined) in diff.joins.entries.values() {
            let mut metas = match self.get(key) {
                Some(current) => without(&current.metas, &joined.metas),
                None => Vec::new(),
            };
            metas.extend_from_slice(&joined.metas);
            let current = self.insert(key.clone(), joined.with_metas(metas));
            observe(Change::Joined {
                key,
                current: current.as_ref(),
                joined,
            });
        }
        for (key, left) in diff.leaves.entries.values() {
            let Some(rank) = self.ranks.get(key).copied() else {
                continue;
            };
            let Some((_, current)) = self.entries.get_mut(&rank) else {
                continue;
            };
            let kept = without(&current.metas, &left.metas);
            let removed = without(&current.metas, &kept);
            current.metas = kept;
            observe(Change::Left {
                key,
                current,
                left,
                removed: &removed,
            });
            if current.metas.is_empty() {
                self.entries.remove(&rank);
                self.ranks.remove(key);
            }
        }
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        Some(&self.entries.get(self.ranks.get(key)?)?.1)
    }

    /// Keys and entries, in the order of a JavaScript object.
    pub fn list(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.entries
            .values()
            .map(|(key, entry)| (key.as_str(), entry))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn insert(&mut self, key: SmolStr, entry: Entry) -> Option<Entry> {
        let rank = match self.ranks.get(&key) {
            Some(rank) => *rank,
            None => {
                let rank = array_index(&key).map_or(Rank::Nth(self.next), Rank::Index);
                self.next += 1;
                self.ranks.insert(key.clone(), rank);
                rank
            }
        };
        self.entries.insert(rank, (key, entry)).map(|(_, old)| old)
    }
}

impl PartialEq for PresenceState {
    /// Same keys and entries in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.list().eq(other.list())
    }
}

impl Serialize for PresenceState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, entry) in self.list() {
            map.serialize_entry(key, entry)?;
        }
        map.end()
    }
}

/// The metas whose refs are not among those of `others`, in order.
fn without(metas: &[Meta], others: &[Meta]) -> Vec<Meta> {
    let refs: BTreeSet<&str> = others.iter().map(Meta::phx_ref).collect();
    metas
        .iter()
        .filter(|meta| !refs.contains(meta.phx_ref()))
        .cloned()
        .collect()
}

/// JavaScript's array indices: whole numbers below 2³² − 1 in their shortest form.
fn array_index(key: &str) -> Option<u32> {
    let index: u32 = key.parse().ok()?;
    let is_shortest = key == "0" || key.starts_with(|first: char| matches!(first, '1'..='9'));
    (is_shortest && index != u32::MAX).then_some(index)
}
