//! [`Cluster`]: nodes with real shards on one virtual clock, and the network between them.
//!
//! The cluster only moves when it is told to, one event at a time. It knows nothing of what is
//! right: it reports what each node did, and others judge.

mod node;

pub use node::Node;
pub(crate) use node::Step as NodeStep;

use std::time::Duration;

use herenow_core::{
    Incarnation, Key, Meta, NodeName, OwnerId, ReplicaId, ShardConfig, Topic, Version,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::network::{Frame, Network, NodeIndex, Parcel, Weather};
use crate::random::Random;
use node::{Clock, SHARD, address};

/// What an owner does on its node.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are what they are named")]
pub enum Write {
    /// Joins.
    Track {
        owner: OwnerId,
        topic: Topic,
        key: Key,
        meta: Meta,
    },
    /// Changes its meta.
    Update {
        owner: OwnerId,
        topic: Topic,
        key: Key,
        meta: Meta,
    },
    /// Leaves.
    Untrack {
        owner: OwnerId,
        topic: Topic,
        key: Key,
    },
    /// Dies, and so leaves everything.
    OwnerEnd { owner: OwnerId },
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was this version.
    Wrote(Version),
    /// It does not apply: tracked already, or not tracked.
    Refused,
    /// An owner ended that had so many presences.
    Ended(usize),
}

/// How many frames were sent since the beginning, each counted once however many it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Heartbeats.
    pub n_heartbeats: u64,
    /// All other messages.
    pub n_messages: u64,
    /// The bytes of both.
    pub n_bytes: u64,
}

/// Everything that has happened, as one number.
#[derive(Debug, Default)]
struct Trace(u64);

impl Trace {
    fn update(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
}

/// A place in the cluster: a name, and who lives there.
#[derive(Debug)]
struct Place {
    node: Option<Node>,
    /// How far the wall clock is ahead of what it should show, in microseconds.
    wall_micros: i64,
}

/// Nodes, their clocks, and the network between them.
#[derive(Debug)]
pub struct Cluster {
    config: ShardConfig,
    random: Random,
    network: Network,
    names: Vec<NodeName>,
    places: Vec<Place>,
    now: Duration,
    traffic: Traffic,
    trace: Trace,
}

/// The wall clock's time at the beginning, in microseconds since 1970.
const EPOCH_MICROS: u64 = 1_700_000_000_000_000;

impl Cluster {
    /// Makes a cluster without nodes.
    pub(crate) fn new(config: &ShardConfig, mut random: Random, weather: Weather) -> Self {
        let network = Network::new(random.fork(), weather);
        Self {
            config: config.clone(),
            random,
            network,
            names: Vec::new(),
            places: Vec::new(),
            now: Duration::ZERO,
            traffic: Traffic::default(),
            trace: Trace::default(),
        }
    }

    /// Returns the virtual time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Returns the settings of the shards.
    pub fn config(&self) -> &ShardConfig {
        &self.config
    }

    /// Returns what was sent so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Returns the node at a place; `None` while nobody lives there.
    pub fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.places.get(index.0)?.node.as_ref()
    }

    /// Returns the name of a place.
    pub fn name(&self, index: NodeIndex) -> &NodeName {
        &self.names[index.0]
    }

