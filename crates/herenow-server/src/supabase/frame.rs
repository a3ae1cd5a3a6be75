//! Supabase's own binary frames: kind 3 of clients, kind 4 of servers.
//!
//! Each is a broadcast of a user's event with bytes or JSON. Between the two, in a room, it is a
//! kind 4 frame without its topic, which [`UserBroadcast`] reads and writes:
//!
//! | offset | kind 3 | kind 4 |
//! | --- | --- | --- |
//! | 0 | `3` | `4` |
//! | 1… | lengths of join ref, ref, topic, event, metadata | lengths of topic, event, metadata |
//! | 6 or 4 | encoding: `0` bytes, else JSON | encoding: `0` bytes, `1` JSON |
//! | | these fields, then the payload | these fields, then the payload |
//!
//! Lengths are one byte, texts are UTF-8. The metadata of clients is dropped, as the reference
//! does.

use bytes::{BufMut, Bytes, BytesMut};
use herenow_channels::{DecodeError, EncodeError, Encoded, Message, Payload, Serializer};
use herenow_protocol::{JoinRef, MessageRef};
use serde_json::value::RawValue;

use super::BROADCAST;

const KIND_PUSH: u8 = 3;
const KIND_BROADCAST: u8 = 4;
const PUSH_HEADER_BYTES: usize = 7;
const BROADCAST_HEADER_BYTES: usize = 5;
const ENCODING_BYTES: u8 = 0;
const ENCODING_JSON: u8 = 1;
/// Longest field, in bytes.
pub(super) const MAX_FIELD_BYTES: usize = 255;

/// A broadcast of a user's event that did not come as a text frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UserBroadcast<'a> {
    pub(super) event: &'a str,
    /// Whether the payload is one JSON value; else it is bytes.
    pub(super) is_json: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> UserBroadcast<'a> {
    /// Reads what [`UserBroadcast::to_room`] wrote; `None` if it is something else, which anyone
    /// may have broadcast.
    pub(super) fn of_room(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(BROADCAST_HEADER_BYTES)?;
        let &[KIND_BROADCAST, 0, event_len, 0, encoding] = header else {
            return None;
        };
        let (event, payload) = rest.split_at_checked(event_len.into())?;
        Some(Self {
            event: std::str::from_utf8(event).ok()?,
            is_json: encoding != ENCODING_BYTES,
            payload,
        })
    }

    /// Writes it as it travels in a room.
    ///
    /// # Errors
    ///
    /// [`EncodeError::FieldTooLong`] if the event is over 255 bytes.
    pub(super) fn to_room(self) -> Result<Bytes, EncodeError> {
        self.write("")
    }

    /// Writes the frame for a client, JSON as text where it must be; `None` if its version cannot
    /// carry it.
    ///
    /// # Errors
    ///
    /// [`EncodeError::FieldTooLong`] if the payload is bytes and the topic over 255 bytes.
    pub(super) fn encode(
        self,
        serializer: Serializer,
        topic: &str,
    ) -> Result<Option<Encoded>, EncodeError> {
        match serializer {
            Serializer::V2 if !self.is_json || topic.len() <= MAX_FIELD_BYTES => {
                Ok(Some(Encoded::binary(self.write(topic)?)))
            }
            _ if self.is_json => {
                let payload = wrapped(self.event, self.payload);
                serializer
                    .encode_broadcast(topic, BROADCAST, &payload)
                    .map(Some)
            }
            Serializer::V1 | Serializer::V2 => Ok(None),
        }
    }

    fn write(self, topic: &str) -> Result<Bytes, EncodeError> {
        let len = BROADCAST_HEADER_BYTES + topic.len() + self.event.len() + self.payload.len();
        let mut frame = BytesMut::with_capacity(len);
        frame.put_u8(KIND_BROADCAST);
        frame.put_u8(field_len("topic", topic)?);
        frame.put_u8(field_len("event", self.event)?);
        frame.put_u8(0);
        frame.put_u8(match self.is_json {
            true => ENCODING_JSON,
            false => ENCODING_BYTES,
        });
        frame.put_slice(topic.as_bytes());
        frame.put_slice(self.event.as_bytes());
        frame.put_slice(self.payload);
        Ok(frame.freeze())
    }
}

