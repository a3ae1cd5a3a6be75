//! A `redis-server` for one test, adapters that know where it is, and receivers.
#![allow(dead_code)] // Each test binary uses its own part.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use herenow_pubsub::conformance::{BrokerProcess, Harness, Step};
use herenow_pubsub::{Adapter, Receiver};
use herenow_redis::{BrokerStats, RedisAdapter, RedisConfig};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A real server; the suite's harness.
pub(crate) struct Broker {
    process: tokio::sync::Mutex<BrokerProcess>,
    pub(crate) port: u16,
}

impl Broker {
    pub(crate) async fn started() -> Self {
        Self::started_with(&[]).await
    }

    pub(crate) async fn started_with(more: &[&str]) -> Self {
        BrokerProcess::started("redis-server", "redis-server", arguments, more)
            .await
            .into()
    }

    /// Speaks TLS only, and asks for a certificate.
    pub(crate) async fn started_with_tls(more: &[&str]) -> Self {
        BrokerProcess::started("redis-server", "redis-server", tls_arguments, more)
            .await
            .into()
    }

    /// Not there until [`start`](Self::start).
    pub(crate) fn absent() -> Self {
        BrokerProcess::prepare("redis-server", "redis-server", arguments, &[]).into()
    }

    pub(crate) async fn start(&self) {
        self.process.lock().await.start().await;
    }

    pub(crate) async fn kill(&self) {
        self.process.lock().await.kill();
    }

    pub(crate) fn config(&self, node: &str) -> RedisConfig {
        let mut config = RedisConfig::new(node);
        config.url = format!("redis://127.0.0.1:{}", self.port);
        config
    }

    /// Returns a started adapter with the settings that `change` leaves.
    pub(crate) async fn node(&self, name: &str, change: impl FnOnce(&mut RedisConfig)) -> Node {
        let mut config = self.config(name);
        change(&mut config);
        let adapter = RedisAdapter::connect(config).await.unwrap();
        let inbox = Arc::new(Inbox::default());
        adapter.start(inbox.clone());
        Node { adapter, inbox }
    }
}

impl From<BrokerProcess> for Broker {
    fn from(process: BrokerProcess) -> Self {
        Self {
            port: process.port(),
            process: process.into(),
        }
    }
}

fn arguments(port: u16) -> Vec<String> {
    let port = port.to_string();
    let arguments = [
        "--bind",
        "127.0.0.1",
        "--port",
        &port,
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    arguments.map(str::to_owned).into()
}

fn tls_arguments(port: u16) -> Vec<String> {
    let mut arguments = arguments(0);
    arguments.extend(["--tls-port".into(), port.to_string()]);
    arguments
}

impl Harness for Broker {
    fn adapter<'a>(&'a self, cluster: &'a str, node: &'a str) -> Step<'a, Arc<dyn Adapter>> {
        Box::pin(async move {
            let mut config = self.config(node);
            config.cluster = cluster.into();
            let adapter: Arc<dyn Adapter> = RedisAdapter::connect(config).await.unwrap();
            adapter
        })
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }

    fn reports_peers(&self) -> bool {
        false
    }

    fn begin_outage<'a>(&'a self, _cluster: &'a str) -> Step<'a, bool> {
        Box::pin(async {
            self.kill().await;
            true
        })
    }

    fn end_outage<'a>(&'a self, _cluster: &'a str) -> Step<'a, ()> {
        Box::pin(self.start())
    }
}

/// A started adapter and what it got.
pub(crate) struct Node {
    pub(crate) adapter: Arc<RedisAdapter>,
    pub(crate) inbox: Arc<Inbox>,
}

impl Node {
    pub(crate) fn stats(&self) -> BrokerStats {
        self.adapter.stats()
    }

    pub(crate) fn say(&self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.adapter.broadcast("s", bytes).unwrap();
    }

    /// Broadcasts again and again until `to` hears it: the only way to know that it listens.
    pub(crate) async fn say_until_heard(&self, text: &str, to: &Self) {
        let trying = timeout(DEADLINE, async {
            while !to.inbox.has(text) {
                let _ = self
                    .adapter
                    .broadcast("s", Bytes::copy_from_slice(text.as_bytes()));
                sleep(Duration::from_millis(10)).await;
            }
        });
        trying.await.unwrap_or_else(|_| {
            panic!("{text:?} never came; {:?}; {:?}", self.adapter, to.adapter)
        });
    }

    /// Waits for the counters to be as wanted.
    pub(crate) async fn until(&self, what: &str, is_met: impl Fn(&BrokerStats) -> bool) {
        let waiting = timeout(DEADLINE, async {
            while !is_met(&self.stats()) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        waiting
            .await
            .unwrap_or_else(|_| panic!("waited in vain for {what}: {:?}", self.stats()));
    }
}

/// Writes down what arrives, and can be made to hold up who brings it.
#[derive(Default)]
pub(crate) struct Inbox {
    texts: Mutex<Vec<String>>,
    changed: Notify,
    is_held_up: Mutex<bool>,
    let_go: Condvar,
}

impl Inbox {
    pub(crate) fn texts(&self) -> Vec<String> {
        self.texts.lock().clone()
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.texts.lock().iter().any(|known| known == text)
    }

    pub(crate) async fn wait_for(&self, text: &str) {
        let waiting = timeout(DEADLINE, async {
            while !self.has(text) {
                self.changed.notified().await;
            }
        });
        waiting
            .await
            .unwrap_or_else(|_| panic!("{text:?} never came, but {:?}", self.texts()));
    }

    /// Whoever brings a message waits inside the receiver, until [`let_go`](Self::let_go).
    pub(crate) fn hold_up(&self) {
        *self.is_held_up.lock() = true;
    }

    pub(crate) fn let_go(&self) {
        *self.is_held_up.lock() = false;
        self.let_go.notify_all();
    }
}

impl Receiver for Inbox {
    fn receive(&self, _from: &str, _subject: &str, bytes: Bytes) {
        let mut is_held_up = self.is_held_up.lock();
        if *is_held_up {
            // As if it were another process: what else is to run on this thread runs elsewhere.
            block_in_place(|| {
                self.let_go
                    .wait_while_for(&mut is_held_up, |held| *held, DEADLINE);
            });
        }
        drop(is_held_up);
        self.texts
            .lock()
            .push(String::from_utf8_lossy(&bytes).into_owned());
        self.changed.notify_one();
    }

    fn peer_seen(&self, _peer: &str) {}

    fn peer_gone(&self, _peer: &str) {}
}
