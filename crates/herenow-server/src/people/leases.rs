//! [`Leases`]: the task that owns them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use herenow_presence::{Here, LeaveReason, Presence};
use herenow_pubsub::{AdapterError, Link, LogLimit, client_text};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::command::Command;
use super::elsewhere::Elsewhere;
use super::link::{Arrival, Claim, End, MAX_BATCH, Message, Stamp};
use super::orders::Orders;
use super::{Change, Held, Name, ONLINE_AT, PeopleError, Stats};
use crate::clock::since_1970;
use crate::identity;
use crate::links;

/// How long a lease that another node has now is kept, for its presence to be seen here before.
const MOVING_TIME: Duration = Duration::from_millis(100);
/// How often all nodes are told again what is to end: a broker does not say who is back.
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// How often they are told again of a lease, for those who did not hear how it began.
const CLAIM_AGAIN: Duration = Duration::from_mins(1);
/// How often they are told of the leases that are due.
const CLAIM_TICK: Duration = Duration::from_secs(5);
/// Ticks in which all leases must be told of at least.
const CLAIM_TICKS: usize = 12;

/// All leases of this node.
pub(super) struct Leases {
    presence: Presence,
    link: Link,
    max_leases: usize,
    stats: Arc<Stats>,
    held: HashMap<Name, Lease>,
    /// By when they end; numbers tell those of one moment apart.
    ends: BTreeMap<(Instant, u64), Name>,
    n_ends: u64,
    elsewhere: Elsewhere,
    orders: Orders,
    refusals_log: LogLimit,
}

struct Lease {
    /// Dropping it is the leave.
    here: Here,
    meta: Map<String, Value>,
    phx_ref: String,
    lease: Duration,
    ends: (Instant, u64),
    /// When a backend asked for it last.
    asked: Instant,
    stamp: Stamp,
    /// When all others were told of it last.
    told: Instant,
    /// Whether another node has it now, and this one waits to see it there.
    is_moved: bool,
}

