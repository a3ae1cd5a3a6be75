//! Who the clients of the Supabase dialect are, by their tokens, and the broadcasts over HTTP.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tokens.rs"]
mod tokens;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use self::rig::{Answer, Client, Frame, Rig};
use self::tokens::{SECRET, claims, hs256, hs256_with, in_seconds};

const TOPIC: &str = "realtime:room:1";
const PUBLISHABLE: &str = "sb_publishable_0123456789";

async fn rig() -> Rig {
    let keys = [("jwt.secret", SECRET), ("jwt.leeway", "0s")];
    let [secret, leeway] = keys;
    Rig::with(&[secret, leeway, ("supabase.publishable_keys", PUBLISHABLE)]).await
}

/// A key as applications have one: without a user.
fn anon() -> String {
    hs256(&json!({ "role": "anon", "exp": in_seconds(3_600) }))
}

/// A token of a user that lasts a minute.
fn user(name: &str, extra: Value) -> String {
    hs256(&claims(name, extra))
}

fn topics(patterns: &[&str]) -> Value {
    json!({ "herenow_topics": patterns })
}

fn path(key: &str) -> String {
    format!("/realtime/v1/websocket?apikey={key}&vsn=2.0.0")
}

async fn connect(rig: &Rig, key: &str) -> Client {
    rig.open(&path(key), &[]).await.unwrap()
}

/// The status and the words with which a handshake is refused.
async fn refusal(rig: &Rig, path: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
    match rig.open(path, headers).await {
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body: Value = serde_json::from_slice(body).unwrap();
            let error = body["error"].as_str().unwrap().to_owned();
            (response.status().as_u16(), error)
        }
        other => panic!("{other:?}"),
    }
}

/// A join with a token, and what else it asks for.
fn with(token: Option<&str>, config: Value) -> Value {
    json!({ "config": config, "access_token": token })
}

fn private() -> Value {
    json!({ "private": true, "presence": { "enabled": true }, "broadcast": { "ack": true } })
}

async fn joined(client: &mut Client, topic: &str, join: Value) {
    let (status, response) = client.join(topic, join).await;
    assert_eq!(status, "ok", "{response}");
}

async fn reason(client: &mut Client, topic: &str, join: Value) -> String {
    let (status, response) = client.join(topic, join).await;
    assert_eq!(status, "error");
    response["reason"].as_str().unwrap().to_owned()
}

fn track(meta: Value) -> Value {
    json!({ "event": "track", "payload": meta })
}

async fn renew(client: &mut Client, topic: &str, token: Value) {
    let payload = json!({ "access_token": token });
    let message = json!([null, "t", topic, "access_token", payload]);
    client.send(Message::text(message.to_string())).await;
}

