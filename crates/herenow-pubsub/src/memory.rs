//! [`MemoryCluster`]: nodes in one process, with switches for loss, delay and partition.
//!
//! Each node has one bounded inbox and one task that hands it what arrives, in the order of arrival
//! time. Without a delay, and without loss, messages of one sender arrive in order. It is an
//! adapter like any other and passes the same suite; the switches make it the one that tests use.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::adapter::{Adapter, AdapterError, Closing, Receiver};

/// Messages that wait for one node; what comes on top is dropped and counted.
const MAX_QUEUED: usize = 65_536;

/// Nodes in one process. Cloning shares the cluster.
#[derive(Clone, Default)]
pub struct MemoryCluster {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    nodes: BTreeMap<Arc<str>, Node>,
    /// One-way cuts, as (from, to).
    cuts: BTreeSet<(Arc<str>, Arc<str>)>,
    delay: Duration,
    /// Of every `loss_of` messages on average one is lost; zero loses none.
    loss_of: u64,
    random: u64,
    n_sent: u64,
    n_lost: u64,
}

struct Node {
    inbox: Arc<Inbox>,
    receiver: Arc<dyn Receiver>,
}

#[derive(Default)]
struct Inbox {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    arrivals: BinaryHeap<Reverse<Arrival>>,
    next_order: u64,
    closed: bool,
}

/// Ordered by time, then by order of sending.
struct Arrival {
    due: Instant,
    order: u64,
    what: What,
}

enum What {
    Message {
        from: Arc<str>,
        subject: Box<str>,
        bytes: Bytes,
    },
    PeerSeen(Arc<str>),
    PeerGone(Arc<str>),
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Arrival {}
impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl MemoryCluster {
    /// Returns a cluster without nodes, without loss and delay.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an adapter for a node of this name; it belongs to the cluster from its start.
    pub fn adapter(&self, node: &str) -> Arc<MemoryAdapter> {
        Arc::new(MemoryAdapter {
            cluster: self.clone(),
            name: Arc::from(node),
            inbox: Mutex::new(Weak::new()),
        })
    }

    /// Loses what `from` sends to `to`, until [`heal`](Self::heal).
    pub fn cut(&self, from: &str, to: &str) {
        self.shared
            .lock()
            .cuts
            .insert((Arc::from(from), Arc::from(to)));
    }

    /// Loses what the nodes of `one` and all others send each other, until [`heal`](Self::heal).
    pub fn partition(&self, one: &[&str]) {
        let mut shared = self.shared.lock();
        let names: Vec<Arc<str>> = shared.nodes.keys().cloned().collect();
        for from in &names {
            for to in &names {
                if one.contains(&&**from) != one.contains(&&**to) {
                    shared.cuts.insert((from.clone(), to.clone()));
                }
            }
        }
    }

    /// Removes all cuts, the loss and the delay.
    pub fn heal(&self) {
        let mut shared = self.shared.lock();
        shared.cuts.clear();
        shared.loss_of = 0;
        shared.delay = Duration::ZERO;
    }

    /// Delays every message sent from now on by `delay`.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// Loses one message of `one_of` on average, by a generator seeded with `seed`; 0 loses none.
    pub fn set_loss(&self, one_of: u64, seed: u64) {
        let mut shared = self.shared.lock();
        shared.loss_of = one_of;
        shared.random = seed;
    }

    /// Removes a node without a word, as if its process had been killed.
    ///
    /// Its messages that are under way still arrive. The others are not told: an engine that
    /// notices is [`report_gone`](Self::report_gone).
    pub fn kill(&self, node: &str) {
        let removed = self.shared.lock().nodes.remove(node);
        if let Some(node) = removed {
            node.inbox.close();
        }
    }

    /// Tells all nodes but `node` that it is gone, as an engine with failure detection would.
    pub fn report_gone(&self, node: &str) {
        let mut shared = self.shared.lock();
        shared.tell_others(node, &What::PeerGone(Arc::from(node)));
    }

    /// Tells all nodes but `node` that it can be talked to, and it that they can, as an engine with
    /// failure detection does after a cut.
    pub fn report_seen(&self, node: &str) {
        let mut shared = self.shared.lock();
        shared.tell_others(node, &What::PeerSeen(Arc::from(node)));
        let peers = shared.nodes.keys().filter(|peer| &***peer != node);
        for peer in peers {
            if let Some(own) = shared.nodes.get(node) {
                own.inbox.push(Duration::ZERO, What::PeerSeen(peer.clone()));
            }
        }
    }

    /// Returns how many messages were sent, counting one per receiver, and how many of them were
    /// lost.
    pub fn n_sent_and_lost(&self) -> (u64, u64) {
        let shared = self.shared.lock();
        (shared.n_sent, shared.n_lost)
    }
}

impl fmt::Debug for MemoryCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared.lock();
        f.debug_struct("MemoryCluster")
            .field("nodes", &shared.nodes.keys().collect::<Vec<_>>())
            .field("n_cuts", &shared.cuts.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn post(&mut self, from: &Arc<str>, to: &str, subject: &str, bytes: &Bytes) {
        self.n_sent += 1;
        let is_cut = self.cuts.iter().any(|(a, b)| a == from && &**b == to);
        if is_cut || self.rolls_a_loss() {
            self.n_lost += 1;
            return;
        }
        let what = What::Message {
            from: from.clone(),
            subject: subject.into(),
            bytes: bytes.clone(),
        };
        let delay = self.delay;
        match self.nodes.get(to) {
            Some(node) if node.inbox.push(delay, what) => {}
            Some(_) | None => self.n_lost += 1,
        }
    }

    fn rolls_a_loss(&mut self) -> bool {
        if self.loss_of == 0 {
            return false;
        }
        // One step of splitmix64: enough for a switch, and it repeats with its seed.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).is_multiple_of(self.loss_of)
    }

    fn tell_others(&mut self, node: &str, what: &What) {
        for (name, other) in &self.nodes {
            if &**name != node {
                let what = match what {
                    What::PeerSeen(peer) => What::PeerSeen(peer.clone()),
                    What::PeerGone(peer) => What::PeerGone(peer.clone()),
                    What::Message { .. } => continue,
                };
                other.inbox.push(self.delay, what);
            }
        }
    }
}

impl Inbox {
    /// Queues an arrival; false if there is no room or nobody to take it.
    fn push(&self, delay: Duration, what: What) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed || queue.arrivals.len() >= MAX_QUEUED {
            return false;
        }
        let order = queue.next_order;
        queue.next_order += 1;
        queue.arrivals.push(Reverse(Arrival {
            due: Instant::now() + delay,
            order,
            what,
        }));
        drop(queue);
        self.wake.notify_one();
        true
    }

