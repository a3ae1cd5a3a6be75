//! WebSocket handshakes by hand.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "each test takes what it needs, and panics as tests do"
)]

use std::net::SocketAddr;

use super::http::{Http, Response};

/// Asks for a WebSocket at `target`, with more headers than a handshake needs.
pub(crate) async fn handshake(
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
) -> Response {
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let headers = [&upgrade[..], headers].concat();
    Http::connect(address)
        .await
        .request("GET", target, &headers, b"")
        .await
}
