//! [`Limits`]: how many connections one address or one user may have, and how fast they may come.
//!
//! An address is an IPv4 address or an IPv6 network of 64 bits, the least that one customer of a
//! provider has. It is the client's: what a trusted proxy says it is. The loopback is counted and
//! never refused: what comes from there is this machine, or a proxy on it that is not trusted,
//! behind which all clients look like one. A client of a trusted proxy has the loopback's address
//! only if that proxy says so, see [`herenow_channels::TrustedProxies::client`].
//!
//! Two tables, each under a lock of its own, are all the state: of addresses, and of users by the
//! id of their connections. An entry is there while it has a connection or has not got all tokens
//! of its rate back, so a table is bounded by the connections, and by `limits.max_addresses` or
//! `limits.max_users` for those that have none; beyond that a newcomer is let in unseen, and
//! counted. A connection of its own user counts by its [`Permit`], one of the users whom its
//! channels know by tokens of theirs by the [`Place`]s that [`Places`] hands out. What one
//! *connection* may send is its own affair, see [`herenow_channels::Rate`].

mod named;
mod table;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::http::Extensions;
use herenow_channels::{ConnectInfo, ConnectRefused, Connected, Network, Rate};
use herenow_pubsub::LogLimit;
use parking_lot::Mutex;

pub(crate) use self::named::Named;
use self::named::Refusals;
use self::table::{Allowance, Excess, Table};
use crate::config::LimitsConfig;

/// When a client that has too many connections may try again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What one address and one user may have. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Limits(Arc<Inner>);

struct Inner {
    config: LimitsConfig,
    began: Instant,
    addresses: Mutex<Table<Network>>,
    users: Mutex<Table<Arc<str>>>,
    counters: Counters,
    named: Refusals,
    log: LogLimit,
}

#[derive(Default)]
struct Counters {
    sockets_per_address: AtomicU64,
    sockets_per_user: AtomicU64,
    handshake_rate: AtomicU64,
    user_rate: AtomicU64,
}

/// What was refused, by the limit, and what could not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitCounts {
    pub(crate) sockets_per_address: u64,
    pub(crate) sockets_per_user: u64,
    pub(crate) handshake_rate: u64,
    pub(crate) user_rate: u64,
    pub(crate) overflows: u64,
}

/// A connection's place among those of its address and its user. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Limits,
    network: Option<Network>,
    user: Option<Arc<str>>,
}

/// A permit on its way from the door to `connect`, among the request's extensions.
#[derive(Clone)]
struct Ticket(Arc<Mutex<Option<Permit>>>);

/// A connection's place among those of one user, by the token of a channel. Given back when
/// dropped.
#[derive(Debug)]
pub(crate) struct Place {
    limits: Limits,
    user: Arc<str>,
}

/// The users whose connection this is: its own, and those of its channels' tokens. It has one place
/// among those of each, however many of its channels are that user's; they share it, and it is
/// given back with the last of them.
#[derive(Debug)]
pub(crate) struct Places {
    limits: Limits,
    /// The user whose place the permit has.
    own: Option<Arc<str>>,
    others: Mutex<Vec<Weak<Place>>>,
}

/// A request is over a limit.
#[derive(Debug)]
pub(crate) struct TooMany {
    /// Names the limit.
    pub(crate) reason: String,
    pub(crate) retry_after: Duration,
}

impl From<TooMany> for ConnectRefused {
    fn from(over: TooMany) -> Self {
        Self::too_many(over.reason, over.retry_after)
    }
}