    fn close(&self) {
        self.queue.lock().closed = true;
        self.wake.notify_one();
    }

    /// Hands arrivals to `receiver` when they are due, until the inbox is closed.
    async fn run(&self, receiver: &dyn Receiver) {
        loop {
            let due = {
                let mut queue = self.queue.lock();
                if queue.closed {
                    return;
                }
                match queue.arrivals.peek() {
                    Some(Reverse(arrival)) if arrival.due <= Instant::now() => {
                        let Reverse(arrival) = queue.arrivals.pop().expect("it was just seen");
                        drop(queue);
                        hand_over(receiver, arrival.what);
                        continue;
                    }
                    Some(Reverse(arrival)) => Some(arrival.due),
                    None => None,
                }
            };
            match due {
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.wake.notified() => {}
                },
                None => self.wake.notified().await,
            }
        }
    }
}

fn hand_over(receiver: &dyn Receiver, what: What) {
    match what {
        What::Message {
            from,
            subject,
            bytes,
        } => receiver.receive(&from, &subject, bytes),
        What::PeerSeen(peer) => receiver.peer_seen(&peer),
        What::PeerGone(peer) => receiver.peer_gone(&peer),
    }
}

/// One node of a [`MemoryCluster`].
pub struct MemoryAdapter {
    cluster: MemoryCluster,
    name: Arc<str>,
    /// Of the life that `start` began; a killed node of the same name has another.
    inbox: Mutex<Weak<Inbox>>,
}

impl MemoryAdapter {
    /// Returns whether this life of the node is in the cluster.
    fn is_member(&self, shared: &Shared) -> bool {
        let own = self.inbox.lock().upgrade();
        match (own, shared.nodes.get(&self.name)) {
            (Some(own), Some(node)) => Arc::ptr_eq(&own, &node.inbox),
            _ => false,
        }
    }
}

impl Adapter for MemoryAdapter {
    fn node_name(&self) -> &str {
        &self.name
    }

    fn start(&self, receiver: Arc<dyn Receiver>) {
        let inbox = Arc::new(Inbox::default());
        *self.inbox.lock() = Arc::downgrade(&inbox);
        let mut shared = self.cluster.shared.lock();
        shared.tell_others(&self.name, &What::PeerSeen(self.name.clone()));
        for peer in shared.nodes.keys().filter(|peer| **peer != self.name) {
            inbox.push(Duration::ZERO, What::PeerSeen(peer.clone()));
        }
        let node = Node {
            inbox: inbox.clone(),
            receiver: receiver.clone(),
        };
        let before = shared.nodes.insert(self.name.clone(), node);
        drop(shared);
        if let Some(before) = before {
            before.inbox.close();
        }
        tokio::spawn(async move { inbox.run(&*receiver).await });
    }

    fn broadcast(&self, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        let mut shared = self.cluster.shared.lock();
        if !self.is_member(&shared) {
            return Err(AdapterError::Closed);
        }
        let peers: Vec<Arc<str>> = shared
            .nodes
            .keys()
            .filter(|peer| **peer != self.name)
            .cloned()
            .collect();
        for peer in peers {
            shared.post(&self.name, &peer, subject, &bytes);
        }
        Ok(())
    }

    fn send(&self, node: &str, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        let mut shared = self.cluster.shared.lock();
        if !self.is_member(&shared) {
            return Err(AdapterError::Closed);
        }
        shared.post(&self.name, node, subject, &bytes);
        Ok(())
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(async move {
            let mut shared = self.cluster.shared.lock();
            if !self.is_member(&shared) {
                return;
            }
            shared.tell_others(&self.name, &What::PeerGone(self.name.clone()));
            let removed = shared.nodes.remove(&self.name);
            drop(shared);
            if let Some(Node { inbox, receiver }) = removed {
                inbox.close();
                drop(receiver);
            }
        })
    }
}

impl fmt::Debug for MemoryAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAdapter")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
