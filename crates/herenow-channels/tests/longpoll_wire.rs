//! What long-poll requests are answered, message by message.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/http.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod http;
#[path = "support/longpoll.rs"]
mod longpoll;
#[path = "support/room.rs"]
mod room;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use herenow_pubsub::PubSub;
use serde_json::{Value, json};

use self::http::Http;
use self::longpoll::{LongPollClient, json as body_json, messages};
use self::room::{short_window, sockets, start};

fn v1(topic: &str, event: &str, payload: &Value, message_ref: &str) -> Value {
    json!({ "topic": topic, "event": event, "payload": payload, "ref": message_ref })
}

fn v2_join() -> Value {
    json!(["1", "1", "room:lobby", "phx_join", {}])
}

/// A binary push of a client, in base64.
fn binary_push(
    join_ref: &str,
    message_ref: &str,
    topic: &str,
    event: &str,
    payload: &[u8],
) -> String {
    let fields = [join_ref, message_ref, topic, event];
    let mut frame = vec![0];
    frame.extend(fields.map(|field| u8::try_from(field.len()).unwrap()));
    fields
        .iter()
        .for_each(|field| frame.extend_from_slice(field.as_bytes()));
    frame.extend_from_slice(payload);
    STANDARD.encode(frame)
}

/// The events of V2 messages.
fn events(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message[3].as_str().unwrap())
        .collect()
}

async fn v2_session(pubsub: &PubSub) -> LongPollClient {
    LongPollClient::open(start(sockets(pubsub)).await, "2.0.0").await
}

/// A session whose polls do not wait for long.
async fn short_v2_session() -> LongPollClient {
    let sockets = sockets(&PubSub::local()).long_poll(short_window());
    LongPollClient::open(start(sockets).await, "2.0.0").await
}

#[tokio::test]
async fn l_01_a_session_joins_by_post_and_reads_by_get() {
    let address = start(sockets(&PubSub::local()).long_poll(short_window())).await;
    let mut client = LongPollClient::open(address, "2.0.0").await;
    let join = json!(["1", "1", "room:lobby", "phx_join", { "user": "ada" }]);
    assert_eq!(
        client.join(&join).await,
        [
            json!(["1", "1", "room:lobby", "phx_reply", { "status": "ok", "response": {} }]),
            json!([null, null, "room:lobby", "user_entered", { "user": "ada" }]),
            json!(["1", null, "room:lobby", "joined", { "status": "connected" }]),
        ]
    );
    let empty = client.poll().await;
    assert_eq!(
        empty,
        json!({ "status": 204, "token": client.token, "messages": [] })
    );

    let mut old = LongPollClient::open(address, "1.0.0").await;
    let join = v1("room:v1", "phx_join", &json!({}), "123");
    let joined = old.join(&join).await;
    let reply = json!({ "status": "ok", "response": {} });
    assert_eq!(joined[0], v1("room:v1", "phx_reply", &reply, "123"));
    assert_eq!(joined[1]["event"], "user_entered");
    let pushed = json!({ "status": "connected" });
    let expected = json!({ "topic": "room:v1", "event": "joined", "payload": pushed, "ref": null });
    assert_eq!(joined[2], expected);
}

#[tokio::test]
async fn l_02_the_join_after_the_hundredth_is_refused() {
    let mut client = v2_session(&PubSub::local()).await;
    for n in 1..=100 {
        let joined = client
            .join(&json!(["1", "1", format!("room:{n}"), "phx_join", {}]))
            .await;
        assert_eq!(events(&joined), ["phx_reply", "user_entered", "joined"]);
    }
    let one_more = json!(["1", "101", "room:101", "phx_join", {}]);
    assert_eq!(client.post(&one_more).await, 200);
    let response =
        json!({ "reason": "too many channels joined, the limit is 100 (socket.max_channels)" });
    let reason = json!({ "status": "error", "response": response });
    let refused = json!(["1", "101", "room:101", "phx_reply", reason]);
    assert_eq!(client.poll_messages(1).await, [refused]);
}

