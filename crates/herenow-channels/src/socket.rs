//! One connection without its transport: what is joined on it, and the channels that serve it.

mod guard;
mod connect;
mod session;
mod shared;
mod slot;

pub(crate) use self::connect::erase_connect;
pub use self::connect::{ConnectRefused, Connected};
pub use self::guard::{ConnectionHandle, ConnectionRef, Guard};
pub(crate) use self::session::Session;
pub(crate) use self::shared::Shared;

#[cfg(test)]
mod tests {
    use super::slot::Slot;
    use super::*;
    use crate::channel::Socket;
    use crate::lane::Lane;
    use crate::mailbox::Mailbox;

    /// Bytes that a session may take without its channels, a queue with a place for one frame among
    /// them.
    const SESSION_BUDGET: usize = 376;
    /// Bytes that a channel without fields may take, besides what the registry and the protocol's
    /// state keep of it.
    const CHANNEL_BUDGET: usize = 424;

    #[test]
    fn soc_08_an_idle_session_and_an_idle_channel_stay_in_their_budgets() {
        let session = size_of::<Session>() + size_of::<Mailbox>();
        assert!(session <= SESSION_BUDGET, "{session}");
        let channel = size_of::<Slot>() + size_of::<Lane>() + size_of::<Socket>();
        assert!(channel <= CHANNEL_BUDGET, "{channel}");
    }
}
