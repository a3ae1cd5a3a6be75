//! [`World`]: the nodes, what is under way between them, and who lives.

mod complete;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::time::Duration;

use herenow_core::{
    Change, LeaveReason, MonoTime, NodeHeartbeat, Output, OwnerId, PeerEvent, ShardConfig,
    ShardIndex, ShardMessage,
};

use crate::random::Random;
use crate::scale::crowd::{Crowd, Person, meta};
use crate::scale::model::{Model, Setup};
use crate::scale::node::{Load, MeanLoad, Node, index_of};
use crate::scale::queue::{Body, Event, Parcel, Queue, n_rows, nanos};

/// A heartbeat out of turn comes after this part of the period, as in `herenow-presence`.
const EARLY_PART: u32 = 100;
/// How long the presences take to join at the beginning.
const FILL: Duration = Duration::from_secs(3);

/// A join that is timed.
#[derive(Debug)]
struct Probe {
    began: u64,
    /// Nodes that have not seen it.
    n_missing: usize,
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    setup: Setup,
    model: Model,
    config: ShardConfig,
    random: Random,
    now: u64,
    queue: Queue,
    nodes: Vec<Node>,
    crowd: Crowd,
    /// Nodes before this place and those from it on do not hear each other.
    cut_at: Option<usize>,
    probes: BTreeMap<OwnerId, Probe>,
    delays: Vec<Duration>,
}

impl World {
    pub(super) fn new(setup: &Setup, model: &Model) -> Self {
        let n_shards = NonZeroU16::new(setup.n_shards).expect("there is a shard at least");
        let mut config = ShardConfig::default();
        config.heartbeat_period = model.heartbeat_period;
        config.max_history = setup.max_history;
        Self {
            crowd: Crowd::new(setup.n_presences, n_shards),
            setup: setup.clone(),
            model: model.clone(),
            config,
            random: Random::new(setup.seed),
            now: 0,
            queue: Queue::default(),
            nodes: Vec::new(),
            cut_at: None,
            probes: BTreeMap::new(),
            delays: Vec::new(),
        }
    }

    /// Starts one more node, which beats first within `phase`, and returns its place.
    pub(super) fn start_node(&mut self, phase: Duration) -> usize {
        let index = self.nodes.len();
        let carried = self.draw_carried();
        let carries = |shard: u16| carried[usize::from(shard)];
        let (now, n_shards) = (self.time(), self.setup.n_shards);
        self.nodes
            .push(Node::new(&self.config, index, now, carries, n_shards));
        let first = self.now + self.random.between(0, nanos(phase));
        self.queue.schedule(first, Event::Beat(index));
        index
    }

    /// Draws which shards a node carries.
    fn draw_carried(&mut self) -> Vec<bool> {
        let n_shards = usize::from(self.setup.n_shards);
        let n_carried = usize::from(self.setup.n_carried).min(n_shards);
        let mut carried = vec![n_carried == n_shards; n_shards];
        let mut n_drawn = if n_carried == n_shards { n_carried } else { 0 };
        while n_drawn < n_carried {
            let shard = self.random.index(n_shards);
            if !carried[shard] {
                carried[shard] = true;
                n_drawn += 1;
            }
        }
        carried
    }

    pub(super) fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn n_changes(&self) -> u64 {
        self.crowd.n_changes
    }

    pub(super) fn load(&self, index: usize) -> Load {
        self.nodes[index].load
    }

    pub(super) fn mean_load(&self) -> MeanLoad {
        MeanLoad::of(&self.nodes)
    }

    pub(super) fn rows_held(&self, index: usize) -> usize {
        let shards = (0..usize::from(self.setup.n_shards)).map(|at| self.nodes[index].shard(at));
        shards.flatten().map(|shard| shard.n_rows()).sum()
    }

    /// Lets time pass, and all that happens in it.
    pub(super) fn pass(&mut self, length: Duration) {
        self.run_until(self.now + nanos(length));
    }

