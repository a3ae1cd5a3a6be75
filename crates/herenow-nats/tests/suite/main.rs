//! The adapter against a real `nats-server`: what it shares with Redis', and what is NATS' own.
#![allow(clippy::unwrap_used)]

#[path = "../../../herenow-pubsub/tests/broker/mod.rs"]
mod broker;
mod engine;

use std::num::NonZeroUsize;

use broker::Broker;

/// The server is not held up either: what comes over the bound is dropped on this side.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pub_113_a_slow_receiver_holds_nobody_up() {
    let broker = Broker::started().await;
    let a = broker.node("a", |_| {}).await;
    let b = broker.node("b", |config| {
        config.inbox_messages = NonZeroUsize::new(16).unwrap()
    });
    let b = b.await;
    a.say_until_heard("before", &b).await;
    b.inbox.hold_up();
    for n in 0..1_000 {
        a.say(&format!("flood {n}"));
    }
    a.until("all sent", |stats| stats.n_sent >= 1_000).await;
    b.until("losses", |stats| stats.n_lost > 0).await;
    b.inbox.let_go();
    a.say_until_heard("after", &b).await;
    assert_eq!(b.stats().n_reconnects, 0);
    assert_eq!((a.stats().n_lost, a.stats().n_refused), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_115_the_limit_of_a_message_is_named() {
    let folder = broker::tls::folder("limit");
    let file = folder.join("server.conf");
    std::fs::write(&file, "max_payload: 65536\n").unwrap();
    let broker = Broker::started_with(&["--config", file.to_str().unwrap()]).await;
    let a = broker.node("a", |_| {}).await;
    a.is_bounded_to(65_536).await;
}
