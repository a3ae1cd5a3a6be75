//! [`Shard`]: the state machine that holds a node's part of one partition of all topics.
//!
//! It owns the node's own rows, one table per peer, and the index over both. Inputs are the
//! `handle_*` methods; effects leave through [`poll_output`](Shard::poll_output). Writes are in
//! `writes.rs`, what peers say and liveness in `replication.rs`, answers to requests in
//! `transfer.rs`, rows that come and go with their replica in `sweep.rs`.

mod writes;
mod replication;
mod transfer;
mod sweep;

pub use writes::{TrackError, UpdateError};

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::{ConfigError, ShardConfig};
use crate::diff::{Diff, LeaveReason};
use crate::history::History;
use crate::ids::{Incarnation, Key, NodeName, OwnerId, ReplicaId, Topic};
use crate::index::Index;
use crate::liveness::{PeerStatus, Peers};
use crate::message::ShardMessage;
use crate::readers::Readers;
use crate::row::{Replica, Row, Version};
use crate::shard::sweep::Sweeps;
use crate::shard::transfer::Transfers;
use crate::table::Table;
use crate::time::MonoTime;

/// What the host must do.
#[derive(Debug, Clone)]
pub enum Output {
    /// Tell local readers.
    Diff(Diff),
    /// Send to this shard's counterpart on every other node.
    Broadcast(ShardMessage),
    /// Send to this shard's counterpart on one node.
    Send {
        /// The node.
        to: NodeName,
        /// What to send.
        message: ShardMessage,
    },
    /// Take note: a peer changed its state. The rows that come or go with it are in this drain's
    /// diff and those that follow while [`Shard::is_sweeping`].
    Peer {
        /// The peer's node.
        node: NodeName,
        /// Which life of it.
        incarnation: Incarnation,
        /// What happened.
        event: PeerEvent,
    },
}

/// What happened to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEvent {
    /// It was heard from, for the first time or again.
    Up,
    /// It is silent; its rows are being hidden.
    Down,
    /// It said good-bye, was silent too long, or lives anew; its rows are being dropped.
    Forgotten,
}

/// A peer as [`Shard::peers`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The peer's node.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Up or down.
    pub status: PeerStatus,
    /// Since when it is up or down.
    pub since: MonoTime,
    /// The version up to which its table is complete here.
    pub seen: Version,
    /// The highest version that it said it has.
    pub announced: Version,
    /// The rows held of it, visible or not.
    pub n_rows: usize,
}

/// What a shard has counted since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShardStats {
    /// Deltas that brought a table forward.
    pub n_applied: u64,
    /// Deltas that said nothing new.
    pub n_stale: u64,
    /// Deltas before which something was missing.
    pub n_gaps: u64,
    /// Messages of lives that are over.
    pub n_buried: u64,
    /// Messages refused because of a limit: too many peers, too many rows, or malformed.
    pub n_refused: u64,
    /// Requests sent.
    pub n_requests: u64,
    /// Chunks sent in answer to requests.
    pub n_transfers: u64,
    /// Presences that ended and were held back from readers.
    pub n_held: u64,
    /// Those of them whose key returned in time.
    pub n_returned: u64,
    /// Those of them whose grace was over.
    pub n_grace_over: u64,
    /// Presences that left at once because too many were held.
    pub n_held_refused: u64,
    /// Entries of tables that were looked at to apply deltas: the work that peers make.
    pub n_visited: u64,
}

/// What a shard remembers besides rows. All of it is bounded by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShardMemory {
    /// Own removals that are told exactly; at most `max_history`.
    pub n_removals: usize,
    /// Nodes of which a life is known to be over; at most four times `max_peers`.
    pub n_burials: usize,
    /// Requests that wait for their answer; at most one per peer.
    pub n_waiting: usize,
    /// Presences that ended and are held back from readers; at most `max_held`.
    pub n_held: usize,
}