/// The payload of a broadcast as a text frame has it: the user's event, and JSON that is one value.
pub(super) fn wrapped(event: &str, json: &[u8]) -> Payload {
    let event = serde_json::to_string(event).expect("a text is JSON");
    let parts: [&[u8]; 5] = [
        br#"{"type":"broadcast","event":"#,
        event.as_bytes(),
        br#","payload":"#,
        json,
        b"}",
    ];
    Payload::Json(parts.concat().into())
}

/// Reads a binary frame of a client: kind 3, and nothing else.
///
/// # Errors
///
/// [`DecodeError`] for other kinds, for lengths beyond the frame, for texts that are not UTF-8 and
/// for JSON that is none.
pub(super) fn decode(frame: &Bytes) -> Result<Message, DecodeError> {
    match frame.first() {
        Some(&KIND_PUSH) => {}
        Some(&kind) => return Err(DecodeError::UnknownKind { kind }),
        None => return Err(DecodeError::Truncated { len: 0, need: 1 }),
    }
    let header = frame.get(1..PUSH_HEADER_BYTES);
    let header = header.ok_or(DecodeError::Truncated {
        len: frame.len(),
        need: PUSH_HEADER_BYTES,
    })?;
    let (lens, encoding) = (&header[..5], header[5]);
    let mut at = PUSH_HEADER_BYTES;
    let mut fields = [""; 5];
    let names = ["join_ref", "ref", "topic", "event", "metadata"];
    for ((value, &len), field) in fields.iter_mut().zip(lens).zip(names) {
        let end = at + usize::from(len);
        let bytes = frame.get(at..end).ok_or(DecodeError::Truncated {
            len: frame.len(),
            need: end,
        })?;
        *value = std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8 { field })?;
        at = end;
    }
    let [join_ref, message_ref, topic, event, _] = fields;
    let is_json = encoding != ENCODING_BYTES;
    let payload = &frame[at..];
    if is_json {
        // It goes into text frames as it is.
        serde_json::from_slice::<&RawValue>(payload)?;
    }
    let broadcast = UserBroadcast {
        event,
        is_json,
        payload,
    };
    let stored = broadcast.to_room();
    let stored = stored.expect("the event's length was one byte");
    let given = |text: &&str| !text.is_empty();
    Ok(Message {
        join_ref: Some(join_ref).filter(given).map(JoinRef::from),
        message_ref: Some(message_ref).filter(given).map(MessageRef::from),
        topic: topic.into(),
        event: BROADCAST.into(),
        payload: Payload::Binary(stored),
    })
}

