//! Area Y: what a client sees of a socket, and in which order.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "wire/support.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod support;

use std::time::Duration;

use herenow_channels::SocketConfig;
use herenow_pubsub::PubSub;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;

use self::support::{Client, Seen, refused, sockets, soon, start, until};

async fn v2() -> Client {
    Client::v2(&start(sockets(&PubSub::local())).await).await
}

/// Event and join ref of the next `N` messages.
async fn order<const N: usize>(client: &mut Client) -> [(String, Value); N] {
    let mut seen = Vec::new();
    for _ in 0..N {
        let Seen {
            event, join_ref, ..
        } = client.next().await;
        seen.push((event, join_ref));
    }
    seen.try_into().unwrap()
}

fn at(event: &str, join_ref: &str) -> (String, Value) {
    (event.to_owned(), json!(join_ref))
}

#[tokio::test]
async fn y_01_leave_is_reply_close_and_then_what_terminate_pushes() {
    let mut client = v2().await;
    client.join_plain("room:1").await;
    client
        .send(("11", "5"), "room:1", "phx_leave", json!({}))
        .await;
    let expected = [
        at("phx_reply", "11"),
        at("phx_close", "11"),
        at("you_left", "11"),
    ];
    assert_eq!(order(&mut client).await, expected);
    client.assert_silent().await;
}

#[tokio::test]
async fn y_02_a_crash_is_what_terminate_pushes_and_then_phx_error() {
    let mut client = v2().await;
    client.join_plain("room:1").await;
    client.send(("11", "5"), "room:1", "boom", json!({})).await;
    let left = client.next().await;
    assert_eq!(left.event, "you_left");
    let error = client.next().await;
    assert_eq!(
        (error.join_ref, error.message_ref),
        (json!("11"), json!("11"))
    );
    assert_eq!(
        (error.event.as_str(), error.payload),
        ("phx_error", json!({ "reason": "channel_crash" }))
    );
    client.assert_silent().await;
}

#[tokio::test]
async fn y_03_a_duplicate_join_is_new_reply_old_close_and_then_new_pushes() {
    let mut client = v2().await;
    client.join_plain("room:1").await;
    client
        .send(("12", "6"), "room:1", "phx_join", json!({}))
        .await;
    let expected = [
        at("phx_reply", "12"),
        at("you_left", "11"),
        at("phx_close", "11"),
        ("user_entered".to_owned(), Value::Null),
        at("joined", "12"),
    ];
    assert_eq!(order(&mut client).await, expected);
    client.assert_silent().await;
}

#[tokio::test]
async fn soc_22_a_duplicate_join_waits_for_the_channel_it_replaces_and_then_cuts_it_off() {
    let mut config = SocketConfig::default();
    config.terminate_timeout = Duration::from_millis(100);
    let url = start(sockets(&PubSub::local()).config(config)).await;
    let mut client = Client::v2(&url).await;
    client.join_plain("room:1").await;
    client.send(("11", "2"), "room:1", "hang", json!({})).await;
    client.assert_silent().await;
    client
        .send(("12", "3"), "room:1", "phx_join", json!({ "how": "plain" }))
        .await;
    let expected = [at("phx_reply", "12"), at("phx_close", "11")];
    assert_eq!(order(&mut client).await, expected);
    client.send(("12", "4"), "room:1", "echo", json!(1)).await;
    assert_eq!(client.reply(("12", "4"), "room:1").await["response"], 1);
}

#[tokio::test]
async fn soc_23_a_duplicate_join_that_is_refused_ends_the_old_channel_all_the_same() {
    let pubsub = PubSub::local();
    let mut client = Client::v2(&start(sockets(&pubsub)).await).await;
    client.join_plain("room:1").await;
    client
        .send(
            ("12", "3"),
            "room:1",
            "phx_join",
            json!({ "how": "refuse" }),
        )
        .await;
    let expected = [
        at("phx_reply", "12"),
        at("you_left", "11"),
        at("phx_close", "11"),
    ];
    assert_eq!(order(&mut client).await, expected);
    assert_eq!(pubsub.n_subscribers("room:1"), 0);
}

#[tokio::test]
async fn y_04_a_stale_join_ref_gets_no_answer_and_none_is_accepted() {
    let mut client = v2().await;
    client.join_plain("room:1").await;
    client.send(("10", "2"), "room:1", "echo", json!({})).await;
    client
        .send(("10", "3"), "room:1", "phx_leave", json!({}))
        .await;
    client.assert_silent().await;
    client
        .send_json(&json!([null, "4", "room:1", "echo", { "a": 1 }]))
        .await;
    let reply = client.reply(("11", "4"), "room:1").await;
    assert_eq!(reply, json!({ "status": "ok", "response": { "a": 1 } }));
    client
        .send_json(&json!([null, "5", "room:1", "phx_leave", {}]))
        .await;
    assert_eq!(client.reply(("11", "5"), "room:1").await["status"], "ok");
}