/// One node's part of one partition of all topics. See the crate's page for how to drive it.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    id: ReplicaId,
    now: MonoTime,
    /// The own rows; `seen` is the own version.
    own: Table,
    history: History,
    /// The version up to which deltas went out.
    announced: Version,
    next_flush: MonoTime,
    index: Index,
    peers: Peers,
    next_check: MonoTime,
    /// Until when this node, which was stopped, does not believe that others are gone.
    granted_until: MonoTime,
    transfers: Transfers,
    sweeps: Sweeps,
    readers: Readers,
    started: MonoTime,
    outputs: VecDeque<Output>,
    stats: ShardStats,
}

impl Shard {
    /// Makes an empty shard.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the settings do not fit together.
    pub fn new(config: &ShardConfig, id: ReplicaId, now: MonoTime) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            own: Table::new(Replica::new(id.clone())),
            history: History::new(config.max_history),
            announced: Version::ZERO,
            next_flush: now,
            index: Index::new(config.hash_seed),
            peers: Peers::new(id.shard, config.max_peers),
            next_check: MonoTime::MAX,
            granted_until: now,
            transfers: Transfers::new(now, config.transfer_bytes_per_second),
            sweeps: Sweeps::default(),
            readers: Readers::new(config.graces.clone(), config.max_held, config.hash_seed),
            started: now,
            outputs: VecDeque::new(),
            stats: ShardStats::default(),
            config: config.clone(),
            id,
            now,
        })
    }

    /// Does what is due: looks for silent peers, asks again, answers what had to wait, and tells of
    /// those whose grace is over, [`sweep_rows`](ShardConfig::sweep_rows) at a time. Idempotent.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        self.advance(now);
        self.serve_waiting();
        let max = self.config.sweep_rows.get();
        self.readers.expire(self.now, max, &mut self.index);
        if self.now >= self.next_check {
            self.check_peers(self.now.duration_since(self.next_check));
            self.schedule_check();
        }
    }

    /// Takes the next effect; `None` if there is none until something is fed in.
    ///
    /// Changes come as one diff, then messages and events in the order they were caused.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.readers.has_changes() {
            let changes = self.readers.take_changes();
            return Some(Output::Diff(Diff { changes }));
        }
        if self.now >= self.next_flush {
            self.flush();
        }
        self.outputs.pop_front()
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due, or the outputs are to be
    /// polled again, if nothing happens before.
    pub fn poll_timeout(&self) -> MonoTime {
        let has_unsent = self.own.seen() > self.announced && !self.peers.is_empty();
        let flush = if has_unsent {
            self.next_flush
        } else {
            MonoTime::MAX
        };
        let check = self.next_check.min(self.readers.next_due());
        flush.min(check).min(self.transfers.next_due())
    }

    /// Returns which replica this is.
    pub fn id(&self) -> &ReplicaId {
        &self.id
    }

    /// Returns the number of this node's own writes.
    pub fn version(&self) -> Version {
        self.own.seen()
    }

    /// Returns the version up to which deltas went out: what this node's heartbeat says.
    pub fn announced(&self) -> Version {
        self.announced
    }

    /// Returns an own row.
    pub fn row(&self, owner: OwnerId, topic: &Topic, key: &Key) -> Option<&Arc<Row>> {
        let slot = self.index.find_own(owner, topic, key)?;
        Some(self.index.row(slot))
    }

    /// Returns the own rows of an owner, the newest first.
    pub fn rows_of_owner(&self, owner: OwnerId) -> impl Iterator<Item = &Arc<Row>> {
        let slots = self.index.slots_of_owner(owner);
        slots.map(|slot| self.index.row(slot))
    }

    /// Returns the visible rows of a topic in order of arrival: an update arrives anew.
    pub fn rows_of_topic(&self, topic: &Topic) -> impl Iterator<Item = &Arc<Row>> {
        self.index.rows_of_topic(topic)
    }

    /// Returns the visible rows of a topic with this key, in order of arrival.
    ///
    /// Costs the number of rows of the topic; hosts that are asked often keep views of their own.
    pub fn rows_of_key(&self, topic: &Topic, key: &Key) -> impl Iterator<Item = &Arc<Row>> {
        self.rows_of_topic(topic)
            .filter(move |row| row.key() == key)
    }

    /// Returns how many visible rows a topic has, in constant time.
    pub fn count(&self, topic: &Topic) -> usize {
        self.index.count(topic)
    }

    /// Returns the topics that have a visible row, in no particular order, with their counts.
    pub fn topics(&self) -> impl Iterator<Item = (&Topic, usize)> {
        self.index.topics()
    }

    /// Returns how many rows are visible.
    pub fn n_rows(&self) -> usize {
        self.index.n_visible()
    }

    /// Returns whether all that is here of a key is a presence that has ended, and is still shown.
    pub fn is_in_grace(&self, topic: &Topic, key: &Key) -> bool {
        self.readers.is_in_grace(topic, key)
    }

    /// Ends the grace of a key, if it is in one: it leaves now, for this reason. Only this node's
    /// readers are told. Returns whether it was.
    pub fn handle_release(
        &mut self,
        now: MonoTime,
        topic: &Topic,
        key: &Key,
        reason: LeaveReason,
    ) -> bool {
        self.advance(now);
        self.readers.release(topic, key, reason, &mut self.index)
    }

    /// Returns how many rows are this node's own.
    pub fn n_own_rows(&self) -> usize {
        self.own.n_rows()
    }

    /// Returns the peers, by node name.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.iter().map(|(node, peer)| PeerView {
            node: node.clone(),
            incarnation: peer.incarnation,
            status: peer.status,
            since: peer.since,
            seen: peer.table.seen(),
            announced: peer.announced,
            n_rows: peer.table.n_rows(),
        })
    }

    /// Returns what the shard has counted.
    pub fn stats(&self) -> ShardStats {
        let grace = self.readers.stats();
        ShardStats {
            n_held: grace.n_held,
            n_returned: grace.n_returned,
            n_grace_over: grace.n_over,
            n_held_refused: grace.n_refused,
            ..self.stats
        }
    }

    /// Returns how much the shard remembers besides rows.
    pub fn memory(&self) -> ShardMemory {
        ShardMemory {
            n_removals: self.history.n_removals(),
            n_burials: self.peers.n_burials(),
            n_waiting: self.transfers.n_waiting(),
            n_held: self.readers.n_held(),
        }
    }

    /// Returns the rows held of a peer, visible or not, ascending by version.
    pub fn rows_of_peer(&self, node: &NodeName) -> impl Iterator<Item = &Arc<Row>> {
        let table = self.peers.get(node).map(|peer| &peer.table);
        let slots = table.into_iter().flat_map(Table::slots);
        slots.map(|slot| self.index.row(slot))
    }

    /// Returns this node's own rows, ascending by version.
    pub fn own_rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.own.slots().map(|slot| self.index.row(slot))
    }

    fn advance(&mut self, now: MonoTime) {
        self.now = self.now.max(now);
    }

    /// Returns the first broken rule of this structure, if one is broken.
    pub(crate) fn broken_rule(&self) -> Option<&'static str> {
        let tables = self.peers.iter().map(|(_, peer)| &peer.table);
        let mut tables = tables.chain(self.sweeps.leaving()).chain([&self.own]);
        tables
            .find_map(|table| table.broken_rule(&self.index))
            .or_else(|| self.index.broken_rule())
            .or_else(|| self.readers.broken_rule(&self.index))
            .or_else(|| self.broken_visibility())
    }

    fn broken_visibility(&self) -> Option<&'static str> {
        let n_visible_of = |table: &Table| {
            let visible = table.slots().filter(|slot| self.index.is_visible(*slot));
            visible.count()
        };
        let n_held_of = |table: &Table| {
            let held = table.slots().filter(|slot| self.readers.is_held(*slot));
            held.count()
        };
        let leaving: usize = self.sweeps.leaving().map(n_visible_of).sum();
        let mut n_visible = leaving + self.own.n_rows() + self.readers.n_orphans();
        for (_, peer) in self.peers.iter() {
            let n_of_peer = n_visible_of(&peer.table);
            n_visible += n_of_peer;
            let n_due = match peer.status {
                PeerStatus::Up => peer.table.n_rows(),
                PeerStatus::Down => n_held_of(&peer.table),
            };
            if peer.swept.is_none() && n_of_peer != n_due {
                return Some("the visible rows of a replica are not as its status says");
            }
        }
        (n_visible != self.index.n_visible())
            .then_some("the visible rows are not those of the replicas that are known")
    }
}
