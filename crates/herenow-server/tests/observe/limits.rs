//! What one address, one user and one connection may have. Clients come through a trusted proxy,
//! which this test plays: what comes from the loopback itself is not limited.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::rig::{Answer, Client, Frame, Rig};
use super::tokens::{SECRET, claims, hs256, in_seconds};
use super::until_metric;

const SOCKET: &str = "/socket/websocket?vsn=2.0.0";
const PROXY: (&str, &str) = ("http.trusted_proxies", "127.0.0.0/8");

async fn open(rig: &Rig, address: &str) -> Result<Client, Error> {
    rig.open(SOCKET, &[("x-forwarded-for", address)]).await
}

/// The status and the reason of a refused handshake.
fn refusal(refused: Result<Client, Error>) -> (u16, String) {
    match refused.unwrap_err() {
        Error::Http(response) => {
            let status = response.status().as_u16();
            let retry_after = response.headers()["retry-after"].to_str().unwrap();
            assert!(retry_after.parse::<u64>().unwrap() > 0);
            let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
            (status, body["reason"].as_str().unwrap().to_owned())
        }
        other => panic!("{other}"),
    }
}

fn refused_by(limit: &str) -> String {
    format!("herenow_limit_refusals_total{{limit=\"{limit}\"}}")
}

#[tokio::test]
async fn srv_854_an_address_behind_a_proxy_has_so_many_connections() {
    let rig = Rig::with(&[PROXY, ("limits.sockets_per_address", "1")]).await;
    let held = open(&rig, "203.0.113.1").await.unwrap();
    let (status, reason) = refusal(open(&rig, "6.6.6.6, 203.0.113.1").await);
    assert_eq!(status, 429);
    assert_eq!(
        reason,
        "too many connections from this address, the limit is 1 (limits.sockets_per_address)"
    );
    let other = open(&rig, "203.0.113.2").await.unwrap();
    let polled = "x-forwarded-for: 203.0.113.1\r\n";
    let long_poll = rig
        .http("GET", "/socket/longpoll?vsn=2.0.0", polled, "")
        .await;
    assert_eq!(
        (long_poll.status, &long_poll.json()["status"]),
        (429, &json!(403))
    );
    let refused = refused_by("limits.sockets_per_address");
    assert_eq!(until_metric(&rig, &refused, |n| n > 0.0).await, 2.0);
    drop((held, other));
    until_metric(&rig, "herenow_connections", |n| n == 0.0).await;
    open(&rig, "203.0.113.1").await.unwrap();
    // The loopback itself has no limit.
    let _direct = (rig.connect("").await, rig.connect("").await);
    rig.stop().await;
}

