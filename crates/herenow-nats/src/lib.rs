//! Carries herenow's broadcasts between nodes over NATS.
//!
//! [`NatsAdapter`] is a `herenow_pubsub::Adapter` over core NATS: nothing is stored, so what is
//! sent while a node has no connection does not reach it. A lost server is a partition that heals.
//!
//! | what | how |
//! | --- | --- |
//! | subjects | `herenow.<cluster>.all`, `herenow.<cluster>.node.<node>`; replies to `herenow.<cluster>.inbox.>` |
//! | permissions of the user | publish and subscribe on `herenow.<cluster>.>` |
//! | order | kept among the broadcasts of one node, and among its messages to one node |
//! | queue full, message too large | refused at once, counted |
//! | while the server is away | messages wait in the queue; what was under way is lost |
//! | slow receiver | what comes over [`NatsConfig::inbox_messages`] is dropped, counted |
//! | peers that come and go | not reported: core NATS does not tell |
//!
//! # Examples
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use herenow_nats::{NatsAdapter, NatsConfig};
//! use herenow_pubsub::PubSub;
//!
//! let mut config = NatsConfig::new("node-1");
//! config.url = "nats://10.0.0.9:4222".into();
//! let adapter = NatsAdapter::connect(config).await?;
//! let pubsub = PubSub::new(adapter);
//! # Ok(())
//! # }
//! ```

mod config;
mod connection;
mod adapter;

pub use adapter::NatsAdapter;
pub use config::NatsConfig;
pub use herenow_pubsub::broker::{
    BrokerStats, ConfigError, ConnectError, Credentials, Disconnected, Identity, Tls,
};
