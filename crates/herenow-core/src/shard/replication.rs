//! What peers say, what is said to them, and which of them are alive.

use std::time::Duration;

use crate::delta::{Delta, Known};
use crate::grace::End;
use crate::ids::{Incarnation, NodeName};
use crate::liveness::{Contact, Peer, PeerStatus};
use crate::message::ShardMessage;
use crate::row::Version;
use crate::shard::{Output, PeerEvent, Shard};
use crate::table::Applied;
use crate::time::MonoTime;

impl Shard {
    /// Takes in a message that this shard's counterpart on node `from` sent.
    pub fn handle_message(&mut self, now: MonoTime, from: &NodeName, message: ShardMessage) {
        self.advance(now);
        match message {
            ShardMessage::Delta { incarnation, delta } => {
                if self.contact(from, incarnation) {
                    self.on_delta(from, delta);
                }
            }
            ShardMessage::Transfer { incarnation, delta } => {
                if self.contact(from, incarnation) {
                    self.on_transfer(from, delta);
                }
            }
            ShardMessage::Request {
                incarnation,
                owner,
                seen,
                pruned,
                pruning,
            } => {
                if self.contact(from, incarnation) && owner == self.id.incarnation {
                    let known = Known {
                        seen,
                        pruned,
                        pruning,
                    };
                    self.on_request(from, known);
                }
            }
            ShardMessage::Bye { incarnation } => {
                if *from == self.id.node {
                    self.stats.n_refused += 1;
                } else {
                    self.bury(from, incarnation);
                }
            }
            ShardMessage::Held { incarnation, rows } => {
                if self.contact(from, incarnation) {
                    self.on_held(rows);
                }
            }
        }
    }

    /// Takes in a node's heartbeat: its life, and what this shard's counterpart has announced.
    pub fn handle_heartbeat(
        &mut self,
        now: MonoTime,
        from: &NodeName,
        incarnation: Incarnation,
        announced: Version,
    ) {
        self.advance(now);
        // Most heartbeats say nothing new, and every node hears one of each other for each shard.
        if let Some(peer) = self.peers.get_mut(from)
            && peer.is_up_to_date(incarnation, announced)
        {
            peer.last_heard = self.now;
            peer.requested_at = None;
            return;
        }
        if self.contact(from, incarnation) {
            self.on_announced(from, announced);
        }
    }

    /// Takes in that the carrier lost the node: it is down at once, until it is heard again. To one
    /// that was itself stopped for a time that says nothing of the node, which is given the time of
    /// two heartbeats to be heard.
    pub fn handle_peer_gone(&mut self, now: MonoTime, node: &NodeName) {
        self.advance(now);
        let is_granted = self.now < self.granted_until;
        let late = self.now.duration_since(self.next_check);
        if !is_granted && !self.was_stopped(late) {
            self.set_down(node);
        }
    }

    /// Says good-bye to all peers: this life ends. What was written before is told before.
    pub fn handle_shutdown(&mut self, now: MonoTime) {
        self.advance(now);
        self.flush();
        let incarnation = self.id.incarnation;
        let bye = ShardMessage::Bye { incarnation };
        self.outputs.push_back(Output::Broadcast(bye));
    }

    /// Takes note that a node lives in this incarnation. Returns whether to listen to it.
    fn contact(&mut self, from: &NodeName, incarnation: Incarnation) -> bool {
        if *from == self.id.node {
            self.stats.n_refused += 1;
            return false;
        }
        match self.peers.classify(from, incarnation) {
            Contact::Known => {}
            Contact::Returned => self.set_up(from),
            Contact::OtherLife => {
                self.forget(from);
                self.welcome(from, incarnation);
            }
            Contact::New => self.welcome(from, incarnation),
            Contact::Buried => {
                self.stats.n_buried += 1;
                return false;
            }
            Contact::TooMany => {
                self.stats.n_refused += 1;
                return false;
            }
        }
        if let Some(peer) = self.peers.get_mut(from) {
            peer.last_heard = self.now;
        }
        true
    }

    fn welcome(&mut self, node: &NodeName, incarnation: Incarnation) {
        self.end_leaving(node, incarnation);
        let was_alone = self.peers.is_empty();
        self.peers.insert(self.now, node, incarnation);
        if was_alone {
            self.schedule_check();
        }
        self.report_peer(node, incarnation, PeerEvent::Up);
        self.request(node);
    }

    fn on_announced(&mut self, from: &NodeName, announced: Version) {
        if let Some(peer) = self.peers.get_mut(from) {
            peer.announced = peer.announced.max(announced);
        }
        self.request_if_behind(from);
    }

    fn on_delta(&mut self, from: &NodeName, delta: Delta) {
        let as_of = delta.as_of;
        self.apply(from, delta);
        self.on_announced(from, as_of);
    }

    /// Only an answer that brought something new is a reason to ask on at once. Else a refused one
    /// would be asked for without end, and one that arrives twice would make two of each that
    /// follows.
    fn on_transfer(&mut self, from: &NodeName, delta: Delta) {
        let as_of = delta.as_of;
        if self.apply(from, delta)
            && let Some(peer) = self.peers.get_mut(from)
        {
            peer.requested_at = None;
        }
        self.on_announced(from, as_of);
    }