impl Limits {
    pub(crate) fn new(config: LimitsConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            began: Instant::now(),
            addresses: Mutex::default(),
            users: Mutex::default(),
            counters: Counters::default(),
            named: Refusals::default(),
            log: LogLimit::default(),
        }))
    }

    /// What sockets ask about each request for a connection, before anything else: lets it in by
    /// its address, or refuses it with 429 and a reason that names the limit, counted and logged.
    pub(crate) fn door(
        &self,
    ) -> impl Fn(Option<IpAddr>, &mut Extensions) -> Result<(), ConnectRefused> + use<> {
        let limits = self.clone();
        move |client, extensions| {
            let permit = limits.admit_client(client)?;
            extensions.insert(Ticket(Arc::new(Mutex::new(Some(permit)))));
            Ok(())
        }
    }

    /// The place of a request that came through the door.
    pub(crate) fn permit(&self, info: &ConnectInfo) -> Permit {
        let ticket = info.extension::<Ticket>();
        let permit = ticket.and_then(|ticket| ticket.0.lock().take());
        permit.unwrap_or_else(|| self.nobodys())
    }

    /// Lets a request in that is no connection's, by its client's address; it counts as a
    /// connection until the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`TooMany`], counted and logged.
    pub(crate) fn admit_client(&self, client: Option<IpAddr>) -> Result<Permit, TooMany> {
        self.admit_address(client, self.0.began.elapsed())
            .map_err(|over| self.refuse(&over))
    }

    fn admit_address(&self, client: Option<IpAddr>, now: Duration) -> Result<Permit, Over> {
        let mut permit = self.nobodys();
        let allowance = self.0.of_address();
        let Some(client) = client.filter(|_| !allowance.is_off()) else {
            return Ok(permit);
        };
        let client = client.to_canonical();
        let network = Network::from(client);
        let allowance = Allowance {
            is_exempt: client.is_loopback(),
            ..allowance
        };
        let mut addresses = self.0.addresses.lock();
        let entered = addresses.enter(&network, &allowance, now);
        entered.map_err(|excess| {
            let (max, rate) = (allowance.max_sockets, allowance.rate);
            match excess {
                Excess::Sockets => Over::SocketsPerAddress { max },
                Excess::Rate { wait } => Over::HandshakeRate { rate, wait },
            }
        })?;
        permit.network = Some(network);
        Ok(permit)
    }

    /// A place that is not counted.
    fn nobodys(&self) -> Permit {
        Permit {
            limits: self.clone(),
            network: None,
            user: None,
        }
    }

    /// Counts a connection of a user in, by the id of those.
    fn enter(&self, user: &Arc<str>) -> Result<(), TooMany> {
        self.enter_user(user, self.0.began.elapsed())
            .map_err(|over| self.refuse(&over))
    }

    fn enter_user(&self, user: &Arc<str>, now: Duration) -> Result<(), Over> {
        let allowance = self.0.of_user();
        let entered = self.0.users.lock().enter(user, &allowance, now);
        entered.map_err(|excess| {
            let (max, rate) = (allowance.max_sockets, allowance.rate);
            match excess {
                Excess::Sockets => Over::SocketsPerUser { max },
                Excess::Rate { wait } => Over::UserRate { rate, wait },
            }
        })
    }

    /// Counts a connection of a user out.
    fn leave(&self, user: &Arc<str>) {
        let (max_idle, now) = (self.0.config.max_users, self.0.began.elapsed());
        self.0.users.lock().leave(user, max_idle, now);
    }

    /// The places of a connection that was let in by its user, if it has one.
    pub(crate) fn places(&self, own: Option<Arc<str>>) -> Places {
        Places {
            limits: self.clone(),
            own,
            others: Mutex::default(),
        }
    }

    fn refuse(&self, over: &Over) -> TooMany {
        let (reason, counter) = (over.to_string(), over.counter(&self.0.counters));
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(n_left_out) = self.0.log.may_log() {
            tracing::warn!(reason, n_left_out, "connection refused");
        }
        let retry_after = over.retry_after();
        TooMany {
            reason,
            retry_after,
        }
    }

    /// Counts something that a channel or the API refused for being over a limit.
    pub(crate) fn count(&self, limit: Named) {
        self.0.named.count(limit);
    }

    /// Returns how much channels and the API refused so far for being over each limit.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Named, u64)> {
        self.0.named.counts()
    }

    /// Returns what was refused so far.
    pub(crate) fn counts(&self) -> LimitCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        LimitCounts {
            sockets_per_address: read(&counters.sockets_per_address),
            sockets_per_user: read(&counters.sockets_per_user),
            handshake_rate: read(&counters.handshake_rate),
            user_rate: read(&counters.user_rate),
            overflows: self.0.addresses.lock().n_overflows() + self.0.users.lock().n_overflows(),
        }
    }

    /// Returns how many addresses are remembered.
    pub(crate) fn n_addresses(&self) -> usize {
        self.0.addresses.lock().len()
    }

    /// Returns how many users are remembered.
    pub(crate) fn n_users(&self) -> usize {
        self.0.users.lock().len()
    }
}

