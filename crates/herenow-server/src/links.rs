//! What the nodes' parts say to each other beside presences: JSON, on links of their own, which no
//! client reaches.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Renders a message.
pub(crate) fn encode(message: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(message).expect("a message has texts for keys");
    json.into()
}

/// Reads what `peer` has sent. What cannot be read is logged as `what`, and nothing.
pub(crate) fn decode<T: DeserializeOwned>(peer: &str, bytes: &[u8], what: &str) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| {
            // Not its text, which can repeat what was sent.
            let (line, column) = (error.line(), error.column());
            tracing::warn!(peer, line, column, "{what} not understood");
        })
        .ok()
}
