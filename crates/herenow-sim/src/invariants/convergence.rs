//! Once it is calm, a node shows exactly the living owners of the nodes it can talk with.
//!
//! Of a node that it hears and talks to: all owners there, with what they last wrote. Of one that
//! it cannot hear: nobody. Of one that it hears and cannot ask: whatever is true of its table. Of
//! lives that are over: nobody. A paused node has gone on by then.
//!
//! Why: it is what the cluster is for. Source: README; `phoenix_pubsub` issues 214 (two nodes
//! disagree for ever) and 55 and 80 (a split that does not heal).

use std::collections::BTreeMap;

use herenow_core::{Incarnation, NodeName, PeerStatus, Version};

use super::{View, Violation};
use crate::network::NodeIndex;

/// The versions shown of each life.
type Shown = BTreeMap<(NodeName, Incarnation), Vec<Version>>;

pub(super) fn check(view: View<'_>) -> Result<(), Violation> {
    let mut shown = shown(view);
    for (other, node) in view.cluster.running() {
        let id = node.shard().id();
        let life = (id.node.clone(), id.incarnation);
        let mut held = shown.remove(&life).unwrap_or_default();
        held.sort_unstable();
        let alive = view.oracle.life(&life.0, life.1).map(|life| life.alive());
        let alive = alive.unwrap_or_default();
        let (hears, is_heard) = links(view, other);
        if hears && is_heard && held != alive {
            let what = format!("{} has {alive:?}, shown are {held:?}", life.0);
            return Err(Violation::new("convergence", what));
        }
        if !hears && !held.is_empty() {
            let what = format!("{} cannot be heard, shown are {held:?}", life.0);
            return Err(Violation::new("convergence", what));
        }
        if hears && is_heard && other != view.index {
            check_up(view, &life.0, life.1)?;
        }
    }
    match shown.into_iter().next() {
        Some(((node, life), held)) => {
            let what = format!("life {life} of {node} is over, shown are {held:?}");
            Err(Violation::new("convergence", what))
        }
        None => Ok(()),
    }
}

/// Returns whether a node hears another, and whether the other hears it.
fn links(view: View<'_>, other: NodeIndex) -> (bool, bool) {
    let cluster = view.cluster;
    let is_self = other == view.index;
    let hears = is_self || cluster.is_open(other, view.index);
    let is_heard = is_self || cluster.is_open(view.index, other);
    (hears, is_heard)
}

fn shown(view: View<'_>) -> Shown {
    let shard = view.node.shard();
    let mut shown = Shown::new();
    for (topic, _) in shard.topics() {
        for row in shard.rows_of_topic(topic) {
            let id = row.replica();
            let life = (id.node.clone(), id.incarnation);
            shown.entry(life).or_default().push(row.version());
        }
    }
    shown
}

/// Also who has no presences must be known, or the next one would be late.
fn check_up(view: View<'_>, node: &NodeName, incarnation: Incarnation) -> Result<(), Violation> {
    let mut peers = view.node.shard().peers();
    let peer = peers.find(|peer| peer.node == *node);
    let is_up = peer
        .as_ref()
        .is_some_and(|peer| peer.incarnation == incarnation && peer.status == PeerStatus::Up);
    if is_up {
        return Ok(());
    }
    let what = format!("{node} can be heard, and is not up: {peer:?}");
    Err(Violation::new("convergence", what))
}
