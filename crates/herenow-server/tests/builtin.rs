//! The contract of the built-in channel, as a client sees it over a WebSocket.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use self::rig::{Frame, Rig};

const ROOM: &str = "room:1";

fn metas(state: &Value, key: &str) -> Vec<Value> {
    state[key]["metas"].as_array().cloned().unwrap_or_default()
}

/// A meta without what changes from run to run.
fn bare(meta: &Value) -> Value {
    let mut meta = meta.clone();
    let fields = meta.as_object_mut().unwrap();
    for field in ["phx_ref", "phx_ref_prev", "online_at"] {
        fields.remove(field);
    }
    meta
}

#[tokio::test]
async fn srv_20_a_join_tracks_the_user_with_meta_and_online_at_then_pushes_the_state() {
    let rig = Rig::start().await;
    let mut ada = rig.connect("").await;
    let reply = ada
        .join(
            ROOM,
            json!({ "user_id": "ada", "meta": { "device": "tv" } }),
        )
        .await;
    assert_eq!(reply, ("ok".to_owned(), json!({})));
    let state = ada.event("presence_state").await;
    let metas = metas(&state, "ada");
    assert_eq!(metas.len(), 1, "{state}");
    assert_eq!(bare(&metas[0]), json!({ "device": "tv" }));
    let online_at: u64 = metas[0]["online_at"].as_str().unwrap().parse().unwrap();
    assert!(online_at > 1_700_000_000);
    assert!(metas[0]["phx_ref"].is_string());
    assert_eq!(metas[0].get("phx_ref_prev"), None);

    let mut bob = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "bob" }))
        .await;
    let state = bob.event("presence_state").await;
    assert_eq!(state.as_object().unwrap().len(), 2);
    let diff = ada.event("presence_diff").await;
    assert_eq!(diff["leaves"], json!({}));
    assert_eq!(
        diff["joins"]["bob"]["metas"][0]["phx_ref"],
        state["bob"]["metas"][0]["phx_ref"]
    );
    ada.heard_nothing_of(ROOM, "presence_diff").await;
    bob.heard_nothing_of(ROOM, "presence_diff").await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_20_the_user_may_be_a_parameter_of_the_socket() {
    let rig = Rig::start().await;
    let mut client = rig
        .connect("&user_id=eve")
        .await
        .joined(ROOM, json!({}))
        .await;
    assert_eq!(metas(&client.event("presence_state").await, "eve").len(), 1);
    let payload = json!({ "user_id": 7 });
    let mut client = rig
        .connect("&user_id=eve")
        .await
        .joined("room:2", payload)
        .await;
    assert_eq!(metas(&client.event("presence_state").await, "7").len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn srv_26_a_join_without_a_user_observes() {
    let rig = Rig::start().await;
    let mut observer = rig.connect("").await.joined(ROOM, json!({})).await;
    assert_eq!(observer.event("presence_state").await, json!({}));
    let mut ada = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "ada" }))
        .await;
    let state = ada.event("presence_state").await;
    assert_eq!(
        state.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["ada"]
    );
    assert_eq!(
        metas(&observer.event("presence_diff").await["joins"], "ada").len(),
        1
    );
    for event in ["presence:track", "presence:untrack", "status"] {
        let reason = observer
            .refused(ROOM, event, json!({ "status": "x" }))
            .await;
        assert_eq!(
            reason, "this join observes, because it named no user_id",
            "{event}"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_27_a_wrong_user_or_meta_refuses_the_join_with_the_reason() {
    let rig = Rig::start().await;
    let mut client = rig.connect("").await;
    let long = "k".repeat(300);
    for (payload, reason) in [
        (
            json!({ "user_id": [] }),
            "user_id is a list, it must be a text",
        ),
        (
            json!({ "user_id": "a", "meta": 3 }),
            "meta is a number, it must be an object",
        ),
        (json!([1]), "the payload is a list, it must be an object"),
    ] {
        let reply = client.join(ROOM, payload).await;
        assert_eq!(reply, ("error".to_owned(), json!({ "reason": reason })));
    }
    let (status, response) = client.join(ROOM, json!({ "user_id": long })).await;
    let reason = response["reason"].as_str().unwrap();
    assert_eq!(status, "error");
    assert_eq!(
        reason,
        "user_id is 300 bytes, the limit is 256 (presence.max_key_bytes)"
    );
    let meta = json!({ "user_id": "a", "meta": { "x": "x".repeat(5000) } });
    let (_, response) = client.join(ROOM, meta).await;
    assert_eq!(
        response["reason"],
        "the meta is 5008 bytes, the limit is 4096 (topics.max_meta_bytes)"
    );
    client.joined(ROOM, json!({ "user_id": "a" })).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_21_an_update_replaces_the_meta_or_merges_a_patch() {
    let rig = Rig::start().await;
    let payload = json!({ "user_id": "ada", "meta": { "a": 1, "b": 2 } });
    let mut ada = rig.connect("").await.joined(ROOM, payload).await;
    let first = ada.event("presence_state").await["ada"]["metas"][0].clone();

    let reply = ada
        .ok(
            ROOM,
            "presence:update",
            json!({ "patch": { "a": null, "c": 3 } }),
        )
        .await;
    let diff = ada.event("presence_diff").await;
    let joined = &diff["joins"]["ada"]["metas"][0];
    assert_eq!(bare(joined), json!({ "b": 2, "c": 3 }));
    assert_eq!(joined["phx_ref"], reply["phx_ref"]);
    assert_eq!(joined["phx_ref_prev"], first["phx_ref"]);
    assert_eq!(joined["online_at"], first["online_at"]);
    assert_eq!(
        diff["leaves"]["ada"]["metas"][0]["phx_ref"],
        first["phx_ref"]
    );

    let reply = ada
        .ok(ROOM, "presence:update", json!({ "meta": { "d": 4 } }))
        .await;
    let diff = ada.event("presence_diff").await;
    let joined = &diff["joins"]["ada"]["metas"][0];
    assert_eq!(bare(joined), json!({ "d": 4 }));
    assert_eq!(joined["phx_ref"], reply["phx_ref"]);
    assert_eq!(
        joined["online_at"], first["online_at"],
        "the time of coming is the server's"
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_23_status_patches_one_field() {
    let rig = Rig::start().await;
    let payload = json!({ "user_id": "ada", "meta": { "a": 1 } });
    let mut ada = rig.connect("").await.joined(ROOM, payload).await;
    let reply = ada.ok(ROOM, "status", json!({ "status": "away" })).await;
    let joined = ada.event("presence_diff").await["joins"]["ada"]["metas"][0].clone();
    assert_eq!(bare(&joined), json!({ "a": 1, "status": "away" }));
    assert_eq!(joined["phx_ref"], reply["phx_ref"]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_28_untrack_and_track_leave_and_come_back_without_leaving_the_channel() {
    let rig = Rig::start().await;
    let mut ada = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "ada" }))
        .await;
    let mut bob = rig.connect("").await.joined(ROOM, json!({})).await;
    assert_eq!(metas(&bob.event("presence_state").await, "ada").len(), 1);

    assert_eq!(
        ada.refused(ROOM, "presence:track", json!({})).await,
        "already tracked"
    );
    assert_eq!(ada.ok(ROOM, "presence:untrack", json!({})).await, json!({}));
    assert_eq!(
        metas(&bob.event("presence_diff").await["leaves"], "ada").len(),
        1
    );
    assert_eq!(
        ada.refused(ROOM, "presence:untrack", json!({})).await,
        "not tracked"
    );
    let reason = ada
        .refused(ROOM, "presence:update", json!({ "meta": {} }))
        .await;
    assert_eq!(reason, "not tracked");

    let reply = ada
        .ok(ROOM, "presence:track", json!({ "meta": { "x": 1 } }))
        .await;
    let joined = bob.event("presence_diff").await["joins"]["ada"]["metas"][0].clone();
    assert_eq!(bare(&joined), json!({ "x": 1 }));
    assert!(joined["online_at"].is_string());
    assert_eq!(joined["phx_ref"], reply["phx_ref"]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_29_two_sockets_of_one_user_are_two_metas_and_one_leaving_leaves_the_other() {
    let rig = Rig::start().await;
    let mut one = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "ada" }))
        .await;
    let two = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "ada" }))
        .await;
    one.event("presence_diff").await;
    let mut watcher = rig.connect("").await.joined(ROOM, json!({})).await;
    let state = watcher.event("presence_state").await;
    assert_eq!(metas(&state, "ada").len(), 2);
    drop(two);
    let diff = watcher.event("presence_diff").await;
    assert_eq!(metas(&diff["leaves"], "ada"), metas(&state, "ada")[1..]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_30_echo_replies_with_its_payload_text_or_binary() {
    let rig = Rig::start().await;
    let mut client = rig.connect("").await.joined(ROOM, json!({})).await;
    client.event("presence_state").await;
    for payload in [json!({ "a": [1] }), json!([1, 2]), json!("x"), json!(null)] {
        assert_eq!(client.ok(ROOM, "echo", payload.clone()).await, payload);
    }
    client
        .send(Message::binary(
            &b"\x00\x08\x03\x06\x04j:room:1123room:1echo\xff\x00"[..],
        ))
        .await;
    assert_eq!(
        client.frame().await,
        Frame::Binary(b"\x01\x08\x03\x06\x02j:room:1123room:1ok\xff\x00".to_vec())
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_31_other_events_reach_everyone_and_the_sender_and_are_replied_ok() {
    let rig = Rig::start().await;
    let mut ada = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "ada" }))
        .await;
    let mut bob = rig.connect("").await.joined(ROOM, json!({})).await;
    bob.event("presence_state").await;
    assert_eq!(ada.ok(ROOM, "cursor", json!({ "x": 3 })).await, json!({}));
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("cursor").await, json!({ "x": 3 }));
    }
    ada.send(Message::binary(
        &b"\x00\x08\x03\x06\x03j:room:1123room:1pic\xff\x00"[..],
    ))
    .await;
    let broadcast = Frame::Binary(b"\x02\x06\x03room:1pic\xff\x00".to_vec());
    assert_eq!(bob.frame().await, broadcast);
    assert_eq!(ada.frame().await, broadcast);
    let Frame::Text(reply) = ada.frame().await else {
        panic!("no reply")
    };
    assert_eq!(reply[4], json!({ "status": "ok", "response": {} }));
    rig.stop().await;
}

