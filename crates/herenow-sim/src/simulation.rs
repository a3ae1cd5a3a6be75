//! [`Simulation`]: a cluster, the oracle and the invariants together; and [`run`], which does a seed.

mod acts;

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use herenow_core::{NodeName, OwnerId, PeerEvent, ShardConfig, ShardStats};

use crate::cluster::{Advance, Cluster, Node, NodeStep, Write};
use crate::invariants::{Checks, Violation};
use crate::network::{NodeIndex, Weather};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::schedule::{Plan, key, numbered_meta, topic};

/// Owners of a burst are numbered from here.
const FIRST_OF_BURST: u64 = 1000;

/// An invariant that did not hold, and where.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The virtual time.
    pub at: Duration,
    /// The node that had just done something.
    pub node: Option<NodeName>,
    /// What did not hold.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_ref().map_or("the cluster", NodeName::as_str);
        write!(f, "at {:?}, {node}: {}", self.at, self.violation)
    }
}

impl std::error::Error for Failure {}

/// What a run has met: that nothing failed means little if nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields are what they are named")]
pub struct Coverage {
    pub n_writes: u64,
    pub n_changes: u64,
    pub n_up: u64,
    pub n_down: u64,
    pub n_forgotten: u64,
    pub n_applied: u64,
    pub n_stale: u64,
    pub n_gaps: u64,
    pub n_buried: u64,
    pub n_refused: u64,
    pub n_transfers: u64,
    pub n_cut: u64,
    pub n_returned: u64,
    pub n_grace_over: u64,
    pub n_calms: u64,
}

impl Coverage {
    fn count_step(&mut self, step: &NodeStep) {
        self.n_cut += step.n_cut;
        self.n_changes += step.changes.len() as u64;
        for (_, event) in &step.events {
            match event {
                PeerEvent::Up => self.n_up += 1,
                PeerEvent::Down => self.n_down += 1,
                PeerEvent::Forgotten => self.n_forgotten += 1,
            }
        }
    }

    fn count_node(&mut self, stats: ShardStats) {
        self.n_applied += stats.n_applied;
        self.n_stale += stats.n_stale;
        self.n_gaps += stats.n_gaps;
        self.n_buried += stats.n_buried;
        self.n_refused += stats.n_refused;
        self.n_transfers += stats.n_transfers;
        self.n_returned += stats.n_returned;
        self.n_grace_over += stats.n_grace_over;
    }
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.n_writes += other.n_writes;
        self.n_changes += other.n_changes;
        self.n_up += other.n_up;
        self.n_down += other.n_down;
        self.n_forgotten += other.n_forgotten;
        self.n_applied += other.n_applied;
        self.n_stale += other.n_stale;
        self.n_gaps += other.n_gaps;
        self.n_buried += other.n_buried;
        self.n_refused += other.n_refused;
        self.n_transfers += other.n_transfers;
        self.n_cut += other.n_cut;
        self.n_returned += other.n_returned;
        self.n_grace_over += other.n_grace_over;
        self.n_calms += other.n_calms;
    }
}

/// What a run that held came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// A number that stands for everything that happened: the same for the same seed.
    pub trace: u64,
    /// The virtual time that passed.
    pub length: Duration,
    /// What it has met.
    pub coverage: Coverage,
}

/// Runs one seed with as many nodes as it says, or as `n_nodes` does.
///
/// # Errors
///
/// [`Failure`] with the first invariant that did not hold.
pub fn run(seed: u64, n_nodes: Option<usize>) -> Result<Report, Failure> {
    run_plan(&Plan::of_seed(seed, n_nodes), seed)
}

/// Runs a plan, and heals and checks the cluster at its end. The seed is that of the network.
///
/// # Errors
///
/// [`Failure`] with the first invariant that did not hold.
pub fn run_plan(plan: &Plan, seed: u64) -> Result<Report, Failure> {
    let weather = plan.weather.clone();
    let mut simulation = Simulation::new(&plan.config, plan.n_nodes, weather, seed);
    for step in &plan.steps {
        simulation.pass(step.after)?;
        simulation.act(&step.act)?;
    }
    simulation.mend();
    simulation.calm()?;
    simulation.quiet()?;
    Ok(simulation.report())
}

