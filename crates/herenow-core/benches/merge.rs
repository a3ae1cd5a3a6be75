//! Apply, extract, track and list on tables of 100,000 to 1,000,000 rows, 100 members a topic: the
//! steps of the reference's own benchmark.
//!
//! `cargo bench -p herenow-core` measures times; its first lines tell the memory and the bytes on
//! the wire of one row.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark is a host and has a clock"
)]

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use herenow_core::{
    Incarnation, Key, LeaveReason, Meta, MonoTime, NodeName, Output, OwnerId, ReplicaId, Shard,
    ShardConfig, ShardIndex, ShardMessage, Topic, Version,
};

const MEMBERS: usize = 100;
const SHARD: ShardIndex = ShardIndex(0);

fn main() {
    tell_sizes(); // First, while the process is fresh: freed memory is not given back at once.
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    track(&mut criterion);
    apply(&mut criterion);
    load(&mut criterion);
    list(&mut criterion);
    criterion.final_summary();
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a short name")
}

fn shard(name: &str) -> Shard {
    let mut config = ShardConfig::default();
    config.transfer_bytes_per_second = usize::MAX;
    config.flush_interval = Duration::ZERO;
    let id = ReplicaId {
        node: node(name),
        incarnation: Incarnation(1),
        shard: SHARD,
    };
    Shard::new(&config, id, MonoTime::ZERO).expect("the settings fit")
}

/// Topics, made before anything is measured: a host interns them.
fn topics(n_rows: usize) -> Vec<Topic> {
    let names = (0..n_rows.div_ceil(MEMBERS)).map(|n| format!("topic:{n}"));
    names
        .map(|name| Topic::new(name).expect("a short topic"))
        .collect()
}

fn fill(shard: &mut Shard, topics: &[Topic], rows: Range<usize>) {
    track_all(shard, rows.map(|n| new_row(topics, n)).collect());
}

fn drain(shard: &mut Shard) -> Vec<Output> {
    std::iter::from_fn(|| shard.poll_output()).collect()
}

/// Lets `reader` hear of `owner`, and sends to and fro until it has everything.
fn catch_up(owner: &mut Shard, reader: &mut Shard) {
    let id = owner.id().clone();
    let reader_id = reader.id().clone();
    owner.handle_heartbeat(
        MonoTime::ZERO,
        &reader_id.node,
        Incarnation(1),
        Version::ZERO,
    );
    drain(owner);
    reader.handle_heartbeat(MonoTime::ZERO, &id.node, id.incarnation, owner.announced());
    loop {
        let asked = sent(reader);
        if asked.is_empty() {
            return;
        }
        for message in asked {
            owner.handle_message(MonoTime::ZERO, &reader_id.node, message);
        }
        for message in sent(owner) {
            reader.handle_message(MonoTime::ZERO, &id.node, message);
        }
    }
}

fn sent(shard: &mut Shard) -> Vec<ShardMessage> {
    let outputs = drain(shard).into_iter();
    let messages = outputs.filter_map(|output| match output {
        Output::Send { message, .. } => Some(message),
        Output::Broadcast(_) | Output::Diff(_) | Output::Peer { .. } => None,
    });
    messages.collect()
}

/// Takes the delta out of what the owner broadcasts, as bytes.
fn delta_bytes(owner: &mut Shard) -> Vec<u8> {
    let delta = drain(owner).into_iter().find_map(|output| match output {
        Output::Broadcast(message) => Some(message.encode()),
        Output::Send { .. } | Output::Diff(_) | Output::Peer { .. } => None,
    });
    delta.expect("the owner wrote, and has a peer")
}

/// Tracks a thousand and drains after each 64, with so many rows already there; the thousand end
/// between the measurements, so that the table keeps its size.
fn track(criterion: &mut Criterion) {
    const N_TRACKED: usize = 1000;
    let mut group = criterion.benchmark_group("track");
    group.throughput(Throughput::Elements(N_TRACKED as u64));
    for n_before in [10_000, 100_000, 1_000_000] {
        let topics = topics(n_before);
        let mut shard = shard("a");
        fill(&mut shard, &topics, 0..n_before);
        group.bench_function(format!("1000 with {n_before} rows"), |bencher| {
            bencher.iter_custom(|n_iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..n_iterations {
                    let new = n_before..n_before + N_TRACKED;
                    let rows: Vec<_> = new.clone().map(|n| new_row(&topics, n)).collect();
                    let start = Instant::now();
                    track_all(&mut shard, rows);
                    total += start.elapsed();
                    for n in new {
                        let owner = OwnerId(n as u64 + 1);
                        shard.handle_owner_end(MonoTime::ZERO, owner, LeaveReason::Closed);
                    }
                    drain(&mut shard);
                }
                total
            });
        });
    }
}

type NewRow = (OwnerId, Topic, Key, Meta);

