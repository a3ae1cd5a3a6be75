//! Why a write was refused.

use std::time::Duration;

use crate::meta::MetaError;

/// Why a presence was not tracked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// The owner is present in the topic under that key already; update it instead.
    #[error("{key} is tracked in {topic} already by this owner")]
    AlreadyTracked {
        /// The topic.
        topic: String,
        /// The key.
        key: String,
    },
    /// The meta is no JSON object, or too large.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The topic or the key is empty or too long.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The key has as many presences in the topic as are allowed.
    #[error("{key} has {n_metas} presences in {topic}, the limit is {max}")]
    TooManyMetas {
        /// The topic.
        topic: String,
        /// The key.
        key: String,
        /// How many it has.
        n_metas: usize,
        /// The configured limit.
        max: usize,
    },
    /// It was not done in time, and is undone.
    #[error("not tracked within {deadline:?}")]
    Late {
        /// The configured deadline.
        deadline: Duration,
    },
    /// The presence system was shut down.
    #[error("the presence system is shut down")]
    Closed,
}

/// Why a presence was not updated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The owner is not present in the topic under that key.
    #[error("{key} is not tracked in {topic} by this owner")]
    NotTracked {
        /// The topic.
        topic: String,
        /// The key.
        key: String,
    },
    /// The meta is no JSON object, or too large.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The topic or the key is empty or too long.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The update function said no; the presence is as it was.
    #[error("the update was refused: {reason}")]
    Refused {
        /// What the function said.
        reason: String,
    },
    /// The update function panicked; the presence is as it was.
    #[error("the update function panicked")]
    Panicked,
    /// It was not done in time; it may still be.
    #[error("not updated within {deadline:?}")]
    Late {
        /// The configured deadline.
        deadline: Duration,
    },
    /// The presence system was shut down.
    #[error("the presence system is shut down")]
    Closed,
}

/// Why a topic or key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is too long.
    #[error("{field} is {len} bytes, the limit is {max}")]
    TooLong {
        /// `topic` or `key`.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The configured limit.
        max: usize,
    },
    /// It is empty.
    #[error("{field} is empty")]
    Empty {
        /// `topic` or `key`.
        field: &'static str,
    },
}

impl NameError {
    /// Checks that a name is not empty and has `max` bytes at most.
    pub(crate) fn check(field: &'static str, name: &str, max: usize) -> Result<(), Self> {
        if name.is_empty() {
            return Err(Self::Empty { field });
        }
        if name.len() > max {
            return Err(Self::too_long(field, name, max));
        }
        Ok(())
    }

    pub(crate) fn too_long(field: &'static str, name: &str, max: usize) -> Self {
        let len = name.len();
        Self::TooLong { field, len, max }
    }
}
