//! The Supabase dialect on the wire: joins, presence, broadcasts, frames.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use std::slice::from_ref;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use self::rig::{Client, Frame, Rig, within};

const V1: &str = "/realtime/v1/websocket?apikey=any";
const V2: &str = "/realtime/v1/websocket?apikey=any&log_level=info&vsn=2.0.0";

async fn v2(rig: &Rig) -> Client {
    rig.open(V2, &[]).await.unwrap()
}

/// A join with this configuration.
fn config(config: Value) -> Value {
    json!({ "config": config })
}

/// Joins, which must be accepted without a wish for a database.
async fn joined(client: &mut Client, topic: &str, with: Value) {
    let (status, response) = client.join(topic, config(with)).await;
    assert_eq!(
        (status.as_str(), &response),
        ("ok", &json!({ "postgres_changes": [] }))
    );
}

async fn presence(client: &mut Client, topic: &str, call: Value) -> (String, Value) {
    client.push(topic, "presence", call).await
}

async fn track(client: &mut Client, topic: &str, meta: Value) {
    let call = json!({ "type": "presence", "event": "track", "payload": meta });
    assert_eq!(
        presence(client, topic, call).await,
        ("ok".to_owned(), json!({}))
    );
}

/// Sends a broadcast without waiting for anything.
async fn broadcast(client: &mut Client, topic: &str, event: &str, payload: Value) {
    let payload = json!({ "type": "broadcast", "event": event, "payload": payload });
    let message = json!([null, "b", topic, "broadcast", payload]);
    client.send(Message::text(message.to_string())).await;
}

/// The metas of a key in `joins` or `leaves`, without their refs.
fn metas(part: &Value, key: &str) -> Vec<Value> {
    let metas = part[key]["metas"].as_array().cloned().unwrap_or_default();
    let bare = |mut meta: Value| {
        let fields = meta.as_object_mut().unwrap();
        assert!(fields.remove("phx_ref").unwrap().is_string());
        fields.remove("phx_ref_prev");
        meta
    };
    metas.into_iter().map(bare).collect()
}

/// The key of the only entry.
fn only_key(part: &Value) -> String {
    let entries = part.as_object().unwrap();
    assert_eq!(entries.len(), 1, "{part}");
    entries.keys().next().unwrap().clone()
}

