//! Shards that hold rows, 100 members a topic, and pairs of them of which one reads the other.

use std::ops::Range;

use herenow_core::{
    Incarnation, Key, Meta, MonoTime, NodeName, Output, OwnerId, ReplicaId, Shard, ShardConfig,
    ShardIndex, ShardMessage, Topic, Version,
};

const MEMBERS: usize = 100;
const SHARD: ShardIndex = ShardIndex(0);

/// A shard with some rows, and the writes that are to come.
pub struct Rows {
    /// The shard.
    pub shard: Shard,
    topics: Vec<Topic>,
    writes: Vec<(OwnerId, Topic, Key, Meta)>,
}

/// Returns a shard that holds `n_rows`, with a new write for each of `n_writes`.
pub fn rows(n_rows: usize, n_writes: usize) -> Rows {
    let topics = topics(n_rows);
    let mut shard = shard("a");
    write(&mut shard, &topics, 0..n_rows);
    drain(&mut shard);
    let new = n_rows..n_rows + n_writes;
    let writes = new.map(|n| row(&topics, n)).collect();
    Rows {
        shard,
        topics,
        writes,
    }
}

impl Rows {
    /// The same, but the writes are to what is there already.
    #[must_use]
    pub fn again(mut self) -> Self {
        for (n, write) in self.writes.iter_mut().enumerate() {
            *write = row(&self.topics, n);
        }
        self
    }

    /// Tracks what is to come, and takes out what the shard says to it.
    ///
    /// # Panics
    ///
    /// If something is there already.
    pub fn track(&mut self) {
        for (owner, topic, key, meta) in self.writes.drain(..) {
            let row = self
                .shard
                .handle_track(MonoTime::ZERO, owner, topic, key, meta);
            row.expect("a new owner");
        }
        drain(&mut self.shard);
    }

    /// Updates what is there, and takes out what the shard says to it.
    ///
    /// # Panics
    ///
    /// If something is not there.
    pub fn update(&mut self) {
        for (owner, topic, key, meta) in self.writes.drain(..) {
            let row = self
                .shard
                .handle_update(MonoTime::ZERO, owner, &topic, &key, meta);
            row.expect("it is tracked");
        }
        drain(&mut self.shard);
    }

    /// Lists a topic and returns how many presences it has.
    pub fn list(&self) -> usize {
        self.shard.rows_of_topic(&self.topics[0]).count()
    }
}

/// A reader, and a delta of the owner's that it does not have yet.
pub struct Pair {
    reader: Shard,
    owner: NodeName,
    delta: Vec<u8>,
}

impl Pair {
    /// Returns a pair of `n_rows` each, and a delta of `n_joins` between them.
    ///
    /// # Panics
    ///
    /// If the reader did not catch up, or the owner has nothing to tell.
    pub fn new(n_rows: usize, n_joins: usize) -> Self {
        let topics = topics(n_rows);
        let (mut owner, mut reader) = (shard("a"), shard("b"));
        write(&mut owner, &topics, 0..n_rows);
        drain(&mut owner);
        catch_up(&mut owner, &mut reader);
        assert_eq!(reader.n_rows(), n_rows, "the reader has caught up");
        write(&mut owner, &topics, n_rows..n_rows + n_joins);
        let delta = drain(&mut owner)
            .into_iter()
            .find_map(|output| match output {
                Output::Broadcast(message) => Some(message.encode()),
                Output::Send { .. } | Output::Diff(_) | Output::Peer { .. } => None,
            });
        Self {
            reader,
            owner: owner.id().node.clone(),
            delta: delta.expect("the owner wrote, and has a peer"),
        }
    }

    /// Decodes the delta.
    ///
    /// # Panics
    ///
    /// If the codec does not read what it wrote.
    pub fn decode(&self) -> ShardMessage {
        let message = ShardMessage::decode(&self.delta, &self.owner, SHARD);
        message.expect("the codec wrote it")
    }

