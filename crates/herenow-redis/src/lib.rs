//! Carries herenow's broadcasts between nodes over Redis, or what speaks its protocol (Valkey).
//!
//! [`RedisAdapter`] is a `herenow_pubsub::Adapter` over publish and subscribe: nothing is stored,
//! so what is sent while a node has no connection does not reach it. A lost server is a partition
//! that heals. It needs Redis 6 or later, since one connection both publishes and subscribes
//! (RESP3).
//!
//! | what | how |
//! | --- | --- |
//! | channels | `herenow:<cluster>:all`, `herenow:<cluster>:node:<node>`; Redis' databases do not divide them |
//! | permissions of the user | `+publish +subscribe +ping &herenow:<cluster>:*` |
//! | order | kept among all messages of one node |
//! | queue full, message too large | refused at once, counted |
//! | while the server is away | messages wait in the queue; what was under way is lost |
//! | slow receiver | Redis ends its connection (`client-output-buffer-limit pubsub`), it connects again |
//! | peers that come and go | not reported: Redis does not tell |
//!
//! # Examples
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use herenow_pubsub::PubSub;
//! use herenow_redis::{RedisAdapter, RedisConfig};
//!
//! let mut config = RedisConfig::new("node-1");
//! config.url = "redis://10.0.0.9:6379".into();
//! let adapter = RedisAdapter::connect(config).await?;
//! let pubsub = PubSub::new(adapter);
//! # Ok(())
//! # }
//! ```

mod config;
mod connection;
mod adapter;

pub use adapter::RedisAdapter;
pub use config::RedisConfig;
pub use herenow_pubsub::broker::{
    BrokerStats, ConfigError, ConnectError, Credentials, Disconnected, Identity, Tls,
};
