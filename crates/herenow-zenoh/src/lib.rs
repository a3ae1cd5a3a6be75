//! Carries herenow's traffic between nodes over [zenoh](https://zenoh.io): no broker, the nodes
//! talk to each other.
//!
//! Each node listens, and is told some of its peers by address, or finds them by multicast. The
//! nodes tell each other whom they know, so that one common peer is enough for a full mesh.
//!
//! | what | how |
//! | --- | --- |
//! | broadcast | one key expression per cluster, read by every node but the sender |
//! | direct message | one key expression per node |
//! | a peer came or went | a liveliness token per node; a killed process is noticed in milliseconds |
//! | a slow or frozen peer | delays the thread that publishes, by [`ZenohConfig::max_stall`] at most, then loses its link |
//! | who may take part | with [`Tls`], whoever has a certificate of the cluster's own authority; without, everybody |
//!
//! Delivery is not promised: a link that breaks takes with it what was under way. Whatever must not
//! be lost has to notice gaps by itself, as the replication of herenow does.
//!
//! # Examples
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use herenow_pubsub::PubSub;
//! use herenow_zenoh::{ZenohAdapter, ZenohConfig};
//!
//! let mut config = ZenohConfig::default();
//! config.node = "a".into();
//! config.listen = vec!["tcp/10.0.0.1:7447".into()];
//! config.peers = vec!["tcp/10.0.0.2:7447".into()];
//! let pubsub = PubSub::new(ZenohAdapter::open(&config).await?);
//! # Ok(())
//! # }
//! ```

mod config;
mod adapter;

pub use adapter::{Linked, OpenError, ZenohAdapter, ZenohStats};
pub use config::{ConfigError, Discovery, Tls, ZenohConfig};
