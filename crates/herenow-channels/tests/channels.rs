//! Area C: what channels do, without a network.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::sync::Arc;
use std::time::Duration;

use herenow_channels::testing::TestClient;
use herenow_channels::{
    Assigns, Broadcast, Channel, ConnectRefused, Connected, ConnectionHandle, Flow, Guard, Handle,
    Info, Joined, Json, Outcome, Params, Payload, Reason, RefError, Refused, Socket, SocketConfig,
    SocketRef, Sockets,
};
use herenow_pubsub::PubSub;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// What a channel's `terminate` was told, and other things that happened, in order.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

#[derive(Debug, Clone, PartialEq)]
struct User(&'static str);
#[derive(Debug, Clone, PartialEq)]
struct Plan(&'static str);

/// A channel that does what its messages say.
struct Room {
    log: Log,
    handles: mpsc::UnboundedSender<Handle>,
    refs: mpsc::UnboundedSender<SocketRef>,
}

impl Channel for Room {
    const INTERCEPT: &'static [&'static str] = &["stop_out", "marked"];

    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        match params.optional::<String>("how")?.as_deref() {
            Some("refuse") => return Err(Refused::reply(json!({ "reason": "mybad" }))),
            Some("panic") => panic!("as the test wants"),
            Some("nonsense") => return Ok(Joined::reply(Json(NotJson))),
            Some("ref") => {
                let error = socket.reply_later().unwrap_err();
                assert!(matches!(error, RefError::NotJoined));
                return Ok(Joined::reply(json!({ "error": error.to_string() })));
            }
            Some("subscribe") => socket.subscribe("other"),
            _ => {}
        }
        assert!(!socket.is_joined());
        self.handles.send(socket.handle()).unwrap();
        let user = socket.assigns().get::<User>().map(|user| user.0);
        let plan = socket.assigns().get::<Plan>().map(|plan| plan.0);
        Ok(Joined::reply(json!({
            "topic": socket.topic(), "id": socket.id(), "user": user, "plan": plan,
        })))
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        assert!(socket.is_joined());
        match event {
            "noreply" => {
                socket.push("noreply", payload).unwrap();
                Outcome::noreply()
            }
            "ok" => Outcome::ok(()),
            "echo" => Outcome::ok(payload),
            "async" => {
                self.refs.send(socket.reply_later().unwrap()).unwrap();
                Outcome::noreply()
            }
            "panic" => panic!("as the test wants"),
            "stop" => Outcome::stop(Reason::Normal),
            "shutdown" => Outcome::ok(()).and_stop(Reason::Shutdown(None)),
            "shutdown_with" => Outcome::ok(payload).and_stop(Reason::Shutdown(None)),
            "odd" => Outcome::stop(Reason::Other("odd".into())),
            "broadcast" => {
                socket.broadcast("said", payload).unwrap();
                Outcome::ok(())
            }
            "broadcast_from" => {
                socket.broadcast_from("said", payload).unwrap();
                Outcome::ok(())
            }
            "unserializable" => Outcome::ok(Json(NotJson)),
            "subscribed_id" => {
                socket.subscribe(socket.id().unwrap().to_owned().as_str());
                Outcome::ok(())
            }
            "wait" => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Outcome::ok(())
            }
            other => Outcome::error(json!({ "unknown": other })),
        }
    }

    async fn handle_out(&mut self, socket: &mut Socket, broadcast: Broadcast) -> Flow {
        if broadcast.event == "stop_out" {
            return Flow::Stop(Reason::Shutdown(None));
        }
        socket
            .push("marked", json!({ "marked_for": socket.topic() }))
            .unwrap();
        Flow::Continue
    }

    async fn handle_info(&mut self, socket: &mut Socket, info: Info) -> Flow {
        let info = match info.downcast::<Ask>() {
            Ok(Ask(answer)) => {
                answer.send("pong").unwrap();
                return Flow::Continue;
            }
            Err(info) => info,
        };
        match info.downcast::<&'static str>() {
            Ok("stop") => return Flow::Stop(Reason::Shutdown(None)),
            Ok("push") => socket.push("pushed", json!({ "by": "info" })).unwrap(),
            Ok("broadcast") => socket.broadcast("said", json!({ "by": "info" })).unwrap(),
            Ok("no ref") => {
                let error = socket.reply_later().unwrap_err();
                assert!(matches!(error, RefError::NoRef));
                socket
                    .push("error", json!({ "error": error.to_string() }))
                    .unwrap();
            }
            Ok("ping") => self.log.add("pong"),
            Ok(other) => panic!("unknown message {other}"),
            Err(Info::Broadcast(broadcast)) => {
                let from = &*broadcast.topic;
                socket
                    .push("heard", json!({ "from": from, "event": &*broadcast.event }))
                    .unwrap();
            }
            Err(info) => panic!("unknown info {info:?}"),
        }
        Flow::Continue
    }

    async fn terminate(&mut self, socket: &mut Socket, reason: &Reason) {
        self.log.add(format!("{} {reason:?}", socket.topic()));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.log.add("dropped");
    }
}

