//! [`Scope`]: what is to be forgotten, and how the nodes tell each other: JSON on a link of its own,
//! which no client reaches.

use std::sync::Weak;

use bytes::Bytes;
use herenow_pubsub::Receiver;

use super::Inner;
use crate::links;

/// Which fields are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// Those of one key, in all topics.
    Key(String),
    /// Those that are shown in one topic.
    Topic(String),
    All,
}

/// Forgets what other nodes have forgotten.
#[derive(Debug)]
pub(super) struct Heard(Weak<Inner>);

impl Heard {
    pub(super) fn new(inner: Weak<Inner>) -> Self {
        Self(inner)
    }
}

impl Receiver for Heard {
    fn receive(&self, from: &str, _subject: &str, bytes: Bytes) {
        let scope = links::decode(from, &bytes, "message about fields");
        if let Some((scope, inner)) = scope.zip(self.0.upgrade()) {
            inner.forget(&scope);
        }
    }

    fn peer_seen(&self, peer: &str) {
        if let Some(inner) = self.0.upgrade() {
            inner.tell_again(peer);
        }
    }

    fn peer_gone(&self, _peer: &str) {}
}
