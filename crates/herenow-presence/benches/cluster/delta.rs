//! A delta of 10 joins arrives at a shard that holds 800,000 rows of its owner.

use std::time::{Duration, Instant};

use herenow_core::{
    Incarnation, Key, Meta, MonoTime, NodeName, Output, OwnerId, ReplicaId, Shard, ShardConfig,
    ShardIndex, ShardMessage, Topic, Version,
};

use crate::figure;

const N_ROWS: usize = 800_000;
const N_JOINS: usize = 10;
const N_DELTAS: usize = 2_000;
const MEMBERS: usize = 100;
const TARGET: Duration = Duration::from_micros(10);
const NOW: MonoTime = MonoTime::ZERO;

/// An owner's shard and a reader's, and how many have joined.
struct Pair {
    owner: Shard,
    reader: Shard,
    topics: Vec<Topic>,
    n_joined: usize,
}

pub(crate) fn run() {
    let mut pair = Pair::new();
    while pair.n_joined < N_ROWS {
        pair.join(1_000);
    }
    let mut took: Vec<Duration> = (0..N_DELTAS).map(|_| pair.join(N_JOINS)).collect();
    assert_eq!(pair.reader.n_rows(), N_ROWS + N_JOINS * N_DELTAS);
    took.sort_unstable();
    let (median, late) = (took[N_DELTAS / 2], took[N_DELTAS * 99 / 100]);
    let measured = format!(
        "{:.1} µs; p99 {:.1} µs",
        median.as_secs_f64() * 1e6,
        late.as_secs_f64() * 1e6
    );
    let what = "a delta of 10 arrives in 800,000 rows (one shard)";
    figure(
        what,
        "127 ms of stopped shard",
        "10 µs",
        &measured,
        median <= TARGET,
    );
}

impl Pair {
    fn new() -> Self {
        let shard = |name: &str| {
            let mut config = ShardConfig::default();
            config.flush_interval = Duration::ZERO;
            config.max_delta_bytes = usize::MAX / 2;
            config.transfer_bytes_per_second = usize::MAX / 2;
            let id = ReplicaId {
                node: NodeName::new(name).unwrap(),
                incarnation: Incarnation(1),
                shard: ShardIndex(0),
            };
            Shard::new(&config, id, NOW).unwrap()
        };
        let (mut owner, mut reader) = (shard("a"), shard("b"));
        let names = [owner.id().node.clone(), reader.id().node.clone()];
        owner.handle_heartbeat(NOW, &names[1], Incarnation(1), Version::ZERO);
        reader.handle_heartbeat(NOW, &names[0], Incarnation(1), Version::ZERO);
        drain(&mut owner);
        drain(&mut reader);
        let names = (0..N_ROWS / MEMBERS).map(|n| format!("room:{n}"));
        Self {
            owner,
            reader,
            topics: names.map(|name| Topic::new(name).unwrap()).collect(),
            n_joined: 0,
        }
    }

    /// Lets so many join, and returns how long the reader worked on the delta.
    fn join(&mut self, n_joins: usize) -> Duration {
        for n in self.n_joined..self.n_joined + n_joins {
            // Into different rooms, as people do.
            let topic = self.topics[n * 7919 % self.topics.len()].clone();
            let key = Key::new(format!("user:{n:010}")).unwrap();
            let meta = Meta::new(r#"{"online_at":"1700000000"}"#).unwrap();
            let owner = OwnerId(n as u64 + 1);
            self.owner
                .handle_track(NOW, owner, topic, key, meta)
                .unwrap();
        }
        self.n_joined += n_joins;
        let from = self.owner.id().node.clone();
        let sent = drain(&mut self.owner).into_iter();
        let sent = sent.map(|bytes| ShardMessage::decode(&bytes, &from, ShardIndex(0)).unwrap());
        let mut took = Duration::ZERO;
        for message in sent.collect::<Vec<_>>() {
            let began = Instant::now();
            self.reader.handle_message(NOW, &from, message);
            let outputs: Vec<Output> = std::iter::from_fn(|| self.reader.poll_output()).collect();
            took += began.elapsed();
            drop(outputs);
        }
        took
    }
}

/// Performs what a shard put out, and returns what it broadcasts.
fn drain(shard: &mut Shard) -> Vec<Vec<u8>> {
    let outputs = std::iter::from_fn(|| shard.poll_output());
    let broadcasts = outputs.filter_map(|output| match output {
        Output::Broadcast(message) => Some(message.encode()),
        Output::Send { .. } | Output::Diff(_) | Output::Peer { .. } => None,
    });
    broadcasts.collect()
}
