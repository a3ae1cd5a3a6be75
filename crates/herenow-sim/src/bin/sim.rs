//! Runs many seeds on all cores; prints what they met, or the first that failed and how to repeat
//! it.

#![allow(
    clippy::print_stdout,
    reason = "a command-line tool speaks on standard output"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use herenow_sim::{Coverage, Plan, run};

/// Runs seeds of the simulator.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Nodes at the beginning of each run; without it each seed says.
    #[arg(long)]
    nodes: Option<usize>,
    /// Threads; all cores without it.
    #[arg(long)]
    threads: Option<usize>,
    /// Goes on after a failure and lists them all.
    #[arg(long)]
    all: bool,
    /// Prints the plan of the first seed before it runs.
    #[arg(long)]
    plan: bool,
}

/// What all threads add to.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    failed: AtomicBool,
    sum: Mutex<Sum>,
}

#[derive(Default)]
struct Sum {
    n_seeds: u64,
    length: Duration,
    coverage: Coverage,
    trace: u64,
    failures: Vec<(u64, String)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.plan {
        println!("{:#?}", Plan::of_seed(arguments.seed, arguments.nodes));
    }
    let start = Instant::now();
    let shared = Shared::default();
    let n_cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..arguments.threads.unwrap_or(n_cores).max(1) {
            scope.spawn(|| work(&arguments, &shared));
        }
    });
    let sum = shared.sum.into_inner();
    let mut sum = sum.expect("a thread that panics while it adds up ends the program");
    println!(
        "{} seeds, {:.0} s of virtual time in {:.1} s, trace {:016x}\n{:?}",
        sum.n_seeds,
        sum.length.as_secs_f64(),
        start.elapsed().as_secs_f64(),
        sum.trace,
        sum.coverage
    );
    sum.failures.sort();
    for (seed, failure) in &sum.failures {
        let nodes = arguments.nodes.map(|n| format!(" --nodes {n}"));
        println!("\nseed {seed} failed: {failure}");
        println!(
            "cargo xtask sim --seed {seed} --seeds 1{}",
            nodes.unwrap_or_default()
        );
    }
    if sum.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn work(arguments: &Arguments, shared: &Shared) {
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let is_over = shared.failed.load(Ordering::Relaxed) && !arguments.all;
        if number >= arguments.seeds || is_over {
            return;
        }
        let seed = arguments.seed + number;
        // A panic of a shard is a failure of the seed like any other.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, arguments.nodes)));
        let mut sum = shared.sum.lock().expect("nobody panics while it adds up");
        sum.n_seeds += 1;
        match outcome {
            Ok(Ok(report)) => {
                sum.length += report.length;
                sum.coverage += report.coverage;
                sum.trace ^= report
                    .trace
                    .rotate_left(u32::try_from(seed % 64).unwrap_or(0));
                continue;
            }
            Ok(Err(failure)) => sum.failures.push((seed, failure.to_string())),
            Err(_) => sum
                .failures
                .push((seed, "it panicked, see above".to_owned())),
        }
        shared.failed.store(true, Ordering::Relaxed);
    }
}
