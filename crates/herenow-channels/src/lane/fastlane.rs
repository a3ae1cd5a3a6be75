//! Frames that lanes share: what one lane encoded for a dispatch is there for the rest.
//!
//! Nothing is owned here: the [`Once`] of a dispatch belongs to whoever dispatches, and a body that
//! is encoded already to the diff or the state that it is of. A lane only says which encoding it
//! needs, by its serializer, its dialect and the part of a diff that its client lacks.

use bytes::Bytes;
use herenow_protocol::{Payload, Serializer};
use herenow_pubsub::{Broadcast, Once, client_text};

use super::Lane;
use crate::frame::Frame;

impl Lane {
    /// Returns what other sinks of this dispatch encoded already, or encodes it for them.
    pub(super) fn shared_frame(
        &self,
        event: &str,
        once: &mut Once,
        slot: u128,
        payload: impl FnOnce() -> Payload,
    ) -> Option<Frame> {
        let frame = once.get_or_encode(slot, || {
            let payload = payload();
            let encoded = match self.mailbox.dialect() {
                Some(dialect) => {
                    let topic = self.wire_topic();
                    dialect.encode_broadcast(self.serializer, &topic, event, &payload)
                }
                None => {
                    let encoded = self
                        .serializer
                        .encode_broadcast(&self.topic, event, &payload);
                    encoded.map(Some)
                }
            };
            match encoded {
                Ok(Some(encoded)) => Ok(Frame::shareable(&encoded)),
                Ok(None) => Err(None),
                Err(error) => Err(Some(error)),
            }
        });
        match frame {
            Ok(frame) => Some(Frame::from_shared(frame)),
            Err(None) => None,
            Err(Some(error)) => {
                self.mailbox.metrics().encode_errors.increment();
                tracing::warn!(topic = %client_text(&self.topic), %error, "broadcast not encodable");
                None
            }
        }
    }

    /// Names an encoding among those of one dispatch: of the whole (0, 0), or of a diff's part.
    /// Versions count writes, so 59 bits are more than they ever take.
    pub(super) fn shared_slot(&self, from: u64, to: u64) -> u128 {
        let serializer = match self.serializer {
            Serializer::V1 => 1,
            Serializer::V2 => 2,
        };
        let dialect = self.mailbox.dialect().map_or(0, |d| d.number().get());
        let format = u128::from(dialect) << 2 | serializer;
        u128::from(to) << 69 | u128::from(from) << 10 | format
    }

    /// Returns a frame of a diff's JSON: what other sinks of this dispatch encoded already; or on
    /// its own, around JSON that others have as well.
    pub(super) fn diff_frame(
        &self,
        broadcast: &Broadcast,
        once: Option<&mut Once>,
        slot: u128,
        json: Bytes,
    ) -> Option<Frame> {
        match once {
            Some(once) => {
                let payload = || Payload::Json(json);
                self.shared_frame(&broadcast.event, once, slot, payload)
            }
            // A dialect may write it otherwise.
            None if self.mailbox.dialect().is_some() => {
                let payload = || Payload::Json(json);
                self.shared_frame(&broadcast.event, &mut Once::new(), slot, payload)
            }
            None => {
                let (head, tail) =
                    self.serializer
                        .push_envelope(None, &broadcast.topic, &broadcast.event);
                Some(Frame::around(&head, json, tail))
            }
        }
    }

    /// Returns a push whose body others may share.
    pub(super) fn around(&self, event: &str, body: Bytes) -> Frame {
        let (head, tail) =
            self.serializer
                .push_envelope(self.join_ref.as_ref(), &self.wire_topic(), event);
        Frame::around(&head, body, tail)
    }
}
