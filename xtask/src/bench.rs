//! `cargo xtask bench`: the benchmarks of the parts, and how to measure the whole.
//!
//! `cargo xtask bench server` loads the released server, and `cargo xtask bench cluster` measures
//! clusters; each makes one table of it. `cargo xtask bench instructions` counts instead of timing.

mod cluster;
mod instructions;

use anyhow::Result;

use crate::shell;

/// Builds the server as it is released, runs the Criterion benchmarks, and says how to load it.
pub(crate) fn run(criterion: &[String]) -> Result<()> {
    match criterion {
        [first, rest @ ..] if first == "cluster" => return cluster::run(rest),
        [first, rest @ ..] if first == "server" => return server(rest),
        [first, rest @ ..] if first == "instructions" => return instructions::run(rest),
        _ => {}
    }
    shell::run(&mut shell::cargo(&[
        "build",
        "--locked",
        "--release",
        "--package",
        "herenow-server",
    ]))?;
    let mut command = shell::cargo(&["bench", "--locked", "--workspace", "--benches"]);
    command.args(["--exclude", "instructions"]);
    if !criterion.is_empty() {
        command.arg("--").args(criterion);
    }
    shell::run(&mut command)?;
    println!("{LOAD}");
    Ok(())
}

/// Loads the server as it is released, on all works or those that are named.
fn server(works: &[String]) -> Result<()> {
    let bench = ["bench", "--locked", "--profile", "release", "--package"];
    let mut command = shell::cargo(&bench);
    command.args(["herenow-server", "--bench", "load", "--"]);
    shell::run(command.args(works))
}

const LOAD: &str = "
The server as a whole: `cargo xtask bench server`. Or from outside, by any load generator that speaks
Phoenix channels:

    cargo run --release --package herenow-server -- serve --listen 127.0.0.1:4000

    socket     ws://127.0.0.1:4000/socket/websocket?vsn=2.0.0
    room:*     tracks the user of the join ({\"user_id\": \"42\"}), pushes presence_state and presence_diff
    bench:*    broadcasts every event to the topic and tracks nobody

Pin the server to one core and the generator to another (`taskset`), check that every message
arrived, and quote CPU seconds before wall time. BENCHMARKS.md has our figures and how they were
taken.";