/// A call: a message with a way to answer.
struct Ask(oneshot::Sender<&'static str>);

struct NotJson;

impl serde::Serialize for NotJson {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("as the test wants"))
    }
}

struct Fixture {
    sockets: Sockets,
    pubsub: PubSub,
    log: Log,
    handles: mpsc::UnboundedReceiver<Handle>,
    refs: mpsc::UnboundedReceiver<SocketRef>,
}

impl Fixture {
    fn new() -> Self {
        Self::with_config(SocketConfig::default())
    }

    fn with_config(config: SocketConfig) -> Self {
        let pubsub = PubSub::local();
        let log = Log::default();
        let (handles_in, handles) = mpsc::unbounded_channel();
        let (refs_in, refs) = mpsc::unbounded_channel();
        let room_log = log.clone();
        let room = move || Room {
            log: room_log.clone(),
            handles: handles_in.clone(),
            refs: refs_in.clone(),
        };
        let sockets = Sockets::new(&pubsub)
            .config(config)
            .connect(|info| async move {
                match info.param("user") {
                    Some("nobody") => Err(ConnectRefused::forbidden()),
                    Some(user) => Ok(Connected::with_id(format!("users:{user}"))),
                    None => Ok(Connected::anonymous()),
                }
            })
            .channel("room:*", room.clone())
            .channel("plain:*", || Plain)
            .channel("hang:*", || Hang)
            .channel_with(
                "paid:*",
                Assigns::new().with(Plan("gold")).with(User("route")),
                room,
            );
        Self {
            sockets,
            pubsub,
            log,
            handles,
            refs,
        }
    }

    fn client(&self) -> TestClient {
        TestClient::open(
            &self.sockets,
            Connected::with_id("users:1").assign(User("ada")),
        )
    }

    async fn joined(&self) -> TestClient {
        let mut client = self.client();
        client.join("room:1", json!({})).await.unwrap();
        client
    }

    async fn handle(&mut self) -> Handle {
        self.handles.recv().await.unwrap()
    }
}

/// A channel with nothing but `join`.
struct Plain;

impl Channel for Plain {
    async fn join(&mut self, _: &mut Socket, _: Params) -> Result<Joined, Refused> {
        Ok(Joined::empty())
    }
}

/// A channel whose `terminate` never returns.
struct Hang;

impl Channel for Hang {
    async fn join(&mut self, _: &mut Socket, _: Params) -> Result<Joined, Refused> {
        Ok(Joined::empty())
    }

    async fn terminate(&mut self, _: &mut Socket, _: &Reason) {
        std::future::pending().await
    }
}

/// What ends a channel gracefully: `phx_close` with the join ref of the first join.
async fn assert_closed(client: &mut TestClient) {
    let message = client.next().await.unwrap();
    assert!(
        matches!(message, herenow_protocol::ServerMessage::Close { .. }),
        "{message:?}"
    );
}

