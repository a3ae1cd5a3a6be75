//! Phoenix sockets and channels on axum: WebSocket and long poll.
