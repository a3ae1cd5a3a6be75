//! Ending what a user has open, on all nodes.

use herenow_channels::{BroadcastError, Sockets};
use herenow_pubsub::{BroadcastError as PubSubError, Payload};
use serde_json::json;

use super::rights::USER_PREFIX;

/// The event by which the channels of a topic are told to let a user go. Clients cannot send it.
pub(crate) const EVICT: &str = "herenow:evict";

/// The id of a user's connections: the topic on which they are told to end.
pub(crate) fn user_id(key: &str) -> String {
    format!("{USER_PREFIX}{key}")
}

/// Closes all connections of the user `key`, on every node, with code 1001. Whoever has a valid
/// token may connect again; in dev mode connections are nobody's, and none is closed.
///
/// # Errors
///
/// If the cluster's engine did not take it; then nobody is disconnected.
pub fn evict(sockets: &Sockets, key: &str) -> Result<(), PubSubError> {
    sockets.disconnect(&user_id(key))
}

/// Ends the channels of `topic` in which the user `key` is, on every node, with `phx_close`.
/// Clients do not rejoin by themselves then, but may.
///
/// # Errors
///
/// If the cluster's engine did not take it; then nobody is evicted.
pub fn evict_from(sockets: &Sockets, topic: &str, key: &str) -> Result<(), BroadcastError> {
    sockets.broadcast(topic, EVICT, json!({ "key": key }))
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
