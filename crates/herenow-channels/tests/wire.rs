//! Areas W and X: sockets over real connections, seen frame by frame.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "wire/support.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod support;

#[path = "support/log.rs"]
mod log;

#[allow(dead_code)] // Other suites use the rest of it.
#[path = "support/http.rs"]
mod http;

use std::num::NonZero;
use std::time::Duration;

use axum::Router;
use herenow_channels::{ConnectInfo, ConnectRefused, Connected, SocketConfig, Sockets};
use herenow_pubsub::PubSub;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

use self::http::Http;
use self::log::Log;
use self::support::{Client, Room, refused, sockets, soon, start, start_app, until};

fn config(change: impl FnOnce(&mut SocketConfig)) -> SocketConfig {
    let mut config = SocketConfig::default();
    change(&mut config);
    config
}

/// Connects both versions to the same sockets.
async fn both(url: &str) -> [Client; 2] {
    [Client::v1(url).await, Client::v2(url).await]
}

#[tokio::test]
async fn w_01_a_mount_below_a_longer_path_joins() {
    let pubsub = PubSub::local();
    let app = Router::new().nest("/admin/ws", sockets(&pubsub).into_router());
    let address = start_app(app).await;
    for mut client in both(&format!("ws://{address}/admin/ws/websocket")).await {
        let reply = client.join("room:lobby", json!({})).await;
        assert_eq!(reply, json!({ "status": "ok", "response": {} }));
    }
}

#[tokio::test]
async fn w_02_join_events_and_leave() {
    for version in ["1.0.0", "2.0.0"] {
        let pubsub = PubSub::local();
        let mut subscription = pubsub.subscribe("room:lobby");
        let url = start(sockets(&pubsub)).await;
        let is_v1 = version == "1.0.0";
        let mut client = Client::connect(&format!("{url}?vsn={version}&name=ada"), is_v1).await;
        let join_ref = if is_v1 { Value::Null } else { json!("11") };
        join_and_talk(&mut client, &join_ref).await;
        leave_and_talk(&mut client, &join_ref).await;
        let events = [
            subscription.recv().await.unwrap(),
            subscription.recv().await.unwrap(),
        ];
        let events = events.map(|event| event.event.to_string());
        assert_eq!(events, ["user_entered", "new_msg"]);
        assert!(
            subscription.try_recv().is_none(),
            "the late message reaches nobody"
        );
    }
}

async fn join_and_talk(client: &mut Client, join_ref: &Value) {
    let room = "room:lobby";
    assert_eq!(client.join(room, json!({})).await["status"], "ok");
    let entered = client.next().await;
    assert_eq!(
        (entered.join_ref, entered.message_ref),
        (Value::Null, Value::Null)
    );
    assert_eq!(entered.event, "user_entered");
    assert_eq!(entered.payload, json!({ "user": null }));
    let joined = client.next().await;
    assert_eq!(
        (&joined.join_ref, joined.message_ref),
        (join_ref, Value::Null)
    );
    assert_eq!(
        joined.payload,
        json!({ "status": "connected", "name": "ada" })
    );

    client
        .send(("11", "2"), room, "new_msg", json!({ "body": "hi!" }))
        .await;
    assert_eq!(client.reply(("11", "2"), room).await["status"], "ok");
    let message = client.event(room, "new_msg").await;
    assert_eq!(message, json!({ "body": "hi!", "transport": "websocket" }));
}

async fn leave_and_talk(client: &mut Client, join_ref: &Value) {
    let room = "room:lobby";
    client.send(("11", "3"), room, "phx_leave", json!({})).await;
    assert_eq!(client.reply(("11", "3"), room).await["status"], "ok");
    let close = client.next().await;
    assert_eq!(
        (&close.join_ref, close.message_ref),
        (join_ref, json!("11"))
    );
    assert_eq!(
        (close.event.as_str(), close.payload),
        ("phx_close", json!({}))
    );
    assert_eq!(
        client.event(room, "you_left").await,
        json!({ "message": "bye!" })
    );

    client
        .send(("11", "4"), room, "new_msg", json!({ "body": "late" }))
        .await;
    let seen = client.next().await;
    assert_eq!((seen.join_ref, seen.message_ref), (Value::Null, json!("4")));
    let unmatched = json!({ "status": "error", "response": { "reason": "unmatched topic" } });
    assert_eq!(seen.payload, unmatched);
}

