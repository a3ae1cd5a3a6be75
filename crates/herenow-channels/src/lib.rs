//! Phoenix sockets and channels on axum: WebSocket and long poll.
//!
//! A [`Channel`] is server code for one topic on one connection. [`Sockets`] routes topics to
//! channels and mounts the transports below any axum router:
//!
//! - one task per connection, in which all channels of that connection are polled;
//! - everything queued for a connection leaves in one vectored write;
//! - a broadcast is encoded once per serializer and shared by all connections;
//! - every queue is bounded, see [`SocketConfig`];
//! - WebSockets follow RFC 6455 without extensions: an offer of permessage-deflate is declined, as
//!   the reference does by default, so a small frame can never become a large message.
//!
//! ```no_run
//! use herenow_channels::{Channel, Joined, Outcome, Params, Payload, Refused, Socket, Sockets, serve};
//! use herenow_pubsub::PubSub;
//! use serde_json::json;
//!
//! struct Room;
//!
//! impl Channel for Room {
//!     async fn join(&mut self, _socket: &mut Socket, _params: Params) -> Result<Joined, Refused> {
//!         Ok(Joined::empty())
//!     }
//!
//!     async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
//!         match socket.broadcast(event, payload) {
//!             Ok(()) => Outcome::ok(()),
//!             Err(error) => Outcome::error(json!({ "reason": error.to_string() })),
//!         }
//!     }
//! }
//!
//! # async fn run() -> std::io::Result<()> {
//! let sockets = Sockets::new(&PubSub::local()).channel("room:*", || Room);
//! let app = axum::Router::new().nest("/socket", sockets.into_router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await?;
//! serve(listener, app, std::future::pending()).await
//! # }
//! ```
//!
//! The crate `herenow` has this and presence together; its front page teaches both from the
//! beginning.
//!
//! # Features
//!
//! - `testing`: an in-process client for channel tests, see the `testing` module.

mod dialect;

mod rate;
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

mod forwarded;

mod network;

mod origin;

mod auth;

mod drain;

mod arrival;

mod socket;

mod watched;

mod websocket;

mod longpoll;

mod sockets;

mod serve;

#[cfg(feature = "testing")]
pub mod testing;

pub use arrival::{NoNewcomers, come_back_later};
pub use auth::{ConnectInfo, RequestUri, Transport};
pub use channel::{
    Assigns, BroadcastError, Channel, Flow, Joined, Outcome, Params, RefError, Refused, Socket,
};
pub use config::{ConfigError, SocketConfig};
pub use dialect::{Dialect, OverLimit, Told};
pub use drain::{DrainConfig, DrainReport, Queued};
pub use forwarded::{ForwardedHeader, NetworkError, TrustedProxies};
pub use herenow_protocol::{
    CloseCode, DecodeError, EncodeError, Encoded, JoinRefCheck, Message, Payload, Serializer,
};
pub use herenow_pubsub::Broadcast;
pub use info::{Info, InfoError};
pub use lane::{Handle, PushError, SocketRef};
pub use longpoll::{LongPollConfig, LongPollError};
pub use metrics::{Counter, Metrics};
pub use network::Network;
pub use origin::{CheckOrigin, Origin, OriginError};
pub use payload::{IntoPayload, Json};
pub use rate::{Bucket, Charge, Rate};
pub use reason::Reason;
pub use router::PatternError;
pub use serve::{
    HangUp, Listener, ServeConfig, ServeCounts, ServeError, listen, serve, serve_through,
    serve_with,
};
pub use socket::{ConnectRefused, Connected, ConnectionHandle, ConnectionRef, Guard};
pub use sockets::{Sockets, SocketsError};
