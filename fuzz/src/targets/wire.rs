//! What clients and servers say to each other: serializers, batches, and the client's list.

use bytes::Bytes;
use herenow_protocol::{
    DecodeError, Encoded, FrameKind, JoinRef, LongPollConfig, Message, Payload, PresenceDiff,
    PresenceFold, PresenceState, Serializer, ServerMessage, event, split_batch,
};

use crate::reader::Reader;

const TEXT: &str = include_str!("../../../conformance/vectors/text.txt");
const BINARY: &str = include_str!("../../../conformance/vectors/binary.txt");

/// A frame is a message or an error, for a server and for a client; a message survives being
/// written and read.
pub(super) fn serializers(input: &[u8]) {
    let mut reader = Reader(input);
    let choice = reader.byte();
    let serializer = [Serializer::V1, Serializer::V2][usize::from(choice & 1)];
    let kind = [FrameKind::Text, FrameKind::Binary][usize::from(choice >> 1 & 1)];
    let bytes = Bytes::copy_from_slice(reader.0);
    let frame = Encoded { kind, bytes };
    client_frame(serializer, &frame);
    server_frame(serializer, &frame);
}

fn client_frame(serializer: Serializer, frame: &Encoded) {
    let Some(message) = told(serializer.decode(frame)) else {
        return;
    };
    assert_borrowed(&message.payload, frame);
    let written = serializer.encode_client(&message);
    let written = written.expect("what was read can be written");
    let again = serializer.decode(&written).expect("we read what we write");
    assert_same(&message, &again);
}

fn server_frame(serializer: Serializer, frame: &Encoded) {
    let Some(message) = told(serializer.decode_server(frame)) else {
        return;
    };
    // A server writes less than a client can read: replies with a status of any JSON, for one.
    if let Ok(written) = serializer.encode(&message) {
        let again = serializer
            .decode_server(&written)
            .expect("we read what we write");
        assert_eq!(again.topic(), message.topic());
        assert_eq!(
            std::mem::discriminant(&again),
            std::mem::discriminant(&message)
        );
        let twice = serializer.encode(&again).expect("it was written before");
        assert_eq!(twice, written, "a message changes when it is read");
    }
    let _shown = format!("{message:?}");
    if let ServerMessage::Push { payload, .. } | ServerMessage::Broadcast { payload, .. } = &message
    {
        assert_borrowed(payload, frame);
    }
}

/// The message, or nothing after the error was put into words.
fn told<T>(decoded: Result<T, DecodeError>) -> Option<T> {
    match decoded {
        Ok(message) => Some(message),
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() < 200, "an error repeats the frame: {words}");
            None
        }
    }
}

/// A payload is a slice of its frame, or a few bytes of ours.
fn assert_borrowed(payload: &Payload, frame: &Encoded) {
    assert!(payload.bytes().len() <= frame.bytes.len().max(4));
}

/// Equal, except that a binary frame cannot tell no ref from an empty one.
fn assert_same(message: &Message, again: &Message) {
    assert_eq!(again.topic, message.topic);
    assert_eq!(again.event, message.event);
    assert_eq!(again.payload, message.payload);
    let join_ref = |message: &Message| message.join_ref.as_ref().map(|r| r.as_str().to_owned());
    let reference = |message: &Message| message.message_ref.as_ref().map(|r| r.as_str().to_owned());
    assert_eq!(
        join_ref(again).unwrap_or_default(),
        join_ref(message).unwrap_or_default()
    );
    assert_eq!(
        reference(again).unwrap_or_default(),
        reference(message).unwrap_or_default()
    );
}

/// A body is no more frames than its limit, and each frame is read or refused.
pub(super) fn batch(input: &[u8]) {
    let mut config = LongPollConfig::default();
    config.max_parts = 5;
    config.max_base64_chars = 64;
    let body = Bytes::copy_from_slice(input);
    let mut n_parts = 0;
    for part in split_batch(&config, &body) {
        n_parts += 1;
        match part {
            Ok(frame) => {
                let is_small =
                    frame.kind == FrameKind::Text || frame.bytes.len() <= config.max_base64_chars;
                assert!(is_small, "a binary part is over its limit");
                let _ = Serializer::V2.decode(&frame);
            }
            Err(error) => drop(error.to_string()),
        }
    }
    assert!(n_parts <= config.max_parts);
}

