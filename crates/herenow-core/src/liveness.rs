//! [`Peers`]: the other nodes' replicas of one shard, and who of them is up, down or buried.
//!
//! A node has one replica of a shard at a time. A higher incarnation takes the place of the known
//! one at once. A lower one is most likely a late message and dropped; but once the known one is
//! down it may be a node that was restarted with its clock set back, so then it takes the place
//! too.
//!
//! Only `Bye` buries: what is buried is remembered after its rows are gone, since a message of it
//! that was delayed in the network would otherwise bring its presences back as ghosts. The memory
//! is bounded; the oldest burial is forgotten first. Neither long silence nor another life buries:
//! who was silent may have been cut off all the while, and which of two lives is the late one shows
//! only by which of them goes on. A life that is buried by mistake would never be seen again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ids::{Incarnation, NodeName, ReplicaId, ShardIndex};
use crate::row::{Replica, Version};
use crate::table::Table;
use crate::time::MonoTime;

/// Nodes with buried incarnations that are remembered, for each peer that may be known at once.
const BURIALS_PER_PEER: usize = 4;
/// Buried incarnations remembered of one node.
const BURIALS_PER_NODE: usize = 8;

/// Whether a replica is heard from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerStatus {
    /// It is heard from; its rows are visible, or soon will be.
    Up,
    /// It is silent; its rows are kept and hidden, or soon will be.
    Down,
}

/// Another node's replica of this shard.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) incarnation: Incarnation,
    pub(crate) status: PeerStatus,
    pub(crate) last_heard: MonoTime,
    /// When the current status began.
    pub(crate) since: MonoTime,
    pub(crate) table: Table,
    /// The highest version that it said it has.
    pub(crate) announced: Version,
    /// When what it has and we lack was asked for.
    pub(crate) requested_at: Option<MonoTime>,
    /// The version up to which rows are visible or hidden as the status says; `None` if all are.
    pub(crate) swept: Option<Version>,
}

impl Peer {
    /// Returns whether this life is the known one and up, and has nothing that its table lacks.
    pub(crate) fn is_up_to_date(&self, incarnation: Incarnation, announced: Version) -> bool {
        let is_known = self.incarnation == incarnation && self.status == PeerStatus::Up;
        is_known && self.table.seen() >= self.announced.max(announced)
    }
}

/// What a sign of life means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    /// Of a replica that is up.
    Known,
    /// Of a replica that was down.
    Returned,
    /// Of a replica never heard of.
    New,
    /// Of another life of a known node; the known one must make way.
    OtherLife,
    /// Of a life that is over, or seems to be.
    Buried,
    /// Of one peer too many.
    TooMany,
}

/// All peers of one shard.
#[derive(Debug)]
pub(crate) struct Peers {
    shard: ShardIndex,
    max_peers: usize,
    peers: BTreeMap<NodeName, Peer>,
    buried: BTreeMap<NodeName, VecDeque<Incarnation>>,
    burials: VecDeque<NodeName>,
}

impl Peers {
    pub(crate) fn new(shard: ShardIndex, max_peers: usize) -> Self {
        Self {
            shard,
            max_peers,
            peers: BTreeMap::new(),
            buried: BTreeMap::new(),
            burials: VecDeque::new(),
        }
    }

    /// Tells what a sign of life of this node in this life means; changes nothing.
    pub(crate) fn classify(&self, node: &NodeName, incarnation: Incarnation) -> Contact {
        let lives = self.buried.get(node);
        if lives.is_some_and(|lives| lives.contains(&incarnation)) {
            return Contact::Buried;
        }
        match self.peers.get(node) {
            Some(peer) if incarnation > peer.incarnation => Contact::OtherLife,
            Some(peer) if incarnation < peer.incarnation => match peer.status {
                PeerStatus::Up => Contact::Buried,
                PeerStatus::Down => Contact::OtherLife,
            },
            Some(peer) => match peer.status {
                PeerStatus::Up => Contact::Known,
                PeerStatus::Down => Contact::Returned,
            },
            None if self.peers.len() >= self.max_peers => Contact::TooMany,
            None => Contact::New,
        }
    }

    /// Takes in a replica never heard of, up.
    pub(crate) fn insert(&mut self, now: MonoTime, node: &NodeName, incarnation: Incarnation) {
        let id = ReplicaId {
            node: node.clone(),
            incarnation,
            shard: self.shard,
        };
        let peer = Peer {
            incarnation,
            status: PeerStatus::Up,
            last_heard: now,
            since: now,
            table: Table::new(Replica::new(id)),
            announced: Version::ZERO,
            requested_at: None,
            swept: None,
        };
        self.peers.insert(node.clone(), peer);
    }

    /// Takes out a replica, which may come back.
    pub(crate) fn remove(&mut self, node: &NodeName) -> Option<Peer> {
        self.peers.remove(node)
    }

    /// Remembers that a life of a node is over, and takes out its replica if that is the known one.
    ///
    /// The good-bye of a life may come after another has taken its place, and counts then too.
    pub(crate) fn bury(&mut self, node: &NodeName, incarnation: Incarnation) -> Option<Peer> {
        let lives = self.buried.entry(node.clone()).or_insert_with(|| {
            self.burials.push_back(node.clone());
            VecDeque::new()
        });
        if !lives.contains(&incarnation) {
            lives.push_back(incarnation);
        }
        if lives.len() > BURIALS_PER_NODE {
            lives.pop_front();
        }
        if self.burials.len() > self.max_peers.saturating_mul(BURIALS_PER_PEER)
            && let Some(oldest) = self.burials.pop_front()
        {
            self.buried.remove(&oldest);
        }
        let is_known = |peer: &Peer| peer.incarnation == incarnation;
        if self.peers.get(node).is_some_and(is_known) {
            self.peers.remove(node)
        } else {
            None
        }
    }

    /// Counts everyone as heard `grace` before going down, who would otherwise be later.
    pub(crate) fn grant(&mut self, now: MonoTime, down_period: Duration, grace: Duration) {
        let least = now
            .elapsed()
            .saturating_sub(down_period.saturating_sub(grace));
        let least = MonoTime::since_origin(least);
        for peer in self.peers.values_mut() {
            if peer.status == PeerStatus::Up {
                peer.last_heard = peer.last_heard.max(least);
            }
        }
    }

    pub(crate) fn get(&self, node: &NodeName) -> Option<&Peer> {
        self.peers.get(node)
    }

    pub(crate) fn get_mut(&mut self, node: &NodeName) -> Option<&mut Peer> {
        self.peers.get_mut(node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.peers.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Returns how many nodes there are of which a life is known to be over.
    pub(crate) fn n_burials(&self) -> usize {
        self.buried.len()
    }

    /// Returns the nodes that are up and were silent for `down_period`.
    pub(crate) fn fallen_silent(&self, now: MonoTime, down_period: Duration) -> Vec<NodeName> {
        self.silent(now, PeerStatus::Up, down_period)
    }

    /// Returns the nodes that are down and were silent for `permdown_period`.
    pub(crate) fn given_up(&self, now: MonoTime, permdown_period: Duration) -> Vec<NodeName> {
        self.silent(now, PeerStatus::Down, permdown_period)
    }

    fn silent(&self, now: MonoTime, status: PeerStatus, period: Duration) -> Vec<NodeName> {
        let silent = self.peers.iter().filter(|(_, peer)| {
            peer.status == status && now.duration_since(peer.last_heard) >= period
        });
        silent.map(|(node, _)| node.clone()).collect()
    }
}
