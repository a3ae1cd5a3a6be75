//! Tracker and Presence: who is here, grouped, enriched and broadcast.
//!
//! [`Presence`] makes owners present in topics under keys, and tells everyone who listens. A
//! presence is the leave of its [`Owner`] away from ending, whatever happens to the task that holds
//! it.
//!
//! ```
//! use herenow_presence::Presence;
//! use herenow_pubsub::PubSub;
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), herenow_presence::TrackError> {
//! let presence = Presence::new(&PubSub::local());
//! let ada = presence.track_on("room:1", "ada", json!({ "device": "laptop" })).await?;
//! let here = presence.list("room:1").await;
//! assert_eq!(json!(here)["ada"]["metas"][0]["device"], "laptop");
//! drop(ada); // She has left.
//! # Ok(())
//! # }
//! ```
//!
//! The crate `herenow` has this and the channels together; its front page teaches both from the
//! beginning.
//!
//! # Grace
//!
//! `shard.graces` of [`PresenceConfig`] names topics in which a disconnect that was not a leave is
//! held back for a while. If the same key returns in time, to whatever node, its join and the leave
//! of what it replaces are one diff, and nobody was told that it is gone; meanwhile it is listed
//! and counted like everybody else. [`LeaveReason::Closed`] is such a disconnect (an [`Owner`] that
//! is dropped ends with it), [`LeaveReason::NodeDown`] may be one; a [`Here`] that is dropped is a
//! leave, unless [`Here::end_with`] says otherwise. By default there is no grace, as in the
//! reference.
//!
//! ```
//! use std::time::Duration;
//! use herenow_presence::{Grace, PresenceConfig};
//!
//! let mut config = PresenceConfig::default();
//! config.shard.graces = vec![("room:*".to_owned(), Grace::of(Duration::from_secs(10)))];
//! ```
//!
//! # Who owns what
//!
//! ```text
//! caller ── track ──▶ queue ──▶ driver, one per shard: owns the shard, the only writer
//!    ▲                            │  publishes        │ hands over
//!    └───────── answer ───────────┤                   ▼
//!                                 ▼              notifier, one per shard: owns what is not out yet
//! list, count, get ◀────────── views                  │ dispatches      │ hands over
//!                                                     ▼                 ▼
//!                                        subscribers, by PubSub     observer: handle_metas
//! ```
//!
//! Reads look at the published views and nothing else. Every view and every diff carries the
//! version of its shard, so a reader that lists and listens can tell exactly which changes its list
//! has: see [`Presences::version`] and [`PresenceDiff::json_since`].
//!
//! Foreign code (`fetch`, `handle_metas`, update functions, `Serialize`) never runs in a driver or
//! a notifier. When it fails, panics, stalls or blocks, that harms its own call and nothing else.

mod config;
mod metrics;
mod meta;
mod errors;
mod group;
mod modes;
mod diff;
mod places;
mod view;
mod status;
mod queue;
mod owner;
mod fetch;
mod observer;
mod notifier;
mod cluster;
mod driver;
mod tracker;
mod watch;
mod presence;

pub use cluster::shard_format;
pub use config::{BigRoom, ConfigError, PresenceConfig, Window};
pub use diff::{Event, PresenceDiff};
pub use errors::{NameError, TrackError, UpdateError};
pub use fetch::{Fetch, FetchError};
pub use group::{Entry, PresenceMeta, Presences, StateParts};
pub use herenow_core::{
    Grace, Key, LeaveReason, MetaRef, NodeName, ShardConfig, Topic, covers_pattern, first_match,
    is_pattern, matches_pattern,
};
pub use meta::MetaError;
pub use metrics::PresenceStats;
pub use modes::{Mode, ModeNews, PRESENCE_COUNT, PRESENCE_MODE};
pub use observer::HandleMetas;
pub use owner::{Holder, Owner, OwnerAt};
pub use presence::{Here, Page, Presence, PresenceBuilder};
pub use status::{ClusterStatus, NodeStatus, ReplicaStatus, ReplicationStats};
pub use watch::{Watch, WatchEvent};
