//! [`Limits`]: how many connections one address or one user may have, and how fast they may come.
//!
//! An address is an IPv4 address or an IPv6 network of 64 bits, the least that one customer of a
//! provider has. It is the client's: what a trusted proxy says it is. The loopback is counted and
//! never refused: what comes from there is this machine, or a proxy on it that is not trusted, behind
//! which all clients look like one.
//!
//! One table, under one lock, is all the state. An entry is there while its address has a
//! connection or has not got all tokens of its rate back, so it is bounded by the connections, and
//! by `limits.max_addresses` for those that have none; beyond that a newcomer is let in unseen, and
//! counted. The connections of each user are counted in a table of their own: a connection's own user
//! has its [`Place`] in the [`Permit`], and the users whom its channels know by tokens of theirs have
//! those that [`Places`] hands out. What one *connection* may send is its own affair, see [`herenow_channels::Rate`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use herenow_channels::{Bucket, ConnectInfo, ConnectRefused, Connected, Rate};
use parking_lot::Mutex;

use crate::config::LimitsConfig;

/// How often the log says that something was refused.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// How often addresses that need not be remembered are looked for, at most.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// When a client that has too many connections may try again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What one address and one user may have. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Limits(Arc<Inner>);

struct Inner {
    config: LimitsConfig,
    began: Instant,
    addresses: Mutex<Addresses>,
    /// Connections of each user that has any, by the id of its connections.
    users: Mutex<HashMap<Arc<str>, usize>>,
    counters: Counters,
}

#[derive(Default)]
struct Addresses {
    by_network: HashMap<Network, Address>,
    /// How many of them have no connection.
    n_idle: usize,
    swept: Duration,
}

/// An IPv4 address, or the upper half of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    V6(u64),
}

#[derive(Debug, Default)]
struct Address {
    n_sockets: usize,
    handshakes: Bucket,
}

#[derive(Default)]
struct Counters {
    sockets_per_address: AtomicU64,
    sockets_per_user: AtomicU64,
    handshake_rate: AtomicU64,
    overflows: AtomicU64,
    /// When the log said something last, in milliseconds since the beginning.
    logged_ms: AtomicU64,
}

/// What was refused, by the limit, and what could not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitCounts {
    pub(crate) sockets_per_address: u64,
    pub(crate) sockets_per_user: u64,
    pub(crate) handshake_rate: u64,
    pub(crate) overflows: u64,
}

/// A connection's place among those of its address and its user. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Limits,
    network: Option<Network>,
    user: Option<Place>,
}

/// A connection's place among those of one user. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    limits: Limits,
    user: Arc<str>,
}

