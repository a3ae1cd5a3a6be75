//! Scenarios of areas P and T, and what is ours, through the public API only.
//!
//! Time is paused where time matters; nothing sleeps, all waits have a deadline.
#![allow(clippy::unwrap_used)]

mod support;
mod presence;
mod tracker;
mod fetch;
mod grace;
mod observe;
mod coalesce;
mod endings;
mod cluster;
mod places;
mod parts;
