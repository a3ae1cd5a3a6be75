//! [`Scope`]: what is to be forgotten, and how the nodes tell each other: JSON on a link of its own,
//! which no client reaches.

use std::sync::Weak;

use bytes::Bytes;
use herenow_pubsub::Receiver;

use super::Inner;

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

impl Scope {
    pub(super) fn encode(&self) -> Bytes {
        let json = serde_json::to_vec(self).expect("a scope is a text or two");
        json.into()
    }
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
        match serde_json::from_slice(&bytes) {
            Ok(scope) => {
                if let Some(inner) = self.0.upgrade() {
                    inner.forget(&scope);
                }
            }
            Err(error) => {
                // Not its text, which can repeat what was sent.
                let (line, column) = (error.line(), error.column());
                tracing::warn!(
                    peer = from,
                    line,
                    column,
                    "message about fields not understood"
                );
            }
        }
    }

    fn peer_seen(&self, peer: &str) {
        if let Some(inner) = self.0.upgrade() {
            inner.tell_again(peer);
        }
    }

    fn peer_gone(&self, _peer: &str) {}
}
