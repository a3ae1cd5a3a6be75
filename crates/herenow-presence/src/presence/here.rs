//! [`Here`]: one presence and its owner in one value.

use std::fmt;

use herenow_core::{LeaveReason, MetaRef};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Presence;
use crate::errors::UpdateError;
use crate::owner::{Holder, Owner};

/// A presence of one's own: dropping it is the leave. Made by [`Presence::track_on`].
#[must_use = "dropping it is the leave"]
pub struct Here {
    pub(super) presence: Presence,
    pub(super) owner: Owner,
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) meta_ref: MetaRef,
}

impl Here {
    /// Returns the key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the name of the writing that it was tracked with; updates return newer ones.
    pub fn meta_ref(&self) -> MetaRef {
        self.meta_ref
    }

    /// Replaces the meta.
    ///
    /// # Errors
    ///
    /// As [`Presence::update`].
    pub async fn update(&self, meta: impl Serialize) -> Result<MetaRef, UpdateError> {
        self.presence.update(self, &self.key, meta).await
    }

    /// Changes the meta by a function.
    ///
    /// # Errors
    ///
    /// As [`Presence::update_with`].
    pub async fn update_with(
        &self,
        change: impl FnMut(&mut Map<String, Value>) + Send,
    ) -> Result<MetaRef, UpdateError> {
        self.presence.update_with(self, &self.key, change).await
    }

    /// Leaves, and waits until readers of this node see it.
    pub async fn untrack(self) {
        self.presence.untrack_all(&self).await;
    }

    /// Sets the reason of the leave when it is dropped; [`LeaveReason::Left`] if never.
    pub fn end_with(&self, reason: LeaveReason) {
        self.owner.end_with(reason);
    }
}

impl Holder for Here {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn topic(&self) -> &str {
        &self.topic
    }
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here")
            .field("topic", &self.topic)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