#[tokio::test]
async fn srv_855_handshakes_of_an_address_come_at_a_rate() {
    let flags = [
        PROXY,
        ("limits.handshake_rate", "1"),
        ("limits.handshake_burst", "2"),
    ];
    let rig = Rig::with(&flags).await;
    let mut n_opened = 0;
    let (status, reason) = loop {
        match open(&rig, "2001:db8::1").await {
            Ok(_) if n_opened < 20 => n_opened += 1,
            refused => break refusal(refused),
        }
    };
    assert!(n_opened >= 2);
    assert_eq!(status, 429);
    assert!(
        reason.ends_with("the limit is 1 a second (limits.handshake_rate)"),
        "{reason}"
    );
    let refused = refused_by("limits.handshake_rate");
    assert!(until_metric(&rig, &refused, |n| n > 0.0).await >= 1.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_856_a_user_has_so_many_connections() {
    let rig = Rig::with(&[("jwt.secret", SECRET), ("limits.sockets_per_user", "1")]).await;
    let token = |user| hs256(&claims(user, json!({})));
    let path = |user| format!("{SOCKET}&token={}", token(user));
    let held = rig.open(&path("ada"), &[]).await.unwrap();
    let (status, reason) = refusal(rig.open(&path("ada"), &[]).await);
    assert_eq!(status, 429);
    assert_eq!(
        reason,
        "too many connections of this user, the limit is 1 (limits.sockets_per_user)"
    );
    let _bob = rig.open(&path("bob"), &[]).await.unwrap();
    drop(held);
    let deadline = tokio::time::Instant::now() + 3 * super::PATIENCE;
    while rig.open(&path("ada"), &[]).await.is_err() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the place is not given back"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_857_messages_over_the_rate_are_answered_with_its_name_and_a_flood_is_closed() {
    let flags = [("socket.message_rate", "1"), ("socket.message_burst", "4")];
    let rig = Rig::with(&flags).await;
    let mut ada = rig
        .connect("&user_id=ada")
        .await
        .joined("room:1", json!({}))
        .await;
    let reason = loop {
        let (status, response) = ada.push("room:1", "said", json!({})).await;
        if status == "error" {
            break response["reason"].as_str().unwrap().to_owned();
        }
    };
    let limit = "too many messages, the limit is 1 a second and 4 at once (socket.message_rate)";
    assert_eq!(reason, limit);
    // A heartbeat is answered as ever.
    let heartbeat = json!([null, "beat", "phoenix", "heartbeat", {}]);
    ada.send(Message::text(heartbeat.to_string())).await;
    loop {
        match ada.frame().await {
            Frame::Text(message) if message[1] == "beat" => {
                assert_eq!(message[4]["status"], "ok");
                break;
            }
            Frame::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
    for n in 0..20 {
        let push = json!(["j:room:1", n.to_string(), "room:1", "said", {}]);
        ada.send(Message::text(push.to_string())).await;
    }
    assert_eq!(ada.closed().await, Some(1008));
    let refused = refused_by("socket.message_rate");
    assert!(until_metric(&rig, &refused, |n| n >= 2.0).await >= 2.0);
    let closed = "herenow_connections_closed_total{reason=\"flood\"}";
    assert_eq!(until_metric(&rig, closed, |n| n > 0.0).await, 1.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_858_joins_over_the_rate_are_refused_with_its_name() {
    let flags = [("socket.join_rate", "1"), ("socket.join_burst", "2")];
    let rig = Rig::with(&flags).await;
    let mut ada = rig.connect("&user_id=ada").await;
    let mut n_joined = 0;
    let response = loop {
        let (status, response) = ada.join(&format!("room:{n_joined}"), json!({})).await;
        if status == "error" {
            break response;
        }
        n_joined += 1;
    };
    assert!(n_joined >= 2);
    let limit = "too many joins, the limit is 1 a second and 2 at once (socket.join_rate)";
    assert_eq!(response["reason"], limit);
    ada.ok("room:0", "said", json!({})).await;
    assert!(until_metric(&rig, &refused_by("socket.join_rate"), |n| n > 0.0).await >= 1.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_859_the_origin_is_compared_with_what_a_trusted_proxy_was_asked_for() {
    let headers = [
        ("origin", "https://chat.example"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-host", "chat.example"),
        ("x-forwarded-proto", "https"),
    ];
    let rig = Rig::with(&[PROXY]).await;
    rig.open(SOCKET, &headers).await.unwrap();
    rig.stop().await;
    let rig = Rig::start().await;
    match rig.open(SOCKET, &headers).await.unwrap_err() {
        Error::Http(response) => assert_eq!(response.status(), 403),
        other => panic!("{other}"),
    }
    rig.stop().await;
    // With the other header, what the first one says is anybody's.
    let flags = [PROXY, ("http.forwarded_header", "forwarded")];
    let rig = Rig::with(&flags).await;
    assert!(rig.open(SOCKET, &headers).await.is_err());
    let forwarded = "for=203.0.113.1;proto=https;host=chat.example";
    let headers = [headers[0], ("forwarded", forwarded)];
    rig.open(SOCKET, &headers).await.unwrap();
    rig.stop().await;
}

#[test]
fn srv_859_what_is_no_network_is_an_error_of_the_configuration() {
    let sources = herenow_server::config::Sources {
        flags: vec![(
            "http.trusted_proxies".to_owned(),
            "10.0.0.0/8,proxy.local".to_owned(),
        )],
        ..Default::default()
    };
    let error = herenow_server::config::ServerConfig::load(&sources).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("http.trusted_proxies") && error.contains("10.0.0.0/8"),
        "{error}"
    );
}

const DIALECT: &str = "/realtime/v1/websocket?vsn=2.0.0";
const BROADCAST: &str = "/realtime/v1/api/broadcast/room:1/events/note";

/// A broadcast over HTTP, by a client with this address.
async fn broadcast(rig: &Rig, address: &str) -> Answer {
    let token = hs256(&claims("ada", json!({})));
    let headers = format!(
        "x-forwarded-for: {address}\r\napikey: {token}\r\ncontent-type: application/json\r\n"
    );
    rig.http("POST", BROADCAST, &headers, "{}").await
}

/// The path of a socket, with a user's token in this parameter.
fn of_user(socket: &str, parameter: &str) -> String {
    format!("{socket}&{parameter}={}", hs256(&claims("ada", json!({}))))
}

#[tokio::test]
async fn srv_1160_clients_of_supabase_have_the_limits_of_all_and_share_them() {
    let flags = [
        PROXY,
        ("jwt.secret", SECRET),
        ("metrics.open", "true"),
        ("limits.sockets_per_address", "1"),
    ];
    let rig = Rig::with(&flags).await;
    let headers = [("x-forwarded-for", "203.0.113.1")];
    let (socket, dialect) = (of_user(SOCKET, "token"), of_user(DIALECT, "apikey"));
    let held = rig.open(&socket, &headers).await.unwrap();
    let (status, reason) = refusal(rig.open(&dialect, &headers).await);
    let limit =
        "too many connections from this address, the limit is 1 (limits.sockets_per_address)";
    assert_eq!((status, reason.as_str()), (429, limit));
    let refused = broadcast(&rig, "203.0.113.1").await;
    assert_eq!(
        (refused.status, &refused.json()["message"]),
        (429, &json!(limit))
    );
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    assert_eq!(broadcast(&rig, "203.0.113.2").await.status, 202);
    drop(held);
    until_metric(&rig, "herenow_connections", |n| n == 0.0).await;
    let held = rig.open(&dialect, &headers).await.unwrap();
    assert_eq!(refusal(rig.open(&socket, &headers).await).0, 429);
    let by_limit = refused_by("limits.sockets_per_address");
    assert_eq!(until_metric(&rig, &by_limit, |n| n > 0.0).await, 3.0);
    drop(held);
    until_metric(&rig, "herenow_connections", |n| n == 0.0).await;
    assert_eq!(broadcast(&rig, "203.0.113.1").await.status, 202);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1160_broadcasts_over_http_and_handshakes_have_one_rate() {
    let flags = [
        PROXY,
        ("jwt.secret", SECRET),
        ("limits.handshake_rate", "1"),
        ("limits.handshake_burst", "3"),
    ];
    let rig = Rig::with(&flags).await;
    let headers = [("x-forwarded-for", "2001:db8::1")];
    let dialect = of_user(DIALECT, "apikey");
    let _held = rig.open(&dialect, &headers).await.unwrap();
    let mut n_sent = 0;
    let refused = loop {
        let answer = broadcast(&rig, "2001:db8::1").await;
        if answer.status == 429 || n_sent > 20 {
            break answer;
        }
        assert_eq!(answer.status, 202, "{}", answer.body);
        n_sent += 1;
    };
    assert!(n_sent >= 2, "{n_sent}");
    let reason = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(reason.ends_with("(limits.handshake_rate)"), "{reason}");
    assert!(refused.header("retry-after").is_some());
    // A browser may ask what it may send, and the others' rate is their own.
    let preflight = rig.http("OPTIONS", BROADCAST, "x-forwarded-for: 2001:db8::1\r\n", "");
    assert_eq!(preflight.await.status, 204);
    assert_eq!(broadcast(&rig, "2001:db8:0:1::1").await.status, 202);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1160_a_client_of_supabase_that_floods_is_answered_and_closed() {
    let flags = [("socket.message_rate", "1"), ("socket.message_burst", "4")];
    let rig = Rig::with(&flags).await;
    let topic = "realtime:room:1";
    let dialect = of_user(DIALECT, "apikey");
    let mut ada = rig.open(&dialect, &[]).await.unwrap();
    let (status, response) = ada.join(topic, json!({ "config": {} })).await;
    assert_eq!(status, "ok", "{response}");
    let call = json!({ "type": "broadcast", "event": "note", "payload": {} });
    for n in 0..40 {
        let push = json!([
            format!("j:{topic}"),
            n.to_string(),
            topic,
            "broadcast",
            call
        ]);
        ada.send_unless_closed(Message::text(push.to_string()))
            .await;
    }
    assert_eq!(ada.closed().await, Some(1008));
    until_metric(&rig, &refused_by("socket.message_rate"), |n| n > 0.0).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_1160_a_user_has_so_many_connections_of_both_kinds() {
    let rig = Rig::with(&[("jwt.secret", SECRET), ("limits.sockets_per_user", "1")]).await;
    let token = hs256(&claims("ada", json!({})));
    let _held = rig
        .open(&format!("{SOCKET}&token={token}"), &[])
        .await
        .unwrap();
    let path = format!("/realtime/v1/websocket?apikey={token}&vsn=2.0.0");
    let (status, reason) = refusal(rig.open(&path, &[]).await);
    assert_eq!(status, 429);
    assert!(reason.ends_with("(limits.sockets_per_user)"), "{reason}");
    rig.stop().await;
}

const ROOM: &str = "realtime:room:1";
const PER_USER: &str =
    "too many connections of this user, the limit is 1 (limits.sockets_per_user)";

/// A server on which each user may have one connection, and the key of an application for it.
async fn rig_of_one_each() -> (Rig, String) {
    let flags = [
        ("jwt.secret", SECRET),
        ("metrics.open", "true"),
        ("limits.sockets_per_user", "1"),
    ];
    let rig = Rig::with(&flags).await;
    let anon = hs256(&json!({ "role": "anon", "exp": in_seconds(60) }));
    (rig, anon)
}

/// A connection that is nobody's in particular.
async fn open_with(rig: &Rig, key: &str) -> Client {
    let path = format!("/realtime/v1/websocket?apikey={key}&vsn=2.0.0");
    rig.open(&path, &[]).await.unwrap()
}

/// A join with the token of a user, or with none.
fn join_as(user: Option<&str>) -> Value {
    let token = user.map(|user| hs256(&claims(user, json!({}))));
    json!({ "config": {}, "access_token": token })
}

/// Joins as a user, for whom there must be a place.
async fn joined_as(client: &mut Client, topic: &str, user: &str) {
    let (status, response) = client.join(topic, join_as(Some(user))).await;
    assert_eq!(status, "ok", "{response}");
}

/// Joins as a user, for whom there must be no place.
async fn refused_as(client: &mut Client, topic: &str, user: &str) {
    let (status, response) = client.join(topic, join_as(Some(user))).await;
    let reason = format!("ConnectionRateLimitReached: {PER_USER}");
    assert_eq!(
        (status, response),
        ("error".into(), json!({ "reason": reason }))
    );
}

/// Joins as a user for whom there is a place, or about to be one.
async fn joins_soon(client: &mut Client, topic: &str, user: &str) {
    let deadline = tokio::time::Instant::now() + 3 * super::PATIENCE;
    while client.join(topic, join_as(Some(user))).await.0 != "ok" {
        let now = tokio::time::Instant::now();
        assert!(now < deadline, "the place is not given back");
    }
}

/// Brings a channel the token of a user.
async fn renew(client: &mut Client, topic: &str, user: &str) {
    let payload = json!({ "access_token": join_as(Some(user))["access_token"] });
    let message = json!([format!("j:{topic}"), "t", topic, "access_token", payload]);
    client.send(Message::text(message.to_string())).await;
}

#[tokio::test]
async fn srv_1251_a_user_whose_token_comes_with_the_join_has_so_many_connections() {
    let (rig, anon) = rig_of_one_each().await;
    let (mut held, mut other) = (open_with(&rig, &anon).await, open_with(&rig, &anon).await);
    for topic in [ROOM, "realtime:room:2", "realtime:room:3"] {
        joined_as(&mut held, topic, "ada").await;
    }
    refused_as(&mut other, ROOM, "ada").await;
    // She has no second one in the other dialect either, nor by the key of a connection.
    let token = hs256(&claims("ada", json!({})));
    for path in [
        format!("{SOCKET}&token={token}"),
        format!("/realtime/v1/websocket?apikey={token}&vsn=2.0.0"),
    ] {
        let limit = (429, PER_USER.to_owned());
        assert_eq!(refusal(rig.open(&path, &[]).await), limit);
    }
    let refused = refused_by("limits.sockets_per_user");
    assert_eq!(until_metric(&rig, &refused, |n| n > 0.0).await, 3.0);
    // The connection that was refused is open to others, and to her once the first one has ended.
    joined_as(&mut other, ROOM, "bob").await;
    let (status, _) = other.join("realtime:room:2", join_as(None)).await;
    assert_eq!(status, "ok");
    drop(held);
    joins_soon(&mut other, "realtime:room:3", "ada").await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_1252_a_user_of_a_connection_of_the_other_dialect_is_refused_at_the_join() {
    let (rig, anon) = rig_of_one_each().await;
    let path = format!("{SOCKET}&token={}", hs256(&claims("ada", json!({}))));
    let held = rig.open(&path, &[]).await.unwrap();
    let mut client = open_with(&rig, &anon).await;
    refused_as(&mut client, ROOM, "ada").await;
    drop(held);
    joins_soon(&mut client, ROOM, "ada").await;
    // Its own user's place is the connection's, whoever its channels are.
    drop(client);
    let token = hs256(&claims("ada", json!({})));
    let mut own = loop {
        let path = format!("/realtime/v1/websocket?apikey={token}&vsn=2.0.0");
        if let Ok(client) = rig.open(&path, &[]).await {
            break client;
        }
    };
    joined_as(&mut own, ROOM, "ada").await;
    joined_as(&mut own, "realtime:room:2", "bob").await;
    let mut other = open_with(&rig, &anon).await;
    refused_as(&mut other, ROOM, "ada").await;
    refused_as(&mut other, ROOM, "bob").await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_1253_a_token_that_comes_after_the_join_counts_as_one_that_comes_with_it() {
    let (rig, anon) = rig_of_one_each().await;
    let (mut held, mut other) = (open_with(&rig, &anon).await, open_with(&rig, &anon).await);
    for client in [&mut held, &mut other] {
        assert_eq!(client.join(ROOM, join_as(None)).await.0, "ok");
    }
    // The second token is hers again, and takes nothing.
    for _ in 0..2 {
        renew(&mut held, ROOM, "ada").await;
    }
    held.ok(ROOM, "presence", json!({ "event": "untrack" }))
        .await;
    renew(&mut other, ROOM, "ada").await;
    let system = other.event("system").await;
    assert_eq!(
        (&system["status"], &system["message"]),
        (&json!("error"), &json!(PER_USER))
    );
    assert_eq!(other.event("phx_close").await, json!({}));
    let refused = refused_by("limits.sockets_per_user");
    assert_eq!(until_metric(&rig, &refused, |n| n > 0.0).await, 1.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1254_a_connection_that_becomes_another_users_moves_to_that_one() {
    let (rig, anon) = rig_of_one_each().await;
    let (mut held, mut other) = (open_with(&rig, &anon).await, open_with(&rig, &anon).await);
    joined_as(&mut held, ROOM, "ada").await;
    refused_as(&mut other, ROOM, "ada").await;
    renew(&mut held, ROOM, "bob").await;
    let error = held.event("phx_error").await;
    assert_eq!(error, json!({ "reason": "token_changed" }));
    // As its client does it: it joins again, with the new token.
    joined_as(&mut held, ROOM, "bob").await;
    refused_as(&mut other, ROOM, "bob").await;
    joined_as(&mut other, ROOM, "ada").await;
    // With the last channel of a user that user's place is free.
    held.ok(ROOM, "phx_leave", json!({})).await;
    joins_soon(&mut other, "realtime:room:2", "bob").await;
    rig.stop().await;
}
