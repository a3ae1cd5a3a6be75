//! [`Overview`]: what the first view of the dashboard shows, as JSON.
//!
//! ```json
//! {
//!   "node": "a", "cluster": {"name": "herenow", "engine": "zenoh", "authenticated": true},
//!   "n_presences": 2, "n_topics": 1, "joins": 0.5, "leaves": 0.0,
//!   "nodes": [{
//!     "node": "a", "self": true, "state": "ready", "since_ms": 1000,
//!     "figures": {…}, "rates": {"messages_in": 1.0, "frames_out": 2.0, "bytes_out": 300.0}
//!   }],
//!   "refused": [{"node": "x", "why": "…"}],
//!   "topics": [["room:1", 2]]
//! }
//! ```
//!
//! `state` is `joining`, `ready` or `draining` as the node says itself; `up` if its first answer is
//! on its way; `silent` if it has not answered for some seconds; `down` if it is not heard of.
//! `figures` and `rates` are null if they are not known.

use serde::Serialize;

use super::figures::{Figures, Rates};

#[derive(Debug, Serialize)]
pub(super) struct Overview<'a> {
    pub(super) node: &'a str,
    pub(super) cluster: Option<ClusterShown<'a>>,
    pub(super) n_presences: u64,
    pub(super) n_topics: u64,
    /// Per second, of all nodes.
    pub(super) joins: Option<f64>,
    pub(super) leaves: Option<f64>,
    pub(super) nodes: Vec<NodeShown<'a>>,
    pub(super) refused: Vec<RefusedShown>,
    /// The largest first.
    pub(super) topics: Vec<(String, usize)>,
}

#[derive(Debug, Serialize)]
pub(super) struct ClusterShown<'a> {
    pub(super) name: &'a str,
    pub(super) engine: &'static str,
    pub(super) authenticated: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeShown<'a> {
    pub(super) node: &'a str,
    #[serde(rename = "self")]
    pub(super) is_self: bool,
    pub(super) state: &'a str,
    /// For how long it has been up or down.
    pub(super) since_ms: u64,
    /// Its presences as this node has them, visible or not.
    pub(super) n_presences: u64,
    pub(super) figures: Option<&'a Figures>,
    pub(super) rates: Option<Rates>,
}

#[derive(Debug, Serialize)]
pub(super) struct RefusedShown {
    pub(super) node: String,
    pub(super) why: String,
}
