//! A long run of everything that goes wrong: users who come, change and go on a cluster of three
//! real nodes, a backend that evicts them and holds guests by leases, nodes that are killed, frozen
//! and restarted, and hostile clients all the while.
//!
//! `cargo xtask soak` runs it for an hour; `--minutes`, `--users`, `--seed` and `--folder` change
//! that. Every [`REST`] the users hold still, and then every client's list has to be exactly who is
//! there, one meta each, and every socket has to answer. At the end all have left, and every node
//! must have no presence and no socket of theirs, and the node that was never restarted no more
//! memory than it had early on. The memory of the nodes goes to `soak.csv` and `soak.svg` in the
//! folder.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "soak/backend.rs"]
mod backend;
#[path = "soak/crowd.rs"]
mod crowd;
#[path = "soak/faults.rs"]
mod faults;
#[path = "soak/hostile.rs"]
mod hostile;
#[path = "soak/meter.rs"]
mod meter;
#[path = "cluster/nodes.rs"]
mod nodes;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use oorandom::Rand32;
use tokio::runtime::Builder;
use tokio::time::sleep;

use self::backend::Backend;
use self::crowd::Crowd;
use self::faults::Faults;
use self::hostile::Hostile;
use self::meter::Meter;
use self::nodes::{Engine, Nodes};

/// Between two times of rest, in which all is compared.
const REST: Duration = Duration::from_secs(120);
/// Between two things that a user does.
const PACE: Duration = Duration::from_millis(12);
/// Things that users do between two that the backend does.
const BACKEND_EVERY: usize = 10;
/// How much more memory the node that is never restarted may have in the last quarter of the run
/// than in the second.
const MAX_GROWTH: f64 = 1.15;

struct Options {
    minutes: u64,
    users: usize,
    seed: u64,
    folder: PathBuf,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            minutes: 60,
            users: 240,
            seed: 1,
            folder: PathBuf::from("target"),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} of what?"));
            match word.as_str() {
                "--minutes" => options.minutes = value().parse().unwrap(),
                "--users" => options.users = value().parse().unwrap(),
                "--seed" => options.seed = value().parse().unwrap(),
                "--folder" => options.folder = value().into(),
                "--bench" => {} // Cargo's own.
                other => {
                    panic!("{other} is no option; there are --minutes, --users, --seed, --folder")
                }
            }
        }
        options
    }
}

fn main() {
    let options = Options::read();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(soak(&options));
}

async fn soak(options: &Options) {
    let mut nodes = Nodes::prepare(Engine::Zenoh).await;
    for at in 0..nodes.len() {
        nodes.start(at);
    }
    for at in 0..nodes.len() {
        nodes.is_ready(at).await;
    }
    let meter = Meter::start(&nodes);
    let hostile = Hostile::start(&nodes, options.seed);
    let mut random = Rand32::new(options.seed);
    let mut crowd = Crowd::new(options.users);
    let mut backend = Backend::default();
    let mut faults = Faults::default();
    let began = Instant::now();
    let length = Duration::from_secs(options.minutes * 60);
    let mut rested = began;
    while began.elapsed() < length {
        crowd.do_something(&nodes, &mut random).await;
        if crowd.counts().1.is_multiple_of(BACKEND_EVERY) {
            backend.do_something(&nodes, &mut random).await;
        }
        faults.go_on(&mut nodes, &mut random).await;
        if rested.elapsed() >= REST {
            faults.mend(&mut nodes).await;
            let guests = backend.renew(&nodes, &mut random).await;
            let took = crowd.is_whole(guests).await;
            let (n_users, n_acts, n_evicted) = crowd.counts();
            println!(
                "{:>5} s: {n_users} users and {} guests after {n_acts} acts and {n_evicted} \
                 evictions, every list right after {:.2} s; {}",
                began.elapsed().as_secs(),
                guests.len(),
                took.as_secs_f64(),
                hostile.report()
            );
            rested = Instant::now();
        }
        sleep(PACE).await;
    }
    faults.mend(&mut nodes).await;
    crowd
        .is_whole(backend.renew(&nodes, &mut random).await)
        .await;
    println!(
        "{}; {}; {}",
        faults.report(),
        backend.report(),
        hostile.report()
    );
    hostile.stop().await;
    crowd.leave().await;
    backend.leave(&nodes, &mut random).await;
    nodes.are_empty().await;
    println!("all have left, and no node has a presence or a socket");
    let record = meter.stop().await;
    record.save(&options.folder);
    let growth = record.growth();
    println!(
        "memory of node a, the last quarter over the second: {growth:.3} (at most {MAX_GROWTH})"
    );
    assert!(growth <= MAX_GROWTH, "the memory grows");
}
