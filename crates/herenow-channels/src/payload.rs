//! What may be pushed, broadcast and replied with.

use bytes::Bytes;
use herenow_protocol::Payload;
use herenow_pubsub::Payload as Outgoing;
use serde::Serialize;

/// What can be pushed to a client, broadcast, or replied with.
///
/// | value | on the wire |
/// | --- | --- |
/// | `serde_json::Value`, [`Json`], a received [`Payload`] | JSON |
/// | `()` | `{}` |
/// | `Bytes`, `Vec<u8>` | a binary frame (V2 only) |
/// | [`Presences`](herenow_presence::Presences) | JSON, encoded once for all who push this state |
pub trait IntoPayload {
    /// Returns the payload.
    ///
    /// # Errors
    ///
    /// What serializing the value returned.
    fn into_payload(self) -> Result<Outgoing, serde_json::Error>;
}

/// Any serializable value, as a payload.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoPayload for Json<T> {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Ok(Outgoing::Json(serde_json::to_vec(&self.0)?.into()))
    }
}

impl IntoPayload for serde_json::Value {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Json(self).into_payload()
    }
}

impl IntoPayload for () {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Ok(Outgoing::Json(Bytes::from_static(b"{}")))
    }
}

impl IntoPayload for Outgoing {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Ok(self)
    }
}

impl IntoPayload for Payload {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Ok(match self {
            Self::Json(text) => Outgoing::Json(text),
            Self::Binary(bytes) => Outgoing::Binary(bytes),
        })
    }
}

impl IntoPayload for Bytes {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Ok(Outgoing::Binary(self))
    }
}

impl IntoPayload for Vec<u8> {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Ok(Outgoing::Binary(self.into()))
    }
}

/// Returns the payload as serializers take it; a value of this process is rendered as JSON.
pub(crate) fn wire_payload(payload: &Outgoing) -> Payload {
    match payload {
        Outgoing::Json(text) => Payload::Json(text.clone()),
        Outgoing::Binary(bytes) => Payload::Binary(bytes.clone()),
        Outgoing::Local(value) => Payload::Json(value.json()),
    }
}
