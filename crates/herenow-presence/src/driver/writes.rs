//! The writes of users: track, update, and taking back a track that nobody waited for.
//!
//! The shard decides and keeps the rows; here is what it is not asked about: how many metas a key
//! may have, which row an update was made for, and whether its caller is still there. The answers
//! wait with the driver until the views are published.

use std::sync::Arc;

use herenow_core::{LeaveReason, Row, Topic, Version};
use tokio::sync::oneshot;

use super::{Driver, Reply};
use crate::errors::{TrackError, UpdateError};
use crate::group::is_same_write;
use crate::queue::{Tracked, Updated, Write};

impl Driver {
    pub(super) fn on_track(
        &mut self,
        write: Write,
        answer: oneshot::Sender<Result<Tracked, TrackError>>,
    ) {
        if answer.is_closed() {
            return; // The caller is gone: there is nothing to undo yet.
        }
        let outcome = self.try_track(write);
        let row = outcome.as_ref().ok().cloned();
        let outcome = outcome.map(|row| Tracked::new(&self.part.queue, row));
        self.replies.push(Reply::Track(answer, outcome, row));
    }

    fn try_track(&mut self, write: Write) -> Result<Arc<Row>, TrackError> {
        let Write {
            owner,
            topic,
            key,
            meta,
        } = write;
        // What is held under a key makes room for the key's return.
        let n_metas = match self.shard.is_in_grace(&topic, &key) {
            true => 0,
            false => self.n_metas(&topic, key.as_str()),
        };
        let max = self.config.max_metas_per_key;
        if n_metas >= max && self.shard.row(owner, &topic, &key).is_none() {
            let (topic, key) = (topic.to_string(), key.to_string());
            return Err(TrackError::TooManyMetas {
                topic,
                key,
                n_metas,
                max,
            });
        }
        let already = |_| TrackError::AlreadyTracked {
            topic: topic.to_string(),
            key: key.to_string(),
        };
        let now = self.clock.now();
        let row = self
            .shard
            .handle_track(now, owner, topic.clone(), key.clone(), meta);
        let row = row.map_err(already)?;
        self.metrics.n_tracked.count();
        Ok(row)
    }

    /// Returns how many presences a key has, those of this batch included where it matters.
    fn n_metas(&self, topic: &Topic, key: &str) -> usize {
        let published = self
            .part
            .views
            .peek(topic.as_str(), |entries| entries.metas(key).len());
        let published = published.unwrap_or(0);
        if published + self.replies.len() < self.config.max_metas_per_key {
            return published;
        }
        let is_new = |reply: &&Reply| match reply {
            Reply::Track(_, _, Some(row)) => row.topic() == topic && row.key().as_str() == key,
            Reply::Track(_, _, None)
            | Reply::Update(..)
            | Reply::Untrack(..)
            | Reply::Ended(..)
            | Reply::Flush(_)
            | Reply::Bye(_) => false,
        };
        published + self.replies.iter().filter(is_new).count()
    }

    pub(super) fn on_update(
        &mut self,
        write: Write,
        expected: Option<Version>,
    ) -> Result<Updated, UpdateError> {
        let Write {
            owner,
            topic,
            key,
            meta,
        } = write;
        if let Some(expected) = expected
            && let Some(row) = self.shard.row(owner, &topic, &key)
            && row.version() != expected
        {
            return Ok(Updated::Conflict(row.clone()));
        }
        let now = self.clock.now();
        let row = self.shard.handle_update(now, owner, &topic, &key, meta);
        let row = row.map_err(|_| UpdateError::NotTracked {
            topic: topic.to_string(),
            key: key.to_string(),
        })?;
        self.metrics.n_updated.count();
        Ok(Updated::Done(row))
    }

    /// Takes back a track whose caller was gone before the answer, unless it was replaced since.
    pub(super) fn on_undo(&mut self, row: &Arc<Row>) {
        let current = self.shard.row(row.owner(), row.topic(), row.key());
        if current.is_some_and(|current| is_same_write(current, row)) {
            let (now, reason) = (self.clock.now(), LeaveReason::Closed);
            self.shard
                .handle_untrack(now, row.owner(), row.topic(), row.key(), reason);
            self.metrics.n_undone.count();
        }
    }
}