impl Leases {
    pub(super) fn new(
        presence: Presence,
        link: Link,
        max_leases: usize,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            presence,
            link,
            max_leases,
            stats,
            held: HashMap::new(),
            ends: BTreeMap::new(),
            n_ends: 0,
            elsewhere: Elsewhere::default(),
            orders: Orders::new(Instant::now()),
            refusals_log: LogLimit::default(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut arrivals: mpsc::Receiver<Arrival>,
    ) {
        let mut again = interval(TELL_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut claims = interval(CLAIM_TICK);
        claims.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.ends.first_key_value().map(|((at, _), _)| *at);
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Close) | None => return,
                    Some(command) => self.handle(command).await,
                },
                Some(arrival) = arrivals.recv() => match arrival {
                    Arrival::Message { from, message } => self.on_message(&from, message).await,
                    Arrival::Seen(peer) => self.on_seen(&peer),
                },
                () = due => self.expire(),
                _ = again.tick() => self.tell_again(),
                _ = claims.tick() => self.tell_claims_again(),
            }
            self.stats
                .n_leases
                .store(self.held.len() as u64, Ordering::Relaxed);
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Hold(write) if !self.held.contains_key(&write.name) => {
                let held = self.begin(write.name, write.change, write.lease).await;
                let _gone = write.answer.send(held);
            }
            Command::Hold(write) | Command::Renew(write) => {
                let held = match self.held.contains_key(&write.name) {
                    true => self.renew(&write.name, write.change, write.lease).await,
                    false => Err(PeopleError::NotHeld),
                };
                let _gone = write.answer.send(held);
            }
            Command::End { name, answer } => {
                let _gone = answer.send(self.end_own(name).await);
            }
            Command::Claimant { name, answer } => {
                let stamp = self.elsewhere.stamp(&name);
                let _gone = answer.send(stamp.map(|stamp| stamp.node.clone()));
            }
            Command::EndAll { end, answer } => {
                let _gone = answer.send(self.end_all(end).await);
            }
            Command::Close => {}
        }
    }

    async fn begin(
        &mut self,
        name: Name,
        change: Change,
        lease: Option<Duration>,
    ) -> Result<Held, PeopleError> {
        if self.held.len() >= self.max_leases {
            let max = self.max_leases;
            if let Some(n_left_out) = self.refusals_log.may_log() {
                tracing::warn!(
                    max,
                    n_left_out,
                    "a presence of a backend refused: api.max_leases"
                );
            }
            return Err(PeopleError::Full { max });
        }
        // If it moves here, it takes along what it had there.
        let before = self.elsewhere.meta(&name, &self.presence);
        let (lease, mut meta) = (lease.unwrap_or_default(), change.applied_to(before));
        let now = Value::String(since_1970().as_secs().to_string());
        meta.entry(ONLINE_AT).or_insert(now);
        let here = self
            .presence
            .track_on(&name.topic, &name.key, &meta)
            .await?;
        here.end_with(LeaveReason::Closed);
        let phx_ref = here.meta_ref().to_string();
        let held = Held {
            is_new: true,
            phx_ref: phx_ref.clone(),
            lease,
        };
        let new = Lease {
            here,
            meta,
            phx_ref,
            lease,
            ends: self.next_end(&name, lease),
            asked: Instant::now(),
            stamp: self.next_stamp(&name),
            told: Instant::now(),
            is_moved: false,
        };
        self.tell_claims(None, vec![new.claim(&name)]);
        self.held.insert(name, new);
        Ok(held)
    }

    async fn renew(
        &mut self,
        name: &Name,
        change: Change,
        lease: Option<Duration>,
    ) -> Result<Held, PeopleError> {
        let is_elsewhere = self.is_elsewhere(name);
        let stamp = self.next_stamp(name);
        let held = self.held.get_mut(name).ok_or(PeopleError::NotHeld)?;
        let meta = change.applied_to(held.meta.clone());
        let is_changed = meta != held.meta;
        if is_changed {
            held.phx_ref = held.here.update(&meta).await?.to_string();
            held.meta = meta;
        }
        held.lease = lease.unwrap_or(held.lease);
        held.asked = Instant::now();
        let answer = Held {
            is_new: false,
            phx_ref: held.phx_ref.clone(),
            lease: held.lease,
        };
        // Another node that holds it as well, after a time in which the two could not talk, is to
        // let go: this one was asked last.
        held.stamp = stamp;
        let is_news = std::mem::take(&mut held.is_moved) || is_elsewhere || is_changed;
        if is_news {
            held.told = held.asked;
        }
        let claim = held.claim(name);
        self.ends_in(name, answer.lease);
        if is_news {
            self.tell_claims(None, vec![claim]);
        }
        Ok(answer)
    }

    /// A stamp for a lease that this node has from now on: later than any known for it, also if
    /// that one's clock is ahead.
    fn next_stamp(&self, name: &Name) -> Stamp {
        let own = self.held.get(name).map(|held| &held.stamp);
        let latest = own.max(self.elsewhere.stamp(name));
        let next = latest.map_or(0, |stamp| stamp.unix_nanos.saturating_add(1));
        let clock = u64::try_from(since_1970().as_nanos()).unwrap_or(u64::MAX);
        Stamp {
            unix_nanos: clock.max(next),
            node: self.presence.pubsub().node_name().to_owned(),
        }
    }

    /// Whether the key is present in the topic from another node, whoever holds it there.
    fn is_elsewhere(&self, name: &Name) -> bool {
        let own = self.presence.pubsub().node_name();
        let entry = self.presence.entry(&name.topic, &name.key);
        let mut metas = entry.iter().flat_map(|entry| entry.metas());
        metas.any(|meta| meta.node().as_str() != own)
    }

    /// Tells a node, or all others, that this one has these leases.
    fn tell_claims(&self, to: Option<&str>, claims: Vec<Claim>) {
        for claims in claims.chunks(MAX_BATCH) {
            let claims = links::encode(&Message::Held(claims.to_vec()));
            // Not told, the others keep theirs until it runs out, or they are told again.
            let _refused = match to {
                Some(peer) => self.link.send(peer, claims),
                None => self.link.broadcast(claims),
            };
        }
    }

    /// Tells a node that may have missed it what this one holds, and what was to end.
    fn on_seen(&mut self, peer: &str) {
        let held = self.held.iter().filter(|(_, lease)| !lease.is_moved);
        let claims = held.map(|(name, lease)| lease.claim(name)).collect();
        self.tell_claims(Some(peer), claims);
        for orders in self.orders.again(Instant::now()) {
            // Not told, it is with the next turn for all.
            let _refused = self.link.send(peer, links::encode(&orders));
        }
    }

    fn tell_again(&mut self) {
        for orders in self.orders.again(Instant::now()) {
            let _refused = self.link.broadcast(links::encode(&orders));
        }
    }

    /// Tells all nodes again of the leases that they were not told of for a while. One that did not
    /// hear of a lease lets it move without its meta, and no broker says who was away.
    fn tell_claims_again(&mut self) {
        let now = Instant::now();
        // Of many that began together not all at once.
        let max = MAX_BATCH.max(self.held.len().div_ceil(CLAIM_TICKS));
        let is_due = |lease: &Lease| !lease.is_moved && now - lease.told >= CLAIM_AGAIN;
        let held = self.held.iter_mut();
        let due = held.filter(|(_, lease)| is_due(lease)).take(max);
        let claims = due.map(|(name, lease)| {
            lease.told = now;
            lease.claim(name)
        });
        let claims = claims.collect();
        self.tell_claims(None, claims);
    }

    fn next_end(&mut self, name: &Name, lease: Duration) -> (Instant, u64) {
        self.n_ends += 1;
        let ends = (Instant::now() + lease, self.n_ends);
        self.ends.insert(ends, name.clone());
        ends
    }

    /// Sets when a lease that is held ends.
    fn ends_in(&mut self, name: &Name, time: Duration) {
        let ends = self.next_end(name, time);
        if let Some(held) = self.held.get_mut(name) {
            let before = std::mem::replace(&mut held.ends, ends);
            self.ends.remove(&before);
        }
    }

    fn take(&mut self, name: &Name) -> Option<Lease> {
        let lease = self.held.remove(name)?;
        self.ends.remove(&lease.ends);
        Some(lease)
    }

    /// Ends a lease that this node holds, or one that is in grace here, and whatever another node
    /// may hold under its name.
    async fn end_own(&mut self, name: Name) -> Result<bool, PeopleError> {
        let may_be_elsewhere = self.elsewhere.stamp(&name).is_some() || self.is_elsewhere(&name);
        let was_here = self.end(&name).await || self.end_grace_of_lease(&name).await;
        if was_here && may_be_elsewhere {
            self.end_all(End::Lease(name)).await?;
        }
        Ok(was_here)
    }

    /// Ends something here and on all other nodes.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] if the others cannot be told; then nothing is ended here either.
    async fn end_all(&mut self, end: End) -> Result<(), AdapterError> {
        let message = self.orders.message(end.clone());
        self.link.broadcast(links::encode(&message))?;
        let now = Instant::now();
        self.orders.remember(end.clone(), now);
        self.carry_out(end, now).await;
        Ok(())
    }

    async fn end(&mut self, name: &Name) -> bool {
        match self.take(name) {
            Some(lease) => {
                lease.here.untrack().await;
                true
            }
            None => false,
        }
    }

    /// Lets a user go who is only held back from this node's readers. Returns whether it was.
    async fn end_grace(&self, name: &Name, reason: LeaveReason) -> bool {
        let (topic, key) = (&name.topic, &name.key);
        self.presence.end_grace(topic, key, reason).await
    }

    /// The same if what is held back was a lease: a client's own is not a backend's to end.
    async fn end_grace_of_lease(&self, name: &Name) -> bool {
        let is_lease = self.elsewhere.is_shown(name, &self.presence);
        is_lease && self.end_grace(name, LeaveReason::Left).await
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.ends.first_entry()
            && entry.key().0 <= now
        {
            let name = entry.remove();
            // Its drop is the leave, with the reason `closed`.
            let Some(lease) = self.held.remove(&name) else {
                continue;
            };
            let (counter, what) = match lease.is_moved {
                true => (&self.stats.n_moved, "a lease moved to another node"),
                false => (&self.stats.n_expired, "a lease ran out"),
            };
            if !lease.is_moved {
                // It may be in grace now, where only its claim says that it is no client's own.
                self.elsewhere.note(lease.claim(&name), &self.presence);
            }
            counter.fetch_add(1, Ordering::Relaxed);
            let (topic, key) = (client_text(&name.topic), client_text(&name.key));
            tracing::debug!(%topic, %key, "{what}");
        }
    }

    async fn on_message(&mut self, from: &str, message: Message) {
        match message {
            Message::Held(claims) => self.on_claims(from, claims),
            Message::Orders { life, orders } => {
                for (end, given) in self.orders.take(from, life, orders, Instant::now()) {
                    self.carry_out(end, given).await;
                }
            }
        }
    }

    fn on_claims(&mut self, from: &str, claims: Vec<Claim>) {
        let mut own = Vec::new();
        for claim in claims {
            if let Some(held) = self.held.get_mut(&claim.name) {
                if held.stamp < claim.stamp {
                    // The message can be faster than the presence that it is about.
                    held.is_moved = true;
                    self.ends_in(&claim.name, MOVING_TIME);
                } else if !held.is_moved {
                    own.push(held.claim(&claim.name));
                }
            }
            self.elsewhere.note(claim, &self.presence);
        }
        // The other one has not heard of the later claim, or it would not have made its own.
        self.tell_claims(Some(from), own);
    }

    /// Ends what there is here of something that was to end when the order was `given`.
    async fn carry_out(&mut self, end: End, given: Instant) {
        match end {
            End::Lease(name) => {
                if self.held.get(&name).is_none_or(|held| held.asked <= given) {
                    self.end(&name).await;
                    self.end_grace_of_lease(&name).await;
                }
            }
            End::User { key, topic } => self.evict(&key, topic, given).await,
        }
    }

    async fn evict(&mut self, key: &str, topic: Option<String>, given: Instant) {
        let is_meant = |(name, held): &(&Name, &Lease)| {
            let is_topic = topic.as_ref().is_none_or(|topic| name.topic == *topic);
            name.key == key && is_topic && held.asked <= given
        };
        let meant = self.held.iter().filter(is_meant);
        let meant: Vec<Name> = meant.map(|(name, _)| name.clone()).collect();
        for name in meant {
            if let Some(lease) = self.take(&name) {
                lease.here.end_with(LeaveReason::Evicted);
            }
        }
        let is_from_all = topic.is_none();
        let topics = match topic {
            Some(topic) => vec![topic],
            None => {
                let topics = self.presence.topics_of_key(key, None, usize::MAX);
                topics.iter().map(ToString::to_string).collect()
            }
        };
        for topic in topics {
            identity::evict_from(self.presence.pubsub(), &topic, key);
            let key = key.to_owned();
            let name = Name { topic, key };
            self.end_grace(&name, LeaveReason::Evicted).await;
        }
        if is_from_all {
            identity::evict(self.presence.pubsub(), key);
        }
    }
}

impl Lease {
    fn claim(&self, name: &Name) -> Claim {
        Claim {
            name: name.clone(),
            stamp: self.stamp.clone(),
            phx_ref: self.phx_ref.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
