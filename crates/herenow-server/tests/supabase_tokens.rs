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
    let flags = [
        ("jwt.secret", SECRET),
        ("jwt.leeway", "0s"),
        ("supabase.publishable_keys", PUBLISHABLE),
        ("metrics.open", "true"),
    ];
    Rig::with(&flags).await
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
    let short = |name: &str| hs256(&json!({ "sub": name, "exp": in_seconds(8) }));
    let (mut ada, mut grace) = (connect(&rig, &anon()).await, connect(&rig, &anon()).await);
    joined(&mut ada, TOPIC, with(Some(&short("ada")), json!({}))).await;
    joined(&mut grace, TOPIC, with(Some(&short("grace")), json!({}))).await;
    renew(&mut grace, TOPIC, json!(user("grace", json!({})))).await;
    let text = closed_with(&mut ada).await;
    let is_over = text.starts_with("Token has expired ") && text.ends_with(" seconds ago");
    assert!(is_over, "{text}");
    let metrics = rig.http("GET", "/metrics", "", "").await.body;
    for line in [
        "herenow_channels_expired_total 1",
        "herenow_connections_closed_total{reason=\"token_expired\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
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

#[tokio::test]
async fn srv_1660_a_broadcast_over_http_is_private_by_any_word_for_it_and_never_public_by_mistake()
{
    let rig = rig().await;
    let token = user("ada", topics(&["room:*"]));
    let (mut public, mut secret) = (connect(&rig, &token).await, connect(&rig, &token).await);
    joined(&mut public, TOPIC, with(None, json!({}))).await;
    joined(&mut secret, TOPIC, with(None, private())).await;
    assert_eq!(secret.event("presence_state").await, json!({}));
    let single = |query: &str| format!("/room:1/events/x{query}");
    for query in [
        "?private=true",
        "?private=True",
        "?private=TRUE",
        "?private=%74rue",
        "?%70rivate=true&x=1",
        "?private=false&private=true",
    ] {
        let answer = post(&rig, &single(query), &token, JSON, "{}").await;
        assert_eq!(answer.status, 202, "{query} {}", answer.body);
        assert!(matches!(secret.frame().await, Frame::Binary(_)), "{query}");
    }
    for (query, value) in [
        ("?private=1", "\"1\""),
        ("?private", "\"\""),
        ("?private=yes", "\"yes\""),
        ("?private=true+", "\"true \""),
        ("?private=true&private=%ff", "\"\u{fffd}\""),
    ] {
        let answer = post(&rig, &single(query), &token, JSON, "{}").await;
        let text = format!("is {value}, it must be true or false");
        let errors = json!({ "errors": { "private": [text] } });
        assert_eq!((answer.status, answer.json()), (422, errors), "{query}");
    }
    let batch = |private: &Value| {
        let message = json!({ "topic": "room:1", "event": "x", "payload": {}, "private": private });
        json!({ "messages": [message] }).to_string()
    };
    for on in [json!(true), json!("true"), json!("True")] {
        let answer = post(&rig, "", &token, JSON, &batch(&on)).await;
        assert_eq!(answer.status, 202, "{on} {}", answer.body);
        assert_eq!(secret.event("broadcast").await["event"], "x");
    }
    for wrong in [json!(1), json!("1"), json!(null), json!([true])] {
        let answer = post(&rig, "", &token, JSON, &batch(&wrong)).await;
        let text = format!("is {wrong}, it must be true or false");
        let errors = json!({ "errors": { "messages": [{ "private": [text] }] } });
        assert_eq!((answer.status, answer.json()), (422, errors));
    }
    // None of all that was public: the first that its members hear is what was said to be.
    for query in ["?private=False", ""] {
        let answer = post(&rig, &single(query), &token, JSON, r#"{"n": 2}"#).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        match public.frame().await {
            Frame::Binary(frame) => assert!(frame.ends_with(br#"{"n": 2}"#), "{frame:?}"),
            other => panic!("{other:?}"),
        }
    }
    let answer = post(&rig, "", &token, JSON, &batch(&json!("False"))).await;
    assert_eq!(answer.status, 202);
    assert_eq!(public.event("broadcast").await["event"], "x");
    rig.stop().await;
}

/// A server with small limits, whose metrics are open.
async fn limited() -> Rig {
    let flags = [
        ("jwt.secret", SECRET),
        ("metrics.open", "true"),
        ("supabase.max_payload_bytes", "3KiB"),
        ("api.max_body_bytes", "2KiB"),
    ];
    Rig::with(&flags).await
}

/// How often each of these limits was a reason to refuse something.
async fn refusals<const N: usize>(rig: &Rig, limits: [&str; N]) -> [u64; N] {
    let metrics = rig.http("GET", "/metrics", "", "").await.body;
    limits.map(|limit| {
        let name = format!("herenow_limit_refusals_total{{limit=\"{limit}\"}} ");
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(&name));
        values.next().unwrap().parse().unwrap()
    })
}

const BYTES: &str = "content-type: application/octet-stream\r\n";
const TOPIC_OVER: &str =
    "with its prefix is 1025 bytes, the limit is 1024 (socket.max_topic_bytes)";

#[tokio::test]
async fn srv_1666_a_broadcast_over_http_that_is_over_a_limit_is_told_which_and_counted() {
    let rig = limited().await;
    let token = user("ada", topics(&["*"]));
    let single = |topic: &str, event: &str| format!("/{topic}/events/{event}");
    let (longest, too_long) = ("t".repeat(246), "t".repeat(247));
    let (event, topic) = ("e".repeat(256), "t".repeat(1_016));
    let secret = format!("{}?private=true", single(&topic[1..], "x"));
    let large = "x".repeat(3_073);
    let payload_over = "Payload size exceeds tenant limit: it is 3073 bytes, the limit is 3072 \
                        (supabase.max_payload_bytes)";
    let event_over = "is 256 bytes, the limit is 255 (event name, fixed)";
    let secret_over = "with its prefix is 1032 bytes, the limit is 1024 (topic name, fixed)";
    let frame_over = "with its prefix is 256 bytes, the limit is 255 (topic name, fixed)";
    for (path, headers, body, field, text) in [
        (single("r", "x"), JSON, &*large, "payload", payload_over),
        (single("r", &event), JSON, "{}", "event", event_over),
        (single(&topic, "x"), JSON, "{}", "topic", TOPIC_OVER),
        (secret, JSON, "{}", "topic", secret_over),
        (single(&too_long, "x"), BYTES, "b", "topic", frame_over),
    ] {
        let answer = post(&rig, &path, &token, headers, body).await;
        let errors = json!({ "errors": { field: [text] } });
        assert_eq!((answer.status, answer.json()), (422, errors));
    }
    for (topic, headers, body) in [(&longest, BYTES, "b"), (&too_long, JSON, "{}")] {
        let answer = post(&rig, &single(topic, "x"), &token, headers, body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
    let limits = [
        "supabase.max_payload_bytes",
        "event name, fixed",
        "socket.max_topic_bytes",
        "topic name, fixed",
    ];
    assert_eq!(refusals(&rig, limits).await, [1, 1, 1, 2]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1667_a_payload_over_http_is_bounded_by_its_own_limit_and_not_by_the_apis() {
    let rig = limited().await;
    let token = user("ada", topics(&["*"]));
    let mut ada = connect(&rig, &token).await;
    joined(&mut ada, TOPIC, with(None, json!({}))).await;
    let largest = json!({ "t": "x".repeat(3_072 - 8) }).to_string();
    let answer = post(&rig, "/room:1/events/x", &token, JSON, &largest).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    match ada.frame().await {
        Frame::Binary(frame) => assert!(frame.ends_with(largest.as_bytes())),
        other => panic!("{other:?}"),
    }

    // A length that is not said at the beginning.
    let request = format!(
        "POST /realtime/v1/api/broadcast/room:1/events/x HTTP/1.1\r\nhost: a\r\nconnection: \
         close\r\nauthorization: Bearer {token}\r\n{BYTES}transfer-encoding: \
         chunked\r\n\r\n1000\r\n{}\r\n0\r\n\r\n",
        "x".repeat(0x1000)
    );
    let answer = rig.raw(&request).await;
    let text = "it is more than 3072 bytes, the limit is 3072 (supabase.max_payload_bytes)";
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains(text), "{}", answer.body);

    let batch = |topic: &str, len| {
        let payload = json!({ "t": "x".repeat(len) });
        json!({ "messages": [{ "topic": topic, "event": "x", "payload": payload }] }).to_string()
    };
    let answer = post(&rig, "", &token, JSON, &batch("room:1", 2_900)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let topic = "t".repeat(1_016);
    let answer = post(&rig, "", &token, JSON, &batch(&topic, 1)).await;
    let errors = json!({ "errors": { "messages": [{ "topic": [TOPIC_OVER] }] } });
    assert_eq!((answer.status, answer.json()), (422, errors));
    let answer = post(&rig, "", &token, JSON, &batch("room:1", 3_072)).await;
    let text = "the body is larger than 3072 bytes (supabase.max_payload_bytes)";
    let message = json!({ "message": text });
    assert_eq!((answer.status, answer.json()), (413, message));
    let limits = ["supabase.max_payload_bytes", "socket.max_topic_bytes"];
    assert_eq!(refusals(&rig, limits).await, [2, 1]);
    rig.stop().await;
}

/// A body of so many small messages for the room.
fn many(n: usize) -> String {
    let message = json!({ "topic": "room:1", "event": "e", "payload": {} });
    json!({ "messages": vec![message; n] }).to_string()
}

#[tokio::test]
async fn srv_1759_a_batch_of_too_many_messages_is_refused_before_any_is_looked_at() {
    let flags = [
        ("jwt.secret", SECRET),
        ("metrics.open", "true"),
        ("supabase.max_batch", "40"),
    ];
    let rig = Rig::with(&flags).await;
    let token = user("ada", topics(&["room:*"]));
    let mut ada = connect(&rig, &token).await;
    joined(&mut ada, TOPIC, with(None, json!({}))).await;
    let text = |n| format!("has {n} entries, the limit is 40 (supabase.max_batch)");
    let zeros = json!({ "messages": vec![0; 1_000] }).to_string();
    for (body, n) in [(many(41), 41), (zeros, 1_000)] {
        let answer = post(&rig, "", &token, JSON, &body).await;
        let errors = json!({ "errors": { "messages": [text(n)] } });
        assert_eq!((answer.status, answer.json()), (422, errors));
    }
    // The errors of the first that are wrong, and no others.
    let zeros = json!({ "messages": vec![0; 40] }).to_string();
    let answer = post(&rig, "", &token, JSON, &zeros).await;
    assert_eq!(answer.status, 422);
    let errors = answer.json()["errors"]["messages"].take();
    assert_eq!(errors.as_array().unwrap().len(), 32);
    assert_eq!(errors[31]["topic"], json!(["can't be blank"]));
    let answer = post(&rig, "", &token, JSON, &many(40)).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    for _ in 0..40 {
        assert_eq!(ada.event("broadcast").await["event"], "e");
    }
    let nothing = ada.push(TOPIC, "presence", json!({})).await;
    assert_eq!(nothing.0, "ok", "there were no more than those");
    assert_eq!(refusals(&rig, ["supabase.max_batch"]).await, [2]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1761_messages_over_http_come_at_the_rate_of_a_connection() {
    let flags = [
        ("jwt.secret", SECRET),
        ("metrics.open", "true"),
        ("supabase.publishable_keys", PUBLISHABLE),
        ("socket.message_rate", "1"),
        ("socket.message_burst", "1000"),
    ];
    let rig = Rig::with(&flags).await;
    let (ada, bob) = (user("ada", json!({})), user("bob", json!({})));
    let mut reader = connect(&rig, &ada).await;
    joined(&mut reader, TOPIC, with(None, json!({}))).await;
    assert_eq!(post(&rig, "", &ada, JSON, &many(600)).await.status, 202);
    // It takes minutes until there are so many again.
    let over = post(&rig, "", &ada, JSON, &many(600)).await;
    let reason = "too many messages, the limit is 1 a second and 1000 at once \
                  (socket.message_rate)";
    assert_eq!(
        (over.status, over.json()),
        (429, json!({ "message": reason }))
    );
    let seconds: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=200).contains(&seconds), "{seconds}");
    // Whoever has no token of a user shares with those of its address.
    for key in [bob, PUBLISHABLE.to_owned()] {
        assert_eq!(post(&rig, "", &key, JSON, &many(600)).await.status, 202);
        assert_eq!(post(&rig, "", &key, JSON, &many(600)).await.status, 429);
    }
    assert_eq!(post(&rig, "", &anon(), JSON, &many(600)).await.status, 429);
    let single = "/room:1/events/last";
    assert_eq!(post(&rig, single, &ada, JSON, "{}").await.status, 202);
    for _ in 0..1_800 {
        assert_eq!(reader.event("broadcast").await["event"], "e");
    }
    assert!(matches!(reader.frame().await, Frame::Binary(_)), "the last");
    assert_eq!(refusals(&rig, ["socket.message_rate"]).await, [4]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1762_readers_have_time_to_read_a_batch_while_it_is_sent() {
    let flags = [("jwt.secret", SECRET), ("socket.max_queue_messages", "200")];
    let rig = Rig::with(&flags).await;
    let token = user("ada", json!({}));
    let mut reader = connect(&rig, &token).await;
    joined(&mut reader, TOPIC, with(None, json!({}))).await;
    assert_eq!(post(&rig, "", &token, JSON, &many(600)).await.status, 202);
    for _ in 0..600 {
        assert_eq!(reader.event("broadcast").await["event"], "e");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1763_the_body_of_a_broadcast_over_http_has_to_arrive_in_time() {
    let flags = [
        ("jwt.secret", SECRET),
        ("metrics.open", "true"),
        ("api.body_timeout", "100ms"),
    ];
    let rig = Rig::with(&flags).await;
    let token = user("ada", json!({}));
    for path in ["", "/room:1/events/x"] {
        let request = format!(
            "POST /realtime/v1/api/broadcast{path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \
             {token}\r\n{JSON}content-length: 1000\r\n\r\n{{"
        );
        // To the end of the connection, which ends as well.
        let answer = rig.raw(&request).await;
        let message = "the body did not arrive within 0.1 s (api.body_timeout)";
        let told = json!({ "message": message });
        assert_eq!((answer.status, answer.json()), (408, told));
    }
    assert_eq!(refusals(&rig, ["api.body_timeout"]).await, [2]);
    rig.stop().await;
}