/// The users whose connection this is: its own, and those of its channels' tokens. It has one place
/// among those of each, however many of its channels are that user's; they share it, and it is given
/// back with the last of them.
#[derive(Debug)]
pub(crate) struct Places {
    limits: Limits,
    /// The user whose place the permit has.
    own: Option<Box<str>>,
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
        }))
    }

    /// Lets a request for a connection in, by its address; to be asked before anything else.
    ///
    /// # Errors
    ///
    /// 429 with a reason that names the limit, counted and logged.
    pub(crate) fn admit(&self, info: &ConnectInfo) -> Result<Permit, ConnectRefused> {
        self.admit_client(info.client())
            .map_err(ConnectRefused::from)
    }

    /// Lets a request in that is no connection's, by its client's address; it counts as a connection
    /// until the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`TooMany`], counted and logged.
    pub(crate) fn admit_client(&self, client: Option<IpAddr>) -> Result<Permit, TooMany> {
        self.admit_address(client, self.0.began.elapsed())
            .map_err(|over| self.refuse(&over))
    }

    fn admit_address(&self, client: Option<IpAddr>, now: Duration) -> Result<Permit, Over> {
        let mut permit = Permit {
            limits: self.clone(),
            network: None,
            user: None,
        };
        let config = &self.0.config;
        let is_off = config.sockets_per_address == 0 && config.handshake_rate.per_second == 0;
        let Some(client) = client.filter(|_| !is_off) else {
            return Ok(permit);
        };
        let client = client.to_canonical();
        let network = Network::of(client);
        let mut addresses = self.0.addresses.lock();
        if !addresses.has_room_for(network, config.max_addresses, now) {
            self.0.counters.overflows.fetch_add(1, Ordering::Relaxed);
            // It is remembered from here on: as a connection, which there are not too many of.
        }
        let is_new = !addresses.by_network.contains_key(&network);
        let address = addresses.by_network.entry(network).or_default();
        let (max, rate) = (config.sockets_per_address, config.handshake_rate);
        let has_token = address.handshakes.take(rate, now);
        let is_over = max > 0 && address.n_sockets >= max;
        let wait = address.handshakes.wait(rate, now);
        let is_refused = (!has_token || is_over) && !client.is_loopback();
        if is_refused {
            addresses.n_idle += usize::from(is_new);
            return Err(if has_token {
                Over::SocketsPerAddress { max }
            } else {
                Over::HandshakeRate { rate, wait }
            });
        }
        let was_idle = !is_new && address.n_sockets == 0;
        address.n_sockets += 1;
        addresses.n_idle -= usize::from(was_idle);
        permit.network = Some(network);
        Ok(permit)
    }

    /// Takes a place among the connections of a user, by the id of those.
    fn place_of(&self, user: &str) -> Result<Place, TooMany> {
        let max = self.0.config.sockets_per_user;
        let user: Arc<str> = user.into();
        let mut users = self.0.users.lock();
        let n_sockets = users.entry(user.clone()).or_default();
        if max > 0 && *n_sockets >= max {
            drop(users); // It has some, so that the entry was there.
            return Err(self.refuse(&Over::SocketsPerUser { max }));
        }
        *n_sockets += 1;
        drop(users);
        Ok(Place {
            limits: self.clone(),
            user,
        })
    }

    /// The places of a connection that was let in by its user, if it has one.
    pub(crate) fn places(&self, own: Option<&str>) -> Places {
        Places {
            limits: self.clone(),
            own: own.map(Into::into),
            others: Mutex::default(),
        }
    }

    fn refuse(&self, over: &Over) -> TooMany {
        let (reason, counter) = (over.to_string(), over.counter(&self.0.counters));
        let n_refused = counter.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ms = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let logged = &self.0.counters.logged_ms;
        let last_ms = logged.load(Ordering::Relaxed);
        let is_due =
            n_refused == 1 || Duration::from_millis(now_ms - last_ms.min(now_ms)) >= LOG_PERIOD;
        if is_due {
            logged.store(now_ms, Ordering::Relaxed);
            tracing::warn!(reason, n_refused, "connection refused");
        }
        let retry_after = over.retry_after();
        TooMany {
            reason,
            retry_after,
        }
    }

    /// Returns what was refused so far.
    pub(crate) fn counts(&self) -> LimitCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        LimitCounts {
            sockets_per_address: read(&counters.sockets_per_address),
            sockets_per_user: read(&counters.sockets_per_user),
            handshake_rate: read(&counters.handshake_rate),
            overflows: read(&counters.overflows),
        }
    }

    /// Returns how many addresses are remembered.
    pub(crate) fn n_addresses(&self) -> usize {
        self.0.addresses.lock().by_network.len()
    }
}

