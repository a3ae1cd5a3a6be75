//! The reserved names: events, the heartbeat topic, reply statuses.

/// Asks to join a topic.
pub const JOIN: &str = "phx_join";
/// Asks to leave a topic.
pub const LEAVE: &str = "phx_leave";
/// Answers a message; the payload is `{"status": …, "response": …}`.
pub const REPLY: &str = "phx_reply";
/// Says that a channel crashed; the client rejoins.
pub const ERROR: &str = "phx_error";
/// Says that a channel ended as it should; the client does not rejoin.
pub const CLOSE: &str = "phx_close";
/// The client's keep-alive, only on [`HEARTBEAT_TOPIC`].
pub const HEARTBEAT: &str = "heartbeat";
/// The topic of the keep-alive, never a channel of its own.
pub const HEARTBEAT_TOPIC: &str = "phoenix";
/// The full list of presences, pushed to one client.
pub const PRESENCE_STATE: &str = "presence_state";
/// Joins and leaves since the last message, broadcast to the topic.
pub const PRESENCE_DIFF: &str = "presence_diff";
/// Broadcast on a socket's id topic inside the server: closes the connection.
pub const DISCONNECT: &str = "disconnect";
/// Sent to channels inside a server that shuts down.
pub const DRAIN: &str = "phx_drain";

/// The reply status of success.
pub const STATUS_OK: &str = "ok";
/// The reply status of a refusal.
pub const STATUS_ERROR: &str = "error";

/// Whether an event name belongs to the protocol and is not an application's to send.
///
/// These are the names that begin with `phx_`, and the two presence events.
#[must_use]
pub fn is_reserved(event: &str) -> bool {
    event.starts_with("phx_") || event == PRESENCE_STATE || event == PRESENCE_DIFF
}
