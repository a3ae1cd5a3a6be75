//! A client for Phoenix channels and presence, on tokio.
//!
//! ```no_run
//! use herenow_client::{Client, ClientConfig, PresenceEvent};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("ws://127.0.0.1:4000/socket", ClientConfig::default()).await?;
//! let channel = client.channel("room:lobby", &serde_json::json!({ "user_id": "42" })).join().await?;
//! channel.push("status", &serde_json::json!({ "status": "away" })).await?.into_result()?;
//!
//! let mut presence = channel.into_presence();
//! while let Some(event) = presence.next().await {
//!     if let PresenceEvent::Joined { key, first: true, .. } = event {
//!         let n_here = presence.list().len();
//!         tracing::info!(key, n_here, "somebody came");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The connection is kept: after a loss the client connects again and joins its channels again,
//! with the pauses of the reference's JavaScript client ([`ClientConfig::reconnect_after`],
//! [`ClientConfig::rejoin_after`]). A first connection or a first join that fails is an error to
//! whoever asked for it, and is not tried again behind their back.
//!
//! `wss://` needs a [`Dial`] that speaks TLS; none is built in.

mod error;
mod config;
mod endpoint;
mod dial;
mod answer;
mod event;
mod engine;
mod driver;
mod channel;
mod client;
mod presence;

pub use channel::{Channel, ChannelSender};
pub use client::{Client, JoinBuilder};
pub use config::{Backoff, ClientConfig, TokenSource};
pub use dial::{Dial, Dialed, IoStream, TcpDial};
pub use driver::ClientStatus;
pub use error::{ConnectError, JoinError, PushError};
pub use event::{ChannelEvent, ErrorReason, Refusal, Reply};
pub use presence::{Presence, PresenceEvent};

pub use herenow_protocol::{
    Entry, Meta, Payload, PayloadError, PresenceFold, PresenceState, Serializer,
};
