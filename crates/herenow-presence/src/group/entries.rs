//! [`Entries`]: the presences of one topic as an immutable, shared collection.

use std::ops::Bound;
use std::sync::Arc;

use herenow_core::{Key, Row};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::meta;

/// Presences up to which a topic is one flat slice.
const MAX_SMALL: usize = 64;
/// Presences down to which a large topic stays a tree; less than the above, so that it cannot flap.
const MIN_LARGE: usize = 32;
/// Bytes of JSON that surround a key: `"":{"metas":[]},`.
const KEY_FRAME_BYTES: usize = 16;

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

/// Tells rows apart by identity: what a write replaces is another row.
impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        let (rows, others) = (self.rows(), other.rows());
        let mut pairs = rows.iter().zip(others);
        rows.len() == others.len() && pairs.all(|(row, other)| Arc::ptr_eq(row, other))
    }
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

    /// Calls `visit` with the metas of at most `max` keys that come after `after`, in ascending
    /// order of keys. Returns whether there are more.
    pub(crate) fn for_keys_after(
        &self,
        after: Option<&str>,
        max: usize,
        mut visit: impl FnMut(&[Arc<Row>]),
    ) -> bool {
        let mut n_visited = 0;
        !self.walk_after(after, |rows| {
            if n_visited == max {
                return false;
            }
            n_visited += 1;
            visit(rows);
            true
        })
    }

    /// Calls `visit` with the metas of the keys that come after `after`, in ascending order of
    /// keys, until it says no. Returns whether it never did.
    pub(super) fn walk_after(
        &self,
        after: Option<&str>,
        mut visit: impl FnMut(&[Arc<Row>]) -> bool,
    ) -> bool {
        match self {
            Self::Small(rows) => {
                let is_before = |row: &Arc<Row>| after.is_some_and(|key| row.key().as_str() <= key);
                let begin = rows.partition_point(is_before);
                rows[begin..].chunk_by(|a, b| a.key() == b.key()).all(visit)
            }
            Self::Large { groups, .. } => {
                let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
                let mut groups = groups.range::<_, str>((begin, Bound::Unbounded));
                groups.all(|(_, group)| visit(group.rows()))
            }
        }
    }

    /// Calls `visit` with the metas of each key that has others in `later`, before and after, in
    /// ascending order of keys. `None` if one of the two is not a tree; else how many keys they
    /// are.
    ///
    /// Cost: that of the changes between the two, if one was made out of the other.
    pub(super) fn changes_to(
        &self,
        later: &Self,
        mut visit: impl FnMut(&[Arc<Row>], &[Arc<Row>]),
    ) -> Option<usize> {
        let (Self::Large { groups: before, .. }, Self::Large { groups: after, .. }) = (self, later)
        else {
            return None;
        };
        let mut n_keys = 0;
        for item in before.diff(after) {
            n_keys += 1;
            match item {
                DiffItem::Add(_, group) => visit(&[], group.rows()),
                DiffItem::Remove(_, group) => visit(group.rows(), &[]),
                DiffItem::Update { old, new } => visit(old.1.rows(), new.1.rows()),
            }
        }
        Some(n_keys)
    }

    /// Returns how many bytes of JSON they need at most.
    pub(super) fn json_bytes(&self) -> usize {
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
