//! [`Channel`], server code for one topic on one connection, and what its callbacks take and give.

mod assigns;
mod erased;
mod outcome;
mod params;
mod socket;

use herenow_protocol::Payload;
use herenow_pubsub::{Broadcast, client_text};

pub use self::assigns::Assigns;
pub(crate) use self::erased::{Answer, AnyChannel, Call, Done, Running, new_channel};
pub use self::outcome::{Flow, Joined, Outcome, Refused};
pub(crate) use self::outcome::{Reply, Then};
pub use self::params::Params;
pub use self::socket::{BroadcastError, RefError, Socket};
use crate::info::Info;
use crate::reason::Reason;

/// Server code for one topic on one connection.
///
/// One value is made per join, by the factory that was given to
/// [`Sockets::channel`](crate::Sockets::channel), and lives until the channel ends. Its callbacks
/// run one after the other, in the connection's task; other channels of the connection go on while
/// one waits. A callback that panics ends this channel only: its client gets `phx_error` and
/// rejoins.
///
/// Broadcasts on the channel's topic, presence diffs among them, reach the client by themselves.
pub trait Channel: Send + Sized + 'static {
    /// Events whose broadcasts go to [`Channel::handle_out`] instead of to the client.
    const INTERCEPT: &'static [&'static str] = &[];

    /// Accepts or refuses a join.
    ///
    /// Pushes and broadcasts made here reach the client after the reply to its join; if the join
    /// is refused, pushes are dropped.
    fn join(
        &mut self,
        socket: &mut Socket,
        params: Params,
    ) -> impl Future<Output = Result<Joined, Refused>> + Send;

    /// Handles a message of the client. By default it is dropped, with a warning.
    fn handle_in(
        &mut self,
        socket: &mut Socket,
        event: &str,
        payload: Payload,
    ) -> impl Future<Output = Outcome> + Send {
        let _ = payload;
        let (topic, event) = (client_text(socket.topic()), client_text(event));
        tracing::warn!(%topic, %event, "message without a handler");
        async { Outcome::noreply() }
    }

    /// Handles a broadcast whose event is in [`Channel::INTERCEPT`]. By default it is pushed.
    fn handle_out(
        &mut self,
        socket: &mut Socket,
        broadcast: Broadcast,
    ) -> impl Future<Output = Flow> + Send {
        if let Err(error) = socket.push(&broadcast.event, broadcast.payload) {
            tracing::debug!(topic = %client_text(socket.topic()), %error, "intercepted broadcast not pushed");
        }
        async { Flow::Continue }
    }

    /// Handles a message from inside the server. By default it is dropped, with a warning.
    fn handle_info(
        &mut self,
        socket: &mut Socket,
        info: Info,
    ) -> impl Future<Output = Flow> + Send {
        tracing::warn!(topic = %client_text(socket.topic()), ?info, "info without a handler");
        async { Flow::Continue }
    }

    /// Cleans up, also after a panic in another callback.
    ///
    /// Cut off after [`SocketConfig::terminate_timeout`](crate::SocketConfig::terminate_timeout).
    /// Presences that the channel tracks leave after it.
    fn terminate(
        &mut self,
        socket: &mut Socket,
        reason: &Reason,
    ) -> impl Future<Output = ()> + Send {
        let _ = (socket, reason);
        async {}
    }
}
