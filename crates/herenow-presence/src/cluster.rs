//! How shards of different nodes reach each other: the framing on the link, what comes in, and the
//! node's heartbeat.
//!
//! A frame is one byte of kind, two bytes of the sender's number of shards, two of the shard, and
//! what `herenow-core`'s codec wrote. Nothing here trusts a peer: a frame that cannot be read is
//! counted and dropped, and so is one of a node that spreads topics over another number of shards;
//! such a node is logged once, and kept for who asks. Nothing here waits: a full inbox drops, and
//! the next heartbeat repairs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use herenow_core::{
    Incarnation, MonoTime, NodeHeartbeat, NodeName, ShardConfig, ShardIndex, ShardMessage, Version,
};
use herenow_pubsub::{Link, Receiver};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::config::{ConfigError, PresenceConfig};
use crate::meta::is_stored_form;
use crate::metrics::Metrics;
use crate::notifier::Shared;
use crate::queue::{Command, ShardQueue};

const KIND_SHARD: u8 = 1;
const KIND_HEARTBEAT: u8 = 2;
const HEAD_BYTES: usize = 5;
/// A heartbeat out of turn comes after this part of the period.
const EARLY_PART: u32 = 100;
/// Nodes with another number of shards that are remembered; those beyond are counted only.
const MAX_MISFITS: usize = 256;
/// Nodes whose last heartbeat is remembered; those beyond are not missed.
const MAX_HEARD: usize = 4_096;

/// Returns the version of the format in which nodes tell each other of presences.
///
/// Nodes of different formats cannot read each other; a cluster is to agree on it.
pub fn shard_format() -> u8 {
    let incarnation = Incarnation(0);
    let bytes = ShardMessage::Bye { incarnation }.encode();
    bytes.first().copied().unwrap_or_default()
}

/// Monotonic time as the shards take it, from tokio's clock.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> MonoTime {
        MonoTime::since_origin(self.began.elapsed())
    }

    pub(crate) fn instant(&self, time: MonoTime) -> Instant {
        let far_off = Duration::from_secs(365 * 24 * 3600);
        self.began + time.elapsed().min(far_off)
    }
}

/// Where a shard's messages go; nowhere on a node that is alone.
pub(crate) struct Outbox {
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) shard: u16,
    pub(crate) n_shards: u16,
    pub(crate) beat_soon: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Outbox {
    /// Sends to the same shard on all other nodes. Queues; a full queue is counted.
    pub(crate) fn broadcast(&self, message: &ShardMessage) {
        if let Some(link) = &self.link {
            self.counted(link.broadcast(self.frame(message)));
        }
    }

    /// Sends to the same shard on one other node.
    pub(crate) fn send(&self, to: &NodeName, message: &ShardMessage) {
        if let Some(link) = &self.link {
            self.counted(link.send(to.as_str(), self.frame(message)));
        }
    }

    /// Asks for a heartbeat out of turn: a peer that came up is to learn this node's versions.
    pub(crate) fn beat_soon(&self) {
        self.beat_soon.notify_one();
    }

    fn frame(&self, message: &ShardMessage) -> Bytes {
        frame(KIND_SHARD, self.n_shards, self.shard, &message.encode())
    }

    fn counted(&self, sent: Result<(), herenow_pubsub::AdapterError>) {
        if let Err(error) = sent {
            self.metrics.n_send_refused.count();
            tracing::warn!(shard = self.shard, %error, "shard message not accepted");
        }
    }
}

fn frame(kind: u8, n_shards: u16, shard: u16, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + body.len());
    out.put_u8(kind);
    out.put_u16(n_shards);
    out.put_u16(shard);
    out.put_slice(body);
    out.freeze()
}

/// Hands what other nodes send to the shards' queues.
struct Inbound {
    queues: Vec<Arc<ShardQueue>>,
    misfits: Arc<Misfits>,
    heard: Arc<Heard>,
    beat_soon: Arc<Notify>,
    metrics: Arc<Metrics>,
}

