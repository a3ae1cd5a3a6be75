//! [`Network`]: a discrete-event network that loses, doubles, delays, reorders and is cut.
//!
//! Every frame takes its own time, so later ones overtake earlier ones. A link is one direction
//! between two nodes; what is already under way when it is cut still arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use herenow_core::NodeName;

use crate::random::Random;

/// A node of a cluster, by its place; a node that is restarted under its name keeps its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub usize);

/// How bad the network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weather {
    /// The least and the greatest time that a frame usually takes.
    pub latency: (Duration, Duration),
    /// How many frames of a thousand are lost.
    pub lost: u64,
    /// How many of a thousand arrive twice.
    pub doubled: u64,
    /// How many of a thousand are late.
    pub late: u64,
    /// How late they are, at most.
    pub lateness: Duration,
}

impl Weather {
    /// A network as it should be: a millisecond or less, nothing lost.
    pub fn clear() -> Self {
        Self {
            latency: (Duration::from_micros(100), Duration::from_millis(1)),
            lost: 0,
            doubled: 0,
            late: 0,
            lateness: Duration::ZERO,
        }
    }

    /// Slow, and so lossy and disorderly that readers are always behind.
    pub(crate) fn of_long_answers() -> Self {
        Self {
            latency: (Duration::from_millis(1), Duration::from_millis(200)),
            lost: 300,
            doubled: 100,
            late: 300,
            lateness: Duration::from_millis(300),
        }
    }

    pub(crate) fn random(random: &mut Random) -> Self {
        let slowest = random.pick(&[1, 5, 50, 200]);
        Self {
            latency: (Duration::from_micros(100), Duration::from_millis(slowest)),
            lost: random.pick(&[0, 0, 20, 100, 300, 600]),
            doubled: random.pick(&[0, 0, 50, 300]),
            late: random.pick(&[0, 50, 200, 500]),
            lateness: Duration::from_millis(random.pick(&[30, 300, 4_000])),
        }
    }
}

/// What is carried.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    /// An encoded message of a shard.
    Shard(Arc<[u8]>),
    /// An encoded heartbeat of a node.
    Heartbeat(Arc<[u8]>),
    /// The engine's own word that a node is gone.
    Gone(NodeName),
}

/// A frame under way.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) from: NodeIndex,
    pub(crate) to: NodeIndex,
    pub(crate) frame: Frame,
}

/// All that is under way.
#[derive(Debug)]
pub(crate) struct Network {
    random: Random,
    weather: Weather,
    cut: BTreeSet<(NodeIndex, NodeIndex)>,
    /// By the time of arrival, then by the order of sending.
    under_way: BTreeMap<(Duration, u64), Parcel>,
    n_sent: u64,
}

impl Network {
    pub(crate) fn new(random: Random, weather: Weather) -> Self {
        Self {
            random,
            weather,
            cut: BTreeSet::new(),
            under_way: BTreeMap::new(),
            n_sent: 0,
        }
    }

    /// Returns the weather there was.
    pub(crate) fn set_weather(&mut self, weather: Weather) -> Weather {
        std::mem::replace(&mut self.weather, weather)
    }

    pub(crate) fn cut(&mut self, from: NodeIndex, to: NodeIndex) {
        self.cut.insert((from, to));
    }

    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn is_open(&self, from: NodeIndex, to: NodeIndex) -> bool {
        !self.cut.contains(&(from, to))
    }

    pub(crate) fn send(&mut self, now: Duration, parcel: Parcel) {
        if !self.is_open(parcel.from, parcel.to) || self.random.per_mille(self.weather.lost) {
            return;
        }
        if self.random.per_mille(self.weather.doubled) {
            self.carry(now, parcel.clone());
        }
        self.carry(now, parcel);
    }

    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    /// Takes what arrives first.
    pub(crate) fn take(&mut self) -> Option<Parcel> {
        self.under_way.pop_first().map(|(_, parcel)| parcel)
    }

    fn carry(&mut self, now: Duration, parcel: Parcel) {
        let (least, most) = self.weather.latency;
        let nanos = self.random.between(as_nanos(least), as_nanos(most));
        let mut at = now + Duration::from_nanos(nanos);
        if self.random.per_mille(self.weather.late) {
            at += Duration::from_nanos(self.random.between(0, as_nanos(self.weather.lateness)));
        }
        self.n_sent += 1;
        self.under_way.insert((at, self.n_sent), parcel);
    }
}

fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 1)
}
