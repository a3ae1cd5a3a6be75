//! Areas N and JZ: both formats, against recorded frames.

#[path = "support/frames.rs"]
mod common;

use bytes::Bytes;
use common::{binary, broadcast, encoded, json, message, push, raw, reply, reply_with, text};
use herenow_protocol::Serializer::{V1, V2};
use herenow_protocol::{DecodeError, EncodeError, Encoded, Serializer, ServerMessage};

const M: &str = r#"{"m":1}"#;

#[test]
fn n_01_v1_push_has_four_keys_and_no_join_ref() {
    let frame = encoded(V1, &push(Some("1"), "t", "e", json(r#""m""#)));
    assert_eq!(
        frame,
        r#"{"topic":"t","event":"e","payload":"m","ref":null}"#
    );
    let frame = encoded(V1, &push(None, "room:1", "new_msg", json(r#"{"a":1}"#)));
    assert_eq!(frame, text("v1_broadcast"));
}

#[test]
fn n_02_v1_reply_wraps_status_and_response() {
    let frame = encoded(V1, &reply((Some("1"), Some("null")), "t", json("null")));
    assert_eq!(
        frame,
        r#"{"topic":"t","event":"phx_reply","payload":{"response":null,"status":"ok"},"ref":"null"}"#
    );
    let frame = encoded(V1, &reply((None, Some("7")), "room:1", json("{}")));
    assert_eq!(frame, text("v1_reply"));
}

#[test]
fn n_03_v1_decodes_an_object() {
    let frame = Bytes::from_static(br#"{"event":"e","payload":"m","ref":null,"topic":"t"}"#);
    let expected = message((None, None), "t", "e", json(r#""m""#));
    assert_eq!(V1.decode_text(&frame).unwrap(), expected);
    assert_eq!(V1.decode_binary(&frame).unwrap(), expected);
    let frame = Bytes::from_static(
        br#"{"join_ref":"7","event":"e","payload":{},"ref":"8","\u0074opic":"t","x":[]}"#,
    );
    let expected = message((Some("7"), Some("8")), "t", "e", json("{}"));
    assert_eq!(V1.decode_text(&frame).unwrap(), expected);
}

#[test]
fn n_04_v1_refuses_an_array_and_says_what_it_wants() {
    let error = V1.decode_text(&text("malformed_v1_array")).unwrap_err();
    let DecodeError::Json(error) = error else {
        panic!("{error:?}")
    };
    assert!(
        error.to_string().contains("expected a JSON object"),
        "{error}"
    );
}

#[test]
fn n_05_v1_broadcast_is_the_same_as_a_push() {
    let payload = json(r#""m""#);
    let frame = encoded(V1, &broadcast("t", "e", payload.clone()));
    assert_eq!(frame, encoded(V1, &push(None, "t", "e", payload)));
}

#[test]
fn n_06_v2_push_is_an_array_of_five() {
    assert_eq!(
        encoded(V2, &push(None, "t", "e", json(M))),
        text("v2_broadcast")
    );
    assert_eq!(
        encoded(V2, &push(Some("1"), "room:a", "bye", json(M))),
        text("v2_push")
    );
}

#[test]
fn n_07_v2_push_must_be_an_object() {
    for payload in ["1", r#""m""#, "[1]", "null", ""] {
        let error = V2.encode(&push(None, "t", "e", json(payload))).unwrap_err();
        assert_eq!(error, EncodeError::PayloadNotObject { event: "e".into() });
    }
}

#[test]
fn n_08_v2_reply_wraps_status_and_response() {
    let frame = encoded(V2, &reply_with((None, None), "t", "null", json(M)));
    assert_eq!(
        frame,
        r#"[null,null,"t","phx_reply",{"response":{"m":1},"status":"null"}]"#
    );
    let frame = encoded(V2, &reply((Some("1"), Some("1")), "room:a", json("{}")));
    assert_eq!(frame, text("v2_join_reply"));
}

#[test]
fn n_09_v2_decodes_an_array_of_five_or_more() {
    let expected = message(
        (Some("1"), Some("1")),
        "room:a",
        "phx_join",
        json(r#"{"token":"x"}"#),
    );
    assert_eq!(V2.decode_text(&text("client_join")).unwrap(), expected);
    let expected = message((None, Some("1")), "room:a", "e", json("{}"));
    assert_eq!(
        V2.decode_text(&text("client_six_elements")).unwrap(),
        expected
    );
    let spaced = Bytes::from_static(b" [ null , \"1\" , \"room:a\" , \"e\" , {} ] \n");
    assert_eq!(V2.decode_text(&spaced).unwrap(), expected);
}

#[test]
fn n_10_v2_broadcast_is_the_same_as_a_push_without_join_ref() {
    assert_eq!(
        encoded(V2, &broadcast("t", "e", json(M))),
        text("v2_broadcast")
    );
}

#[test]
fn n_11_v2_broadcast_must_be_an_object() {
    let error = V2.encode(&broadcast("t", "e", json(r#""m""#))).unwrap_err();
    assert_eq!(error, EncodeError::PayloadNotObject { event: "e".into() });
}

#[test]
fn n_12_v2_binary_push_bytes() {
    let frame = V2
        .encode(&push(Some("12"), "topic", "event", raw(b"efg")))
        .unwrap();
    assert_eq!(frame, Encoded::binary(binary("server_push")));
    let frame = V2
        .encode(&push(None, "topic", "event", raw(b"efg")))
        .unwrap();
    assert_eq!(
        frame,
        Encoded::binary(binary("server_push_without_join_ref"))
    );
}

#[test]
fn n_13_v2_binary_push_names_the_field_that_is_too_long() {
    let long = "x".repeat(256);
    let fields = |error| match error {
        EncodeError::FieldTooLong {
            field,
            len: 256,
            max: 255,
        } => field,
        error => panic!("{error:?}"),
    };
    let error = |message| fields(V2.encode(&message).unwrap_err());
    assert_eq!(error(push(Some("1"), &long, "event", raw(b""))), "topic");
    assert_eq!(error(push(Some("1"), "topic", &long, raw(b""))), "event");
    assert_eq!(
        error(push(Some(&long), "topic", "event", raw(b""))),
        "join_ref"
    );
    assert!(
        V2.encode(&push(Some("1"), &"x".repeat(255), "event", raw(b"")))
            .is_ok()
    );
}

#[test]
fn n_14_v2_binary_reply_bytes() {
    let frame = V2
        .encode(&reply((Some("12"), Some("123")), "topic", raw(b"efg")))
        .unwrap();
    assert_eq!(frame, Encoded::binary(binary("server_reply")));
    let long = "x".repeat(256);
    let error = V2
        .encode(&reply((Some("12"), Some(&long)), "topic", raw(b"")))
        .unwrap_err();
    assert_eq!(error.to_string(), "ref is 256 bytes, the limit is 255");
    let status = reply_with((None, None), "topic", &long, raw(b""));
    assert_eq!(
        V2.encode(&status).unwrap_err().to_string(),
        "status is 256 bytes, the limit is 255"
    );
}

#[test]
fn n_15_v2_binary_broadcast_bytes() {
    let frame = V2
        .encode(&broadcast("topic", "event", raw(b"efg")))
        .unwrap();
    assert_eq!(frame, Encoded::binary(binary("server_broadcast")));
    let long = "x".repeat(256);
    for (topic, event, field) in [(long.as_str(), "event", "topic"), ("topic", &long, "event")] {
        let error = V2.encode(&broadcast(topic, event, raw(b""))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{field} is 256 bytes, the limit is 255")
        );
    }
}

#[test]
fn n_16_v2_decodes_a_binary_push_of_a_client() {
    let frame = binary("client_push");
    let expected = message((Some("12"), Some("123")), "topic", "event", raw(b"efg"));
    assert_eq!(V2.decode_binary(&frame).unwrap(), expected);
    // An empty ref is not a missing one.
    let expected = message((Some(""), Some("")), "t", "e", raw(b""));
    assert_eq!(
        V2.decode_binary(&binary("client_push_without_refs"))
            .unwrap(),
        expected
    );
}

#[test]
fn jz_01_client_encodes_an_array() {
    let sent = message((Some("0"), Some("1")), "t", "e", json(r#"{"foo":1}"#));
    let frame = V2.encode_client(&sent).unwrap();
    assert_eq!(frame, Encoded::text(r#"["0","1","t","e",{"foo":1}]"#));
}

#[test]
fn jz_02_client_decodes_an_array() {
    let frame = Encoded::text(r#"["0",null,"t","e",{"foo":1}]"#);
    let expected = push(Some("0"), "t", "e", json(r#"{"foo":1}"#));
    assert_eq!(V2.decode_server(&frame).unwrap(), expected);
}

#[test]
fn jz_04_client_encodes_a_binary_push() {
    let sent = message((Some("10"), Some("1")), "top", "ev", raw(b"\x01"));
    let frame = V2.encode_client(&sent).unwrap();
    assert_eq!(frame, Encoded::binary(binary("client_push_longer_refs")));
    let sent = message((Some("0"), Some("1")), "t", "e", raw(b"\x01"));
    let frame = V2.encode_client(&sent).unwrap();
    assert_eq!(frame, Encoded::binary(binary("client_push_short_refs")));
}

#[test]
fn jz_05_client_decodes_a_binary_push() {
    let frame = Encoded::binary(binary("server_push_some_event"));
    let expected = push(Some("123"), "top", "some-event", raw(b"\x01\x01"));
    assert_eq!(V2.decode_server(&frame).unwrap(), expected);
}

#[test]
fn client_decodes_binary_replies_and_broadcasts() {
    let frame = Encoded::binary(binary("server_reply_short"));
    let expected = reply((Some("100"), Some("12")), "top", raw(b"\x01\x01"));
    assert_eq!(V2.decode_server(&frame).unwrap(), expected);
    let frame = Encoded::binary(binary("server_broadcast_some_event"));
    let expected = broadcast("top", "some-event", raw(b"\x01\x01"));
    assert_eq!(V2.decode_server(&frame).unwrap(), expected);
}

#[test]
fn jz_07_binary_lengths_are_utf8_bytes() {
    let sent = message((Some("🚀"), Some("1")), "room:café", "π", raw(b"\x01"));
    let frame = V2.encode_client(&sent).unwrap();
    assert_eq!(frame, Encoded::binary(binary("client_push_multibyte")));
    assert_eq!(V2.decode(&frame).unwrap(), sent);
}

#[test]
fn jz_08_client_names_a_topic_that_is_too_long() {
    let sent = message((None, None), &"x".repeat(256), "e", raw(b""));
    let error = V2.encode_client(&sent).unwrap_err();
    assert_eq!(
        error,
        EncodeError::FieldTooLong {
            field: "topic",
            len: 256,
            max: 255
        }
    );
}

#[test]
fn js_70_a_client_writes_arrays() {
    let sent = message(
        (Some("1"), Some("2")),
        "topic",
        "join",
        json(r#"{"foo":"bar"}"#),
    );
    let frame = V2.encode_client(&sent).unwrap();
    assert_eq!(
        frame,
        Encoded::text(r#"["1","2","topic","join",{"foo":"bar"}]"#)
    );
}

#[test]
fn js_73_a_client_reads_arrays() {
    let frame = Encoded::text(r#"["1","2","topic","phx_reply",{"status":"ok","response":{}}]"#);
    let expected = reply((Some("1"), Some("2")), "topic", json("{}"));
    assert_eq!(V2.decode_server(&frame).unwrap(), expected);
}

#[test]
fn refs_keep_their_json_type() {
    let decoded = V2.decode_text(&text("client_numeric_refs")).unwrap();
    let reply = ServerMessage::Reply {
        join_ref: decoded.join_ref,
        message_ref: decoded.message_ref,
        topic: decoded.topic,
        status: "ok".into(),
        response: decoded.payload,
    };
    assert_eq!(encoded(V2, &reply), text("v2_array_reply"));
    for odd in [
        "1e999",
        "-0.0",
        "true",
        "[1,\"x\"]",
        r#"{"a":null}"#,
        "123456789012345678901",
    ] {
        let frame = Bytes::from(format!(r#"[{odd},{odd},{odd},"e",{{}}]"#));
        let decoded = V2.decode_text(&frame).unwrap();
        assert!(!decoded.topic.is_text());
        assert_eq!(V2.encode_client(&decoded).unwrap().bytes, frame);
    }
}

#[test]
fn strings_are_unescaped_and_escaped_again() {
    let frame = Bytes::from_static(br#"[null,"\"\\\n\u0001\u00e9","\ud83d\ude80","\/",{}]"#);
    let decoded = V2.decode_text(&frame).unwrap();
    assert_eq!(decoded.message_ref, Some("\"\\\n\u{1}é".into()));
    assert_eq!(
        (decoded.topic.as_str(), decoded.event.as_str()),
        ("🚀", "/")
    );
    let again = V2.encode_client(&decoded).unwrap().bytes;
    assert_eq!(again, r#"[null,"\"\\\n\u0001é","🚀","/",{}]"#);
}

#[test]
fn malformed_frames_are_errors() {
    for name in common::text_names("malformed_v1") {
        assert!(V1.decode_text(&text(name)).is_err(), "{name}");
    }
    let of_v2 = common::text_names("malformed_v2").into_iter();
    for name in of_v2.chain([
        "malformed_not_json",
        "malformed_trailing",
        "malformed_lone_surrogate",
    ]) {
        assert!(V2.decode_text(&text(name)).is_err(), "{name}");
    }
    for name in common::binary_names("malformed") {
        assert!(V2.decode_binary(&binary(name)).is_err(), "{name}");
    }
    let error = V2.decode_text(&text("malformed_v2_short")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the frame has 4 elements, it must have 5"
    );
    assert!(matches!(
        V2.decode_text(&Bytes::from_static(b"[null,null,\"\xff\",\"e\",{}]")),
        Err(DecodeError::Utf8 { field: "frame" })
    ));
}

#[test]
fn nesting_and_ref_length_are_bounded() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        Bytes::from(format!(r#"[null,null,"[[[[\"[","e",{open}{close}]"#))
    };
    assert!(V2.decode_text(&nested(127)).is_ok());
    assert!(matches!(
        V2.decode_text(&nested(128)),
        Err(DecodeError::TooDeep { max: 128 })
    ));
    assert!(V2.decode_text(&nested(1_000_000)).is_err());
    // Many brackets that are not nested, or in a string, are no depth.
    let flat = format!(
        r#"[null,null,"t","e",[{}"{}"]]"#,
        "[],".repeat(500),
        "[".repeat(500)
    );
    assert!(V2.decode_text(&Bytes::from(flat)).is_ok());
    let long = format!(r#"["{}","1","t","e",{{}}]"#, "x".repeat(256));
    assert!(matches!(
        V2.decode_text(&Bytes::from(long)),
        Err(DecodeError::FieldTooLong {
            field: "join_ref",
            len: 256,
            max: 255
        })
    ));
}

#[test]
fn payloads_are_slices_of_their_frame() {
    let frame = text("client_join");
    let payload = V2.decode_text(&frame).unwrap().payload;
    assert!(frame.as_ptr_range().contains(&payload.bytes().as_ptr()));
    let frame = binary("client_push");
    let payload = V2.decode_binary(&frame).unwrap().payload;
    assert!(frame.as_ptr_range().contains(&payload.bytes().as_ptr()));
}

#[test]
fn an_envelope_around_a_shared_body_is_the_frame() {
    for serializer in [V1, V2] {
        let (head, tail) = serializer.push_envelope(Some(&"1".into()), "room:a", "bye");
        let frame = [&head[..], M.as_bytes(), tail].concat();
        let whole = serializer
            .encode_push(Some(&"1".into()), "room:a", "bye", &json(M))
            .unwrap();
        assert_eq!(frame, whole.bytes);
    }
}

#[test]
fn errors_and_closes_carry_the_join_ref_twice() {
    let close = ServerMessage::Close {
        join_ref: Some("1".into()),
        topic: "room:a".into(),
    };
    assert_eq!(encoded(V2, &close), text("v2_close"));
    let crash = ServerMessage::channel_crash(Some("1".into()), "room:a");
    assert_eq!(encoded(V2, &crash), text("v2_error"));
    let crash = ServerMessage::channel_crash(Some("7".into()), "room:1");
    assert_eq!(encoded(V1, &crash), text("v1_error"));
    assert_eq!(
        V1.decode_server(&Encoded::text(text("v1_error"))).unwrap(),
        crash
    );
    let close = ServerMessage::Close {
        join_ref: None,
        topic: "room:1".into(),
    };
    assert_eq!(encoded(V1, &close), text("v1_close_without_join_ref"));
}

#[test]
fn what_a_server_writes_a_client_reads() {
    for name in common::text_names("v2_") {
        let frame = Encoded::text(text(name));
        let decoded = V2.decode_server(&frame).unwrap();
        assert_eq!(V2.encode(&decoded).unwrap(), frame, "{name}");
    }
    for name in common::binary_names("server_") {
        let frame = Encoded::binary(binary(name));
        let decoded = V2.decode_server(&frame).unwrap();
        assert_eq!(V2.encode(&decoded).unwrap(), frame, "{name}");
    }
    for name in common::text_names("v1_") {
        let frame = Encoded::text(text(name));
        let decoded = V1.decode_server(&frame).unwrap();
        assert_eq!(V1.encode(&decoded).unwrap(), frame, "{name}");
    }
}

#[test]
fn v1_cannot_carry_bytes() {
    let error = V1.encode(&broadcast("t", "e", raw(b"abc"))).unwrap_err();
    assert_eq!(error, EncodeError::BinaryPayload { len: 3 });
}

#[test]
fn versions_are_matched_by_minor_release() {
    assert_eq!(Serializer::negotiate(None), Ok(V1));
    for (vsn, expected) in [("1.0.0", V1), ("1.0.7", V1), ("2.0.0", V2), ("2.0.9", V2)] {
        assert_eq!(Serializer::negotiate(Some(vsn)), Ok(expected));
    }
    for vsn in [
        "2.0.1-rc.1",
        "2.0.0+build.01",
        "2.0.99999999999999999999999",
    ] {
        assert_eq!(Serializer::negotiate(Some(vsn)), Ok(V2), "{vsn}");
    }
    for vsn in [
        "",
        "x",
        "2",
        "2.0",
        "2.1.0",
        "3.0.0",
        "123.1.1",
        "2.0.0.0",
        "2.0.01",
        "02.0.0",
        "2.0.x",
        "2.0.0-rc.1",
        "2.0.1-",
        "2.0.1-01",
        "2.0.1+",
        " 2.0.0",
        "2.0.0 ",
        "~> 2.0.0",
    ] {
        let error = Serializer::negotiate(Some(vsn)).unwrap_err();
        assert_eq!(error.version, vsn);
    }
}