impl Permit {
    /// Lets the connection in, by its user, and keeps the place until it has ended.
    ///
    /// # Errors
    ///
    /// As [`Limits::admit`].
    pub(crate) fn enter(mut self, connected: Connected) -> Result<Connected, ConnectRefused> {
        let is_limited = self.limits.0.config.sockets_per_user > 0;
        let user = connected.id.as_deref().filter(|_| is_limited);
        self.user = user.map(|user| self.limits.place_of(user)).transpose()?;
        Ok(connected.keeping(self))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.limits.0;
        if let Some(network) = self.network {
            let (max_idle, now) = (inner.config.max_addresses, inner.began.elapsed());
            inner.addresses.lock().leave(network, max_idle, now);
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
    pub(crate) fn of(&self, user: &str) -> Result<Option<Arc<Place>>, TooMany> {
        if self.own.as_deref() == Some(user) {
            return Ok(None);
        }
        let mut others = self.others.lock();
        let is_of = |place: &Arc<Place>| &*place.user == user;
        if let Some(place) = others.iter().filter_map(Weak::upgrade).find(is_of) {
            return Ok(Some(place));
        }
        let place = Arc::new(self.limits.place_of(user)?);
        others.retain(|place| place.strong_count() > 0);
        others.push(Arc::downgrade(&place));
        Ok(Some(place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.limits.0.users.lock();
        if let Entry::Occupied(mut entry) = users.entry(self.user.clone()) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

impl Addresses {
    /// Takes out a connection; its address is remembered while its rate is, if there is room.
    fn leave(&mut self, network: Network, max_idle: usize, now: Duration) {
        let Entry::Occupied(mut entry) = self.by_network.entry(network) else {
            return;
        };
        entry.get_mut().n_sockets -= 1;
        if entry.get().n_sockets == 0 {
            if entry.get().handshakes.is_full(now) || self.n_idle >= max_idle {
                entry.remove();
            } else {
                self.n_idle += 1;
            }
        }
    }

    /// Makes room for a newcomer, if there is none; false if that cannot be had now.
    fn has_room_for(&mut self, network: Network, max: usize, now: Duration) -> bool {
        if self.n_idle < max || self.by_network.contains_key(&network) {
            return true;
        }
        if now.saturating_sub(self.swept) >= SWEEP_PERIOD {
            self.swept = now;
            self.by_network
                .retain(|_, address| address.n_sockets > 0 || !address.handshakes.is_full(now));
            let addresses = self.by_network.values();
            self.n_idle = addresses.filter(|address| address.n_sockets == 0).count();
        }
        self.n_idle < max
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(upper_half(address)),
        }
    }
}

fn upper_half(address: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = address.segments().map(u64::from);
    a << 48 | b << 32 | c << 16 | d
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
}

impl Over {
    fn counter<'a>(&self, counters: &'a Counters) -> &'a AtomicU64 {
        match self {
            Self::SocketsPerAddress { .. } => &counters.sockets_per_address,
            Self::SocketsPerUser { .. } => &counters.sockets_per_user,
            Self::HandshakeRate { .. } => &counters.handshake_rate,
        }
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::SocketsPerAddress { .. } | Self::SocketsPerUser { .. } => RETRY_AFTER,
            Self::HandshakeRate { wait, .. } => *wait,
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
mod tests {
    use super::*;

    fn limits(change: impl FnOnce(&mut LimitsConfig)) -> Limits {
        let mut config = LimitsConfig::default();
        change(&mut config);
        Limits::new(config)
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn srv_850_an_address_has_so_many_connections_and_not_more() {
        let limits = limits(|config| config.sockets_per_address = 2);
        let admit = |of| limits.admit_address(address(of), NOW);
        let (one, _two) = (admit("203.0.113.1").unwrap(), admit("203.0.113.1").unwrap());
        let over = admit("203.0.113.1").unwrap_err();
        assert_eq!(
            over.to_string(),
            "too many connections from this address, the limit is 2 (limits.sockets_per_address)"
        );
        let _other = admit("203.0.113.2").unwrap();
        drop(one);
        let _again = admit("203.0.113.1").unwrap();
        assert!(
            admit("::ffff:203.0.113.1").is_err(),
            "it is the same address"
        );
        // The loopback is never refused, and who has no address is not either.
        let _many: Vec<_> = (0..9).map(|_| admit("127.0.0.1").unwrap()).collect();
        let _none: Vec<_> = (0..9)
            .map(|_| limits.admit_address(None, NOW).unwrap())
            .collect();
    }

    #[test]
    fn srv_850_an_address_of_version_6_is_its_upper_half() {
        let limits = limits(|config| config.sockets_per_address = 1);
        let admit = |of| limits.admit_address(address(of), NOW);
        let _held = admit("2001:db8:1:2::1").unwrap();
        assert!(admit("2001:db8:1:2:ffff::9").is_err());
        assert!(admit("2001:db8:1:3::1").is_ok());
    }

    #[test]
    fn srv_851_handshakes_of_an_address_come_at_a_rate() {
        let limits = limits(|config| config.handshake_rate = Rate::new(10, 2));
        let admit =
            |ms| limits.admit_address(address("203.0.113.1"), NOW + Duration::from_millis(ms));
        drop((admit(0).unwrap(), admit(0).unwrap()));
        let over = admit(0).unwrap_err();
        assert!(
            over.to_string()
                .contains("10 a second (limits.handshake_rate)"),
            "{over}"
        );
        assert_eq!(over.retry_after(), Duration::from_millis(100));
        assert!(admit(99).is_err());
        assert!(admit(100).is_ok());
    }

    #[test]
    fn srv_1262_limits_that_are_off_remember_nobody() {
        let limits = limits(|config| {
            config.handshake_rate = Rate::new(0, 1);
            (config.sockets_per_address, config.sockets_per_user) = (0, 0);
        });
        let permit = limits.admit_address(address("203.0.113.1"), NOW).unwrap();
        let _held = permit.enter(Connected::with_id("users:ada")).unwrap();
        assert_eq!(limits.n_addresses(), 0);
        assert!(limits.0.users.lock().is_empty());
    }

    #[test]
    fn srv_853_a_user_has_so_many_connections_and_a_refused_one_takes_no_place() {
        let limits = limits(|config| config.sockets_per_user = 1);
        let enter = |user: &str| {
            let permit = limits.admit_address(address("203.0.113.1"), NOW).unwrap();
            permit.enter(Connected::with_id(user))
        };
        let held = enter("users:ada").unwrap();
        assert!(enter("users:ada").is_err());
        assert_eq!(limits.counts().sockets_per_user, 1);
        let other = enter("users:bob").unwrap();
        drop(held);
        let again = enter("users:ada").unwrap();
        drop((other, again));
        assert!(limits.0.users.lock().is_empty());
    }

    #[test]
    fn srv_1250_a_connection_has_one_place_of_each_user_of_its_channels() {
        let limits = limits(|config| config.sockets_per_user = 1);
        let (one, other) = (limits.places(None), limits.places(Some("users:bob")));
        let ada = one.of("users:ada").unwrap().unwrap();
        let again = one.of("users:ada").unwrap().unwrap();
        assert!(
            Arc::ptr_eq(&ada, &again),
            "two channels of a connection share it"
        );
        assert!(other.of("users:bob").unwrap().is_none(), "it is its own");
        let over = other.of("users:ada").unwrap_err();
        assert_eq!(
            over.reason,
            "too many connections of this user, the limit is 1 (limits.sockets_per_user)"
        );
        assert_eq!(limits.counts().sockets_per_user, 1);
        drop(ada);
        assert!(other.of("users:ada").is_err(), "one channel is still hers");
        drop(again);
        let moved = other.of("users:ada").unwrap();
        assert!(one.of("users:ada").is_err());
        drop((moved, one, other));
        assert!(limits.0.users.lock().is_empty());
    }

    #[test]
    fn srv_852_what_is_remembered_is_bounded() {
        let limits = limits(|config| {
            config.max_addresses = 100;
            config.handshake_rate = Rate::new(1, 5);
        });
        let admit = |n: u32, now| {
            let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0900_0000 + n));
            limits.admit_address(Some(client), now)
        };
        for n in 0..5_000 {
            drop(admit(n, NOW).unwrap());
        }
        assert_eq!(limits.n_addresses(), 100);
        assert_eq!(limits.counts().overflows, 4_900);
        // Those that hold connections are remembered, whatever the bound is.
        let held: Vec<_> = (0..200).map(|n| admit(n, NOW).unwrap()).collect();
        // Later, nobody else needs to be.
        let later = NOW + Duration::from_secs(60);
        let newcomer = admit(9_999, later).unwrap();
        assert_eq!(limits.n_addresses(), 201);
        drop((held, newcomer));
    }
}
