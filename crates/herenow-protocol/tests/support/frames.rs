//! Reads the recorded frames of `conformance/vectors`.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use bytes::Bytes;
use herenow_protocol::{Encoded, Message, Payload, Serializer, ServerMessage};

const BINARY: &str = include_str!("../../../../conformance/vectors/binary.txt");
const TEXT: &str = include_str!("../../../../conformance/vectors/text.txt");

fn lines(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.split_once(':')
                .expect("a vector has a name and a colon")
        })
}

fn line(file: &'static str, name: &str) -> &'static str {
    let (_, frame) = lines(file)
        .find(|(found, _)| *found == name)
        .expect("a vector of that name");
    frame
}

/// The recorded text frame of that name.
pub(crate) fn text(name: &str) -> Bytes {
    Bytes::from_static(line(TEXT, name).trim_start().as_bytes())
}

/// The recorded binary frame of that name.
pub(crate) fn binary(name: &str) -> Bytes {
    let mut out = Vec::new();
    let mut rest = line(BINARY, name).trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (inside, after) = quoted.split_once('"').expect("a quote ends");
            out.extend_from_slice(inside.as_bytes());
            rest = after.trim_start();
        } else {
            let (byte, after) = rest.split_at(2);
            out.push(u8::from_str_radix(byte, 16).expect("two hexadecimal digits"));
            rest = after.trim_start();
        }
    }
    out.into()
}

/// Names of the recorded text frames that begin so.
pub(crate) fn text_names(prefix: &str) -> Vec<&'static str> {
    lines(TEXT)
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Names of the recorded binary frames that begin so.
pub(crate) fn binary_names(prefix: &str) -> Vec<&'static str> {
    lines(BINARY)
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(prefix))
        .collect()
}

pub(crate) fn json(text: &'static str) -> Payload {
    Payload::from_static_json(text)
}

pub(crate) fn raw(bytes: &'static [u8]) -> Payload {
    Payload::Binary(Bytes::from_static(bytes))
}

pub(crate) fn push(
    join_ref: Option<&str>,
    topic: &str,
    event: &str,
    payload: Payload,
) -> ServerMessage {
    let (topic, event) = (topic.into(), event.into());
    ServerMessage::Push {
        join_ref: join_ref.map(Into::into),
        topic,
        event,
        payload,
    }
}

pub(crate) fn broadcast(topic: &str, event: &str, payload: Payload) -> ServerMessage {
    ServerMessage::Broadcast {
        topic: topic.into(),
        event: event.into(),
        payload,
    }
}

pub(crate) fn reply(
    refs: (Option<&str>, Option<&str>),
    topic: &str,
    response: Payload,
) -> ServerMessage {
    reply_with(refs, topic, "ok", response)
}

pub(crate) fn reply_with(
    (join_ref, message_ref): (Option<&str>, Option<&str>),
    topic: &str,
    status: &str,
    response: Payload,
) -> ServerMessage {
    ServerMessage::Reply {
        join_ref: join_ref.map(Into::into),
        message_ref: message_ref.map(Into::into),
        topic: topic.into(),
        status: status.into(),
        response,
    }
}

pub(crate) fn message(
    (join_ref, message_ref): (Option<&str>, Option<&str>),
    topic: &str,
    event: &str,
    payload: Payload,
) -> Message {
    Message {
        join_ref: join_ref.map(Into::into),
        message_ref: message_ref.map(Into::into),
        topic: topic.into(),
        event: event.into(),
        payload,
    }
}

/// Encodes as text and returns it.
pub(crate) fn encoded(serializer: Serializer, message: &ServerMessage) -> String {
    let Encoded { bytes, .. } = serializer.encode(message).expect("encodes");
    String::from_utf8(bytes.to_vec()).expect("text")
}
