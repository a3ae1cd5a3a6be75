//! What is in the log, and what must not be: keys, metas, payloads and tokens.

use axum::Router;
use axum::http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::hooks::{Mood, Receiver};
use super::log::Log;
use super::rig::Rig;
use super::tokens::{SECRET, claims, hs256, hs256_with};

const USER: &str = "the-key-of-ada";
const META: &str = "the-meta-of-ada";
const PAYLOAD: &str = "the-payload-of-ada";
const HOOK_SECRET: &str = "the-secret-of-the-webhook";
const API_KEY: &str = "the-api-key-that-is-secret";

/// Does all that a client can do to be warned of.
async fn misbehave(rig: &Rig, token: &str) {
    let query = format!("&token={token}");
    let connect = || rig.connect(&query);
    let meta = json!({ "meta": { "name": META } });
    let mut ada = connect().await.joined("room:1", meta.clone()).await;
    let update = json!({ "meta": { "name": META, "more": PAYLOAD } });
    ada.ok("room:1", "presence:update", update).await;
    ada.ok("room:1", "said", json!({ "text": PAYLOAD })).await;
    let (status, _) = ada.join("nowhere", meta).await;
    assert_eq!(status, "error");
    let too_large = json!({ "meta": { "name": META.repeat(1_000) } });
    ada.refused("room:1", "presence:update", too_large).await;
    for malformed in [
        format!("[null,null,\"room:1\",\"{PAYLOAD}\""),
        format!("[\"1\",\"{USER}\",\"{META}\"]"),
    ] {
        let mut bad = connect().await;
        bad.send(Message::text(malformed)).await;
        assert_eq!(bad.closed().await, Some(1011));
    }
    // Over the rate, for as long as it takes to be hung up on.
    let mut flood = connect().await.joined("room:1", json!({})).await;
    for n in 0..400 {
        let push = json!(["j:room:1", n.to_string(), "room:1", "said", { "text": PAYLOAD }]);
        flood
            .send_unless_closed(Message::text(push.to_string()))
            .await;
    }
    assert_eq!(flood.closed().await, Some(1008));
    let long = format!("&token={}{}", token, "x".repeat(20_000));
    for refused in [
        format!("&token={}", hs256(&claims(USER, json!({ "exp": 1 })))),
        format!("&token={}", hs256(&claims(USER, json!({ "nbf": USER })))),
        format!(
            "&token={}",
            hs256_with("another secret, long enough too", &claims(USER, json!({})))
        ),
        format!("&token={USER}"),
        long,
    ] {
        let path = format!("/socket/websocket?vsn=2.0.0{refused}");
        assert!(rig.open(&path, &[]).await.is_err(), "{refused}");
    }
}

#[tokio::test]
async fn srv_1159_no_key_meta_payload_or_token_is_logged_unless_for_debugging() {
    let (log, _guard) = Log::start();
    let receiver = Receiver::with_secret(Mood::Refuses(400), HOOK_SECRET).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fields = format!("http://{}/{PAYLOAD}", listener.local_addr().unwrap());
    let app = Router::new().fallback(|| async { (StatusCode::BAD_GATEWAY, USER) });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let api_key = format!("ask:admin:{API_KEY}");
    let rig = Rig::with(&[
        ("jwt.secret", SECRET),
        ("api.keys", &api_key),
        ("webhook.urls", &receiver.url()),
        ("webhook.secret", HOOK_SECRET),
        ("webhook.max_attempts", "1"),
        ("fetch.url", &fields),
        ("fetch.token", API_KEY),
        ("socket.message_rate", "1"),
        ("socket.message_burst", "20"),
        (
            "topics",
            r#"[{ pattern = "room:*", presence = true, broadcast = true, max_meta_bytes = 1024 }]"#,
        ),
    ])
    .await;
    let token = hs256(&claims(USER, json!({})));
    misbehave(&rig, &token).await;
    let auth = format!("authorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n");
    let meta = json!({ "meta": { "name": META } }).to_string();
    let path = format!("/api/topics/room:2/presences/{USER}");
    assert_eq!(rig.http("PUT", &path, &auth, &meta).await.status, 201);
    let evict = format!("/api/keys/{USER}");
    assert_eq!(rig.http("DELETE", &evict, &auth, "").await.status, 202);
    assert_eq!(rig.http("PUT", &path, &auth, "{").await.status, 400);
    assert_eq!(
        rig.http("GET", &path, "x-api-key: wrong\r\n", "")
            .await
            .status,
        401
    );
    for phrase in [
        "malformed message",
        "flooding client closed",
        "token refused",
        "events for a webhook lost",
        "fields not fetched",
    ] {
        log.until(phrase).await;
    }
    rig.stop().await;
    let text = log.text();
    assert!(text.contains(" INFO ") && text.contains(" WARN "));
    let (_, signature) = token.rsplit_once('.').unwrap();
    for hidden in [
        USER,
        META,
        PAYLOAD,
        HOOK_SECRET,
        API_KEY,
        SECRET,
        signature,
        &token,
    ] {
        let line = text.lines().find(|line| line.contains(hidden));
        assert_eq!(line, None, "{hidden}");
    }
}

#[tokio::test]
async fn srv_1297_at_trace_no_meta_payload_or_token_is_logged() {
    let (log, _guard) = Log::at("trace");
    let receiver = Receiver::with_secret(Mood::Takes, HOOK_SECRET).await;
    let api_key = format!("ask:admin:{API_KEY}");
    let rig = Rig::with(&[
        ("jwt.secret", SECRET),
        ("api.keys", &api_key),
        ("webhook.urls", &receiver.url()),
        ("webhook.secret", HOOK_SECRET),
    ])
    .await;
    let token = hs256(&claims(USER, json!({})));
    let meta = json!({ "meta": { "name": META } });
    let query = format!("&token={token}");
    let mut ada = rig
        .connect(&query)
        .await
        .joined("room:1", meta.clone())
        .await;
    ada.ok("room:1", "said", json!({ "text": PAYLOAD })).await;
    let renewed = hs256(&claims(USER, json!({ "jti": "another" })));
    ada.ok("room:1", "access_token", json!({ "access_token": renewed }))
        .await;
    let auth = format!("authorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n");
    let path = format!("/api/topics/room:2/presences/{USER}");
    let put = rig.http("PUT", &path, &auth, &meta.to_string()).await;
    assert_eq!(put.status, 201);
    receiver.taken(4).await;
    rig.stop().await;
    let text = log.text();
    assert!(text.contains("TRACE herenow") || text.contains("DEBUG herenow"));
    for hidden in [
        META,
        PAYLOAD,
        HOOK_SECRET,
        API_KEY,
        SECRET,
        &token,
        &renewed,
    ] {
        let line = text.lines().find(|line| line.contains(hidden));
        assert_eq!(line, None, "{hidden}");
    }
    let strange = text.lines().find(|line| {
        (line.contains("TRACE ") || line.contains("DEBUG ")) && !line.contains("herenow")
    });
    assert_eq!(strange, None);
}
