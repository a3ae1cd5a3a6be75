//! [`Tape`]: a large topic's list as parts that those who join share, also across versions.
//!
//! Rendering the whole list for each version of the topic would cost a storm of N joiners N² in
//! time and, as long as they read, in memory. So the list is rendered once and kept, and what
//! changed since is rendered beside it, as pieces, the newest last:
//!
//! ```text
//! whole, as of version 100 ── changes to 180 ── changes to 200 ── changes to 204
//! ```
//!
//! Whoever joins gets all pieces, the first part of the whole as `presence_state` and all else as
//! `presence_diff`s, which a client folds into the list as of the last piece. Each piece is less
//! than half as large as the one before it, or else they are made one, and in the end a new whole.
//! So there are few pieces, each change is rendered a few times however many join, and what old
//! wholes their readers still hold is a geometric series.
//!
//! What changed is read off the two trees, which share what did not. Nothing is recorded, and
//! whoever joins first at a version pays for it.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use bytes::Bytes;
use herenow_core::{Key, Row, Topic};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::entries::{Entries, is_same_write};
use super::{FieldMap, Presences, render_entry};
use crate::config::BigRoom;

/// See the module's documentation.
pub(crate) struct Tape {
    part_bytes: NonZero<usize>,
    reel: Mutex<Reel>,
}

#[derive(Default)]
struct Reel {
    version: u64,
    pieces: Vec<Arc<Piece>>,
}

impl Tape {
    /// Returns the tape of a topic's newest entries, if they are large enough to have one; `before`
    /// is that of the entries before. One that is there stays until they are half as large.
    pub(super) fn of(
        entries: &Entries,
        before: Option<Arc<Self>>,
        config: &BigRoom,
    ) -> Option<Arc<Self>> {
        let n_bytes = match entries {
            Entries::Small(_) => return None,
            Entries::Large { .. } => entries.json_bytes(),
        };
        match before {
            Some(tape) => (n_bytes >= config.parts_from_bytes / 2).then_some(tape),
            None => (n_bytes >= config.parts_from_bytes).then(|| {
                Arc::new(Self {
                    part_bytes: config.part_bytes,
                    reel: Mutex::default(),
                })
            }),
        }
    }

    /// Returns the parts of the list as of these presences, or as of newer ones.
    pub(super) fn parts(&self, presences: &Presences) -> StateParts {
        let mut reel = self.reel.lock();
        if reel.version < presences.version() || reel.pieces.is_empty() {
            reel.version = presences.version();
            reel.extend_to(presences.snapshot.entries(), self);
        }
        StateParts::of(presences, reel.version, reel.pieces.clone())
    }
}

impl Reel {
    fn extend_to(&mut self, later: &Entries, tape: &Tape) {
        let n_changed = |piece: &Arc<Piece>| piece.to.changes_to(later, |_, _| {});
        let mut n_keys = match self.pieces.last().map(n_changed) {
            Some(Some(0)) => return,
            Some(Some(n_keys)) => n_keys,
            Some(None) | None => usize::MAX, // There is nothing to compare it with.
        };
        while let Some(last) = self.pieces.last()
            && last.n_keys / 2 < n_keys
        {
            n_keys = n_keys.saturating_add(last.n_keys);
            self.pieces.pop();
        }
        let piece = match self.pieces.last() {
            Some(base) => Piece::changes(&base.to, later, tape),
            None => Piece::whole(later.clone(), None, tape),
        };
        self.pieces.push(piece);
    }
}

/// A list, or what changed in one.
pub(super) struct Piece {
    /// The entries that it leads to.
    to: Entries,
    /// Keys that it is about.
    n_keys: usize,
    parts: Mutex<Parts>,
}

/// Parts of a piece that are rendered, and what is needed for those that are not.
struct Parts {
    rendered: Vec<Bytes>,
    rest: Option<Rest>,
}

/// The part of a whole list that nobody has asked for yet.
struct Rest {
    after: Option<Key>,
    fields: Option<Arc<FieldMap>>,
    part_bytes: usize,
}

impl Piece {
    /// Returns a list that is one part.
    pub(super) fn ready(json: Bytes) -> Arc<Self> {
        Arc::new(Self {
            to: Entries::empty(),
            n_keys: 0,
            parts: Mutex::new(Parts {
                rendered: vec![json],
                rest: None,
            }),
        })
    }

    /// Returns a whole list, each part of which is rendered when it is first asked for.
    pub(super) fn whole(entries: Entries, fields: Option<Arc<FieldMap>>, tape: &Tape) -> Arc<Self> {
        let rest = Rest {
            after: None,
            fields,
            part_bytes: tape.part_bytes.get(),
        };
        Arc::new(Self {
            n_keys: entries.n_keys(),
            to: entries,
            parts: Mutex::new(Parts {
                rendered: Vec::new(),
                rest: Some(rest),
            }),
        })
    }

