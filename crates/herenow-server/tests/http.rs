//! What the server answers over plain HTTP: the demo, health, origins, long poll.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use serde_json::{Value, json};

use herenow_pubsub::conformance::reserve_port;

use self::rig::Rig;

#[tokio::test]
async fn srv_40_the_demo_is_embedded_with_its_files() {
    let rig = Rig::start().await;
    for path in ["/demo", "/demo/"] {
        let page = rig.get(path).await;
        assert_eq!(page.status, 200);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(page.body.contains("<title>"), "{}", page.body);
    }
    let script = rig.get("/demo/vendor/phoenix.mjs").await;
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    let tag = format!("if-none-match: {}\r\n", script.header("etag").unwrap());
    let again = rig.http("GET", "/demo/vendor/phoenix.mjs", &tag, "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    for path in [
        "/demo/nothing.js",
        "/demo/../Cargo.toml",
        "/demo/%2e%2e/%2e%2e/Cargo.toml",
        "/x",
    ] {
        assert_eq!(rig.get(path).await.status, 404, "{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_302_a_path_with_nothing_at_it_says_what_there_is() {
    let rig = Rig::start().await;
    let answer = rig.get("/nothing").await;
    assert_eq!(answer.status, 404);
    for path in ["/demo", "/healthz", "/readyz", "/socket"] {
        assert!(answer.body.contains(path), "{}", answer.body);
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_41_health_and_readiness_are_answered() {
    let rig = Rig::start().await;
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_42_a_page_of_another_host_is_answered_403_before_the_upgrade() {
    let rig = Rig::start().await;
    let port = rig.address.port();
    let path = "/socket/websocket?vsn=2.0.0";
    for origin in [
        "http://evil.example",
        "http://127.0.0.1.evil.example",
        "null",
    ] {
        let error = rig
            .open(path, &[("origin", origin)])
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("403"), "{origin}: {error}");
    }
    let own = [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://[::1]:{port}"),
    ];
    for origin in own {
        rig.open(path, &[("origin", &origin)])
            .await
            .unwrap()
            .joined("room:1", json!({}))
            .await;
    }
    rig.open(path, &[])
        .await
        .unwrap()
        .joined("room:1", json!({}))
        .await;
    let poll = "/socket/longpoll?vsn=2.0.0";
    let refused = rig
        .http("GET", poll, "origin: http://evil.example\r\n", "")
        .await;
    assert_eq!(
        (refused.status, refused.json()["status"].as_u64()),
        (200, Some(403))
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_42_origins_can_be_listed_or_left_unchecked() {
    let path = "/socket/websocket?vsn=2.0.0";
    let rig = Rig::with(&[(
        "socket.check_origin",
        "https://app.example, //*.other.example",
    )])
    .await;
    for (origin, is_let_in) in [
        ("https://app.example", true),
        ("http://a.other.example:8080", true),
        ("http://app.example", false),
        ("http://localhost:1", false),
    ] {
        let opened = rig.open(path, &[("origin", origin)]).await;
        assert_eq!(opened.is_ok(), is_let_in, "{origin}");
    }
    rig.stop().await;
    let rig = Rig::with(&[("socket.check_origin", "false")]).await;
    rig.open(path, &[("origin", "http://evil.example")])
        .await
        .unwrap();
    rig.stop().await;
}

/// The messages of one poll, parsed.
fn messages(answer: &Value) -> Vec<Value> {
    let messages = answer["messages"].as_array().unwrap().iter();
    messages
        .map(|message| serde_json::from_str(message.as_str().unwrap()).unwrap())
        .collect()
}

#[tokio::test]
async fn srv_43_a_long_poll_client_joins_hears_and_speaks() {
    let rig = Rig::start().await;
    let mut ada = rig
        .connect("")
        .await
        .joined("room:1", json!({ "user_id": "ada" }))
        .await;
    ada.event("presence_state").await;

    let path = "/socket/longpoll?vsn=2.0.0&user_id=bob";
    let session = rig.get(path).await.json();
    assert_eq!(session["status"], 410);
    let token = session["token"].as_str().unwrap();
    let header = format!("x-phoenix-longpoll-token: {token}\r\n");
    let post = format!("{header}content-type: application/x-ndjson\r\n");
    let join = json!(["1", "1", "room:1", "phx_join", {}]);
    let cursor = json!(["1", "2", "room:1", "cursor", { "x": 1 }]);
    let sent = rig
        .http("POST", path, &post, &format!("{join}\n{cursor}"))
        .await;
    assert_eq!(sent.json(), json!({ "status": 200 }));

    let mut heard = Vec::new();
    while heard.len() < 4 {
        let poll = rig.http("GET", path, &header, "").await.json();
        assert_eq!(poll["status"], 200, "{heard:?}");
        heard.extend(messages(&poll));
    }
    let events: Vec<&str> = heard
        .iter()
        .filter_map(|message| message[3].as_str())
        .collect();
    assert_eq!(events[..2], ["phx_reply", "presence_state"], "{heard:?}");
    assert!(events.contains(&"cursor"), "{heard:?}");
    assert!(heard[1][4]["bob"]["metas"].is_array());
    let diff = ada.event("presence_diff").await;
    assert!(diff["joins"]["bob"]["metas"].is_array(), "{diff}");
    assert_eq!(ada.event("cursor").await, json!({ "x": 1 }));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1306_the_demo_can_be_left_out() {
    let api = format!("127.0.0.1:{}", reserve_port());
    let rig = Rig::with(&[("http.demo", "false"), ("api.listen", &api)]).await;
    for path in ["/", "/demo", "/demo/", "/demo/demo.js"] {
        assert_eq!(rig.get(path).await.status, 404, "{path}");
    }
    rig.stop().await;
}
