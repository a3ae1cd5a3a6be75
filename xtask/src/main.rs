//! Every chore of this repository, as one command: `cargo xtask <chore>`.
//!
//! One module per chore; what several of them need stands above them.

#![allow(
    clippy::print_stdout,
    reason = "a command-line tool speaks on standard output"
)]

mod shell;
mod sources;
mod tally;
mod tools;

mod conformance;
mod imports;
mod layers;
mod length;
mod logs;

mod bench;
mod ci;
mod e2e;
mod deb;
mod fresh;
mod autobahn;
mod fuzz;
mod sim;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of the herenow repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Installs what is missing, then runs every check and every test: what CI runs.
    Test,
    /// Runs every check that is not a test: format, lints, docs, layers, scenario ids, licences.
    Ci,
    /// Prints every scenario id with its tests; fails on an id without one, or a test without a
    /// row.
    Conformance,
    /// Checks that inside each crate a file imports only from files above it.
    Imports,
    /// Drives the stock JavaScript clients and a browser against a server built here.
    E2e,
    /// Runs many seeds of the simulator, and prints how to repeat the first that fails. With
    /// `--mutants`, shows that bugs put in on purpose are caught; with `--scale`, measures large
    /// clusters.
    Sim {
        /// Passed to the simulator; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Builds the Debian package of the server, into `target/package`.
    Deb(deb::Options),
    /// Builds the server as a program that needs no library of the machine it runs on.
    Static,
    /// Boots a fresh Debian in a container, and installs, uses and purges the package there.
    Fresh(fresh::Options),
    /// Runs a cluster for an hour under churn, faults and hostile clients, and compares all the
    /// while.
    Soak {
        /// `--minutes`, `--users`, `--seed`, `--folder` (for `soak.csv` and `soak.svg`;
        /// `docs/plots`).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Feeds hostile bytes to every decoder, guided by coverage; the tests do it briefly and
    /// blindly.
    Fuzz(fuzz::Options),
    /// Runs the Autobahn suite for WebSockets, where it is installed, against a server built here.
    Autobahn,
    /// Runs the benchmarks of the parts; `bench server` loads the whole, `bench cluster` measures
    /// clusters, `bench instructions` counts the hot paths and compares.
    Bench {
        /// Passed to Criterion, for instance part of a benchmark's name; or `cluster`, and then
        /// `zenoh`, `nats` or `redis` for one engine only; or `server`, and then words of works; or
        /// `instructions`, and then words of names, or `--write`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        criterion: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test => test::run(),
        Chore::Ci => ci::run(),
        Chore::Conformance => conformance::run(),
        Chore::Imports => imports::run(),
        Chore::E2e => e2e::run(),
        Chore::Sim { arguments } => sim::run(&arguments),
        Chore::Deb(options) => deb::run(&options),
        Chore::Static => deb::run_static(),
        Chore::Fresh(options) => fresh::run(&options),
        Chore::Soak { arguments } => soak::run(&arguments),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Autobahn => autobahn::run(),
        Chore::Bench { criterion } => bench::run(&criterion),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Not with its stack: a check that fails is an answer, not a crash.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
