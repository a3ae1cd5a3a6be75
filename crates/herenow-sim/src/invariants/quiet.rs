//! When nobody does anything, heartbeats are all that is sent; and who is gone for good is
//! forgotten.
//!
//! Why: every restart of a peer used to cost requests until the old life was given up, and a little
//! of every list for ever. Source: `phoenix_pubsub` issues 135 (traffic for twenty minutes after
//! each restart) and 179 (a list of dead replicas that only grows).

use std::collections::BTreeSet;

use super::Violation;
use crate::cluster::{Cluster, Traffic};

/// Checks a permdown period of quiet, all links open, that began with this traffic.
pub(super) fn check(cluster: &Cluster, before: Traffic) -> Result<(), Violation> {
    let n_messages = cluster.traffic().n_messages - before.n_messages;
    if n_messages > 0 {
        let what = format!("{n_messages} messages were sent though nobody did anything");
        return Err(Violation::new("quiet", what));
    }
    let running: BTreeSet<_> = cluster.running().map(|(at, _)| cluster.name(at)).collect();
    for (at, node) in cluster.running() {
        let peers = node.shard().peers();
        if let Some(gone) = peers
            .map(|peer| peer.node)
            .find(|peer| !running.contains(peer))
        {
            let name = cluster.name(at);
            let what = format!("{name} still knows {gone}, which is gone for good");
            return Err(Violation::new("quiet", what));
        }
    }
    Ok(())
}