/// Nodes with another number of shards, and theirs.
#[derive(Default)]
pub(crate) struct Misfits(Mutex<BTreeMap<NodeName, u16>>);

impl Misfits {
    /// Takes note; true if it is news.
    fn note(&self, node: &NodeName, n_shards: u16) -> bool {
        let mut known = self.0.lock();
        let has_room = known.len() < MAX_MISFITS || known.contains_key(node);
        has_room && known.insert(node.clone(), n_shards) != Some(n_shards)
    }

    fn forget(&self, node: &NodeName) {
        let mut known = self.0.lock();
        if !known.is_empty() {
            known.remove(node);
        }
    }

    pub(crate) fn list(&self) -> Vec<(NodeName, u16)> {
        let known = self.0.lock();
        known.iter().map(|(node, n)| (node.clone(), *n)).collect()
    }
}

/// When each node's heartbeat came last.
#[derive(Default)]
pub(crate) struct Heard(Mutex<BTreeMap<NodeName, Instant>>);

impl Heard {
    fn note(&self, node: &NodeName, now: Instant) {
        let mut heard = self.0.lock();
        if let Some(last) = heard.get_mut(node) {
            *last = now;
        } else if heard.len() < MAX_HEARD {
            heard.insert(node.clone(), now);
        }
    }

    fn forget(&self, node: &NodeName) {
        self.0.lock().remove(node);
    }

    /// Returns how many nodes are late with a heartbeat, and forgets those that are down.
    fn n_late(&self, now: Instant, config: &ShardConfig) -> u64 {
        let mut heard = self.0.lock();
        heard.retain(|_, last| now.duration_since(*last) < config.down_period);
        // Halfway to the next one: the clocks of two nodes are not in step.
        let due = config.heartbeat_period * 3 / 2;
        let late = heard
            .values()
            .filter(|last| now.duration_since(**last) > due);
        late.count() as u64
    }
}

impl Inbound {
    fn refuse(&self, from: &NodeName, n_theirs: u16) {
        self.metrics.n_malformed.count();
        if self.misfits.note(from, n_theirs) {
            let n_ours = self.queues.len();
            tracing::warn!(
                peer = %from,
                n_theirs,
                n_ours,
                "refused a node: its number of shards is another, a cluster must agree on it"
            );
        }
    }

    fn push(&self, queue: &ShardQueue, command: Command) {
        if !queue.push_message(command) {
            self.metrics.n_inbox_full.count();
        }
    }

    fn take(&self, from: &NodeName, bytes: &Bytes) -> Result<(), &'static str> {
        let head = bytes.first_chunk::<HEAD_BYTES>().ok_or("it is too short")?;
        let [kind, n_high, n_low, high, low] = *head;
        let (n_shards, shard) = (
            u16::from_be_bytes([n_high, n_low]),
            u16::from_be_bytes([high, low]),
        );
        if usize::from(n_shards) != self.queues.len() {
            self.refuse(from, n_shards);
            return Ok(());
        }
        let body = &bytes[HEAD_BYTES..];
        match kind {
            KIND_SHARD => {
                let queue = self
                    .queues
                    .get(usize::from(shard))
                    .ok_or("there is no such shard")?;
                let message = ShardMessage::decode(body, from, ShardIndex(shard));
                let message = message.map_err(|_| "its message cannot be read")?;
                if let ShardMessage::Bye { .. } = message {
                    self.heard.forget(from);
                }
                if !message.metas().all(|meta| is_stored_form(meta.as_str())) {
                    return Err("a meta in it is no JSON object");
                }
                self.push(
                    queue,
                    Command::Message {
                        from: from.clone(),
                        message,
                    },
                );
            }
            KIND_HEARTBEAT => {
                let heartbeat = NodeHeartbeat::decode(body);
                let heartbeat = heartbeat.map_err(|_| "its heartbeat cannot be read")?;
                if heartbeat.node != *from || heartbeat.versions.len() != self.queues.len() {
                    return Err("its heartbeat is another node's");
                }
                self.misfits.forget(from);
                self.heard.note(from, Instant::now());
                let incarnation = heartbeat.incarnation;
                for (queue, announced) in self.queues.iter().zip(heartbeat.versions) {
                    let from = from.clone();
                    self.push(
                        queue,
                        Command::Heartbeat {
                            from,
                            incarnation,
                            announced,
                        },
                    );
                }
            }
            _ => return Err("its kind is unknown"),
        }
        Ok(())
    }
}

