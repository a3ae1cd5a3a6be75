//! Two nodes in one process with hundreds of thousands of rows: what is sent when a partition
//! heals, and how long anybody waits while a replica goes down, returns or is forgotten.
//!
//! `cargo bench -p herenow-presence --bench cluster`, with `-- delta`, `waits` or `heal` for a part
//! of it and `--partition 60` for a cut of that many seconds instead of 8; `cargo xtask bench
//! cluster` runs it with the figures of real processes and makes a table of both. Each figure is a
//! line that begins with `figure:` and has, between bars, what was done, what was measured, and
//! whether that is enough.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "cluster/carrier.rs"]
mod carrier;
#[path = "cluster/delta.rs"]
mod delta;
#[path = "cluster/heal.rs"]
mod heal;
#[path = "cluster/town.rs"]
mod town;
#[path = "cluster/waits.rs"]
mod waits;

use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut partition = arguments.iter().skip_while(|word| *word != "--partition");
    let partition = partition.nth(1).and_then(|seconds| seconds.parse().ok());
    let is_chosen = |part: &str| {
        let mut parts = ["delta", "waits", "heal"].iter();
        let is_any = parts.any(|part| arguments.iter().any(|word| word == part));
        !is_any || arguments.iter().any(|word| word == part)
    };
    if is_chosen("delta") {
        delta::run();
    }
    if is_chosen("waits") {
        waits::run(1);
        waits::run(64);
    }
    if is_chosen("heal") {
        heal::run(Duration::from_secs(partition.unwrap_or(8)));
    }
}

/// Prints one figure: what was done, what Phoenix does, the target, what came of it.
fn figure(what: &str, phoenix: &str, target: &str, measured: &str, is_enough: bool) {
    let verdict = if is_enough { "pass" } else { "miss" };
    println!("figure: {what} | {phoenix} | {target} | in process | {measured} | {verdict}");
}
