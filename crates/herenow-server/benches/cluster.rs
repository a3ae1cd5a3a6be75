//! Clusters of real nodes, as released, on this machine: how soon clients of one node see what
//! happens on another, for each engine.
//!
//! `cargo bench -p herenow-server --features nats,redis --bench cluster`, with `-- zenoh`, `nats`
//! or `redis` for one engine. `nats-server` and `redis-server` must be installed; `cargo xtask
//! bench cluster` sees to that. Each figure is a line that begins with `figure:` and has, between
//! bars, what was done, Phoenix's figure, the target, the engine, the figure, and whether that is
//! enough. Before a figure is told, every client's list has been compared with who is really there.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "cluster/room.rs"]
mod room;

use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::sleep;

use self::nodes::{Engine, Nodes};
use self::room::Room;

/// Joins and leaves whose latency is measured.
const N_PROBES: usize = 150;
/// Users of the mass join, over two nodes.
const N_USERS: usize = 500;
/// Users of the node that dies.
const N_LOST: usize = 125;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_named = |engine: &Engine| arguments.iter().any(|word| word == engine.word());
    let is_any_named = Engine::ALL.iter().any(is_named);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for engine in Engine::ALL {
        if !is_any_named || is_named(&engine) {
            LocalSet::new().block_on(&runtime, measure(engine));
        }
    }
}

async fn measure(engine: Engine) {
    let mut nodes = Nodes::prepare(engine).await;
    nodes.start(0);
    nodes.start(1);
    nodes.is_ready(0).await;
    nodes.is_ready(1).await;
    latency(&nodes, 2).await;
    let mass = mass_join(&nodes).await;
    newcomer(&mut nodes, &mass).await;
    latency(&nodes, 3).await;
    for end in [End::Killed, End::Stopped] {
        departure(&mut nodes, &mass, end).await;
        nodes.kill(2);
        nodes.start(2);
        nodes.is_ready(2).await;
    }
}

/// Prints one figure.
fn figure(engine: Engine, what: &str, phoenix: &str, target: &str, measured: &str, good: bool) {
    let verdict = if good { "pass" } else { "miss" };
    let name = engine.name();
    println!("figure: {what} | {phoenix} | {target} | {name} | {measured} | {verdict}");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One after the other, somebody joins and leaves on the first node of a quiet cluster.
async fn latency(nodes: &Nodes, n_nodes: usize) {
    let engine = nodes.engine();
    let room = Room::new("room:quiet");
    for node in 0..n_nodes {
        room.connect(nodes.url(node), &format!("watcher-{node}"))
            .await
            .join();
    }
    room.holds(n_nodes).await;
    let (mut joins, mut leaves) = (Vec::new(), Vec::new());
    for n in 0..N_PROBES {
        let name = format!("probe-{n}");
        let probe = room.connect(nodes.url(0), &name).await;
        sleep(Duration::from_millis(12 + (n as u64 * 7) % 11)).await; // Out of step with anything.
        room.look_out_for(&probe);
        let began = Instant::now();
        probe.join();
        room.holds(n_nodes + 1).await;
        joins.extend(room.noticed(&probe, began));
        sleep(Duration::from_millis(12 + (n as u64 * 5) % 13)).await;
        let began = Instant::now();
        room.disconnect(&probe);
        room.holds(n_nodes).await;
        leaves.push(began.elapsed());
    }
    room.close();
    joins.sort_unstable();
    leaves.sort_unstable();
    let (median, late) = (joins[joins.len() / 2], joins[joins.len() * 99 / 100]);
    let max_late = Duration::from_millis(if engine == Engine::Redis { 25 } else { 15 });
    let measured = format!(
        "{:.2}; {:.1} ms (leaves {:.2}; {:.1})",
        millis(median),
        millis(late),
        millis(leaves[leaves.len() / 2]),
        millis(leaves[leaves.len() * 99 / 100])
    );
    let what = format!("a join is seen by clients of the other nodes, {n_nodes} nodes: p50; p99");
    let good = median <= Duration::from_millis(2) && late <= max_late;
    let target = "2 ms; 15 ms (Redis 25)";
    figure(engine, &what, "715 ms; 1,464 ms", target, &measured, good);
}

/// Everybody joins on both nodes at once.
async fn mass_join(nodes: &Nodes) -> Room {
    let room = Room::new("room:mass");
    let mut users = Vec::new();
    for n in 0..N_USERS {
        users.push(
            room.connect(nodes.url(n % 2), &format!("user-{n:03}"))
                .await,
        );
    }
    sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    users.iter().for_each(|user| user.join());
    room.holds(N_USERS).await;
    let took = began.elapsed();
    let what = "500 users join on both of two nodes at once, until every list is complete";
    let measured = format!("{:.2} s", took.as_secs_f64());
    let good = took <= Duration::from_millis(500);
    figure(nodes.engine(), what, "2.1 s", "0.5 s", &measured, good);
    room
}

/// A third node starts beside the two; who joins there gets everybody.
async fn newcomer(nodes: &mut Nodes, room: &Room) {
    let began = Instant::now();
    nodes.start(2);
    nodes.is_ready(2).await;
    let ready = began.elapsed();
    let user = room.connect(nodes.url(2), "newcomer").await;
    user.join();
    user.has_list().await;
    let took = began.elapsed();
    assert_eq!(user.n_first(), N_USERS + 1, "ready means complete");
    room.holds(N_USERS + 1).await;
    room.disconnect(&user);
    room.holds(N_USERS).await;
    let what = "a newcomer, from the start of its process until it is ready; its first client has \
                everybody";
    let measured = format!("{:.2} s; {:.2} s", ready.as_secs_f64(), took.as_secs_f64());
    let good = took <= Duration::from_millis(300);
    figure(
        nodes.engine(),
        what,
        "10.6 to 13.7 s",
        "0.3 s",
        &measured,
        good,
    );
}

/// How the third node ends.
#[derive(Clone, Copy)]
enum End {
    Killed,
    Stopped,
}

/// The third node ends, and its users with it.
async fn departure(nodes: &mut Nodes, room: &Room, end: End) {
    let mut users = Vec::new();
    for n in 0..N_LOST {
        let user = room.connect(nodes.url(2), &format!("lost-{n:03}")).await;
        user.join();
        users.push(user);
    }
    room.holds(N_USERS + N_LOST).await;
    sleep(Duration::from_secs(1)).await;
    users.iter().for_each(|user| room.forsake(user)); // They stay connected, as long as they can.
    let began = Instant::now();
    match end {
        End::Killed => nodes.kill(2),
        End::Stopped => nodes.stop(2),
    }
    room.holds(N_USERS).await;
    let took = began.elapsed();
    let engine = nodes.engine();
    let reports = engine == Engine::Zenoh;
    let (what, phoenix, target, max) = match end {
        End::Killed => (
            "a node is killed: its 125 users are gone from every list",
            "29.5 s",
            "1 s if the engine reports it; 6 s by silence",
            Duration::from_secs(if reports { 1 } else { 6 }),
        ),
        End::Stopped => (
            "a node is stopped: the same",
            "30 s",
            "0.2 s",
            Duration::from_millis(200),
        ),
    };
    let measured = format!("{:.3} s", took.as_secs_f64());
    figure(engine, what, phoenix, target, &measured, took <= max);
}