impl Receiver for Inbound {
    fn receive(&self, from: &str, _subject: &str, bytes: Bytes) {
        let taken = match NodeName::new(from) {
            Ok(from) => self.take(&from, &bytes),
            Err(_) => Err("its node has no name"),
        };
        if let Err(error) = taken {
            self.metrics.n_malformed.count();
            tracing::warn!(
                peer = from,
                frame_bytes = bytes.len(),
                error,
                "dropped a frame"
            );
        }
    }

    fn peer_seen(&self, _peer: &str) {
        // It learns from a heartbeat what there is to ask for, and so does this node from its own.
        self.beat_soon.notify_one();
    }

    fn peer_gone(&self, peer: &str) {
        if let Ok(peer) = NodeName::new(peer) {
            for queue in &self.queues {
                self.push(queue, Command::PeerGone(peer.clone()));
            }
        }
    }
}

/// Opens the way to the other nodes; `None` on a node that is alone.
pub(crate) fn open_link(
    shared: &Shared,
    queues: Vec<Arc<ShardQueue>>,
    misfits: &Arc<Misfits>,
    heard: &Arc<Heard>,
    beat_soon: &Arc<Notify>,
) -> Result<Option<Arc<Link>>, ConfigError> {
    if !shared.pubsub.is_clustered() {
        return Ok(None);
    }
    let inbound = Arc::new(Inbound {
        queues,
        misfits: misfits.clone(),
        heard: heard.clone(),
        beat_soon: beat_soon.clone(),
        metrics: shared.metrics.clone(),
    });
    let name = &shared.config.name;
    let link = shared.pubsub.link(name, inbound);
    let link = link.map_err(|_| ConfigError::NameTaken { name: name.clone() })?;
    Ok(Some(Arc::new(link)))
}

/// What the node's heartbeat is made of.
pub(crate) struct Pulse {
    pub(crate) heard: Arc<Heard>,
    pub(crate) beat_soon: Arc<Notify>,
    pub(crate) link: Arc<Link>,
    pub(crate) node: NodeName,
    pub(crate) incarnation: Incarnation,
    /// The version up to which each shard's deltas went out.
    pub(crate) versions: Vec<Arc<AtomicU64>>,
    pub(crate) config: Arc<PresenceConfig>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Pulse {
    /// Sends one heartbeat for all shards every period, for ever; out of turn when a peer came up.
    pub(crate) async fn run(self) {
        let period = self.config.shard.heartbeat_period;
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let n_late = self.heard.n_late(Instant::now(), &self.config.shard);
                    self.metrics.n_heartbeats_missed.add(n_late);
                }
                // All shards meet the peer at about the same time: one heartbeat answers for all.
                () = self.beat_soon.notified() => sleep(period / EARLY_PART).await,
            }
            self.beat();
        }
    }

    fn beat(&self) {
        let versions = self.versions.iter();
        let heartbeat = NodeHeartbeat {
            node: self.node.clone(),
            incarnation: self.incarnation,
            versions: versions
                .map(|version| Version(version.load(Ordering::Acquire)))
                .collect(),
        };
        let n_shards = self.config.n_shards.get();
        let frame = frame(KIND_HEARTBEAT, n_shards, 0, &heartbeat.encode());
        if let Err(error) = self.link.broadcast(frame) {
            self.metrics.n_send_refused.count();
            tracing::warn!(%error, "heartbeat not accepted");
        }
    }
}