#[tokio::test]
async fn w_03_the_101st_join_is_refused() {
    let url = start(sockets(&PubSub::local())).await;
    for mut client in both(&url).await {
        for n in 1..=101 {
            let (refs, topic) = (("11", n.to_string()), format!("room:{n}"));
            let refs = (refs.0, refs.1.as_str());
            client
                .send(refs, &topic, "phx_join", json!({ "how": "plain" }))
                .await;
            let reply = client.reply(refs, &topic).await;
            if n <= 100 {
                assert_eq!(reply["status"], "ok", "{n}");
            } else {
                let reason = json!({ "reason": "too many channels joined, the limit is 100 (socket.max_channels)" });
                assert_eq!(reply, json!({ "status": "error", "response": reason }));
            }
        }
    }
}

#[tokio::test]
async fn w_04_the_limit_of_channels_is_configured_and_a_leave_frees_a_place() {
    let config = config(|config| config.max_channels = NonZero::new(1).unwrap());
    let url = start(sockets(&PubSub::local()).config(config)).await;
    for mut client in both(&url).await {
        client.join_plain("room:1").await;
        client
            .send(("12", "2"), "room:2", "phx_join", json!({}))
            .await;
        let reply = client.reply(("12", "2"), "room:2").await;
        let reason = "too many channels joined, the limit is 1 (socket.max_channels)";
        assert_eq!(reply["response"]["reason"], reason);
        client
            .send(("11", "3"), "room:1", "phx_leave", json!({}))
            .await;
        client.reply(("11", "3"), "room:1").await;
        client.event("room:1", "phx_close").await;
        client.event("room:1", "you_left").await;
        client.join_plain("room:2").await;
    }
}

#[tokio::test]
async fn w_13_a_connect_is_logged_with_transport_and_serializer() {
    let (log, _guard) = Log::start();
    let url = start(sockets(&PubSub::local())).await;
    let _client = Client::v2(&url).await;
    log.contains("socket connected").await;
    let text = log.text();
    let line = text
        .lines()
        .find(|line| line.contains("socket connected"))
        .unwrap();
    for part in ["websocket", "V2", "n_params"] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test]
async fn w_15_logs_hold_no_parameters_and_no_payloads() {
    let (log, _guard) = Log::start();
    let url = start(sockets(&PubSub::local())).await;
    let url = format!("{url}?vsn=2.0.0&password=hunter2");
    let mut client = Client::connect(&url, false).await;
    client
        .join("room:1", json!({ "password": "hunter2", "how": "plain" }))
        .await;
    client
        .send(
            ("11", "2"),
            "room:1",
            "echo",
            json!({ "password": "hunter2" }),
        )
        .await;
    client.reply(("11", "2"), "room:1").await;
    log.contains("joined").await;
    let ours = |line: &&str| line.contains("herenow") && line.contains("hunter2");
    assert_eq!(log.text().lines().find(ours), None);
}

#[tokio::test]
async fn w_16_a_panic_is_phx_error() {
    let url = start(sockets(&PubSub::local())).await;
    for mut client in both(&url).await {
        client.join_plain("room:lobby").await;
        client
            .send(("11", "2"), "room:lobby", "boom", json!({}))
            .await;
        client.event("room:lobby", "you_left").await;
        let payload = client.event("room:lobby", "phx_error").await;
        assert_eq!(payload, json!({ "reason": "channel_crash" }));
        client.join_plain("room:lobby").await;
    }
}

