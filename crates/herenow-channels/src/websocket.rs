//! WebSockets: the upgrade, and one hand-written task per connection.
//!
//! After the handshake the HTTP connection is gone; what is left is the stream, tungstenite as a
//! codec without IO, and a [`Session`](crate::socket::Session). Reads go through one buffer per
//! thread, writes take frames as they are queued, so an idle connection holds no buffer at all.

mod outline;
mod codec;
mod stream;
mod writer;

mod connection;
mod upgrade;

pub(crate) use self::upgrade::websocket_route;