    fn run_until(&mut self, end: u64) {
        while let Some((at, event)) = self.queue.pop(end) {
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    /// Lets all presences join, those of one node and shard at once.
    pub(super) fn fill(&mut self) {
        let mut by_place: BTreeMap<(usize, u16), Vec<Person>> = BTreeMap::new();
        for number in 0..self.setup.n_presences {
            let node = number % self.nodes.len();
            let person = self.born(node);
            let shard = self.crowd.shard(person);
            by_place.entry((node, shard)).or_default().push(person);
        }
        let n_places = by_place.len() as u64;
        // By shard first, so that a node's link is used all the time and not at once.
        let mut places: Vec<_> = by_place.into_iter().collect();
        places.sort_by_key(|((node, shard), _)| (*shard, *node));
        for ((node, shard), people) in places {
            for person in people {
                self.track(person);
            }
            self.settle(node, shard);
            self.run_until(self.now + nanos(FILL) / n_places);
        }
    }

    /// Lets presences come and go for a while, one about as often as the other.
    pub(super) fn churn(&mut self, length: Duration) {
        let end = self.now + nanos(length);
        let gap = 1_000_000_000 / self.setup.changes_per_second.max(1) as u64;
        while self.now + gap <= end {
            self.run_until(self.now + gap);
            let is_join = self.crowd.len() < self.setup.n_presences;
            if is_join {
                self.join();
            } else {
                self.leave();
            }
        }
        self.run_until(end);
    }

    /// Lets somebody join whose way to all other nodes is timed.
    pub(super) fn probe(&mut self) {
        let person = self.join_unsettled();
        let shard = self.crowd.shard(person);
        let carriers = self.nodes.iter().filter(|node| node.carries(shard));
        let probe = Probe {
            began: self.now,
            n_missing: carriers.count() - 1,
        };
        if probe.n_missing > 0 {
            self.probes.insert(person.owner(), probe);
        }
        self.settle(person.node as usize, shard);
    }

    /// Returns how long the joins took that were timed and have arrived, and forgets the others.
    pub(super) fn take_probes(&mut self) -> Vec<Duration> {
        self.probes.clear();
        std::mem::take(&mut self.delays)
    }

    pub(super) fn cut(&mut self) {
        self.cut_at = Some(self.nodes.len() / 2);
    }

    pub(super) fn mend(&mut self) {
        self.cut_at = None;
    }

    fn born(&mut self, node: usize) -> Person {
        let carries = |shard| self.nodes[node].carries(shard);
        self.crowd.join(&mut self.random, node, carries)
    }

    fn join(&mut self) {
        let person = self.join_unsettled();
        self.settle(person.node as usize, self.crowd.shard(person));
    }

    fn join_unsettled(&mut self) -> Person {
        let node = self.random.index(self.nodes.len());
        let person = self.born(node);
        self.track(person);
        person
    }

    fn track(&mut self, person: Person) {
        let now = self.time();
        let (topic, at) = (
            self.crowd.topic(person).clone(),
            self.crowd.shard(person).into(),
        );
        let shard = self.nodes[person.node as usize].shard_mut(at);
        let shard = shard.expect("presences live where their shard is");
        let tracked = shard.handle_track(now, person.owner(), topic, person.key(), meta());
        tracked.expect("every presence has an owner of its own");
    }

    fn leave(&mut self) {
        let Some(person) = self.crowd.leave(&mut self.random) else {
            return;
        };
        let (now, at) = (self.time(), self.crowd.shard(person));
        let node = person.node as usize;
        if let Some(shard) = self.nodes[node].shard_mut(at.into()) {
            shard.handle_owner_end(now, person.owner(), LeaveReason::Closed);
        }
        self.settle(node, at);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(to, parcel) => {
                let node = &mut self.nodes[to];
                node.inbox.push_back(parcel);
                if !node.is_working {
                    node.is_working = true;
                    let at = node.busy_until.max(self.now);
                    self.queue.schedule(at, Event::Work(to));
                }
            }
            Event::Work(index) => self.work(index),
            Event::Wake(index, shard) => self.wake(index, shard),
            Event::Beat(index) => {
                self.beat(index);
                let next = self.now + nanos(self.model.heartbeat_period);
                self.queue.schedule(next, Event::Beat(index));
            }
            Event::EarlyBeat(index) => {
                self.nodes[index].beats_early = false;
                self.beat(index);
            }
        }
    }

    /// Takes in the next parcel.
    fn work(&mut self, index: usize) {
        let Some(parcel) = self.nodes[index].inbox.pop_front() else {
            return;
        };
        let (name, incarnation) = (
            self.nodes[parcel.from].name.clone(),
            self.nodes[parcel.from].incarnation,
        );
        let now = self.time();
        let node = &mut self.nodes[index];
        node.load.received_messages += 1;
        node.load.received_bytes += parcel.n_bytes as u64;
        match parcel.body {
            Body::Shard(at, message) => {
                let cost = self.model.frame_cost + self.model.row_cost * n_rows(&message);
                self.spend(index, cost);
                if let Some(shard) = self.nodes[index].shard_mut(at.into()) {
                    shard.handle_message(now, &name, (*message).clone());
                }
                self.settle(index, at);
            }
            Body::Heartbeat(heartbeat) => {
                node.load.received_heartbeat_bytes += parcel.n_bytes as u64;
                let n_shards = u32::from(self.setup.n_carried);
                self.spend(
                    index,
                    self.model.frame_cost + self.model.beat_cost * n_shards,
                );
                for at in 0..self.setup.n_shards {
                    if !self.nodes[parcel.from].carries(at) {
                        continue;
                    }
                    let announced = heartbeat.version_of(ShardIndex(at));
                    let announced = announced.expect("a heartbeat speaks of every shard");
                    if let Some(shard) = self.nodes[index].shard_mut(at.into()) {
                        shard.handle_heartbeat(now, &name, incarnation, announced);
                        self.settle(index, at);
                    }
                }
            }
        }
        let node = &mut self.nodes[index];
        node.is_working = !node.inbox.is_empty();
        if node.is_working {
            self.queue.schedule(node.busy_until, Event::Work(index));
        }
    }

    fn spend(&mut self, index: usize, cost: Duration) {
        let node = &mut self.nodes[index];
        node.busy_until = node.busy_until.max(self.now) + nanos(cost);
        node.load.busy_nanos += nanos(cost);
    }

    fn wake(&mut self, index: usize, at: u16) {
        let now = self.time();
        let node = &mut self.nodes[index];
        let wake = &mut node.wakes[usize::from(at)];
        if *wake != self.now {
            return; // It was put forward, and came.
        }
        *wake = u64::MAX;
        if let Some(shard) = node.shard_mut(at.into())
            && shard.poll_timeout() <= now
        {
            shard.handle_timeout(now);
        }
        self.settle(index, at);
    }

    /// Performs what a shard wants, and looks when it wants something again.
    fn settle(&mut self, index: usize, at: u16) {
        while let Some(shard) = self.nodes[index].shard_mut(at.into())
            && let Some(output) = shard.poll_output()
        {
            self.perform(index, at, output);
        }
        let node = &mut self.nodes[index];
        let Some(shard) = node.shard(at.into()) else {
            return;
        };
        let due = shard.poll_timeout();
        let wake = &mut node.wakes[usize::from(at)];
        let next = nanos(due.elapsed()).max(self.now);
        if due != MonoTime::MAX && next < *wake {
            *wake = next;
            self.queue.schedule(next, Event::Wake(index, at));
        }
    }

    fn perform(&mut self, index: usize, at: u16, output: Output) {
        match output {
            Output::Diff(diff) if self.probes.is_empty() => drop(diff),
            Output::Diff(diff) => {
                for change in &diff.changes {
                    if let Change::Joined(row) = change {
                        self.note_probe(index, row.owner());
                    }
                }
            }
            Output::Broadcast(message) => self.send_shard(index, at, None, &message),
            Output::Send { to, message } => {
                self.send_shard(index, at, Some(index_of(&to)), &message);
            }
            Output::Peer { event, .. } => {
                let node = &mut self.nodes[index];
                if event == PeerEvent::Up && !node.beats_early {
                    node.beats_early = true;
                    let soon = self.now + nanos(self.model.heartbeat_period / EARLY_PART);
                    self.queue.schedule(soon, Event::EarlyBeat(index));
                }
            }
        }
    }

    /// Owners are numbered across all nodes here, so the number tells the presence.
    fn note_probe(&mut self, index: usize, owner: OwnerId) {
        let Some(probe) = self.probes.get_mut(&owner) else {
            return;
        };
        if probe.began == self.now {
            return; // On its own node.
        }
        probe.n_missing -= 1;
        if probe.n_missing == 0 {
            // A core that takes in is done a little later.
            let done = self.nodes[index].busy_until.max(self.now);
            self.delays.push(Duration::from_nanos(done - probe.began));
            self.probes.remove(&owner);
        }
    }

    fn beat(&mut self, index: usize) {
        let bytes = self.nodes[index].heartbeat().encode();
        let heartbeat = NodeHeartbeat::decode(&bytes).expect("what one node says another can read");
        let parcel = Parcel {
            from: index,
            n_bytes: bytes.len() + self.model.head_bytes,
            body: Body::Heartbeat(Rc::new(heartbeat)),
        };
        for to in others(index, self.nodes.len()) {
            self.send(to, &parcel);
        }
    }

    fn send_shard(&mut self, index: usize, at: u16, to: Option<usize>, message: &ShardMessage) {
        let bytes = message.encode();
        let message = ShardMessage::decode(&bytes, &self.nodes[index].name, ShardIndex(at));
        let message = message.expect("what one shard says another can read");
        let parcel = Parcel {
            from: index,
            n_bytes: bytes.len() + self.model.head_bytes,
            body: Body::Shard(at, Rc::new(message)),
        };
        match to {
            Some(to) => self.send(to, &parcel),
            None => {
                for to in others(index, self.nodes.len()) {
                    if self.nodes[to].carries(at) {
                        self.send(to, &parcel);
                    }
                }
            }
        }
    }

    /// Sends one copy over the links of both nodes.
    fn send(&mut self, to: usize, parcel: &Parcel) {
        let from = parcel.from;
        if self.cut_at.is_some_and(|at| (from < at) != (to < at)) {
            return;
        }
        self.spend(from, self.model.frame_cost);
        let (least, most) = self.model.latency;
        let latency = self.random.between(nanos(least), nanos(most));
        let on_link = parcel.n_bytes as u64 * 1_000_000_000 / self.model.bytes_per_second;
        let sender = &mut self.nodes[from];
        sender.uplink_free = sender.uplink_free.max(sender.busy_until) + on_link;
        let arrives = sender.uplink_free + latency;
        let receiver = &mut self.nodes[to];
        receiver.downlink_free = receiver.downlink_free.max(arrives) + on_link;
        let at = receiver.downlink_free;
        self.queue.schedule(at, Event::Arrive(to, parcel.clone()));
    }

    fn time(&self) -> MonoTime {
        MonoTime::since_origin(Duration::from_nanos(self.now))
    }
}

/// Returns the places of the other nodes, from the next one on.
fn others(index: usize, n_nodes: usize) -> impl Iterator<Item = usize> {
    (1..n_nodes).map(move |n| (index + n) % n_nodes)
}