/// The message with which a channel is closed.
async fn closed_with(client: &mut Client) -> String {
    let system = client.event("system").await;
    assert_eq!(
        (&system["extension"], &system["status"], &system["channel"]),
        (&json!("system"), &json!("error"), &json!("room:1"))
    );
    assert_eq!(client.event("phx_close").await, json!({}));
    system["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn srv_1630_a_handshake_without_a_good_key_is_refused_in_the_clients_words() {
    let rig = rig().await;
    let expired = hs256(&json!({ "sub": "a", "exp": in_seconds(-60) }));
    let endless = hs256(&json!({ "sub": "a" }));
    let foreign = hs256_with(
        "another secret, which is long as well",
        &claims("a", json!({})),
    );
    for (key, status, text) in [
        ("", 401, "API key is missing"),
        ("not-a-jwt", 401, "The token provided is not a valid JWT"),
        (
            "sb_publishable_other_0123",
            401,
            "The token provided is not a valid JWT",
        ),
        (&expired, 401, "Token has expired"),
        (&endless, 401, "Field `exp` is required in JWT"),
        (&foreign, 401, "Failed to validate JWT signature"),
    ] {
        let refused = refusal(&rig, &path(key), &[]).await;
        assert_eq!(refused, (status, text.to_owned()), "{key}");
    }
    let missing = refusal(&rig, "/realtime/v1/websocket?vsn=2.0.0", &[]).await;
    assert_eq!(missing.1, "API key is missing");
    // The header wins over the parameter, whichever of them is good.
    let good = anon();
    let refused = refusal(&rig, &path(&good), &[("x-api-key", "not-a-jwt")]).await;
    assert_eq!(refused.0, 401);
    let header = [("x-api-key", good.as_str())];
    assert!(rig.open(&path("not-a-jwt"), &header).await.is_ok());
    let decimal = hs256(&json!({ "exp": in_seconds(60) as f64 + 0.5 }));
    for key in [&decimal, PUBLISHABLE] {
        connect(&rig, key).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1631_a_private_room_is_for_tokens_that_name_it() {
    let rig = rig().await;
    let mut client = connect(&rig, &anon()).await;
    let no = "Unauthorized: You do not have permissions to read from this Channel topic: room:1";
    let plain = user("ada", json!({}));
    let elsewhere = user("ada", topics(&["room:2", "realtime:*"]));
    for token in [None, Some(&*plain), Some(&*elsewhere)] {
        assert_eq!(reason(&mut client, TOPIC, with(token, private())).await, no);
    }
    // A token with topics is limited to them in public as well, one without has all of these.
    let token = with(Some(&elsewhere), json!({}));
    assert_eq!(reason(&mut client, TOPIC, token).await, no);
    joined(&mut client, TOPIC, with(Some(&plain), json!({}))).await;
    let named = user("ada", topics(&["room:*"]));
    joined(&mut client, TOPIC, with(Some(&named), private())).await;
    let service = hs256(&json!({ "role": "service_role", "exp": in_seconds(60) }));
    joined(&mut client, TOPIC, with(Some(&service), private())).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_1632_a_presence_has_the_key_of_the_token() {
    let rig = rig().await;
    let (ada, mut client) = (user("ada", json!({})), connect(&rig, PUBLISHABLE).await);
    let key = |key: &str| json!({ "presence": { "key": key, "enabled": true } });
    let no = "Unauthorized: presence.key must be the sub of the token, or left out \
              (supabase.trust_presence_key)";
    assert_eq!(
        reason(&mut client, TOPIC, with(Some(&ada), key("grace"))).await,
        no
    );
    assert_eq!(
        reason(&mut client, TOPIC, with(None, key("grace"))).await,
        no
    );
    for said in ["ada", ""] {
        joined(&mut client, TOPIC, with(Some(&ada), key(said))).await;
        assert_eq!(
            client.push(TOPIC, "presence", track(json!({}))).await.0,
            "ok"
        );
        let diff = client.event("presence_diff").await;
        let joins = match diff["joins"].as_object().unwrap().is_empty() {
            true => client.event("presence_diff").await["joins"].take(),
            false => diff["joins"].clone(),
        };
        assert!(joins.get("ada").is_some(), "{joins}");
    }
    rig.stop().await;

    let trusting = [
        ("jwt.secret", SECRET),
        ("supabase.trust_presence_key", "true"),
    ];
    let rig = Rig::with(&trusting).await;
    let mut client = connect(&rig, &anon()).await;
    joined(&mut client, TOPIC, with(None, key("grace"))).await;
    assert_eq!(
        client.push(TOPIC, "presence", track(json!({}))).await.0,
        "ok"
    );
    let diff = client.event("presence_diff").await;
    assert!(diff["joins"].get("grace").is_some(), "{diff}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1633_a_member_does_what_the_rights_of_its_token_say() {
    let rig = rig().await;
    let rights = |words: &[&str]| {
        let claims = json!({ "herenow": { "topics": ["room:1"], "rights": words } });
        user(words[0], claims)
    };
    let mut observer = connect(&rig, &rights(&["observe"])).await;
    joined(&mut observer, TOPIC, with(None, private())).await;
    assert_eq!(observer.event("presence_state").await, json!({}));
    let refused = observer.refused(TOPIC, "presence", track(json!({}))).await;
    assert_eq!(refused, "the token does not give the right present");

    let mut present = connect(&rig, &rights(&["present"])).await;
    joined(&mut present, TOPIC, with(None, private())).await;
    assert_eq!(
        present.push(TOPIC, "presence", track(json!({}))).await.0,
        "ok"
    );
    let diff = observer.event("presence_diff").await;
    assert!(diff["joins"].get("present").is_some(), "{diff}");

    let mut sender = connect(&rig, &rights(&["broadcast"])).await;
    joined(&mut sender, TOPIC, with(None, private())).await;
    let note = json!({ "type": "broadcast", "event": "note", "payload": {} });
    // Neither of the two may broadcast: it is dropped, without an answer.
    for client in [&mut observer, &mut present] {
        let message = json!([null, "x", TOPIC, "broadcast", { "event": "lost" }]);
        client.send(Message::text(message.to_string())).await;
        assert_eq!(client.push(TOPIC, "presence", json!({})).await.0, "ok");
    }
    assert_eq!(sender.push(TOPIC, "broadcast", note.clone()).await.0, "ok");
    assert_eq!(observer.event("broadcast").await, note);
    // Of what it was not to hear, it has heard nothing: the next frame is an answer.
    let message = json!([null, "last", TOPIC, "presence", {}]);
    present.send(Message::text(message.to_string())).await;
    let Frame::Text(next) = present.frame().await else {
        panic!("a text")
    };
    assert_eq!(next[1], "last");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1634_a_new_token_counts_and_a_bad_one_ends_the_channel() {
    let rig = rig().await;
    let room = |name: &str| user(name, topics(&["room:*"]));
    for (token, text) in [
        (json!("not-a-jwt"), "The token provided is not a valid JWT"),
        (json!(""), "The token provided is not a valid JWT"),
        (
            json!(user("ada", topics(&["lobby"]))),
            "You do not have permissions to read from this Channel topic: room:1",
        ),
        (
            json!(user(
                "ada",
                json!({ "herenow": { "topics": ["room:1"], "rights": ["present"] } })
            )),
            "You do not have permissions to read from this Channel topic: room:1",
        ),
    ] {
        let mut client = connect(&rig, &anon()).await;
        joined(&mut client, TOPIC, with(Some(&room("ada")), private())).await;
        for ignored in [json!(null), json!("sb_secret_x"), json!(PUBLISHABLE)] {
            renew(&mut client, TOPIC, ignored).await;
        }
        renew(&mut client, TOPIC, json!(room("ada"))).await;
        assert_eq!(
            client.push(TOPIC, "presence", track(json!({}))).await.0,
            "ok"
        );
        renew(&mut client, TOPIC, token).await;
        assert_eq!(closed_with(&mut client).await, text);
    }
    // A user who was nobody at the join is present by the token's key from then on.
    let mut client = connect(&rig, &anon()).await;
    joined(&mut client, TOPIC, with(None, json!({}))).await;
    assert_eq!(
        client
            .push(TOPIC, "presence", track(json!({ "n": 1 })))
            .await
            .0,
        "ok"
    );
    let unnamed = client.event("presence_diff").await["joins"].take();
    renew(&mut client, TOPIC, json!(user("ada", json!({})))).await;
    let (mut joins, mut leaves) = (json!({}), json!({}));
    while joins.get("ada").is_none() || leaves != unnamed {
        let mut diff = client.event("presence_diff").await;
        for (all, part) in [(&mut joins, "joins"), (&mut leaves, "leaves")] {
            let part = diff[part].as_object_mut().unwrap();
            all.as_object_mut().unwrap().append(part);
        }
    }
    assert_eq!(joins["ada"]["metas"][0]["n"], 1);
    // Another user's makes the client join again, as that one.
    let mut client = connect(&rig, &anon()).await;
    joined(&mut client, TOPIC, with(Some(&room("ada")), private())).await;
    renew(&mut client, TOPIC, json!(room("grace"))).await;
    let error = client.event("phx_error").await;
    assert_eq!(error, json!({ "reason": "token_changed" }));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1635_a_channel_ends_with_its_token_unless_there_is_a_new_one() {
    let rig = rig().await;
    let short = |name: &str| hs256(&json!({ "sub": name, "exp": in_seconds(3) }));
    let (mut ada, mut grace) = (connect(&rig, &anon()).await, connect(&rig, &anon()).await);
    joined(&mut ada, TOPIC, with(Some(&short("ada")), json!({}))).await;
    joined(&mut grace, TOPIC, with(Some(&short("grace")), json!({}))).await;
    renew(&mut grace, TOPIC, json!(user("grace", json!({})))).await;
    let text = closed_with(&mut ada).await;
    let is_over = text.starts_with("Token has expired ") && text.ends_with(" seconds ago");
    assert!(is_over, "{text}");
    assert_eq!(
        grace.push(TOPIC, "presence", track(json!({}))).await.0,
        "ok"
    );
    // The connection is another matter: its key is good, and so is a join by a token that is.
    joined(
        &mut ada,
        TOPIC,
        with(Some(&user("ada", json!({}))), json!({})),
    )
    .await;
    let expired = hs256(&json!({ "sub": "ada", "exp": in_seconds(-5) }));
    let text = reason(&mut grace, "realtime:2", with(Some(&expired), json!({}))).await;
    assert!(
        text.starts_with("InvalidJWTToken: Token has expired "),
        "{text}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_1636_all_that_a_user_has_open_can_be_ended() {
    let keys = "ops:write:0123456789abcdef";
    let rig = Rig::with(&[("jwt.secret", SECRET), ("api.keys", keys)]).await;
    let ada = user("ada", json!({}));
    let (mut by_key, mut by_join) = (connect(&rig, &ada).await, connect(&rig, &anon()).await);
    joined(&mut by_key, TOPIC, with(None, json!({}))).await;
    joined(&mut by_join, TOPIC, with(Some(&ada), json!({}))).await;
    let headers = "x-api-key: 0123456789abcdef\r\n";
    let answer = rig.http("DELETE", "/api/keys/ada", headers, "").await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(by_key.closed().await, Some(1001));
    let system = by_join.event("system").await;
    assert_eq!(system["message"], "Server requested disconnect");
    assert_eq!(by_join.event("phx_close").await, json!({}));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1637_only_this_dialect_opens_private_rooms_and_public_ones_can_be_off() {
    let topics = r#"[{ pattern = "*", presence = true, broadcast = true }]"#;
    let keys = [
        ("jwt.secret", SECRET),
        ("topics", topics),
        ("supabase.private_only", "true"),
    ];
    let rig = Rig::with(&keys).await;
    let ada = user("ada", json!({}));
    let mut phoenix = rig.connect(&format!("&token={ada}")).await;
    let (status, response) = phoenix.join("realtime-private:room:1", json!({})).await;
    assert_eq!(
        (status.as_str(), response),
        ("error", json!({ "reason": "unmatched topic" }))
    );
    let mut client = connect(&rig, &ada).await;
    let no = "PrivateOnly: This project only allows private channels";
    assert_eq!(reason(&mut client, TOPIC, with(None, json!({}))).await, no);
    rig.stop().await;
}

const JSON: &str = "content-type: application/json; charset=utf-8\r\n";

/// Posts below the mount with a bearer token.
async fn post(rig: &Rig, path: &str, token: &str, headers: &str, body: &str) -> Answer {
    let headers = format!("authorization: Bearer {token}\r\n{headers}");
    let path = format!("/realtime/v1/api/broadcast{path}");
    rig.http("POST", &path, &headers, body).await
}

#[tokio::test]
async fn srv_1638_a_batch_over_http_reaches_each_room_that_its_token_may_write() {
    let rig = rig().await;
    let token = user("ada", topics(&["room:*"]));
    let (mut public, mut secret) = (connect(&rig, &token).await, connect(&rig, &token).await);
    joined(&mut public, TOPIC, with(None, json!({}))).await;
    joined(&mut secret, TOPIC, with(None, private())).await;
    let message = |topic: &str, event: &str, is_private: bool| json!({ "topic": topic, "event": event, "payload": { "n": 1 }, "private": is_private });
    let mut first = message("room:1", "first", false);
    first["id"] = json!("m1");
    let messages = json!({ "messages": [
        first, message("lobby", "not allowed", true),
        message("room:1", "hidden", true), message("room:1", "last", false),
    ] });
    let query = "?apikey=x&vsn=2.0.0";
    let answer = post(&rig, query, &token, JSON, &messages.to_string()).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let sent = |event: &str| json!({ "type": "broadcast", "event": event, "payload": { "n": 1 } });
    let mut with_id = sent("first");
    with_id["meta"] = json!({ "id": "m1" });
    assert_eq!(public.event("broadcast").await, with_id);
    assert_eq!(public.event("broadcast").await, sent("last"));
    assert_eq!(secret.event("broadcast").await, sent("hidden"));

    let guest = post(&rig, "", PUBLISHABLE, JSON, &messages.to_string()).await;
    assert_eq!(guest.status, 202);
    assert_eq!(public.event("broadcast").await, with_id);
    let nothing = secret.push(TOPIC, "presence", json!({})).await;
    assert_eq!(
        nothing.0, "ok",
        "and the private room has heard nothing of a guest"
    );

    let malformed = json!({ "messages": [{ "topic": "room:1" }, first, { "payload": [1] }] });
    let answer = post(&rig, "", &token, JSON, &malformed.to_string()).await;
    let blank = json!(["can't be blank"]);
    let errors = json!({ "errors": { "messages": [
        { "event": blank, "payload": blank }, {},
        { "topic": blank, "event": blank, "payload": blank },
    ] } });
    assert_eq!((answer.status, answer.json()), (422, errors));
    let answer = post(&rig, "", &token, JSON, "{}").await;
    let errors = json!({ "errors": { "messages": blank } });
    assert_eq!((answer.status, answer.json()), (422, errors));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1639_one_broadcast_over_http_is_json_or_bytes() {
    let rig = rig().await;
    let token = user("ada", topics(&["room:*"]));
    let mut ada = connect(&rig, &token).await;
    joined(&mut ada, TOPIC, with(None, private())).await;
    assert_eq!(ada.event("presence_state").await, json!({}));
    let path = "/room%3A1/events/x?private=true";
    let bytes = "content-type: application/octet-stream\r\n";
    for (headers, encoding, body) in [(JSON, 1, r#"{"a": 1}"#), ("", 1, "{}"), (bytes, 0, "")] {
        let answer = post(&rig, path, &token, headers, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (202, ""));
        let head = [4, 15, 1, 0, encoding];
        let frame = [&head[..], b"realtime:room:1x", body.as_bytes()].concat();
        assert_eq!(ada.frame().await, Frame::Binary(frame));
    }
    for (path, token, headers, body, status) in [
        (
            path,
            token.as_str(),
            "content-type: text/plain\r\n",
            "x",
            415,
        ),
        (path, &token, JSON, "[1]", 422),
        (path, &anon(), JSON, "{}", 403),
        ("/lobby/events/x", &token, JSON, "{}", 403),
        (path, "not-a-jwt", JSON, "{}", 401),
        ("/room:1/events/x?persist=true", &token, JSON, "{}", 501),
    ] {
        let answer = post(&rig, path, token, headers, body).await;
        assert_eq!(answer.status, status, "{path} {}", answer.body);
    }
    let answer = rig
        .http("POST", "/realtime/v1/api/broadcast", JSON, "{}")
        .await;
    let unauthorized = json!({ "message": "Unauthorized" });
    assert_eq!((answer.status, answer.json()), (401, unauthorized));
    let path = "/realtime/v1/api/broadcast";
    let answer = rig
        .http("OPTIONS", path, "origin: https://a.example\r\n", "")
        .await;
    assert_eq!(answer.status, 204);
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("apikey"), "{allowed}");
    rig.stop().await;

    // Without tokens it is open to this machine, and to no page of another.
    let rig = Rig::start().await;
    let headers = format!("{JSON}origin: https://evil.example\r\n");
    let path = "/realtime/v1/api/broadcast/r/events/x";
    assert_eq!(rig.http("POST", path, &headers, "{}").await.status, 401);
    assert_eq!(rig.http("POST", path, JSON, "{}").await.status, 202);
    rig.stop().await;
}