/// Whatever a server says of who is here, the client's list follows it and holds nothing else.
pub(super) fn fold(input: &[u8]) {
    let mut reader = Reader(input);
    let mut fold = PresenceFold::new();
    let mut n_joins = 0;
    while !reader.is_at_end() {
        let line = reader.line();
        let Some((kind, text)) = line.split_first() else {
            continue;
        };
        let payload = Payload::Json(Bytes::copy_from_slice(text));
        let name = match kind {
            b's' => event::PRESENCE_STATE,
            b'd' => event::PRESENCE_DIFF,
            b'j' => {
                n_joins += 1;
                continue;
            }
            _ => "something else",
        };
        let join_ref = JoinRef::from(n_joins.to_string().as_str());
        let before = fold.state().len();
        let handled = fold.handle_event(&join_ref, name, &payload, &mut |change| {
            let _shown = format!("{change:?}");
        });
        match handled {
            Ok(_) => assert!(fold.state().len() <= before + text.len()),
            Err(error) => {
                let _words = error.to_string();
                assert_eq!(
                    fold.state().len(),
                    before,
                    "a refused message changed the list"
                );
            }
        }
        for (key, entry) in fold.state().list() {
            assert!(
                fold.state()
                    .get(key)
                    .is_some_and(|found| std::ptr::eq(found, entry))
            );
        }
        let _ = PresenceState::from_payload(&payload);
        let _ = PresenceDiff::from_payload(&payload);
    }
}

pub(super) fn seeds_of_serializers() -> Vec<Vec<u8>> {
    let text = vectors(TEXT).map(|(name, frame)| {
        let is_v2 = !name.starts_with("v1");
        [&[u8::from(is_v2)][..], frame.as_bytes()].concat()
    });
    let binary = vectors(BINARY).map(|(_, frame)| [vec![3], unquoted(frame)].concat());
    text.chain(binary).collect()
}

pub(super) fn seeds_of_batch() -> Vec<Vec<u8>> {
    vec![
        b"[null,\"1\",\"t\",\"e\",{}]\r\nAAEBAQEwMXRlAQ==\n\n[".to_vec(),
        b"AAAA\nAAA=\n\n\n\n\n\n".to_vec(),
    ]
}

pub(super) fn seeds_of_fold() -> Vec<Vec<u8>> {
    let lines = [
        r#"d{"joins":{"early":{"metas":[{"phx_ref":"z"}]}},"leaves":{}}"#,
        r#"s{"1":{"metas":[{"phx_ref":"a"}]},"2":{"metas":[{"phx_ref":"b"},{"phx_ref":"c"}]}}"#,
        r#"d{"joins":{"1":{"metas":[{"phx_ref":"d","phx_ref_prev":"a"}],"user":{"n":1}}},"leaves":{"2":{"metas":[{"phx_ref":"b"}]}}}"#,
        "j",
        r#"d{"joins":{},"leaves":{"1":{"metas":[{"phx_ref":"d"}]}}}"#,
        r#"s{"u\u0031":{"metas":[{"phx_ref":"a","phx_ref_prev":"b"},{"phx_ref":7}]}}"#,
    ];
    let all = lines.join("\n").into_bytes();
    let each = lines.map(|line| line.as_bytes().to_vec());
    each.into_iter().chain([all]).collect()
}

/// The recorded frames, with their names.
fn vectors(file: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, frame)| (name, frame.trim_start()))
}

/// Bytes as `binary.txt` writes them: two hexadecimal digits each, texts in quotes.
fn unquoted(mut rest: &str) -> Vec<u8> {
    let mut out = Vec::new();
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
    out
}