impl Inner {
    fn of_address(&self) -> Allowance {
        Allowance {
            max_sockets: self.config.sockets_per_address,
            rate: self.config.handshake_rate,
            max_idle: self.config.max_addresses,
            is_exempt: false,
        }
    }

    fn of_user(&self) -> Allowance {
        Allowance {
            max_sockets: self.config.sockets_per_user,
            rate: self.config.user_rate,
            max_idle: self.config.max_users,
            is_exempt: false,
        }
    }
}

impl Permit {
    /// Lets the connection in, by its user, and keeps the place until it has ended.
    ///
    /// # Errors
    ///
    /// 429 with a reason that names the limit, counted and logged.
    pub(crate) fn enter(mut self, connected: Connected) -> Result<Connected, ConnectRefused> {
        let is_limited = !self.limits.0.of_user().is_off();
        if let Some(user) = connected.id.as_ref().filter(|_| is_limited) {
            self.limits.enter(user)?;
            self.user = Some(user.clone());
        }
        Ok(connected.keeping(self))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.limits.0;
        if let Some(network) = self.network {
            let (max_idle, now) = (inner.config.max_addresses, inner.began.elapsed());
            inner.addresses.lock().leave(&network, max_idle, now);
        }
        if let Some(user) = &self.user {
            self.limits.leave(user);
        }
    }
}

impl Places {
    /// Takes the connection's place among those of a user, to be held by a channel that is the
    /// user's; `None` if the permit has it.
    ///
    /// # Errors
    ///
    /// [`TooMany`], counted and logged, if the connection would be one too many of the user.
    pub(crate) fn of(&self, user: &Arc<str>) -> Result<Option<Arc<Place>>, TooMany> {
        if self.own.as_ref() == Some(user) {
            return Ok(None);
        }
        let mut others = self.others.lock();
        let is_of = |place: &Arc<Place>| place.user == *user;
        if let Some(place) = others.iter().filter_map(Weak::upgrade).find(is_of) {
            return Ok(Some(place));
        }
        self.limits.enter(user)?;
        let place = Arc::new(Place {
            limits: self.limits.clone(),
            user: user.clone(),
        });
        others.retain(|place| place.strong_count() > 0);
        others.push(Arc::downgrade(&place));
        Ok(Some(place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limits.leave(&self.user);
    }
}

/// The limit that a connection is over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Over {
    #[error(
        "too many connections from this address, the limit is {max} (limits.sockets_per_address)"
    )]
    SocketsPerAddress { max: usize },
    #[error("too many connections of this user, the limit is {max} (limits.sockets_per_user)")]
    SocketsPerUser { max: usize },
    #[error(
        "too many connections at once from this address, the limit is {} a second \
         (limits.handshake_rate)",
        rate.per_second
    )]
    HandshakeRate { rate: Rate, wait: Duration },
    #[error(
        "too many new connections of this user, the limit is {} a second (limits.user_rate)",
        rate.per_second
    )]
    UserRate { rate: Rate, wait: Duration },
}

impl Over {
    fn counter<'a>(&self, counters: &'a Counters) -> &'a AtomicU64 {
        match self {
            Self::SocketsPerAddress { .. } => &counters.sockets_per_address,
            Self::SocketsPerUser { .. } => &counters.sockets_per_user,
            Self::HandshakeRate { .. } => &counters.handshake_rate,
            Self::UserRate { .. } => &counters.user_rate,
        }
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::SocketsPerAddress { .. } | Self::SocketsPerUser { .. } => RETRY_AFTER,
            Self::HandshakeRate { wait, .. } | Self::UserRate { wait, .. } => *wait,
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("config", &self.0.config)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
