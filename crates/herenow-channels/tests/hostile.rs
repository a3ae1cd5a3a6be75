//! What a client may send or not read without harming anybody but itself.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "wire/support.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod support;

use std::num::NonZero;
use std::time::Duration;

use axum::Router;
use herenow_channels::{SocketConfig, Sockets};
use herenow_pubsub::PubSub;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::protocol::Message;

use self::support::{Client, sockets, soon, start_app, until};

/// A server with the room, and a client that must not notice anything.
struct Fixture {
    sockets: Sockets,
    pubsub: PubSub,
    url: String,
    address: std::net::SocketAddr,
    bystander: Client,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut SocketConfig)) -> Self {
        let pubsub = PubSub::local();
        let mut config = SocketConfig::default();
        change(&mut config);
        let sockets = sockets(&pubsub).config(config);
        let app = Router::new().nest("/socket", sockets.clone().into_router());
        let address = start_app(app).await;
        let url = format!("ws://{address}/socket/websocket");
        let mut bystander = Client::v2(&url).await;
        bystander.join_plain("room:bystander").await;
        Self {
            sockets,
            pubsub,
            url,
            address,
            bystander,
        }
    }

    async fn client(&self) -> Client {
        Client::v2(&self.url).await
    }

    /// A connection whose frames are written by hand.
    async fn raw(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        upgrade(&mut stream).await;
        stream
    }

    /// Sends bytes and returns the code of the close frame that answers them.
    async fn close_code(&self, bytes: &[u8]) -> u16 {
        let mut stream = self.raw().await;
        stream.write_all(bytes).await.unwrap();
        let mut frame = [0; 4];
        soon(stream.read_exact(&mut frame)).await.unwrap();
        assert_eq!(frame[0], 0x88, "expected a close frame");
        u16::from_be_bytes([frame[2], frame[3]])
    }

    async fn assert_unharmed(mut self) {
        self.bystander.assert_silent().await;
        self.client().await.join_plain("room:1").await;
    }
}

async fn upgrade(stream: &mut TcpStream) {
    let request = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\n\
        connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(soon(stream.read_u8()).await.unwrap());
    }
    assert!(response.starts_with(b"HTTP/1.1 101"));
}

