//! Tokens during a connection: their end, new ones, and what is made by `herenow token`.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tokens.rs"]
mod tokens;

use herenow_server::config::{ServerConfig, Sources};
use herenow_server::identity::{self, TokenRequest};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use self::rig::{Client, Frame, Rig};
use self::tokens::{SECRET, claims, hs256, in_seconds};

const ROOM: &str = "room:1";

async fn rig() -> Rig {
    let flags = [
        ("jwt.secret", SECRET),
        ("jwt.leeway", "0s"),
        ("metrics.open", "true"),
    ];
    Rig::with(&flags).await
}

fn token(user: &str, lasts_s: i64, extra: Value) -> String {
    let mut claims = claims(user, extra);
    claims["exp"] = json!(in_seconds(lasts_s));
    hs256(&claims)
}

async fn client(rig: &Rig, token: &str) -> Client {
    rig.connect(&format!("&token={token}")).await
}

/// Pushes a new token on topic `phoenix`, which nobody joins.
async fn renew(client: &mut Client, payload: Value) -> Value {
    let push = json!([null, "renewal", "phoenix", "access_token", payload]);
    client.send(Message::text(push.to_string())).await;
    loop {
        match client.frame().await {
            Frame::Text(message) if message[1] == "renewal" => {
                assert_eq!(
                    (&message[0], &message[2]),
                    (&Value::Null, &json!("phoenix"))
                );
                return message[4].clone();
            }
            Frame::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn srv_640_when_the_token_ends_channels_are_told_and_the_socket_is_closed() {
    let rig = rig().await;
    let ada = client(&rig, &token("ada", 8, json!({}))).await;
    let mut ada = ada
        .joined(ROOM, json!({}))
        .await
        .joined("room:2", json!({}))
        .await;
    let bob = client(&rig, &token("bob", 60, json!({}))).await;
    let mut bob = bob.joined(ROOM, json!({})).await;
    let mut errors = Vec::new();
    let code = loop {
        match ada.frame().await {
            Frame::Text(message) if message[3] == "phx_error" => errors.push(message),
            Frame::Text(_) => {}
            Frame::Closed(code) => break code,
            Frame::Binary(_) => panic!("binary"),
        }
    };
    assert_eq!(code, Some(4401));
    let error = |topic: &str| {
        let joined = format!("j:{topic}");
        json!([joined, joined, topic, "phx_error", { "reason": "token_expired" }])
    };
    assert_eq!(errors, [error(ROOM), error("room:2")]);
    let left = bob.event("presence_diff").await;
    assert!(
        left["leaves"].get("ada").is_some() || {
            let left = bob.event("presence_diff").await;
            left["leaves"].get("ada").is_some()
        }
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_641_a_new_token_on_a_channel_or_on_phoenix_lets_the_connection_go_on() {
    let rig = rig().await;
    let short = token("ada", 8, json!({}));
    let mut on_channel = client(&rig, &short).await.joined(ROOM, json!({})).await;
    let mut on_phoenix = client(&rig, &short).await.joined(ROOM, json!({})).await;
    let mut without = client(&rig, &short).await.joined(ROOM, json!({})).await;
    let long = token("ada", 60, json!({}));
    let payload = json!({ "access_token": long });
    let response = on_channel.ok(ROOM, "access_token", payload.clone()).await;
    let expires_at = response["expires_at"].as_i64().unwrap();
    assert!(
        (in_seconds(55)..=in_seconds(60)).contains(&expires_at),
        "{response}"
    );
    let response = renew(&mut on_phoenix, payload).await;
    assert_eq!(
        response,
        json!({ "status": "ok", "response": { "expires_at": expires_at } })
    );
    assert_eq!(without.closed().await, Some(4401));
    on_channel.ok(ROOM, "echo", json!({})).await;
    on_phoenix.ok(ROOM, "echo", json!({})).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_642_a_new_token_that_is_refused_leaves_the_old_one() {
    let rig = rig().await;
    let mut ada = client(&rig, &token("ada", 60, json!({})))
        .await
        .joined(ROOM, json!({}))
        .await;
    for (payload, word) in [
        (
            json!({ "access_token": token("bob", 60, json!({})) }),
            "token_of_another_user",
        ),
        (
            json!({ "access_token": token("ada", -60, json!({})) }),
            "token_expired",
        ),
        (json!({ "access_token": "x" }), "token_invalid"),
        (json!({ "access_token": null }), "token_missing"),
        (json!([]), "token_missing"),
    ] {
        let refused = json!({ "status": "error", "response": { "reason": word } });
        assert_eq!(renew(&mut ada, payload.clone()).await, refused);
        if word != "token_missing" {
            assert_eq!(ada.refused(ROOM, "access_token", payload).await, word);
        }
    }
    let reason = ada.refused(ROOM, "access_token", json!({})).await;
    assert!(
        reason.starts_with("access_token must have a token"),
        "{reason}"
    );
    ada.ok(ROOM, "echo", json!({})).await;
    // One was taken, at the handshake; two were of another user.
    let metrics = rig.http("GET", "/metrics", "", "").await.body;
    for line in [
        "herenow_tokens_accepted_total 1",
        "herenow_tokens_refused_total{reason=\"other_user\"} 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_643_a_new_token_with_other_rights_counts_at_once() {
    let rig = rig().await;
    let limits = |limits: Value| json!({ "herenow": limits });
    let mut ada = client(&rig, &token("ada", 60, json!({})))
        .await
        .joined(ROOM, json!({}))
        .await;
    ada = ada.joined("room:2", json!({})).await;
    ada.ok(ROOM, "shout", json!({})).await;
    // Less to do: the channels go on.
    let mute = limits(json!({ "rights": ["join"] }));
    let renewal = json!({ "access_token": token("ada", 60, mute) });
    ada.ok(ROOM, "access_token", renewal).await;
    let reason = ada.refused(ROOM, "shout", json!({})).await;
    assert_eq!(reason, "the token does not give the right broadcast");
    ada.heard_nothing_of(ROOM, "phx_error").await;
    // A topic less: its channel ends, and is not there any more.
    let fewer = limits(json!({ "rights": ["join"], "topics": [ROOM] }));
    let renewal = json!({ "access_token": token("ada", 60, fewer) });
    ada.ok(ROOM, "access_token", renewal).await;
    assert_eq!(
        ada.event("phx_error").await,
        json!({ "reason": "token_changed" })
    );
    ada.ok(ROOM, "echo", json!({})).await;
    let (_, response) = ada.join("room:2", json!({})).await;
    assert_eq!(response, json!({ "reason": "unmatched topic" }));
    // To be present no more: the channel ends, and can be joined as an observer.
    let observe = limits(json!({ "rights": ["observe"], "topics": [ROOM] }));
    let renewal = json!({ "access_token": token("ada", 60, observe) });
    renew(&mut ada, renewal).await;
    ada.event("phx_error").await;
    let mut ada = ada.joined(ROOM, json!({})).await;
    let reason = ada.refused(ROOM, "presence:track", json!({})).await;
    assert_eq!(reason, "the token does not give the right present");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1710_who_may_be_present_no_more_is_not_held_back() {
    let topics = r#"[{ pattern = "room:*", presence = true, grace = "1h" }]"#;
    let rig = Rig::with(&[("jwt.secret", SECRET), ("topics", topics)]).await;
    let rights = |rights: &[&str], topics: &str| {
        let extra = json!({ "herenow": { "rights": rights, "topics": [topics] } });
        json!({ "access_token": token("ada", 60, extra) })
    };
    for (renewal, stays) in [
        // The topic is gone; the right is gone; only what she hears is.
        (rights(&["join"], "other:*"), false),
        (rights(&["observe"], ROOM), false),
        (rights(&["present"], ROOM), true),
    ] {
        let first = token("ada", 60, json!({}));
        let mut ada = client(&rig, &first).await.joined(ROOM, json!({})).await;
        ada.event("presence_state").await;
        renew(&mut ada, renewal).await;
        let error = ada.event("phx_error").await;
        assert_eq!(error, json!({ "reason": "token_changed" }));
        let bob = token("bob", 60, json!({}));
        let mut bob = client(&rig, &bob).await.joined(ROOM, json!({})).await;
        let state = bob.event("presence_state").await;
        assert_eq!(state.get("ada").is_some(), stays, "{state}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_644_a_long_poll_session_ends_with_its_token() {
    let rig = rig().await;
    let path = format!(
        "/socket/longpoll?vsn=2.0.0&token={}",
        token("ada", 8, json!({}))
    );
    let session = rig.get(&path).await.json();
    let header = format!(
        "x-phoenix-longpoll-token: {}\r\n",
        session["token"].as_str().unwrap()
    );
    // The poll waits for messages until the session is gone.
    let answer = rig.http("GET", &path, &header, "").await;
    assert_eq!(answer.json()["status"], 410);
    let answer = rig.get(&path).await;
    assert_eq!(
        (answer.status, answer.json()["reason"].clone()),
        (401, json!("token_expired"))
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_645_in_dev_mode_clients_are_who_they_say_and_a_token_is_never_broadcast() {
    let rig = Rig::with(&[("jwt.secret", SECRET), ("dev", "true")]).await;
    let mut ada = rig
        .connect("&user_id=ada&token=x")
        .await
        .joined(ROOM, json!({}))
        .await;
    let state = ada.event("presence_state").await;
    assert!(state.get("ada").is_some(), "{state}");
    let mut bob = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "bob" }))
        .await;
    let response = ada
        .ok(ROOM, "access_token", json!({ "access_token": "x" }))
        .await;
    assert_eq!(response, json!({ "expires_at": null }));
    bob.heard_nothing_of(ROOM, "access_token").await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_646_a_token_made_here_is_good_here_and_says_what_was_asked_for() {
    let flags = [
        ("jwt.secret", SECRET),
        ("jwt.audience", "here"),
        ("jwt.issuer", "me"),
    ];
    let sources = Sources {
        flags: flags
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        ..Sources::default()
    };
    let config = ServerConfig::load(&sources).unwrap();
    let mut request = TokenRequest::default();
    request.sub = Some("42".to_owned());
    request.topics = vec![ROOM.to_owned()];
    request.rights = vec!["join".to_owned()];
    let token = identity::issue(&config, &request).unwrap();
    let rig = Rig::with(&flags).await;
    let mut client = client(&rig, &token).await.joined(ROOM, json!({})).await;
    let state = client.event("presence_state").await;
    assert!(state.get("42").is_some(), "{state}");
    let (_, response) = client.join("room:2", json!({})).await;
    assert_eq!(response, json!({ "reason": "unmatched topic" }));
    let reason = client.refused(ROOM, "shout", json!({})).await;
    assert_eq!(reason, "the token does not give the right broadcast");
    rig.stop().await;

    request.rights = vec!["write".to_owned()];
    let error = identity::issue(&config, &request).unwrap_err().to_string();
    assert!(
        error.contains("rights are join, observe, present"),
        "{error}"
    );
    let error = identity::issue(&ServerConfig::default(), &TokenRequest::default());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("HERENOW_JWT_SECRET")
    );
}

#[tokio::test]
async fn srv_1267_a_session_that_is_gone_is_begun_again_and_never_taken_for_a_token() {
    let flags = [("jwt.secret", SECRET), ("metrics.open", "true")];
    let (rig, other) = (Rig::with(&flags).await, Rig::with(&flags).await);
    let poll = "/socket/longpoll?vsn=2.0.0";
    let own = token("ada", 60, json!({}));
    // As after a restart: the session was another process'.
    let session = other.get(&format!("{poll}&token={own}")).await.json();
    other.stop().await;
    let session = session["token"].as_str().unwrap();
    let answer = rig.get(&format!("{poll}&token={session}")).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "status": 410 }))
    );
    // Older clients write it behind their own token, and the newest have a header for either.
    let header = format!("x-phoenix-longpoll-token: {session}\r\n");
    let both = format!("{header}x-phoenix-authtoken: {own}\r\n");
    for (path, headers) in [
        (format!("{poll}&token={own}&token={session}"), ""),
        (format!("{poll}&token={own}"), header.as_str()),
        (poll.to_owned(), both.as_str()),
    ] {
        let answer = rig.http("GET", &path, headers, "").await;
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (200, &json!(410))
        );
        assert!(answer.json()["token"].is_string(), "{path}");
    }
    let metrics = rig.get("/metrics").await.body;
    assert!(metrics.contains("herenow_tokens_refused_total{reason=\"malformed\"} 0\n"));
    assert!(metrics.contains("herenow_tokens_refused_total{reason=\"missing\"} 0\n"));
    rig.stop().await;
}
