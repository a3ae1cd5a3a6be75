//! Ending what a user has open on this node.

use std::sync::Arc;

use herenow_protocol::event;
use herenow_pubsub::{Payload, PubSub};
use serde_json::json;

use super::rights::USER_PREFIX;

/// The event by which the channels of a topic are told to let a user go. Clients cannot send it.
pub(crate) const EVICT: &str = "herenow:evict";

/// The id of a user's connections: the topic on which they are told to end.
pub(crate) fn user_id(key: &str) -> Arc<str> {
    [USER_PREFIX, key].concat().into()
}

/// Closes all connections of the user `key` on this node, with code 1001.
pub(crate) fn evict(pubsub: &PubSub, key: &str) {
    pubsub.local_broadcast(&user_id(key), event::DISCONNECT, Payload::json("{}"));
}

/// Ends the channels of `topic` on this node in which the user `key` is, with `phx_close`. Clients
/// do not rejoin by themselves then, but may.
pub(crate) fn evict_from(pubsub: &PubSub, topic: &str, key: &str) {
    let payload = Payload::json(json!({ "key": key }).to_string());
    pubsub.local_broadcast(topic, EVICT, payload);
}

/// The user that a broadcast of [`EVICT`] is about.
pub(crate) fn evicted_key(payload: &Payload) -> Option<String> {
    let Payload::Json(json) = payload else {
        return None;
    };
    let mut fields: serde_json::Value = serde_json::from_slice(json).ok()?;
    match fields["key"].take() {
        serde_json::Value::String(key) => Some(key),
        _ => None,
    }
}