#[tokio::test]
async fn w_17_channels_end_with_closed_when_the_client_closes_or_vanishes() {
    let pubsub = PubSub::local();
    let url = start(sockets(&pubsub)).await;
    for is_polite in [true, false] {
        let mut ends = pubsub.subscribe("terminated");
        let mut client = Client::v2(&url).await;
        client.join_plain("room:lobby").await;
        if is_polite {
            client.stream.close(None).await.unwrap();
            assert_eq!(client.closed().await.0, 1000);
        }
        drop(client);
        let end = soon(ends.recv()).await.unwrap();
        let herenow_pubsub::Payload::Json(text) = &end.payload else {
            panic!("{end:?}")
        };
        let told: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(told, json!({ "topic": "room:lobby", "reason": "Closed" }));
    }
}

#[tokio::test]
async fn w_18_an_event_on_a_topic_that_is_not_joined_is_unmatched() {
    let url = start(sockets(&PubSub::local())).await;
    for mut client in both(&url).await {
        client
            .send(("11", "1"), "room:lobby", "new_msg", json!({}))
            .await;
        let seen = client.next().await;
        assert_eq!((seen.join_ref, seen.message_ref), (Value::Null, json!("1")));
        assert_eq!(seen.payload["response"]["reason"], "unmatched topic");
    }
}

#[tokio::test]
async fn w_20_a_connect_that_refuses_is_403() {
    let sockets =
        sockets(&PubSub::local()).connect(async |_: ConnectInfo| Err(ConnectRefused::forbidden()));
    let metrics = sockets.clone();
    let url = start(sockets).await;
    assert_eq!(refused(&format!("{url}?vsn=2.0.0")).await, 403);
    assert_eq!(metrics.metrics().refused_connects.value(), 1);
}

#[tokio::test]
async fn w_21_a_connect_that_refuses_may_answer_429() {
    let limited = async |_: ConnectInfo| {
        Err(ConnectRefused::response((
            ::http::StatusCode::TOO_MANY_REQUESTS,
            "slow down",
        )))
    };
    let url = start(sockets(&PubSub::local()).connect(limited)).await;
    assert_eq!(refused(&format!("{url}?vsn=2.0.0")).await, 429);
}

#[tokio::test]
async fn soc_20_a_connect_that_panics_is_500_and_harms_nobody() {
    let panicking = async |info: ConnectInfo| {
        assert_ne!(info.param("name"), Some("panic"), "as the test wants");
        Ok(Connected::anonymous())
    };
    let url = start(sockets(&PubSub::local()).connect(panicking)).await;
    assert_eq!(refused(&format!("{url}?vsn=2.0.0&name=panic")).await, 500);
    Client::v2(&url).await.join_plain("room:1").await;
}

#[tokio::test]
async fn w_22_disconnect_closes_the_socket_and_its_channels() {
    let pubsub = PubSub::local();
    let mut ends = pubsub.subscribe("terminated");
    let sockets = sockets(&pubsub);
    let handle = sockets.clone();
    let url = start(sockets).await;
    let mut client = Client::connect(&format!("{url}?vsn=2.0.0&id=users:1"), false).await;
    let mut other = Client::connect(&format!("{url}?vsn=2.0.0&id=users:2"), false).await;
    client.join_plain("room:1").await;
    client.join_plain("room:2").await;
    other.join_plain("room:1").await;
    handle.disconnect("users:1").unwrap();
    assert_eq!(client.closed().await.0, 1001);
    for topic in ["room:1", "room:2"] {
        let end = soon(ends.recv()).await.unwrap();
        let herenow_pubsub::Payload::Json(text) = &end.payload else {
            panic!("{end:?}")
        };
        let told: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(told, json!({ "topic": topic, "reason": "Disconnected" }));
    }
    other.assert_silent().await;
}

#[tokio::test]
async fn w_23_a_second_join_of_a_topic_is_accepted() {
    let url = start(sockets(&PubSub::local())).await;
    for mut client in both(&url).await {
        client.join_plain("room:lobby").await;
        client
            .send(
                ("12", "2"),
                "room:lobby",
                "phx_join",
                json!({ "how": "plain" }),
            )
            .await;
        assert_eq!(
            client.reply(("12", "2"), "room:lobby").await["status"],
            "ok"
        );
    }
}

