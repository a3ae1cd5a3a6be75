//! [`Batch`]: what goes to the receiver in one request.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use herenow_presence::Topic;
use tokio::time::Instant;

use super::losses::Losses;

/// An event that waits.
#[derive(Debug)]
pub(in crate::events) struct Item {
    pub(in crate::events) json: Bytes,
    pub(super) came: Instant,
}

/// Events of one topic, in order.
#[derive(Debug)]
pub(in crate::events) struct Part {
    pub(super) topic: Topic,
    pub(in crate::events) items: VecDeque<Item>,
}

/// What goes to the receiver in one request.
#[derive(Debug)]
pub(in crate::events) struct Batch {
    /// None if it only tells of losses.
    pub(in crate::events) parts: Vec<Part>,
    pub(in crate::events) losses: Losses,
    /// How often in a row such a telling has failed before.
    pub(in crate::events) n_failed: usize,
}

impl Batch {
    pub(in crate::events) fn n_events(&self) -> usize {
        self.parts.iter().map(|part| part.items.len()).sum()
    }

    /// How long ago the first of its events came, and the last one.
    pub(in crate::events) fn ages(&self, now: Instant) -> (Duration, Duration) {
        let items = self.parts.iter().flat_map(|part| &part.items);
        let came = items.map(|item| item.came);
        let age =
            |came: Option<Instant>| came.map_or(Duration::ZERO, |came| now.duration_since(came));
        (age(came.clone().min()), age(came.max()))
    }

    /// The body of its request: what was lost comes first.
    pub(in crate::events) fn body(&self, node: &str) -> Bytes {
        let items = self.parts.iter().flat_map(|part| &part.items);
        let n_bytes: usize = items.clone().map(|item| item.json.len() + 1).sum();
        let mut body = Vec::with_capacity(n_bytes + 256);
        body.extend_from_slice(b"{\"node\":");
        body.extend_from_slice(serde_json::Value::from(node).to_string().as_bytes());
        body.extend_from_slice(b",\"events\":[");
        let losses = self.losses.records().into_iter().map(Bytes::from);
        for (at, json) in losses
            .chain(items.map(|item| item.json.clone()))
            .enumerate()
        {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&json);
        }
        body.extend_from_slice(b"]}");
        body.into()
    }
}

/// The bytes of these events.
pub(super) fn n_bytes(items: &VecDeque<Item>) -> usize {
    items.iter().map(|item| item.json.len()).sum()
}
