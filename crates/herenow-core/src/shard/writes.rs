//! The writes of this node's own: track, update, untrack, and the end of an owner.

use std::sync::Arc;

use crate::diff::LeaveReason;
use crate::grace::End;
use crate::history::Cause;
use crate::ids::{Key, OwnerId, Topic};
use crate::index::SlotId;
use crate::row::{Meta, NewRow, Row, Version};
use crate::shard::Shard;
use crate::time::MonoTime;

/// Why a presence was not tracked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// This owner has it already.
    #[error("this owner already tracks the key in topic {topic}")]
    AlreadyTracked {
        /// The topic.
        topic: Topic,
        /// The key.
        key: Key,
        /// The owner.
        owner: OwnerId,
    },
}

/// Why a presence was not updated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// This owner does not have it.
    #[error("this owner does not track the key in topic {topic}")]
    NotTracked {
        /// The topic.
        topic: Topic,
        /// The key.
        key: Key,
        /// The owner.
        owner: OwnerId,
    },
}

impl Shard {
    /// Writes a new presence: one version.
    ///
    /// # Errors
    ///
    /// [`TrackError::AlreadyTracked`] if the owner has this key in this topic.
    pub fn handle_track(
        &mut self,
        now: MonoTime,
        owner: OwnerId,
        topic: Topic,
        key: Key,
        meta: Meta,
    ) -> Result<Arc<Row>, TrackError> {
        self.advance(now);
        if self.index.find_own(owner, &topic, &key).is_some() {
            return Err(TrackError::AlreadyTracked { topic, key, owner });
        }
        let row = self.new_row(owner, topic, key, meta, Version::ZERO);
        let (slot, row) = self.insert_own(row);
        self.own.write(row.version(), Some(slot), None);
        self.readers.joined(slot, &mut self.index);
        Ok(row)
    }

    /// Writes a presence anew, with another meta: one version.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NotTracked`] if the owner does not have this key in this topic.
    pub fn handle_update(
        &mut self,
        now: MonoTime,
        owner: OwnerId,
        topic: &Topic,
        key: &Key,
        meta: Meta,
    ) -> Result<Arc<Row>, UpdateError> {
        self.advance(now);
        let Some(slot) = self.index.find_own(owner, topic, key) else {
            return Err(UpdateError::NotTracked {
                topic: topic.clone(),
                key: key.clone(),
                owner,
            });
        };
        let old = self.index.row(slot).clone();
        let ended = old.version();
        let row = self.new_row(owner, old.topic().clone(), old.key().clone(), meta, ended);
        self.index.disown(slot);
        self.readers.replace(slot, &mut self.index);
        let (slot, new) = self.insert_own(row);
        self.own.write(new.version(), Some(slot), Some(ended));
        self.history.note(new.version(), ended, Cause::Updated);
        self.readers.updated(old, slot, &mut self.index);
        Ok(new)
    }

    /// Ends a presence: one version. Returns whether it was there.
    pub fn handle_untrack(
        &mut self,
        now: MonoTime,
        owner: OwnerId,
        topic: &Topic,
        key: &Key,
        reason: LeaveReason,
    ) -> bool {
        self.advance(now);
        let slot = self.index.find_own(owner, topic, key);
        if let Some(slot) = slot {
            self.end(slot, reason);
        }
        slot.is_some()
    }

    /// Ends all presences of an owner, one version each. Returns how many there were.
    pub fn handle_owner_end(
        &mut self,
        now: MonoTime,
        owner: OwnerId,
        reason: LeaveReason,
    ) -> usize {
        self.advance(now);
        let slots: Vec<SlotId> = self.index.slots_of_owner(owner).collect();
        for &slot in slots.iter().rev() {
            self.end(slot, reason);
        }
        slots.len()
    }

    fn end(&mut self, slot: SlotId, reason: LeaveReason) {
        let ended = self.index.row(slot).version();
        let version = self.own.seen().next();
        self.own.write(version, None, Some(ended));
        self.history.note(version, ended, Cause::Left(reason));
        self.index.disown(slot);
        self.readers
            .ended(self.now, slot, End::Told(reason), &mut self.index);
    }

    fn new_row(
        &self,
        owner: OwnerId,
        topic: Topic,
        key: Key,
        meta: Meta,
        prev: Version,
    ) -> Arc<Row> {
        let new = NewRow {
            topic,
            key,
            meta,
            owner,
        };
        let replica = Arc::clone(self.own.replica());
        Arc::new(Row::new(replica, self.own.seen().next(), prev, new))
    }

    fn insert_own(&mut self, row: Arc<Row>) -> (SlotId, Arc<Row>) {
        let slot = self.index.insert_own(row);
        (slot, self.index.row(slot).clone())
    }
}
