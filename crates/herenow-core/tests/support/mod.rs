//! What the scenario files share: names, shards, and a drain that sorts outputs.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::sync::Arc;
use std::time::Duration;

use herenow_core::{
    Change, Incarnation, Key, Meta, MonoTime, NodeName, Output, OwnerId, PeerEvent, ReplicaId, Row,
    Shard, ShardConfig, ShardIndex, ShardMessage, Topic,
};

pub(crate) const SHARD: ShardIndex = ShardIndex(0);

pub(crate) fn at(ms: u64) -> MonoTime {
    MonoTime::since_origin(Duration::from_millis(ms))
}

pub(crate) fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

pub(crate) fn meta(text: &str) -> Meta {
    Meta::new(format!("{{\"m\":\"{text}\"}}")).unwrap()
}

pub(crate) fn shard_with(name: &str, incarnation: u64, config: &ShardConfig) -> Shard {
    let id = ReplicaId {
        node: node(name),
        incarnation: Incarnation(incarnation),
        shard: SHARD,
    };
    Shard::new(config, id, at(0)).unwrap()
}

pub(crate) fn shard(name: &str) -> Shard {
    shard_with(name, 1, &ShardConfig::default())
}

pub(crate) fn track(shard: &mut Shard, now: MonoTime, owner: u64, in_topic: &str, as_key: &str) {
    shard
        .handle_track(
            now,
            OwnerId(owner),
            topic(in_topic),
            key(as_key),
            meta(as_key),
        )
        .unwrap();
}

/// What a drain gave, sorted by kind.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) changes: Vec<Change>,
    pub(crate) broadcasts: Vec<ShardMessage>,
    pub(crate) sent: Vec<(NodeName, ShardMessage)>,
    pub(crate) events: Vec<(NodeName, PeerEvent)>,
}

pub(crate) fn drain(shard: &mut Shard) -> Drained {
    let mut drained = Drained::default();
    while let Some(output) = shard.poll_output() {
        match output {
            Output::Diff(diff) => drained.changes.extend(diff.changes),
            Output::Broadcast(message) => drained.broadcasts.push(message),
            Output::Send { to, message } => drained.sent.push((to, message)),
            Output::Peer { node, event, .. } => drained.events.push((node, event)),
        }
    }
    herenow_core::check(shard).unwrap();
    drained
}

impl Drained {
    /// `+key` for each join, `~key` for each update, `-key` for each leave, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        let told = self.changes.iter().map(|change| {
            let sign = match change {
                Change::Joined(_) => '+',
                Change::Updated { .. } => '~',
                Change::Left { .. } => '-',
            };
            format!("{sign}{}", change.row().key())
        });
        told.collect()
    }
}

pub(crate) fn keys<'a>(rows: impl Iterator<Item = &'a Arc<Row>>) -> Vec<String> {
    rows.map(|row| row.key().to_string()).collect()
}

pub(crate) fn listed(shard: &Shard, in_topic: &str) -> Vec<String> {
    keys(shard.rows_of_topic(&topic(in_topic)))
}

/// A full mesh of shards on which every message arrives at once and in order.
pub(crate) struct Mesh {
    pub(crate) shards: Vec<Shard>,
    pub(crate) now: MonoTime,
    /// Pairs `(from, to)` between which nothing arrives.
    pub(crate) cut: Vec<(usize, usize)>,
    pub(crate) n_messages: usize,
}

impl Mesh {
    pub(crate) fn new(names: &[&str], config: &ShardConfig) -> Self {
        let shards = names.iter().map(|name| shard_with(name, 1, config));
        Self {
            shards: shards.collect(),
            now: at(0),
            cut: Vec::new(),
            n_messages: 0,
        }
    }

    pub(crate) fn cut_both(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    /// Every node that is not `silent` heartbeats once.
    pub(crate) fn heartbeat(&mut self) {
        for from in 0..self.shards.len() {
            let id = self.shards[from].id().clone();
            let announced = self.shards[from].announced();
            for to in 0..self.shards.len() {
                if to != from && !self.cut.contains(&(from, to)) {
                    let now = self.now;
                    self.shards[to].handle_heartbeat(now, &id.node, id.incarnation, announced);
                }
            }
        }
    }

    /// Delivers until nothing is under way; returns what each shard told its readers.
    pub(crate) fn settle(&mut self) -> Vec<Drained> {
        let mut told: Vec<Drained> = self.shards.iter().map(|_| Drained::default()).collect();
        loop {
            let mut arriving = Vec::new();
            for (from, shard) in self.shards.iter_mut().enumerate() {
                shard.handle_timeout(self.now);
                let drained = drain(shard);
                told[from].changes.extend(drained.changes);
                told[from].events.extend(drained.events);
                arriving.extend(drained.broadcasts.into_iter().map(|m| (from, None, m)));
                let sent = drained.sent.into_iter();
                arriving.extend(sent.map(|(to, m)| (from, Some(to), m)));
            }
            if arriving.is_empty() {
                return told;
            }
            for (from, to, message) in arriving {
                self.deliver(from, to.as_ref(), &message);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: Option<&NodeName>, message: &ShardMessage) {
        let sender = self.shards[from].id().node.clone();
        let bytes = message.encode();
        for index in 0..self.shards.len() {
            let is_meant = to.is_none_or(|to| *to == self.shards[index].id().node);
            if index == from || !is_meant || self.cut.contains(&(from, index)) {
                continue;
            }
            self.n_messages += 1;
            let message = ShardMessage::decode(&bytes, &sender, SHARD).unwrap();
            self.shards[index].handle_message(self.now, &sender, message);
        }
    }

    /// Lets time pass in steps of a heartbeat, delivering all the while.
    pub(crate) fn pass(&mut self, total: Duration) -> Vec<Drained> {
        let step = Duration::from_millis(500);
        let end = self.now + total;
        let mut told: Vec<Drained> = self.shards.iter().map(|_| Drained::default()).collect();
        while self.now < end {
            self.now = self.now + step;
            self.heartbeat();
            for (all, now) in told.iter_mut().zip(self.settle()) {
                all.changes.extend(now.changes);
                all.events.extend(now.events);
            }
        }
        told
    }
}
