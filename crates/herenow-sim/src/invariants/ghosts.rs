//! Nobody is shown whose node has not been heard for the down period.
//!
//! Measured on the reader's own clock, from the last message of that life that it took in, with the
//! time between two looks added. A reader that was stopped itself may take two heartbeats longer:
//! what the others said meanwhile waits in its inbox.
//!
//! Why: "who is here, right now" is the whole promise; a crashed node's people must go.
//! Source: `Phoenix.Tracker.Shard` (`down_period`), `herenow_core::ShardConfig::down_period`.

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_core::{Incarnation, MonoTime, NodeName, PeerStatus};

use super::{View, Violation};
use crate::cluster::NodeStep;
use crate::network::NodeIndex;

/// How much later than due a step may come, since a node does not wake at once.
const WAKING: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Ears {
    heard: BTreeMap<(NodeName, Incarnation), MonoTime>,
    last_step: Option<MonoTime>,
    /// When it went on after it had been stopped.
    went_on: MonoTime,
}

#[derive(Debug, Default)]
pub(super) struct Ghosts {
    ears: BTreeMap<NodeIndex, Ears>,
}

impl Ghosts {
    pub(super) fn begin(&mut self, index: NodeIndex) {
        self.ears.remove(&index);
    }

    pub(super) fn check(&mut self, view: View<'_>, step: &NodeStep) -> Result<(), Violation> {
        let config = view.cluster.config();
        let now = view.node.time();
        let ears = self.ears.entry(view.index).or_default();
        let last_step = ears.last_step.replace(now).unwrap_or(now);
        if now.duration_since(last_step) > config.heartbeat_period {
            ears.went_on = now;
        }
        for life in &step.heard {
            ears.heard.insert(life.clone(), now);
        }
        let between_looks = config.request_timeout.min(config.heartbeat_period) + WAKING;
        for peer in view.node.shard().peers() {
            if peer.status == PeerStatus::Down || peer.n_rows == 0 {
                continue;
            }
            let life = (peer.node.clone(), peer.incarnation);
            let heard = ears.heard.get(&life).copied().unwrap_or_default();
            let until_down = heard + config.down_period;
            let at_the_latest = until_down.max(ears.went_on + config.heartbeat_period * 2);
            if now > at_the_latest + between_looks {
                let (n_rows, silent) = (peer.n_rows, now.duration_since(heard));
                let what = format!(
                    "{n_rows} rows of {} are shown, silent for {silent:?}",
                    life.0
                );
                return Err(Violation::new("ghosts", what));
            }
        }
        Ok(())
    }
}
