//! Settings of a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use herenow_protocol::Serializer;

/// Gives the token for a connection; asked anew for every one, so that it may have been renewed.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> String + Send + Sync>);

impl TokenSource {
    /// Asks `token` before every connection.
    pub fn new(token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(token))
    }

    pub(crate) fn token(&self) -> String {
        (self.0)()
    }
}

impl From<String> for TokenSource {
    fn from(token: String) -> Self {
        Self::new(move || token.clone())
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// How long to wait before each try: the first entries once each, and then the last for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Vec<Duration>,
    then: Duration,
}

impl Backoff {
    /// A table in milliseconds.
    #[must_use]
    pub fn from_millis(first: &[u64], then: u64) -> Self {
        let first = first.iter().copied().map(Duration::from_millis).collect();
        Self {
            first,
            then: Duration::from_millis(then),
        }
    }

    /// The pause before try number `n_tries`, counted from 0.
    #[must_use]
    pub fn pause(&self, n_tries: usize) -> Duration {
        self.first.get(n_tries).copied().unwrap_or(self.then)
    }
}

/// Settings of a client. The durations are those of the reference's JavaScript client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The wire format to ask for; version 2.
    pub serializer: Serializer,
    /// Query parameters of the connection.
    pub params: Vec<(String, String)>,
    /// The token of the connection, sent as a sub-protocol; none.
    pub auth_token: Option<TokenSource>,
    /// The `Origin` header; none, as befits a program that is no browser.
    pub origin: Option<String>,
    /// How long a connection may take to open; 10 s.
    pub connect_timeout: Duration,
    /// How long joins, pushes and leaves wait for their reply; 10 s.
    pub timeout: Duration,
    /// Pause between heartbeats, and how long one may stay unanswered; 30 s.
    pub heartbeat: Duration,
    /// Pauses before connecting again: 10, 50, 100, 150, 200, 250, 500, 1000, 2000, then 5000 ms.
    pub reconnect_after: Backoff,
    /// Pauses before joining a channel again: 1000, 2000, 5000, then 10,000 ms.
    pub rejoin_after: Backoff,
    /// Most events of a channel that wait to be read; 1024. Later ones are dropped and reported as
    /// [`crate::ChannelEvent::Lagged`].
    pub max_waiting_events: usize,
    /// Most pushes of a channel that wait for it to be joined; 1000.
    pub max_waiting_pushes: usize,
    /// Longest message of the server in bytes; 64 MiB.
    pub max_message_bytes: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            serializer: Serializer::V2,
            params: Vec::new(),
            auth_token: None,
            origin: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(30),
            reconnect_after: Backoff::from_millis(
                &[10, 50, 100, 150, 200, 250, 500, 1000, 2000],
                5000,
            ),
            rejoin_after: Backoff::from_millis(&[1000, 2000, 5000], 10_000),
            max_waiting_events: 1024,
            max_waiting_pushes: 1000,
            max_message_bytes: 64 << 20,
        }
    }
}
