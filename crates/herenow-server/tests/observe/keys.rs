//! Who is refused, by key or by token, as the log tells it, and who did what.

use serde_json::json;

use super::log::Log;
use super::rig::Rig;
use super::tokens::{SECRET, claims, hs256};

const DASHBOARD: &str = "/dashboard/socket/websocket?vsn=2.0.0";

#[tokio::test]
async fn srv_1303_a_refused_key_is_counted_and_logged_and_in_the_dashboard_but_never_shown() {
    let (log, _guard) = Log::start();
    let rig = Rig::with(&[
        ("api.keys", "ops:read:aaaaaaaaaaaaaaaa"),
        ("metrics.open", "true"),
    ])
    .await;
    let wrong = "x-api-key: hunter5-hunter5-hunter5\r\n";
    for _ in 0..20 {
        assert_eq!(rig.http("GET", "/api/node", wrong, "").await.status, 401);
    }
    for encoded in ["aHVudGVyNS1odW50ZXI1", "w6k"] {
        let protocols = format!("phoenix, base64url.bearer.phx.{encoded}");
        let headers = [("sec-websocket-protocol", protocols.as_str())];
        assert!(rig.open(DASHBOARD, &headers).await.is_err());
    }
    let right = "x-api-key: aaaaaaaaaaaaaaaa\r\n";
    assert_eq!(rig.http("POST", "/api/drain", right, "").await.status, 403);
    assert_eq!(rig.get("/dashboard/access").await.status, 401);
    let metrics = rig.get("/metrics").await.body;
    for (reason, n) in [
        ("unknown_key", 22),
        ("right", 1),
        ("no_key", 1),
        ("closed", 0),
    ] {
        let sample = format!("herenow_api_refusals_total{{reason=\"{reason}\"}} {n}\n");
        assert!(metrics.contains(&sample), "{sample}{metrics}");
    }
    rig.stop().await;
    let text = log.text();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("API key refused"))
        .collect();
    assert_eq!(
        lines.len(),
        11,
        "ten of one reason, and one of the other: {text}"
    );
    let of_right = lines.iter().find(|line| line.contains("reason=\"right\""));
    assert!(of_right.unwrap().contains("api_key=\"ops\""), "{text}");
    assert!(!text.contains("hunter5"), "{text}");
    assert!(!text.contains("aaaaaaaaaaaaaaaa"), "{text}");
}

#[tokio::test]
async fn srv_1304_who_evicts_and_who_drains_is_in_the_log_by_the_name_of_their_key() {
    let (log, _guard) = Log::start();
    let rig = Rig::with(&[(
        "api.keys",
        "shop:write:wwwwwwwwwwwwwwww,ops:admin:aaaaaaaaaaaaaaaa",
    )])
    .await;
    let (shop, ops) = (
        "x-api-key: wwwwwwwwwwwwwwww\r\n",
        "authorization: Bearer aaaaaaaaaaaaaaaa\r\n",
    );
    for path in [
        "/api/keys/the-key-of-ada",
        "/api/keys/the-key-of-ada/topics/room:1",
    ] {
        assert_eq!(rig.http("DELETE", path, shop, "").await.status, 202);
    }
    assert_eq!(rig.http("POST", "/api/drain", ops, "").await.status, 202);
    rig.ended().await;
    let text = log.text();
    let of = |phrase: &str, name: &str| {
        let mut lines = text.lines().filter(|line| line.contains(phrase));
        assert!(lines.all(|line| line.contains(name)), "{text}");
        text.matches(phrase).count()
    };
    assert_eq!(of("user evicted by the API", "api_key=\"shop\""), 2);
    assert_eq!(of("asked to drain by the API", "api_key=\"ops\""), 1);
    assert!(!text.contains("the-key-of-ada"), "{text}");
}

#[tokio::test]
async fn srv_1825_the_log_says_why_a_join_is_refused_though_the_client_is_not_told() {
    let (log, _guard) = Log::start();
    let rig = Rig::with(&[
        ("jwt.secret", SECRET),
        ("socket.max_topic_bytes", "32"),
        ("socket.max_channels", "1"),
    ])
    .await;
    let limits = json!({ "herenow": { "topics": ["room:a*", "nowhere:*"] } });
    let token = hs256(&claims("ada", limits));
    let mut ada = rig.connect(&format!("&token={token}")).await;
    let long = format!("room:a{}", "x".repeat(30));
    let unmatched = json!({ "reason": "unmatched topic" });
    for topic in ["nowhere:2", "room:2"] {
        let (_, response) = ada.join(topic, json!({})).await;
        assert_eq!(response, unmatched, "{topic}");
    }
    assert_eq!(ada.join(&long, json!({})).await.0, "error");
    assert_eq!(ada.join("room:a", json!({})).await.0, "ok");
    assert_eq!(ada.join("room:a2", json!({})).await.0, "error");
    let text = log.text();
    for (reason, topic) in [
        ("no_channel", "nowhere:2"),
        ("not_admitted", "room:2"),
        ("topic_too_long", &long),
        ("too_many_channels", "room:a2"),
    ] {
        let (reason, topic) = (format!("reason=\"{reason}\""), format!("{topic:?}"));
        let is_it = |line: &str| {
            line.contains("join refused") && line.contains(&reason) && line.contains(&topic)
        };
        assert!(text.lines().any(is_it), "{reason} {topic}: {text}");
    }
    rig.stop().await;
}