/// A masked frame (the mask is zero) with this first byte and payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(0xFE);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xFF);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn soc_30_malformed_json_and_wrong_arity_end_only_their_own_connection() {
    let fixture = Fixture::new().await;
    for text in [
        "",
        "{",
        "[",
        "[1,2]",
        "null",
        "[\"a\",\"b\",\"c\",\"d\"",
        "\u{0}",
    ] {
        let mut client = fixture.client().await;
        client.join_plain("room:1").await;
        client.send_message(Message::text(text)).await;
        assert_eq!(client.closed().await.0, 1011, "{text:?}");
    }
    assert_eq!(fixture.sockets.metrics().client_errors.value(), 7);
    let pubsub = fixture.pubsub.clone();
    until(|| pubsub.n_subscribers("room:1") == 0).await;
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_31_deep_nesting_closes_with_1011() {
    let fixture = Fixture::new().await;
    for depth in [200, 100_000] {
        let mut client = fixture.client().await;
        let payload = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = format!("[null,\"1\",\"phoenix\",\"heartbeat\",{payload}]");
        client.send_message(Message::text(text)).await;
        assert_eq!(client.closed().await.0, 1011, "{depth}");
    }
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_32_text_that_is_not_utf_8_closes_with_1007() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.close_code(&frame(0x81, b"[\"\xff\"]")).await, 1007);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_33_lengths_beyond_a_binary_frame_close_with_1011() {
    let fixture = Fixture::new().await;
    let frames: [&[u8]; 5] = [
        &[],
        &[0],
        &[0, 0, 0, 0],
        &[0, 0, 0, 5, 0, b'a'],
        &[0, 1, 0, 0, 0],
    ];
    for bytes in frames {
        assert_eq!(
            fixture.close_code(&frame(0x82, bytes)).await,
            1011,
            "{bytes:?}"
        );
    }
    let not_utf_8 = [0, 0, 0, 1, 1, 0xff, b'e'];
    assert_eq!(fixture.close_code(&frame(0x82, &not_utf_8)).await, 1011);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_34_violations_of_the_websocket_protocol_close_with_1002() {
    let fixture = Fixture::new().await;
    let unmasked = b"\x81\x02[]".to_vec();
    let rsv = frame(0xC1, b"[]");
    let opcode = frame(0x83, b"[]");
    let control_opcode = frame(0x8B, b"");
    let continuation = frame(0x80, b"[]");
    let fragmented_ping = frame(0x09, b"");
    let long_ping = frame(0x89, &[0; 126]);
    let short_close = frame(0x88, &[3]);
    let interleaved = [frame(0x01, b"["), frame(0x81, b"]")].concat();
    for bytes in [
        unmasked,
        rsv,
        opcode,
        control_opcode,
        continuation,
        fragmented_ping,
        long_ping,
        short_close,
        interleaved,
    ] {
        assert_eq!(fixture.close_code(&bytes).await, 1002, "{bytes:?}");
    }
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_35_close_frames_are_answered_by_the_references_table() {
    let fixture = Fixture::new().await;
    for (code, answer) in [
        (1000_u16, 1000),
        (1001, 1000),
        (1011, 1000),
        (3000, 1000),
        (4999, 1000),
        (1004, 1002),
    ] {
        let close = frame(0x88, &code.to_be_bytes());
        assert_eq!(fixture.close_code(&close).await, answer, "{code}");
    }
    assert_eq!(fixture.close_code(&frame(0x88, &[])).await, 1000);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_36_a_frame_of_16_mib_closes_with_1009_before_it_is_read() {
    let fixture = Fixture::new().await;
    let mut header = vec![0x81, 0xFF];
    header.extend_from_slice(&(16_u64 << 20).to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    assert_eq!(fixture.close_code(&header).await, 1009);
    let mut header = vec![0x82, 0xFF];
    header.extend_from_slice(&u64::MAX.to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    assert_eq!(fixture.close_code(&header).await, 1009);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_37_a_message_over_its_limit_closes_with_1009_whole_or_in_fragments() {
    let fixture = Fixture::with(|config| {
        config.max_frame_bytes = 2_000;
        config.max_message_bytes = 1_000;
    })
    .await;
    assert_eq!(fixture.close_code(&frame(0x81, &[b' '; 1_001])).await, 1009);
    let fragments = [
        frame(0x01, &[b' '; 600]),
        frame(0x00, &[b' '; 600]),
        frame(0x80, &[b' '; 10]),
    ]
    .concat();
    assert_eq!(fixture.close_code(&fragments).await, 1009);
    let mut client = fixture.client().await;
    let limit = "x".repeat(900);
    client.join_plain("room:1").await;
    client
        .send(("11", "2"), "room:1", "echo", json!(limit))
        .await;
    assert_eq!(client.reply(("11", "2"), "room:1").await["response"], limit);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_38_a_large_message_in_fragments_and_single_bytes_arrives_whole() {
    let fixture = Fixture::new().await;
    let mut stream = fixture.raw().await;
    let text = br#"[null,"1","phoenix","heartbeat",{}]"#;
    let (head, tail) = text.split_at(10);
    let bytes = [frame(0x01, head), frame(0x89, b"p"), frame(0x80, tail)].concat();
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut pong = [0; 3];
    soon(stream.read_exact(&mut pong)).await.unwrap();
    assert_eq!(&pong, b"\x8a\x01p");
    assert_eq!(soon(stream.read_u8()).await.unwrap(), 0x81);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_39_thousands_of_joins_on_one_socket_are_answered_and_bounded() {
    let fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    let n_joins = 5_000;
    let (mut n_ok, mut n_refused) = (0, 0);
    for n in 0..n_joins {
        let (message_ref, topic) = (n.to_string(), format!("room:{n}"));
        client
            .send(
                ("1", &message_ref),
                &topic,
                "phx_join",
                json!({ "how": "plain" }),
            )
            .await;
        match client.next().await.payload["status"].as_str().unwrap() {
            "ok" => n_ok += 1,
            _ => n_refused += 1,
        }
    }
    assert_eq!((n_ok, n_refused), (100, n_joins - 100));
    assert_eq!(fixture.sockets.metrics().channels.value(), 101);
    drop(client);
    let metrics = fixture.sockets.clone();
    until(|| metrics.metrics().channels.value() == 1).await;
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_40_the_same_topic_joined_a_thousand_times_leaves_one_channel() {
    let fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    for n in 0..1_000 {
        let join_ref = n.to_string();
        let params = json!({ "how": "plain" });
        client
            .send((&join_ref, &join_ref), "room:1", "phx_join", params)
            .await;
    }
    let mut n_replies = 0;
    while n_replies < 1_000 {
        if client.next().await.event == "phx_reply" {
            n_replies += 1;
        }
    }
    assert_eq!(fixture.pubsub.n_subscribers("room:1"), 1);
    drop(client);
    fixture.assert_unharmed().await;
}

/// A client that reads nothing, with a small window.
async fn slow_reader(fixture: &Fixture) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(fixture.address).await.unwrap();
    upgrade(&mut stream).await;
    let join = json!(["1", "1", "room:slow", "phx_join", { "how": "plain" }]).to_string();
    stream
        .write_all(&frame(0x81, join.as_bytes()))
        .await
        .unwrap();
    let mut reply = [0; 2];
    soon(stream.read_exact(&mut reply)).await.unwrap();
    stream
}

#[tokio::test]
async fn soc_41_a_slow_reader_is_bounded_in_bytes_and_closed() {
    let fixture = Fixture::with(|config| {
        config.max_queue_bytes = 1 << 20;
        config.close_timeout = Duration::from_millis(100);
        config.terminate_timeout = Duration::from_millis(100);
    })
    .await;
    let mut ends = fixture.pubsub.subscribe("terminated");
    let stream = slow_reader(&fixture).await;
    let text = "x".repeat(60_000);
    let metrics = fixture.sockets.clone();
    let mut n_broadcasts = 0;
    while metrics.metrics().slow_readers.value() == 0 {
        fixture
            .sockets
            .broadcast("room:slow", "flood", json!({ "text": text }))
            .unwrap();
        n_broadcasts += 1;
        assert!(n_broadcasts < 10_000, "never closed");
        tokio::task::yield_now().await;
    }
    let end = soon(ends.recv()).await.unwrap();
    let herenow_pubsub::Payload::Json(text) = &end.payload else {
        panic!("{end:?}")
    };
    assert!(String::from_utf8_lossy(text).contains("ClientError"));
    until(|| metrics.metrics().connections.value() == 1).await;
    assert_eq!(fixture.pubsub.n_subscribers("room:slow"), 0);
    drop(stream);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_42_a_slow_reader_is_bounded_in_messages_and_told_the_limit_when_it_reads() {
    let fixture =
        Fixture::with(|config| config.max_queue_messages = NonZero::new(100).unwrap()).await;
    let mut stream = slow_reader(&fixture).await;
    let metrics = fixture.sockets.clone();
    let text = "x".repeat(40_000);
    while metrics.metrics().slow_readers.value() == 0 {
        fixture
            .sockets
            .broadcast("room:slow", "flood", json!({ "text": text }))
            .unwrap();
        tokio::task::yield_now().await;
    }
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    let text = b"\x03\xf0slow reader: over max_queue_messages, 100";
    assert!(
        rest.ends_with(text),
        "the close frame comes after the frame that was begun"
    );
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_443_broadcasts_to_a_reader_that_stalls_and_reads_on_arrive_whole_and_in_order() {
    const N: usize = 500;
    let fixture = Fixture::with(|config| config.max_queue_bytes = 64 << 20).await;
    let mut stream = slow_reader(&fixture).await;
    let text = "x".repeat(20_000);
    // More than the system's buffers take: the write that fills them ends in the middle of a frame.
    for n in 0..N {
        let payload = json!({ "n": n, "text": text });
        fixture
            .sockets
            .broadcast("room:slow", "flood", payload)
            .unwrap();
        tokio::task::yield_now().await;
    }
    let last = json!({ "n": N - 1, "text": text }).to_string();
    let mut received = Vec::new();
    soon(async {
        while !received.ends_with(format!("{last}]").as_bytes()) {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
    })
    .await;
    let received = String::from_utf8_lossy(&received);
    let seen = received.split(r#"{"n":"#).skip(1);
    for (n, rest) in seen.enumerate() {
        let expected = format!(r#"{n},"text":"{text}"}}]"#);
        assert!(rest.starts_with(&expected), "message {n}");
    }
    assert_eq!(received.matches(r#"{"n":"#).count(), N);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_43_a_flood_of_pings_that_reads_no_pongs_is_closed() {
    let fixture = Fixture::with(|config| {
        config.max_queue_messages = NonZero::new(1_000).unwrap();
        config.close_timeout = Duration::from_millis(100);
        config.terminate_timeout = Duration::from_millis(100);
    })
    .await;
    let mut stream = slow_reader(&fixture).await;
    let pings = frame(0x89, &[b'p'; 125]).repeat(100);
    let metrics = fixture.sockets.clone();
    soon(async {
        while metrics.metrics().slow_readers.value() == 0 {
            if stream.write_all(&pings).await.is_err() {
                break;
            }
        }
    })
    .await;
    until(|| metrics.metrics().connections.value() == 1).await;
    assert_eq!(metrics.metrics().slow_readers.value(), 1);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_44_a_busy_channel_is_not_given_more_than_its_queue() {
    let fixture = Fixture::with(|config| {
        config.max_channel_queue = NonZero::new(4).unwrap();
        config.idle_timeout = Duration::from_secs(5);
    })
    .await;
    let mut client = fixture.client().await;
    client.join_plain("room:1").await;
    client.send(("11", "2"), "room:1", "hang", json!({})).await;
    for n in 0..100 {
        client
            .send(("11", &n.to_string()), "room:1", "echo", json!({}))
            .await;
    }
    // It is not read, so it is neither answered nor idle; when it hangs up, that is seen.
    let metrics = fixture.sockets.clone();
    until(|| metrics.metrics().messages_in.value() >= 1 + 2 + 4).await;
    assert!(metrics.metrics().messages_in.value() < 20);
}

#[tokio::test]
async fn soc_442_a_callback_that_never_ends_does_not_keep_its_connection_for_ever() {
    let fixture = Fixture::with(|config| {
        config.max_channel_queue = NonZero::new(1).unwrap();
        config.idle_timeout = Duration::from_secs(2);
        config.close_timeout = Duration::from_millis(50);
        config.terminate_timeout = Duration::from_millis(50);
    })
    .await;
    let mut client = fixture.client().await;
    client.join_plain("room:1").await;
    client.send(("11", "2"), "room:1", "hang", json!({})).await;
    for n in 0..3 {
        client
            .send(("11", &n.to_string()), "room:1", "echo", json!({}))
            .await;
    }
    let metrics = fixture.sockets.clone();
    until(|| metrics.metrics().stuck_channels.value() == 1).await;
    until(|| metrics.metrics().connections.value() == 0).await;
}

#[tokio::test]
async fn soc_45_events_before_a_join_and_odd_types_are_answered() {
    let fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    for (n, topic) in [json!(7), json!(null), json!({ "a": [] }), json!("room:1")]
        .iter()
        .enumerate()
    {
        client
            .send_json(&json!([null, n, topic, "event", {}]))
            .await;
        let message = client.next_message().await;
        let Message::Text(text) = message else {
            panic!("{message:?}")
        };
        let reply: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(reply[1], json!(n));
        assert_eq!(&reply[2], topic);
        assert_eq!(reply[4]["response"]["reason"], "unmatched topic");
    }
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_710_a_topic_that_is_no_string_is_one_that_no_channel_serves() {
    let fixture = Fixture::new().await;
    let (mut v1, mut v2) = (Client::v1(&fixture.url).await, fixture.client().await);
    v2.join_plain("room:1").await;
    for topic in [
        json!(["x"]),
        json!([]),
        json!({ "x": 1 }),
        json!(1),
        json!(null),
    ] {
        for event in ["phx_join", "heartbeat", "echo"] {
            let asked = json!(["1", "1", topic, event, {}]);
            v2.send_json(&asked).await;
            let Message::Text(text) = v2.next_message().await else {
                panic!("{asked}")
            };
            let reply: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&reply[2], &reply[3]), (&topic, &json!("phx_reply")));
            assert_eq!(reply[4]["response"]["reason"], "unmatched topic", "{asked}");
            let asked = json!({ "topic": topic, "event": event, "payload": {}, "ref": "1" });
            v1.send_json(&asked).await;
            let Message::Text(text) = v1.next_message().await else {
                panic!("{asked}")
            };
            let reply: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(reply["topic"], topic);
            let reason = &reply["payload"]["response"]["reason"];
            assert_eq!(reason, "unmatched topic", "{asked}");
        }
    }
    // The channel that was there is as before.
    v2.send(("11", "2"), "room:1", "echo", json!("here")).await;
    let reply = v2.reply(("11", "2"), "room:1").await;
    assert_eq!(reply["response"], "here");
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_46_a_connection_cut_in_the_middle_of_a_frame_ends_its_channels() {
    let fixture = Fixture::new().await;
    let mut stream = fixture.raw().await;
    let join = json!(["1", "1", "room:cut", "phx_join", { "how": "plain" }]).to_string();
    stream
        .write_all(&frame(0x81, join.as_bytes()))
        .await
        .unwrap();
    stream
        .write_all(&frame(0x81, &[b' '; 100])[..50])
        .await
        .unwrap();
    let pubsub = fixture.pubsub.clone();
    until(|| pubsub.n_subscribers("room:cut") == 1).await;
    drop(stream);
    until(|| pubsub.n_subscribers("room:cut") == 0).await;
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_47_bytes_behind_the_handshake_are_not_lost() {
    let fixture = Fixture::new().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let request = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\n\
        connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let heartbeat = frame(0x81, br#"[null,"1","phoenix","heartbeat",{}]"#);
    stream
        .write_all(&[request.as_bytes(), &heartbeat].concat())
        .await
        .unwrap();
    let mut received = Vec::new();
    soon(async {
        while !received.ends_with(br#""status":"ok"}]"#) && !received.ends_with(b"}}]") {
            received.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_48_a_topic_over_its_limit_is_refused_with_the_limit() {
    let fixture = Fixture::with(|config| config.max_topic_bytes = 20).await;
    let mut client = fixture.client().await;
    client
        .send(("1", "1"), "room:1234567890123456", "phx_join", json!({}))
        .await;
    let reply = client.next().await.payload;
    assert_eq!(
        reply["response"]["reason"],
        "topic is 21 bytes, the limit is 20 (socket.max_topic_bytes)"
    );
    drop(client);
}

#[tokio::test]
async fn soc_49_a_flood_of_broadcasts_does_not_make_slow_readers_of_those_who_read() {
    const N: usize = 5_000;
    let fixture = Fixture::with(|config| {
        config.max_queue_messages = NonZero::new(1_000).unwrap();
    })
    .await;
    let mut reader = fixture.client().await;
    reader.join_plain("room:1").await;
    let mut stream = slow_reader(&fixture).await;
    let join = json!(["1", "1", "room:1", "phx_join", { "how": "plain" }]).to_string();
    let mut bytes = frame(0x81, join.as_bytes());
    for n in 0..N {
        let shout = json!(["1", null, "room:1", "shout", { "n": n }]).to_string();
        bytes.extend_from_slice(&frame(0x81, shout.as_bytes()));
    }
    let (mut from_server, mut to_server) = stream.split();
    let mut sink = tokio::io::sink();
    let reading = async {
        for n in 0..N {
            assert_eq!(reader.event("room:1", "shout").await["n"], n);
        }
    };
    tokio::select! {
        () = async {
            to_server.write_all(&bytes).await.unwrap();
            reading.await;
        } => {}
        _ = tokio::io::copy(&mut from_server, &mut sink) => panic!("the flooder was cut off"),
    }
    assert_eq!(fixture.sockets.metrics().slow_readers.value(), 0);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn soc_400_what_waited_for_a_busy_channel_is_read_as_soon_as_it_has_caught_up() {
    let fixture = Fixture::with(|config| {
        config.max_channel_queue = NonZero::new(4).unwrap();
    })
    .await;
    let mut stream = fixture.raw().await;
    let join = json!(["1", "1", "room:1", "phx_join", { "how": "slow" }]).to_string();
    let mut bytes = frame(0x81, join.as_bytes());
    for n in 2..=20 {
        let echo = json!(["1", n.to_string(), "room:1", "echo", {}]).to_string();
        bytes.extend_from_slice(&frame(0x81, echo.as_bytes()));
    }
    stream.write_all(&bytes).await.unwrap();
    let mut received = Vec::new();
    soon(async {
        let last = br#"["1","20","room:1","phx_reply""#;
        while !received.windows(last.len()).any(|window| window == last) {
            received.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    fixture.assert_unharmed().await;
}

/// Reads one frame of the server, whose payload is short.
async fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    soon(stream.read_exact(&mut head)).await.unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    soon(stream.read_exact(&mut payload)).await.unwrap();
    (head[0], payload)
}

#[tokio::test]
async fn srv_1775_a_message_that_does_not_end_closes_its_connection_however_many_pings_come() {
    let time = Duration::from_millis(200);
    let fixture = Fixture::with(|config| config.message_timeout = time).await;
    let begun = [
        frame(0x01, &[b' '; 1_000]),
        frame(0x01, b""),
        frame(0x82, &[b' '; 100_000])[..50_000].to_vec(),
        vec![0x81],
    ];
    for (n, begun) in begun.iter().enumerate() {
        let mut stream = fixture.raw().await;
        stream.write_all(begun).await.unwrap();
        let payload = loop {
            // Inside of a frame this is more of its payload, and comes as slowly as it likes.
            let _closed = stream.write_all(&frame(0x89, b"p")).await;
            if n < 2 {
                match read_frame(&mut stream).await {
                    (0x8A, _) => {}
                    (0x88, payload) => break payload,
                    other => panic!("{other:?}"),
                }
            } else {
                break read_frame(&mut stream).await.1;
            }
        };
        let (code, text) = payload.split_at(2);
        assert_eq!(u16::from_be_bytes([code[0], code[1]]), 1008, "{n}");
        let text = String::from_utf8_lossy(text);
        assert_eq!(
            text,
            "a message took longer than 200ms to be sent (socket.message_timeout)"
        );
    }
    let metrics = fixture.sockets.metrics();
    assert_eq!(metrics.late_messages.value(), 4);
    assert_eq!(metrics.slow_readers.value(), 0);
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn srv_1776_a_message_that_has_ended_has_no_time_that_runs_out() {
    let time = Duration::from_millis(500);
    let fixture = Fixture::with(|config| config.message_timeout = time).await;
    let mut whole = fixture.raw().await;
    let text = br#"[null,"1","phoenix","heartbeat",{}]"#;
    let (head, tail) = text.split_at(10);
    let bytes = [frame(0x01, head), frame(0x89, b"p"), frame(0x80, tail)].concat();
    whole.write_all(&bytes).await.unwrap();
    assert_eq!(read_frame(&mut whole).await.0, 0x8A);
    assert_eq!(read_frame(&mut whole).await.0, 0x81);
    // One that is begun after it ends comes to the end of its time.
    let mut unfinished = fixture.raw().await;
    unfinished.write_all(&frame(0x01, head)).await.unwrap();
    assert_eq!(read_frame(&mut unfinished).await.0, 0x88);
    whole.write_all(&frame(0x89, b"p")).await.unwrap();
    assert_eq!(read_frame(&mut whole).await, (0x8A, b"p".to_vec()));
    fixture.assert_unharmed().await;
}

#[tokio::test]
async fn srv_1777_while_a_client_is_not_read_its_message_has_all_its_time() {
    let fixture = Fixture::with(|config| {
        config.max_channel_queue = NonZero::new(1).unwrap();
        config.message_timeout = Duration::from_millis(20);
        config.idle_timeout = Duration::from_secs(2);
    })
    .await;
    let mut stream = fixture.raw().await;
    let join = br#"["1","1","room:1","phx_join",{"how":"plain"}]"#;
    stream.write_all(&frame(0x81, join)).await.unwrap();
    assert_eq!(read_frame(&mut stream).await.0, 0x81);
    // The channel hangs, and the server does not read on; what came before that is not its client's
    // fault.
    let hang = br#"["1","2","room:1","hang",{}]"#;
    let hangs = [frame(0x81, hang), frame(0x81, hang), frame(0x81, hang)];
    let bytes = [hangs.concat(), frame(0x01, b"[")].concat();
    stream.write_all(&bytes).await.unwrap();
    let (first, payload) = read_frame(&mut stream).await;
    assert_eq!(first, 0x88);
    let code = u16::from_be_bytes([payload[0], payload[1]]);
    assert_eq!(code, 1011, "{}", String::from_utf8_lossy(&payload[2..]));
    assert_eq!(fixture.sockets.metrics().late_messages.value(), 0);
    assert_eq!(fixture.sockets.metrics().stuck_channels.value(), 1);
}
