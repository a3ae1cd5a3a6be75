//! No message is larger than the settings allow: `max_delta_bytes`, and one row that may exceed it.
//!
//! Why: a broker refuses what is over its own limit (NATS: 1 MiB), and a message that is refused is
//! refused again each time it is asked for. Source: `max_delta_bytes` of
//! `herenow_core::ShardConfig`.

use super::{View, Violation};
use crate::cluster::NodeStep;
use crate::network::Frame;

/// The largest row that a plan writes, and what stands around the lists of a delta.
const SLACK_BYTES: usize = 640;

pub(super) fn check(view: View<'_>, step: &NodeStep) -> Result<(), Violation> {
    let limit = view.cluster.config().max_delta_bytes + SLACK_BYTES;
    let sizes = step.outgoing.iter().map(|(_, frame)| match frame {
        Frame::Shard(bytes) => bytes.len(),
        Frame::Heartbeat(_) | Frame::Gone(_) => 0,
    });
    match sizes.max().filter(|n_bytes| *n_bytes > limit) {
        Some(n_bytes) => {
            let what = format!("a message is {n_bytes} bytes, the limit is {limit}");
            Err(Violation::new("size", what))
        }
        None => Ok(()),
    }
}
