//! [`Orders`]: what this node told the others to end, and what of theirs it has carried out.
//!
//! An order is remembered for [`MAX_AGE`], and told again to who may have missed it. It must not end
//! what came after it: a node carries out each order once, by the number that its giver gave it, and
//! none that is older than the node's own life, or of a life of its giver before the known one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::link::{End, MAX_BATCH, Message, Order};
use crate::clock;

/// Orders of its own that a node remembers; the oldest make room.
const MAX_ORDERS: usize = 4_096;
/// For how long: with the default of `cluster.permdown_period` (20 minutes) who is away for longer
/// is forgotten by the others, too.
const MAX_AGE: Duration = Duration::from_mins(20);
/// For how long after a node was heard a message of an earlier life of it is one that was late.
/// After that its clock may have been set back, by which lives ascend.
const MAX_LATE: Duration = Duration::from_mins(5);
/// Nodes whose orders are told apart from those carried out; the one not heard for longest makes
/// room.
const MAX_GIVERS: usize = 1_024;

/// The orders that a node knows of.
#[derive(Debug)]
pub(super) struct Orders {
    life: String,
    began: Instant,
    own: VecDeque<Given>,
    n_own: u64,
    done: HashMap<String, Done>,
}

/// An order of this node.
#[derive(Debug)]
struct Given {
    number: u64,
    at: Instant,
    end: End,
}

/// What was carried out for one node, in its latest life.
#[derive(Debug)]
struct Done {
    life: String,
    /// All up to this number are done, or are not told any more.
    up_to: u64,
    after: BTreeSet<u64>,
    heard: Instant,
}

impl Orders {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            life: clock::life(),
            began: now,
            own: VecDeque::new(),
            n_own: 0,
            done: HashMap::new(),
        }
    }

    /// Makes the message that gives an order for the first time.
    pub(super) fn message(&self, end: End) -> Message {
        let (number, age_ms) = (self.n_own + 1, 0);
        self.wrap(vec![Order {
            number,
            age_ms,
            end,
        }])
    }

    /// Remembers the order that the last [`message`](Self::message) gave.
    pub(super) fn remember(&mut self, end: End, now: Instant) {
        self.n_own += 1;
        if self.own.len() == MAX_ORDERS {
            self.own.pop_front();
        }
        let number = self.n_own;
        self.own.push_back(Given {
            number,
            at: now,
            end,
        });
    }

    /// Makes the messages that give all orders again that are not too old.
    pub(super) fn again(&mut self, now: Instant) -> Vec<Message> {
        while let Some(oldest) = self.own.front()
            && now - oldest.at > MAX_AGE
        {
            self.own.pop_front();
        }
        let order = |given: &Given| Order {
            number: given.number,
            age_ms: u64::try_from((now - given.at).as_millis()).unwrap_or(u64::MAX),
            end: given.end.clone(),
        };
        let orders: Vec<Order> = self.own.iter().map(order).collect();
        let batches = orders.chunks(MAX_BATCH);
        batches.map(|batch| self.wrap(batch.to_vec())).collect()
    }

    /// Returns which of a node's orders are to be carried out, with the time when each was given,
    /// and remembers them as done.
    pub(super) fn take(
        &mut self,
        from: &str,
        life: String,
        orders: Vec<Order>,
        now: Instant,
    ) -> Vec<(End, Instant)> {
        let own_age = now - self.began;
        let Some(done) = self.done_for(from, life, now) else {
            tracing::debug!(peer = from, "orders of an earlier life ignored");
            return Vec::new();
        };
        let is_new = |order: &Order| done.is_new(order.number);
        let new: Vec<Order> = orders.into_iter().filter(is_new).collect();
        let mut given = Vec::new();
        for order in new {
            done.note(order.number);
            let age = Duration::from_millis(order.age_ms);
            // Whoever is on a node that is younger has come since.
            if age <= own_age {
                given.push((order.end, now - age));
            }
        }
        given
    }

    fn wrap(&self, orders: Vec<Order>) -> Message {
        let life = self.life.clone();
        Message::Orders { life, orders }
    }

    /// Returns what was carried out for a node in this life of it; `None` if it has a later one. To
    /// begin anew for the earlier one, and again for the later, would carry out all twice.
    fn done_for(&mut self, from: &str, life: String, now: Instant) -> Option<&mut Done> {
        if !self.done.contains_key(from) && self.done.len() >= MAX_GIVERS {
            let oldest = self.done.iter().min_by_key(|(_, done)| done.heard);
            if let Some(oldest) = oldest.map(|(node, _)| node.clone()) {
                self.done.remove(&oldest);
            }
        }
        let new = Done {
            life,
            up_to: 0,
            after: BTreeSet::new(),
            heard: now,
        };
        match self.done.get(from) {
            Some(done) if done.life == new.life => {}
            Some(done) if done.life > new.life && now - done.heard < MAX_LATE => return None,
            _ => _ = self.done.insert(from.to_owned(), new),
        }
        let done = self.done.get_mut(from).expect("it is there or put there");
        done.heard = now;
        Some(done)
    }
}

