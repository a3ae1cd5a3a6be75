//! [`Figures`]: what a node says of itself to the dashboards of all nodes, once a second while one
//! is open somewhere.

use std::time::Duration;

use herenow_presence::ClusterStatus;
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::logging::{Warning, Warnings};
use crate::outage::Outage;

/// Kinds of warnings that a node tells of, and how old their last line may be.
const MAX_WARNINGS: usize = 12;
const WARNED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Counters since the node's start, and what it holds now. A field that a node of another version
/// does not send is zero or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    pub(super) version: String,
    /// `joining`, `ready` or `draining`.
    pub(super) state: String,
    pub(super) uptime_ms: u64,
    pub(super) n_sockets: u64,
    pub(super) n_channels: u64,
    /// Presences of its own sockets and leases.
    pub(super) n_presences: u64,
    pub(super) n_messages_in: u64,
    pub(super) n_frames_out: u64,
    pub(super) n_bytes_out: u64,
    /// Writes of other nodes that it knows of and does not have yet.
    pub(super) n_lag: u64,
    pub(super) n_peers_up: u64,
    pub(super) n_peers_down: u64,
    pub(super) warnings: Vec<Warning>,
    /// What the node does without at the moment.
    pub(super) outages: Vec<Outage>,
}

impl Figures {
    /// Reads the counters of this node; `status` is what it knows of its cluster.
    pub(super) fn of(api: &Api, status: &ClusterStatus) -> Self {
        let metrics = api.sockets.metrics();
        let own = status.nodes.iter().find(|node| node.is_self);
        let peers = || status.nodes.iter().filter(|node| !node.is_self);
        let n_peers_up = peers().filter(|node| node.is_up).count() as u64;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: api.ready.as_str().to_owned(),
            uptime_ms: u64::try_from(api.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            n_sockets: metrics.connections.value(),
            n_channels: metrics.channels.value(),
            n_presences: own.map_or(0, |node| node.n_rows),
            n_messages_in: metrics.messages_in.value(),
            n_frames_out: metrics.frames_out.value(),
            n_bytes_out: metrics.bytes_out.value(),
            n_lag: peers().filter(|node| node.is_up).map(|node| node.lag).sum(),
            n_peers_up,
            n_peers_down: peers().count() as u64 - n_peers_up,
            warnings: Warnings::of_process().latest(MAX_WARNINGS, WARNED_WITHIN),
            outages: api.outages(),
        }
    }
}

/// What happens per second, between two answers of a node.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Rates {
    pub(super) messages_in: f64,
    pub(super) frames_out: f64,
    pub(super) bytes_out: f64,
}

impl Rates {
    /// `None` if the two are of different lives, or of one moment.
    pub(super) fn between(before: &Figures, after: &Figures) -> Option<Self> {
        let elapsed_ms = after.uptime_ms.checked_sub(before.uptime_ms)?;
        let per_second = |before, after| rate(before, after, Duration::from_millis(elapsed_ms));
        Some(Self {
            messages_in: per_second(before.n_messages_in, after.n_messages_in)?,
            frames_out: per_second(before.n_frames_out, after.n_frames_out)?,
            bytes_out: per_second(before.n_bytes_out, after.n_bytes_out)?,
        })
    }
}

/// By how much a counter grew per second, to a tenth.
pub(super) fn rate(before: u64, after: u64, elapsed: Duration) -> Option<f64> {
    if elapsed.is_zero() {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "what a counter grows by in a second is small"
    )]
    let grown = after.checked_sub(before)? as f64;
    Some((grown / elapsed.as_secs_f64() * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uptime_ms: u64, n: u64) -> Figures {
        Figures {
            uptime_ms,
            n_messages_in: n,
            n_frames_out: 10 * n,
            n_bytes_out: 100 * n,
            ..Figures::default()
        }
    }

    #[test]
    fn srv_782_rates_are_of_two_answers_of_one_life() {
        let rates = Rates::between(&at(1_000, 5), &at(3_000, 8)).unwrap();
        assert_eq!(
            (rates.messages_in, rates.frames_out, rates.bytes_out),
            (1.5, 15.0, 150.0)
        );
        assert_eq!(
            Rates::between(&at(3_000, 8), &at(500, 1)),
            None,
            "a restart"
        );
        assert_eq!(Rates::between(&at(3_000, 8), &at(3_000, 8)), None);
        let of_another_version: Figures = serde_json::from_str(r#"{"new": 1}"#).unwrap();
        assert_eq!(of_another_version, Figures::default());
    }
}