#[tokio::test]
async fn l_07_messages_are_published_and_their_errors_are_in_the_poll() {
    let pubsub = PubSub::local();
    let mut subscription = pubsub.subscribe("room:lobby");
    let address = start(sockets(&pubsub)).await;
    let mut client = LongPollClient::open(address, "1.0.0").await;
    client
        .join(&v1("room:lobby", "phx_join", &json!({}), "1"))
        .await;
    let message = v1("room:lobby", "new_msg", &json!({ "body": "hi!" }), "2");
    assert_eq!(client.post(&message).await, 200);
    assert_eq!(subscription.recv().await.unwrap().event, "user_entered");
    assert_eq!(subscription.recv().await.unwrap().event, "new_msg");
    let received = client.poll_messages(2).await;
    let expected = json!({ "topic": "room:lobby", "event": "new_msg", "ref": null,
        "payload": { "body": "hi!", "transport": "longpoll" } });
    assert_eq!(received[1], expected);

    let message = v1(
        "room:private",
        "new_msg",
        &json!({ "body": "this one?" }),
        "12300",
    );
    assert_eq!(client.post(&message).await, 200);
    let reason = json!({ "status": "error", "response": { "reason": "unmatched topic" } });
    let expected = v1("room:private", "phx_reply", &reason, "12300");
    assert_eq!(client.poll_messages(1).await, [expected]);
}

#[tokio::test]
async fn l_08_messages_without_a_join_ref_are_accepted() {
    let mut client = v2_session(&PubSub::local()).await;
    client.join(&v2_join()).await;
    let message = json!([null, "2", "room:lobby", "new_msg", { "body": "hi!" }]);
    assert_eq!(client.post(&message).await, 200);
    let received = client.poll_messages(2).await;
    assert_eq!(events(&received), ["phx_reply", "new_msg"]);
}

#[tokio::test]
async fn l_09_a_batch_is_handled_in_order_text_and_binary() {
    let mut client = v2_session(&PubSub::local()).await;
    let new_msg = |join_ref: &str, message_ref: &str, body: &str| {
        json!([join_ref, message_ref, "room:lobby", "new_msg", { "body": body }]).to_string()
    };
    let first = [
        v2_join().to_string(),
        new_msg("1", "2", "hi1"),
        new_msg("0", "3", "stale"),
    ];
    assert_eq!(client.post_batch(&first).await, 200);
    assert_eq!(client.post_batch(&[new_msg("1", "4", "hi2")]).await, 200);
    let second = [
        binary_push("1", "5", "room:lobby", "binary", &[1, 2]),
        new_msg("1", "6", "hi3"),
    ];
    assert_eq!(client.post_batch(&second).await, 200);

    let mut received = client.poll_messages(10).await;
    assert_eq!(received[0][3], "phx_reply");
    let replies: Vec<Value> = received
        .extract_if(1.., |message| message[3] == "phx_reply")
        .collect();
    let answered: Vec<_> = replies
        .iter()
        .map(|reply| reply[1].as_str().unwrap())
        .collect();
    assert_eq!(answered, ["2", "4", "6"]);
    let expected = [
        "phx_reply",
        "user_entered",
        "joined",
        "new_msg",
        "new_msg",
        "bin_ack",
        "new_msg",
    ];
    assert_eq!(events(&received), expected);
    let bodies: Vec<_> = received
        .iter()
        .filter_map(|message| message[4]["body"].as_str())
        .collect();
    assert_eq!(bodies, ["hi1", "hi2", "hi3"]);
    assert_eq!(
        received[5],
        json!(["1", null, "room:lobby", "bin_ack", { "n_bytes": 2 }])
    );
    assert_eq!(received[6][0], "1");
}