    /// Applies it, and takes out what the reader says to it.
    pub fn apply(&mut self, delta: ShardMessage) {
        self.reader
            .handle_message(MonoTime::ZERO, &self.owner, delta);
        drain(&mut self.reader);
    }

    /// How many rows the reader has.
    pub fn n_rows(&self) -> usize {
        self.reader.n_rows()
    }
}

/// Has a shard answer a node that lacks everything; returns how many chunks it took.
///
/// # Panics
///
/// If an answer is something else than rows.
pub fn extracted(owner: &mut Shard) -> usize {
    let reader = name("b");
    let (mut seen, mut pruned, mut n_chunks) = (Version::ZERO, Version::ZERO, 0);
    loop {
        let request = ShardMessage::Request {
            incarnation: Incarnation(1),
            owner: Incarnation(1),
            seen,
            pruned,
            pruning: None,
        };
        owner.handle_message(MonoTime::ZERO, &reader, request);
        let Some(answer) = sent(owner).pop() else {
            return n_chunks;
        };
        let ShardMessage::Transfer { delta, .. } = answer else {
            panic!("the owner answers with rows");
        };
        (seen, pruned) = (delta.to(), delta.as_of());
        n_chunks += 1;
    }
}

fn name(node: &str) -> NodeName {
    NodeName::new(node).expect("a short name")
}

fn shard(node: &str) -> Shard {
    let mut config = ShardConfig::default();
    config.transfer_bytes_per_second = usize::MAX;
    config.flush_interval = std::time::Duration::ZERO;
    let id = ReplicaId {
        node: name(node),
        incarnation: Incarnation(1),
        shard: SHARD,
    };
    Shard::new(&config, id, MonoTime::ZERO).expect("the settings fit")
}

/// Topics, made before anything is counted: a host interns them.
fn topics(n_rows: usize) -> Vec<Topic> {
    let names = (0..n_rows.div_ceil(MEMBERS)).map(|n| format!("topic:{n}"));
    names
        .map(|name| Topic::new(name).expect("a short topic"))
        .collect()
}

fn row(topics: &[Topic], n: usize) -> (OwnerId, Topic, Key, Meta) {
    let topic = topics[n / MEMBERS % topics.len()].clone();
    let key = Key::new(format!("user:{n:010}")).expect("a short key");
    let meta = Meta::new(r#"{"online_at":"1700000000"}"#).expect("a short meta");
    (OwnerId(n as u64 + 1), topic, key, meta)
}

/// Writes without draining, so that all of it becomes one delta.
fn write(shard: &mut Shard, topics: &[Topic], rows: Range<usize>) {
    for (owner, topic, key, meta) in rows.map(|n| row(topics, n)) {
        let row = shard.handle_track(MonoTime::ZERO, owner, topic, key, meta);
        row.expect("a new owner");
    }
}

fn drain(shard: &mut Shard) -> Vec<Output> {
    std::iter::from_fn(|| shard.poll_output()).collect()
}

fn sent(shard: &mut Shard) -> Vec<ShardMessage> {
    let outputs = drain(shard).into_iter();
    let messages = outputs.filter_map(|output| match output {
        Output::Send { message, .. } => Some(message),
        Output::Broadcast(_) | Output::Diff(_) | Output::Peer { .. } => None,
    });
    messages.collect()
}

/// Lets `reader` hear of `owner`, and sends to and fro until it has everything.
fn catch_up(owner: &mut Shard, reader: &mut Shard) {
    let (id, reader_id) = (owner.id().clone(), reader.id().clone());
    let now = MonoTime::ZERO;
    owner.handle_heartbeat(now, &reader_id.node, Incarnation(1), Version::ZERO);
    drain(owner);
    reader.handle_heartbeat(now, &id.node, id.incarnation, owner.announced());
    loop {
        let asked = sent(reader);
        if asked.is_empty() {
            return;
        }
        for message in asked {
            owner.handle_message(now, &reader_id.node, message);
        }
        for message in sent(owner) {
            reader.handle_message(now, &id.node, message);
        }
    }
}
