//! Area JC: the life of a channel, with time standing still unless somebody waits for it.

#[path = "support/server.rs"]
mod server;

use herenow_client::{ChannelEvent, ClientConfig, ErrorReason, JoinError, Payload, PushError};
use server::{Server, join, json, millis, seconds};
use tokio::time::Instant;

const EMPTY: Payload = Payload::empty();

#[derive(serde::Serialize)]
struct Nothing {}

const EMPTY_OBJECT: Nothing = Nothing {};

fn no_heartbeat() -> ClientConfig {
    let mut config = ClientConfig::default();
    config.heartbeat = seconds(100_000);
    config
}

/// Reads the next event, which must be this.
macro_rules! assert_event {
    ($channel:expr, $pattern:pat) => {
        let event = $channel.next_event().await;
        assert!(matches!(event, Some($pattern)), "{event:?}");
    };
}

#[tokio::test(start_paused = true)]
async fn jc_02_a_join_carries_its_parameters() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let params = serde_json::json!({ "one": "two" });
    tokio::spawn(client.channel("room:a", &params).join());
    let message = peer.expect("phx_join").await;
    assert_eq!(message.payload, json(r#"{"one":"two"}"#));
}

#[tokio::test(start_paused = true)]
async fn jc_03_a_join_may_ask_for_its_parameters() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    tokio::spawn(
        client
            .channel_with("room:a", || json(r#"{"one":"two"}"#))
            .join(),
    );
    let message = peer.expect("phx_join").await;
    assert_eq!(message.payload, json(r#"{"one":"two"}"#));
}

#[tokio::test(start_paused = true)]
async fn jc_06_parameters_are_asked_for_at_every_join() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let count = std::sync::atomic::AtomicU32::new(0);
    let params = move || {
        let value = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Payload::serialize(&serde_json::json!({ "value": value })).unwrap()
    };
    let joining = tokio::spawn(client.channel_with("room:a", params).join());
    let first = peer.expect("phx_join").await;
    assert_eq!(first.payload, json(r#"{"value":0}"#));
    peer.reply(&first, "ok", EMPTY).await;
    let _channel = joining.await.unwrap().unwrap();
    peer.crash("1", "room:a").await;
    assert_eq!(
        peer.expect("phx_join").await.payload,
        json(r#"{"value":1}"#)
    );
}

#[tokio::test(start_paused = true)]
async fn jc_10_joining_sends_one_message_whose_ref_is_its_join_ref() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    tokio::spawn(client.channel("room:a", &EMPTY_OBJECT).join());
    let message = peer.expect("phx_join").await;
    assert_eq!(message.topic.as_str(), "room:a");
    assert_eq!(
        message.join_ref.unwrap().as_str(),
        message.message_ref.unwrap().as_str()
    );
    peer.expect_silence(seconds(9)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_11_a_join_may_have_its_own_time_out() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let start = Instant::now();
    let joining = client
        .channel("room:a", &EMPTY_OBJECT)
        .timeout(seconds(2))
        .join();
    let (joined, _) = tokio::join!(joining, peer.expect("phx_join"));
    let error = joined.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"joining "room:a" was not answered within 2s"#
    );
    assert_eq!(start.elapsed(), seconds(2));
}

#[tokio::test(start_paused = true)]
async fn jc_12_joining_a_topic_again_makes_the_older_channel_leave() {
    let (_server, client, mut peer, mut older) = Server::joined(no_heartbeat()).await;
    let joining = tokio::spawn(client.channel("room:a", &EMPTY_OBJECT).join());
    let leave = peer.expect("phx_leave").await;
    assert_eq!(leave.join_ref, Some("1".into()));
    peer.reply(&leave, "ok", EMPTY).await;
    peer.answer_join("room:a").await;
    let mut newer = joining.await.unwrap().unwrap();
    assert_event!(older, ChannelEvent::Closed);
    peer.broadcast("room:a", "hello", json("{}")).await;
    assert_event!(newer, ChannelEvent::Message { .. });
}

#[tokio::test(start_paused = true)]
async fn jc_14_a_join_that_is_not_answered_is_left() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let start = Instant::now();
    let joining = tokio::spawn(client.channel("room:a", &EMPTY_OBJECT).join());
    let join = peer.expect("phx_join").await;
    let leave = peer.expect("phx_leave").await;
    assert_eq!(
        (leave.join_ref, start.elapsed()),
        (join.join_ref, seconds(10))
    );
    assert!(matches!(
        joining.await.unwrap(),
        Err(JoinError::Timeout { .. })
    ));
    peer.expect_silence(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_15_a_join_without_a_connection_waits_for_one() {
    let (mut server, client, peer) = Server::connected(no_heartbeat()).await;
    server.refuse(9);
    peer.close(1001).await;
    let joining = tokio::spawn(
        client
            .channel("room:a", &EMPTY_OBJECT)
            .timeout(seconds(20))
            .join(),
    );
    let mut peer = server.accept().await;
    peer.answer_join("room:a").await;
    joining.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn jc_16_a_join_waits_for_a_connection_that_opens_slowly() {
    let (mut server, client, peer) = Server::connected(no_heartbeat()).await;
    server.delay(5000);
    peer.close(1001).await;
    let joining = tokio::spawn(client.channel("room:a", &EMPTY_OBJECT).join());
    let mut peer = server.accept().await;
    peer.answer_join("room:a").await;
    joining.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn jc_17_a_joined_channel_pushes_at_once() {
    let (_server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let start = Instant::now();
    let push = channel.push("hello", &EMPTY_OBJECT);
    let (reply, ()) = tokio::join!(push, async {
        let message = peer.expect("hello").await;
        peer.reply(&message, "ok", json(r#"{"n":7}"#)).await;
    });
    #[derive(serde::Deserialize)]
    struct Answer {
        n: u32,
    }
    assert_eq!(reply.unwrap().deserialize::<Answer>().unwrap().n, 7);
    assert_eq!(start.elapsed(), seconds(0));
}

#[tokio::test(start_paused = true)]
async fn jc_21_after_an_answer_the_joins_time_out_is_off() {
    let (_server, _client, mut peer, _channel) = Server::joined(no_heartbeat()).await;
    peer.expect_silence(seconds(20)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_22_the_response_of_the_join_is_kept() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let joining = tokio::spawn(client.channel("room:a", &EMPTY_OBJECT).join());
    let message = peer.expect("phx_join").await;
    peer.reply(&message, "ok", json(r#"{"hello":"you"}"#)).await;
    assert_eq!(
        *joining.await.unwrap().unwrap().response(),
        json(r#"{"hello":"you"}"#)
    );
}

#[tokio::test(start_paused = true)]
async fn jc_24_a_joined_channel_starts_its_pauses_anew() {
    let (_server, _client, mut peer, _channel) = Server::joined(no_heartbeat()).await;
    let mut join_ref = "1".to_owned();
    for _ in 0..3 {
        let start = Instant::now();
        peer.crash(&join_ref, "room:a").await;
        let message = peer.expect("phx_join").await;
        assert_eq!(start.elapsed(), seconds(1));
        peer.reply(&message, "ok", EMPTY).await;
        join_ref = message.join_ref.unwrap().as_str().to_owned();
    }
}

#[tokio::test(start_paused = true)]
async fn jc_25_pushes_that_waited_are_sent_in_order_when_it_is_joined() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::Crashed(_)));
    let sender = channel.sender();
    let pushes = async {
        tokio::join!(
            sender.push("a", &EMPTY_OBJECT),
            sender.push("b", &EMPTY_OBJECT)
        )
    };
    let (replies, ()) = tokio::join!(pushes, async {
        peer.answer_join("room:a").await;
        for event in ["a", "b"] {
            let message = peer.expect(event).await;
            assert_eq!(message.join_ref, Some("2".into()));
            peer.reply(&message, "ok", EMPTY).await;
        }
    });
    assert!(replies.0.unwrap().is_ok() && replies.1.unwrap().is_ok());
    assert_event!(channel, ChannelEvent::Rejoined(_));
}

#[tokio::test(start_paused = true)]
async fn jc_27_a_join_times_out_once() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let start = Instant::now();
    let (joined, _) = tokio::join!(
        client.channel("room:a", &EMPTY_OBJECT).join(),
        peer.expect("phx_join")
    );
    assert!(matches!(joined, Err(JoinError::Timeout { .. })));
    assert_eq!(start.elapsed(), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn jc_28_an_answer_after_the_time_out_is_ignored() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let joining = tokio::spawn(client.channel("room:a", &EMPTY_OBJECT).join());
    let message = peer.expect("phx_join").await;
    peer.expect("phx_leave").await;
    peer.reply(&message, "ok", EMPTY).await;
    assert!(joining.await.unwrap().is_err());
    peer.expect_silence(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_29_joining_again_is_tried_after_a_time_out() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    let start = Instant::now();
    peer.crash("1", "room:a").await;
    let mut times = Vec::new();
    for _ in 0..5 {
        peer.expect("phx_join").await;
        times.push(start.elapsed().as_secs());
        peer.expect("phx_leave").await;
    }
    // Pauses of 1, 2, 5, 10, 10 seconds; each try lasts 10 seconds.
    assert_eq!(times, [1, 13, 28, 48, 68]);
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::Crashed(_)));
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::JoinTimeout));
}

#[tokio::test(start_paused = true)]
async fn jc_30_a_refusal_told_twice_is_one_error_with_its_reason() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let joining = tokio::spawn(client.channel("room:a", &EMPTY_OBJECT).join());
    let message = peer.expect("phx_join").await;
    for _ in 0..2 {
        peer.reply(&message, "error", json(r#"{"reason":"unauthorized"}"#))
            .await;
    }
    let error = joining.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"joining "room:a" was refused: unauthorized"#
    );
    peer.expect_silence(seconds(60)).await;
    join(&client, &mut peer, "room:b").await;
}

#[tokio::test(start_paused = true)]
async fn jc_36_a_refused_rejoin_is_an_error_and_is_tried_again() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    let message = peer.expect("phx_join").await;
    let start = Instant::now();
    peer.reply(&message, "error", json(r#"{"reason":"no"}"#))
        .await;
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::Crashed(_)));
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::Refused(_)));
    peer.answer_join("room:a").await;
    assert_eq!(start.elapsed(), seconds(2));
    assert_event!(channel, ChannelEvent::Rejoined(_));
}

#[tokio::test(start_paused = true)]
async fn jc_37_pushes_go_on_waiting_when_a_rejoin_is_refused() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    assert_event!(channel, ChannelEvent::Errored(_));
    let sender = channel.sender();
    let push = tokio::spawn(async move { sender.push("late", &EMPTY_OBJECT).await });
    let message = peer.expect("phx_join").await;
    peer.reply(&message, "error", EMPTY).await;
    peer.answer_join("room:a").await;
    let message = peer.expect("late").await;
    peer.reply(&message, "ok", EMPTY).await;
    assert!(push.await.unwrap().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn jc_38_a_crash_is_told_with_what_the_server_says() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    let Some(ChannelEvent::Errored(ErrorReason::Crashed(payload))) = channel.next_event().await
    else {
        panic!("is told")
    };
    assert_eq!(payload, json(r#"{"reason":"channel_crash"}"#));
}

#[tokio::test(start_paused = true)]
async fn jc_39_a_crashed_channel_is_joined_again_after_a_second() {
    let (_server, _client, mut peer, _channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    peer.expect_silence(millis(999)).await;
    let message = peer.expect("phx_join").await;
    assert_eq!(message.join_ref, Some("2".into()));
    peer.expect_silence(seconds(9)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_40_a_leaving_channel_is_not_joined_again() {
    let (mut server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let leaving = tokio::spawn(channel.leave());
    peer.expect("phx_leave").await;
    peer.close(1001).await;
    leaving.await.unwrap();
    server.accept().await.expect_silence(seconds(30)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_41_a_closed_channel_is_not_joined_again() {
    let (mut server, _client, mut peer, _channel) = Server::joined(no_heartbeat()).await;
    peer.close_channel("1", "room:a").await;
    peer.close(1001).await;
    server.accept().await.expect_silence(seconds(30)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_43_a_channel_that_the_server_closes_is_closed() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.close_channel("1", "room:a").await;
    assert_event!(channel, ChannelEvent::Closed);
    let error = channel.push("late", &EMPTY_OBJECT).await.unwrap_err();
    assert!(matches!(error, PushError::Closed), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn jc_44_nothing_follows_a_close_by_the_server() {
    let (_server, _client, mut peer, _channel) = Server::joined(no_heartbeat()).await;
    peer.close_channel("1", "room:a").await;
    peer.expect_silence(seconds(30)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_45_a_close_is_told_once() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.close_channel("1", "room:a").await;
    peer.close_channel("1", "room:a").await;
    assert_event!(channel, ChannelEvent::Closed);
    assert_eq!(channel.next_event().await, None);
}

#[tokio::test(start_paused = true)]
async fn jc_57_a_push_while_joining_is_sent_after_the_answer() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    let message = peer.expect("phx_join").await;
    assert_event!(channel, ChannelEvent::Errored(_));
    let sender = channel.sender();
    tokio::spawn(async move { sender.push("hello", &EMPTY_OBJECT).await });
    peer.expect_silence(seconds(5)).await;
    peer.reply(&message, "ok", EMPTY).await;
    peer.expect("hello").await;
}

#[tokio::test(start_paused = true)]
async fn jc_58_a_push_that_timed_out_waiting_is_never_sent() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    assert_event!(channel, ChannelEvent::Errored(_));
    let push = channel.sender();
    let push = push.push_payload("late", EMPTY, seconds(5));
    let (pushed, message) = tokio::join!(push, async {
        let message = peer.expect("phx_join").await;
        peer.expect_silence(seconds(6)).await;
        message
    });
    assert!(matches!(pushed, Err(PushError::Timeout { .. })));
    peer.reply(&message, "ok", EMPTY).await;
    peer.expect_silence(seconds(30)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_59_a_push_that_is_not_answered_times_out() {
    let (_server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let start = Instant::now();
    let (pushed, _) = tokio::join!(channel.push("hello", &EMPTY_OBJECT), peer.expect("hello"));
    assert_eq!(
        pushed.unwrap_err().to_string(),
        r#""hello" was not answered within 10s"#
    );
    assert_eq!(start.elapsed(), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn jc_60_a_push_may_have_its_own_time_out() {
    let (_server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let (start, sender) = (Instant::now(), channel.sender());
    let push = sender.push_payload("hello", EMPTY, seconds(20));
    let (pushed, _) = tokio::join!(push, peer.expect("hello"));
    assert!(matches!(pushed, Err(PushError::Timeout { .. })));
    assert_eq!(start.elapsed(), seconds(20));
}

#[tokio::test(start_paused = true)]
async fn jc_61_an_answered_push_does_not_time_out() {
    let (_server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let (reply, ()) = tokio::join!(channel.push("hello", &EMPTY_OBJECT), async {
        let message = peer.expect("hello").await;
        peer.expect_silence(seconds(9)).await;
        peer.reply(&message, "error", json(r#"{"reason":"too late"}"#))
            .await;
    });
    let refusal = reply.unwrap().into_result().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        r#"the server answered "error": too late"#
    );
    peer.expect_silence(seconds(30)).await;
}

#[tokio::test(start_paused = true)]
async fn jc_63_pushes_that_waited_are_answered_each() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    assert_event!(channel, ChannelEvent::Errored(_));
    let pushes: Vec<_> = ["0", "1", "2"]
        .map(|event| {
            let sender = channel.sender();
            tokio::spawn(async move { sender.push(event, &EMPTY_OBJECT).await })
        })
        .into();
    peer.answer_join("room:a").await;
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(peer.receive().await);
    }
    for message in messages.iter().rev() {
        let response = Payload::serialize(message.event.as_str()).unwrap();
        peer.reply(message, "ok", response).await;
    }
    for (nth, push) in pushes.into_iter().enumerate() {
        let reply = push.await.unwrap().unwrap();
        assert_eq!(reply.deserialize::<String>().unwrap(), nth.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn jc_65_leaving_one_channel_keeps_the_other() {
    let (_server, client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let mut other = join(&client, &mut peer, "room:b").await;
    let ((), ()) = tokio::join!(channel.leave(), async {
        let message = peer.expect("phx_leave").await;
        peer.reply(&message, "ok", EMPTY).await;
        peer.close_channel("1", "room:a").await;
    });
    peer.broadcast("room:b", "hello", json("{}")).await;
    assert_event!(other, ChannelEvent::Message { .. });
}

#[tokio::test(start_paused = true)]
async fn jc_67_a_leaving_channel_takes_no_pushes() {
    let (_server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let sender = channel.sender();
    tokio::spawn(channel.leave());
    peer.expect("phx_leave").await;
    let error = sender.push("late", &EMPTY_OBJECT).await.unwrap_err();
    assert!(matches!(error, PushError::Closed), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn jc_68_a_leave_that_is_not_answered_is_over_at_its_time_out() {
    let (_server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let start = Instant::now();
    tokio::join!(channel.leave(), peer.expect("phx_leave"));
    assert_eq!(start.elapsed(), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn jc_69_a_leave_has_the_time_out_of_its_channel() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let joining = client
        .channel("room:a", &EMPTY_OBJECT)
        .timeout(seconds(3))
        .join();
    let (channel, ()) = tokio::join!(joining, peer.answer_join("room:a"));
    let start = Instant::now();
    tokio::join!(channel.unwrap().leave(), peer.expect("phx_leave"));
    assert_eq!(start.elapsed(), seconds(3));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_channel_leaves() {
    let (_server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    drop(channel);
    assert_eq!(peer.expect("phx_leave").await.join_ref, Some("1".into()));
}

#[tokio::test(start_paused = true)]
async fn a_join_that_nobody_waits_for_any_more_is_left() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let joining = tokio::spawn(client.channel("room:a", &EMPTY_OBJECT).join());
    let message = peer.expect("phx_join").await;
    joining.abort();
    assert!(joining.await.unwrap_err().is_cancelled());
    peer.reply(&message, "ok", EMPTY).await;
    peer.expect("phx_leave").await;
}

#[tokio::test(start_paused = true)]
async fn messages_of_an_earlier_join_are_dropped() {
    let (_server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    peer.answer_join("room:a").await;
    assert_event!(channel, ChannelEvent::Errored(_));
    assert_event!(channel, ChannelEvent::Rejoined(_));
    peer.close_channel("1", "room:a").await;
    peer.broadcast("room:a", "hello", json("{}")).await;
    assert_event!(channel, ChannelEvent::Message { .. });
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways() {
    let (_server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let (reply, ()) = tokio::join!(channel.push_binary("echo", &b"\x00\xff"[..]), async {
        let message = peer.expect("echo").await;
        let payload = message.payload.clone();
        peer.reply(&message, "ok", payload).await;
    });
    assert_eq!(
        reply.unwrap().response,
        Payload::Binary((&b"\x00\xff"[..]).into())
    );
}

#[tokio::test(start_paused = true)]
async fn events_that_are_not_read_are_counted() {
    let mut config = no_heartbeat();
    config.max_waiting_events = 2;
    let (_server, client, mut peer, mut channel) = Server::joined(config).await;
    for event in ["a", "b", "c", "d"] {
        peer.broadcast("room:a", event, json("{}")).await;
    }
    // An answered ping means that everything before it was taken in.
    let ping = tokio::spawn(async move { client.ping().await });
    let message = peer.expect("heartbeat").await;
    peer.reply(&message, "ok", EMPTY).await;
    assert!(ping.await.unwrap().is_some());
    assert_event!(channel, ChannelEvent::Message { .. });
    assert_event!(channel, ChannelEvent::Message { .. });
    peer.broadcast("room:a", "e", json("{}")).await;
    assert_event!(channel, ChannelEvent::Lagged { n_missed: 2 });
    assert_event!(channel, ChannelEvent::Message { .. });
}
