//! Version 1: JSON objects `{"topic", "event", "payload", "ref"}`.
//!
//! A server never writes `join_ref`; `phx_error` and `phx_close` carry the join's ref as `ref`.

use bytes::Bytes;

use super::parts::{self, Part};
use super::{DecodeError, EncodeError, Encoded};
use crate::event;
use crate::message::{Message, MessageRef, Payload, ServerMessage};

pub(super) const PUSH_TAIL: &[u8] = b",\"ref\":null}";

pub(super) fn decode(frame: &Bytes) -> Result<Message, DecodeError> {
    let fields = parts::object(parts::checked_text(frame)?)?;
    let field = |field| parts::find(&fields, field).ok_or(DecodeError::MissingField { field });
    let join_ref = parts::find(&fields, "join_ref");
    Ok(Message {
        topic: parts::topic(field("topic")?)?,
        event: parts::event(field("event")?)?,
        payload: Payload::Json(frame.slice_ref(field("payload")?.get().as_bytes())),
        message_ref: parts::message_ref(field("ref")?)?,
        join_ref: join_ref.map(parts::join_ref).transpose()?.flatten(),
    })
}

pub(super) fn encode(message: &ServerMessage) -> Result<Encoded, EncodeError> {
    match message {
        ServerMessage::Push {
            topic,
            event,
            payload,
            ..
        }
        | ServerMessage::Broadcast {
            topic,
            event,
            payload,
        } => encode_push(topic.into(), event, payload),
        ServerMessage::Reply {
            message_ref,
            topic,
            status,
            response,
            ..
        } => encode_reply(message_ref.as_ref(), topic.into(), status, response),
        ServerMessage::Error {
            join_ref,
            topic,
            payload,
        } => {
            let payload = Part::Raw(json(payload)?);
            Ok(object(
                topic.into(),
                event::ERROR,
                &[payload],
                join_ref.as_ref().into(),
            ))
        }
        ServerMessage::Close { join_ref, topic } => {
            let payload = Part::Raw(b"{}");
            Ok(object(
                topic.into(),
                event::CLOSE,
                &[payload],
                join_ref.as_ref().into(),
            ))
        }
    }
}

pub(super) fn encode_push(
    topic: Part<'_>,
    event: &str,
    payload: &Payload,
) -> Result<Encoded, EncodeError> {
    Ok(object(
        topic,
        event,
        &[Part::Raw(json(payload)?)],
        Part::Raw(b"null"),
    ))
}

pub(super) fn push_head(topic: Part<'_>, event: &str) -> Vec<u8> {
    let [a, b, c, d, e] = head(topic, event);
    parts::assemble(&[a, b, c, d, e])
}

pub(super) fn encode_reply(
    message_ref: Option<&MessageRef>,
    topic: Part<'_>,
    status: &str,
    response: &Payload,
) -> Result<Encoded, EncodeError> {
    let payload = [
        Part::Raw(b"{\"response\":"),
        Part::Raw(json(response)?),
        Part::Raw(b",\"status\":"),
        Part::Text(status),
        Part::Raw(b"}"),
    ];
    Ok(object(topic, event::REPLY, &payload, message_ref.into()))
}

pub(super) fn encode_client(message: &Message) -> Result<Encoded, EncodeError> {
    let [a, b, c, d, e] = head((&message.topic).into(), &message.event);
    Ok(Encoded::text(parts::assemble(&[
        a,
        b,
        c,
        d,
        e,
        Part::Raw(json(&message.payload)?),
        Part::Raw(b",\"ref\":"),
        message.message_ref.as_ref().into(),
        Part::Raw(b",\"join_ref\":"),
        message.join_ref.as_ref().into(),
        Part::Raw(b"}"),
    ])))
}

fn head<'a>(topic: Part<'a>, event: &'a str) -> [Part<'a>; 5] {
    [
        Part::Raw(b"{\"topic\":"),
        topic,
        Part::Raw(b",\"event\":"),
        Part::Text(event),
        Part::Raw(b",\"payload\":"),
    ]
}

fn object(topic: Part<'_>, event: &str, payload: &[Part<'_>], reference: Part<'_>) -> Encoded {
    let mut parts = smallvec::SmallVec::<[Part<'_>; 16]>::from_slice(&head(topic, event));
    parts.extend_from_slice(payload);
    parts.extend([Part::Raw(b",\"ref\":"), reference, Part::Raw(b"}")]);
    Encoded::text(parts::assemble(&parts))
}

fn json(payload: &Payload) -> Result<&[u8], EncodeError> {
    match payload {
        Payload::Json(text) => Ok(text),
        Payload::Binary(bytes) => Err(EncodeError::BinaryPayload { len: bytes.len() }),
    }
}