fn new_row(topics: &[Topic], n: usize) -> NewRow {
    let topic = topics[n / MEMBERS % topics.len()].clone();
    let key = Key::new(format!("user:{n:010}")).expect("a short key");
    let meta = Meta::new(r#"{"online_at":"1700000000"}"#).expect("a short meta");
    (OwnerId(n as u64 + 1), topic, key, meta)
}

fn track_all(shard: &mut Shard, rows: Vec<NewRow>) {
    for (n, (owner, topic, key, meta)) in rows.into_iter().enumerate() {
        let row = shard.handle_track(MonoTime::ZERO, owner, topic, key, meta);
        black_box(row.expect("a new owner"));
        if n % 64 == 0 {
            black_box(drain(shard));
        }
    }
    black_box(drain(shard));
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply a delta");
    for (n_rows, n_joins) in [(100_000, 1), (1_000_000, 1), (100_000, 100), (800_000, 10)] {
        let topics = topics(n_rows);
        let (mut owner, mut reader) = (shard("a"), shard("b"));
        fill(&mut owner, &topics, 0..n_rows);
        catch_up(&mut owner, &mut reader);
        let mut n = n_rows;
        group.throughput(Throughput::Elements(n_joins as u64));
        group.bench_function(format!("{n_joins} joins into {n_rows} rows"), |bencher| {
            bencher.iter_custom(|n_iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..n_iterations {
                    write(&mut owner, &topics, n..n + n_joins);
                    n += n_joins;
                    let bytes = delta_bytes(&mut owner);
                    let message = ShardMessage::decode(&bytes, &node("a"), SHARD);
                    let message = message.expect("what we encoded");
                    let from = node("a");
                    let start = Instant::now();
                    reader.handle_message(MonoTime::ZERO, &from, message);
                    black_box(drain(&mut reader));
                    total += start.elapsed();
                }
                total
            });
        });
        assert_eq!(reader.n_rows(), owner.n_rows());
    }
}

/// Writes without draining, so that all of it becomes one delta.
fn write(shard: &mut Shard, topics: &[Topic], rows: Range<usize>) {
    for (owner, topic, key, meta) in rows.map(|n| new_row(topics, n)) {
        let row = shard.handle_track(MonoTime::ZERO, owner, topic, key, meta);
        row.expect("a new owner");
    }
}

fn load(criterion: &mut Criterion) {
    let n_rows = 1_000_000;
    let topics = topics(n_rows);
    let mut owner = shard("a");
    fill(&mut owner, &topics, 0..n_rows);
    let mut group = criterion.benchmark_group("transfer");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(8));
    group.throughput(Throughput::Elements(n_rows as u64));
    let from = node("b");
    group.bench_function("extract 1000000 rows", |bencher| {
        bencher.iter(|| black_box(extract_all(&mut owner, &from)));
    });
    let chunks = extract_all(&mut owner, &from);
    group.bench_function("load 1000000 rows into an empty table", |bencher| {
        bencher.iter_batched(
            || (shard("b"), chunks.clone()),
            |(mut reader, chunks)| {
                for chunk in chunks {
                    reader.handle_message(MonoTime::ZERO, &node("a"), chunk);
                    black_box(reader.poll_output());
                }
                assert_eq!(reader.n_rows(), n_rows);
                reader
            },
            BatchSize::PerIteration,
        );
    });
}

/// Asks for chunk after chunk, as a reader that has nothing.
fn extract_all(owner: &mut Shard, reader: &NodeName) -> Vec<ShardMessage> {
    let mut chunks = Vec::new();
    let (mut seen, mut pruned) = (Version::ZERO, Version::ZERO);
    loop {
        let request = ShardMessage::Request {
            incarnation: Incarnation(1),
            owner: Incarnation(1),
            seen,
            pruned,
            pruning: None,
        };
        owner.handle_message(MonoTime::ZERO, reader, request);
        let answer = sent(owner).into_iter().find_map(|message| match message {
            ShardMessage::Transfer { delta, .. } => Some(delta),
            ShardMessage::Delta { .. }
            | ShardMessage::Request { .. }
            | ShardMessage::Held { .. }
            | ShardMessage::Bye { .. } => None,
        });
        let Some(delta) = answer else { return chunks };
        (seen, pruned) = (delta.to(), delta.as_of());
        let incarnation = Incarnation(1);
        chunks.push(ShardMessage::Transfer { incarnation, delta });
    }
}

fn list(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("list");
    for n_members in [100, 10_000] {
        let topics = topics(1);
        let mut shard = shard("a");
        fill(&mut shard, &topics, 0..n_members);
        group.bench_function(format!("{n_members} members"), |bencher| {
            bencher
                .iter(|| black_box(shard.rows_of_topic(&topics[0]).cloned().collect::<Vec<_>>()));
        });
    }
}

/// Resident memory of this process in bytes.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number is the resident pages") * 4096
}

fn tell_sizes() {
    let n_rows = 1_000_000;
    let topics = topics(n_rows);
    let before = resident_bytes();
    let mut owner = shard("a");
    fill(&mut owner, &topics, 0..n_rows);
    let in_memory = resident_bytes().saturating_sub(before) / n_rows;
    let chunks = extract_all(&mut owner, &node("b"));
    let on_wire: usize = chunks.iter().map(|chunk| chunk.encode().len()).sum();
    let encoded: Vec<Vec<u8>> = chunks.iter().map(ShardMessage::encode).collect();
    let start = Instant::now();
    for bytes in &encoded {
        black_box(ShardMessage::decode(bytes, &node("a"), SHARD).expect("what we encoded"));
    }
    let decode_ns = start.elapsed().as_nanos() / n_rows as u128;
    eprintln!("one row: {in_memory} bytes in memory (growth of the resident set, {n_rows} rows)");
    eprintln!(
        "one row: {} bytes on the wire, {decode_ns} ns to decode",
        on_wire / n_rows
    );
}
