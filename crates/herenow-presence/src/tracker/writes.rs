//! Writes on their way to the shard of their topic, and their answers on the way back.
//!
//! Here a name is checked and a meta measured, and a caller waits no longer than the configuration
//! allows. The rows are the shard's, the queue is bounded by itself, and which shards an owner is
//! in the owner remembers: it is told as soon as a track is accepted, and a caller that is gone
//! before that leaves nothing behind.

use std::sync::Arc;

use herenow_core::{Key, LeaveReason, Meta, Row, Topic, Version};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Tracker;
use crate::errors::{NameError, TrackError, UpdateError};
use crate::meta::MetaError;
use crate::owner::Owner;
use crate::queue::{Command, Updated, Write};

impl Tracker {
    pub(crate) async fn track(
        &self,
        owner: &Owner,
        topic: &str,
        key: &str,
        json: String,
    ) -> Result<Arc<Row>, TrackError> {
        let queue = &self.part(topic).queue;
        let write = self.write::<TrackError>(owner, topic, key, json)?;
        let deadline = self.shared.config.write_deadline;
        let tracking = async {
            let (answer, answered) = oneshot::channel();
            if !queue.push_write(Command::Track { write, answer }).await {
                return Err(TrackError::Closed);
            }
            // Dropped anywhere before `accept`, the answer undoes itself.
            answered.await.map_err(|_| TrackError::Closed)?
        };
        let tracked = timeout(deadline, tracking).await.unwrap_or_else(|_| {
            self.shared.metrics.n_late_writes.count();
            Err(TrackError::Late { deadline })
        })?;
        let row = tracked.accept();
        owner.hold(queue);
        Ok(row)
    }

    /// Replaces a meta; with `expected`, only if the row is still of that version.
    pub(crate) async fn update(
        &self,
        owner: &Owner,
        topic: &str,
        key: &str,
        json: String,
        expected: Option<Version>,
    ) -> Result<Updated, UpdateError> {
        let queue = &self.part(topic).queue;
        let write = self.write::<UpdateError>(owner, topic, key, json)?;
        let updating = async {
            let (answer, answered) = oneshot::channel();
            if !queue
                .push_write(Command::Update {
                    write,
                    expected,
                    answer,
                })
                .await
            {
                return Err(UpdateError::Closed);
            }
            answered.await.map_err(|_| UpdateError::Closed)?
        };
        let deadline = self.shared.config.write_deadline;
        timeout(deadline, updating).await.unwrap_or_else(|_| {
            self.shared.metrics.n_late_writes.count();
            Err(UpdateError::Late { deadline })
        })
    }

    /// Returns the row as the shard has it.
    pub(crate) async fn read_row(
        &self,
        owner: &Owner,
        topic: &str,
        key: &str,
    ) -> Result<Arc<Row>, UpdateError> {
        let not_tracked = || UpdateError::NotTracked {
            topic: topic.to_owned(),
            key: key.to_owned(),
        };
        let (name, its_key) = self.names(topic, key)?;
        let (answer, answered) = oneshot::channel();
        let command = Command::ReadRow {
            owner: owner.id(),
            topic: name,
            key: its_key,
            answer,
        };
        if !self.part(topic).queue.push(command) {
            return Err(UpdateError::Closed);
        }
        let deadline = self.shared.config.write_deadline;
        let row = timeout(deadline, answered).await;
        let row = row.map_err(|_| UpdateError::Late { deadline })?;
        row.map_err(|_| UpdateError::Closed)?
            .ok_or_else(not_tracked)
    }

    pub(crate) async fn untrack(&self, owner: &Owner, topic: &str, key: &str) -> bool {
        let Ok((name, key)) = self.names(topic, key) else {
            return false;
        };
        let queue = &self.part(topic).queue;
        let (answer, answered) = oneshot::channel();
        queue.push(Command::Untrack {
            owner: owner.id(),
            topic: name,
            key,
            answer,
        });
        let was_there = answered.await.unwrap_or(false);
        if was_there {
            owner.release(queue);
        }
        was_there
    }

    /// Lets a key go that is in grace here. Returns whether it was.
    pub(crate) async fn end_grace(&self, topic: &str, key: &str, reason: LeaveReason) -> bool {
        let Ok((name, key)) = self.names(topic, key) else {
            return false;
        };
        let (answer, answered) = oneshot::channel();
        self.part(topic).queue.push(Command::EndGrace {
            topic: name,
            key,
            reason,
            answer,
        });
        answered.await.unwrap_or(false)
    }

    pub(crate) async fn untrack_all(&self, owner: &Owner) -> usize {
        let mut waiting = Vec::new();
        for queue in owner.release_all() {
            let (answer, answered) = oneshot::channel();
            let (owner, reason) = (owner.id(), LeaveReason::Left);
            queue.push(Command::EndOwner {
                owner,
                reason,
                answer: Some(answer),
            });
            waiting.push(answered);
        }
        let mut n_left = 0;
        for answered in waiting {
            n_left += answered.await.unwrap_or(0);
        }
        n_left
    }

    fn write<E: From<NameError> + From<MetaError>>(
        &self,
        owner: &Owner,
        topic: &str,
        key: &str,
        json: String,
    ) -> Result<Write, E> {
        let (topic, key) = self.names(topic, key)?;
        let len = json.len();
        let meta = Meta::new(json).map_err(|_| MetaError::TooLarge {
            len,
            max: herenow_core::MAX_META_BYTES,
        })?;
        Ok(Write {
            owner: owner.id(),
            topic,
            key,
            meta,
        })
    }

    fn names(&self, topic: &str, key: &str) -> Result<(Topic, Key), NameError> {
        let config = &self.shared.config;
        NameError::check("topic", topic, config.max_topic_bytes)?;
        NameError::check("key", key, config.max_key_bytes)?;
        // The registry's own copy if somebody listens there, the view's if somebody is present.
        let name = match self.views(topic).find(topic) {
            Some(snapshot) => snapshot.topic().clone(),
            None => Topic::new(self.shared.pubsub.intern(topic))
                .map_err(|_| NameError::too_long("topic", topic, herenow_core::MAX_TOPIC_BYTES))?,
        };
        let key = Key::new(key)
            .map_err(|_| NameError::too_long("key", key, herenow_core::MAX_KEY_BYTES))?;
        Ok((name, key))
    }
}
