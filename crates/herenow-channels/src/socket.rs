//! One connection without its transport: what is joined on it, and the channels that serve it.

mod connect;
mod session;
mod shared;
mod slot;

pub(crate) use self::connect::erase_connect;
pub use self::connect::{ConnectRefused, Connected};
pub(crate) use self::session::Session;
pub(crate) use self::shared::Shared;
