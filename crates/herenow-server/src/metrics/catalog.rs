//! Every metric once: its name, what it says, and where it is read.

mod cluster;
mod events;
mod presence;
mod server;
mod sockets;

use herenow_pubsub::HistogramCounts;
use prometheus_client::registry;

use super::snapshot::Snapshot;

/// One metric.
pub(super) struct Metric {
    /// Without the prefix, the unit and `total`.
    pub(super) name: &'static str,
    pub(super) unit: Option<Unit>,
    /// One sentence for people, without a full stop.
    pub(super) help: &'static str,
    pub(super) read: Read,
}

/// What a metric counts, where its name does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Seconds,
}

/// Where a metric's values are.
#[derive(Clone, Copy)]
pub(super) enum Read {
    Counter(fn(&Snapshot) -> u64),
    /// That grows by parts of one.
    Time(fn(&Snapshot) -> f64),
    Gauge(fn(&Snapshot) -> f64),
    /// That there may be none of.
    MaybeGauge(fn(&Snapshot) -> Option<f64>),
    /// With these labels.
    Counters(&'static [&'static str], fn(&Snapshot) -> Labelled<u64>),
    Gauges(&'static [&'static str], fn(&Snapshot) -> Labelled<f64>),
    Histogram(fn(&Snapshot) -> HistogramCounts),
}

/// Values, each with what its labels are.
type Labelled<T> = Vec<(Vec<String>, T)>;

/// All metrics, by what they are about.
pub(super) fn metrics() -> [(&'static str, &'static [Metric]); 5] {
    [
        ("Connections and channels", sockets::METRICS),
        ("Presence", presence::METRICS),
        ("Events", events::METRICS),
        ("Cluster", cluster::METRICS),
        ("Server", server::METRICS),
    ]
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Snapshot) -> u64) -> Metric {
    Metric {
        name,
        unit: None,
        help,
        read: Read::Counter(read),
    }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Snapshot) -> f64) -> Metric {
    Metric {
        name,
        unit: None,
        help,
        read: Read::Gauge(read),
    }
}

const fn maybe_gauge(
    name: &'static str,
    help: &'static str,
    read: fn(&Snapshot) -> Option<f64>,
) -> Metric {
    Metric {
        name,
        unit: None,
        help,
        read: Read::MaybeGauge(read),
    }
}

const fn counters(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    read: fn(&Snapshot) -> Labelled<u64>,
) -> Metric {
    Metric {
        name,
        unit: None,
        help,
        read: Read::Counters(labels, read),
    }
}

const fn gauges(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    read: fn(&Snapshot) -> Labelled<f64>,
) -> Metric {
    Metric {
        name,
        unit: None,
        help,
        read: Read::Gauges(labels, read),
    }
}

/// Durations, in seconds.
const fn histogram(
    name: &'static str,
    help: &'static str,
    read: fn(&Snapshot) -> HistogramCounts,
) -> Metric {
    Metric {
        name,
        unit: Some(Unit::Seconds),
        help,
        read: Read::Histogram(read),
    }
}

impl Metric {
    const fn bytes(mut self) -> Self {
        self.unit = Some(Unit::Bytes);
        self
    }

    const fn seconds(mut self) -> Self {
        self.unit = Some(Unit::Seconds);
        self
    }
}

impl Unit {
    pub(super) fn named(self) -> registry::Unit {
        match self {
            Self::Bytes => registry::Unit::Bytes,
            Self::Seconds => registry::Unit::Seconds,
        }
    }
}

/// Values of one label, by its words.
fn by_word<const N: usize, T>(values: [(&str, T); N]) -> Labelled<T> {
    let labelled = |(word, value): (&str, T)| (vec![word.to_owned()], value);
    values.into_iter().map(labelled).collect()
}
