//! The HTTP API acting for a backend: broadcasts, presences with a lease, evictions.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use self::rig::{Answer, Client, Rig};

async fn send(rig: &Rig, method: &str, path: &str, body: &Value) -> Answer {
    let json = "content-type: application/json\r\n";
    rig.http(method, path, json, &body.to_string()).await
}

async fn delete(rig: &Rig, path: &str) -> Answer {
    rig.http("DELETE", path, "", "").await
}

async fn join(rig: &Rig, topic: &str, key: &str) -> Client {
    let user = json!({ "user_id": key });
    let mut client = rig.connect("").await.joined(topic, user).await;
    client.event("presence_state").await;
    client
}

fn kind(answer: &Answer) -> String {
    let kind = answer.json()["type"].as_str().unwrap().to_owned();
    kind.rsplit('#').next().unwrap().to_owned()
}

#[tokio::test]
async fn srv_665_a_broadcast_reaches_the_topic_and_keeps_the_rules_of_event_names() {
    let rig = Rig::start().await;
    let mut ada = join(&rig, "room:ü/1", "ada").await;
    let path = "/api/topics/room:%C3%BC%2F1/broadcast";
    let sent = json!({ "event": "new_msg", "payload": { "text": "Grüße" } });
    assert_eq!(send(&rig, "POST", path, &sent).await.status, 202);
    assert_eq!(ada.event("new_msg").await, json!({ "text": "Grüße" }));
    for event in [
        "",
        "phx_close",
        "presence_diff",
        "presence:x",
        "herenow:evict",
        "disconnect",
    ] {
        let refused = send(&rig, "POST", path, &json!({ "event": event })).await;
        assert_eq!(
            (refused.status, &refused.json()["field"]),
            (400, &json!("event")),
            "{event}"
        );
    }
    let text = send(
        &rig,
        "POST",
        path,
        &json!({ "event": "x", "payload": "text" }),
    )
    .await;
    assert_eq!(text.json()["field"], "payload");
    ada.heard_nothing_of("room:ü/1", "x").await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_666_a_backend_holds_a_presence_changes_it_and_ends_it() {
    let rig = Rig::start().await;
    let mut ada = join(&rig, "room:1", "ada").await;
    let path = "/api/topics/room:1/presences/bob";
    let put = json!({ "meta": { "device": "tv" }, "lease_seconds": 60 });
    let held = send(&rig, "PUT", path, &put).await;
    assert_eq!(
        (held.status, &held.json()["lease_seconds"]),
        (201, &json!(60.0))
    );
    let meta = ada.event("presence_diff").await["joins"]["bob"]["metas"][0].clone();
    assert_eq!(
        (&meta["device"], &meta["phx_ref"]),
        (&json!("tv"), &held.json()["phx_ref"])
    );
    assert!(meta["online_at"].is_string());

    let renewed = send(&rig, "PUT", path, &json!({})).await;
    assert_eq!(
        (renewed.status, &renewed.json()["phx_ref"]),
        (200, &meta["phx_ref"])
    );
    let again = send(&rig, "PUT", path, &put).await;
    assert_eq!(
        again.json()["phx_ref"],
        meta["phx_ref"],
        "nothing has changed"
    );
    ada.heard_nothing_of("room:1", "presence_diff").await;

    let patch = json!({ "meta": { "status": "away", "device": null } });
    assert_eq!(send(&rig, "PATCH", path, &patch).await.status, 200);
    let diff = ada.event("presence_diff").await;
    let new = &diff["joins"]["bob"]["metas"][0];
    assert_eq!(
        (&new["status"], &new["device"]),
        (&json!("away"), &Value::Null)
    );
    assert_eq!(
        (&new["phx_ref_prev"], &new["online_at"]),
        (&meta["phx_ref"], &meta["online_at"])
    );

    assert_eq!(delete(&rig, path).await.status, 204);
    assert!(ada.event("presence_diff").await["leaves"]["bob"].is_object());
    let gone = delete(&rig, path).await;
    assert_eq!((gone.status, kind(&gone)), (404, "not-present".to_owned()));
    let gone = send(&rig, "PATCH", path, &patch).await;
    assert_eq!((gone.status, kind(&gone)), (404, "not-present".to_owned()));
    rig.stop().await;
}

#[tokio::test]
async fn srv_667_a_lease_that_runs_out_is_a_leave_and_one_that_is_renewed_is_not() {
    let rig = Rig::with(&[("api.min_lease", "1s")]).await;
    let mut ada = join(&rig, "room:1", "ada").await;
    let path = |key: &str| format!("/api/topics/room:1/presences/{key}");
    let lease = |seconds| json!({ "lease_seconds": seconds });
    for (key, seconds, status) in [
        ("renewed", 10, 201),
        ("renewed", 600, 200),
        ("short", 1, 201),
    ] {
        let answer = send(&rig, "PUT", &path(key), &lease(seconds)).await;
        assert_eq!(answer.status, status, "{key}");
    }
    for key in ["renewed", "short"] {
        assert!(ada.event("presence_diff").await["joins"][key].is_object());
    }
    let diff = ada.event("presence_diff").await;
    assert!(diff["leaves"]["short"].is_object(), "{diff}");
    assert_eq!(rig.get(&path("renewed")).await.status, 200);
    assert_eq!(rig.get(&path("short")).await.status, 404);
    let leases = rig.get("/api/node").await.json()["leases"].clone();
    assert_eq!(
        (&leases["n_held"], &leases["n_expired"]),
        (&json!(1), &json!(1))
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_668_leases_are_bounded_in_number_and_in_time() {
    let rig = Rig::with(&[("api.max_leases", "1"), ("api.max_lease", "1m")]).await;
    let path = |key: &str| format!("/api/topics/room:1/presences/{key}");
    for seconds in [json!(4), json!(61), json!(-1), json!("9"), json!(1e300)] {
        let refused = send(
            &rig,
            "PUT",
            &path("a"),
            &json!({ "lease_seconds": seconds }),
        )
        .await;
        let problem = refused.json();
        assert_eq!(
            (refused.status, &problem["field"]),
            (400, &json!("lease_seconds"))
        );
        let is_too_short = seconds.as_f64().is_some_and(|seconds| seconds < 5.0);
        let limit = if is_too_short { 5.0 } else { 60.0 };
        assert_eq!(problem["limit"], json!(limit));
    }
    assert_eq!(send(&rig, "PUT", &path("a"), &json!({})).await.status, 201);
    assert_eq!(send(&rig, "PUT", &path("a"), &json!({})).await.status, 200);
    let full = send(&rig, "PUT", &path("b"), &json!({})).await;
    assert_eq!(
        (full.status, kind(&full)),
        (503, "limit-reached".to_owned())
    );
    assert_eq!(full.json()["limit"], 1);
    let large = json!({ "meta": { "x": "x".repeat(9_000) } });
    let large = send(&rig, "PUT", &path("a"), &large).await;
    assert_eq!(
        (large.status, &large.json()["field"]),
        (400, &json!("meta"))
    );
    let nobody = send(&rig, "PATCH", &path("nobody"), &json!({})).await;
    assert_eq!(nobody.status, 404);
    // Only what `api.max_leases` refused.
    assert_eq!(rig.get("/api/node").await.json()["leases"]["n_refused"], 1);
    rig.stop().await;
}

#[tokio::test]
async fn srv_669_a_user_is_evicted_from_a_topic_or_from_all() {
    let rig = Rig::start().await;
    let mut bob = join(&rig, "room:1", "bob").await;
    let mut ada = rig.connect("&user_id=ada").await;
    for topic in ["room:1", "room:2", "room:3"] {
        assert_eq!(ada.join(topic, json!({})).await.0, "ok");
    }
    let path = "/api/topics/room:1/presences/ada";
    assert_eq!(send(&rig, "PUT", path, &json!({})).await.status, 201);
    let out = delete(&rig, "/api/keys/ada/topics/room:1").await;
    assert_eq!(
        (out.status, &out.json()["topics"]),
        (202, &json!(["room:1"]))
    );
    ada.event("phx_close").await;
    while rig.get(path).await.status != 404 {
        // The channel and the lease end one after the other.
        bob.event("presence_diff").await;
    }
    bob.heard_nothing_of("room:1", "herenow:evict").await;
    assert_eq!(
        rig.get("/api/topics/room:1/presences/bob").await.status,
        200
    );

    let out = delete(&rig, "/api/keys/ada").await;
    assert_eq!(out.json()["topics"], json!(["room:2", "room:3"]));
    for _ in 0..2 {
        ada.event("phx_close").await;
    }
    let places = rig.get("/api/keys/ada").await.json();
    assert_eq!(places["places"], json!([]));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1665_topics_as_long_as_sockets_join_them_are_reached() {
    let topics = r#"[{ pattern = "chat:*", broadcast = true }]"#;
    let rig = Rig::with(&[("topics", topics)]).await;
    let topic = format!("chat:{}", "x".repeat(700));
    let mut ada = rig.connect("").await;
    // By itself: the rig's own refs are as long as the topic.
    let join = json!(["1", "1", topic, "phx_join", {}]);
    ada.send(Message::text(join.to_string())).await;
    assert_eq!(ada.event("phx_reply").await["status"], "ok");
    let sent = json!({ "event": "said", "payload": { "n": 1 } });
    let path = format!("/api/topics/{topic}/broadcast");
    let answer = send(&rig, "POST", &path, &sent).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(ada.event("said").await, json!({ "n": 1 }));
    let answer = delete(&rig, &format!("/api/keys/ada/topics/{topic}")).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    // Where there can be presence, the limit is that of presence.
    let path = format!("/api/topics/{topic}/presences/ada");
    let refused = send(&rig, "PUT", &path, &json!({})).await;
    assert_eq!(
        (refused.status, &refused.json()["limit"]),
        (400, &json!(512))
    );
    let longer = format!("/api/topics/{}/broadcast", "x".repeat(1_025));
    let refused = send(&rig, "POST", &longer, &sent).await;
    let detail = "topic is 1025 bytes, the limit is 1024 (socket.max_topic_bytes)";
    assert_eq!(refused.json()["detail"], detail);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1715_a_number_arrives_as_the_one_that_was_sent_whichever_way_it_took() {
    let rig = Rig::start().await;
    let mut ada = join(&rig, "room:1", "ada").await;
    let mut guest = rig
        .open("/realtime/v1/websocket?apikey=any&vsn=2.0.0", &[])
        .await
        .unwrap();
    guest.join("realtime:1", json!({})).await;
    // Doubles whose nearest text is long, and the ends of what an integer can be.
    for text in [
        "1814.7000000029802",
        "13.404953999999998",
        "5e-324",
        "18446744073709551615",
        "-9223372036854775808",
    ] {
        let json = "content-type: application/json\r\n";
        let payload = format!("{{\"n\":{text}}}");
        let body = format!("{{\"event\":\"n\",\"payload\":{payload}}}");
        let path = "/api/topics/room:1/broadcast";
        assert_eq!(rig.http("POST", path, json, &body).await.status, 202);
        assert_eq!(ada.event("n").await.to_string(), payload);
        let body =
            format!("{{\"messages\":[{{\"topic\":\"1\",\"event\":\"n\",\"payload\":{payload}}}]}}");
        let path = "/realtime/v1/api/broadcast";
        assert_eq!(rig.http("POST", path, json, &body).await.status, 202);
        assert_eq!(
            guest.event("broadcast").await["payload"].to_string(),
            payload
        );
        let body = format!("{{\"meta\":{payload}}}");
        let bob = "/api/topics/room:1/presences/bob";
        rig.http("PUT", bob, json, &body).await;
        let meta: Value = serde_json::from_str(&body).unwrap();
        ada.ok("room:1", "presence:update", meta).await;
        let shown = rig.get("/api/topics/room:1/presences").await.body;
        assert_eq!(
            shown.matches(&format!("\"n\":{text}")).count(),
            2,
            "{shown}"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1763_the_body_of_a_request_has_to_arrive_in_time() {
    let rig = Rig::with(&[("api.body_timeout", "100ms")]).await;
    for path in ["POST /api/counts", "PUT /api/topics/room:1/presences/ada"] {
        let request = format!(
            "{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: \
             application/json\r\ncontent-length: 1000\r\n\r\n{{"
        );
        // To the end of the connection, which ends as well.
        let answer = rig.raw(&request).await;
        assert_eq!((answer.status, kind(&answer)), (408, "too-slow".to_owned()));
        let problem = answer.json();
        let detail = "the body did not arrive within 0.1 s (api.body_timeout)";
        assert_eq!(problem["detail"], detail);
        assert_eq!(
            (&problem["field"], &problem["limit"]),
            (&json!("body"), &json!(0.1))
        );
    }
    let metrics = rig.get("/metrics").await.body;
    let counted = "herenow_limit_refusals_total{limit=\"api.body_timeout\"} 2\n";
    assert!(metrics.contains(counted), "{metrics}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1764_what_a_backend_sends_stays_text_until_it_is_known_to_be_small() {
    let rig = Rig::with(&[("presence.max_meta_bytes", "100B")]).await;
    let mut ada = join(&rig, "room:1", "ada").await;
    // Not looked into, so it may be as wide as it likes.
    let path = "/api/topics/room:1/broadcast";
    let json = "content-type: application/json\r\n";
    let large = json!({ "event": "e", "payload": { "n": vec![json!({}); 1_000] } });
    let answer = rig.http("POST", path, json, &large.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(ada.event("e").await, large["payload"]);
    let wrong = json!({ "event": "e", "payload": [{}] });
    let answer = rig.http("POST", path, json, &wrong.to_string()).await;
    let detail = "payload is a list, it must be an object";
    assert_eq!(
        (answer.status, &answer.json()["detail"]),
        (400, &json!(detail))
    );

    let bob = "/api/topics/room:1/presences/bob";
    let meta = |len: usize| format!("{{ \"meta\" : {{ \"x\" : \"{}\" }} }}", "x".repeat(len));
    assert_eq!(rig.http("PUT", bob, json, &meta(50)).await.status, 201);
    for method in ["PUT", "PATCH"] {
        let over = rig.http(method, bob, json, &meta(93)).await;
        let detail = "the meta is 101 bytes of JSON, the limit is 100 (presence.max_meta_bytes)";
        assert_eq!((over.status, &over.json()["detail"]), (400, &json!(detail)));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let body = format!("{{\"meta\":{{\"a\":{deep}}}}}");
        let unreadable = rig.http(method, bob, json, &body).await;
        assert_eq!(unreadable.status, 400);
        assert_eq!(kind(&unreadable), "invalid-json");
    }

    let members = (0..17).map(|n| format!("\"m{n}\":[]")).collect::<Vec<_>>();
    let body = format!("{{{}}}", members.join(","));
    let many = rig.http("PUT", bob, json, &body).await;
    assert_eq!(
        (many.status, kind(&many)),
        (400, "unknown-field".to_owned())
    );
    let detail = &many.json()["detail"];
    assert_eq!(detail, "the body has more than 16 members");
    rig.stop().await;
}
