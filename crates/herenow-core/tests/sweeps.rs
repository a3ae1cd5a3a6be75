//! Rows of a large replica come and go some at a time, and whatever happens in between is right.

mod support;

use std::collections::BTreeSet;
use std::num::NonZero;

use herenow_core::{
    Change, Incarnation, MetaRef, MonoTime, NodeName, PeerStatus, Shard, ShardConfig, ShardMessage,
};
use support::{at, drain, listed, node, shard_with, topic, track};

const ROOM: &str = "lobby";
const PEER: &str = "peer";
const N_ROWS: u64 = 10;

fn config() -> ShardConfig {
    let mut config = ShardConfig::default();
    config.sweep_rows = NonZero::new(3).expect("three is not zero");
    config
}

/// A reader that holds ten rows of a peer, the peer, and what a subscriber makes of the diffs.
struct Pair {
    reader: Shard,
    peer: Shard,
    told: BTreeSet<MetaRef>,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            reader: shard_with("me", 1, &config()),
            peer: shard_with(PEER, 1, &config()),
            told: BTreeSet::new(),
        };
        let me = node("me");
        pair.peer
            .handle_heartbeat(at(0), &me, Incarnation(1), pair.reader.version());
        for n in 0..N_ROWS {
            track(&mut pair.peer, at(0), n, ROOM, &format!("u{n}"));
        }
        pair.send_deltas();
        assert_eq!(pair.n_listed(), N_ROWS as usize);
        pair
    }

    /// Brings what the peer wrote to the reader.
    fn send_deltas(&mut self) {
        for message in drain(&mut self.peer).broadcasts {
            self.hear(message);
        }
    }

    fn hear(&mut self, message: ShardMessage) {
        self.reader.handle_message(at(10), &node(PEER), message);
        self.follow();
    }

    fn lose(&mut self) {
        self.reader.handle_peer_gone(at(20), &node(PEER));
        self.follow();
    }

    fn find(&mut self) {
        let announced = self.peer.announced();
        self.reader
            .handle_heartbeat(at(30), &node(PEER), Incarnation(1), announced);
        self.follow();
    }

    fn sweep(&mut self) {
        self.reader.handle_sweep(at(40));
        self.follow();
    }

    fn sweep_all(&mut self) {
        while self.reader.is_sweeping() {
            self.sweep();
        }
    }

    /// Lets the peer answer what the reader asks it for, until it asks no more.
    fn answer(&mut self) {
        loop {
            let asked = self.follow();
            for (_, message) in asked {
                self.peer.handle_message(at(30), &node("me"), message);
            }
            let answers = drain(&mut self.peer).sent;
            if answers.is_empty() {
                return;
            }
            for (_, message) in answers {
                self.reader.handle_message(at(30), &node(PEER), message);
            }
        }
    }

    /// Folds what is told; it is the list at every moment. Returns what the reader sent.
    fn follow(&mut self) -> Vec<(NodeName, ShardMessage)> {
        let drained = drain(&mut self.reader);
        for change in drained.changes {
            match change {
                Change::Joined(row) => assert!(self.told.insert(row.meta_ref()), "{row:?}"),
                Change::Left { row, .. } => assert!(self.told.remove(&row.meta_ref()), "{row:?}"),
                Change::Updated { old, new } => {
                    assert!(self.told.remove(&old.meta_ref()) && self.told.insert(new.meta_ref()));
                }
            }
        }
        let room = topic(ROOM);
        let rows = self.reader.rows_of_topic(&room);
        assert_eq!(self.told, rows.map(|row| row.meta_ref()).collect());
        drained.sent
    }

    fn n_listed(&self) -> usize {
        listed(&self.reader, ROOM).len()
    }

    fn status(&self) -> Option<PeerStatus> {
        self.reader.peers().next().map(|peer| peer.status)
    }
}

#[test]
fn rep_560_rows_of_a_large_replica_go_and_come_in_slices() {
    let mut pair = Pair::new();
    pair.lose();
    assert_eq!(pair.status(), Some(PeerStatus::Down));
    let mut lengths = Vec::new();
    while pair.reader.is_sweeping() {
        pair.sweep();
        lengths.push(pair.n_listed());
    }
    assert_eq!(lengths, [7, 4, 1, 0]);
    pair.find();
    assert_eq!(pair.status(), Some(PeerStatus::Up));
    lengths.clear();
    while pair.reader.is_sweeping() {
        pair.sweep();
        lengths.push(pair.n_listed());
    }
    assert_eq!(lengths, [3, 6, 9, 10]);
}