fn field_len(field: &'static str, text: &str) -> Result<u8, EncodeError> {
    let (len, max) = (text.len(), MAX_FIELD_BYTES);
    u8::try_from(len).map_err(|_| EncodeError::FieldTooLong { field, len, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(lens: [u8; 5], encoding: u8, rest: &[u8]) -> Bytes {
        let header: Vec<u8> = [3].into_iter().chain(lens).chain([encoding]).collect();
        [header, rest.to_vec()].concat().into()
    }

    #[test]
    fn srv_1600_kind_3_is_read_and_kind_4_written_byte_for_byte() {
        let json = push([2, 3, 5, 10, 0], 1, b"12123topicuser_event{\"a\":\"b\"}");
        let message = decode(&json).unwrap();
        assert_eq!(message.join_ref, Some("12".into()));
        assert_eq!(message.message_ref, Some("123".into()));
        assert_eq!(message.topic.as_str(), "topic");
        assert_eq!(message.event, "broadcast");
        let read = UserBroadcast::of_room(message.payload.bytes()).unwrap();
        let frame = read.encode(Serializer::V2, "topic").unwrap().unwrap();
        assert_eq!(
            frame,
            Encoded::binary(&b"\x04\x05\x0a\x00\x01topicuser_event{\"a\":\"b\"}"[..])
        );
        let text = read.encode(Serializer::V1, "topic").unwrap().unwrap();
        assert_eq!(
            text,
            Encoded::text(
                r#"{"topic":"topic","event":"broadcast","payload":{"type":"broadcast","event":"user_event","payload":{"a":"b"}},"ref":null}"#
            )
        );

        let bytes = b"12123topicuser_event{\"store\":true}\x65\x66\x67";
        let message = decode(&push([2, 3, 5, 10, 14], 0, bytes)).unwrap();
        let read = UserBroadcast::of_room(message.payload.bytes()).unwrap();
        assert_eq!(read.payload, b"\x65\x66\x67");
        let frame = read.encode(Serializer::V2, "topic").unwrap().unwrap();
        assert_eq!(
            frame.bytes,
            &b"\x04\x05\x0a\x00\x00topicuser_event\x65\x66\x67"[..]
        );
        assert_eq!(read.encode(Serializer::V1, "topic").unwrap(), None);
    }

    #[test]
    fn srv_1601_fields_of_255_bytes_pass_and_of_256_do_not() {
        let (longest, too_long) = ("é".repeat(127) + "x", "é".repeat(128));
        let broadcast = |event| UserBroadcast {
            event,
            is_json: false,
            payload: b"",
        };
        let stored = broadcast(&longest).to_room().unwrap();
        assert_eq!(UserBroadcast::of_room(&stored), Some(broadcast(&longest)));
        let frame = broadcast(&longest).encode(Serializer::V2, &longest);
        assert_eq!(frame.unwrap().unwrap().bytes.len(), 5 + 255 + 255);
        assert!(broadcast(&too_long).to_room().is_err());
        let frame = broadcast("e").encode(Serializer::V2, &too_long);
        assert!(matches!(
            frame,
            Err(EncodeError::FieldTooLong { field: "topic", .. })
        ));
        let json = UserBroadcast {
            is_json: true,
            payload: b"{}",
            ..broadcast("e")
        };
        let frame = json.encode(Serializer::V2, &too_long).unwrap().unwrap();
        assert_eq!(frame.kind, herenow_protocol::FrameKind::Text);
    }

    #[test]
    fn srv_1602_frames_that_are_none_are_refused_and_nothing_panics() {
        let whole = push([1, 1, 5, 5, 2], 1, b"12topicevent{}[1]");
        assert!(decode(&whole).is_ok());
        for len in 0..whole.len() {
            // The JSON payload is the last thing, so every part of it is none.
            assert!(decode(&whole.slice(..len)).is_err(), "{len}");
        }
        for kind in [0, 1, 2, 4, 255] {
            let mut other = whole.to_vec();
            other[0] = kind;
            let refused = decode(&other.into()).unwrap_err();
            assert!(matches!(refused, DecodeError::UnknownKind { kind: k } if k == kind));
        }
        let not_utf8 = push([0, 0, 1, 0, 0], 0, b"\xff");
        assert!(matches!(
            decode(&not_utf8),
            Err(DecodeError::Utf8 { field: "topic" })
        ));
        let without_refs = decode(&push([0, 0, 1, 1, 0], 0, b"te")).unwrap();
        assert_eq!(
            (without_refs.join_ref, without_refs.message_ref),
            (None, None)
        );
        for bytes in [
            &b""[..],
            b"\x04",
            b"\x04\x00\x05\x00\x00abc",
            b"\x02\x00\x00\x00\x00",
        ] {
            assert_eq!(UserBroadcast::of_room(bytes), None);
        }
    }
}
