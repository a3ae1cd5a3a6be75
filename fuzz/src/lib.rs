//! Hostile bytes for every decoder of herenow, and what must hold whatever they are.
//!
//! A [`Target`] is a function from bytes to nothing: it hands them to a decoder, or to the live
//! thing behind one, and panics if a promise is broken. [`Target::check`] adds what holds for all:
//! memory is bounded by the length of the input, and so is time.
//!
//! Two engines feed the targets. [`brief`] replays what is kept and mutates it blindly, in any
//! build; the test command runs it. libFuzzer, guided by coverage, is for long runs and for finding
//! what is worth keeping; `cargo xtask fuzz` builds it. `fuzz/README.md` says why these two.

mod memory;
mod reader;
mod carrier;
mod mutate;
mod target;
mod targets;
pub mod brief;

pub use target::{Finding, Target};
pub use targets::{target, targets};
