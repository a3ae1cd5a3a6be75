//! What one batch changed: collected by topic, published as views, and handed on as [`Batch`]es.
//!
//! While a batch is collected, its [`Changes`] own an edit of each topic that it touches; readers
//! go on with the snapshots from before. Publishing turns every edit into the topic's next
//! snapshot, all of one version, and tells the places which keys came or went.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use herenow_core::{Change, Diff, Key, Topic};

use super::Driver;
use crate::diff::{Event, Stamped};
use crate::group::{EntriesEdit, PresenceMeta, Snapshot, Tape};
use crate::notifier::Batch;

/// The changes of one batch, while they are collected.
#[derive(Default)]
pub(super) struct Changes {
    topics: HashMap<Topic, Changing, foldhash::fast::RandomState>,
    /// The topics, in the order in which they changed first.
    order: Vec<Topic>,
}

/// Those of one topic.
struct Changing {
    edit: EntriesEdit,
    tape: Option<Arc<Tape>>,
    changes: Vec<Stamped>,
}

impl Driver {
    /// Adds a diff of the shard to the changes of the batch.
    pub(super) fn collect(&self, diff: Diff, now: SystemTime, changes: &mut Changes) {
        let Changes { topics, order } = changes;
        for change in diff.changes {
            let topic = topic_of(&change);
            if !topics.contains_key(topic) {
                let before = self.part.views.read(topic);
                let changing = Changing {
                    edit: before.entries().edit(),
                    tape: before.tape().cloned(),
                    changes: Vec::new(),
                };
                topics.insert(topic.clone(), changing);
                order.push(topic.clone());
            }
            let changing = topics.get_mut(topic).expect("it was just put there");
            let event = apply(&mut changing.edit, change);
            changing.changes.push(Stamped {
                version: self.version + 1,
                at: now,
                event,
            });
        }
    }

    /// Publishes the views and places of the topics that changed, and returns what is to be told.
    pub(super) fn publish(&mut self, changes: Changes) -> Vec<Batch> {
        let Changes { mut topics, order } = changes;
        if order.is_empty() {
            return Vec::new();
        }
        self.version += 1;
        self.metrics.n_batches.count();
        let mut batches = Vec::with_capacity(order.len());
        for topic in order {
            let Some(changing) = topics.remove(&topic) else {
                continue;
            };
            self.count_events(&changing.changes);
            let big_room = self.config.big_room_of(topic.as_str());
            let after = Snapshot::new(topic, self.version, changing.edit.finish());
            let after = Arc::new(after.with_tape(changing.tape, big_room));
            let changes = changing.changes;
            let nodes = self.nodes.clone();
            batches.push(Batch {
                changes,
                after,
                nodes,
            });
        }
        let snapshots = batches.iter().map(|batch| batch.after.clone());
        self.part.views.publish(self.version, snapshots);
        let touched = batches.iter().flat_map(|batch| {
            let keys = batch
                .changes
                .iter()
                .filter_map(|change| placed(&change.event));
            keys.map(|key| (key, &batch.after))
        });
        self.part.places.set(touched);
        batches
    }

    fn count_events(&self, changes: &[Stamped]) {
        for change in changes {
            match &change.event {
                Event::Joined { .. } => self.metrics.n_joins.count(),
                Event::Left { .. } => self.metrics.n_leaves.count(),
                Event::Updated { .. } => {
                    self.metrics.n_joins.count();
                    self.metrics.n_leaves.count();
                }
            }
        }
    }
}

/// The key whose place a change may have changed: any but one more presence where it is already.
fn placed(event: &Event) -> Option<&Key> {
    match event {
        Event::Joined { first: false, .. } => None,
        Event::Joined { meta, .. }
        | Event::Updated { new: meta, .. }
        | Event::Left { meta, .. } => Some(meta.key()),
    }
}

fn topic_of(change: &Change) -> &Topic {
    match change {
        Change::Joined(row) | Change::Left { row, .. } => row.topic(),
        Change::Updated { new, .. } => new.topic(),
    }
}

/// Applies a change to the topic and says what it means.
fn apply(edit: &mut EntriesEdit, change: Change) -> Event {
    match change {
        Change::Joined(row) => {
            let n_before = edit.insert(row.clone());
            Event::Joined {
                meta: PresenceMeta(row),
                first: n_before == 0,
            }
        }
        Change::Updated { old, new } => {
            edit.remove(&old);
            edit.insert(new.clone());
            Event::Updated {
                old: PresenceMeta(old),
                new: PresenceMeta(new),
            }
        }
        Change::Left {
            row,
            reason,
            was_held,
        } => {
            let n_left = edit.remove(&row).unwrap_or(0);
            Event::Left {
                meta: PresenceMeta(row),
                last: n_left == 0,
                reason,
                was_held,
            }
        }
    }
}