/// A cluster under the eyes of the oracle: everything that is done to it goes through here.
#[derive(Debug)]
pub struct Simulation {
    cluster: Cluster,
    oracle: Oracle,
    checks: Checks,
    coverage: Coverage,
}

impl Simulation {
    /// Starts a cluster of so many nodes.
    pub fn new(config: &ShardConfig, n_nodes: usize, weather: Weather, seed: u64) -> Self {
        let mut simulation = Self {
            cluster: Cluster::new(config, Random::new(!seed), weather),
            oracle: Oracle::default(),
            checks: Checks::default(),
            coverage: Coverage::default(),
        };
        for _ in 0..n_nodes {
            simulation.add();
        }
        simulation
    }

    /// Returns the cluster, to look at.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns what is true.
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// Returns what has happened so far.
    pub fn report(&self) -> Report {
        let mut coverage = self.coverage;
        for (_, node) in self.cluster.running() {
            coverage.count_node(node.shard().stats());
        }
        Report {
            trace: self.cluster.trace(),
            length: self.cluster.now(),
            coverage,
        }
    }

    /// Lets time pass, and all that happens in it.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the first invariant that does not hold.
    pub fn pass(&mut self, length: Duration) -> Result<(), Failure> {
        let end = self.cluster.now() + length;
        loop {
            match self.cluster.advance(end) {
                Advance::Stepped(index, step) => {
                    self.coverage.count_step(&step);
                    let checks = &mut self.checks;
                    let checked = checks.after_step(&self.cluster, &self.oracle, index, &step);
                    checked.map_err(|violation| self.failure(Some(index), violation))?;
                }
                Advance::Arrived => {}
                Advance::Over => return Ok(()),
            }
        }
    }

    /// Lets an owner write; nothing happens if its node does not run, or not now.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the write comes to something else than it must.
    pub fn write(&mut self, index: NodeIndex, write: &Write) -> Result<(), Failure> {
        let Some(outcome) = self.cluster.write(index, write) else {
            return Ok(());
        };
        let node = self.cluster.node(index).expect("it has just written");
        let id = node.shard().id().clone();
        let expected = self.oracle.write(&id.node, id.incarnation, write);
        self.coverage.n_writes += 1;
        let checked = Checks::after_write(expected, outcome);
        checked.map_err(|violation| self.failure(Some(index), violation))
    }

    /// Lets so many owners join that have not, and end that have.
    ///
    /// # Errors
    ///
    /// [`Failure`] if a write comes to something else than it must.
    pub fn burst(&mut self, index: NodeIndex, n_owners: u64) -> Result<(), Failure> {
        for number in 0..n_owners {
            let owner = OwnerId(FIRST_OF_BURST + number);
            let Some(node) = self.cluster.node(index) else {
                return Ok(());
            };
            let is_here = node.shard().rows_of_owner(owner).next().is_some();
            let write = if is_here {
                Write::OwnerEnd { owner }
            } else {
                let (topic, key) = (topic(number % 3), key(number));
                let meta = numbered_meta(number);
                Write::Track {
                    owner,
                    topic,
                    key,
                    meta,
                }
            };
            self.write(index, &write)?;
        }
        Ok(())
    }

    /// Starts a node with a new name.
    pub fn add(&mut self) -> NodeIndex {
        let index = self.cluster.add();
        self.begin(index);
        index
    }

    /// Starts a node at a place where none runs, under the same name.
    pub fn restart(&mut self, index: NodeIndex) {
        if self.cluster.node(index).is_none() {
            self.cluster.start(index);
            self.begin(index);
        }
    }

    /// Ends a node without a word. If the engine notices, it tells the others.
    pub fn crash(&mut self, index: NodeIndex, is_noticed: bool) {
        let node = self.cluster.crash(index);
        if is_noticed && node.is_some() {
            self.cluster.hint_gone(index);
        }
        self.bury(node);
    }