#[tokio::test]
async fn y_05_leaving_a_topic_that_is_not_joined_is_ok() {
    let mut client = v2().await;
    client
        .send(("1", "2"), "room:1", "phx_leave", json!({}))
        .await;
    let reply = client.reply(("1", "2"), "room:1").await;
    assert_eq!(reply, json!({ "status": "ok", "response": {} }));
}

#[tokio::test]
async fn y_06_a_heartbeat_with_a_join_ref_is_answered_without() {
    let mut client = v2().await;
    client
        .send(("1", "2"), "phoenix", "heartbeat", json!({}))
        .await;
    let seen = client.next().await;
    assert_eq!((seen.join_ref, seen.message_ref), (Value::Null, json!("2")));
}

#[tokio::test]
async fn y_07_another_event_on_phoenix_is_unmatched() {
    let mut client = v2().await;
    for event in ["other", "phx_join"] {
        client.send(("1", "2"), "phoenix", event, json!({})).await;
        let seen = client.next().await;
        assert_eq!(seen.join_ref, Value::Null);
        assert_eq!(seen.payload["response"]["reason"], "unmatched topic");
    }
}

#[tokio::test]
async fn y_08_a_heartbeat_during_a_slow_join_is_answered_before_it() {
    let mut client = v2().await;
    client
        .send(("11", "1"), "room:1", "phx_join", json!({ "how": "slow" }))
        .await;
    client
        .send(("11", "2"), "room:1", "echo", json!("early"))
        .await;
    client
        .send(("", "3"), "phoenix", "heartbeat", json!({}))
        .await;
    assert_eq!(client.next().await.message_ref, "3");
    client.reply(("11", "1"), "room:1").await;
    client.event("room:1", "user_entered").await;
    client.event("room:1", "joined").await;
    assert_eq!(
        client.reply(("11", "2"), "room:1").await["response"],
        "early"
    );
}

#[tokio::test]
async fn y_09_malformed_messages_close_with_1011() {
    let url = start(sockets(&PubSub::local())).await;
    let v2: [Message; 8] = [
        Message::text("not json"),
        Message::text("[null,\"1\",\"t\",\"e\"]"),
        Message::text("{\"topic\":\"t\",\"event\":\"e\",\"payload\":{},\"ref\":\"1\"}"),
        Message::text(""),
        Message::binary(vec![7, 0, 0, 0, 0]),
        Message::binary(vec![]),
        Message::binary(vec![0, 255, 255, 255, 255]),
        Message::binary(vec![0, 1]),
    ];
    for message in v2 {
        let mut client = Client::v2(&url).await;
        client.send_message(message.clone()).await;
        let (code, reason) = client.closed().await;
        assert_eq!(code, 1011, "{message:?}");
        assert!(reason.starts_with("malformed message"), "{reason}");
    }
    let v1 = [
        Message::text("[null,\"1\",\"t\",\"e\",{}]"),
        Message::text("{\"topic\":\"t\",\"event\":\"e\",\"payload\":{}}"),
        Message::text("1"),
    ];
    for message in v1 {
        let mut client = Client::v1(&url).await;
        client.send_message(message.clone()).await;
        assert_eq!(client.closed().await.0, 1011, "{message:?}");
    }
}

#[tokio::test]
async fn y_10_a_sixth_element_is_ignored() {
    let mut client = v2().await;
    client
        .send_json(&json!([null, "1", "phoenix", "heartbeat", {}, "more"]))
        .await;
    assert_eq!(client.next().await.message_ref, "1");
}

#[tokio::test]
async fn y_11_numbers_as_refs_come_back_as_numbers() {
    let mut client = v2().await;
    client
        .send_json(&json!([7, 8, "room:1", "phx_join", { "how": "plain" }]))
        .await;
    let seen = client.next().await;
    assert_eq!((seen.join_ref, seen.message_ref), (json!(7), json!(8)));
}

#[tokio::test]
async fn y_12_a_list_may_be_replied_but_broadcasting_it_crashes_the_channel() {
    let mut client = v2().await;
    client.join_plain("room:1").await;
    client
        .send(("11", "2"), "room:1", "echo", json!([1, [2]]))
        .await;
    assert_eq!(
        client.reply(("11", "2"), "room:1").await["response"],
        json!([1, [2]])
    );
    client
        .send(("11", "3"), "room:1", "shout", json!([1]))
        .await;
    client.event("room:1", "you_left").await;
    client.event("room:1", "phx_error").await;
}

