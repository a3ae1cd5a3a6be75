//! What nodes say to each other: the codec, and a live shard behind it.

use std::sync::Arc;
use std::time::Duration;

use herenow_core::{
    Incarnation, Key, LeaveReason, Meta, MonoTime, NodeHeartbeat, NodeName, Output, OwnerId,
    ReplicaId, Row, Shard, ShardConfig, ShardIndex, ShardMessage, Topic, Version, check,
};

use crate::reader::{Reader, piece};

const SHARD: ShardIndex = ShardIndex(0);
/// The nodes that speak in a script; the last one is the shard's own name.
const PEERS: [&str; 4] = ["a", "b", "c", "own"];
/// Outputs that one message may cause, besides one for each peer.
const MAX_OUTPUTS: usize = 8;

/// Bytes are a message or an error, and a message is the same after it was written and read.
pub(super) fn codec(input: &[u8]) {
    let from = node("a");
    if let Ok(message) = ShardMessage::decode(input, &from, SHARD) {
        let written = message.encode();
        let again = ShardMessage::decode(&written, &from, SHARD).expect("we read what we write");
        assert_eq!(again.encode(), written, "a message changes when it is read");
    }
    if let Ok(heartbeat) = NodeHeartbeat::decode(input) {
        let again = NodeHeartbeat::decode(&heartbeat.encode()).expect("we read what we write");
        assert_eq!(again, heartbeat);
    }
}

/// Whatever three nodes say, a shard keeps its rules, its own rows and those of the others.
pub(super) fn live(input: &[u8]) {
    let mut reader = Reader(input);
    let config = config();
    let mut shard = new_shard("own", &config);
    write_rows(&mut shard, at(0), 3);
    let mut now = 0;
    while !reader.is_at_end() {
        let from = PEERS[usize::from(reader.byte()) % PEERS.len()];
        now += u64::from(reader.byte());
        let others = Others::of(&shard, from);
        let n_peers = shard.peers().count();
        say(&mut shard, at(now), &node(from), reader.piece());
        others.assert_unchanged(&shard);
        let n_outputs = drain(&mut shard);
        assert!(
            n_outputs <= MAX_OUTPUTS + n_peers,
            "one message caused {n_outputs} outputs"
        );
        assert_bounded(&shard, &config);
        if now % 7 == 0 {
            now += u64::from(reader.byte()) * 50;
            shard.handle_timeout(at(now));
            drain(&mut shard);
            assert_bounded(&shard, &config);
        }
    }
    // Whoever spoke, the shard's own work goes on.
    write_rows(&mut shard, at(now), 1);
    drain(&mut shard);
    assert_eq!(shard.own_rows().count(), 4);
}

fn say(shard: &mut Shard, now: MonoTime, from: &NodeName, bytes: &[u8]) {
    if let Ok(message) = ShardMessage::decode(bytes, from, SHARD) {
        shard.handle_message(now, from, message);
    } else if let Ok(heartbeat) = NodeHeartbeat::decode(bytes) {
        // The host drops a heartbeat that is not its sender's.
        let announced = heartbeat.version_of(SHARD).unwrap_or(Version::ZERO);
        shard.handle_heartbeat(now, from, heartbeat.incarnation, announced);
    } else if bytes.is_empty() {
        shard.handle_peer_gone(now, from);
    }
}

fn assert_bounded(shard: &Shard, config: &ShardConfig) {
    assert_eq!(check(shard), Ok(()));
    assert!(shard.peers().count() <= config.max_peers);
    let n_most = shard.peers().map(|peer| peer.n_rows).max();
    assert!(n_most.unwrap_or_default() <= config.max_peer_rows);
    let memory = shard.memory();
    assert!(memory.n_burials <= 4 * config.max_peers);
    assert!(memory.n_removals <= config.max_history);
    assert!(memory.n_waiting <= config.max_peers);
}

/// Rows that a message of one node must not touch: everybody else's.
struct Others {
    of: Vec<&'static str>,
    rows: Vec<Arc<Row>>,
}

impl Others {
    fn of(shard: &Shard, speaker: &str) -> Self {
        let of: Vec<_> = PEERS.into_iter().filter(|name| *name != speaker).collect();
        let rows = rows_of(shard, &of);
        Self { of, rows }
    }

    fn assert_unchanged(&self, shard: &Shard) {
        let rows = rows_of(shard, &self.of);
        let is_same = self.rows.len() == rows.len()
            && self.rows.iter().zip(&rows).all(|(a, b)| Arc::ptr_eq(a, b));
        assert!(is_same, "a message of one node touched rows of another");
    }
}