impl Done {
    fn is_new(&self, number: u64) -> bool {
        number > self.up_to && !self.after.contains(&number)
    }

    fn note(&mut self, number: u64) {
        self.after.insert(number);
        // The giver remembers no more than that, so it does not tell the lowest again.
        if self.after.len() > MAX_ORDERS
            && let Some(lowest) = self.after.pop_first()
        {
            self.up_to = lowest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evict(n: usize) -> End {
        let (key, topic) = (format!("user {n}"), None);
        End::User { key, topic }
    }

    /// What of these messages of `a` is to be carried out, and how long ago it was given.
    fn taken(by: &mut Orders, messages: Vec<Message>, now: Instant) -> Vec<(End, Duration)> {
        let mut taken = Vec::new();
        for message in messages {
            if let Message::Orders { life, orders } = message {
                taken.extend(by.take("a", life, orders, now));
            }
        }
        let taken = taken.into_iter();
        taken.map(|(end, made)| (end, now - made)).collect()
    }

    #[test]
    fn srv_1730_an_order_is_carried_out_once_and_by_no_node_that_is_younger() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let (mut a, mut b) = (Orders::new(at(0)), Orders::new(at(0)));
        let first = a.message(evict(1));
        assert_eq!(taken(&mut b, vec![first], at(10)).len(), 1);
        a.remember(evict(1), at(10));
        a.remember(evict(2), at(20)); // Which b did not hear.
        let missed = (evict(2), Duration::from_secs(30));
        assert_eq!(taken(&mut b, a.again(at(50)), at(50)), [missed]);
        assert_eq!(taken(&mut b, a.again(at(51)), at(51)), []);
        let mut young = Orders::new(at(15));
        let again = taken(&mut young, a.again(at(60)), at(60));
        assert_eq!(again, [(evict(2), Duration::from_secs(40))]);
        // The next life of a counts from 1 again.
        let next = Orders::new(at(70)).message(evict(3));
        assert_eq!(taken(&mut b, vec![next], at(70)).len(), 1);
        assert!(
            a.again(at(20) + MAX_AGE + Duration::from_secs(1))
                .is_empty()
        );
    }

    #[test]
    fn srv_1753_a_late_message_of_an_earlier_life_makes_no_order_be_carried_out_twice() {
        let began = Instant::now();
        let mut b = Orders::new(began);
        let mut take = |life: &str, at| {
            let (number, age_ms, end) = (1, 0, evict(1));
            let order = Order {
                number,
                age_ms,
                end,
            };
            b.take("a", life.to_owned(), vec![order], at).len()
        };
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(take("1", at(1)), 1);
        assert_eq!(take("2", at(10)), 1);
        assert_eq!(take("1", at(11)), 0);
        assert_eq!(take("2", at(40)), 0);
        // A node whose clock was set back is heard, when its former life has not been for a while.
        let silent = at(40) + MAX_LATE;
        assert_eq!(take("1", silent - Duration::from_secs(1)), 0);
        assert_eq!(take("1", silent), 1);
        assert_eq!(take("1", silent), 0);
    }

    #[test]
    fn srv_1730_orders_beyond_the_limit_are_forgotten_by_giver_and_taker_alike() {
        let now = Instant::now();
        let (mut a, mut b) = (Orders::new(now), Orders::new(now));
        for n in 0..MAX_ORDERS + 10 {
            let message = a.message(evict(n));
            a.remember(evict(n), now);
            assert_eq!(taken(&mut b, vec![message], now).len(), 1);
        }
        let again = a.again(now);
        assert_eq!(again.len(), MAX_ORDERS / MAX_BATCH);
        assert_eq!(taken(&mut b, again, now), []);
        let done = &b.done["a"];
        assert_eq!((done.up_to, done.after.len()), (10, MAX_ORDERS));
        for n in 0..=MAX_GIVERS {
            b.take(&format!("node {n}"), "1".to_owned(), Vec::new(), now);
        }
        assert_eq!(b.done.len(), MAX_GIVERS);
    }
}