#[tokio::test]
async fn l_12_of_a_batch_the_first_hundred_are_handled_in_order() {
    let mut client = short_v2_session().await;
    let lines: Vec<String> = (1..=101)
        .map(|n| json!([null, n.to_string(), "phoenix", "heartbeat", {}]).to_string())
        .collect();
    assert_eq!(client.post_batch(&lines).await, 200);
    let received = client.poll_messages(100).await;
    let refs: Vec<_> = received
        .iter()
        .map(|message| message[1].as_str().unwrap())
        .collect();
    let expected: Vec<_> = (1..=100).map(|n| n.to_string()).collect();
    assert_eq!(refs, expected);
    assert_eq!(client.poll().await["status"], 204);
}

#[tokio::test]
async fn l_16_a_crash_is_told_with_the_join_ref() {
    let address = start(sockets(&PubSub::local())).await;
    let mut client = LongPollClient::open(address, "2.0.0").await;
    client.join(&v2_join()).await;
    assert_eq!(
        client
            .post(&json!(["1", "2", "room:lobby", "boom", {}]))
            .await,
        200
    );
    let received = client.poll_messages(2).await;
    assert_eq!(events(&received), ["you_left", "phx_error"]);
    let reason = json!({ "reason": "channel_crash" });
    assert_eq!(
        received[1],
        json!(["1", "1", "room:lobby", "phx_error", reason])
    );

    let mut old = LongPollClient::open(address, "1.0.0").await;
    old.join(&v1("room:v1", "phx_join", &json!({}), "1")).await;
    assert_eq!(old.post(&v1("room:v1", "boom", &json!({}), "2")).await, 200);
    let received = old.poll_messages(2).await;
    let expected =
        json!({ "topic": "room:v1", "event": "phx_error", "payload": reason, "ref": null });
    assert_eq!(received[1], expected);
}

#[tokio::test]
async fn l_17_only_a_current_or_missing_join_ref_leaves() {
    let mut client = short_v2_session().await;
    client.join(&v2_join()).await;
    assert_eq!(
        client
            .post(&json!(["0", "2", "room:lobby", "phx_leave", {}]))
            .await,
        200
    );
    assert_eq!(client.poll().await["status"], 204);
    assert_eq!(
        client
            .post(&json!([null, "3", "room:lobby", "phx_leave", {}]))
            .await,
        200
    );
    let received = client.poll_messages(3).await;
    let reply = json!({ "status": "ok", "response": {} });
    assert_eq!(
        received[0],
        json!(["1", "3", "room:lobby", "phx_reply", reply])
    );
    assert_eq!(
        received[1],
        json!(["1", "1", "room:lobby", "phx_close", {}])
    );
    assert_eq!(received[2][3], "you_left");
}

#[tokio::test]
async fn l_20_a_post_without_a_content_type_is_one_text_message() {
    let mut client = v2_session(&PubSub::local()).await;
    let body = v2_join().to_string();
    let answer = client.request("", body.as_bytes()).await;
    assert_eq!(body_json(&answer), json!({ "status": 200 }));
    assert_eq!(client.poll_messages(3).await.len(), 3);
}

#[tokio::test]
async fn l_24_the_token_may_be_a_query_parameter() {
    let address = start(sockets(&PubSub::local())).await;
    let mut http = Http::connect(address).await;
    let answer = body_json(&http.get("/ws/longpoll?vsn=2.0.0").await);
    let target = format!(
        "/ws/longpoll?vsn=2.0.0&token={}",
        answer["token"].as_str().unwrap()
    );
    let join = v2_join().to_string();
    let posted = http.request("POST", &target, &[], join.as_bytes()).await;
    assert_eq!(body_json(&posted), json!({ "status": 200 }));
    assert_eq!(messages(&body_json(&http.get(&target).await)).len(), 3);
}

#[tokio::test]
async fn l_25_the_token_in_the_header_wins() {
    let address = start(sockets(&PubSub::local()).long_poll(short_window())).await;
    let client = LongPollClient::open(address, "2.0.0").await;
    let mut http = Http::connect(address).await;
    let headers = [("x-phoenix-longpoll-token", client.token.as_str())];
    let answer = http
        .request("GET", "/ws/longpoll?vsn=2.0.0&token=bogus", &headers, b"")
        .await;
    assert_eq!(body_json(&answer)["status"], 204);
    let bogus = [("x-phoenix-longpoll-token", "bogus")];
    let target = format!("/ws/longpoll?vsn=2.0.0&token={}", client.token);
    let answer = http.request("GET", &target, &bogus, b"").await;
    assert_eq!(body_json(&answer)["status"], 410);
}