#[tokio::test]
async fn y_13_versions_are_matched_by_major_and_minor() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::connect(&format!("{url}?vsn=2.0.9"), false).await;
    client.join_plain("room:1").await;
    for vsn in ["2.1.0", "3.0.0", "x", "2.0", ""] {
        assert_eq!(refused(&format!("{url}?vsn={vsn}")).await, 403, "{vsn}");
    }
    assert_eq!(refused(&format!("{url}?vsn[]=2.0.0")).await, 403);
    let mut client = Client::connect(&url, true).await;
    client.join_plain("room:1").await;
}

#[tokio::test]
async fn y_14_v1_a_join_without_join_ref_and_an_event_with_one() {
    // The reference ignores such an event since 1.8.12 and accepted it before; accepting it is
    // the safe superset. Configured as strict as the reference, it is ignored.
    for (check, is_answered) in [
        (herenow_channels::JoinRefCheck::EitherMissing, true),
        (herenow_channels::JoinRefCheck::IncomingMissing, false),
    ] {
        let mut config = SocketConfig::default();
        config.join_ref_check = check;
        let url = start(sockets(&PubSub::local()).config(config)).await;
        let mut client = Client::v1(&url).await;
        let params = json!({ "how": "plain" });
        let join = json!({ "topic": "room:1", "event": "phx_join", "payload": params, "ref": "1" });
        client.send_json(&join).await;
        client.reply(("", "1"), "room:1").await;
        client.send(("1", "2"), "room:1", "echo", json!({})).await;
        if is_answered {
            client.reply(("", "2"), "room:1").await;
        }
        client.assert_silent().await;
    }
}

#[tokio::test]
async fn y_15_v1_the_ref_of_phx_error_is_the_join_ref_or_null() {
    let url = start(sockets(&PubSub::local())).await;
    for join_ref in [json!("7"), Value::Null] {
        let mut client = Client::v1(&url).await;
        let params = json!({ "how": "plain" });
        let join = json!({
            "topic": "room:1", "event": "phx_join", "payload": params, "ref": "1",
            "join_ref": join_ref,
        });
        client.send_json(&join).await;
        client.reply(("", "1"), "room:1").await;
        let boom = json!({ "topic": "room:1", "event": "boom", "payload": {}, "ref": "2" });
        client.send_json(&boom).await;
        client.event("room:1", "you_left").await;
        let error = client.next().await;
        assert_eq!(
            (error.event.as_str(), error.message_ref),
            ("phx_error", join_ref)
        );
    }
}

#[tokio::test]
async fn soc_25_disconnect_and_drain_end_channels_without_phx_close_or_phx_error() {
    let pubsub = PubSub::local();
    let sockets = sockets(&pubsub);
    let handle = sockets.clone();
    let mut ends = pubsub.subscribe("terminated");
    let url = start(sockets).await;
    let mut client = Client::connect(&format!("{url}?vsn=2.0.0&id=u"), false).await;
    client.assert_silent().await;
    handle.disconnect("u").unwrap();
    assert_eq!(client.closed().await, (1001, "disconnected".into()));
    drop(client);
    let mut client = Client::v2(&url).await;
    client.join_plain("room:1").await;
    let drain = tokio::spawn(async move { handle.drain().await });
    // No phx_close and no phx_error: the first that comes is the close frame.
    let message = client.next_message().await;
    let Message::Close(Some(frame)) = message else {
        panic!("{message:?}")
    };
    assert_eq!(u16::from(frame.code), 1012);
    drop(client);
    let end = soon(ends.recv()).await.unwrap();
    let herenow_pubsub::Payload::Json(text) = &end.payload else {
        panic!("{end:?}")
    };
    assert!(String::from_utf8_lossy(text).contains("Draining"));
    soon(drain).await.unwrap();
    until(|| pubsub.n_subscribers("room:1") == 0).await;
}

#[tokio::test]
async fn y_18_stop_normal_is_phx_close_and_an_odd_reason_is_phx_error() {
    let mut client = v2().await;
    client.join_plain("room:1").await;
    client.send(("11", "2"), "room:1", "stop", json!({})).await;
    let expected = [at("phx_close", "11"), at("you_left", "11")];
    assert_eq!(order(&mut client).await, expected);
    client.join_plain("room:1").await;
    client.send(("11", "3"), "room:1", "odd", json!({})).await;
    let expected = [at("you_left", "11"), at("phx_error", "11")];
    assert_eq!(order(&mut client).await, expected);
    client.assert_silent().await;
}

#[tokio::test]
async fn soc_24_push_broadcast_and_reply_of_one_callback_keep_their_order() {
    let mut client = v2().await;
    client.join_plain("room:1").await;
    client.send(("11", "2"), "room:1", "three", json!({})).await;
    client.event("room:1", "one").await;
    client.event("room:1", "two").await;
    client.reply(("11", "2"), "room:1").await;
    client.assert_silent().await;
}
