//! [`Setup`] and [`Model`]: what is run, and what is assumed of machines and network; [`Measured`]:
//! what came out.

use std::time::Duration;

/// A cluster, and who is in it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Nodes, at least two.
    pub n_nodes: usize,
    /// Presences of all nodes together.
    pub n_presences: usize,
    /// The shards that topics are spread over; the server's default is 64.
    pub n_shards: u16,
    /// How many shards a node carries, by chance; all of them is what herenow does.
    pub n_carried: u16,
    /// Removals that an owner remembers, for each shard; the server's default is 65,536.
    pub max_history: usize,
    /// Joins and leaves in a second, in the whole cluster.
    pub changes_per_second: usize,
    /// The seed of all chance.
    pub seed: u64,
}

/// What is assumed of machines and network.
///
/// A node has one core for all of this and a link of its own; what it sends to many leaves it as
/// many times, as it does peer to peer. What the engine adds to a frame is not counted.
#[derive(Debug, Clone)]
pub struct Model {
    /// The least and the greatest time that a frame is under way. Default 200 to 500 µs.
    pub latency: (Duration, Duration),
    /// What a link carries in each direction. Default 125 MB/s, a gigabit.
    pub bytes_per_second: u64,
    /// What the presence layer puts before a message. Default 5 bytes.
    pub head_bytes: usize,
    /// What a core spends on a frame, sent or received. Default 2 µs.
    pub frame_cost: Duration,
    /// What it spends on a row that it takes in: decode and apply, at the slow end of what
    /// `cargo bench -p herenow-core --bench merge` measures. Default 700 ns.
    pub row_cost: Duration,
    /// What it spends on one shard's part of a heartbeat. Default 100 ns.
    pub beat_cost: Duration,
    /// How often a node heartbeats. Default 1 s.
    pub heartbeat_period: Duration,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(200), Duration::from_micros(500)),
            bytes_per_second: 125_000_000,
            head_bytes: 5,
            frame_cost: Duration::from_micros(2),
            row_cost: Duration::from_nanos(700),
            beat_cost: Duration::from_nanos(100),
            heartbeat_period: Duration::from_secs(1),
        }
    }
}

impl Model {
    /// Returns the longest time after its start at which a node beats first.
    pub(super) fn heartbeat_phase(&self) -> Duration {
        self.heartbeat_period
    }
}

macro_rules! measured {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a run came to. All of it is per node, the mean of all nodes, where not said
        /// otherwise.
        #[derive(Debug, Clone, Default)]
        pub struct Measured {
            $($(#[$doc])* pub $name: f64,)*
        }

        impl Measured {
            /// Returns the names of the fields and their values.
            pub fn columns(&self) -> Vec<(&'static str, f64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

measured! {
    /// Nodes.
    nodes,
    /// Presences in the whole cluster.
    presences,
    /// Shards.
    shards,
    /// Shards that a node carries.
    carried,
    /// Removals that an owner remembers, for each shard.
    history,
    /// Milliseconds until the last node lists everybody.
    newcomer_ms,
    /// Bytes that it received for that.
    newcomer_bytes,
    /// Growth of the resident memory by the last node.
    memory_bytes,
    /// Rows that it holds.
    rows_held,
    /// Bytes received in a second while nobody does anything; as many are sent.
    quiet_bytes,
    /// Messages received in a second while nobody does anything; as many are sent.
    quiet_messages,
    /// Joins and leaves in a second, in the whole cluster.
    churn_changes,
    /// Bytes received in a second of churn; as many are sent.
    churn_bytes,
    /// Messages received in a second of churn; as many are sent.
    churn_messages,
    /// How much of a core is busy under churn, by the model.
    churn_cpu_percent,
    /// Milliseconds until a join is on all nodes, in quiet: the median.
    join_quiet_p50_ms,
    /// The same, of 99 in 100.
    join_quiet_p99_ms,
    /// Milliseconds until a join is on all nodes, under churn: the median.
    join_churn_p50_ms,
    /// The same, of 99 in 100.
    join_churn_p99_ms,
    /// Milliseconds from the end of the cut until all nodes list everybody.
    heal_ms,
    /// Changes of the other half during the cut.
    heal_changes,
    /// Bytes received until then, without heartbeats.
    heal_bytes,
}

impl Measured {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            nodes: setup.n_nodes as f64,
            presences: setup.n_presences as f64,
            shards: f64::from(setup.n_shards),
            carried: f64::from(setup.n_carried),
            history: setup.max_history as f64,
            ..Self::default()
        }
    }
}
