//! How long-poll sessions live, wait and end.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/http.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod http;
#[path = "support/log.rs"]
mod log;
#[path = "support/longpoll.rs"]
mod longpoll;
#[path = "support/room.rs"]
mod room;

use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herenow_channels::{
    Channel, Connected, Joined, LongPollConfig, Outcome, Params, Refused, Socket, SocketConfig,
    Sockets,
};
use herenow_protocol::Payload as Received;
use herenow_pubsub::{Payload, PubSub, Subscription};
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::http::{DEADLINE, Http};
use self::log::Log;
use self::longpoll::LongPollClient;
use self::room::{WINDOW, short_window, sockets, start};

fn join() -> Value {
    json!(["1", "1", "room:lobby", "phx_join", {}])
}

/// Waits for a channel to terminate; returns why.
async fn terminated(subscription: &mut Subscription) -> String {
    let told = tokio::time::timeout(DEADLINE, subscription.recv())
        .await
        .unwrap()
        .unwrap();
    let Payload::Json(text) = &told.payload else {
        panic!("{told:?}")
    };
    let told: Value = serde_json::from_slice(text).unwrap();
    told["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn l_10_a_session_that_nobody_polls_ends() {
    let pubsub = PubSub::local();
    let mut ends = pubsub.subscribe("terminated");
    let mut client = LongPollClient::open(
        start(sockets(&pubsub).long_poll(short_window())).await,
        "2.0.0",
    )
    .await;
    // Before the last poll begins: the answer may take its time to get here.
    let last_poll = Instant::now();
    client.join(&join()).await;
    assert_eq!(terminated(&mut ends).await, "Inactive");
    assert!(
        last_poll.elapsed() >= WINDOW * 3 / 2,
        "{:?}",
        last_poll.elapsed()
    );
    assert_eq!(
        client
            .post(&json!([null, "2", "room:lobby", "new_msg", {}]))
            .await,
        410
    );
}

#[tokio::test]
async fn l_11_what_a_session_does_not_take_in_time_is_a_408() {
    let mut config = SocketConfig::default();
    config.max_channel_queue = NonZero::new(1).unwrap();
    let address = start(
        sockets(&PubSub::local())
            .config(config)
            .long_poll(short_window()),
    )
    .await;
    let mut client = LongPollClient::open(address, "2.0.0").await;
    client.join(&join()).await;
    let stuck = |n: u32| json!(["1", n.to_string(), "room:lobby", "stuck", {}]).to_string();
    let started = Instant::now();
    assert_eq!(
        client
            .post_batch(&[stuck(2), stuck(3), stuck(4), stuck(5)])
            .await,
        408
    );
    assert!(started.elapsed() >= WINDOW, "{:?}", started.elapsed());
}

#[tokio::test]
async fn l_18_a_disconnect_ends_the_session_and_its_channels() {
    let pubsub = PubSub::local();
    let mut ends = pubsub.subscribe("terminated");
    let sockets = sockets(&pubsub).connect(async |_| Ok(Connected::with_id("users:1")));
    let handle = sockets.clone();
    let mut client = LongPollClient::open(start(sockets).await, "2.0.0").await;
    client.join(&join()).await;
    let (log, _guard) = Log::start();
    let (answer, ()) = tokio::join!(client.poll(), async {
        log.contains("poll waits n_waiting=1").await;
        handle.disconnect("users:1").unwrap();
    });
    assert_eq!(answer, json!({ "status": 410 }));
    assert_eq!(terminated(&mut ends).await, "Disconnected");
    assert_eq!(
        client
            .post(&json!([null, "2", "phoenix", "heartbeat", {}]))
            .await,
        410
    );
    assert_eq!(client.poll().await["status"], 410);
}

#[tokio::test]
async fn l_27_a_message_from_elsewhere_ends_the_wait() {
    let pubsub = PubSub::local();
    let sockets = sockets(&pubsub);
    let mut client = LongPollClient::open(start(sockets).await, "2.0.0").await;
    client.join(&join()).await;
    let (log, _guard) = Log::start();
    let (received, ()) = tokio::join!(client.poll_messages(1), async {
        log.contains("poll waits n_waiting=1").await;
        let news = Payload::json(r#"{"a":1}"#);
        pubsub.broadcast("room:lobby", "news", news).unwrap();
    });
    assert_eq!(
        received,
        [json!([null, null, "room:lobby", "news", { "a": 1 }])]
    );
}

#[tokio::test]
async fn y_19_a_malformed_message_is_a_408_and_the_session_is_gone() {
    let pubsub = PubSub::local();
    let mut ends = pubsub.subscribe("terminated");
    // With the window that sessions have unless told otherwise, which is not waited for.
    let address = start(sockets(&pubsub)).await;
    for body in [&b"not json"[..], b"{}", b"[]", b"\xff", b""] {
        let mut client = LongPollClient::open(address, "2.0.0").await;
        client.join(&join()).await;
        let started = Instant::now();
        let answer = client.request("application/json", body).await;
        assert_eq!(answer.body, br#"{"status":408}"#);
        assert!(started.elapsed() < LongPollConfig::default().window / 2);
        assert_eq!(terminated(&mut ends).await, "ClientError");
        let old = client.token.clone();
        let answer = client.poll().await;
        assert_eq!(
            (&answer["status"], &answer["messages"]),
            (&json!(410), &json!([]))
        );
        assert_ne!(answer["token"].as_str().unwrap(), old);
    }
}

#[tokio::test]
async fn soc_134_of_two_polls_the_later_gets_the_message() {
    let pubsub = PubSub::local();
    let address = start(sockets(&pubsub).long_poll(short_window())).await;
    let mut client = LongPollClient::open(address, "2.0.0").await;
    client.join(&join()).await;
    let mut later = LongPollClient::connect(address, "2.0.0").await;
    client.token.clone_into(&mut later.token);
    let (log, _guard) = Log::start();
    let (earlier, later, ()) = tokio::join!(
        client.poll(),
        async {
            log.contains("poll waits n_waiting=1").await;
            later.poll().await
        },
        async {
            log.contains("poll waits n_waiting=2").await;
            pubsub
                .broadcast("room:lobby", "news", Payload::json("{}"))
                .unwrap();
        }
    );
    assert_eq!(earlier["status"], 204);
    assert_eq!(later["status"], 200);
}

#[tokio::test]
async fn soc_135_a_poll_whose_client_went_away_takes_no_message_with_it() {
    let pubsub = PubSub::local();
    let sockets = sockets(&pubsub);
    let address = start(sockets).await;
    let mut client = LongPollClient::open(address, "2.0.0").await;
    client.join(&join()).await;
    let mut gone = Http::connect(address).await;
    let head = format!(
        "GET /ws/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: a\r\nx-phoenix-longpoll-token: {}\r\n\r\n",
        client.token
    );
    let (log, _guard) = Log::start();
    gone.write(head.as_bytes()).await.unwrap();
    log.contains("poll waits n_waiting=1").await;
    drop(gone);
    let message = json!(["1", "2", "room:lobby", "new_msg", { "body": "kept" }]);
    assert_eq!(client.post(&message).await, 200);
    let received = client.poll_messages(2).await;
    assert_eq!(received[1][4]["body"], "kept");
}

#[tokio::test]
async fn soc_136_a_session_that_polls_too_slowly_for_what_it_gets_ends() {
    let pubsub = PubSub::local();
    let mut ends = pubsub.subscribe("terminated");
    let mut config = SocketConfig::default();
    config.max_queue_messages = NonZero::new(10).unwrap();
    let sockets = sockets(&pubsub).config(config);
    let handle = sockets.clone();
    let mut client = LongPollClient::open(start(sockets).await, "2.0.0").await;
    client.join(&join()).await;
    for _ in 0..11 {
        pubsub
            .broadcast("room:lobby", "news", Payload::json("{}"))
            .unwrap();
    }
    assert_eq!(terminated(&mut ends).await, "ClientError");
    assert_eq!(handle.metrics().slow_readers.value(), 1);
    assert_eq!(client.poll().await["status"], 410);
}

#[tokio::test]
async fn soc_137_a_body_that_does_not_end_is_given_up() {
    let mut config = LongPollConfig::default();
    config.body_timeout = Duration::from_millis(50);
    let address = start(sockets(&PubSub::local()).long_poll(config)).await;
    let client = LongPollClient::open(address, "2.0.0").await;
    let mut http = Http::connect(address).await;
    let head = format!(
        "POST /ws/longpoll?vsn=2.0.0&token={} HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n[",
        client.token
    );
    http.write(head.as_bytes()).await.unwrap();
    assert_eq!(http.read_response().await.unwrap().status, 400);
}

#[tokio::test]
async fn soc_141_a_message_over_the_limit_of_messages_ends_the_session() {
    let pubsub = PubSub::local();
    let mut ends = pubsub.subscribe("terminated");
    let mut config = SocketConfig::default();
    config.max_message_bytes = 200;
    let sockets = sockets(&pubsub).config(config);
    let mut client = LongPollClient::open(start(sockets).await, "2.0.0").await;
    client.join(&join()).await;
    let message = |len| json!(["1", "2", "room:lobby", "new_msg", { "body": "a".repeat(len) }]);
    assert_eq!(client.post(&message(100)).await, 200);
    assert_eq!(client.post(&message(200)).await, 408);
    assert_eq!(terminated(&mut ends).await, "ClientError");
    assert_eq!(client.poll().await["status"], 410);
}

#[tokio::test]
async fn soc_405_a_callback_that_never_ends_does_not_keep_a_session_that_is_over() {
    let mut config = SocketConfig::default();
    config.terminate_timeout = Duration::from_millis(50);
    config.close_timeout = Duration::from_millis(50);
    let sockets = sockets(&PubSub::local()).config(config);
    let handle = sockets.clone();
    let mut client = LongPollClient::open(start(sockets).await, "2.0.0").await;
    client.join(&join()).await;
    let stuck = json!(["1", "2", "room:lobby", "stuck", {}]);
    assert_eq!(client.post(&stuck).await, 200);
    handle.drain().await;
    assert_eq!(handle.metrics().connections.value(), 0);
}

#[tokio::test]
async fn soc_406_a_message_is_taken_as_soon_as_a_busy_channel_has_caught_up() {
    struct Gate(Arc<Notify>);
    impl Channel for Gate {
        async fn join(&mut self, _: &mut Socket, _: Params) -> Result<Joined, Refused> {
            Ok(Joined::empty())
        }
        async fn handle_in(&mut self, _: &mut Socket, event: &str, _: Received) -> Outcome {
            if event == "wait" {
                self.0.notified().await;
            }
            Outcome::ok(())
        }
    }
    let gate = Arc::new(Notify::new());
    let mut config = SocketConfig::default();
    config.max_channel_queue = NonZero::new(1).unwrap();
    let its_gate = gate.clone();
    let sockets = Sockets::new(&PubSub::local())
        .channel("room:*", move || Gate(its_gate.clone()))
        .config(config)
        .long_poll(LongPollConfig::default());
    let handle = sockets.clone();
    let mut client = LongPollClient::open(start(sockets).await, "2.0.0").await;
    assert_eq!(client.post(&join()).await, 200);
    let message = |n: u32, event| json!(["1", n.to_string(), "room:lobby", event, {}]).to_string();
    let batch = [message(2, "wait"), message(3, "go"), message(4, "go")];
    let (status, ()) = tokio::join!(client.post_batch(&batch), async {
        // The join, the one that waits, and the one behind it: there is no room for another.
        while handle.metrics().messages_in.value() < 3 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
    });
    assert_eq!(status, 200);
}