#[tokio::test]
async fn w_24_an_unknown_version_is_403_and_logged() {
    let (log, _guard) = Log::start();
    let url = start(sockets(&PubSub::local())).await;
    assert_eq!(refused(&format!("{url}?vsn=123.1.1")).await, 403);
    log.contains("123.1.1").await;
}

#[tokio::test]
async fn w_25_heartbeats_are_answered_and_silence_closes() {
    let idle_timeout = Duration::from_secs(2);
    let config = config(|config| config.idle_timeout = idle_timeout);
    let sockets = sockets(&PubSub::local()).config(config);
    let metrics = sockets.clone();
    let url = start(sockets).await;
    for is_v1 in [true, false] {
        let mut client = match is_v1 {
            true => Client::v1(&url).await,
            false => Client::v2(&url).await,
        };
        let sent = std::time::Instant::now();
        client
            .send(("11", "1"), "phoenix", "heartbeat", json!({}))
            .await;
        let seen = client.next().await;
        assert_eq!((seen.join_ref, seen.message_ref), (Value::Null, json!("1")));
        assert_eq!(
            (seen.topic.as_str(), seen.event.as_str()),
            ("phoenix", "phx_reply")
        );
        assert_eq!(seen.payload, json!({ "status": "ok", "response": {} }));
        assert_eq!(client.closed().await, (1002, "idle timeout".to_owned()));
        // By the client's clock, which had begun before the server's.
        assert!(sent.elapsed() >= idle_timeout, "not before its time");
    }
    assert_eq!(metrics.metrics().idle_timeouts.value(), 2);
}

#[tokio::test]
async fn soc_21_every_frame_restarts_the_idle_time_out() {
    let idle_timeout = Duration::from_secs(2);
    let config = config(|config| config.idle_timeout = idle_timeout);
    let url = start(sockets(&PubSub::local()).config(config)).await;
    let mut client = Client::v2(&url).await;
    let started = std::time::Instant::now();
    while started.elapsed() < idle_timeout * 2 {
        client.send_message(Message::Ping("x".into())).await;
        assert!(matches!(client.next_message().await, Message::Pong(_)));
    }
    client.assert_silent().await;
}

#[tokio::test]
async fn w_26_a_join_without_a_route_is_unmatched_and_logged() {
    let (log, _guard) = Log::start();
    let url = start(sockets(&PubSub::local())).await;
    for mut client in both(&url).await {
        client
            .send(("11", "1"), "unmatched-topic", "phx_join", json!({}))
            .await;
        let seen = client.next().await;
        assert_eq!((seen.join_ref, seen.message_ref), (Value::Null, json!("1")));
        let unmatched = json!({ "status": "error", "response": { "reason": "unmatched topic" } });
        assert_eq!(seen.payload, unmatched);
    }
    log.contains("unmatched-topic").await;
}

#[tokio::test]
async fn w_27_refuse_crash_accept_and_close() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::v2(&url).await;
    client
        .send(
            ("11", "1"),
            "room:x",
            "phx_join",
            json!({ "how": "refuse" }),
        )
        .await;
    let reply = client.reply(("11", "1"), "room:x").await;
    assert_eq!(
        reply,
        json!({ "status": "error", "response": { "action": "ignore" } })
    );
    client
        .send(("12", "2"), "room:x", "phx_join", json!({ "how": "crash" }))
        .await;
    let reply = client.reply(("12", "2"), "room:x").await;
    assert_eq!(
        reply,
        json!({ "status": "error", "response": { "reason": "join crashed" } })
    );
    client
        .send(("13", "3"), "room:x", "phx_join", json!({ "how": "plain" }))
        .await;
    let reply = client.reply(("13", "3"), "room:x").await;
    assert_eq!(
        reply,
        json!({ "status": "ok", "response": { "action": "ok" } })
    );
    client.send(("13", "4"), "room:x", "stop", json!({})).await;
    let seen = client.next().await;
    assert_eq!(
        (seen.event.as_str(), seen.join_ref),
        ("phx_close", json!("13"))
    );
}

