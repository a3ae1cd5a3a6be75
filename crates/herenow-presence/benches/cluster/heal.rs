//! Two nodes of 100,000 presences each are cut apart, a thousand change on each side, and they
//! heal.

use std::time::{Duration, Instant};

use herenow_presence::PresenceConfig;
use herenow_pubsub::MemoryCluster;
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::figure;
use crate::town::Side;

const N_ROWS: usize = 100_000;
/// New numbers that join during the cut.
const N_JOINS: usize = 500;
const N_LEAVES: usize = 300;
const N_UPDATES: usize = 200;
const N_CHANGES: usize = N_JOINS + N_LEAVES + N_UPDATES;
const TARGET: Duration = Duration::from_secs(1);
const MAX_BITS: f64 = 2.0;

/// Two nodes, and how they are connected.
struct Town {
    cluster: MemoryCluster,
    a: Side,
    b: Side,
    n_numbers: usize,
}

pub(crate) fn run(partition: Duration) {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Removals are told one by one while the owner remembers them, and after that by the set of
        // those who are still there: both ways are measured.
        let mut exactly = Town::new(PresenceConfig::default()).await;
        let mut config = PresenceConfig::default();
        config.shard.max_history = 0;
        let mut all_but = Town::new(config).await;
        let live = exactly.change().await.unwrap_or_default();
        exactly.cut();
        all_but.cut();
        exactly.change().await;
        all_but.change().await;
        sleep(partition).await;
        exactly.is_cut_off().await;
        all_but.is_cut_off().await;
        let seconds = partition.as_secs();
        exactly.heal(&format!("heal after {seconds} s"), live).await;
        all_but.heal("the same, removals forgotten", live).await;
    });
}

impl Town {
    async fn new(config: PresenceConfig) -> Self {
        let cluster = MemoryCluster::new();
        let mut a = Side::new(&cluster, "a", &config);
        let mut b = Side::new(&cluster, "b", &config);
        a.join(0..N_ROWS).await;
        b.join(0..N_ROWS).await;
        let town = Self {
            cluster,
            a,
            b,
            n_numbers: N_ROWS,
        };
        town.is_whole().await;
        town
    }

    fn n_presences(&self) -> usize {
        self.a.n_own() + self.b.n_own()
    }

    async fn is_whole(&self) {
        let n_presences = self.n_presences();
        tokio::join!(self.a.has_all(n_presences), self.b.has_all(n_presences));
    }

    async fn is_cut_off(&self) {
        tokio::join!(self.a.shows(self.a.n_own()), self.b.shows(self.b.n_own()));
    }

    fn cut(&self) {
        self.cluster.partition(&["a"]);
    }

    fn n_bytes(&self) -> u64 {
        self.a.carrier.n_bytes() + self.b.carrier.n_bytes()
    }

    /// Lets a thousand of each side join, leave and change.
    ///
    /// Returns how many bytes were sent, if they arrived: what the changes cost while all is well.
    async fn change(&mut self) -> Option<u64> {
        let before = self.n_bytes();
        let first = self.n_numbers;
        self.n_numbers += N_JOINS;
        for side in [&mut self.a, &mut self.b] {
            side.join(first..first + N_JOINS).await;
            // Far apart, and nobody twice.
            let old = |n: usize| (first - N_ROWS) + n * 97;
            side.leave((0..N_LEAVES).map(old));
            side.update((N_LEAVES..N_LEAVES + N_UPDATES).map(old)).await;
            side.presence.flush().await;
        }
        let status = self.a.presence.cluster().await;
        (status.n_complete() == 1).then(|| self.n_bytes() - before)
    }

    async fn heal(&self, what: &str, live: u64) {
        let before = self.n_bytes();
        let began = Instant::now();
        self.cluster.heal();
        self.is_whole().await;
        let took = began.elapsed();
        let n_bytes = self.n_bytes() - before;
        assert!(
            self.a.all().await == self.b.all().await,
            "both show the same"
        );
        let n_unchanged = 2 * (N_ROWS - N_LEAVES - N_UPDATES);
        let beyond = n_bytes.saturating_sub(live);
        #[expect(clippy::cast_precision_loss, reason = "they are small")]
        let bits = beyond as f64 * 8.0 / n_unchanged as f64;
        let n_changes = 2 * N_CHANGES as u64;
        let rows = format!("{what}: 2 × 100,000 rows, 2 × 1,000 changes");
        let measured = format!("{:.2} s", took.as_secs_f64());
        figure(&rows, "", "1 s", &measured, took <= TARGET);
        let measured = format!(
            "{} KiB: {} bytes a change (live: {}), {bits:.2} bits a row beyond that",
            n_bytes / 1024,
            n_bytes / n_changes,
            live / n_changes
        );
        let what = format!("{what}: bytes between the nodes");
        let target = "as live, and 2 bits an unchanged row";
        figure(&what, "", target, &measured, bits <= MAX_BITS);
    }
}
