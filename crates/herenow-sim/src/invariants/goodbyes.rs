//! A life that said good-bye is over: it is never known again.
//!
//! Messages of it that were delayed in the network come later. Of one name only the latest few
//! good-byes are held against the shard, since its memory of them is bounded.
//!
//! Why: a presence that comes back after its node left is a ghost that nobody will ever end.
//! Source: `ShardMessage::Bye`; `Phoenix.Tracker.graceful_permdown/1`, which other nodes undo when
//! a late heartbeat arrives.

use std::collections::{BTreeMap, VecDeque};

use herenow_core::{Incarnation, NodeName};

use super::{View, Violation};
use crate::cluster::NodeStep;
use crate::network::NodeIndex;

/// Good-byes of one name that are held against a shard.
const REMEMBERED: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Goodbyes {
    said: BTreeMap<(NodeIndex, NodeName), VecDeque<Incarnation>>,
}

impl Goodbyes {
    pub(super) fn begin(&mut self, index: NodeIndex) {
        self.said.retain(|(at, _), _| *at != index);
    }

    pub(super) fn check(&mut self, view: View<'_>, step: &NodeStep) -> Result<(), Violation> {
        for (node, life) in &step.goodbyes {
            let said = self.said.entry((view.index, node.clone())).or_default();
            if !said.contains(life) {
                said.push_back(*life);
            }
            if said.len() > REMEMBERED {
                said.pop_front();
            }
        }
        for peer in view.node.shard().peers() {
            let said = self.said.get(&(view.index, peer.node.clone()));
            if said.is_some_and(|lives| lives.contains(&peer.incarnation)) {
                let what = format!("{} is known in a life that said good-bye", peer.node);
                return Err(Violation::new("goodbyes", what));
            }
        }
        Ok(())
    }
}