#[tokio::test]
async fn w_28_binary_both_ways() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::v2(&url).await;
    client.join_plain("room:lobby").await;
    let mut frame = vec![0, 2, 1, 10, 12];
    frame.extend_from_slice(b"112room:lobbybinary_event");
    frame.extend_from_slice(&[1, 2]);
    client.send_message(Message::binary(frame)).await;
    let mut reply = vec![1, 2, 1, 10, 2];
    reply.extend_from_slice(b"112room:lobbyok");
    reply.extend_from_slice(&[1, 2, 3, 4]);
    assert_eq!(client.next_message().await, Message::binary(reply));
    client
        .send(("11", "3"), "room:lobby", "push_binary", json!({}))
        .await;
    let mut push = vec![0, 2, 10, 5];
    push.extend_from_slice(b"11room:lobbybytes");
    push.extend_from_slice(&[0, 1]);
    assert_eq!(client.next_message().await, Message::binary(push));
}

#[tokio::test]
async fn w_29_a_plain_get_is_400_and_names_the_header() {
    let pubsub = PubSub::local();
    let app = Router::new().nest("/socket", sockets(&pubsub).into_router());
    let address = start_app(app).await;
    let mut http = Http::connect(address).await;
    let target = "/socket/websocket?vsn=2.0.0";
    let response = http.try_request("GET", target, &[], b"").await.unwrap();
    assert_eq!(response.status, 400);
    let text = String::from_utf8(response.body).unwrap();
    assert_eq!(text, "'connection' header must contain 'upgrade', got []");
    let response = http.try_request("POST", target, &[], b"").await.unwrap();
    assert_eq!((response.status, response.body.len()), (400, 0));
    let upgrade = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "12"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let response = http
        .try_request("GET", target, &upgrade, b"")
        .await
        .unwrap();
    let text = String::from_utf8(response.body).unwrap();
    assert_eq!(
        text,
        "'sec-websocket-version' header must contain '13', got [\"12\"]"
    );
}

/// The response's `sec-websocket-protocol` for an offer, or the status of a refusal.
async fn offer(url: &str, offered: Option<&str>) -> Result<Option<String>, u16> {
    let mut request = format!("{url}?vsn=2.0.0").into_client_request().unwrap();
    if let Some(offered) = offered {
        request
            .headers_mut()
            .insert("sec-websocket-protocol", offered.parse().unwrap());
    }
    match soon(tokio_tungstenite::connect_async(request)).await {
        Ok((_, response)) => {
            let chosen = response.headers().get("sec-websocket-protocol");
            Ok(chosen.map(|value| value.to_str().unwrap().to_owned()))
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err(response.status().as_u16())
        }
        // The client itself refuses a response without the protocol it offered.
        Err(tokio_tungstenite::tungstenite::Error::Protocol(_)) => Ok(None),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn x_24_without_configured_sub_protocols_anything_passes() {
    let url = start(sockets(&PubSub::local())).await;
    assert_eq!(offer(&url, Some("sip")).await, Ok(None));
    assert_eq!(offer(&url, None).await, Ok(None));
}

#[tokio::test]
async fn x_25_a_request_that_is_refused_already_stays_refused() {
    let config = config(|config| config.subprotocols = vec!["sip".into()]);
    let url = start(sockets(&PubSub::local()).config(config)).await;
    assert_eq!(refused(&format!("{url}?vsn=9.0.0")).await, 403);
}

#[tokio::test]
async fn x_26_the_first_configured_sub_protocol_that_is_offered_is_chosen() {
    let config = config(|config| config.subprotocols = vec!["sip".into(), "mqtt".into()]);
    let url = start(sockets(&PubSub::local()).config(config)).await;
    assert_eq!(offer(&url, Some("mqtt, sip")).await, Ok(Some("sip".into())));
}

#[tokio::test]
async fn x_27_a_sub_protocol_that_is_not_configured_is_403() {
    let config = config(|config| config.subprotocols = vec!["sip".into()]);
    let url = start(sockets(&PubSub::local()).config(config)).await;
    assert_eq!(offer(&url, Some("mqtt")).await, Err(403));
}

#[tokio::test]
async fn w_31_sub_protocols_sip_none_and_mqtt() {
    let config = config(|config| config.subprotocols = vec!["sip".into()]);
    let url = start(sockets(&PubSub::local()).config(config)).await;
    assert_eq!(offer(&url, Some("sip")).await, Ok(Some("sip".into())));
    assert_eq!(offer(&url, None).await, Ok(None));
    assert_eq!(offer(&url, Some("mqtt")).await, Err(403));
}

#[tokio::test]
async fn w_32_the_querys_parameters_reach_the_channel() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::connect(&format!("{url}?vsn=2.0.0&name=echo%20me"), false).await;
    client.join("room:1", json!({})).await;
    client.event("room:1", "user_entered").await;
    assert_eq!(client.event("room:1", "joined").await["name"], "echo me");
}

#[tokio::test]
async fn w_33_a_ping_leaves_the_connection_working() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::v2(&url).await;
    client.send_message(Message::Ping("".into())).await;
    assert_eq!(client.next_message().await, Message::Pong("".into()));
    client.join_plain("room:1").await;
}