#[tokio::test]
async fn l_26_answers_are_json_and_not_stored() {
    let address = start(sockets(&PubSub::local())).await;
    let answer = Http::connect(address)
        .await
        .get("/ws/longpoll?vsn=2.0.0")
        .await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn l_28_options_are_answered_for_other_origins() {
    let address = start(sockets(&PubSub::local())).await;
    let asked = [(
        "access-control-request-headers",
        "x-phoenix-longpoll-token, x-other",
    )];
    let answer = Http::connect(address)
        .await
        .request("OPTIONS", "/ws/longpoll", &asked, b"")
        .await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.is_empty());
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        (
            "access-control-allow-headers",
            "x-phoenix-longpoll-token, x-other",
        ),
        ("access-control-allow-methods", "get, post, options"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
}

#[tokio::test]
async fn l_29_other_methods_are_answered_400() {
    let address = start(sockets(&PubSub::local())).await;
    for method in ["PUT", "DELETE", "PATCH", "HEAD"] {
        let mut http = Http::connect(address).await;
        let answer = http
            .request(method, "/ws/longpoll?vsn=2.0.0", &[], b"")
            .await;
        assert_eq!((answer.status, answer.body.len()), (400, 0), "{method}");
    }
}

#[tokio::test]
async fn l_30_a_post_without_a_session_is_gone() {
    let address = start(sockets(&PubSub::local())).await;
    let mut client = LongPollClient::connect(address, "2.0.0").await;
    for token in ["", "bogus"] {
        token.clone_into(&mut client.token);
        let answer = client.request("application/json", b"[]").await;
        assert_eq!(answer.body, br#"{"status":410}"#);
    }
}

#[tokio::test]
async fn soc_130_bodies_that_are_too_large_or_no_batch_are_answered_400() {
    let mut client = v2_session(&PubSub::local()).await;
    let too_large = vec![b' '; 8_000_001];
    assert_eq!(
        client.request("application/json", &too_large).await.status,
        400
    );
    let mut client = v2_session(&PubSub::local()).await;
    let v1_in_a_batch = br#"{"topic":"t","event":"e","payload":{},"ref":"1"}"#;
    assert_eq!(
        client
            .request("application/x-ndjson", v1_in_a_batch)
            .await
            .status,
        400
    );
    assert_eq!(client.join(&v2_join()).await.len(), 3, "the session lives");
}

#[tokio::test]
async fn soc_739_empty_lines_of_a_batch_are_nothing() {
    let mut client = v2_session(&PubSub::local()).await;
    let heartbeat = |n: u32| json!([null, n.to_string(), "phoenix", "heartbeat", {}]);
    for (body, n) in [("A\n", 1), ("A\r\n\r\nA\r\n", 2), ("\n", 0), ("", 0)] {
        let body = body.replace('A', &heartbeat(2).to_string());
        let answer = client.request("application/x-ndjson", body.as_bytes());
        assert_eq!(body_json(&answer.await), json!({ "status": 200 }));
        if n > 0 {
            client.poll_messages(n).await;
        }
    }
    assert_eq!(client.join(&v2_join()).await.len(), 3, "the session lives");
}

#[tokio::test]
async fn soc_131_a_binary_push_is_lost_alone() {
    let mut client = v2_session(&PubSub::local()).await;
    client.join(&v2_join()).await;
    for event in ["give_binary", "give_text_in_bytes"] {
        let push = json!(["1", "2", "room:lobby", event, {}]);
        assert_eq!(client.post(&push).await, 200);
    }
    assert_eq!(
        client
            .post(&json!([null, "3", "phoenix", "heartbeat", {}]))
            .await,
        200
    );
    let received = client.poll_messages(1).await;
    assert_eq!(received[0][1], "3");
}
