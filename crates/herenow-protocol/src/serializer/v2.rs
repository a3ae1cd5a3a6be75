//! Version 2: JSON arrays `[join_ref, ref, topic, event, payload]`, and binary frames.
//!
//! A binary frame is a kind byte, one length byte per field, the fields, and the payload to the
//! end. Fields: push of a client `join_ref, ref, topic, event`; push of a server `join_ref, topic,
//! event`; reply `join_ref, ref, topic, status`; broadcast `topic, event`.

use std::fmt;

use bytes::Bytes;
use serde::Deserializer as _;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::parts::{self, Part};
use super::{DecodeError, EncodeError, Encoded};
use crate::event;
use crate::message::{JoinRef, Message, MessageRef, Payload, ServerMessage, WireText};

pub(super) const PUSH_TAIL: &[u8] = b"]";

const KIND_PUSH: u8 = 0;
const KIND_REPLY: u8 = 1;
const KIND_BROADCAST: u8 = 2;
const N_ELEMENTS: usize = 5;
const MAX_FIELD_BYTES: usize = 255;

pub(super) fn decode_text(frame: &Bytes) -> Result<Message, DecodeError> {
    let text = parts::checked_text(frame)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let elements = deserializer.deserialize_seq(ElementsVisitor)?;
    deserializer.end()?;
    let [join_ref, message_ref, topic, event, payload] =
        elements.map_err(|len| DecodeError::TooFewElements {
            len,
            min: N_ELEMENTS,
        })?;
    Ok(Message {
        join_ref: parts::join_ref(join_ref)?,
        message_ref: parts::message_ref(message_ref)?,
        topic: parts::topic(topic)?,
        event: parts::event(event)?,
        payload: Payload::Json(frame.slice_ref(payload.get().as_bytes())),
    })
}

