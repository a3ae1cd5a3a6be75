//! The shards of `herenow-core`, unchanged, on a virtual network and a virtual clock.
//!
//! A seed decides everything: how many nodes there are and how they are set up, who joins, changes
//! and leaves when, what the network loses, doubles, delays and reorders, which links are cut, who
//! is paused, crashes, comes back, says good-bye, or has its clock set. After every step of a node
//! its [invariants](Violation) are checked against the [`Oracle`], which knows who really lives; at
//! times the weather clears, and then every node must show exactly the living owners it can reach.
//!
//! The same seed gives the same run, down to the [trace](Report::trace). [`run`] does one seed;
//! the program `sim` does many:
//!
//! ```text
//! cargo xtask sim --seeds 10000            as many seeds, from 0
//! cargo xtask sim --seed 4711 --seeds 1    that one again
//! ```
//!
//! A scenario that is worth a name drives a [`Simulation`] by hand; every invariant is checked
//! there too. This crate is never published, and never more than a development dependency.

mod random;
mod network;
mod cluster;
mod schedule;
mod oracle;
mod invariants;
mod simulation;
mod scale;

pub use cluster::{Cluster, Node, Outcome, Traffic, Write};
pub use invariants::Violation;
pub use network::{NodeIndex, Weather};
pub use oracle::{Life, ModelRow, Oracle};
pub use scale::{Measured, Model, Setup, measure};
pub use schedule::{Act, Plan, Step};
pub use simulation::{Coverage, Failure, Report, Simulation, run, run_plan};
