//! [`LimitsConfig`]: what one address and one user may have; [`ObserveConfig`]: what is shown of the
//! server.

use herenow_channels::{ForwardedHeader, Rate};

/// What one address and one user may have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Connections of one address, or of one IPv6 network of 64 bits, 10,000. Zero: no limit.
    pub sockets_per_address: usize,
    /// Connections of one user, by its token, 1,000. Zero: no limit.
    pub sockets_per_user: usize,
    /// New connections of one address, 500 a second and 5,000 at once.
    pub handshake_rate: Rate,
    /// New connections of one user, by its token, 100 a second and 1,000 at once: as many as it may
    /// have, for all of them come back when a server restarts.
    pub user_rate: Rate,
    /// Addresses that are remembered without having a connection, 100,000.
    pub max_addresses: usize,
    /// Users that are remembered without having a connection, 100,000.
    pub max_users: usize,
}

/// Which proxies say whom they speak for, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// Addresses and networks of proxies whose forwarded headers are believed, none.
    pub trusted: Vec<String>,
    /// The header that they write, `x-forwarded-for`.
    pub header: ForwardedHeader,
}

/// What is shown of the server to those who watch it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObserveConfig {
    /// Whether `/metrics` answers everybody, false: it needs a key of the API.
    pub is_open: bool,
    /// Where traces go.
    pub traces: TraceConfig,
}

/// Where traces go, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceConfig {
    /// The collector's URL, without `/v1/traces`; none.
    pub endpoint: Option<String>,
    /// Of a hundred traces, how many are sent, 10.
    pub sample_percent: usize,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample_percent: 10,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            sockets_per_address: 10_000,
            sockets_per_user: 1_000,
            handshake_rate: Rate::new(500, 5_000),
            user_rate: Rate::new(100, 1_000),
            max_addresses: 100_000,
            max_users: 100_000,
        }
    }
}
