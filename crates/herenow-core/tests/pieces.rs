//! Lists of what is gone that are too long for one message: they come in pieces, each within the
//! limit, and what is written or lost between two pieces does no harm.

mod support;

use herenow_core::{LeaveReason, OwnerId, Shard, ShardConfig, ShardMessage};
use support::{at, drain, key, listed, node, shard_with, topic, track};

const ROOM: &str = "lobby";
const MAX_BYTES: usize = 512;
/// What a message may be over its limit: one small row, and what stands around the lists.
const SLACK_BYTES: usize = 128;
const N_ROWS: u64 = 3_000;

/// An owner and a reader that has all of its rows.
struct Pair {
    owner: Shard,
    reader: Shard,
    now: u64,
    n_messages: usize,
    n_cut: usize,
    largest: usize,
}

impl Pair {
    fn new(max_history: usize) -> Self {
        let mut config = ShardConfig::default();
        config.max_delta_bytes = MAX_BYTES;
        config.max_history = max_history;
        let mut pair = Self {
            owner: shard_with("a", 1, &config),
            reader: shard_with("b", 1, &config),
            now: 0,
            n_messages: 0,
            n_cut: 0,
            largest: 0,
        };
        for n in 0..N_ROWS {
            track(&mut pair.owner, at(0), n, ROOM, &n.to_string());
        }
        drain(&mut pair.owner);
        pair.heal(|_, _| true);
        pair
    }

    /// Ends every third row: neither those that are gone nor those that stay make long runs.
    fn thin_out(&mut self) {
        for n in (0..N_ROWS).filter(|n| n % 3 == 0) {
            self.leave(n);
        }
    }

    fn leave(&mut self, n: u64) {
        let (now, reason) = (at(self.now), LeaveReason::Left);
        self.owner
            .handle_untrack(now, OwnerId(n), &topic(ROOM), &key(&n.to_string()), reason);
    }

    /// Returns the owner's broadcasts since the last time, which the reader does not get.
    fn unheard(&mut self) -> Vec<ShardMessage> {
        self.now += 10;
        self.owner.handle_timeout(at(self.now));
        let broadcasts = drain(&mut self.owner).broadcasts;
        broadcasts.iter().for_each(|message| self.measure(message));
        broadcasts
    }

    fn measure(&mut self, message: &ShardMessage) {
        self.n_messages += 1;
        self.largest = self.largest.max(message.encode().len());
        if let ShardMessage::Delta { delta, .. } | ShardMessage::Transfer { delta, .. } = message {
            self.n_cut += usize::from(delta.is_cut());
        }
    }

    /// Lets heartbeats, requests and answers pass until the lists are equal; an answer is lost
    /// unless `arrives`, which is asked before each with its number and may write.
    fn heal(&mut self, mut arrives: impl FnMut(&mut Self, usize) -> bool) {
        for _ in 0..2_000 {
            self.now += 100;
            let id = self.owner.id().clone();
            let announced = self.owner.announced();
            let now = at(self.now);
            self.reader
                .handle_heartbeat(now, &id.node, id.incarnation, announced);
            self.reader.handle_timeout(now);
            for (_, request) in drain(&mut self.reader).sent {
                self.owner.handle_message(now, &node("b"), request);
            }
            self.owner.handle_timeout(now);
            for (_, answer) in drain(&mut self.owner).sent {
                if !matches!(answer, ShardMessage::Transfer { .. }) {
                    continue;
                }
                self.measure(&answer);
                if arrives(self, self.n_messages) {
                    self.reader.handle_message(now, &node("a"), answer);
                }
            }
            let seen = self.reader.peers().next().map(|peer| peer.seen);
            if seen == Some(self.owner.version()) {
                drain(&mut self.reader);
                assert_eq!(listed(&self.reader, ROOM), listed(&self.owner, ROOM));
                return;
            }
        }
        panic!("the reader never became complete");
    }

    fn assert_bounded(&self) {
        assert!(self.n_cut > 1, "{} pieces", self.n_cut);
        let limit = MAX_BYTES + SLACK_BYTES;
        assert!(self.largest <= limit, "{} bytes in one", self.largest);
    }
}

#[test]
fn tbl_34_what_is_gone_comes_in_pieces_if_it_is_too_much_for_one_message() {
    for max_history in [0, 1_000_000] {
        let mut pair = Pair::new(max_history);
        pair.thin_out();
        pair.unheard();
        pair.n_cut = 0;
        pair.heal(|_, _| true);
        pair.assert_bounded();
    }
}

#[test]
fn tbl_35_a_broadcast_of_what_is_gone_is_cut_too() {
    for max_history in [0, 1_000_000] {
        let mut pair = Pair::new(max_history);
        let (owner, b) = (pair.owner.id().clone(), pair.reader.id().clone());
        let heard = at(pair.now);
        pair.owner
            .handle_heartbeat(heard, &b.node, b.incarnation, pair.reader.announced());
        drain(&mut pair.owner);
        pair.thin_out();
        for message in pair.unheard() {
            let now = at(pair.now);
            pair.reader.handle_message(now, &owner.node, message);
            drain(&mut pair.reader);
        }
        pair.assert_bounded();
        assert_eq!(listed(&pair.reader, ROOM), listed(&pair.owner, ROOM));
    }
}

#[test]
fn tbl_36_writes_and_losses_between_two_pieces_do_no_harm() {
    for max_history in [0, 300, 1_000_000] {
        let mut pair = Pair::new(max_history);
        pair.thin_out();
        pair.unheard();
        let mut n = 0;
        pair.heal(|pair, answer| {
            // Rows end that pieces have called alive, before and after where the reader is.
            if n < 60 {
                for row in [n * 8, N_ROWS - 8 - n * 8] {
                    pair.leave(row);
                }
                let now = at(pair.now);
                track(&mut pair.owner, now, N_ROWS + n, ROOM, &format!("new-{n}"));
                n += 1;
            }
            answer % 3 != 0
        });
        pair.assert_bounded();
    }
}
