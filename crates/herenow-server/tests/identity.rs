//! Who clients are by their tokens, as they see it over a WebSocket and long poll.

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

use self::rig::{Client, Frame, Rig};
use self::tokens::{SECRET, claims, hs256, in_seconds};

const ROOM: &str = "room:1";

async fn rig() -> Rig {
    Rig::with(&[("jwt.secret", SECRET)]).await
}

/// A client whose token says `claims`, besides who it is and when it ends.
async fn client(rig: &Rig, user: &str, extra: Value) -> Client {
    let token = hs256(&claims(user, extra));
    rig.connect(&format!("&token={token}")).await
}

fn rights(words: &[&str]) -> Value {
    json!({ "herenow": { "rights": words } })
}

/// The status and body with which a handshake is refused.
async fn refusal(rig: &Rig, params: &str) -> (u16, Value) {
    let path = format!("/socket/websocket?vsn=2.0.0{params}");
    match rig.open(&path, &[]).await {
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            (
                response.status().as_u16(),
                serde_json::from_slice(body).unwrap(),
            )
        }
        other => panic!("{other:?}"),
    }
}

fn reason(word: &str) -> Value {
    json!({ "reason": word })
}

#[tokio::test]
async fn srv_610_every_socket_must_present_a_token_before_the_upgrade() {
    let rig = rig().await;
    assert_eq!(refusal(&rig, "").await, (401, reason("token_missing")));
    assert_eq!(
        refusal(&rig, "&token=").await,
        (401, reason("token_missing"))
    );
    assert_eq!(
        refusal(&rig, "&user_id=ada").await,
        (401, reason("token_missing"))
    );
    assert_eq!(
        refusal(&rig, "&token=x").await,
        (401, reason("token_invalid"))
    );
    let mut ada = client(&rig, "ada", json!({}))
        .await
        .joined(ROOM, json!({}))
        .await;
    let state = ada.event("presence_state").await;
    assert_eq!(
        state.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["ada"]
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_611_long_poll_answers_the_same_statuses_and_what_its_clients_look_for() {
    let rig = rig().await;
    let poll = async |params: &str, headers: &str| {
        let path = format!("/socket/longpoll?vsn=2.0.0{params}");
        rig.http("GET", &path, headers, "").await
    };
    let answer = poll("", "").await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.json(),
        json!({ "status": 403, "reason": "token_missing" })
    );
    let expired = hs256(&json!({ "sub": "ada", "exp": in_seconds(-100) }));
    let answer = poll(&format!("&token={expired}"), "").await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.json(),
        json!({ "status": 403, "reason": "token_expired" })
    );
    let token = hs256(&claims("ada", json!({})));
    let answer = poll("", &format!("x-phoenix-authtoken: {token}\r\n")).await;
    assert_eq!(
        (answer.status, answer.json()["status"].clone()),
        (200, json!(410))
    );
    let answer = poll(&format!("&token={token}"), "").await;
    assert_eq!(
        (answer.status, answer.json()["status"].clone()),
        (200, json!(410))
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_612_the_token_may_come_in_the_sub_protocol_or_in_supabases_parameters() {
    let rig = rig().await;
    let token = hs256(&claims("ada", json!({})));
    let encoded = tokens::base64(&token);
    let protocols = format!("phoenix, base64url.bearer.phx.{encoded}");
    let path = "/socket/websocket?vsn=2.0.0";
    let headers = [("sec-websocket-protocol", protocols.as_str())];
    rig.open(path, &headers)
        .await
        .unwrap()
        .joined(ROOM, json!({}))
        .await;
    for param in ["apikey", "access_token"] {
        let client = rig.connect(&format!("&{param}={token}")).await;
        client.joined(ROOM, json!({})).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_613_the_user_is_the_tokens_and_nobody_elses() {
    let rig = rig().await;
    let mut ada = client(&rig, "ada", json!({})).await;
    let (status, response) = ada.join(ROOM, json!({ "user_id": "bob" })).await;
    assert_eq!(status, "error");
    let text = response["reason"].as_str().unwrap();
    assert!(
        text.starts_with("user_id is another user than the token's"),
        "{text}"
    );
    let mut ada = ada.joined(ROOM, json!({ "user_id": "ada" })).await;
    let state = ada.event("presence_state").await;
    assert_eq!(
        state.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["ada"]
    );
    // The parameter of dev mode says nothing here.
    let token = hs256(&claims("42", json!({})));
    let mut other = rig.connect(&format!("&user_id=bob&token={token}")).await;
    other.join(ROOM, json!({ "user_id": 42 })).await;
    let state = other.event("presence_state").await;
    assert_eq!(
        state.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["42", "ada"]
    );
    // Without a sub, nobody is there to be present.
    let anonymous = hs256(&json!({ "exp": in_seconds(60) }));
    let mut nobody = rig.connect(&format!("&token={anonymous}")).await;
    let (status, _) = nobody.join(ROOM, json!({ "user_id": "eve" })).await;
    assert_eq!(status, "error");
    let mut nobody = nobody.joined(ROOM, json!({})).await;
    let reason = nobody.refused(ROOM, "presence:track", json!({})).await;
    assert_eq!(reason, "this join observes, because its token has no sub");
    rig.stop().await;
}

#[tokio::test]
async fn srv_614_a_topic_that_is_not_allowed_is_answered_as_one_that_is_not_there() {
    let rig = rig().await;
    let limits = json!({ "herenow": { "topics": ["room:1", "room:a*"] } });
    let mut ada = client(&rig, "ada", limits).await;
    let mut answers = Vec::new();
    for topic in ["room:2", "nowhere:2", "herenow:user:ada"] {
        let join = json!(["7", "8", topic, "phx_join", { "user_id": "ada" }]);
        ada.send(Message::text(join.to_string())).await;
        let Frame::Text(mut answer) = ada.frame().await else {
            panic!("no text")
        };
        assert_eq!(answer[2].take(), topic);
        answers.push(answer);
    }
    let response = json!({ "reason": "unmatched topic" });
    let unmatched =
        json!([null, "8", null, "phx_reply", { "status": "error", "response": response }]);
    assert_eq!(answers, [unmatched.clone(), unmatched.clone(), unmatched]);
    let ada = ada.joined(ROOM, json!({})).await;
    ada.joined("room:abc", json!({})).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_615_each_right_is_given_on_its_own() {
    let rig = rig().await;
    let mut all = client(&rig, "all", json!({}))
        .await
        .joined(ROOM, json!({}))
        .await;
    for right in ["observe", "present", "broadcast", "list", "count"] {
        let mut one = client(&rig, right, rights(&[right])).await;
        one = one.joined(ROOM, json!({})).await;
        for (event, needs) in [
            ("status", "present"),
            ("shout", "broadcast"),
            ("presence:list", "list"),
            ("presence:count", "count"),
        ] {
            let (status, response) = one.push(ROOM, event, json!({ "status": "x" })).await;
            let refused = json!({ "reason": format!("the token does not give the right {needs}") });
            match right == needs {
                true => assert_eq!(status, "ok", "{right} {event} {response}"),
                false => assert_eq!(response, refused, "{right} {event}"),
            }
        }
        let list = all.ok(ROOM, "presence:list", json!({})).await;
        assert_eq!(list.get(right).is_some(), right == "present", "{list}");
        all.ok(ROOM, "shout", json!({ "to": right })).await;
        match right {
            "observe" => {
                assert!(one.event("presence_state").await.get("all").is_some());
                assert_eq!(one.event("shout").await, json!({ "to": right }));
            }
            _ => {
                one.heard_nothing_of(ROOM, "shout").await;
                one.heard_nothing_of(ROOM, "presence_state").await;
                one.heard_nothing_of(ROOM, "presence_diff").await;
            }
        }
    }
    let mut none = client(&rig, "none", rights(&[])).await;
    let (_, response) = none.join(ROOM, json!({})).await;
    assert_eq!(response, json!({ "reason": "unmatched topic" }));
    rig.stop().await;
}

#[tokio::test]
async fn srv_616_lists_and_counts_are_answered_to_who_may_ask() {
    let rig = rig().await;
    let all = client(&rig, "all", json!({}))
        .await
        .joined(ROOM, json!({}))
        .await;
    let mut one = client(&rig, "one", rights(&["list", "count"])).await;
    one = one.joined(ROOM, json!({})).await;
    let count = one.ok(ROOM, "presence:count", json!({})).await;
    assert_eq!(count, json!({ "keys": 1, "metas": 1 }));
    let list = one.ok(ROOM, "presence:list", json!({})).await;
    assert_eq!(list["all"]["metas"].as_array().unwrap().len(), 1);
    drop(all);
    rig.stop().await;
}

#[tokio::test]
async fn srv_617_bad_tokens_are_refused_with_a_word_that_tells_little() {
    let rig = Rig::with(&[
        ("jwt.secret", SECRET),
        ("jwt.audience", "presence,other"),
        ("jwt.issuer", "app"),
        ("jwt.max_token_bytes", "1KiB"),
    ])
    .await;
    let good = json!({ "sub": "ada", "exp": in_seconds(60), "aud": ["x", "other"], "iss": "app" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        hs256(&claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        hs256(&claims)
    };
    let token = hs256(&good);
    rig.connect(&format!("&token={token}")).await;
    let (head, tail) = token.rsplit_once('.').unwrap();
    let other_key = tokens::hs256_with("another secret, of the same length", &good);
    let unsigned = format!("{}.", tokens::unsigned(&json!({ "alg": "none" }), &good));
    for (token, status, word) in [
        (format!("{head}."), 401, "token_invalid"),
        (
            format!("{head}.{}", tail.chars().rev().collect::<String>()),
            401,
            "token_invalid",
        ),
        (other_key, 401, "token_invalid"),
        (unsigned, 401, "token_invalid"),
        ("a.b.c".to_owned(), 401, "token_invalid"),
        (with("pad", json!("x".repeat(1024))), 401, "token_invalid"),
        (with("exp", json!(in_seconds(-60))), 401, "token_expired"),
        (with("exp", json!("soon")), 401, "token_invalid"),
        (without("exp"), 401, "token_invalid"),
        (with("nbf", json!(in_seconds(60))), 401, "token_invalid"),
        (with("sub", json!("")), 401, "token_invalid"),
        (with("sub", json!("x".repeat(257))), 401, "token_invalid"),
        (with("sub", json!(["ada"])), 401, "token_invalid"),
        (
            with("herenow", json!({ "topic": ["a"] })),
            401,
            "token_invalid",
        ),
        (
            with("herenow", json!({ "rights": ["everything"] })),
            401,
            "token_invalid",
        ),
        (
            with("herenow", json!({ "topics": ["a*b"] })),
            401,
            "token_invalid",
        ),
        (with("herenow", json!(null)), 401, "token_invalid"),
        (with("herenow_topics", json!(7)), 401, "token_invalid"),
        (with("herenow_rights", json!(null)), 401, "token_invalid"),
        (with("aud", json!("else")), 403, "token_not_accepted"),
        (without("aud"), 403, "token_not_accepted"),
        (with("iss", json!("else")), 403, "token_not_accepted"),
        (without("iss"), 403, "token_not_accepted"),
    ] {
        let refused = refusal(&rig, &format!("&token={token}")).await;
        assert_eq!(refused, (status, reason(word)), "{token}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_618_flat_claims_say_the_same_as_nested_ones() {
    let rig = rig().await;
    let flat = json!({ "herenow_topics": "room:1", "herenow_rights": ["observe"] });
    let mut ada = client(&rig, "ada", flat).await;
    let (_, response) = ada.join("room:2", json!({})).await;
    assert_eq!(response, reason("unmatched topic"));
    let mut ada = ada.joined(ROOM, json!({})).await;
    assert_eq!(ada.event("presence_state").await, json!({}));
    let both = json!({ "herenow_topics": "a", "herenow": { "topics": ["a"] } });
    let token = hs256(&claims("ada", both));
    let refused = refusal(&rig, &format!("&token={token}")).await;
    assert_eq!(refused, (401, reason("token_invalid")));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1266_a_token_in_the_sub_protocol_may_be_as_long_as_any() {
    let flags = [("jwt.secret", SECRET), ("metrics.open", "true")];
    let rig = Rig::with(&flags).await;
    let token = |bytes: usize| hs256(&claims("ada", json!({ "pad": "x".repeat(bytes) })));
    let open = async |token: &str| {
        let encoded = tokens::base64(token);
        let protocols = format!("phoenix, base64url.bearer.phx.{encoded}");
        let headers = [("sec-websocket-protocol", protocols.as_str())];
        rig.open("/socket/websocket?vsn=2.0.0", &headers).await
    };
    let long = token(5_900);
    assert!((7_800..8_192).contains(&long.len()), "{}", long.len());
    open(&long).await.unwrap();
    rig.connect(&format!("&token={long}")).await;
    match open(&token(6_200)).await {
        Err(tungstenite::Error::Http(response)) => {
            assert_eq!(response.status(), 401);
            let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
            assert_eq!(body, reason("token_invalid"));
        }
        other => panic!("{other:?}"),
    }
    let metrics = rig.get("/metrics").await.body;
    let counted = "herenow_tokens_refused_total{reason=\"too_long\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
    rig.stop().await;
}
