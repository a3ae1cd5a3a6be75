//! Topics, local dispatch and the contract of what carries broadcasts between nodes.
//!
//! A [`PubSub`] is one node's view of a publish and subscribe system. Topics are plain strings that
//! exist as long as somebody subscribes to them. A broadcast is handed to the [`Adapter`], which
//! carries it to the other nodes, and is then dispatched to the subscribers of this node, in the
//! broadcasting task, before the call returns.
//!
//! | who listens | with | when it is slow |
//! | --- | --- | --- |
//! | server code | [`PubSub::subscribe`], a [`Subscription`] | the oldest broadcasts are dropped and counted |
//! | channels, and whatever must share one encoding | [`PubSub::attach`], a [`Sink`] | the sink's own affair; it must not block |
//! | another node's counterpart | [`PubSub::link`], a [`Link`] | the adapter's policy; nothing is promised |
//!
//! Delivery is at most once. From one task to one subscriber broadcasts arrive in the order they
//! were made; between tasks there is no order.
//!
//! # Examples
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use herenow_pubsub::{Payload, PubSub};
//!
//! let pubsub = PubSub::local();
//! let mut subscription = pubsub.subscribe("room:1");
//! pubsub.broadcast("room:1", "said", Payload::json(r#"{"text":"hello"}"#)).unwrap();
//! let said = subscription.recv().await.unwrap();
//! assert_eq!(&*said.event, "said");
//! # });
//! ```
//!
//! # Features
//!
//! - `broker`: the module `herenow_pubsub::broker`, what adapters of outside brokers share.
//! - `conformance`: the suite `herenow_pubsub::conformance`, which every adapter must pass.
//! - `sealed`: the adapter `herenow_pubsub::sealed::Sealed`, which authenticates what another
//!   carries.

mod log;
mod histogram;
mod adapter;
mod broadcast;
mod registry;
mod subscription;
mod pubsub;
mod memory;
#[cfg(feature = "sealed")]
pub mod sealed;
#[cfg(feature = "broker")]
pub mod broker;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use adapter::{Adapter, AdapterError, Closing, Receiver};
pub use broadcast::{Broadcast, LocalPayload, Once, Payload, Sink, SubscriberId};
pub use histogram::{Histogram, HistogramCounts};
pub use log::{ClientText, LogLimit, client_text};
pub use memory::{MemoryAdapter, MemoryCluster};
pub use pubsub::{
    BroadcastError, Link, LinkError, MAX_EVENT_BYTES, MAX_TOPIC_BYTES, PubSub, PubSubStats,
};
pub use registry::Attachment;
pub use subscription::{Lagged, Subscription};