#[tokio::test]
async fn srv_1610_the_version_is_chosen_and_a_strange_frame_closes_nothing() {
    let rig = Rig::start().await;
    let refused = rig.open("/realtime/v1/websocket?vsn=3.0.0", &[]).await;
    assert!(refused.unwrap_err().to_string().contains("403"));
    let mut client = v2(&rig).await;
    for strange in [r#""just a string""#, r#"{"topic":"a"}"#, "", "{", "[1]"] {
        client.send(Message::text(strange)).await;
    }
    for strange in [&b""[..], b"\x00\x00\x00\x00\x00", b"\x03\xff", b"\x09abc"] {
        client.send(Message::binary(strange.to_vec())).await;
    }
    let beat = json!([null, "h", "phoenix", "heartbeat", {}]);
    client.send(Message::text(beat.to_string())).await;
    let ok = json!({ "status": "ok", "response": {} });
    let reply = json!([null, "h", "phoenix", "phx_reply", ok]);
    assert_eq!(client.frame().await, Frame::Text(reply));

    let mut old = rig.open(V1, &[]).await.unwrap();
    let beat = json!({ "topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": null });
    old.send(Message::text(beat.to_string())).await;
    let reply = json!({ "topic": "phoenix", "event": "phx_reply", "payload": ok, "ref": null });
    assert_eq!(old.frame().await, Frame::Text(reply));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1611_joins_that_cannot_be_are_refused_with_the_reason_that_clients_know() {
    let rig = Rig::with(&[("socket.max_channels", "2")]).await;
    let mut client = v2(&rig).await;
    let replay = json!({ "broadcast": { "replay": { "since": 1 } } });
    let private_replay = json!({ "broadcast": { "replay": {} }, "private": true });
    for (topic, with, reason) in [
        (
            "realtime:",
            json!({}),
            "TopicNameRequired: You must provide a topic name",
        ),
        ("room:lobby", json!({}), "unmatched topic"),
        (
            "realtime:r",
            replay,
            "UnableToReplayMessages: Replay is not allowed for public channels",
        ),
        (
            "realtime:r",
            private_replay,
            "UnableToReplayMessages: this server keeps no messages",
        ),
    ] {
        let (status, response) = client.join(topic, config(with)).await;
        assert_eq!(
            (status.as_str(), &response["reason"]),
            ("error", &json!(reason))
        );
    }
    joined(&mut client, "realtime:a", json!({})).await;
    joined(&mut client, "realtime:b", json!({})).await;
    let (status, response) = client.join("realtime:c", config(json!({}))).await;
    assert_eq!(status, "error");
    let reason = "ChannelRateLimitReached: Too many channels: too many channels joined, the limit is \
                  2 (socket.max_channels)";
    assert_eq!(response, json!({ "reason": reason }));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1612_the_state_comes_after_the_join_and_a_meta_arrives_as_it_was_sent() {
    let (rig, topic) = (Rig::start().await, "realtime:room:one");
    let mut ada = v2(&rig).await;
    joined(
        &mut ada,
        topic,
        json!({ "presence": { "enabled": "True" } }),
    )
    .await;
    assert_eq!(ada.event("presence_state").await, json!({}));
    let meta = json!({ "name": "Ada", "t": 1_814.700_000_029_802, "phx_ref": "mine" });
    let call = json!({ "event": "TRACK", "payload": meta });
    assert_eq!(presence(&mut ada, topic, call).await.0, "ok");
    let diff = ada.event("presence_diff").await;
    let key = only_key(&diff["joins"]);
    assert_eq!(
        (key.len(), &diff["leaves"]),
        (36, &json!({})),
        "{key} is a UUID"
    );
    let bare = json!({ "name": "Ada", "t": 1_814.700_000_029_802 });
    assert_eq!(metas(&diff["joins"], &key), from_ref(&bare));

    let mut grace = v2(&rig).await;
    let named = json!({ "presence": { "key": 123 } });
    joined(&mut grace, topic, named).await;
    assert_eq!(metas(&grace.event("presence_state").await, &key), [bare]);
    track(&mut grace, topic, json!({})).await;
    assert_eq!(
        metas(&ada.event("presence_diff").await["joins"], "123"),
        [json!({})]
    );
    drop(grace);
    assert_eq!(
        metas(&ada.event("presence_diff").await["leaves"], "123"),
        [json!({})]
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_1613_tracking_what_is_tracked_already_is_nothing_and_another_meta_an_update() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let mut ada = v2(&rig).await;
    let with = json!({ "presence": { "key": "ada", "enabled": true } });
    joined(&mut ada, topic, with).await;
    let (a, b) = (json!({ "n": 1 }), json!({ "n": 2 }));
    track(&mut ada, topic, a.clone()).await;
    track(&mut ada, topic, a.clone()).await;
    track(&mut ada, topic, b.clone()).await;
    let first = ada.event("presence_diff").await;
    assert_eq!(metas(&first["joins"], "ada"), from_ref(&a));
    let second = ada.event("presence_diff").await;
    assert_eq!(metas(&second["joins"], "ada"), from_ref(&b));
    assert_eq!(metas(&second["leaves"], "ada"), [a]);
    let refs = |part: &Value, field: &str| part["ada"]["metas"][0][field].clone();
    assert_eq!(
        refs(&second["joins"], "phx_ref_prev"),
        refs(&first["joins"], "phx_ref")
    );

    for _ in 0..2 {
        let untrack = json!({ "event": "untrack" });
        assert_eq!(presence(&mut ada, topic, untrack).await.0, "ok");
    }
    let third = ada.event("presence_diff").await;
    assert_eq!(metas(&third["leaves"], "ada"), from_ref(&b));
    track(&mut ada, topic, b.clone()).await;
    assert_eq!(
        metas(&ada.event("presence_diff").await["joins"], "ada"),
        [b]
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_1614_a_presence_call_that_is_none_is_answered_and_ends_nothing() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let mut ada = v2(&rig).await;
    joined(&mut ada, topic, json!({})).await;
    let refused = |reason: &str| ("error".to_owned(), json!({ "reason": reason }));
    let text = json!({ "event": "track", "payload": "not a map" });
    assert_eq!(
        presence(&mut ada, topic, text).await,
        refused("Presence track payload must be a map")
    );
    for unknown in [json!({ "event": "dance" }), json!({ "event": 3 })] {
        assert_eq!(
            presence(&mut ada, topic, unknown).await,
            refused("the presence event must be track or untrack")
        );
    }
    for nothing in [json!({}), json!(null), json!([1])] {
        assert_eq!(presence(&mut ada, topic, nothing).await.0, "ok");
    }
    let large = json!({ "event": "track", "payload": { "x": "y".repeat(70_000) } });
    let (status, response) = presence(&mut ada, topic, large).await;
    assert_eq!(status, "error");
    let reason = response["reason"].as_str().unwrap();
    assert!(reason.contains("the limit is 8192"), "{reason}");
    track(&mut ada, topic, json!({ "still": "here" })).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_1615_a_member_without_presence_gets_diffs_and_the_state_when_it_tracks() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let (mut ada, mut quiet) = (v2(&rig).await, v2(&rig).await);
    let key = |key: &str| json!({ "presence": { "key": key, "enabled": false } });
    joined(&mut quiet, topic, key("quiet")).await;
    joined(&mut ada, topic, key("ada")).await;
    track(&mut ada, topic, json!({ "n": 1 })).await;
    // The first thing that it hears of presence is a diff: there was no state.
    let diff = quiet.event("presence_diff").await;
    assert_eq!(only_key(&diff["joins"]), "ada");
    let untrack = json!({ "event": "untrack" });
    assert_eq!(presence(&mut quiet, topic, untrack).await.0, "ok");
    track(&mut quiet, topic, json!({ "n": 2 })).await;
    let state = quiet.event("presence_state").await;
    assert_eq!(metas(&state, "ada"), [json!({ "n": 1 })]);
    assert_eq!(
        only_key(&quiet.event("presence_diff").await["joins"]),
        "quiet"
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_1650_a_join_that_says_nothing_of_presence_has_it_if_the_configuration_says_so() {
    let rig = Rig::with(&[("supabase.presence_enabled", "true")]).await;
    let (mut silent, mut without) = (v2(&rig).await, v2(&rig).await);
    joined(&mut silent, "realtime:r", json!({})).await;
    assert_eq!(silent.event("presence_state").await, json!({}));
    let off = json!({ "presence": { "enabled": false } });
    joined(&mut without, "realtime:r", off).await;
    track(&mut silent, "realtime:r", json!({ "n": 1 })).await;
    let key = only_key(&without.event("presence_diff").await["joins"]);
    // The first state that it gets is that of its own track.
    track(&mut without, "realtime:r", json!({ "n": 2 })).await;
    assert_eq!(only_key(&without.event("presence_state").await), key);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1616_two_connections_of_a_key_are_one_entry_with_two_metas() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let with = json!({ "presence": { "key": "ada", "enabled": true } });
    let (mut desk, mut phone) = (v2(&rig).await, v2(&rig).await);
    for (client, device) in [(&mut desk, "desk"), (&mut phone, "phone")] {
        joined(client, topic, with.clone()).await;
        track(client, topic, json!({ "device": device })).await;
    }
    desk.event("presence_diff").await;
    desk.event("presence_diff").await;
    let mut late = v2(&rig).await;
    joined(&mut late, topic, json!({ "presence": { "enabled": true } })).await;
    let state = late.event("presence_state").await;
    let devices = [json!({ "device": "desk" }), json!({ "device": "phone" })];
    assert_eq!(metas(&state, "ada"), devices);
    drop(phone);
    let diff = desk.event("presence_diff").await;
    assert_eq!(metas(&diff["leaves"], "ada"), devices[1..]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1617_self_and_ack_say_who_gets_a_broadcast_and_whether_it_is_answered() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let (mut both, mut none) = (v2(&rig).await, v2(&rig).await);
    joined(
        &mut both,
        topic,
        json!({ "broadcast": { "self": true, "ack": true } }),
    )
    .await;
    joined(&mut none, topic, json!({})).await;
    let payload = json!({ "type": "broadcast", "event": "x", "payload": { "n": 1 }, "more": [1] });
    assert_eq!(
        both.ok(topic, "broadcast", payload.clone()).await,
        json!({})
    );
    assert_eq!(both.event("broadcast").await, payload);
    assert_eq!(none.event("broadcast").await, payload);
    broadcast(&mut none, topic, "y", json!({ "n": 2 })).await;
    assert_eq!(both.event("broadcast").await["event"], "y");
    // Neither an echo nor an answer comes before the answer to the next call.
    let nothing = json!([null, "p", topic, "presence", {}]);
    none.send(Message::text(nothing.to_string())).await;
    let Frame::Text(next) = none.frame().await else {
        panic!("a text")
    };
    assert_eq!((&next[1], &next[3]), (&json!("p"), &json!("phx_reply")));
    let reason = both.refused(topic, "broadcast", json!("text")).await;
    assert_eq!(reason, "broadcast payload must be an object");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1618_a_broadcast_over_the_limit_is_refused_with_the_limit() {
    let rig = Rig::with(&[("supabase.max_payload_bytes", "100")]).await;
    let (mut ada, topic) = (v2(&rig).await, "realtime:r");
    joined(&mut ada, topic, json!({ "broadcast": { "ack": true } })).await;
    let long = json!({ "event": "x", "payload": { "x": "y".repeat(100) } });
    let reason = ada.refused(topic, "broadcast", long.clone()).await;
    let size = "the broadcast is 132 bytes, the limit is 100 (supabase.max_payload_bytes)";
    assert_eq!(reason, format!("payload_size_exceeded: {size}"));
    let body = json!({ "messages": [{ "topic": "r", "event": "x", "payload": long }] });
    let headers = "content-type: application/json\r\n";
    let path = "/realtime/v1/api/broadcast";
    let answer = rig.http("POST", path, headers, &body.to_string()).await;
    assert_eq!(answer.status, 422);
    assert!(
        answer.body.contains("Payload size exceeds tenant limit"),
        "{}",
        answer.body
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_1619_an_old_or_missing_join_ref_is_no_reason_not_to_answer() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let mut ada = v2(&rig).await;
    joined(&mut ada, topic, json!({ "broadcast": { "ack": true } })).await;
    for join_ref in [json!("some-other"), json!(null)] {
        for (event, payload) in [
            ("presence", json!({ "event": "track", "payload": {} })),
            ("broadcast", json!({ "event": "x", "payload": {} })),
        ] {
            let message = json!([join_ref, "r", topic, event, payload]);
            ada.send(Message::text(message.to_string())).await;
            let reply = ada.event("phx_reply").await;
            assert_eq!(reply["status"], "ok", "{event} {join_ref}");
        }
    }
    // A leave of another join is none; one that names no join is.
    let leave = |join_ref: Value| json!([join_ref, "l", topic, "phx_leave", {}]).to_string();
    ada.send(Message::text(leave(json!("some-other")))).await;
    ada.ok(topic, "broadcast", json!({ "event": "x" })).await;
    ada.send(Message::text(leave(json!(null)))).await;
    assert_eq!(ada.event("phx_close").await, json!({}));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1620_kinds_3_and_4_go_to_v2_and_json_of_them_as_text_to_v1() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let (mut ada, mut grace) = (v2(&rig).await, v2(&rig).await);
    joined(&mut ada, topic, json!({})).await;
    joined(&mut grace, topic, json!({})).await;
    let mut old = rig.open(V1, &[]).await.unwrap();
    let join = json!({ "topic": topic, "event": "phx_join", "payload": {}, "ref": "1" });
    old.send(Message::text(join.to_string())).await;
    let Frame::Text(reply) = old.frame().await else {
        panic!("a text")
    };
    assert_eq!(reply["payload"]["status"], "ok", "{reply}");

    for (encoding, payload) in [(1, &br#"{"a": "b"}"#[..]), (0, b"\x00\xffabc"), (1, b"{}")] {
        let header = [3, 0, 1, 10, 1, 0, encoding];
        let frame = [&header[..], b"brealtime:rx", payload].concat();
        ada.send(Message::binary(frame)).await;
        let expected = [&[4, 10, 1, 0, encoding][..], b"realtime:rx", payload].concat();
        assert_eq!(grace.frame().await, Frame::Binary(expected));
    }
    for payload in [json!({ "a": "b" }), json!({})] {
        let payload = json!({ "type": "broadcast", "event": "x", "payload": payload });
        let message =
            json!({ "topic": topic, "event": "broadcast", "payload": payload, "ref": null });
        assert_eq!(old.frame().await, Frame::Text(message));
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1621_public_and_private_of_a_name_do_not_hear_each_other() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let (mut public, mut private) = (v2(&rig).await, v2(&rig).await);
    let with = |is_private: bool| {
        let presence = json!({ "enabled": true });
        json!({ "private": is_private, "presence": presence, "broadcast": { "self": true } })
    };
    joined(&mut public, topic, with(false)).await;
    joined(&mut private, topic, with(true)).await;
    for (client, name) in [(&mut public, "public"), (&mut private, "private")] {
        assert_eq!(client.event("presence_state").await, json!({}));
        track(client, topic, json!({ "is": name })).await;
        broadcast(client, topic, name, json!({})).await;
        assert_eq!(client.event("broadcast").await["event"], name);
        let joins = client.event("presence_diff").await["joins"].take();
        let key = only_key(&joins);
        assert_eq!(metas(&joins, &key), [json!({ "is": name })]);
    }
    let topics = rig.get("/api/topics").await.json();
    let names = topics["topics"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|topic| topic["topic"].clone()).collect();
    assert_eq!(names, ["realtime-private:r", "realtime:r"]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1622_who_asks_for_a_database_is_told_that_there_is_none_and_stays() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let mut ada = v2(&rig).await;
    let change = json!({ "event": "*", "schema": "public", "table": "t" });
    let with = json!({
        "postgres_changes": [change], "broadcast": { "replication_ready": true },
    });
    let (status, response) = ada.join(topic, config(with)).await;
    assert_eq!(status, "ok");
    let echoed = json!({ "event": "*", "schema": "public", "table": "t", "id": 1 });
    assert_eq!(response, json!({ "postgres_changes": [echoed] }));
    let error = ada.event("system").await;
    let message = "postgres_changes is not supported by this server";
    let expected = json!({
        "extension": "postgres_changes", "status": "error", "message": message, "channel": "r",
    });
    assert_eq!(error, expected);
    assert_eq!(ada.event("system").await["status"], "ok");
    track(&mut ada, topic, json!({})).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_1623_a_second_join_replaces_the_first_which_is_present_no_more() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let (mut ada, mut grace) = (v2(&rig).await, v2(&rig).await);
    let with = |key: &str| json!({ "presence": { "key": key, "enabled": true } });
    joined(&mut grace, topic, with("grace")).await;
    joined(&mut ada, topic, with("ada")).await;
    track(&mut ada, topic, json!({})).await;
    assert_eq!(
        only_key(&grace.event("presence_diff").await["joins"]),
        "ada"
    );
    let join = json!(["2", "2", topic, "phx_join", config(with("ada"))]);
    ada.send(Message::text(join.to_string())).await;
    assert_eq!(
        only_key(&grace.event("presence_diff").await["leaves"]),
        "ada"
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_1624_a_backends_broadcast_and_eviction_reach_these_clients() {
    let (rig, topic) = (Rig::start().await, "realtime:r");
    let mut ada = v2(&rig).await;
    joined(&mut ada, topic, json!({ "presence": { "key": "ada" } })).await;
    track(&mut ada, topic, json!({})).await;
    let (headers, body) = (
        "content-type: application/json\r\n",
        r#"{"event":"news","payload":{"n":1}}"#,
    );
    let answer = rig.http("POST", "/api/topics/realtime:r/broadcast", headers, body);
    assert_eq!(answer.await.status, 202);
    let news = json!({ "type": "broadcast", "event": "news", "payload": { "n": 1 } });
    assert_eq!(ada.event("broadcast").await, news);
    let answer = rig.http("DELETE", "/api/keys/ada/topics/realtime:r", "", "");
    assert_eq!(answer.await.status, 202);
    assert_eq!(ada.event("phx_close").await, json!({}));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1625_a_draining_server_closes_with_1012_and_a_dialect_that_is_off_is_not_there() {
    let mut rig = Rig::start().await;
    let mut ada = v2(&rig).await;
    joined(&mut ada, "realtime:r", json!({})).await;
    rig.ask_to_stop();
    assert_eq!(within(ada.closed()).await, Some(1012));
    rig.ended().await;
    let rig = Rig::with(&[("supabase.enabled", "false")]).await;
    assert_eq!(rig.get(V2).await.status, 404);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1626_frames_are_shared_by_a_room_but_not_by_dialects() {
    let topics = r#"[{ pattern = "realtime:*", presence = true, broadcast = true }]"#;
    let (rig, topic) = (Rig::with(&[("topics", topics)]).await, "realtime:r");
    let mut phoenix = rig
        .connect("")
        .await
        .joined(topic, json!({ "user_id": "p" }))
        .await;
    let mut ada = v2(&rig).await;
    joined(
        &mut ada,
        topic,
        json!({ "presence": { "key": "ada", "enabled": true } }),
    )
    .await;
    assert_eq!(only_key(&ada.event("presence_state").await), "p");
    track(&mut ada, topic, json!({})).await;
    let seen = async |client: &mut Client| loop {
        let diff = client.event("presence_diff").await;
        if diff["joins"].get("ada").is_some() {
            break;
        }
    };
    seen(&mut phoenix).await;
    seen(&mut ada).await;
    phoenix.ok(topic, "note", json!({ "n": 1 })).await;
    assert_eq!(phoenix.event("note").await, json!({ "n": 1 }));
    let wrapped = json!({ "type": "broadcast", "event": "note", "payload": { "n": 1 } });
    assert_eq!(ada.event("broadcast").await, wrapped);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1758_a_join_with_too_many_wishes_for_a_database_is_refused_and_counted() {
    let rig = Rig::with(&[("supabase.max_postgres_changes", "2")]).await;
    let (mut ada, topic) = (v2(&rig).await, "realtime:r");
    let change = json!({ "event": "*", "table": "t", "unknown": [1, 2, 3] });
    let join = |n| config(json!({ "postgres_changes": vec![change.clone(); n] }));
    let (status, response) = ada.join(topic, join(3)).await;
    let reason = "TooManyPostgresChanges: postgres_changes has 3 entries, the limit is 2 \
                  (supabase.max_postgres_changes)";
    assert_eq!(
        (status.as_str(), response),
        ("error", json!({ "reason": reason }))
    );
    let (status, response) = ada.join(topic, join(2)).await;
    let echoed = |id: u32| json!({ "event": "*", "table": "t", "id": id });
    let response_with_both = json!({ "postgres_changes": [echoed(1), echoed(2)] });
    assert_eq!((status.as_str(), response), ("ok", response_with_both));
    let metrics = rig.get("/metrics").await.body;
    let counted = "herenow_limit_refusals_total{limit=\"supabase.max_postgres_changes\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
    rig.stop().await;
}
