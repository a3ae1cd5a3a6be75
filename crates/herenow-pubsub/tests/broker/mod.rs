//! A real broker for one test, and what goes wrong with it: the tests that NATS and Redis share.
//!
//! Each of the two adapters includes this module in its own tests, beside a module `engine` that has
//! its types and how its server is started.

mod faults;
mod node;
pub(crate) mod tls;

use std::sync::Arc;
use std::time::Duration;

use herenow_pubsub::conformance::{BrokerProcess, Harness, Step};
use herenow_pubsub::{Adapter, adapter_outage_suite, adapter_suite};

pub(crate) use node::Node;

use crate::engine::{BrokerAdapter, BrokerConfig, PROGRAM, SCHEME, arguments};

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
        BrokerProcess::started(PROGRAM, PROGRAM, arguments, more)
            .await
            .into()
    }

    /// Not there until [`start`](Self::start).
    pub(crate) fn absent() -> Self {
        BrokerProcess::prepare(PROGRAM, PROGRAM, arguments, &[]).into()
    }

    pub(crate) async fn start(&self) {
        self.process.lock().await.start().await;
    }

    pub(crate) async fn kill(&self) {
        self.process.lock().await.kill();
    }

    pub(crate) fn config(&self, node: &str) -> BrokerConfig {
        let mut config = BrokerConfig::new(node);
        config.url = format!("{SCHEME}://127.0.0.1:{}", self.port);
        config
    }

    /// Returns a started adapter with the settings that `change` leaves.
    pub(crate) async fn node(&self, name: &str, change: impl FnOnce(&mut BrokerConfig)) -> Node {
        let mut config = self.config(name);
        change(&mut config);
        Node::started(BrokerAdapter::connect(config).await.unwrap())
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

impl Harness for Broker {
    fn adapter<'a>(&'a self, cluster: &'a str, node: &'a str) -> Step<'a, Arc<dyn Adapter>> {
        Box::pin(async move {
            let mut config = self.config(node);
            config.cluster = cluster.into();
            let adapter: Arc<dyn Adapter> = BrokerAdapter::connect(config).await.unwrap();
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

adapter_suite!(
    #[tokio::test(flavor = "multi_thread")]
    Broker::started().await
);
adapter_outage_suite!(
    #[tokio::test(flavor = "multi_thread")]
    Broker::started().await
);
