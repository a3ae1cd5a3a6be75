//! Area JS: the life of a connection, with time standing still unless somebody waits for it.

#[path = "support/server.rs"]
mod server;

use herenow_client::{
    ChannelEvent, ClientConfig, ClientStatus, ErrorReason, Payload, PushError, Serializer,
    TokenSource,
};
use server::{Server, join, json, millis, seconds};
use tokio::time::Instant;

#[derive(serde::Serialize)]
struct Nothing {}

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

#[test]
fn js_01_defaults_are_those_of_the_javascript_client() {
    let config = ClientConfig::default();
    assert_eq!(config.serializer, Serializer::V2);
    assert_eq!(
        (config.timeout, config.heartbeat),
        (seconds(10), seconds(30))
    );
    assert!(config.params.is_empty() && config.auth_token.is_none());
}

#[test]
fn pauses_grow_and_then_stay() {
    let config = ClientConfig::default();
    let pauses: Vec<_> = (0..12)
        .map(|n| config.reconnect_after.pause(n).as_millis())
        .collect();
    assert_eq!(
        pauses,
        [
            10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000, 5000, 5000
        ]
    );
    let pauses: Vec<_> = (0..5)
        .map(|n| config.rejoin_after.pause(n).as_millis())
        .collect();
    assert_eq!(pauses, [1000, 2000, 5000, 10_000, 10_000]);
}

#[tokio::test(start_paused = true)]
async fn js_15_the_status_tells_of_the_connection() {
    let (mut server, client, peer) = Server::connected(no_heartbeat()).await;
    let mut status = client.watch_status();
    assert_eq!(client.status(), ClientStatus::Connected);
    peer.close(1001).await;
    status
        .wait_for(|status| *status == ClientStatus::Reconnecting)
        .await
        .unwrap();
    let peer = server.accept().await;
    status
        .wait_for(|status| *status == ClientStatus::Connected)
        .await
        .unwrap();
    peer.close(1000).await;
    status
        .wait_for(|status| *status == ClientStatus::Closed)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn js_17_a_new_connection_asks_for_the_token_anew() {
    let count = std::sync::atomic::AtomicU32::new(1);
    let mut config = no_heartbeat();
    config.auth_token = Some(TokenSource::new(move || {
        count
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst)
            .to_string()
    }));
    let (mut server, _client, peer) = Server::connected(config).await;
    assert_eq!(
        peer.protocols.as_deref(),
        Some("phoenix, base64url.bearer.phx.MQ")
    );
    peer.close(1001).await;
    let peer = server.accept().await;
    assert_eq!(
        peer.protocols.as_deref(),
        Some("phoenix, base64url.bearer.phx.Mg")
    );
}

#[tokio::test(start_paused = true)]
async fn js_21_a_disconnected_client_has_no_connection() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let ((), received) = tokio::join!(client.disconnect(), peer.try_receive());
    assert_eq!(received, None);
}

