//! Metrics of what others are to answer: receivers of webhooks, listeners, and sources of fields.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::hooks::{Listener, Mood, Receiver, flags, meta};
use super::rig::Rig;
use super::{scrape, until_metric};

async fn put(rig: &Rig, topic: &str, key: &str) {
    let path = format!("/api/topics/{topic}/presences/{key}");
    let json = "content-type: application/json\r\n";
    let put = rig.http("PUT", &path, json, &meta("phone")).await;
    assert!(matches!(put.status, 200 | 201), "{}", put.body);
}

async fn is(rig: &Rig, name: &str, value: f64) {
    until_metric(rig, name, |n| n == value).await;
}

#[tokio::test]
async fn srv_1150_the_metrics_say_what_webhooks_got_wait_for_and_lost() {
    let receiver = Receiver::start(Mood::Refuses(500)).await;
    let more = [
        ("webhook.max_queued", "4"),
        ("webhook.concurrency", "1"),
        ("webhook.max_delay", "0s"),
    ];
    let rig = Rig::with(&flags(&receiver.url(), &more)).await;
    let delivered = "herenow_webhook_events_delivered_total{webhook=\"1\"}";
    let full = "herenow_webhook_events_lost_total{webhook=\"1\",reason=\"queue_full\"}";
    let failing = "herenow_webhook_failing{webhook=\"1\"}";
    let waiting = "herenow_webhook_queue_events{webhook=\"1\"}";
    let nothing = scrape(&rig).await;
    for name in [delivered, full, failing, waiting] {
        assert_eq!(nothing.get(name), Some(&0.0), "{name}");
    }
    for n in 0..3 {
        put(&rig, "room:1", &format!("user-{n}")).await;
    }
    // One that the topic is occupied, three that somebody joined: as many as may wait.
    is(&rig, waiting, 4.0).await;
    put(&rig, "room:1", "one-too-many").await;
    is(&rig, full, 1.0).await;
    is(&rig, failing, 1.0).await;
    let retries = "herenow_webhook_retries_total{webhook=\"1\"}";
    until_metric(&rig, retries, |n| n >= 2.0).await;
    assert!(scrape(&rig).await["herenow_webhook_queue_bytes{webhook=\"1\"}"] > 0.0);
    receiver.become_(Mood::Takes);
    // The fifth says that one was lost.
    receiver.taken(5).await;
    is(&rig, delivered, 4.0).await;
    is(&rig, waiting, 0.0).await;
    is(&rig, failing, 0.0).await;
    let seen = scrape(&rig).await;
    let of = |name: &str| seen[&format!("herenow_webhook_{name}{{webhook=\"1\"}}")];
    assert_eq!(of("queue_bytes"), 0.0);
    assert_eq!(of("requests_total"), receiver.requests().len() as f64);
    let n_refused = receiver.requests().iter().filter(|r| !r.is_taken).count();
    assert_eq!(of("requests_failed_total"), n_refused as f64);
    for reason in ["too_old", "refused", "missed"] {
        let name =
            format!("herenow_webhook_events_lost_total{{webhook=\"1\",reason=\"{reason}\"}}");
        assert_eq!(seen[&name], 0.0, "{name}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1150_events_that_are_too_old_and_refused_are_lost_by_these_reasons() {
    let receiver = Receiver::start(Mood::Refuses(400)).await;
    let lost = |reason: &str| {
        format!("herenow_webhook_events_lost_total{{webhook=\"1\",reason=\"{reason}\"}}")
    };
    for (key, value, reason) in [
        ("webhook.max_age", "200ms", "too_old"),
        ("webhook.max_attempts", "2", "refused"),
    ] {
        let more = [(key, value), ("webhook.drain_timeout", "100ms")];
        let rig = Rig::with(&flags(&receiver.url(), &more)).await;
        put(&rig, "room:1", "ada").await;
        is(&rig, &lost(reason), 2.0).await;
        let seen = scrape(&rig).await;
        assert_eq!(
            seen["herenow_webhook_events_delivered_total{webhook=\"1\"}"],
            0.0
        );
        rig.stop().await;
    }
}

#[tokio::test]
async fn srv_1151_the_metrics_say_who_listens_to_events_and_what_they_miss() {
    let more = [("events.max_streams", "1"), ("events.max_kept", "2")];
    let rig = Rig::with(&more).await;
    let mut listener = Listener::open(rig.address, "", "").await;
    assert_eq!(listener.status, 200);
    put(&rig, "room:1", "ada").await;
    let id = listener.next().await.unwrap().id.unwrap();
    assert_eq!(listener.next().await.unwrap().event, "joined");
    let other = Listener::open(rig.address, "", "").await;
    assert_eq!(other.status, 503);
    for (name, value) in [
        ("herenow_event_streams", 1.0),
        ("herenow_event_streams_opened_total", 1.0),
        ("herenow_event_streams_refused_total", 1.0),
        ("herenow_stream_events_sent_total", 2.0),
        ("herenow_stream_events_lost_total{reason=\"not_kept\"}", 0.0),
        ("herenow_events_missed_total", 0.0),
    ] {
        assert_eq!(scrape(&rig).await[name], value, "{name}");
    }
    drop(listener);
    is(&rig, "herenow_event_streams", 0.0).await;
    for key in ["bob", "cyd", "dan"] {
        put(&rig, "room:1", key).await;
    }
    // Its own joined, and the one of bob, have made room for the two that are kept.
    let resume = format!("last-event-id: {id}\r\n");
    let _listener = Listener::open(rig.address, "", &resume).await;
    is(
        &rig,
        "herenow_stream_events_lost_total{reason=\"not_kept\"}",
        2.0,
    )
    .await;
    rig.stop().await;
}

/// A callback that answers with this status, or takes its time; and how to change that.
async fn callback(status: &Arc<Mutex<Option<StatusCode>>>) -> String {
    let status = status.clone();
    let answer = move |axum::Json(asked): axum::Json<Value>| async move {
        let status = *status.lock();
        let Some(status) = status else {
            return std::future::pending().await;
        };
        let keys = asked["keys"].as_array().unwrap().iter();
        let known = keys
            .filter_map(Value::as_str)
            .filter(|key| *key != "nobody");
        let fields = known.map(|key| (key.to_owned(), json!({ "name": key })));
        (status, axum::Json(fields.collect::<Value>())).into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/fields", listener.local_addr().unwrap());
    let app = Router::new().route("/fields", post(answer));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_1152_the_metrics_say_what_sources_of_fields_answered_and_what_they_did_not() {
    let status = Arc::new(Mutex::new(Some(StatusCode::OK)));
    let url = callback(&status).await;
    let rig = Rig::with(&[
        ("fetch.url", &url),
        ("fetch.deadline", "3s"),
        ("fetch.ttl", "0s"),
        ("fetch.max_failures", "2"),
        ("fetch.min_pause", "1h"),
        ("fetch.max_pause", "1h"),
    ])
    .await;
    let queries = |result: &str| {
        format!("herenow_fetch_queries_total{{source=\"fetch.url\",result=\"{result}\"}}")
    };
    let keys =
        |from: &str| format!("herenow_fetch_keys_total{{source=\"fetch.url\",from=\"{from}\"}}");
    let source_ok = "herenow_fetch_source_ok{source=\"fetch.url\"}";
    let _ada = rig
        .connect("&user_id=ada")
        .await
        .joined("room:1", json!({}))
        .await;
    // For the list of who joins, and for the diff that says so.
    until_metric(&rig, "herenow_fetch_seconds_count", |n| n >= 2.0).await;
    let path = "/api/topics/room:1/presences/ada";
    assert_eq!(rig.get(path).await.json()["fields"]["name"], "ada");
    let well = scrape(&rig).await;
    assert!(well[&keys("answer")] >= 1.0);
    assert_eq!((well[&keys("stale")], well[&keys("nowhere")]), (0.0, 0.0));
    assert_eq!(well[source_ok], 1.0);
    assert_eq!(well["herenow_fetch_cached_keys{source=\"fetch.url\"}"], 1.0);
    assert!(well["herenow_fetch_cached_bytes{source=\"fetch.url\"}"] > 0.0);
    let n_asked = "herenow_fetch_keys_asked_total{source=\"fetch.url\"}";
    assert_eq!(well[n_asked], well[&queries("ok")], "one key in each");

    *status.lock() = Some(StatusCode::BAD_GATEWAY);
    assert_eq!(rig.get(path).await.json()["fields"]["name"], "ada");
    *status.lock() = None;
    assert_eq!(rig.get(path).await.json()["fields"]["name"], "ada");
    // Now it has failed twice, and is left alone.
    assert_eq!(rig.get(path).await.json()["fields"]["name"], "ada");
    let ill = scrape(&rig).await;
    assert_eq!(ill[source_ok], 0.0);
    for result in ["failed", "late", "paused"] {
        assert_eq!(ill[&queries(result)], 1.0, "{result}");
    }
    assert_eq!(ill[&keys("stale")], 3.0);
    assert_eq!(ill[&queries("ok")], well[&queries("ok")]);
    let _bob = rig
        .connect("&user_id=bob")
        .await
        .joined("room:1", json!({}))
        .await;
    until_metric(&rig, &keys("nowhere"), |n| n >= 1.0).await;
    rig.stop().await;
}
