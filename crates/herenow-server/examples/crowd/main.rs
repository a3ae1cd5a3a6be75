//! Crowds in one process, over in-memory streams: the whole server from the accept on, without
//! descriptors, of which a process has too few for a million people.
//!
//! ```sh
//! cargo build --release -p herenow-server --no-default-features --example crowd
//! target/release/examples/crowd room 100000   # counts and sample, while people come and go
//! target/release/examples/crowd town 1000000  # rooms of 50; heartbeats; people come and go
//! target/release/examples/crowd slow 10000    # a tenth stops reading in a noisy room
//! target/release/examples/crowd storm 50000   # everybody comes back after a crash, with tokens
//! target/release/examples/crowd tcp 9500      # the same over TCP: both ends are of this process
//! target/release/examples/crowd rush 2000     # everybody joins one room at once, over TCP
//! target/release/examples/crowd pace 1000     # 30 words a second to a room, beside bare writes
//! target/release/examples/crowd cost 1000 100 # what tokens and limits cost of that
//! ```
//!
//! A third argument is for how many seconds, or how many turns. Whatever it prints has been
//! checked: it panics if a list is not exactly who is there, or an answer does not come. Clients
//! are read and written by the main thread; CPU time of the server is that of its one thread.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

mod wire;
mod line;
mod client;
mod meter;
mod server;
mod follower;

mod bare;
mod cost;
mod pace;
mod room;
mod rush;
mod slow;
mod storm;
mod town;

use self::storm::Kind;

/// Measures one of the crowds, of `n` people, for so many seconds; without them, of its own size.
pub(crate) fn run(mode: &str, n: Option<usize>, seconds: Option<u32>) -> anyhow::Result<()> {
    println!("load of the machine before: {}", meter::load());
    match mode {
        "cost" => cost::run(n.unwrap_or(1_000), seconds.unwrap_or(20)),
        "pace" => pace::run(n.unwrap_or(1_000), seconds.unwrap_or(30)),
        "room" => room::run(n.unwrap_or(100_000), seconds.unwrap_or(30)),
        "town" => town::run(n.unwrap_or(1_000_000), seconds.unwrap_or(60)),
        "rush" => rush::run(n.unwrap_or(2_000)),
        "slow" => slow::run(n.unwrap_or(10_000), seconds.unwrap_or(20)),
        "storm" => storm::run(n.unwrap_or(50_000), Kind::Memory),
        "tcp" => storm::run(n.unwrap_or(9_500), Kind::Tcp),
        _ => anyhow::bail!("crowd cost|pace|room|rush|town|slow|storm|tcp [people] [seconds]"),
    }?;
    println!("load of the machine after: {}", meter::load());
    Ok(())
}

#[allow(dead_code, reason = "the test that includes this calls run")]
fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let n = arguments.next().map(|n| n.parse()).transpose()?;
    let seconds = arguments.next().map(|n| n.parse()).transpose()?;
    run(&mode, n, seconds)
}
