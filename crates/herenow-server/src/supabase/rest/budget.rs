//! [`Budget`]: how many messages each client may broadcast over HTTP in a time, which is as many as
//! over one connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use herenow_channels::{Bucket, Rate};
use parking_lot::Mutex;

use crate::identity::Identity;
use crate::limits::Named;

/// How often those that need not be remembered are looked for, at most.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// What is left of the rates of clients. One is remembered until its bucket is full again, and so
/// many of them are at most; those beyond share one bucket.
#[derive(Debug)]
pub(in crate::supabase) struct Budget {
    rate: Rate,
    max_clients: usize,
    began: Instant,
    table: Mutex<Table>,
}

/// Whose messages are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// Who has a token of this user.
    User(Box<str>),
    /// Who comes from an address, or from a network of version 6 that one customer has.
    Address(IpAddr),
    /// All others.
    Other,
}

#[derive(Debug, Default)]
struct Table {
    buckets: HashMap<Client, Bucket>,
    swept: Duration,
}

/// Why messages are not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Over {
    /// They are more than ever may come at once.
    #[error("has {n} entries, the limit is {max} at once ({})", Named::MessageRate)]
    Burst { n: usize, max: u32 },
    /// They are too many now.
    #[error(
        "too many messages, the limit is {} a second and {} at once ({})",
        rate.per_second, rate.burst, Named::MessageRate
    )]
    Rate { rate: Rate, wait: Duration },
}

impl Client {
    /// The user of a token, or else whoever comes from this address: a publishable key is
    /// everybody's, and so is a token without a user.
    pub(super) fn of(identity: &Identity, address: Option<IpAddr>) -> Self {
        let user = identity.key().filter(|_| identity.is_by_token());
        match (user, address.map(|address| address.to_canonical())) {
            (Some(user), _) => Self::User(user.into()),
            (None, Some(IpAddr::V6(address))) => Self::Address(network(address)),
            (None, Some(address)) => Self::Address(address),
            (None, None) => Self::Other,
        }
    }
}

impl Budget {
    pub(in crate::supabase) fn new(rate: Rate, max_clients: usize) -> Self {
        Self {
            rate,
            max_clients,
            began: Instant::now(),
            table: Mutex::default(),
        }
    }

    /// Takes so many messages from a client's budget, all or none.
    pub(super) fn take(&self, client: Client, n: usize) -> Result<(), Over> {
        self.take_at(client, n, self.began.elapsed())
    }

    fn take_at(&self, client: Client, n: usize, now: Duration) -> Result<(), Over> {
        let rate = self.rate;
        if rate.per_second == 0 {
            return Ok(());
        }
        let max = rate.burst;
        if n > max as usize {
            return Err(Over::Burst { n, max });
        }
        let mut table = self.table.lock();
        let bucket = table.bucket(client, self.max_clients, now);
        let mut taken = *bucket;
        let n_missing = (0..n).filter(|_| !taken.take(rate, now)).count();
        if let Some(n_more) = n_missing.checked_sub(1) {
            let more = Duration::from_secs(n_more as u64) / rate.per_second;
            let wait = taken.wait(rate, now) + more;
            return Err(Over::Rate { rate, wait });
        }
        *bucket = taken;
        Ok(())
    }
}

impl Table {
    fn bucket(&mut self, client: Client, max: usize, now: Duration) -> &mut Bucket {
        let is_known = self.buckets.contains_key(&client);
        if !is_known && self.buckets.len() >= max && now - self.swept >= SWEEP_PERIOD {
            self.swept = now;
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let has_room = is_known || self.buckets.len() < max;
        let client = if has_room { client } else { Client::Other };
        self.buckets.entry(client).or_default()
    }
}

/// The upper half of an address, the least that one customer of a provider has.
fn network(address: Ipv6Addr) -> IpAddr {
    let upper = address.to_bits() >> 64 << 64;
    IpAddr::V6(Ipv6Addr::from_bits(upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn user(n: usize) -> Client {
        Client::User(format!("user-{n}").into())
    }

    #[test]
    fn srv_1760_messages_are_taken_all_or_none_and_come_back_at_the_rate() {
        let (rate, ada) = (Rate::new(10, 4), user(1));
        let budget = Budget::new(rate, 10);
        let take = |n, ms| budget.take_at(ada.clone(), n, NOW + Duration::from_millis(ms));
        let wait = |ms| {
            let wait = Duration::from_millis(ms);
            Err(Over::Rate { rate, wait })
        };
        assert_eq!(take(3, 0), Ok(()));
        assert_eq!(take(3, 0), wait(200));
        assert_eq!(take(1, 0), Ok(()), "what was refused took nothing");
        assert_eq!(take(4, 0), wait(400));
        assert_eq!(take(4, 399), wait(1));
        assert_eq!(take(4, 400), Ok(()));
        assert_eq!(take(5, 9_000), Err(Over::Burst { n: 5, max: 4 }));
        assert_eq!(budget.take_at(user(2), 4, NOW), Ok(()), "it is her own");
        let none = Budget::new(Rate::new(0, 1), 10);
        assert_eq!(none.take_at(ada.clone(), 9_999, NOW), Ok(()));
    }

    #[test]
    fn srv_1760_clients_that_are_remembered_are_bounded_and_the_others_share() {
        let budget = Budget::new(Rate::new(10, 4), 3);
        let take = |n, now| budget.take_at(user(n), 4, now);
        let n_let_in = (0..100).filter(|n| take(*n, NOW).is_ok()).count();
        assert_eq!(n_let_in, 3 + 1);
        assert_eq!(budget.table.lock().buckets.len(), 3 + 1);
        let later = NOW + Duration::from_secs(60);
        assert!((0..3).all(|n| take(n + 100, later).is_ok()));
        assert_eq!(budget.table.lock().buckets.len(), 3);
    }

    #[test]
    fn srv_1760_a_client_is_its_tokens_user_or_else_its_network() {
        let guest = Identity::guest();
        let of = |address: &str| Client::of(&guest, Some(address.parse().unwrap()));
        assert_eq!(of("203.0.113.1"), of("::ffff:203.0.113.1"));
        assert_ne!(of("203.0.113.1"), of("203.0.113.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(Client::of(&guest, None), Client::Other);
    }
}
