//! [`Net`]: what is left of changes once those that cancel are taken out, and its JSON.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use herenow_core::{Key, LeaveReason, MetaRef, OwnerId, Row};
use smallvec::SmallVec;

use super::{Event, Stamped};
use crate::group::{self, FieldMap, PresenceMeta};

/// The net effect of a run of changes.
pub(super) struct Net<'a> {
    changes: &'a [Stamped],
    /// Joined and not left again, in order; a cancelled one is a hole.
    joins: Vec<Option<&'a Arc<Row>>>,
    leaves: Vec<Option<&'a Arc<Row>>>,
    n_joins: usize,
    n_leaves: usize,
}

impl<'a> Net<'a> {
    pub(super) fn of(changes: &'a [Stamped]) -> Self {
        let mut net = Self {
            changes,
            joins: Vec::new(),
            leaves: Vec::new(),
            n_joins: 0,
            n_leaves: 0,
        };
        let mut at = Positions::default();
        let can_cancel = changes.len() > 1;
        for change in changes {
            match &change.event {
                Event::Joined { meta, .. } => net.join(&meta.0, &mut at, can_cancel),
                Event::Left { meta, .. } => net.leave(&meta.0, &mut at, can_cancel),
                Event::Updated { old, new } => {
                    net.leave(&old.0, &mut at, can_cancel);
                    net.join(&new.0, &mut at, can_cancel);
                }
            }
        }
        net
    }

    fn join(&mut self, row: &'a Arc<Row>, at: &mut Positions, can_cancel: bool) {
        if can_cancel {
            let meta_ref = row.meta_ref();
            // A node that was down and is up again within one diff brings back the very same refs.
            if let Some(at) = at.leaves.remove(&meta_ref) {
                self.leaves[at] = None;
                self.n_leaves -= 1;
                return;
            }
            at.joins.insert(meta_ref, self.joins.len());
        }
        self.joins.push(Some(row));
        self.n_joins += 1;
    }

    fn leave(&mut self, row: &'a Arc<Row>, at: &mut Positions, can_cancel: bool) {
        if can_cancel {
            let meta_ref = row.meta_ref();
            if let Some(at) = at.joins.remove(&meta_ref) {
                self.joins[at] = None;
                self.n_joins -= 1;
                return;
            }
            at.leaves.insert(meta_ref, self.leaves.len());
        }
        self.leaves.push(Some(row));
        self.n_leaves += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n_joins + self.n_leaves == 0
    }

    /// Returns the changes that have an effect, in order, each reduced to the part that has.
    pub(super) fn keep(&self) -> Vec<Stamped> {
        let pointers = |rows: &[Option<&'a Arc<Row>>]| -> HashMap<*const Row, ()> {
            rows.iter()
                .flatten()
                .map(|row| (Arc::as_ptr(row), ()))
                .collect()
        };
        let (joins, leaves) = (pointers(&self.joins), pointers(&self.leaves));
        let mut ends: HashMap<(OwnerId, &Key), (bool, LeaveReason, bool)> = HashMap::new();
        for change in self.changes {
            if let Event::Left {
                meta,
                last,
                reason,
                was_held,
            } = &change.event
            {
                let end = (*last, *reason, *was_held);
                ends.insert((meta.0.owner(), meta.key()), end);
            }
        }
        let mut begins: HashMap<(OwnerId, &Key), bool> = HashMap::new();
        let is_joined = |meta: &PresenceMeta| joins.contains_key(&Arc::as_ptr(&meta.0));
        let is_left = |meta: &PresenceMeta| leaves.contains_key(&Arc::as_ptr(&meta.0));
        let keep = |change: &'a Stamped| {
            let event = match &change.event {
                Event::Joined { meta, first } => {
                    begins.insert((meta.0.owner(), meta.key()), *first);
                    is_joined(meta).then(|| change.event.clone())
                }
                Event::Left { meta, .. } => is_left(meta).then(|| change.event.clone()),
                Event::Updated { old, new } => match (is_left(old), is_joined(new)) {
                    (true, true) => Some(change.event.clone()),
                    // It was updated from what joined after the beginning: this is that join.
                    (false, true) => {
                        let begin = begins.get(&(new.0.owner(), new.key()));
                        Some(Event::Joined {
                            meta: new.clone(),
                            first: begin.copied().unwrap_or(false),
                        })
                    }
                    // What it was updated to has left since: this is that leave.
                    (true, false) => {
                        let end = ends.get(&(old.0.owner(), old.key()));
                        let (last, reason, was_held) =
                            end.copied().unwrap_or((false, LeaveReason::Left, false));
                        Some(Event::Left {
                            meta: old.clone(),
                            last,
                            reason,
                            was_held,
                        })
                    }
                    (false, false) => None,
                },
            };
            event.map(|event| Stamped {
                version: change.version,
                at: change.at,
                event,
            })
        };
        self.changes.iter().filter_map(keep).collect()
    }
}

/// Where the uncancelled joins and leaves stand, by ref.
#[derive(Default)]
struct Positions {
    joins: HashMap<MetaRef, usize, foldhash::fast::RandomState>,
    leaves: HashMap<MetaRef, usize, foldhash::fast::RandomState>,
}

pub(super) fn render(net: &Net<'_>, fields: Option<&FieldMap>) -> Bytes {
    let rows = net.joins.iter().chain(&net.leaves).flatten();
    let n_bytes: usize = rows
        .map(|row| {
            let fields = fields.and_then(|fields| fields.get(row.key()));
            group::row_bytes(row) + fields.map_or(0, |fields| fields.len() + 1)
        })
        .sum();
    let mut out = Vec::with_capacity(n_bytes + 32);
    out.extend_from_slice(b"{\"joins\":");
    render_half(&net.joins, fields, &mut out);
    out.extend_from_slice(b",\"leaves\":");
    render_half(&net.leaves, fields, &mut out);
    out.push(b'}');
    Bytes::from(out)
}

fn render_half(rows: &[Option<&Arc<Row>>], fields: Option<&FieldMap>, out: &mut Vec<u8>) {
    let mut rows: SmallVec<[&Arc<Row>; 4]> = rows.iter().flatten().copied().collect();
    rows.sort_by(|one, other| group::by_key(one, other)); // Stable: metas of a key keep their order.
    out.push(b'{');
    for (at, rows) in rows.chunk_by(|a, b| a.key() == b.key()).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        group::render_entry(rows[0].key(), rows.iter().copied(), fields, out);
    }
    out.push(b'}');
}