#[tokio::test(start_paused = true)]
async fn js_23_disconnecting_closes_with_1000() {
    let (_server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let ((), code) = tokio::join!(client.disconnect(), peer.receive_close());
    assert_eq!(code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn js_24_disconnecting_without_a_connection_is_safe() {
    let (server, client, peer) = Server::connected(no_heartbeat()).await;
    server.refuse(usize::MAX);
    let mut status = client.watch_status();
    peer.close(1001).await;
    status
        .wait_for(|status| *status == ClientStatus::Reconnecting)
        .await
        .unwrap();
    client.disconnect().await;
    assert_eq!(*status.borrow(), ClientStatus::Closed);
}

#[tokio::test(start_paused = true)]
async fn js_37_a_push_without_a_connection_waits_for_one() {
    let (mut server, _client, peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.close(1001).await;
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::ConnectionLost));
    let sender = channel.sender();
    tokio::spawn(async move { sender.push("hello", &Nothing {}).await });
    let mut peer = server.accept().await;
    peer.answer_join("room:a").await;
    peer.expect("hello").await;
}

#[tokio::test(start_paused = true)]
async fn js_38_refs_are_strings_that_count_up() {
    let (_server, client, mut peer, _channel) = Server::joined(no_heartbeat()).await;
    tokio::spawn(client.channel("room:b", &Nothing {}).join());
    let message = peer.expect("phx_join").await;
    assert_eq!(message.message_ref, Some("2".into()));
}

#[tokio::test(start_paused = true)]
async fn js_40_an_unanswered_heartbeat_ends_the_connection() {
    let (mut server, _client, mut peer) = Server::connected(ClientConfig::default()).await;
    let start = Instant::now();
    peer.expect("heartbeat").await;
    assert_eq!(start.elapsed(), seconds(30));
    assert_eq!(peer.receive_close().await, Some(1000));
    assert_eq!(start.elapsed(), seconds(60));
    server.accept().await;
}

#[tokio::test(start_paused = true)]
async fn an_answered_heartbeat_is_followed_by_the_next() {
    let (_server, _client, mut peer) = Server::connected(ClientConfig::default()).await;
    let start = Instant::now();
    for nth in 1..4 {
        let message = peer.expect("heartbeat").await;
        assert_eq!(
            (message.topic.as_str(), &message.join_ref),
            ("phoenix", &None)
        );
        assert_eq!(start.elapsed(), seconds(30 * nth));
        peer.reply(&message, "ok", Payload::empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn js_42_there_is_no_heartbeat_without_a_connection() {
    let (mut server, _client, peer) = Server::connected(ClientConfig::default()).await;
    server.delay(9000);
    server.refuse(8);
    peer.close(1001).await;
    let mut peer = server.accept().await;
    let start = Instant::now();
    peer.expect("heartbeat").await;
    assert_eq!(start.elapsed(), seconds(30));
}

#[tokio::test(start_paused = true)]
async fn js_45_a_new_connection_joins_every_channel_at_once() {
    let (mut server, client, mut peer, _a) = Server::joined(no_heartbeat()).await;
    let _b = join(&client, &mut peer, "room:b").await;
    peer.close(1001).await;
    let mut peer = server.accept().await;
    let start = Instant::now();
    peer.answer_join("room:a").await;
    peer.answer_join("room:b").await;
    assert_eq!(start.elapsed(), seconds(0));
}

#[tokio::test(start_paused = true)]
async fn js_46_an_open_connection_starts_the_pauses_anew() {
    let (mut server, _client, mut peer) = Server::connected(no_heartbeat()).await;
    for _ in 0..2 {
        server.refuse(3);
        let start = Instant::now();
        peer.close(1001).await;
        peer = server.accept().await;
        assert_eq!(start.elapsed(), millis(10 + 50 + 100 + 150));
    }
    assert_eq!(server.n_dials(), 1 + 4 + 4);
}

#[tokio::test(start_paused = true)]
async fn js_48_a_heartbeat_time_out_is_told_to_channels() {
    let (_server, _client, mut peer, mut channel) = Server::joined(ClientConfig::default()).await;
    peer.expect("heartbeat").await;
    assert_event!(
        channel,
        ChannelEvent::Errored(ErrorReason::HeartbeatTimeout)
    );
}

#[tokio::test(start_paused = true)]
async fn js_49_a_close_with_1000_is_final() {
    let (server, _client, peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.close(1000).await;
    assert_event!(channel, ChannelEvent::Closed);
    assert_eq!(channel.next_event().await, None);
    tokio::time::advance(seconds(60)).await;
    assert_eq!(server.n_dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn js_51_a_disconnected_client_does_not_connect_again() {
    let (server, client, mut peer) = Server::connected(no_heartbeat()).await;
    tokio::join!(client.disconnect(), peer.receive_close());
    tokio::time::advance(seconds(60)).await;
    assert_eq!(server.n_dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn js_55_a_joining_channel_is_told_of_the_loss() {
    let (mut server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.crash("1", "room:a").await;
    peer.expect("phx_join").await;
    peer.close(1001).await;
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::Crashed(_)));
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::ConnectionLost));
    server.accept().await.answer_join("room:a").await;
    assert_event!(channel, ChannelEvent::Rejoined(_));
}

#[tokio::test(start_paused = true)]
async fn js_56_a_joined_channel_is_told_of_the_loss_and_joined_again() {
    let (mut server, _client, peer, mut channel) = Server::joined(no_heartbeat()).await;
    peer.close(1001).await;
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::ConnectionLost));
    server.accept().await.answer_join("room:a").await;
    assert_event!(channel, ChannelEvent::Rejoined(_));
}

#[tokio::test(start_paused = true)]
async fn js_57_a_channel_that_was_left_is_not_told() {
    let (mut server, _client, mut peer, channel) = Server::joined(no_heartbeat()).await;
    let ((), ()) = tokio::join!(channel.leave(), async {
        let message = peer.expect("phx_leave").await;
        peer.reply(&message, "ok", Payload::empty()).await;
    });
    peer.close(1001).await;
    server.accept().await.expect_silence(seconds(30)).await;
}

#[tokio::test(start_paused = true)]
async fn js_58_a_disconnected_client_sends_no_heartbeat() {
    let (_server, client, mut peer) = Server::connected(ClientConfig::default()).await;
    let disconnecting = tokio::spawn(client.disconnect());
    assert_eq!(peer.try_receive().await, None);
    disconnecting.await.unwrap();
    tokio::time::advance(seconds(60)).await;
    assert_eq!(peer.try_receive().await, None);
}

#[tokio::test(start_paused = true)]
async fn js_63_a_connection_that_breaks_is_a_loss() {
    let (mut server, _client, mut peer, mut channel) = Server::joined(no_heartbeat()).await;
    let sender = channel.sender();
    let push = tokio::spawn(async move { sender.push("hello", &Nothing {}).await });
    peer.expect("hello").await;
    drop(peer);
    assert!(matches!(push.await.unwrap(), Err(PushError::Lost { .. })));
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::ConnectionLost));
    server.accept().await.answer_join("room:a").await;
    assert_event!(channel, ChannelEvent::Rejoined(_));
}

#[tokio::test(start_paused = true)]
async fn js_66_a_message_reaches_only_the_channel_of_its_topic() {
    let (_server, client, mut peer, mut a) = Server::joined(no_heartbeat()).await;
    let mut b = join(&client, &mut peer, "room:b").await;
    peer.broadcast("room:b", "to-b", json(r#"{"n":1}"#)).await;
    peer.broadcast("room:a", "to-a", json(r#"{"n":2}"#)).await;
    let message = |event: &str, payload| {
        Some(ChannelEvent::Message {
            event: event.to_owned(),
            payload: json(payload),
        })
    };
    assert_eq!(a.next_event().await, message("to-a", r#"{"n":2}"#));
    assert_eq!(b.next_event().await, message("to-b", r#"{"n":1}"#));
}

#[tokio::test(start_paused = true)]
async fn js_69_there_is_no_ping_without_a_connection() {
    let (server, client, mut peer) = Server::connected(no_heartbeat()).await;
    let (ping, ()) = tokio::join!(client.ping(), async {
        let message = peer.expect("heartbeat").await;
        tokio::time::advance(millis(100)).await;
        peer.reply(&message, "ok", Payload::empty()).await;
    });
    assert_eq!(ping, Some(millis(100)));
    server.refuse(usize::MAX);
    let mut status = client.watch_status();
    peer.close(1001).await;
    status
        .wait_for(|status| *status == ClientStatus::Reconnecting)
        .await
        .unwrap();
    assert_eq!(client.ping().await, None);
}

#[tokio::test(start_paused = true)]
async fn version_1_is_spoken_when_asked_for() {
    let mut config = no_heartbeat();
    config.serializer = Serializer::V1;
    let (_server, client, mut peer) = Server::connected(config).await;
    peer.serializer = Serializer::V1;
    let mut channel = join(&client, &mut peer, "room:a").await;
    peer.broadcast("room:a", "hello", json(r#"{"n":1}"#)).await;
    assert_event!(channel, ChannelEvent::Message { .. });
    peer.crash("1", "room:a").await;
    assert_event!(channel, ChannelEvent::Errored(ErrorReason::Crashed(_)));
}