#[tokio::test]
async fn w_34_a_push_from_another_task_arrives() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::v2(&url).await;
    client.join_plain("room:1").await;
    client.send(("11", "2"), "room:1", "later", json!({})).await;
    assert_eq!(
        client.event("room:1", "pushed").await,
        json!({ "later": true })
    );
}

#[tokio::test]
async fn w_35_the_websockets_path_is_configured() {
    let sockets = sockets(&PubSub::local()).websocket_path("/custom/{name}");
    let address = start_app(Router::new().nest("/socket", sockets.into_router())).await;
    let url = format!("ws://{address}/socket/custom/x?vsn=2.0.0");
    Client::connect(&url, false)
        .await
        .join_plain("room:1")
        .await;
    assert_eq!(
        refused(&format!("ws://{address}/socket/websocket?vsn=2.0.0")).await,
        404
    );
}

#[tokio::test]
async fn w_36_path_variables_join_the_querys_parameters() {
    let sockets = sockets(&PubSub::local());
    let app = Router::new().nest("/ws/{name}", sockets.into_router());
    let address = start_app(app).await;
    let url = format!("ws://{address}/ws/path/websocket?vsn=2.0.0&name=query");
    let mut client = Client::connect(&url, false).await;
    client.join("room:1", json!({})).await;
    client.event("room:1", "user_entered").await;
    assert_eq!(client.event("room:1", "joined").await["name"], "path");
}

#[tokio::test]
async fn w_37_pings_are_answered_with_their_payload() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::v2(&url).await;
    for payload in ["", "123"] {
        client.send_message(Message::Ping(payload.into())).await;
        assert_eq!(client.next_message().await, Message::Pong(payload.into()));
    }
    client.send_message(Message::Pong("unasked".into())).await;
    client.assert_silent().await;
}

