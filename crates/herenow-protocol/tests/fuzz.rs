//! No bytes make a decoder panic, and what is written is read again.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of these tests are tests too"
)]

#[path = "support/frames.rs"]
mod common;

use bytes::Bytes;
use herenow_protocol::{
    Encoded, FrameKind, LongPollConfig, Message, Payload, PresenceDiff, PresenceState, Serializer,
    WireText, split_batch,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn feed(bytes: &[u8]) {
    let frame = Bytes::copy_from_slice(bytes);
    for serializer in [Serializer::V1, Serializer::V2] {
        let _ = serializer.decode_text(&frame);
        let _ = serializer.decode_binary(&frame);
        for kind in [FrameKind::Text, FrameKind::Binary] {
            let _ = serializer.decode_server(&Encoded {
                kind,
                bytes: frame.clone(),
            });
        }
    }
    let payload = Payload::Json(frame.clone());
    let _ = PresenceState::from_payload(&payload);
    let _ = PresenceDiff::from_payload(&payload);
    for part in split_batch(&LongPollConfig::default(), &frame) {
        let _ = part;
    }
}

/// A recorded frame, or a presence message, with some bytes overwritten, cut out or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = vec![
        br#"{"joins":{"1":{"metas":[{"phx_ref":"a"}],"user":{"n":1}}},"leaves":{}}"#.to_vec(),
        br#"{"u\u0031":{"metas":[{"phx_ref":"a","phx_ref_prev":"b"},{"phx_ref":7}]}}"#.to_vec(),
        b"[null,\"1\",\"t\",\"e\",{}]\r\nAAEBAQEwMXRlAQ==\n\n[".to_vec(),
    ];
    frames.extend(
        common::text_names("")
            .iter()
            .map(|name| common::text(name).to_vec()),
    );
    frames.extend(
        common::binary_names("")
            .iter()
            .map(|name| common::binary(name).to_vec()),
    );
    let edits = vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6);
    (prop::sample::select(frames), edits).prop_map(|(mut frame, edits)| {
        for (index, byte, kind) in edits {
            if frame.is_empty() {
                frame.push(byte);
            }
            let at = index.index(frame.len());
            match kind {
                0 => frame[at] = byte,
                1 => drop(frame.remove(at)),
                _ => frame.insert(at, frame[at]),
            }
        }
        frame
    })
}

fn reference() -> impl Strategy<Value = Option<WireText>> {
    prop_oneof![
        Just(None),
        any::<String>()
            .prop_filter("refs are bounded", |text| text.len() <= 255)
            .prop_map(|text| Some(WireText::text(text))),
    ]
}

fn message(payload: impl Strategy<Value = Payload>) -> impl Strategy<Value = Message> {
    let text = || "\\PC{0,60}";
    (reference(), reference(), text(), text(), payload).prop_map(
        |(join, reference, topic, event, payload)| Message {
            join_ref: join.map(herenow_protocol::JoinRef),
            message_ref: reference.map(herenow_protocol::MessageRef),
            topic: WireText::text(topic),
            event: event.into(),
            payload,
        },
    )
}

fn json() -> impl Strategy<Value = Payload> {
    any::<(String, f64, Vec<i32>)>().prop_map(|value| Payload::serialize(&value).unwrap())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        feed(&bytes);
    }

    #[test]
    fn random_json_like_text_never_panics(text in "[\\[\\]{}\",:\\\\ue0-9a-f.+-]{0,80}") {
        feed(text.as_bytes());
        feed(format!("[null,1,\"t\",\"e\",{text}]").as_bytes());
    }

    #[test]
    fn mutated_frames_never_panic(frame in mutated()) {
        feed(&frame);
    }

    #[test]
    fn client_messages_survive_text(message in message(json())) {
        for serializer in [Serializer::V1, Serializer::V2] {
            let frame = serializer.encode_client(&message).unwrap();
            prop_assert_eq!(frame.kind, FrameKind::Text);
            prop_assert_eq!(&serializer.decode(&frame).unwrap(), &message);
        }
    }

    #[test]
    fn client_messages_survive_binary(
        message in message(vec(any::<u8>(), 0..50).prop_map(|bytes| Payload::Binary(bytes.into())))
    ) {
        let Ok(frame) = Serializer::V2.encode_client(&message) else { return Ok(()) };
        let decoded = Serializer::V2.decode(&frame).unwrap();
        let text = |reference: &Option<herenow_protocol::JoinRef>| {
            reference.as_ref().map_or(String::new(), |reference| reference.as_str().to_owned())
        };
        prop_assert_eq!(text(&decoded.join_ref), text(&message.join_ref));
        prop_assert_eq!(decoded.topic, message.topic);
        prop_assert_eq!(decoded.event, message.event);
        prop_assert_eq!(decoded.payload, message.payload);
    }
}