fn rows_of(shard: &Shard, names: &[&str]) -> Vec<Arc<Row>> {
    let peers = names.iter().flat_map(|name| {
        let name = node(name);
        let rows: Vec<_> = shard.rows_of_peer(&name).cloned().collect();
        rows
    });
    peers.chain(shard.own_rows().cloned()).collect()
}

/// Performs nothing, counts, and checks that what is to be sent can be read by others.
fn drain(shard: &mut Shard) -> usize {
    let own = node("own");
    let mut n_outputs = 0;
    while let Some(output) = shard.poll_output() {
        n_outputs += 1;
        match output {
            Output::Broadcast(message) | Output::Send { message, .. } => {
                let read = ShardMessage::decode(&message.encode(), &own, SHARD);
                assert!(read.is_ok(), "a shard says what others cannot read");
            }
            Output::Diff(diff) => assert!(!diff.changes.is_empty(), "a diff of nothing"),
            Output::Peer { .. } => {}
        }
    }
    n_outputs
}

/// Small limits, so that a short script reaches them.
fn config() -> ShardConfig {
    let mut config = ShardConfig::default();
    config.max_history = 2;
    config.max_peers = 2;
    config.max_peer_rows = 16;
    config.max_delta_bytes = 1024;
    config
}

pub(super) fn seeds_of_codec() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = conversation().iter().map(ShardMessage::encode).collect();
    seeds.push(heartbeat(3).encode());
    seeds
}

pub(super) fn seeds_of_live() -> Vec<Vec<u8>> {
    let mut said: Vec<_> = conversation().iter().map(ShardMessage::encode).collect();
    said.push(heartbeat(20).encode());
    said.push(Vec::new());
    let script = |peer: u8, pause: u8| {
        let steps = said
            .iter()
            .map(move |bytes| [&[peer, pause][..], &piece(bytes)].concat());
        steps.collect::<Vec<_>>().concat()
    };
    vec![
        script(0, 1),
        script(1, 7),
        [script(0, 14), script(1, 1), script(2, 3)].concat(),
    ]
}

fn heartbeat(version: u64) -> NodeHeartbeat {
    NodeHeartbeat {
        node: node("a"),
        incarnation: Incarnation(1),
        versions: vec![Version(version)],
    }
}

/// All that an owner with some history says, to everybody and to one who asks.
fn conversation() -> Vec<ShardMessage> {
    let mut owner = new_shard("a", &config());
    owner.handle_heartbeat(at(0), &node("own"), Incarnation(1), Version::ZERO);
    let mut said = Vec::new();
    let mut keep = |shard: &mut Shard| {
        while let Some(output) = shard.poll_output() {
            if let Output::Broadcast(message) | Output::Send { message, .. } = output {
                said.push(message);
            }
        }
    };
    for n in 0..6 {
        write_rows(&mut owner, at(n * 10), 1 + n % 2);
        if n % 2 == 1 {
            owner.handle_owner_end(at(n * 10), OwnerId(n / 2), LeaveReason::Closed);
        }
        keep(&mut owner);
    }
    for seen in [0, 2, 8].map(Version) {
        let request = ShardMessage::Request {
            incarnation: Incarnation(1),
            owner: Incarnation(1),
            seen,
            pruned: seen,
            pruning: None,
        };
        owner.handle_message(at(1_000), &node("own"), request);
        owner.handle_timeout(at(2_000));
        keep(&mut owner);
    }
    owner.handle_shutdown(at(3_000));
    keep(&mut owner);
    said
}

fn write_rows(shard: &mut Shard, now: MonoTime, n: u64) {
    let first = shard.version().0;
    for n in first..first + n {
        let topic = Topic::new(format!("room:{}", n % 2)).expect("short");
        let key = Key::new(format!("user-{n}")).expect("short");
        let meta = Meta::new(r#"{"m":1}"#).expect("short");
        let tracked = shard.handle_track(now, OwnerId(n), topic, key, meta);
        tracked.expect("nobody else has this key");
    }
}

fn new_shard(name: &str, config: &ShardConfig) -> Shard {
    let id = ReplicaId {
        node: node(name),
        incarnation: Incarnation(1),
        shard: SHARD,
    };
    Shard::new(config, id, at(0)).expect("the limits fit together")
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("short")
}

fn at(ms: u64) -> MonoTime {
    MonoTime::since_origin(Duration::from_millis(ms))
}