    /// Lets a node say good-bye, and ends it.
    pub fn leave(&mut self, index: NodeIndex) {
        let node = self.cluster.leave(index);
        self.bury(node);
    }

    /// Stops a node for a while.
    pub fn pause(&mut self, index: NodeIndex, length: Duration) {
        self.cluster.pause(index, length);
    }

    /// Sets a monotonic clock forward, or back if negative.
    pub fn jump(&mut self, index: NodeIndex, by_millis: i64) {
        self.cluster.jump(index, by_millis);
    }

    /// Sets the wall clock that later lives at this place take their incarnation from.
    pub fn set_wall_clock(&mut self, index: NodeIndex, by_millis: i64) {
        self.cluster.set_wall_clock(index, by_millis);
    }

    /// Lets the engine say that a node is gone, true or not.
    pub fn hint_gone(&mut self, about: NodeIndex) {
        self.cluster.hint_gone(about);
    }

    /// Cuts one direction of a link.
    pub fn cut(&mut self, from: NodeIndex, to: NodeIndex) {
        self.cluster.cut(from, to);
    }

    /// Cuts a link in both directions.
    pub fn cut_both(&mut self, one: NodeIndex, other: NodeIndex) {
        self.cluster.cut(one, other);
        self.cluster.cut(other, one);
    }

    /// Makes all links whole.
    pub fn mend(&mut self) {
        self.cluster.mend_all();
    }

    /// Makes the network better or worse.
    pub fn set_weather(&mut self, weather: Weather) {
        self.cluster.set_weather(weather);
    }

    /// Clears the weather, lets paused nodes go on, waits until everything that can be known is
    /// known, and checks that it is. Links that are cut stay cut; the weather then is as before.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the first invariant that does not hold.
    pub fn calm(&mut self) -> Result<(), Failure> {
        let before = self.cluster.set_weather(Weather::clear());
        self.cluster.resume_all();
        let config = self.cluster.config();
        // Late frames, a life that is taken only once the one before is down, and a round trip.
        let late = Duration::from_secs(5);
        let known = config.down_period + config.heartbeat_period * 4 + config.request_timeout * 4;
        let graces = config.graces.iter().map(|(_, grace)| grace.period);
        let told = graces.max().unwrap_or_default();
        self.pass(late + self.cluster.longest_clock_lag() + known + told)?;
        self.coverage.n_calms += 1;
        let checked = self.checks.when_calm(&self.cluster, &self.oracle);
        checked.map_err(|(index, violation)| self.failure(Some(index), violation))?;
        self.cluster.set_weather(before);
        Ok(())
    }

    /// Lets the permdown period pass after a calm with all links open, and checks that only
    /// heartbeats were sent and only those are known who run.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the first invariant that does not hold.
    pub fn quiet(&mut self) -> Result<(), Failure> {
        let weather = self.cluster.set_weather(Weather::clear());
        let before = self.cluster.traffic();
        let config = self.cluster.config();
        self.pass(config.permdown_period + config.heartbeat_period * 2)?;
        let checked = Checks::when_quiet(&self.cluster, before);
        checked.map_err(|violation| self.failure(None, violation))?;
        self.cluster.set_weather(weather);
        Ok(())
    }

    fn begin(&mut self, index: NodeIndex) {
        let node = self.cluster.node(index).expect("it was just started");
        let id = node.shard().id().clone();
        self.oracle.begin(id.node, id.incarnation);
        self.checks.begin(index);
    }

    fn bury(&mut self, node: Option<Node>) {
        if let Some(node) = node {
            let id = node.shard().id();
            self.oracle.end(&id.node, id.incarnation);
            self.coverage.count_node(node.shard().stats());
        }
    }

    fn failure(&self, index: Option<NodeIndex>, violation: Violation) -> Failure {
        let node = index.map(|index| self.cluster.name(index).clone());
        let at = self.cluster.now();
        Failure {
            at,
            node,
            violation,
        }
    }
}