    /// Returns the nodes that run, paused ones too, by place.
    pub fn running(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(place, at)| Some((NodeIndex(place), at.node.as_ref()?)))
    }

    /// Returns the places where nobody lives.
    pub fn vacant(&self) -> impl Iterator<Item = NodeIndex> {
        let places = self.places.iter().enumerate();
        let vacant = places.filter(|(_, at)| at.node.is_none());
        vacant.map(|(place, _)| NodeIndex(place))
    }

    /// Returns whether frames pass in this direction.
    pub fn is_open(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.network.is_open(from, to)
    }

    /// Returns a number that stands for everything that has happened.
    pub fn trace(&self) -> u64 {
        self.trace.0
    }

    /// Returns how long it takes until no clock shows less than it has shown before.
    pub(crate) fn longest_clock_lag(&self) -> Duration {
        let lags = self.running().map(|(_, node)| node.clock_lag(self.now));
        lags.max().unwrap_or_default()
    }

    /// Adds a place and starts a node there.
    pub(crate) fn add(&mut self) -> NodeIndex {
        let index = NodeIndex(self.places.len());
        let name = NodeName::new(format!("n{}", index.0));
        self.names.push(name.expect("a short name is fine"));
        self.places.push(Place {
            node: None,
            wall_micros: 0,
        });
        self.start(index);
        index
    }

    /// Starts a node at a vacant place: a new life under the place's name.
    pub(crate) fn start(&mut self, index: NodeIndex) -> ReplicaId {
        let wall = i64::try_from(self.now.as_micros()).unwrap_or(i64::MAX);
        let wall = wall.saturating_add(self.places[index.0].wall_micros);
        let id = ReplicaId {
            node: self.names[index.0].clone(),
            incarnation: Incarnation(EPOCH_MICROS.saturating_add_signed(wall)),
            shard: SHARD,
        };
        let clock = Clock::new(self.random.millis(0, 3_600_000));
        let messages_first = self.random.per_mille(500);
        let node = Node::new(&self.config, id.clone(), self.now, clock, messages_first);
        self.places[index.0].node = Some(node);
        self.note("start", index);
        id
    }

    /// Ends a node without a word.
    pub(crate) fn crash(&mut self, index: NodeIndex) -> Option<Node> {
        self.note("crash", index);
        self.places[index.0].node.take()
    }

    /// Lets a node say good-bye, and ends it.
    pub(crate) fn leave(&mut self, index: NodeIndex) -> Option<Node> {
        self.note("leave", index);
        let mut node = self.places[index.0].node.take()?;
        let step = node.leave(self.now);
        self.send_all(index, &step.outgoing);
        Some(node)
    }

    /// Lets the engine tell all others that a node is gone, true or not.
    pub(crate) fn hint_gone(&mut self, about: NodeIndex) {
        let gone = Frame::Gone(self.names[about.0].clone());
        let parcels = address(about, None, &self.names, &gone);
        for parcel in parcels {
            self.network.send(self.now, parcel);
        }
    }

    /// Stops a node for a while: it does nothing, its inbox fills.
    pub(crate) fn pause(&mut self, index: NodeIndex, length: Duration) {
        let until = self.now + length;
        if let Some(node) = self.node_mut(index) {
            node.pause(until);
        }
    }

    /// Lets all paused nodes go on.
    pub(crate) fn resume_all(&mut self) {
        let now = self.now;
        for node in self.places.iter_mut().filter_map(|at| at.node.as_mut()) {
            node.resume();
            node.wake(now);
        }
    }

    /// Sets a node's monotonic clock, which should not happen.
    pub(crate) fn jump(&mut self, index: NodeIndex, by_millis: i64) {
        if let Some(node) = self.node_mut(index) {
            node.clock_mut().jump(by_millis);
        }
    }

    /// Sets the wall clock of a place, from which a later start takes its incarnation.
    pub(crate) fn set_wall_clock(&mut self, index: NodeIndex, by_millis: i64) {
        self.places[index.0].wall_micros += by_millis * 1000;
    }

    pub(crate) fn set_weather(&mut self, weather: Weather) -> Weather {
        self.network.set_weather(weather)
    }

    pub(crate) fn cut(&mut self, from: NodeIndex, to: NodeIndex) {
        self.network.cut(from, to);
    }

    pub(crate) fn mend_all(&mut self) {
        self.network.mend_all();
    }

    /// Lets an owner write on a node that runs and is not paused; else `None`.
    pub(crate) fn write(&mut self, index: NodeIndex, write: &Write) -> Option<Outcome> {
        let (now, soon) = (self.now, self.random.micros(0, 500));
        let node = self.node_mut(index).filter(|node| !node.is_paused(now))?;
        let outcome = node.write(now, write);
        node.wake(now + soon);
        Some(outcome)
    }

    /// Lets happen what happens next, if it does before `end`; then time is `end` and nothing is
    /// left.
    ///
    /// Reports what a node did, if it was a node's turn.
    pub(crate) fn advance(&mut self, end: Duration) -> Advance {
        let next_node = self
            .running()
            .map(|(index, node)| (node.due(), index))
            .min();
        let arrival = self.network.next_arrival();
        let node_first = next_node.filter(|(due, _)| arrival.is_none_or(|at| *due < at));
        match (node_first, arrival) {
            (Some((due, index)), _) if due.max(self.now) <= end => {
                self.now = self.now.max(due);
                self.step(index)
            }
            (None, Some(at)) if at.max(self.now) <= end => {
                self.now = self.now.max(at);
                self.arrive();
                Advance::Arrived
            }
            (Some(_) | None, _) => {
                self.now = self.now.max(end);
                Advance::Over
            }
        }
    }

    fn step(&mut self, index: NodeIndex) -> Advance {
        let now = self.now;
        let Some(node) = self.node_mut(index) else {
            return Advance::Arrived;
        };
        let step = node.step(now);
        self.note("step", index);
        for change in &step.changes {
            self.trace
                .update(change.row().meta_ref().as_str().as_bytes());
        }
        self.send_all(index, &step.outgoing);
        Advance::Stepped(index, step)
    }

    fn arrive(&mut self) {
        let Some(Parcel { from, to, frame }) = self.network.take() else {
            return;
        };
        self.note("arrive", to);
        let (now, soon) = (self.now, self.random.micros(0, 500));
        let name = self.names[from.0].clone();
        if let Some(node) = self.node_mut(to) {
            node.receive(&name, &frame);
            node.wake(now + soon);
        }
    }

    fn send_all(&mut self, from: NodeIndex, outgoing: &[(Option<NodeName>, Frame)]) {
        for (to, frame) in outgoing {
            self.count(frame);
            for parcel in address(from, to.as_ref(), &self.names, frame) {
                self.network.send(self.now, parcel);
            }
        }
    }

    fn count(&mut self, frame: &Frame) {
        let (bytes, counter) = match frame {
            Frame::Shard(bytes) => (bytes, &mut self.traffic.n_messages),
            Frame::Heartbeat(bytes) => (bytes, &mut self.traffic.n_heartbeats),
            Frame::Gone(_) => return,
        };
        *counter += 1;
        self.traffic.n_bytes += bytes.len() as u64;
        self.trace.update(bytes);
    }

    fn node_mut(&mut self, index: NodeIndex) -> Option<&mut Node> {
        self.places.get_mut(index.0)?.node.as_mut()
    }

    fn note(&mut self, what: &str, index: NodeIndex) {
        self.trace.update(what.as_bytes());
        self.trace.update(&index.0.to_le_bytes());
        self.trace.update(&self.now.as_nanos().to_le_bytes());
    }
}

/// What happened next.
#[derive(Debug)]
pub(crate) enum Advance {
    /// A node did something.
    Stepped(NodeIndex, NodeStep),
    /// A frame arrived.
    Arrived,
    /// Nothing before the end.
    Over,
}
