//! Single-writer presence tables and the shard protocol, without IO.
//!
//! A *presence* is one (topic, owner, key) with a meta. Every presence is written by one node only,
//! the one its owner lives on. A [`Shard`] is one node's part of a fixed partition of all topics:
//! it holds the node's own rows, a copy of each peer's, and speaks with its counterparts.
//!
//! # The run loop
//!
//! A shard has no clock, no network and no randomness. Its host, whoever drives it, does this:
//!
//! 1. feed in what happened, by the `handle_*` methods, each with the time `now`;
//! 2. drain what follows from it: call [`Shard::poll_output`] until it is `None`, and perform each
//!    [`Output`];
//! 3. wait for the next thing to happen, at most until [`Shard::poll_timeout`], and then call
//!    [`Shard::handle_timeout`]; while [`Shard::is_sweeping`], do not wait for long, and call
//!    [`Shard::handle_sweep`].
//!
//! Everything that is fed in between two drains becomes one [`Diff`] and one delta. The same
//! configuration and calls give the same outputs, byte for byte. A `now` that runs backwards is
//! taken for the latest time seen; draining late is slow but never wrong; and nothing that a peer
//! sends can panic or grow memory beyond a limit in [`ShardConfig`].
//!
//! # Examples
//!
//! ```
//! use herenow_core::*;
//!
//! let id = ReplicaId {
//!     node: NodeName::new("a")?,
//!     incarnation: Incarnation(1),
//!     shard: ShardIndex(0),
//! };
//! let now = MonoTime::default();
//! let mut shard = Shard::new(&ShardConfig::default(), id, now)?;
//! let (topic, key) = (Topic::new("room:1")?, Key::new("ada")?);
//! let meta = Meta::new(r#"{"status":"online"}"#)?;
//! let row = shard.handle_track(now, OwnerId(7), topic.clone(), key, meta)?;
//! assert_eq!(shard.count(&topic), 1);
//! let Some(Output::Diff(diff)) = shard.poll_output() else { panic!("a join is a diff") };
//! assert!(matches!(&diff.changes[..], [Change::Joined(joined)] if joined.meta_ref() == row.meta_ref()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(clippy::wildcard_enum_match_arm)]

mod ids;
mod pattern;
mod time;
mod row;
mod diff;
mod delta;
mod history;
mod index;
mod grace;
mod readers;
mod table;
mod liveness;
mod message;
mod codec;
mod config;
mod shard;
mod check;

pub use check::{Violation, check};
pub use codec::{DecodeError, MAX_MESSAGE_BYTES};
pub use config::{ConfigError, ShardConfig};
pub use delta::{Delta, Pruning};
pub use diff::{Change, Diff, LeaveReason};
pub use grace::Grace;
pub use ids::{
    IdError, Incarnation, Key, MAX_KEY_BYTES, MAX_NODE_NAME_BYTES, MAX_TOPIC_BYTES, MetaRef,
    NodeName, OwnerId, ReplicaId, ShardIndex, Topic,
};
pub use liveness::PeerStatus;
pub use message::{NodeHeartbeat, ShardMessage};
pub use pattern::{covers_pattern, first_match, is_pattern, matches_pattern};
pub use row::{MAX_META_BYTES, Meta, Row, Version};
pub use shard::{
    Output, PeerEvent, PeerView, Shard, ShardMemory, ShardStats, TrackError, UpdateError,
};
pub use time::MonoTime;
