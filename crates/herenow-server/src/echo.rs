//! A bare echo of frames at `/echo/websocket`, for suites that judge WebSockets (`ws_echo`).
//!
//! It is the transport of the channels with nothing behind it. Only two limits differ: messages may
//! be larger, and so may what waits for the reader, since that is what such suites try.

use axum::Router;
use herenow_channels::{CheckOrigin, SocketConfig, Sockets, SocketsError};
use herenow_pubsub::PubSub;

const PATH: &str = "/echo";
/// Largest message, and largest frame.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// What may wait for the reader: a few of the largest.
const MAX_QUEUE_BYTES: usize = 4 * MAX_MESSAGE_BYTES;

/// Returns the route, with the limits of `socket` but for those of sizes.
///
/// # Errors
///
/// [`SocketsError`] if these limits contradict each other.
pub(crate) fn router(
    socket: &SocketConfig,
    check_origin: CheckOrigin,
) -> Result<Router, SocketsError> {
    let mut config = socket.clone();
    config.max_frame_bytes = MAX_MESSAGE_BYTES;
    config.max_message_bytes = MAX_MESSAGE_BYTES;
    config.max_queue_bytes = MAX_QUEUE_BYTES;
    let sockets = Sockets::new(&PubSub::local())
        .config(config)
        .check_origin(check_origin)
        .echo();
    sockets.try_into_router_at(PATH)
}
