//! Random histories of one owner and two readers, against the simplest model of a replica.
//!
//! Everything under way may be lost, doubled, delayed and reordered; deltas overlap, histories are
//! cut short, and answers come in chunks. After every step each reader's table is checked.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_core::{
    Change, LeaveReason, MetaRef, MonoTime, NodeName, OwnerId, PeerStatus, Shard, ShardConfig,
    ShardMessage, Version,
};
use proptest::prelude::*;
use support::{SHARD, at, drain, key, meta, node, shard_with, topic};

#[derive(Debug, Clone)]
enum Step {
    Track(u8),
    Update(u8),
    Untrack(u8),
    OwnerEnd(u8),
    Flush,
    Heartbeat(usize),
    Deliver(usize),
    Double(usize),
    Lose(usize),
    Pass(u16),
    Gone(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..12u8).prop_map(Step::Track),
        4 => (0..12u8).prop_map(Step::Update),
        5 => (0..12u8).prop_map(Step::Untrack),
        1 => (0..3u8).prop_map(Step::OwnerEnd),
        6 => Just(Step::Flush),
        3 => (0..2usize).prop_map(Step::Heartbeat),
        14 => (0..64usize).prop_map(Step::Deliver),
        3 => (0..64usize).prop_map(Step::Double),
        4 => (0..64usize).prop_map(Step::Lose),
        3 => (1..900u16).prop_map(Step::Pass),
        1 => (0..2usize).prop_map(Step::Gone),
    ]
}

/// What is known of each of the owner's writes: until when its row was alive.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Version, Option<Version>>,
}

impl Model {
    fn take_in(&mut self, owner: &Shard, changes: &[Change], before: Version) {
        let mut at = before;
        for change in changes {
            at = Version(at.0 + 1);
            match change {
                Change::Joined(row) => {
                    self.rows.insert(row.version(), None);
                }
                Change::Updated { old, new } => {
                    self.rows.insert(old.version(), Some(at));
                    self.rows.insert(new.version(), None);
                }
                Change::Left { row, .. } => {
                    self.rows.insert(row.version(), Some(at));
                }
            }
        }
        assert_eq!(at, owner.version());
    }

    fn alive(&self) -> impl Iterator<Item = Version> {
        let alive = self.rows.iter().filter(|(_, ended)| ended.is_none());
        alive.map(|(version, _)| *version)
    }
}

struct World {
    owner: Shard,
    readers: [Shard; 2],
    /// What the diffs of each reader add up to.
    folds: [BTreeMap<MetaRef, String>; 2],
    model: Model,
    /// Messages under way: to a reader (0, 1) or to the owner from a reader (2, 3).
    under_way: Vec<(usize, Vec<u8>)>,
    now: MonoTime,
}

const OWNER: &str = "owner";
const READERS: [&str; 2] = ["reader-0", "reader-1"];

impl World {
    fn new(max_history: usize) -> Self {
        let mut config = ShardConfig::default();
        config.max_history = max_history;
        config.max_delta_bytes = 1024;
        config.down_period = Duration::from_secs(3);
        let mut world = Self {
            owner: shard_with(OWNER, 1, &config),
            readers: READERS.map(|name| shard_with(name, 1, &config)),
            folds: [BTreeMap::new(), BTreeMap::new()],
            model: Model::default(),
            under_way: Vec::new(),
            now: at(0),
        };
        for reader in READERS {
            let incarnation = world.readers[0].id().incarnation;
            world
                .owner
                .handle_heartbeat(world.now, &node(reader), incarnation, Version::ZERO);
        }
        world.drain_all();
        world
    }

    fn run(&mut self, step: &Step) {
        let before = self.owner.version();
        let (topic, now) = (topic("room"), self.now);
        let owner_of = |n: u8| OwnerId(u64::from(n % 3));
        match step {
            Step::Track(n) => {
                // Long metas, so that a few rows already make a chunk.
                let meta = meta(&"x".repeat(300));
                let name = key(&n.to_string());
                let _ = self
                    .owner
                    .handle_track(now, owner_of(*n), topic, name, meta);
            }
            Step::Update(n) => {
                let name = key(&n.to_string());
                let meta = meta("updated");
                let _ = self
                    .owner
                    .handle_update(now, owner_of(*n), &topic, &name, meta);
            }
            Step::Untrack(n) => {
                let name = key(&n.to_string());
                self.owner
                    .handle_untrack(now, owner_of(*n), &topic, &name, LeaveReason::Left);
            }
            Step::OwnerEnd(n) => {
                let owner = OwnerId(u64::from(*n));
                self.owner.handle_owner_end(now, owner, LeaveReason::Closed);
            }
            Step::Flush => self.now = self.now + Duration::from_millis(6),
            Step::Heartbeat(reader) => {
                let id = self.owner.id().clone();
                let announced = self.owner.announced();
                self.readers[*reader].handle_heartbeat(now, &id.node, id.incarnation, announced);
            }
            Step::Deliver(n) => self.deliver(*n, true),
            Step::Double(n) => self.deliver(*n, false),
            Step::Lose(n) => {
                if !self.under_way.is_empty() {
                    let n = n % self.under_way.len();
                    self.under_way.remove(n);
                }
            }
            Step::Pass(ms) => {
                self.now = self.now + Duration::from_millis((*ms).into());
                self.tick();
            }
            Step::Gone(reader) => self.readers[*reader].handle_peer_gone(now, &node(OWNER)),
        }
        self.drain_owner(before);
        self.drain_all();
        self.check();
    }

