//! Many nodes and many presences: what they send, hold and wait for. No faults but one partition.
//!
//! The shards, the heartbeats and the codec are the real ones, and every byte that is counted was
//! encoded. What is left out against a [`Simulation`](crate::Simulation) is the check after every
//! step, which costs as much as there is state: here the oracle looks once, at the end, and then
//! every node must list exactly who lives. A message is decoded once and its rows are shared by all
//! nodes that take it in, or hundreds of nodes would not fit into one machine; the newcomer's rows
//! come in answers of its own, so what it holds is what a node holds, and its memory is measured.
//!
//! Time is virtual and follows the [`Model`]. A run goes like this: all nodes but one start and
//! their presences join; it is quiet; the last node comes; single presences join; presences come
//! and go; the cluster is cut into halves in which they go on coming and going, for a minute; it
//! heals.

mod model;
mod queue;
mod crowd;
mod node;
mod world;

pub use model::{Measured, Model, Setup};

use std::time::Duration;

use crate::scale::world::World;

/// How long what is settled is given to settle.
const PAUSE: Duration = Duration::from_secs(2);
/// How long quiet and churn are measured.
const MEASURED: Duration = Duration::from_secs(10);
/// How long the two halves do not hear each other.
const CUT: Duration = Duration::from_secs(60);
/// How long a cluster may take to become complete before the run is given up.
const DEADLINE: Duration = Duration::from_secs(60);
/// Presences whose way to all nodes is timed.
const N_PROBES: u32 = 100;
/// How often it is looked whether the cluster is complete.
const LOOK: Duration = Duration::from_micros(500);

/// Runs a cluster of this setup and measures it.
///
/// # Errors
///
/// What was not as it must be: a node that never became complete, or lists something else than who
/// lives.
pub fn measure(setup: &Setup, model: &Model) -> Result<Measured, String> {
    let mut world = World::new(setup, model);
    let mut measured = Measured::new(setup);
    let n_first = setup.n_nodes - 1;
    for _ in 0..n_first {
        world.start_node(model.heartbeat_phase());
    }
    world.pass(PAUSE);
    world.fill();
    world.pass(PAUSE);
    world.complete(0..n_first, LOOK, DEADLINE)?;
    measure_newcomer(&mut world, &mut measured)?;
    world.pass(PAUSE);
    measure_quiet(&mut world, &mut measured);
    measure_churn(&mut world, &mut measured);
    world.pass(PAUSE);
    measure_heal(&mut world, &mut measured)?;
    world.check()?;
    Ok(measured)
}

fn measure_newcomer(world: &mut World, measured: &mut Measured) -> Result<(), String> {
    let before = resident_bytes();
    let index = world.start_node(Duration::ZERO);
    let took = world.complete(index..index + 1, LOOK / 5, DEADLINE)?;
    measured.newcomer_ms = millis(took);
    measured.newcomer_bytes = world.load(index).received_bytes as f64;
    measured.memory_bytes = resident_bytes().saturating_sub(before) as f64;
    measured.rows_held = world.rows_held(index) as f64;
    Ok(())
}

fn measure_quiet(world: &mut World, measured: &mut Measured) {
    let before = world.mean_load();
    world.pass(MEASURED);
    let load = world.mean_load().since(before);
    measured.quiet_bytes = load.received_bytes / MEASURED.as_secs_f64();
    measured.quiet_messages = load.received_messages / MEASURED.as_secs_f64();
    for _ in 0..N_PROBES {
        world.probe();
        world.pass(Duration::from_millis(23));
    }
    let delays = world.take_probes();
    measured.join_quiet_p50_ms = percentile(&delays, 50);
    measured.join_quiet_p99_ms = percentile(&delays, 99);
}

fn measure_churn(world: &mut World, measured: &mut Measured) {
    let before = world.mean_load();
    let n_before = world.n_changes();
    for _ in 0..N_PROBES {
        world.churn(MEASURED / N_PROBES);
        world.probe();
    }
    let seconds = MEASURED.as_secs_f64();
    let load = world.mean_load().since(before);
    measured.churn_changes = (world.n_changes() - n_before) as f64 / seconds;
    measured.churn_bytes = load.received_bytes / seconds;
    measured.churn_messages = load.received_messages / seconds;
    measured.churn_cpu_percent = load.busy_nanos / seconds / 1e7;
    world.pass(PAUSE);
    let delays = world.take_probes();
    measured.join_churn_p50_ms = percentile(&delays, 50);
    measured.join_churn_p99_ms = percentile(&delays, 99);
}

fn measure_heal(world: &mut World, measured: &mut Measured) -> Result<(), String> {
    let n_before = world.n_changes();
    world.cut();
    world.churn(CUT);
    let before = world.mean_load();
    let n_nodes = world.n_nodes();
    world.mend();
    let took = world.complete(0..n_nodes, LOOK, DEADLINE)?;
    let load = world.mean_load().since(before);
    // Half of the changes are the other side's.
    let n_missed = (world.n_changes() - n_before) as f64 / 2.0;
    measured.heal_ms = millis(took);
    measured.heal_changes = n_missed;
    measured.heal_bytes = load.received_bytes - load.received_heartbeat_bytes;
    Ok(())
}

/// Returns the least value that is not below so many of a hundred, in milliseconds; 0 of none.
fn percentile(delays: &[Duration], percent: usize) -> f64 {
    let mut delays = delays.to_vec();
    delays.sort_unstable();
    let at = (delays.len() * percent).div_ceil(100).saturating_sub(1);
    delays.get(at).map_or(0.0, |delay| millis(*delay))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1);
    let pages = pages.and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}
