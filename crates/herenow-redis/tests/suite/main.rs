//! The adapter against a real `redis-server`: what it shares with NATS', and what is Redis' own.
#![allow(clippy::unwrap_used)]

#[path = "../../../herenow-pubsub/tests/broker/mod.rs"]
mod broker;
mod engine;

use std::num::NonZeroUsize;

use broker::Broker;

/// The server ends the connection of who does not read; that node comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pub_113_a_slow_receiver_holds_nobody_up() {
    let limit = "pubsub 1mb 512kb 1";
    let broker = Broker::started_with(&["--client-output-buffer-limit", limit]).await;
    let a = broker.node("a", |_| {}).await;
    let b = broker.node("b", |_| {}).await;
    a.say_until_heard("before", &b).await;
    b.inbox.hold_up();
    // More than the system's own buffers take.
    let large = "x".repeat(100_000);
    for _ in 0..400 {
        a.say(&large);
    }
    a.until("all sent", |stats| stats.n_sent >= 400).await;
    b.inbox.let_go();
    b.until("a new connection", |stats| stats.n_reconnects >= 1)
        .await;
    a.say_until_heard("after", &b).await;
    assert_eq!((a.stats().n_lost, a.stats().n_refused), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_115_the_limit_of_a_message_is_named() {
    let broker = Broker::started().await;
    let limit = NonZeroUsize::new(65_536).unwrap();
    let a = broker
        .node("a", |config| config.max_message_bytes = limit)
        .await;
    a.is_bounded_to(65_536).await;
}
