//! Phoenix sockets and channels on axum: WebSocket and long poll.
//!
//! A [`Channel`] is server code for one topic on one connection. [`Sockets`] routes topics to
//! channels and mounts the transports below any axum router:
//!
//! - one task per connection, in which all channels of that connection are polled;
//! - everything queued for a connection leaves in one vectored write;
//! - a broadcast is encoded once per serializer and shared by all connections;
//! - every queue is bounded, see [`SocketConfig`].
//!
//! # Features
//!
//! - `testing`: an in-process client for channel tests, see the `testing` module.

mod config;
mod metrics;
mod reason;

mod frame;
mod info;
mod payload;

mod mailbox;

mod lane;

mod channel;

mod router;

mod origin;

mod auth;

mod drain;

mod socket;

mod websocket;

mod longpoll;

mod sockets;

mod serve;

#[cfg(feature = "testing")]
pub mod testing;

pub use auth::{ConnectInfo, RequestUri, Transport};
pub use channel::{
    Assigns, BroadcastError, Channel, Flow, Joined, Outcome, Params, RefError, Refused, Socket,
};
pub use config::{ConfigError, SocketConfig};
pub use drain::{DrainConfig, DrainReport};
pub use herenow_protocol::{CloseCode, JoinRefCheck, Payload, Serializer};
pub use herenow_pubsub::Broadcast;
pub use info::{Info, InfoError};
pub use lane::{Handle, PushError, SocketRef};
pub use longpoll::{LongPollConfig, LongPollError};
pub use metrics::{Counter, Metrics};
pub use origin::{CheckOrigin, Origin, OriginError};
pub use payload::{IntoPayload, Json};
pub use reason::Reason;
pub use router::PatternError;
pub use serve::{ServeConfig, ServeError, serve, serve_with};
pub use socket::{ConnectRefused, Connected};
pub use sockets::{Sockets, SocketsError};
