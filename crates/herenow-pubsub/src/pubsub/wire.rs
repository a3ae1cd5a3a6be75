//! How application broadcasts travel between nodes.
//!
//! A message is: version byte `1`, kind byte (`0` JSON, `1` binary), event length as two bytes big
//! endian, event, payload. The topic is in the subject. A JSON payload is checked to be UTF-8 and
//! otherwise taken at the peer's word: nodes of one cluster run the same program.

use bytes::{BufMut, Bytes, BytesMut};

use super::MAX_EVENT_BYTES;
use crate::broadcast::Payload;

const VERSION: u8 = 1;
const KIND_JSON: u8 = 0;
const KIND_BINARY: u8 = 1;
const HEAD_BYTES: usize = 4;

/// What a subject is about.
pub(super) enum Subject<'a> {
    Topic(&'a str),
    Link(&'a str),
}

pub(super) fn topic_subject(topic: &str) -> String {
    format!("t{topic}")
}

pub(super) fn link_subject(name: &str) -> String {
    format!("l{name}")
}

pub(super) fn classify(subject: &str) -> Option<Subject<'_>> {
    if let Some(topic) = subject.strip_prefix('t') {
        return Some(Subject::Topic(topic));
    }
    subject.strip_prefix('l').map(Subject::Link)
}

/// Encodes an event of at most [`MAX_EVENT_BYTES`] and its payload.
pub(super) fn encode(event: &str, payload: &Payload) -> Bytes {
    let (kind, body) = match payload {
        Payload::Json(bytes) => (KIND_JSON, bytes.clone()),
        Payload::Binary(bytes) => (KIND_BINARY, bytes.clone()),
        Payload::Local(value) => (KIND_JSON, value.json()),
    };
    let event_len = u16::try_from(event.len()).expect("checked against MAX_EVENT_BYTES");
    let mut out = BytesMut::with_capacity(HEAD_BYTES + event.len() + body.len());
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16(event_len);
    out.put_slice(event.as_bytes());
    out.put_slice(&body);
    out.freeze()
}

/// Decodes an event and its payload, which shares the message's bytes.
pub(super) fn decode(bytes: &Bytes) -> Option<(&str, Payload)> {
    let [VERSION, kind, high, low] = *bytes.first_chunk::<HEAD_BYTES>()? else {
        return None;
    };
    let event_len = usize::from(u16::from_be_bytes([high, low]));
    let body_at = HEAD_BYTES + event_len;
    if event_len > MAX_EVENT_BYTES || bytes.len() < body_at {
        return None;
    }
    let event = std::str::from_utf8(&bytes[HEAD_BYTES..body_at]).ok()?;
    let body = bytes.slice(body_at..);
    match kind {
        KIND_JSON if std::str::from_utf8(&body).is_ok() => Some((event, Payload::Json(body))),
        KIND_BINARY => Some((event, Payload::Binary(body))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let bytes = encode("said", &Payload::json("{}"));
        let (event, payload) = decode(&bytes).unwrap();
        assert_eq!(event, "said");
        assert!(matches!(payload, Payload::Json(body) if body == "{}"));
    }

    #[test]
    fn pub_22_no_prefix_or_bit_flip_of_a_message_panics() {
        let bytes = encode("an event", &Payload::json(r#"{"a":1}"#));
        for len in 0..bytes.len() {
            let _ = decode(&bytes.slice(..len));
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[len] ^= 1 << bit;
                let _ = decode(&Bytes::from(flipped));
            }
        }
        assert!(
            decode(&Bytes::from_static(&[1, 0, 0, 0, 0xff])).is_none(),
            "not UTF-8"
        );
        assert!(
            decode(&Bytes::from_static(&[2, 0, 0, 0])).is_none(),
            "unknown version"
        );
        assert!(
            decode(&Bytes::from_static(&[1, 7, 0, 0])).is_none(),
            "unknown kind"
        );
        assert!(
            decode(&Bytes::from_static(&[1, 0, 0xff, 0xff])).is_none(),
            "length past the end"
        );
    }
}
