//! What a shard remembers is bounded.
//!
//! Why: a node lives for months while others come and go.
//! Source: `herenow_core::ShardConfig`'s limits; `phoenix_pubsub` issue 179 (a list of dead replicas
//! that only grows).

use super::{View, Violation};

pub(super) fn check(view: View<'_>) -> Result<(), Violation> {
    let (config, shard) = (view.cluster.config(), view.node.shard());
    let n_peers = shard.peers().count();
    if n_peers > config.max_peers {
        let what = format!(
            "{n_peers} peers are known, the limit is {}",
            config.max_peers
        );
        return Err(Violation::new("memory", what));
    }
    Ok(())
}
