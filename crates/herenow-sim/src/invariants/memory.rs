//! What a shard remembers is bounded.
//!
//! Why: a node lives for months while others come and go. Source: `herenow_core::ShardConfig`'s
//! limits; `phoenix_pubsub` issue 179 (a list of dead replicas that only grows).

use super::{View, Violation};

/// Nodes with buried lives that are remembered, for each peer that may be known.
const BURIALS_PER_PEER: usize = 4;

pub(super) fn check(view: View<'_>) -> Result<(), Violation> {
    let (config, shard) = (view.cluster.config(), view.node.shard());
    let memory = shard.memory();
    let n_peers = shard.peers().count();
    let bounds = [
        ("peers", n_peers, config.max_peers),
        ("removals", memory.n_removals, config.max_history),
        (
            "burials",
            memory.n_burials,
            config.max_peers * BURIALS_PER_PEER,
        ),
        ("waiting requests", memory.n_waiting, config.max_peers),
        ("held rows", memory.n_held, config.max_held),
    ];
    match bounds.into_iter().find(|(_, n, limit)| n > limit) {
        Some((what, n, limit)) => {
            let what = format!("{n} {what} are remembered, the limit is {limit}");
            Err(Violation::new("memory", what))
        }
        None => Ok(()),
    }
}