async fn assert_crashed(client: &mut TestClient) {
    let message = client.next().await.unwrap();
    assert!(
        matches!(message, herenow_protocol::ServerMessage::Error { .. }),
        "{message:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn c_01_a_client_of_a_test_has_nothing_assigned() {
    let fixture = Fixture::new();
    let mut client = TestClient::open(&fixture.sockets, Connected::anonymous());
    let response = client.join("room:1", json!({})).await.unwrap();
    assert_eq!(
        response,
        json!({ "topic": "room:1", "id": null, "user": null, "plan": null })
    );
}

#[tokio::test(start_paused = true)]
async fn c_02_id_and_assigns_reach_the_channel() {
    let response = Fixture::new()
        .client()
        .join("room:1", json!({}))
        .await
        .unwrap();
    assert_eq!(response["id"], "users:1");
    assert_eq!(response["user"], "ada");
}

#[tokio::test(start_paused = true)]
async fn c_03_a_client_works_from_another_task() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let joined = tokio::spawn(async move { client.join("room:1", json!({})).await });
    assert_eq!(joined.await.unwrap().unwrap()["user"], "ada");
}

#[tokio::test(start_paused = true)]
async fn c_04_join_ok_has_topic_id_and_merged_assigns() {
    let response = Fixture::new()
        .client()
        .join("paid:1", json!({}))
        .await
        .unwrap();
    let expected = json!({ "topic": "paid:1", "id": "users:1", "user": "route", "plan": "gold" });
    assert_eq!(response, expected);
}