#[tokio::test]
async fn srv_24_reserved_events_get_an_error_and_reach_nobody() {
    let rig = Rig::start().await;
    let mut ada = rig
        .connect("")
        .await
        .joined(ROOM, json!({ "user_id": "ada" }))
        .await;
    let mut bob = rig.connect("").await.joined(ROOM, json!({})).await;
    for event in [
        "phx_error",
        "phx_close",
        "phx_x",
        "presence_diff",
        "presence_x",
        "presence:x",
    ] {
        let reason = ada
            .refused(ROOM, event, json!({ "joins": {}, "leaves": {} }))
            .await;
        assert!(
            reason.contains(event) && reason.contains("reserved"),
            "{reason}"
        );
        bob.heard_nothing_of(ROOM, event).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_32_bench_topics_broadcast_and_have_no_presence() {
    let rig = Rig::start().await;
    let mut one = rig
        .connect("")
        .await
        .joined("bench:1", json!({ "user_id": "ada", "meta": 3 }))
        .await;
    let mut two = rig.connect("").await.joined("bench:1", json!({})).await;
    one.ok("bench:1", "shout", json!({ "n": 1 })).await;
    assert_eq!(one.event("shout").await, json!({ "n": 1 }));
    assert_eq!(two.event("shout").await, json!({ "n": 1 }));
    one.heard_nothing_of("bench:1", "presence_state").await;
    let reason = one.refused("bench:1", "presence:track", json!({})).await;
    assert_eq!(reason, "presence is off for this topic");
    rig.stop().await;
}

#[tokio::test]
async fn srv_33_a_topic_that_no_pattern_matches_is_unmatched() {
    let rig = Rig::start().await;
    let mut client = rig.connect("").await;
    let unmatched = ("error".to_owned(), json!({ "reason": "unmatched topic" }));
    assert_eq!(client.join("lobby", json!({})).await, unmatched);
    assert_eq!(
        client.push(ROOM, "x", json!({})).await,
        unmatched,
        "not joined"
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_34_topics_of_the_configuration_have_its_options_and_limits() {
    let topics = "[{ pattern = \"chat:*\", broadcast = true, max_payload_bytes = 20 }, \
                   { pattern = \"quiet\", presence = true, max_meta_bytes = 30 }]";
    let rig = Rig::with(&[("topics", topics)]).await;
    let mut client = rig.connect("").await;
    assert_eq!(
        client.join(ROOM, json!({})).await.0,
        "error",
        "the defaults are replaced"
    );
    let mut client = client.joined("chat:1", json!({})).await;
    let reason = client
        .refused("chat:1", "x", json!({ "text": "much too long" }))
        .await;
    assert_eq!(
        reason,
        "the payload is 24 bytes, the limit is 20 (topics.max_payload_bytes)"
    );
    let mut client = client.joined("quiet", json!({ "user_id": "ada" })).await;
    let reason = client.refused("quiet", "x", json!({})).await;
    assert_eq!(reason, "broadcast is off for this topic");
    let update = json!({ "meta": { "text": "much too long for it" } });
    let reason = client.refused("quiet", "presence:update", update).await;
    assert_eq!(
        reason,
        "the meta is 31 bytes, the limit is 30 (topics.max_meta_bytes)"
    );
    client
        .ok("quiet", "status", json!({ "status": "0123456" }))
        .await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_35_limits_of_presences_and_channels_are_named_to_the_client() {
    let flags = [
        ("presence.max_metas_per_key", "2"),
        ("socket.max_channels", "1"),
    ];
    let rig = Rig::with(&flags).await;
    let user = json!({ "user_id": "ada" });
    let mut one = rig.connect("").await.joined(ROOM, user.clone()).await;
    let _two = rig.connect("").await.joined(ROOM, user.clone()).await;
    let (status, response) = rig.connect("").await.join(ROOM, user).await;
    let reason = response["reason"].as_str().unwrap();
    assert_eq!(status, "error");
    assert!(reason.contains('2'), "{reason}");
    let many = one.join("room:2", json!({})).await;
    assert_eq!(
        many,
        (
            "error".to_owned(),
            json!({ "reason": "too many channels joined, the limit is 1 (socket.max_channels)" })
        )
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_36_without_vsn_the_wire_format_is_version_1() {
    let rig = Rig::start().await;
    for path in ["/socket/websocket", "/socket/websocket?vsn=1.0.0"] {
        let mut client = rig.open(path, &[]).await.unwrap();
        let payload = json!({ "user_id": "ada" });
        let join = json!({ "topic": ROOM, "event": "phx_join", "payload": payload, "ref": "1" });
        client.send(Message::text(join.to_string())).await;
        let reply = json!({
            "topic": ROOM, "event": "phx_reply", "ref": "1",
            "payload": { "status": "ok", "response": {} },
        });
        assert_eq!(client.frame().await, Frame::Text(reply));
        let Frame::Text(state) = client.frame().await else {
            panic!("no state")
        };
        assert_eq!(state["event"], "presence_state");
        assert_eq!(state["ref"], Value::Null);
        assert!(state["payload"]["ada"]["metas"].is_array());
    }
    let error = rig
        .open("/socket/websocket?vsn=3.0.0", &[])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
    rig.stop().await;
}
