//! [`Grace`]: for how long a disconnect that was not a leave is kept from readers; [`End`]: which ends
//! have one.

use std::time::Duration;

use crate::diff::LeaveReason;

/// For how long a disconnect that was not a leave is held back from readers.
///
/// The default is not at all, as in the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grace {
    /// How long. Default 0.
    pub period: Duration,
    /// Whether it also begins when a node falls silent or is found to live anew. If not, only
    /// owners that ended and nodes that said good-bye have it. Default true.
    pub on_node_down: bool,
}

impl Default for Grace {
    fn default() -> Self {
        Self {
            period: Duration::ZERO,
            on_node_down: true,
        }
    }
}

impl Grace {
    /// Returns a grace of this length, for nodes that fall silent, too.
    pub fn of(period: Duration) -> Self {
        Self {
            period,
            ..Self::default()
        }
    }
}

/// Why a presence ends, as far as its grace depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its owner said so, for this reason.
    Told(LeaveReason),
    /// Its node said good-bye.
    Bye,
    /// Its node is silent, or lives anew.
    Lost,
}

impl End {
    pub(crate) fn reason(self) -> LeaveReason {
        match self {
            Self::Told(reason) => reason,
            Self::Bye | Self::Lost => LeaveReason::NodeDown,
        }
    }

    pub(crate) fn has_grace(self, grace: &Grace) -> bool {
        match self {
            Self::Told(LeaveReason::Closed) | Self::Bye => true,
            Self::Told(LeaveReason::NodeDown) | Self::Lost => grace.on_node_down,
            Self::Told(LeaveReason::Left | LeaveReason::Evicted) => false,
        }
    }
}