    /// Returns what leads from one list to another; both are trees.
    fn changes(from: &Entries, to: &Entries, tape: &Tape) -> Arc<Self> {
        let mut rendered = Vec::new();
        let mut part = Part::default();
        let n_keys = from.changes_to(to, |before, after| {
            if part.n_bytes() >= tape.part_bytes.get() {
                rendered.push(std::mem::take(&mut part).finish());
            }
            part.add(before, after);
        });
        rendered.push(part.finish());
        Arc::new(Self {
            to: to.clone(),
            n_keys: n_keys.unwrap_or(0),
            parts: Mutex::new(Parts {
                rendered,
                rest: None,
            }),
        })
    }

    /// Returns one part, rendered by the first who asks; `None` if there are not as many.
    fn part(&self, at: usize) -> Option<Bytes> {
        let mut parts = self.parts.lock();
        while parts.rendered.len() <= at {
            let rest = parts.rest.take()?;
            let is_first = parts.rendered.is_empty();
            let (part, rest) = rest.render(&self.to, is_first);
            parts.rendered.push(part);
            parts.rest = rest;
        }
        Some(parts.rendered[at].clone())
    }
}

impl Rest {
    /// Renders as much as a part holds; returns it and what is left.
    fn render(self, entries: &Entries, is_first: bool) -> (Bytes, Option<Self>) {
        let mut out = Vec::with_capacity(self.part_bytes.min(entries.json_bytes()) + 1024);
        let start: &[u8] = if is_first { b"{" } else { b"{\"joins\":{" };
        out.extend_from_slice(start);
        let mut last: Option<Key> = None;
        let is_all = entries.walk_after(self.after.as_ref().map(Key::as_str), |rows| {
            if out.len() >= self.part_bytes && last.is_some() {
                return false;
            }
            if last.is_some() {
                out.push(b',');
            }
            render_entry(rows[0].key(), rows.iter(), self.fields.as_deref(), &mut out);
            last = Some(rows[0].key().clone());
            true
        });
        let end: &[u8] = if is_first { b"}" } else { b"},\"leaves\":{}}" };
        out.extend_from_slice(end);
        out.shrink_to_fit();
        let rest = (!is_all).then_some(Self {
            after: last,
            ..self
        });
        (Bytes::from(out), rest)
    }
}

/// A `presence_diff` in the making.
#[derive(Default)]
struct Part {
    joins: Vec<u8>,
    leaves: Vec<u8>,
}

impl Part {
    fn n_bytes(&self) -> usize {
        self.joins.len() + self.leaves.len()
    }

    /// Adds what became of one key.
    fn add(&mut self, before: &[Arc<Row>], after: &[Arc<Row>]) {
        let put = |rows: &[Arc<Row>], except: &[Arc<Row>], out: &mut Vec<u8>| {
            let is_other = |row: &&Arc<Row>| !except.iter().any(|other| is_same_write(other, row));
            let rows: SmallVec<[&Arc<Row>; 4]> = rows.iter().filter(is_other).collect();
            if let Some(first) = rows.first() {
                if !out.is_empty() {
                    out.push(b',');
                }
                render_entry(first.key(), rows.iter().copied(), None, out);
            }
        };
        put(after, before, &mut self.joins);
        put(before, after, &mut self.leaves);
    }

    fn finish(self) -> Bytes {
        let (joins, leaves) = (&self.joins[..], &self.leaves[..]);
        let parts = [b"{\"joins\":{", joins, b"},\"leaves\":{", leaves, b"}}"];
        Bytes::from(parts.concat())
    }
}

/// A list of presences in parts, as JSON: the first is a `presence_state`, the others are
/// `presence_diff`s to be applied to it in this order. Made by [`Presences::parts`].
///
/// A part is rendered when it is first asked for, and shared by all who have the same list.
#[derive(Clone)]
pub struct StateParts {
    topic: Topic,
    version: u64,
    pieces: Vec<Arc<Piece>>,
    at_piece: usize,
    at_part: usize,
}

impl StateParts {
    pub(super) fn of(presences: &Presences, version: u64, pieces: Vec<Arc<Piece>>) -> Self {
        Self {
            topic: presences.topic().clone(),
            version,
            pieces,
            at_piece: 0,
            at_part: 0,
        }
    }

    /// Returns the topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Returns the version of the topic's shard at which all parts together are the list.
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl Iterator for StateParts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let piece = self.pieces.get(self.at_piece)?;
            if let Some(part) = piece.part(self.at_part) {
                self.at_part += 1;
                return Some(part);
            }
            (self.at_piece, self.at_part) = (self.at_piece + 1, 0);
        }
    }
}

impl fmt::Debug for StateParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateParts")
            .field("topic", &self.topic)
            .field("version", &self.version)
            .field("n_pieces", &self.pieces.len())
            .finish_non_exhaustive()
    }
}