    /// Returns whether the delta brought its table forward.
    fn apply(&mut self, from: &NodeName, delta: Delta) -> bool {
        let Some(peer) = self.peers.get_mut(from) else {
            return false;
        };
        let n_rows = peer.table.n_rows() + delta.n_rows();
        let has_room = n_rows <= self.config.max_peer_rows;
        if !has_room || !delta.is_well_formed() {
            self.stats.n_refused += 1;
            tracing::warn!(peer = %from, n_rows, max_rows = self.config.max_peer_rows, "refused a delta");
            return false;
        }
        let applied = peer
            .table
            .apply(self.now, delta, &mut self.index, &mut self.readers);
        self.stats.n_visited += peer.table.take_n_visited();
        match applied {
            Applied::Forward => self.stats.n_applied += 1,
            Applied::Stale => self.stats.n_stale += 1,
            Applied::Gap => self.stats.n_gaps += 1,
        }
        applied == Applied::Forward
    }

    /// Asks a peer for what it has announced and we lack, unless an answer may be under way.
    fn request_if_behind(&mut self, node: &NodeName) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        if peer.table.seen() >= peer.announced {
            peer.requested_at = None;
            return;
        }
        let is_waiting = peer
            .requested_at
            .is_some_and(|at| self.now.duration_since(at) < self.config.request_timeout);
        if !is_waiting {
            self.request(node);
        }
    }

    fn request(&mut self, node: &NodeName) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        peer.requested_at = Some(self.now);
        let known = peer.table.known();
        let message = ShardMessage::Request {
            incarnation: self.id.incarnation,
            owner: peer.incarnation,
            seen: known.seen,
            pruned: known.pruned,
            pruning: known.pruning,
        };
        self.stats.n_requests += 1;
        self.outputs.push_back(Output::Send {
            to: node.clone(),
            message,
        });
    }

    /// Sends what was written since the last time, cut into deltas; or notes that nobody listens.
    pub(super) fn flush(&mut self) {
        if self.own.seen() == self.announced {
            return;
        }
        self.next_flush = self.now + self.config.flush_interval;
        if self.peers.is_empty() {
            self.announced = self.own.seen();
            return;
        }
        let mut readers = Known {
            seen: self.announced,
            pruned: self.announced,
            pruning: None,
        };
        let max_bytes = self.config.max_delta_bytes;
        while let Some(delta) = self
            .own
            .extract(readers, &self.history, &self.index, max_bytes)
        {
            let next = readers.and(&delta);
            readers = next.expect("a delta applies to what it was made for");
            self.announced = delta.to;
            let incarnation = self.id.incarnation;
            let message = ShardMessage::Delta { incarnation, delta };
            self.outputs.push_back(Output::Broadcast(message));
        }
    }

    /// Looks who fell silent, and who is to be asked again; `late` is how long this was overdue.
    pub(super) fn check_peers(&mut self, late: Duration) {
        if self.was_stopped(late) {
            // What the peers said meanwhile is still to be read.
            let grace = self.config.heartbeat_period * 2;
            self.granted_until = self.now + grace;
            self.peers.grant(self.now, self.config.down_period, grace);
        }
        for node in self.peers.fallen_silent(self.now, self.config.down_period) {
            self.set_down(&node);
        }
        for node in self.peers.given_up(self.now, self.config.permdown_period) {
            self.forget(&node);
        }
        let behind = self.peers.iter().filter(|(_, peer)| {
            peer.status == PeerStatus::Up && peer.table.seen() < peer.announced
        });
        let behind: Vec<NodeName> = behind.map(|(node, _)| node.clone()).collect();
        for node in behind {
            self.request_if_behind(&node);
        }
    }

    /// Tells whether this node did nothing for a time, by how late its check of the peers is.
    fn was_stopped(&self, late: Duration) -> bool {
        late >= self.config.down_period / 2
    }

    pub(super) fn schedule_check(&mut self) {
        let period = self
            .config
            .request_timeout
            .min(self.config.heartbeat_period);
        self.next_check = if self.peers.is_empty() {
            MonoTime::MAX
        } else {
            self.now + period
        };
    }

    fn set_up(&mut self, node: &NodeName) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        peer.status = PeerStatus::Up;
        peer.since = self.now;
        let incarnation = peer.incarnation;
        self.begin_turning(node);
        self.report_peer(node, incarnation, PeerEvent::Up);
        self.request(node);
    }

    fn set_down(&mut self, node: &NodeName) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        if peer.status == PeerStatus::Down {
            return;
        }
        peer.status = PeerStatus::Down;
        peer.since = self.now;
        peer.requested_at = None;
        let incarnation = peer.incarnation;
        self.begin_turning(node);
        self.report_peer(node, incarnation, PeerEvent::Down);
    }

    /// Drops a replica that may come back in the same life.
    fn forget(&mut self, node: &NodeName) {
        if let Some(peer) = self.peers.remove(node) {
            self.let_go(node, peer, End::Lost);
        }
    }

    /// Drops a replica whose life is over; one that is not known is over nevertheless.
    fn bury(&mut self, node: &NodeName, incarnation: Incarnation) {
        match self.peers.bury(node, incarnation) {
            Some(peer) => self.let_go(node, peer, End::Bye),
            None => self.stats.n_buried += 1,
        }
    }

    fn let_go(&mut self, node: &NodeName, peer: Peer, end: End) {
        self.begin_leaving(peer.table, end);
        self.report_peer(node, peer.incarnation, PeerEvent::Forgotten);
        // The check of the others stays when it was due: peers that come and go must not put it
        // off.
        if self.peers.is_empty() {
            self.next_check = MonoTime::MAX;
        }
    }

    fn report_peer(&mut self, node: &NodeName, incarnation: Incarnation, event: PeerEvent) {
        let shard = self.id.shard.0;
        tracing::debug!(shard, peer = %node, incarnation = incarnation.0, ?event, "peer changed");
        self.outputs.push_back(Output::Peer {
            node: node.clone(),
            incarnation,
            event,
        });
    }
}
