//! What clients may not do, from outside: each is survived, and others do not notice.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/frames.rs"]
mod frames;
#[path = "support/rig.rs"]
mod rig;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use self::frames::{Peer, Seen, masked};
use self::rig::{Client, Rig, within};

const ROOM: &str = "room:1";

/// A server, and a client that must not notice what another does.
async fn rig_and_witness() -> (Rig, Client) {
    with_witness(Rig::start().await).await
}

async fn with_witness(rig: Rig) -> (Rig, Client) {
    let mut witness = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "w" }))
        .await;
    witness.event("presence_state").await;
    (rig, witness)
}

/// The room still works for those who were there before.
async fn all_is_well(rig: Rig, mut witness: Client) {
    witness.ok(ROOM, "still", json!({ "here": true })).await;
    assert_eq!(witness.event("still").await, json!({ "here": true }));
    rig.connect("")
        .await
        .joined(ROOM, json!({ "user_id": "late" }))
        .await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_44_malformed_messages_close_their_own_connection_only() {
    let (rig, witness) = rig_and_witness().await;
    let deep = format!(
        "[null,null,\"room:1\",\"x\",{}{}]",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let malformed = [
        Message::text("nonsense"),
        Message::text("{}"),
        Message::text("[\"1\",\"1\",\"room:1\"]"),
        Message::text(deep),
        Message::binary(&b""[..]),
        Message::binary(&b"\x00\xff\xff\xff\xffx"[..]),
        Message::binary(&b"\x07\x00\x00\x00\x00"[..]),
    ];
    for message in malformed {
        let shown = format!("{message:?}").chars().take(60).collect::<String>();
        let mut client = rig.connect("").await.joined(ROOM, json!({})).await;
        client.send(message).await;
        let code = client.closed().await;
        assert_eq!(code, Some(1011), "{shown}");
    }
    all_is_well(rig, witness).await;
}

/// Sends raw bytes after a valid upgrade and reads until the end.
async fn after_upgrade(rig: &Rig, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let request = format!(
        "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: \
         websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        rig.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _reset = within(stream.read_to_end(&mut answer)).await;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    answer.split_off(end)
}

fn close_code(frame: &[u8]) -> Option<u16> {
    match frame {
        [0x88, _, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

#[tokio::test]
async fn srv_45_protocol_violations_are_closed_with_their_code() {
    let (rig, witness) = rig_and_witness().await;
    let cases: [(&str, &[u8], u16); 5] = [
        ("unmasked", b"\x81\x02hi", 1002),
        ("reserved bit", b"\xf1\x80\x00\x00\x00\x00", 1002),
        ("unknown opcode", b"\x83\x80\x00\x00\x00\x00", 1002),
        ("invalid utf-8", b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007),
        (
            "a frame that says it has 16 MiB",
            b"\x82\xff\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00",
            1009,
        ),
    ];
    for (what, bytes, code) in cases {
        let answer = after_upgrade(&rig, bytes).await;
        assert_eq!(close_code(&answer), Some(code), "{what}: {answer:?}");
    }
    all_is_well(rig, witness).await;
}

#[tokio::test]
async fn srv_46_thousands_of_joins_on_one_socket_meet_the_limit() {
    let rig = Rig::with(&[("socket.join_rate", "0")]).await;
    let (rig, witness) = with_witness(rig).await;
    let mut client = rig.connect("&user_id=greedy").await;
    for n in 0..3_000 {
        let topic = format!("room:{}", n + 10);
        let (status, response) = client.join(&topic, json!({})).await;
        if n < 100 {
            assert_eq!(status, "ok");
        } else {
            assert_eq!(
                response["reason"],
                "too many channels joined, the limit is 100 (socket.max_channels)"
            );
        }
    }
    all_is_well(rig, witness).await;
}

#[tokio::test]
async fn srv_47_odd_types_and_events_before_the_join_are_answered_or_ignored() {
    let (rig, witness) = rig_and_witness().await;
    let mut client = rig.connect("").await;
    for message in [
        json!([null, null, null, null, null]),
        json!([{}, [], 3, true, "x"]),
        json!(["1", "1", ROOM, "presence:update", { "meta": {} }]),
        json!([null, "1", "phoenix", "phx_join", {}]),
        json!([null, "1", "", "phx_leave", {}]),
        json!([null, "1", ROOM, "", null, "more", "elements"]),
    ] {
        client.send(Message::text(message.to_string())).await;
    }
    client
        .joined(ROOM, json!({}))
        .await
        .ok(ROOM, "echo", json!({}))
        .await;
    all_is_well(rig, witness).await;
}

#[tokio::test]
async fn srv_48_a_request_that_never_ends_is_given_up() {
    let rig = Rig::with(&[("http.header_timeout", "2s")]).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream
        .write_all(b"GET /socket/websocket HTTP/1.1\r\nhost: x\r\nx-a: ")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _reset = within(stream.read_to_end(&mut answer)).await;
    rig.get("/healthz").await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_49_metas_that_try_to_be_the_servers_are_put_right() {
    let (rig, witness) = rig_and_witness().await;
    let meta =
        json!({ "phx_ref": "mine", "phx_ref_prev": "mine", "online_at": "0", "__proto__": 1 });
    let payload = json!({ "user_id": "__proto__", "meta": meta });
    let mut client = rig.connect("").await.joined(ROOM, payload).await;
    let state = client.event("presence_state").await;
    let meta = &state["__proto__"]["metas"][0];
    assert_ne!(meta["phx_ref"], "mine");
    assert_ne!(meta["online_at"], "0");
    assert_eq!(meta.get("phx_ref_prev"), None);
    client
        .ok(
            ROOM,
            "presence:update",
            json!({ "patch": { "online_at": null, "phx_ref": 3 } }),
        )
        .await;
    let diff = client.event("presence_diff").await;
    let joined = &diff["joins"]["__proto__"]["metas"][0];
    assert_eq!(joined["online_at"], meta["online_at"]);
    assert_eq!(joined["phx_ref_prev"], meta["phx_ref"]);
    all_is_well(rig, witness).await;
}

#[tokio::test]
async fn srv_593_fragments_of_nothing_without_number_are_no_message_and_harm_nobody() {
    let (rig, mut witness) = rig_and_witness().await;
    let mut peer = Peer::open_at(rig.address, "/socket/websocket?vsn=2.0.0").await;
    let beat = br#"[null,"1","phoenix","heartbeat",{}]"#;
    peer.write(&masked(0x01, &beat[..9])).await;
    let nothing = masked(0x00, b"").repeat(1_000);
    for _ in 0..200 {
        peer.write(&nothing).await;
    }
    witness.ok(ROOM, "meanwhile", json!({})).await;
    peer.write(&masked(0x80, &beat[9..])).await;
    let Some(Seen::Text(reply)) = peer.read().await else {
        panic!("the message is whole at last");
    };
    assert!(reply.contains("phx_reply"), "{reply}");
    all_is_well(rig, witness).await;
}

#[tokio::test]
async fn srv_594_one_who_joins_and_leaves_as_fast_as_it_can_is_seen_to_come_and_go() {
    let (rig, mut witness) = rig_and_witness().await;
    let mut client = rig.connect("").await;
    for n in 0..500 {
        let refs = format!("{n}");
        let join = json!([refs, refs, ROOM, "phx_join", { "user_id": "restless" }]);
        let leave = json!([refs, format!("l{n}"), ROOM, "phx_leave", {}]);
        client.send(Message::text(join.to_string())).await;
        client.send(Message::text(leave.to_string())).await;
    }
    client.joined(ROOM, json!({ "user_id": "last" })).await;
    // Each ref that came has gone again; nothing but the last one is left.
    let mut here = std::collections::BTreeSet::new();
    let mut has_last = false;
    while !has_last || !here.is_empty() {
        let diff = witness.event("presence_diff").await;
        let refs = |half: &str| -> Vec<String> {
            let metas = diff[half]["restless"]["metas"].as_array();
            let metas = metas.into_iter().flatten();
            metas.map(|meta| meta["phx_ref"].to_string()).collect()
        };
        for joined in refs("joins") {
            assert!(here.insert(joined), "joined twice");
        }
        for left in refs("leaves") {
            assert!(here.remove(&left), "left without having joined");
        }
        has_last |= diff["joins"]["last"].is_object();
    }
    all_is_well(rig, witness).await;
}

#[tokio::test]
async fn srv_595_handshakes_that_never_end_keep_nobody_out_and_are_given_up() {
    let rig = Rig::with(&[("http.header_timeout", "2s")]).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let begun = b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nx-a: ";
        stream.write_all(begun).await.unwrap();
        slow.push(stream);
    }
    let client = rig.connect("").await;
    client.joined(ROOM, json!({})).await;
    for mut stream in slow {
        let mut answer = Vec::new();
        let _reset = within(stream.read_to_end(&mut answer)).await;
    }
    rig.stop().await;
}