#[tokio::test]
async fn w_38_both_ways_to_serve_behave_the_same() {
    let pubsub = PubSub::local();
    let app = Router::new().nest("/socket", sockets(&pubsub).into_router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = listener.local_addr().unwrap();
    tokio::spawn(herenow_channels::serve(
        listener,
        app.clone(),
        std::future::pending(),
    ));
    let axums = start_app(app).await;
    for address in [ours, axums] {
        let mut client = Client::v2(&format!("ws://{address}/socket/websocket")).await;
        client.join("room:1", json!({})).await;
        client.event("room:1", "user_entered").await;
        client.event("room:1", "joined").await;
        client.stream.close(None).await.unwrap();
        assert_eq!(client.closed().await.0, 1000);
    }
}

#[tokio::test]
async fn w_39_the_close_code_of_a_disconnect_is_1001() {
    let sockets = sockets(&PubSub::local());
    let handle = sockets.clone();
    let url = start(sockets).await;
    for (version, is_v1) in [("1.0.0", true), ("2.0.0", false)] {
        let mut client = Client::connect(&format!("{url}?vsn={version}&id=u"), is_v1).await;
        client.assert_silent().await;
        handle.disconnect("u").unwrap();
        assert_eq!(client.closed().await, (1001, "disconnected".into()));
    }
}

#[tokio::test]
async fn w_40_replies_to_heartbeats_never_carry_a_join_ref() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::v2(&url).await;
    client.join_plain("room:1").await;
    client
        .send(("11", "9"), "phoenix", "heartbeat", json!({}))
        .await;
    let seen = client.next().await;
    assert_eq!((seen.join_ref, seen.message_ref), (Value::Null, json!("9")));
}

#[tokio::test]
async fn x_02_a_message_is_read_from_its_keys_in_any_order() {
    let url = start(sockets(&PubSub::local())).await;
    let mut client = Client::v1(&url).await;
    let text = r#"{"payload":{},"more":1,"ref":"5","event":"heartbeat","topic":"phoenix"}"#;
    client.send_message(Message::text(text)).await;
    assert_eq!(client.next().await.message_ref, "5");
}

#[tokio::test]
async fn x_03_each_missing_key_closes_the_connection() {
    let url = start(sockets(&PubSub::local())).await;
    for missing in ["topic", "event", "payload", "ref"] {
        let mut client = Client::v1(&url).await;
        let mut message = json!({ "topic": "t", "event": "e", "payload": {}, "ref": "1" });
        message.as_object_mut().unwrap().remove(missing);
        client.send_json(&message).await;
        let (code, reason) = client.closed().await;
        assert_eq!(code, 1011);
        assert!(reason.contains(missing), "{reason}");
    }
}

#[tokio::test]
async fn x_07_a_disconnect_broadcast_stops_the_socket_with_1001() {
    let pubsub = PubSub::local();
    let url = start(sockets(&pubsub)).await;
    let mut client = Client::connect(&format!("{url}?vsn=2.0.0&id=users:1"), false).await;
    client.assert_silent().await;
    let any = herenow_pubsub::Payload::json(r#"{"any":"payload"}"#);
    pubsub.broadcast("users:1", "other", any.clone()).unwrap();
    client.assert_silent().await;
    pubsub.broadcast("users:1", "disconnect", any).unwrap();
    assert_eq!(client.closed().await.0, 1001);
    until(|| pubsub.n_subscribers("users:1") == 0).await;
}

#[tokio::test]
async fn x_33_broadcasts_of_every_kind_reach_a_subscription() {
    let pubsub = PubSub::local();
    let sockets = Sockets::new(&pubsub).channel("room:*", || Room);
    let mut subscription = sockets.pubsub().subscribe("topic");
    let other = pubsub.subscribe("elsewhere");
    let payload = || herenow_pubsub::Payload::json(r#"{"a":1}"#);
    sockets
        .broadcast("topic", "event", json!({ "a": 1 }))
        .unwrap();
    pubsub.broadcast("topic", "event", payload()).unwrap();
    pubsub
        .broadcast_from(other.id(), "topic", "event", payload())
        .unwrap();
    pubsub.local_broadcast("topic", "event", payload());
    pubsub.local_broadcast_from(other.id(), "topic", "event", payload());
    for _ in 0..5 {
        let broadcast = subscription.recv().await.unwrap();
        assert_eq!(
            (&*broadcast.topic, broadcast.event.as_str()),
            ("topic", "event")
        );
        let herenow_pubsub::Payload::Json(text) = &broadcast.payload else {
            panic!()
        };
        assert_eq!(&text[..], br#"{"a":1}"#);
    }
}