#[tokio::test(start_paused = true)]
async fn c_05_two_tasks_join_beside_each_other() {
    let fixture = Fixture::new();
    let (mut one, mut two) = (fixture.client(), fixture.client());
    let one = tokio::spawn(async move { one.join("room:1", json!({})).await });
    let two = tokio::spawn(async move { two.join("room:1", json!({})).await });
    assert!(one.await.unwrap().is_ok());
    assert!(two.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn c_06_a_refused_join_gives_its_payload_and_frees_the_topic() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    let refused = client.join("room:1", json!({ "how": "refuse" })).await;
    assert_eq!(refused, Err(json!({ "reason": "mybad" })));
    assert_eq!(fixture.pubsub.n_subscribers("room:1"), 0);
    assert_eq!(fixture.log.lines(), ["dropped"], "terminate is not called");
    let (status, response) = client.call("room:1", "ok", json!({})).await;
    assert_eq!(
        (status.as_str(), response),
        ("error", json!({ "reason": "unmatched topic" }))
    );
    client.join("room:1", json!({})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c_07_a_join_that_panics_or_answers_nonsense_is_join_crashed() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for how in ["panic", "nonsense"] {
        let refused = client.join("room:1", json!({ "how": how })).await;
        assert_eq!(refused, Err(json!({ "reason": "join crashed" })), "{how}");
    }
    client.join("room:1", json!({})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c_08_noreply_sends_the_push_and_no_reply() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    client
        .push("room:1", "noreply", json!({ "req": "foo" }))
        .await;
    assert_eq!(
        client.event("room:1", "noreply").await,
        json!({ "req": "foo" })
    );
    client.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn c_09_replies_without_and_with_payload() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    let (status, response) = client.call("room:1", "ok", json!({})).await;
    assert_eq!((status.as_str(), response), ("ok", json!({})));
    let (status, response) = client
        .call("room:1", "echo", json!({ "resp": "foo" }))
        .await;
    assert_eq!(
        (status.as_str(), response),
        ("ok", json!({ "resp": "foo" }))
    );
    client.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn c_10_nested_lists_survive() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    let nested = json!({ "list": [[1, [2, "three"]], [], [{ "four": [null] }]] });
    assert_eq!(
        client.call("room:1", "echo", nested.clone()).await.1,
        nested
    );
}

#[tokio::test(start_paused = true)]
async fn c_11_a_reply_from_another_task_through_a_socket_ref() {
    let mut fixture = Fixture::new();
    let mut client = fixture.joined().await;
    let message_ref = client.push("room:1", "async", json!({})).await;
    let socket_ref = fixture.refs.recv().await.unwrap();
    client.assert_silent().await;
    tokio::spawn(async move { socket_ref.reply("ok", json!({ "async": true })) });
    let (status, response) = client.reply(&message_ref).await;
    assert_eq!(
        (status.as_str(), response),
        ("ok", json!({ "async": true }))
    );
}

#[tokio::test(start_paused = true)]
async fn c_12_a_panic_in_handle_in_terminates_and_announces_no_close() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    client.push("room:1", "panic", json!({})).await;
    assert_crashed(&mut client).await;
    assert_eq!(fixture.log.lines(), ["room:1 Crashed", "dropped"]);
    client.assert_silent().await;
    assert_eq!(fixture.sockets.metrics().crashes.value(), 1);
    client.join("room:1", json!({})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c_13_stop_normal_announces_the_close_and_later_messages_do_no_harm() {
    let mut fixture = Fixture::new();
    let mut client = fixture.joined().await;
    client.push("room:1", "stop", json!({})).await;
    assert_closed(&mut client).await;
    assert_eq!(fixture.log.lines(), ["room:1 Normal", "dropped"]);
    assert_eq!(client.call("room:1", "ok", json!({})).await.0, "error");
    fixture.handle().await.send("push").unwrap();
    client.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn c_14_stop_with_a_reply_replies_first() {
    for (event, expected) in [
        ("shutdown", json!({})),
        ("shutdown_with", json!({ "x": 1 })),
    ] {
        let fixture = Fixture::new();
        let mut client = fixture.joined().await;
        let message_ref = client.push("room:1", event, json!({ "x": 1 })).await;
        let first = client.next().await.unwrap();
        let herenow_protocol::ServerMessage::Reply {
            message_ref: to,
            response,
            ..
        } = first
        else {
            panic!("{first:?}");
        };
        assert_eq!(to, Some(message_ref));
        assert_eq!(response.deserialize::<Value>().unwrap(), expected);
        assert_closed(&mut client).await;
        assert_eq!(fixture.log.lines(), ["room:1 Shutdown(None)", "dropped"]);
    }
}

#[tokio::test(start_paused = true)]
async fn c_15_broadcast_from_reaches_other_subscribers() {
    let fixture = Fixture::new();
    let (mut one, mut two) = (fixture.joined().await, fixture.joined().await);
    let mut subscription = fixture.pubsub.subscribe("room:1");
    one.call("room:1", "broadcast_from", json!({ "text": "hi" }))
        .await;
    assert_eq!(two.event("room:1", "said").await, json!({ "text": "hi" }));
    assert_eq!(&*subscription.recv().await.unwrap().event, "said");
    one.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn c_16_connect_is_asked_and_two_topics_join_on_one_socket() {
    let fixture = Fixture::new();
    assert!(
        TestClient::connect(&fixture.sockets, "user=nobody")
            .await
            .is_err()
    );
    let mut client = TestClient::connect(&fixture.sockets, "user=7")
        .await
        .unwrap();
    let one = client.join("room:1", json!({})).await.unwrap();
    let two = client.join("room:2", json!({})).await.unwrap();
    assert_eq!(
        (&one["id"], &two["id"]),
        (&json!("users:7"), &json!("users:7"))
    );
    assert_eq!(fixture.sockets.metrics().channels.value(), 2);
}

#[tokio::test(start_paused = true)]
async fn c_17_connect_works_from_another_task() {
    let fixture = Fixture::new();
    let sockets = fixture.sockets.clone();
    let connected = tokio::spawn(async move { TestClient::connect(&sockets, "user=7").await });
    let mut client = connected.await.unwrap().unwrap();
    assert_eq!(
        client.join("room:1", json!({})).await.unwrap()["id"],
        "users:7"
    );
}

#[tokio::test(start_paused = true)]
async fn c_21_a_broadcast_that_is_not_intercepted_is_pushed() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    fixture
        .sockets
        .broadcast("room:1", "said", json!({ "foo": "bar" }))
        .unwrap();
    assert_eq!(
        client.event("room:1", "said").await,
        json!({ "foo": "bar" })
    );
}

#[tokio::test(start_paused = true)]
async fn c_22_an_intercepted_broadcast_may_stop_the_channel() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    fixture
        .sockets
        .broadcast("room:1", "marked", json!({}))
        .unwrap();
    assert_eq!(
        client.event("room:1", "marked").await,
        json!({ "marked_for": "room:1" })
    );
    fixture
        .sockets
        .broadcast("room:1", "stop_out", json!({}))
        .unwrap();
    assert_closed(&mut client).await;
    assert_eq!(fixture.log.lines(), ["room:1 Shutdown(None)", "dropped"]);
}

#[tokio::test(start_paused = true)]
async fn c_23_an_info_may_stop_the_channel() {
    let mut fixture = Fixture::new();
    let mut client = fixture.joined().await;
    fixture.handle().await.send("stop").unwrap();
    assert_closed(&mut client).await;
    assert_eq!(fixture.log.lines(), ["room:1 Shutdown(None)", "dropped"]);
}

#[tokio::test(start_paused = true)]
async fn c_24_an_info_may_push() {
    let mut fixture = Fixture::new();
    let mut client = fixture.joined().await;
    fixture.handle().await.send("push").unwrap();
    assert_eq!(
        client.event("room:1", "pushed").await,
        json!({ "by": "info" })
    );
}

#[tokio::test(start_paused = true)]
async fn c_25_an_info_may_broadcast() {
    let mut fixture = Fixture::new();
    let mut client = fixture.joined().await;
    fixture.handle().await.send("broadcast").unwrap();
    assert_eq!(
        client.event("room:1", "said").await,
        json!({ "by": "info" })
    );
}

#[tokio::test(start_paused = true)]
async fn c_26_a_call_is_answered() {
    let mut fixture = Fixture::new();
    let _client = fixture.joined().await;
    let (ask, answer) = oneshot::channel();
    fixture.handle().await.send(Ask(ask)).unwrap();
    assert_eq!(answer.await.unwrap(), "pong");
}

#[tokio::test(start_paused = true)]
async fn c_27_a_cast_is_handled() {
    let mut fixture = Fixture::new();
    let mut client = fixture.joined().await;
    fixture.handle().await.send("ping").unwrap();
    client.call("room:1", "ok", json!({})).await;
    client.assert_silent().await;
    assert_eq!(fixture.log.lines(), ["pong"]);
}

#[tokio::test(start_paused = true)]
async fn c_28_leave_replies_closes_and_terminates_and_again_is_harmless() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    assert_eq!(client.leave("room:1").await, "ok");
    assert_closed(&mut client).await;
    assert_eq!(fixture.log.lines(), ["room:1 Left", "dropped"]);
    assert_eq!(client.leave("room:1").await, "ok");
    client.assert_silent().await;
    assert_eq!(fixture.pubsub.n_subscribers("room:1"), 0);
    assert_eq!(fixture.sockets.metrics().channels.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn c_29_a_client_that_goes_away_terminates_its_channels() {
    let fixture = Fixture::new();
    let client = fixture.joined().await;
    client.close().await;
    assert_eq!(fixture.log.lines(), ["room:1 Closed", "dropped"]);
    assert_eq!(fixture.sockets.metrics().connections.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn c_30_a_terminate_that_hangs_is_cut_off() {
    let mut config = SocketConfig::default();
    config.terminate_timeout = Duration::from_millis(1);
    let fixture = Fixture::with_config(config);
    let mut client = fixture.client();
    client.join("hang:1", json!({})).await.unwrap();
    client.close().await;
    assert_eq!(fixture.sockets.metrics().channels.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn c_33_a_broadcast_of_another_topic_reaches_handle_info() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client
        .join("room:1", json!({ "how": "subscribe" }))
        .await
        .unwrap();
    fixture
        .sockets
        .broadcast("other", "said", json!({}))
        .unwrap();
    let heard = client.event("room:1", "heard").await;
    assert_eq!(heard, json!({ "from": "other", "event": "said" }));
    client.leave("room:1").await;
    assert_eq!(fixture.pubsub.n_subscribers("other"), 0);
}

#[tokio::test(start_paused = true)]
async fn c_34_an_info_without_a_handler_leaves_the_channel_alive() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.join("plain:1", json!({})).await.unwrap();
    client.push("plain:1", "unknown", json!({})).await;
    client.assert_silent().await;
    assert_eq!(client.leave("plain:1").await, "ok");
}

#[tokio::test(start_paused = true)]
async fn c_35_a_channel_may_subscribe_to_the_sockets_id() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    let mut subscription = fixture.pubsub.subscribe("users:1");
    client.call("room:1", "subscribed_id", json!({})).await;
    fixture.sockets.disconnect("users:1").unwrap();
    assert_eq!(&*subscription.recv().await.unwrap().event, "disconnect");
    assert_eq!(client.closed().await, Reason::Disconnected);
    assert_eq!(fixture.log.lines(), ["room:1 Disconnected", "dropped"]);
}

#[tokio::test(start_paused = true)]
async fn c_36_the_routes_assigns_are_there_after_the_join() {
    let response = Fixture::new()
        .client()
        .join("paid:1", json!({}))
        .await
        .unwrap();
    assert_eq!(response["plan"], "gold");
}

#[tokio::test(start_paused = true)]
async fn c_38_broadcast_from_skips_the_own_channel_and_broadcast_does_not() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    client
        .call("room:1", "broadcast_from", json!({ "n": 1 }))
        .await;
    client.call("room:1", "broadcast", json!({ "n": 2 })).await;
    assert_eq!(client.event("room:1", "said").await, json!({ "n": 2 }));
    client.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn c_39_broadcasts_of_another_channel_reach_this_one() {
    let fixture = Fixture::new();
    let (mut one, mut two) = (fixture.joined().await, fixture.joined().await);
    for (n, event) in ["broadcast", "broadcast_from"].into_iter().enumerate() {
        one.call("room:1", event, json!({ "n": n })).await;
        assert_eq!(two.event("room:1", "said").await, json!({ "n": n }));
    }
}

#[tokio::test(start_paused = true)]
async fn c_40_push_reaches_only_its_client() {
    let mut fixture = Fixture::new();
    let (mut one, mut two) = (fixture.joined().await, fixture.joined().await);
    fixture
        .handle()
        .await
        .push("event", json!({ "a": 1 }))
        .unwrap();
    let message = one.next().await.unwrap();
    let herenow_protocol::ServerMessage::Push {
        join_ref,
        topic,
        event,
        ..
    } = message
    else {
        panic!("{message:?}");
    };
    assert_eq!(join_ref, Some("1".into()));
    assert_eq!((topic.as_str(), event.as_str()), ("room:1", "event"));
    two.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn c_41_a_reply_through_a_socket_ref_has_its_topic_and_refs() {
    let mut fixture = Fixture::new();
    let mut client = fixture.joined().await;
    let message_ref = client.push("room:1", "async", json!({})).await;
    let socket_ref = fixture.refs.recv().await.unwrap();
    for n in [1, 2] {
        socket_ref.reply("ok", json!({ "n": n })).unwrap();
        let message = client.next().await.unwrap();
        let herenow_protocol::ServerMessage::Reply {
            join_ref,
            message_ref: to,
            topic,
            ..
        } = message
        else {
            panic!("{message:?}");
        };
        assert_eq!(
            (join_ref, to),
            (Some("1".into()), Some(message_ref.clone()))
        );
        assert_eq!(topic.as_str(), "room:1");
    }
}

#[tokio::test(start_paused = true)]
async fn c_42_a_reply_of_a_status_only_has_an_empty_payload() {
    let mut fixture = Fixture::new();
    let mut client = fixture.joined().await;
    let message_ref = client.push("room:1", "async", json!({})).await;
    fixture
        .refs
        .recv()
        .await
        .unwrap()
        .reply("done", ())
        .unwrap();
    let (status, response) = client.reply(&message_ref).await;
    assert_eq!((status.as_str(), response), ("done", json!({})));
}

#[tokio::test(start_paused = true)]
async fn c_43_a_socket_ref_needs_a_joined_socket_and_a_ref() {
    let mut fixture = Fixture::new();
    let mut client = fixture.client();
    let response = client
        .join("room:1", json!({ "how": "ref" }))
        .await
        .unwrap();
    assert!(
        response["error"].as_str().unwrap().contains("joined"),
        "{response}"
    );
    client.join("room:2", json!({})).await.unwrap();
    fixture.handle().await.send("no ref").unwrap();
    let error = client.event("room:2", "error").await;
    assert!(error["error"].as_str().unwrap().contains("ref"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn soc_05_a_slow_callback_stops_neither_heartbeats_nor_other_channels() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    client.join("room:2", json!({})).await.unwrap();
    let slow = client.push("room:1", "wait", json!({})).await;
    let queued = client.push("room:1", "ok", json!({})).await;
    let started = tokio::time::Instant::now();
    assert_eq!(client.call("phoenix", "heartbeat", json!({})).await.0, "ok");
    assert_eq!(client.call("room:2", "ok", json!({})).await.0, "ok");
    assert_eq!(started.elapsed(), Duration::ZERO);
    client.reply(&slow).await;
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    client.reply(&queued).await;
}

#[tokio::test(start_paused = true)]
async fn soc_06_a_reply_that_does_not_serialize_crashes_the_channel() {
    let fixture = Fixture::new();
    let mut client = fixture.joined().await;
    client.push("room:1", "unserializable", json!({})).await;
    assert_crashed(&mut client).await;
    assert_eq!(fixture.log.lines(), ["room:1 Crashed", "dropped"]);
}

/// Gives the test the way to its connection.
#[derive(Debug, Default)]
struct Opened(Mutex<ConnectionHandle>);

impl Guard for Opened {
    fn opened(&self, connection: ConnectionHandle) {
        *self.0.lock() = connection;
    }
}

impl Opened {
    fn tell_channels(&self, message: &'static str) {
        let connection = self.0.lock().clone();
        connection.tell_channels(message);
    }
}

#[tokio::test(start_paused = true)]
async fn soc_725_all_channels_of_a_connection_are_told_and_one_too_many_closes_it() {
    let mut config = SocketConfig::default();
    config.max_infos = std::num::NonZero::new(2).unwrap();
    let fixture = Fixture::with_config(config);
    let opened = Arc::new(Opened::default());
    let connected = Connected::anonymous().guarded_by(opened.clone());
    let mut client = TestClient::open(&fixture.sockets, connected);
    for topic in ["room:1", "room:2"] {
        client.join(topic, json!({})).await.unwrap();
    }
    // A busy channel is told when it has time.
    let waits = client.push("room:2", "wait", json!({})).await;
    opened.tell_channels("push");
    opened.tell_channels("push");
    for topic in ["room:1", "room:1", "room:2", "room:2"] {
        assert_eq!(client.event(topic, "pushed").await, json!({ "by": "info" }));
    }
    client.reply(&waits).await;
    client.assert_silent().await;
    for _ in 0..3 {
        opened.tell_channels("push");
    }
    let reason = client.closed().await;
    assert!(matches!(reason, Reason::ClientError), "{reason:?}");
    opened.tell_channels("push"); // It is gone, and nobody is told.
}

#[tokio::test(start_paused = true)]
async fn soc_07_infos_over_the_limit_are_refused_with_it() {
    let mut config = SocketConfig::default();
    config.max_infos = std::num::NonZero::new(2).unwrap();
    let mut fixture = Fixture::with_config(config);
    let mut client = fixture.joined().await;
    let handle = fixture.handle().await;
    handle.send("push").unwrap();
    handle.send("push").unwrap();
    let error = handle.send("push").unwrap_err().to_string();
    assert!(error.starts_with("2 messages wait"), "{error}");
    client.event("room:1", "pushed").await;
    client.event("room:1", "pushed").await;
    client.assert_silent().await;
    handle.send("push").unwrap();
    client.event("room:1", "pushed").await;
    client.close().await;
    assert_eq!(
        handle.send("push").unwrap_err().to_string(),
        "the channel has ended"
    );
}
