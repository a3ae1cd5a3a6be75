//! What the adapters of outside brokers share: frames, the bounded queue, back-off, logs, counters.
//!
//! A broker only carries bytes to whoever subscribed. Everything else that the
//! [`Adapter`](crate::Adapter) contract asks for is the same for each of them and lives here,
//! behind one [`Mailroom`] per adapter. What differs stays in the adapter: its connection, and how
//! subjects are named.

mod backoff;
mod frame;
mod outbox;
mod settings;
mod mailroom;

pub use backoff::Backoff;
pub use frame::{Frame, MAX_SUBJECT_BYTES, decode, encode, token};
pub use mailroom::{BrokerStats, Disconnected, Mailroom, Trouble};
pub use outbox::{Outbox, Outgoing};
pub use settings::{
    ConfigError, ConnectError, Credentials, Identity, MAX_NAME_BYTES, Tls, check_durations,
    check_name, check_url, in_words, read_file, unescape,
};
