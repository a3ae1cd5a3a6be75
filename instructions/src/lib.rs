//! What the instruction counts of herenow's hot paths are taken on: shards that hold rows, frames,
//! rooms that hold presences, sockets that listen, tokens, and whole servers.
//!
//! `benches/counts.rs` measures with them, one call of the hot path at a time, in a machine that
//! valgrind emulates: a busy neighbour changes a time, but no count. `cargo xtask bench
//! instructions` runs it and compares with `baseline.toml`. Everything here happens before or after
//! what is counted.

#![allow(
    missing_debug_implementations,
    reason = "nobody prints what is only counted on"
)]

mod crowd;
mod frames;
mod rooms;
mod shards;
mod sockets;
mod tokens;

pub use crowd::{Crowd, Extras};
pub use frames::{binary_push, payload, push};
pub use rooms::{Room, diff};
pub use shards::{Pair, Rows, extracted, rows};
pub use sockets::Listeners;
pub use tokens::Gate;
