//! Every limit has a name in its error, and a counter under that name.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::log::Log;
use super::rig::{Client, Frame, Rig};
use super::tokens::{SECRET, claims, hs256};
use super::{scrape, until_metric};

const SOCKET: &str = "/socket/websocket?vsn=2.0.0";
const DIALECT: &str = "/realtime/v1/websocket?apikey=any&vsn=2.0.0";
const PROXY: (&str, &str) = ("http.trusted_proxies", "127.0.0.0/8");
const ROOM: &str = "realtime:room:1";

/// What was refused so far for being over a limit.
async fn refused(rig: &Rig, limit: &str) -> f64 {
    scrape(rig).await[&of(limit)]
}

fn of(limit: &str) -> String {
    format!("herenow_limit_refusals_total{{limit=\"{limit}\"}}")
}

/// The status of a handshake that is refused.
fn status(refused: Result<Client, Error>) -> u16 {
    match refused.unwrap_err() {
        Error::Http(response) => response.status().as_u16(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn srv_1270_handshakes_that_are_denied_come_at_the_rate_of_all() {
    let flags = [
        PROXY,
        ("limits.handshake_rate", "1"),
        ("limits.handshake_burst", "5"),
    ];
    let rig = Rig::with(&flags).await;
    let from = |n: usize| format!("203.0.113.{n}");
    let wrong = "/socket/websocket?vsn=9.0.0";
    let elsewhere = ("origin", "http://elsewhere.example");
    let token = ("sec-websocket-protocol", "base64url.bearer.phx.*");
    for (n, path, header) in [
        (1, wrong, None),
        (2, SOCKET, Some(elsewhere)),
        (3, SOCKET, Some(token)),
    ] {
        let from = from(n);
        let headers: Vec<_> = [("x-forwarded-for", from.as_str())]
            .into_iter()
            .chain(header)
            .collect();
        let mut n_denied = 0;
        while status(rig.open(path, &headers).await) == 403 {
            n_denied += 1;
            assert!(n_denied < 20, "they have no limit");
        }
        assert!(n_denied >= 5, "{n_denied}");
    }
    assert!(refused(&rig, "limits.handshake_rate").await >= 3.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1271_a_user_connects_at_a_rate_over_all_transports() {
    let flags = [
        ("jwt.secret", SECRET),
        ("metrics.open", "true"),
        ("limits.user_rate", "1"),
        ("limits.user_burst", "3"),
    ];
    let rig = Rig::with(&flags).await;
    let param = |user| format!("&token={}", hs256(&claims(user, json!({}))));
    let (socket, poll) = (SOCKET, "/socket/longpoll?vsn=2.0.0");
    let mut n_opened = 0;
    let response = loop {
        match rig.open(&format!("{socket}{}", param("ada")), &[]).await {
            Ok(_) if n_opened < 20 => n_opened += 1,
            Err(Error::Http(response)) => break response,
            other => panic!("{other:?}"),
        }
    };
    assert!(n_opened >= 3, "{n_opened}");
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
    let reason =
        "too many new connections of this user, the limit is 1 a second (limits.user_rate)";
    assert_eq!(body["reason"], reason);
    rig.open(&format!("{socket}{}", param("bob")), &[])
        .await
        .unwrap();
    let polled = loop {
        let answer = rig.get(&format!("{poll}{}", param("ada"))).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(
        (polled.status, &polled.json()["reason"]),
        (429, &json!(reason))
    );
    assert!(polled.header("retry-after").is_some());
    assert!(refused(&rig, "limits.user_rate").await >= 2.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1272_a_head_over_its_limits_is_refused_with_their_names() {
    let rig = Rig::start().await;
    let long = format!("x-long: {}\r\n", "a".repeat(66_000));
    let answer = rig.http("GET", "/healthz", &long, "").await;
    assert_eq!(answer.status, 431);
    let named = "bytes, the limit is 65536 (http.max_header_bytes)\n";
    assert!(answer.body.ends_with(named), "{}", answer.body);
    let many = "x-one: 1\r\n".repeat(101);
    let answer = rig.http("GET", "/healthz", &many, "").await;
    assert_eq!(answer.status, 431);
    let named = "headers, the limit is 100 (http.max_headers)\n";
    assert!(answer.body.ends_with(named), "{}", answer.body);
    assert_eq!(refused(&rig, "http.max_header_bytes").await, 1.0);
    assert_eq!(refused(&rig, "http.max_headers").await, 1.0);
    let within = format!("x-long: {}\r\n", "a".repeat(65_000));
    assert_eq!(rig.http("GET", "/healthz", &within, "").await.status, 200);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1273_a_body_and_a_session_of_long_poll_over_their_limits_are_counted() {
    let flags = [
        ("longpoll.max_body_bytes", "1KiB"),
        ("longpoll.max_sessions", "1"),
    ];
    let rig = Rig::with(&flags).await;
    let path = "/socket/longpoll?vsn=2.0.0";
    let session = rig.get(path).await.json();
    let token = format!(
        "x-phoenix-longpoll-token: {}\r\n",
        session["token"].as_str().unwrap()
    );
    let answer = rig.http("POST", path, &token, &"x".repeat(2_000)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body,
        "the body is larger than 1024 bytes (longpoll.max_body_bytes)\n"
    );
    assert_eq!(rig.get(path).await.json(), json!({ "status": 403 }));
    assert_eq!(refused(&rig, "longpoll.max_body_bytes").await, 1.0);
    assert_eq!(refused(&rig, "longpoll.max_sessions").await, 1.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1754_a_message_over_its_limit_by_long_poll_is_counted_and_told_the_limit() {
    let rig = Rig::with(&[("socket.max_message_bytes", "200B")]).await;
    let path = "/socket/longpoll?vsn=2.0.0";
    let batch = "content-type: application/x-ndjson\r\n";
    for (n_refused, content_type) in [(1.0, ""), (2.0, batch)] {
        let session = rig.get(path).await.json();
        let token = session["token"].as_str().unwrap();
        let headers = format!("x-phoenix-longpoll-token: {token}\r\n{content_type}");
        let body = format!("[{}]", "1".repeat(298));
        let answer = rig.http("POST", path, &headers, &body).await;
        let reason = "the message is 300 bytes, the limit is 200 (socket.max_message_bytes)";
        let told = json!({ "status": 408, "reason": reason });
        assert_eq!((answer.status, answer.json()), (200, told));
        assert_eq!(refused(&rig, "socket.max_message_bytes").await, n_refused);
        let gone = rig.http("POST", path, &headers, "[]").await;
        assert_eq!(gone.json(), json!({ "status": 410 }));
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1274_joins_and_messages_over_their_limits_are_counted_by_their_names() {
    let topics =
        r#"[{ pattern = "room:*", presence = true, broadcast = true, max_payload_bytes = "20B" }]"#;
    let flags = [
        ("topics", topics),
        ("socket.max_channels", "1"),
        ("socket.max_message_bytes", "4000B"),
        ("socket.max_frame_bytes", "4000B"),
        ("presence.max_topic_bytes", "40B"),
        ("socket.max_topic_bytes", "60B"),
        ("presence.max_meta_bytes", "30B"),
    ];
    let rig = Rig::with(&flags).await;
    let mut ada = rig.connect("&user_id=ada").await;
    let (_, response) = ada
        .join(&format!("room:{}", "x".repeat(40)), json!({}))
        .await;
    let reason = "topic is 45 bytes, the limit is 40 (presence.max_topic_bytes)";
    assert_eq!(response["reason"], reason);
    let (_, response) = ada
        .join(&format!("room:{}", "x".repeat(60)), json!({}))
        .await;
    let reason = "topic is 65 bytes, the limit is 60 (socket.max_topic_bytes)";
    assert_eq!(response["reason"], reason);
    let mut ada = ada.joined("room:1", json!({})).await;
    let (_, response) = ada.join("room:2", json!({})).await;
    let reason = "too many channels joined, the limit is 1 (socket.max_channels)";
    assert_eq!(response["reason"], reason);
    let payload = json!({ "text": "more than twenty bytes" });
    let reason = ada.refused("room:1", "said", payload).await;
    assert!(
        reason.ends_with("the limit is 20 (topics.max_payload_bytes)"),
        "{reason}"
    );
    let reason = ada.refused("room:1", &"e".repeat(1_025), json!({})).await;
    assert_eq!(
        reason,
        "the event's name is 1025 bytes, the limit is 1024 (event name, fixed)"
    );
    let meta = json!({ "meta": { "text": "x".repeat(40) } });
    let reason = ada.refused("room:1", "presence:update", meta).await;
    assert!(
        reason.ends_with("the limit is 30 (presence.max_meta_bytes)"),
        "{reason}"
    );
    ada.send(Message::text("x".repeat(5_000))).await;
    assert_eq!(ada.closed().await, Some(1009));
    for limit in [
        "presence.max_topic_bytes",
        "socket.max_topic_bytes",
        "socket.max_channels",
        "topics.max_payload_bytes",
        "event name, fixed",
        "presence.max_meta_bytes",
        "socket.max_message_bytes",
    ] {
        assert_eq!(
            until_metric(&rig, &of(limit), |n| n > 0.0).await,
            1.0,
            "{limit}"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1656_a_token_or_its_user_over_a_limit_is_logged_and_counted_by_its_name() {
    let (log, _guard) = Log::start();
    let flags = [
        ("jwt.secret", SECRET),
        ("jwt.max_token_bytes", "256B"),
        ("presence.max_key_bytes", "8B"),
        ("metrics.open", "true"),
    ];
    let rig = Rig::with(&flags).await;
    let path = |user: &str| format!("{SOCKET}&token={}", hs256(&claims(user, json!({}))));
    rig.open(&path("12345678"), &[]).await.unwrap();
    assert_eq!(status(rig.open(&path("123456789"), &[]).await), 401);
    let text = "the token's claim sub is 9 bytes, the limit is 8 (presence.max_key_bytes)";
    log.until(text).await;
    assert_eq!(refused(&rig, "presence.max_key_bytes").await, 1.0);
    let long = format!("{SOCKET}&token={}", "x".repeat(257));
    assert_eq!(status(rig.open(&long, &[]).await), 401);
    let text = "the token is 257 bytes, the limit is 256 (jwt.max_token_bytes)";
    log.until(text).await;
    assert_eq!(refused(&rig, "jwt.max_token_bytes").await, 1.0);
    rig.stop().await;
}

/// A client of Supabase in a room.
async fn in_room(rig: &Rig, config: Value) -> Client {
    let mut client = rig.open(DIALECT, &[]).await.unwrap();
    let (status, response) = client.join(ROOM, json!({ "config": config })).await;
    assert_eq!(status, "ok", "{response}");
    client
}

#[tokio::test]
async fn srv_1275_what_a_client_of_supabase_sends_over_a_limit_is_counted_by_its_name() {
    let flags = [
        ("supabase.max_payload_bytes", "100B"),
        ("presence.max_meta_bytes", "30B"),
    ];
    let rig = Rig::with(&flags).await;
    let mut ada = in_room(&rig, json!({ "broadcast": { "ack": true } })).await;
    let large =
        json!({ "type": "broadcast", "event": "note", "payload": { "text": "x".repeat(100) } });
    let reason = ada.refused(ROOM, "broadcast", large).await;
    assert!(reason.ends_with("(supabase.max_payload_bytes)"), "{reason}");
    let track = json!({ "event": "track", "payload": { "text": "x".repeat(40) } });
    let reason = ada.refused(ROOM, "presence", track).await;
    assert!(
        reason.ends_with("the limit is 30 (presence.max_meta_bytes)"),
        "{reason}"
    );
    let path = "/realtime/v1/api/broadcast/room:1/events/note";
    let headers = "apikey: any\r\ncontent-type: application/json\r\n";
    let body = json!({ "text": "x".repeat(100) }).to_string();
    let answer = rig.http("POST", path, headers, &body).await;
    assert!(
        answer.body.contains("(supabase.max_payload_bytes)"),
        "{}",
        answer.body
    );
    assert_eq!(refused(&rig, "supabase.max_payload_bytes").await, 2.0);
    assert_eq!(refused(&rig, "presence.max_meta_bytes").await, 1.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1276_a_broadcast_over_the_rate_is_answered_only_if_it_is_acknowledged() {
    let flags = [("socket.message_rate", "1"), ("socket.message_burst", "10")];
    let rig = Rig::with(&flags).await;
    let call = json!({ "type": "broadcast", "event": "note", "payload": {} });
    for is_acknowledged in [false, true] {
        let mut ada = in_room(&rig, json!({ "broadcast": { "ack": is_acknowledged } })).await;
        for n in 0..17 {
            let push = json!([
                format!("j:{ROOM}"),
                format!("b{n}"),
                ROOM,
                "broadcast",
                call
            ]);
            ada.send(Message::text(push.to_string())).await;
        }
        // Answered in any case, and after them.
        let heartbeat = json!([null, "beat", "phoenix", "heartbeat", {}]);
        ada.send(Message::text(heartbeat.to_string())).await;
        let mut refused = Vec::new();
        loop {
            match ada.frame().await {
                Frame::Text(message) if message[1] == "beat" => break,
                Frame::Text(message) if message[4]["status"] == "error" => refused.push(message),
                Frame::Text(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(!refused.is_empty(), is_acknowledged, "{refused:#?}");
        if let Some(message) = refused.first() {
            let reason = message[4]["response"]["reason"].as_str().unwrap();
            assert!(reason.ends_with("(socket.message_rate)"), "{reason}");
        }
    }
    assert!(refused(&rig, "socket.message_rate").await >= 8.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1277_a_client_of_supabase_that_joins_too_fast_is_told_in_its_words_and_closed() {
    let flags = [("socket.join_rate", "1"), ("socket.join_burst", "3")];
    let rig = Rig::with(&flags).await;
    let mut ada = rig.open(DIALECT, &[]).await.unwrap();
    let mut n_joined = 0;
    let response = loop {
        let topic = format!("realtime:{n_joined}");
        let (status, response) = ada.join(&topic, json!({ "config": {} })).await;
        if status == "error" {
            break response;
        }
        n_joined += 1;
        assert!(n_joined < 20, "they have no limit");
    };
    let reason = response["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("ClientJoinRateLimitReached: Too many joins per second"),
        "{reason}"
    );
    assert!(reason.ends_with("(socket.join_rate)"), "{reason}");
    assert_eq!(ada.closed().await, Some(1008));
    let closed = "herenow_connections_closed_total{reason=\"flood\"}";
    assert_eq!(until_metric(&rig, closed, |n| n > 0.0).await, 1.0);
    rig.stop().await;
}

/// What the API refuses: method and path of the request; status, `field` and `limit` of the answer;
/// the name of the limit.
const REFUSALS: &[&str] = &[
    "PUT /api/topics/room:1/presences/bob 400 meta 8192 presence.max_meta_bytes",
    "PATCH /api/topics/room:1/presences/bob 400 meta 8192 presence.max_meta_bytes",
    "GET /api/keys/LONG 400 key 256 presence.max_key_bytes",
    "GET /api/topics/LONG 400 topic 512 presence.max_topic_bytes",
    "GET /api/topics?limit=11 400 limit 10 api.max_page",
    "POST /api/counts 400 topics 2 api.max_batch",
    "PUT /api/topics/room:1/presences/bob 413 body 20480 api.max_body_bytes",
    "PUT /api/topics/room:1/presences/bob 400 lease_seconds 5 api.min_lease",
    "PUT /api/topics/room:1/presences/bob 400 lease_seconds 3600 api.max_lease",
    "PUT /api/topics/room:1/presences/cleo 503 - 1 api.max_leases",
    "POST /api/topics/room:1/broadcast 400 event 1024 event name, fixed",
    "DELETE /api/topics/room:1/presences/bob 204",
    "PUT /api/topics/room:1/presences/ada 503 key 2 presence.max_metas_per_key",
];

/// A body that is over the limit of this name.
fn body_over(name: &str) -> Value {
    let meta = |n_bytes| json!({ "meta": { "x": "x".repeat(n_bytes) } });
    match name {
        "presence.max_meta_bytes" => meta(9_000),
        "api.max_body_bytes" => meta(30_000),
        "api.max_batch" => json!({ "topics": ["a", "b", "c"] }),
        "api.min_lease" => json!({ "lease_seconds": 1 }),
        "api.max_lease" => json!({ "lease_seconds": 4_000 }),
        "event name, fixed" => json!({ "event": "e".repeat(1_025) }),
        _ => json!({}),
    }
}

#[tokio::test]
async fn srv_1661_what_the_api_refuses_over_a_limit_names_it_and_is_counted_by_its_name() {
    let flags = [
        ("presence.max_metas_per_key", "2"),
        ("api.max_page", "10"),
        ("api.max_batch", "2"),
        ("api.max_body_bytes", "20KiB"),
        ("api.max_leases", "1"),
        ("supabase.max_payload_bytes", "10KiB"),
    ];
    let rig = Rig::with(&flags).await;
    let ada = json!({ "user_id": "ada" });
    let _one = rig.connect("").await.joined("room:1", ada.clone()).await;
    let _two = rig.connect("").await.joined("room:1", ada).await;
    let headers = "apikey: any\r\ncontent-type: application/json\r\n";
    let bob = "/api/topics/room:1/presences/bob";
    assert_eq!(rig.http("PUT", bob, headers, "{}").await.status, 201);
    for row in REFUSALS {
        let words: Vec<&str> = row.splitn(6, ' ').collect();
        let (method, path) = (words[0], words[1].replace("LONG", &"x".repeat(2_000)));
        let name = words.get(5).copied().unwrap_or_default();
        let before = match name {
            "" => 0.0,
            name => refused(&rig, name).await,
        };
        let body = body_over(name).to_string();
        let answer = rig.http(method, &path, headers, &body).await;
        assert_eq!(
            answer.status.to_string(),
            words[2],
            "{row}: {}",
            answer.body
        );
        if name.is_empty() {
            continue;
        }
        let problem = answer.json();
        assert_eq!(problem["field"].as_str().unwrap_or("-"), words[3], "{row}");
        assert_eq!(problem["limit"].as_f64(), words[4].parse().ok(), "{row}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(name), "{detail}");
        assert_eq!(refused(&rig, name).await, before + 1.0, "{row}");
    }
    // What is wrong in another way is over no limit.
    assert_eq!(rig.get("/api/topics?limit=0").await.status, 400);
    assert_eq!(refused(&rig, "api.max_page").await, 1.0);
    let path = "/realtime/v1/api/broadcast";
    let large = "x".repeat(30_000);
    let answer = rig.http("POST", path, headers, &large).await;
    assert_eq!(answer.status, 413);
    let named = "(api.max_body_bytes)";
    assert!(answer.body.contains(named), "{}", answer.body);
    assert_eq!(refused(&rig, "api.max_body_bytes").await, 2.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1662_a_list_over_its_page_is_counted() {
    let rig = Rig::start().await;
    let mut ada = rig
        .connect("&user_id=ada")
        .await
        .joined("room:1", json!({}))
        .await;
    let limit = json!({ "limit": 1_001 });
    let reason = ada.refused("room:1", "presence:list", limit).await;
    assert!(reason.ends_with("(presence:list, fixed)"), "{reason}");
    assert_eq!(refused(&rig, "presence:list, fixed").await, 1.0);
    rig.stop().await;
}