#[test]
fn rep_561_a_replica_that_turns_again_in_the_middle_ends_as_its_status_says() {
    let mut pair = Pair::new();
    pair.lose();
    pair.sweep();
    pair.find();
    pair.sweep_all();
    assert_eq!(pair.n_listed(), N_ROWS as usize);
    pair.lose();
    pair.sweep();
    pair.find();
    pair.sweep();
    pair.lose();
    pair.sweep_all();
    assert_eq!(pair.n_listed(), 0);
}

#[test]
fn rep_562_what_a_returned_replica_writes_before_its_rows_are_shown_is_told_once() {
    let mut pair = Pair::new();
    pair.lose();
    pair.sweep_all();
    pair.find();
    pair.sweep(); // u0 to u2 are shown again.
    let (room, written) = (topic(ROOM), support::meta("new"));
    for (owner, name) in [(1, "u1"), (8, "u8")] {
        let (owner, key) = (herenow_core::OwnerId(owner), support::key(name));
        pair.peer
            .handle_update(at(30), owner, &room, &key, written.clone())
            .unwrap();
    }
    let reason = herenow_core::LeaveReason::Left;
    let (owner, key) = (herenow_core::OwnerId(9), support::key("u9"));
    pair.peer.handle_untrack(at(30), owner, &room, &key, reason);
    track(&mut pair.peer, at(30), 77, ROOM, "late");
    pair.send_deltas();
    assert!(pair.reader.is_sweeping());
    pair.sweep_all();
    assert_eq!(pair.n_listed(), N_ROWS as usize);
    let mut shown = listed(&pair.reader, ROOM);
    shown.sort();
    assert_eq!(
        shown,
        ["late", "u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"]
    );
}

#[test]
fn rep_563_rows_of_a_life_that_is_over_go_in_slices_beside_those_of_the_next() {
    let mut pair = Pair::new();
    pair.lose();
    pair.sweep(); // Three are hidden.
    pair.hear(ShardMessage::Bye {
        incarnation: Incarnation(1),
    });
    assert_eq!(pair.status(), None, "it is over at once");
    pair.sweep();
    let mut next = shard_with(PEER, 2, &config());
    next.handle_heartbeat(at(50), &node("me"), Incarnation(1), pair.reader.version());
    track(&mut next, at(50), 1, ROOM, "again");
    for message in drain(&mut next).broadcasts {
        pair.hear(message);
    }
    assert!(pair.reader.is_sweeping());
    pair.sweep_all();
    assert_eq!(listed(&pair.reader, ROOM), ["again"]);
    assert_eq!(pair.reader.n_rows(), 1);
}

#[test]
fn rep_564_lives_that_end_faster_than_they_are_swept_do_not_pile_up() {
    let mut reader = shard_with("me", 1, &config());
    for life in 1..=100 {
        let mut peer = shard_with(PEER, life, &config());
        peer.handle_heartbeat(at(0), &node("me"), Incarnation(1), reader.version());
        for n in 0..N_ROWS {
            track(&mut peer, at(0), n, ROOM, &format!("u{n}"));
        }
        for message in drain(&mut peer).broadcasts {
            reader.handle_message(at(0), &node(PEER), message);
        }
        drain(&mut reader);
        assert!(
            reader.n_rows() <= 10 * N_ROWS as usize,
            "{}",
            reader.n_rows()
        );
    }
}

#[test]
fn rep_565_a_life_that_is_heard_again_before_its_rows_are_dropped_shows_each_once() {
    let mut pair = Pair::new();
    pair.lose();
    // The reader itself is stopped for so long that it forgets the peer next.
    let forgotten = config().permdown_period + config().permdown_period;
    pair.reader
        .handle_timeout(MonoTime::since_origin(forgotten));
    pair.follow();
    assert_eq!(pair.status(), None);
    assert!(pair.reader.is_sweeping() && pair.n_listed() > 0);
    pair.reader
        .handle_heartbeat(at(30), &node(PEER), Incarnation(1), pair.peer.announced());
    pair.answer();
    assert_eq!(pair.n_listed(), N_ROWS as usize);
    assert_eq!(pair.reader.n_rows(), N_ROWS as usize);
    pair.sweep_all();
    assert_eq!(pair.n_listed(), N_ROWS as usize);
}
