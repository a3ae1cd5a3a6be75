//! What goes wrong with a broker, and what the adapter makes of it.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use herenow_pubsub::broker::{ConnectError, Credentials, Identity, Tls};
use herenow_pubsub::{Adapter, AdapterError};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::tls::{authority, folder};
use super::{Broker, DEADLINE};
use crate::engine::{self, BrokerAdapter, SCHEME, USER};

#[tokio::test(flavor = "multi_thread")]
async fn pub_110_a_killed_broker_is_found_again() {
    let broker = Broker::started().await;
    let small = NonZeroUsize::new(100).unwrap();
    let a = broker
        .node("a", |config| config.queue_messages = small)
        .await;
    let b = broker.node("b", |_| {}).await;
    a.say_until_heard("before", &b).await;
    a.until("nothing waits", |stats| stats.n_queued == 0).await;
    broker.kill().await;
    a.until("the loss", |stats| !stats.is_connected).await;
    let n_refused = a.stats().n_refused;
    for n in 0..1_000 {
        let _ = a
            .adapter
            .broadcast("s", Bytes::from(format!("meanwhile {n}")));
    }
    assert_eq!(a.stats().n_queued, 100, "as many as may wait");
    assert_eq!(a.stats().n_refused - n_refused, 900, "and no more");
    // Long enough for the back-off to have reached its bound.
    sleep(Duration::from_secs(1)).await;
    broker.start().await;
    a.say_until_heard("after", &b).await;
    for node in [&a, &b] {
        assert_eq!(node.stats().n_reconnects, 1);
        assert!(node.stats().is_connected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_111_a_broker_absent_at_the_start_is_waited_for() {
    let broker = Broker::absent();
    let a = broker.node("a", |_| {}).await;
    let b = broker.node("b", |_| {}).await;
    assert!(!a.stats().is_connected);
    a.say("early");
    broker.start().await;
    a.until("a connection", |stats| stats.is_connected).await;
    b.until("a connection", |stats| stats.is_connected).await;
    a.until("what waited", |stats| stats.n_sent >= 1).await;
    a.say_until_heard("hello", &b).await;
    b.say_until_heard("hello", &a).await;
    assert_eq!((a.stats().n_reconnects, a.stats().n_lost), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_112_wrong_credentials_are_a_clear_error() {
    let broker = Broker::started_with(engine::WITH_PASSWORD).await;
    let with = |password: &str| {
        let mut config = broker.config("a");
        config.credentials = Some(Credentials {
            user: USER.map(str::to_owned),
            password: password.into(),
        });
        BrokerAdapter::connect(config)
    };
    let without = BrokerAdapter::connect(broker.config("a")).await;
    for error in [without.unwrap_err(), with("wrong").await.unwrap_err()] {
        assert!(
            matches!(error, ConnectError::Credentials { .. }),
            "{error:?}"
        );
        let text = error.to_string();
        let address = format!("127.0.0.1:{}", broker.port);
        assert!(
            text.contains(&address) && text.contains("refuses the credentials"),
            "{text}"
        );
        assert!(!text.contains("wrong"), "{text}");
    }
    assert!(with("se@cret").await.unwrap().stats().n_refused == 0);
    let user = USER.unwrap_or_default();
    let a = broker
        .node("a", |config| {
            config.url = format!("{SCHEME}://{user}:se%40cret@127.0.0.1:{}", broker.port)
        })
        .await;
    a.until("a connection", |stats| stats.is_connected).await;
    assert!(!format!("{:?}", a.adapter).contains("cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_114_close_without_a_broker_ends_in_time_and_counts() {
    let broker = Broker::started().await;
    let patience = Duration::from_millis(300);
    let a = broker
        .node("a", |config| config.close_timeout = patience)
        .await;
    a.until("a connection", |stats| stats.is_connected).await;
    broker.kill().await;
    a.until("the loss", |stats| !stats.is_connected).await;
    for n in 0..10 {
        a.say(&format!("late {n}"));
    }
    let began = Instant::now();
    timeout(DEADLINE, a.adapter.close()).await.unwrap();
    assert!(began.elapsed() >= patience, "it waits for the broker");
    assert_eq!((a.stats().n_lost, a.stats().n_queued), (10, 0));
    assert_eq!(
        a.adapter.broadcast("s", Bytes::new()),
        Err(AdapterError::Closed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_116_what_is_no_frame_is_counted_and_survived() {
    let broker = Broker::started().await;
    let a = broker.node("a", |_| {}).await;
    let b = broker.node("b", |_| {}).await;
    a.say_until_heard("before", &b).await;
    let texts = ["", "\u{1}", "\u{1}\u{9}short", "{\"json\":true}"];
    engine::publish(&broker.config("x").url, &texts).await;
    b.until("four of them", |stats| stats.n_malformed == 4)
        .await;
    a.say_until_heard("after", &b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_117_tls_trusts_the_authority_that_it_is_given_and_no_other() {
    let folder = folder("tls");
    authority(&folder, "ca", &["server", "client"]);
    authority(&folder, "other", &[]);
    let of = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let broker = engine::broker_with_tls(&of("server.pem"), &of("server.key"), &of("ca.pem")).await;
    let tls = |ca: &str| Tls {
        ca: Some(folder.join(ca)),
        identity: Some(Identity {
            certificate: folder.join("client.pem"),
            key: folder.join("client.key"),
        }),
    };
    let a = broker
        .node("a", |config| config.tls = Some(tls("ca.pem")))
        .await;
    let b = broker
        .node("b", |config| config.tls = Some(tls("ca.pem")))
        .await;
    a.say_until_heard("in private", &b).await;
    let mut config = broker.config("c");
    config.tls = Some(tls("other.pem"));
    let error = BrokerAdapter::connect(config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
}

/// One thread, so that what the adapter's tasks log comes to this test's subscriber.
#[tokio::test]
async fn pub_118_each_change_of_the_connection_is_one_line_in_the_log() {
    let log = Log::default();
    let written = log.0.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || log.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let broker = Broker::absent();
    let quick = Duration::from_millis(20);
    let a = broker.node("a", |config| {
        (config.min_backoff, config.max_backoff) = (quick, quick)
    });
    let a = a.await;
    // Long enough for many attempts in vain.
    sleep(Duration::from_millis(300)).await;
    broker.start().await;
    a.until("a connection", |stats| stats.is_connected).await;
    broker.kill().await;
    a.until("the loss", |stats| !stats.is_connected).await;
    sleep(Duration::from_millis(300)).await;
    let log = String::from_utf8(written.lock().clone()).unwrap();
    let ours: Vec<_> = log
        .lines()
        .filter(|line| line.contains("herenow_pubsub"))
        .collect();
    assert_eq!(ours.len(), 3, "{ours:#?}");
    assert!(ours[0].contains("WARN") && ours[0].contains("no connection to the broker"));
    assert!(ours[1].contains("INFO") && ours[1].contains("connected to the broker"));
    assert!(ours[2].contains("WARN") && ours[2].contains("connection to the broker lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_119_what_waits_in_an_outage_arrives_in_order_after_it() {
    let broker = Broker::absent();
    let a = broker.node("a", |_| {}).await;
    for n in 0..100 {
        a.adapter
            .send("b", "s", Bytes::from(n.to_string()))
            .unwrap();
    }
    assert_eq!(a.stats().n_queued, 100);
    broker.start().await;
    a.until("all sent", |stats| stats.n_sent == 100).await;
    // Nobody listened then; to one who listens the next ones come in order.
    let b = broker.node("b", |_| {}).await;
    a.say_until_heard("there", &b).await;
    for n in 100..200 {
        a.adapter
            .send("b", "s", Bytes::from(n.to_string()))
            .unwrap();
    }
    b.inbox.wait_for("199").await;
    let got = b.inbox.texts();
    let numbers: Vec<_> = got
        .iter()
        .filter_map(|text| text.parse::<u32>().ok())
        .filter(|number| *number >= 100)
        .collect();
    assert_eq!(numbers, (100..200).collect::<Vec<_>>());
}

/// Where the log goes instead of the terminal.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