/// Reads the first five elements unparsed and skips the others; fewer are their number.
struct ElementsVisitor;

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Result<[&'de RawValue; N_ELEMENTS], usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = [RawValue::NULL; N_ELEMENTS];
        for (len, element) in elements.iter_mut().enumerate() {
            match seq.next_element()? {
                Some(raw) => *element = raw,
                None => return Ok(Err(len)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Ok(elements))
    }
}

/// Reads a binary push of a client.
pub(super) fn decode_push(frame: &Bytes) -> Result<Message, DecodeError> {
    match kind_of(frame)? {
        KIND_PUSH => {}
        kind => return Err(DecodeError::UnknownKind { kind }),
    }
    let ([join_ref, message_ref, topic, event], payload) =
        fields(frame, ["join_ref", "ref", "topic", "event"])?;
    Ok(Message {
        join_ref: Some(JoinRef(WireText::text(join_ref))),
        message_ref: Some(MessageRef(WireText::text(message_ref))),
        topic: WireText::text(topic),
        event,
        payload,
    })
}

/// Reads a binary frame of a server.
pub(super) fn decode_server_binary(frame: &Bytes) -> Result<ServerMessage, DecodeError> {
    match kind_of(frame)? {
        KIND_PUSH => {
            let ([join_ref, topic, event], payload) =
                fields(frame, ["join_ref", "topic", "event"])?;
            let join_ref = Some(JoinRef(WireText::text(join_ref)));
            Ok(ServerMessage::Push {
                join_ref,
                topic: topic.into(),
                event,
                payload,
            })
        }
        KIND_REPLY => {
            let ([join_ref, message_ref, topic, status], response) =
                fields(frame, ["join_ref", "ref", "topic", "status"])?;
            Ok(ServerMessage::Reply {
                join_ref: Some(JoinRef(WireText::text(join_ref))),
                message_ref: Some(MessageRef(WireText::text(message_ref))),
                topic: topic.into(),
                status,
                response,
            })
        }
        KIND_BROADCAST => {
            let ([topic, event], payload) = fields(frame, ["topic", "event"])?;
            Ok(ServerMessage::Broadcast {
                topic: topic.into(),
                event,
                payload,
            })
        }
        kind => Err(DecodeError::UnknownKind { kind }),
    }
}

fn kind_of(frame: &[u8]) -> Result<u8, DecodeError> {
    frame
        .first()
        .copied()
        .ok_or(DecodeError::Truncated { len: 0, need: 1 })
}

fn fields<const N: usize>(
    frame: &Bytes,
    names: [&'static str; N],
) -> Result<([SmolStr; N], Payload), DecodeError> {
    let truncated = |need| DecodeError::Truncated {
        len: frame.len(),
        need,
    };
    let lens = frame.get(1..=N).ok_or_else(|| truncated(1 + N))?;
    let mut at = 1 + N;
    let mut values = [const { SmolStr::new_static("") }; N];
    for ((value, &len), field) in values.iter_mut().zip(lens).zip(names) {
        let end = at + usize::from(len);
        let bytes = frame.get(at..end).ok_or_else(|| truncated(end))?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8 { field })?;
        *value = SmolStr::new(text);
        at = end;
    }
    Ok((values, Payload::Binary(frame.slice(at..))))
}

pub(super) fn encode(message: &ServerMessage) -> Result<Encoded, EncodeError> {
    match message {
        ServerMessage::Push {
            join_ref,
            topic,
            event,
            payload,
        } => encode_push(join_ref.as_ref(), topic.into(), event, payload),
        ServerMessage::Reply {
            join_ref,
            message_ref,
            topic,
            status,
            response,
        } => {
            let (join_ref, message_ref) = (join_ref.as_ref(), message_ref.as_ref());
            encode_reply(join_ref, message_ref, topic.into(), status, response)
        }
        ServerMessage::Broadcast {
            topic,
            event,
            payload,
        } => encode_broadcast(topic.into(), event, payload),
        ServerMessage::Error {
            join_ref,
            topic,
            payload,
        } => {
            let join_ref = join_ref.as_ref().into();
            let payload = Part::Raw(payload.bytes());
            Ok(array(
                join_ref,
                join_ref,
                topic.into(),
                event::ERROR,
                payload,
            ))
        }
        ServerMessage::Close { join_ref, topic } => {
            let join_ref = join_ref.as_ref().into();
            Ok(array(
                join_ref,
                join_ref,
                topic.into(),
                event::CLOSE,
                Part::Raw(b"{}"),
            ))
        }
    }
}

pub(super) fn encode_push(
    join_ref: Option<&JoinRef>,
    topic: Part<'_>,
    event: &str,
    payload: &Payload,
) -> Result<Encoded, EncodeError> {
    match payload {
        Payload::Json(_) => {
            let payload = object(event, payload)?;
            Ok(array(join_ref.into(), NULL, topic, event, payload))
        }
        Payload::Binary(bytes) => {
            let fields = [
                ("join_ref", plain(join_ref.map(|r| &r.0))),
                ("topic", topic.plain()),
            ];
            binary(
                KIND_PUSH,
                &[fields[0], fields[1], ("event", event.as_bytes())],
                bytes,
            )
        }
    }
}

pub(super) fn push_head(join_ref: Option<&JoinRef>, topic: Part<'_>, event: &str) -> Vec<u8> {
    parts::assemble(&[
        Part::Raw(b"["),
        join_ref.into(),
        Part::Raw(b",null,"),
        topic,
        Part::Raw(b","),
        Part::Text(event),
        Part::Raw(b","),
    ])
}

pub(super) fn encode_broadcast(
    topic: Part<'_>,
    event: &str,
    payload: &Payload,
) -> Result<Encoded, EncodeError> {
    match payload {
        Payload::Json(_) => Ok(array(NULL, NULL, topic, event, object(event, payload)?)),
        Payload::Binary(bytes) => {
            let fields = [("topic", topic.plain()), ("event", event.as_bytes())];
            binary(KIND_BROADCAST, &fields, bytes)
        }
    }
}

pub(super) fn encode_reply(
    join_ref: Option<&JoinRef>,
    message_ref: Option<&MessageRef>,
    topic: Part<'_>,
    status: &str,
    response: &Payload,
) -> Result<Encoded, EncodeError> {
    let response = match response {
        Payload::Json(text) => text,
        Payload::Binary(bytes) => {
            let fields = [
                ("join_ref", plain(join_ref.map(|r| &r.0))),
                ("ref", plain(message_ref.map(|r| &r.0))),
                ("topic", topic.plain()),
                ("status", status.as_bytes()),
            ];
            return binary(KIND_REPLY, &fields, bytes);
        }
    };
    Ok(Encoded::text(parts::assemble(&[
        Part::Raw(b"["),
        join_ref.into(),
        Part::Raw(b","),
        message_ref.into(),
        Part::Raw(b","),
        topic,
        Part::Raw(b",\"phx_reply\",{\"response\":"),
        Part::Raw(response),
        Part::Raw(b",\"status\":"),
        Part::Text(status),
        Part::Raw(b"}]"),
    ])))
}

pub(super) fn encode_client(message: &Message) -> Result<Encoded, EncodeError> {
    let (join_ref, message_ref) = (message.join_ref.as_ref(), message.message_ref.as_ref());
    let topic: Part<'_> = (&message.topic).into();
    match &message.payload {
        Payload::Json(text) => {
            let payload = Part::Raw(text);
            Ok(array(
                join_ref.into(),
                message_ref.into(),
                topic,
                &message.event,
                payload,
            ))
        }
        Payload::Binary(bytes) => {
            let fields = [
                ("join_ref", plain(join_ref.map(|r| &r.0))),
                ("ref", plain(message_ref.map(|r| &r.0))),
                ("topic", topic.plain()),
                ("event", message.event.as_bytes()),
            ];
            binary(KIND_PUSH, &fields, bytes)
        }
    }
}

const NULL: Part<'static> = Part::Raw(b"null");

fn array(
    join_ref: Part<'_>,
    message_ref: Part<'_>,
    topic: Part<'_>,
    event: &str,
    payload: Part<'_>,
) -> Encoded {
    Encoded::text(parts::assemble(&[
        Part::Raw(b"["),
        join_ref,
        Part::Raw(b","),
        message_ref,
        Part::Raw(b","),
        topic,
        Part::Raw(b","),
        Part::Text(event),
        Part::Raw(b","),
        payload,
        Part::Raw(b"]"),
    ]))
}

fn object<'a>(event: &str, payload: &'a Payload) -> Result<Part<'a>, EncodeError> {
    if !payload.is_object() {
        return Err(EncodeError::PayloadNotObject {
            event: event.to_owned(),
        });
    }
    Ok(Part::Raw(payload.bytes()))
}

/// A ref as a binary frame holds it; none is the empty string.
fn plain(reference: Option<&WireText>) -> &[u8] {
    reference.map_or(b"", |text| text.as_str().as_bytes())
}

fn binary(
    kind: u8,
    fields: &[(&'static str, &[u8])],
    payload: &[u8],
) -> Result<Encoded, EncodeError> {
    let n_field_bytes: usize = fields.iter().map(|(_, value)| value.len()).sum();
    let mut out = Vec::with_capacity(1 + fields.len() + n_field_bytes + payload.len());
    out.push(kind);
    for &(field, value) in fields {
        let (len, max) = (value.len(), MAX_FIELD_BYTES);
        let byte = u8::try_from(len).map_err(|_| EncodeError::FieldTooLong { field, len, max })?;
        out.push(byte);
    }
    for (_, value) in fields {
        out.extend_from_slice(value);
    }
    out.extend_from_slice(payload);
    Ok(Encoded::binary(out))
}