    fn tick(&mut self) {
        self.owner.handle_timeout(self.now);
        for reader in &mut self.readers {
            reader.handle_timeout(self.now);
        }
    }

    fn deliver(&mut self, n: usize, take: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let n = n % self.under_way.len();
        let (to, bytes) = if take {
            self.under_way.remove(n)
        } else {
            self.under_way[n].clone()
        };
        let (from, shard) = match to {
            0 | 1 => (node(OWNER), &mut self.readers[to]),
            _ => (node(READERS[to - 2]), &mut self.owner),
        };
        let message = ShardMessage::decode(&bytes, &from, SHARD).expect("what we encoded");
        shard.handle_message(self.now, &from, message);
    }

    fn drain_owner(&mut self, before: Version) {
        self.owner.handle_timeout(self.now);
        let drained = drain(&mut self.owner);
        self.model.take_in(&self.owner, &drained.changes, before);
        for message in drained.broadcasts {
            let bytes = message.encode();
            self.under_way.push((0, bytes.clone()));
            self.under_way.push((1, bytes));
        }
        for (to, message) in drained.sent {
            if let Some(reader) = READERS.iter().position(|name| node(name) == to) {
                self.under_way.push((reader, message.encode()));
            }
        }
    }

    fn drain_all(&mut self) {
        self.drain_owner(self.owner.version());
        for (n, reader) in self.readers.iter_mut().enumerate() {
            let drained = drain(reader);
            for change in &drained.changes {
                fold(&mut self.folds[n], change);
            }
            let sent = drained.sent.into_iter();
            self.under_way
                .extend(sent.map(|(_, message)| (2 + n, message.encode())));
        }
    }

    fn check(&self) {
        for (reader, fold) in self.readers.iter().zip(&self.folds) {
            self.check_table(reader);
            let listed: BTreeMap<MetaRef, String> = reader
                .rows_of_topic(&topic("room"))
                .map(|row| (row.meta_ref(), row.key().to_string()))
                .collect();
            assert_eq!(&listed, fold, "the diffs add up to the list");
            assert_eq!(listed.len(), reader.count(&topic("room")));
        }
    }

    fn check_table(&self, reader: &Shard) {
        let owner: NodeName = node(OWNER);
        let Some(seen) = reader.peers().next().map(|peer| peer.seen) else {
            return;
        };
        let held: Vec<Version> = reader
            .rows_of_peer(&owner)
            .map(|row| row.version())
            .collect();
        for version in &held {
            let ended = self.model.rows[version];
            assert!(*version <= seen, "{version} is above seen {seen}");
            assert!(
                ended.is_none_or(|ended| ended > seen),
                "{version} was gone at {seen}"
            );
        }
        for version in self.model.alive().filter(|version| *version <= seen) {
            assert!(held.contains(&version), "{version} is missing at {seen}");
        }
        if seen == self.owner.version() {
            let alive: Vec<Version> = self.model.alive().collect();
            assert_eq!(held, alive, "complete, so equal to the owner's");
        }
    }

    /// Stops losing things, and waits.
    fn heal(&mut self) {
        for _ in 0..200 {
            self.now = self.now + Duration::from_millis(600);
            self.tick();
            self.run(&Step::Heartbeat(0));
            self.run(&Step::Heartbeat(1));
            while !self.under_way.is_empty() {
                self.run(&Step::Deliver(0));
            }
            let complete = self.readers.iter().all(|reader| {
                let peer = reader.peers().next();
                peer.is_some_and(|peer| {
                    peer.seen == self.owner.version() && peer.status == PeerStatus::Up
                })
            });
            if complete && self.owner.announced() == self.owner.version() {
                return;
            }
        }
        panic!("the readers never became complete");
    }
}

fn fold(folded: &mut BTreeMap<MetaRef, String>, change: &Change) {
    let mut leave = |row: &herenow_core::Row| {
        let was = folded.remove(&row.meta_ref());
        assert!(was.is_some(), "a leave of what never joined");
    };
    match change {
        Change::Joined(_) => {}
        Change::Updated { old, .. } => leave(old),
        Change::Left { row, .. } => leave(row),
    }
    match change {
        Change::Joined(row) | Change::Updated { new: row, .. } => {
            let was = folded.insert(row.meta_ref(), row.key().to_string());
            assert!(was.is_none(), "a join of what is there");
        }
        Change::Left { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn tbl_1_tables_follow_their_owner_through_any_fault(
        max_history in prop_oneof![Just(0usize), Just(2), Just(1000)],
        steps in prop::collection::vec(step(), 1..160),
    ) {
        let mut world = World::new(max_history);
        for step in &steps {
            world.run(step);
        }
        world.heal();
        world.check();
    }
}
