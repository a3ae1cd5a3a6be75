//! How long a read or a write waits while a replica of 400,000 rows comes, goes, or is forgotten.
//!
//! A read is a task that is spawned and lists a room, a write one that tracks and untracks: both
//! wait for a worker of the runtime, and the write for its shard. The worst of each phase is told,
//! and for comparison the worst of a phase in which nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use herenow_presence::{Owner, Presence, PresenceConfig};
use herenow_pubsub::MemoryCluster;
use serde_json::json;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::figure;
use crate::town::{Side, room};

const N_ROWS: usize = 400_000;
const TARGET: Duration = Duration::from_millis(5);
/// Rooms that somebody listens to.
const N_WATCHED: usize = 100;
const PAUSE: Duration = Duration::from_micros(200);
const DOWN: Duration = Duration::from_secs(1);
const PERMDOWN: Duration = Duration::from_secs(3);

pub(crate) fn run(n_shards: u16) {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(phases(n_shards));
}

async fn phases(n_shards: u16) {
    let cluster = MemoryCluster::new();
    let mut config = PresenceConfig::default();
    config.n_shards = n_shards.try_into().unwrap();
    config.shard.heartbeat_period = Duration::from_millis(300);
    config.shard.down_period = DOWN;
    config.shard.permdown_period = PERMDOWN;
    let mut a = Side::new(&cluster, "a", &config);
    let b = Side::new(&cluster, "b", &config);
    a.join(0..N_ROWS).await;
    b.shows(N_ROWS).await;
    let watching = watch(&b.presence);
    let where_from = match n_shards {
        1 => "one shard".to_owned(),
        _ => format!("{n_shards} shards"),
    };
    let quiet = worst(&b.presence, sleep(Duration::from_secs(2))).await;
    let (mut down, mut back) = (Waits::default(), Waits::default());
    for _ in 0..2 {
        let waits = worst(&b.presence, async {
            cluster.partition(&["a"]);
            cluster.report_gone("a");
            reaches(&b.presence, 0).await;
        });
        down.add(&waits.await);
        let waits = worst(&b.presence, async {
            cluster.heal();
            reaches(&b.presence, N_ROWS).await;
        });
        back.add(&waits.await);
    }
    tell("goes down", &where_from, &down, &quiet);
    tell("comes back", &where_from, &back, &quiet);
    cluster.partition(&["a"]);
    reaches(&b.presence, 0).await;
    let forgotten = worst(&b.presence, async {
        sleep(PERMDOWN).await;
        assert_eq!(b.presence.cluster().await.nodes.len(), 1, "it is forgotten");
        sleep(Duration::from_millis(500)).await;
    });
    tell(
        "is forgotten, which was down",
        &where_from,
        &forgotten.await,
        &quiet,
    );
    cluster.heal();
    b.shows(N_ROWS).await;
    let gone = worst(&b.presence, async {
        a.presence.say_bye().await;
        reaches(&b.presence, 0).await;
    });
    tell("says good-bye", &where_from, &gone.await, &quiet);
    watching.iter().for_each(JoinHandle::abort);
}

/// Waits until so many are shown, and perhaps somebody who writes.
async fn reaches(presence: &Presence, n_presences: usize) {
    while presence.stats().n_presences.abs_diff(n_presences as u64) > 1 {
        sleep(Duration::from_millis(1)).await;
    }
}

fn watch(presence: &Presence) -> Vec<JoinHandle<()>> {
    let rooms = (0..N_WATCHED).map(|n| room(n * N_ROWS / N_WATCHED));
    let watching = rooms.map(|room| {
        let mut watch = presence.watch(&room);
        tokio::spawn(async move {
            loop {
                watch.next().await;
            }
        })
    });
    watching.collect()
}

/// What was measured in a phase, or in some of a kind.
#[derive(Default)]
struct Waits {
    read: Duration,
    write: Duration,
    n: usize,
    length: Duration,
}

impl Waits {
    fn add(&mut self, other: &Self) {
        self.read = self.read.max(other.read);
        self.write = self.write.max(other.write);
        self.n += other.n;
        self.length += other.length;
    }
}

/// Reads and writes while `phase` lasts.
async fn worst(presence: &Presence, phase: impl Future<Output = ()>) -> Waits {
    let is_over = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let reading = tokio::spawn(measure(presence.clone(), is_over.clone(), read));
    let writing = tokio::spawn(measure(presence.clone(), is_over.clone(), write));
    phase.await;
    let length = began.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let ((read, n_reads), (write, n_writes)) = tokio::try_join!(reading, writing).unwrap();
    Waits {
        read,
        write,
        n: n_reads.min(n_writes),
        length,
    }
}

async fn measure<F: Future<Output = ()> + Send + 'static>(
    presence: Presence,
    is_over: Arc<AtomicBool>,
    act: impl Fn(Presence, usize) -> F,
) -> (Duration, usize) {
    let (mut worst, mut n) = (Duration::ZERO, 0);
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        tokio::spawn(act(presence.clone(), n)).await.unwrap();
        worst = worst.max(began.elapsed());
        n += 1;
        sleep(PAUSE).await;
    }
    (worst, n)
}

async fn read(presence: Presence, n: usize) {
    let room = room(n * 7919 % N_ROWS);
    std::hint::black_box(presence.list(&room).await.len());
}

async fn write(presence: Presence, n: usize) {
    let room = format!("elsewhere:{}", n % 512);
    let owner = Owner::new();
    let meta = json!({ "status": "online" });
    presence
        .track(&owner.at(&room), "somebody", meta)
        .await
        .unwrap();
    presence.untrack(&owner.at(&room), "somebody").await;
}

fn tell(what: &str, shards: &str, waits: &Waits, quiet: &Waits) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let measured = format!(
        "read {:.1} ms, write {:.1} ms (of {}, in {:.2} s; when nothing happens {:.1} and {:.1} ms)",
        millis(waits.read),
        millis(waits.write),
        waits.n,
        waits.length.as_secs_f64(),
        millis(quiet.read),
        millis(quiet.write)
    );
    let phoenix = match what {
        "goes down" => "0.25 s of stopped shard",
        "is forgotten, which was down" | "says good-bye" => "1.4 s of stopped shard",
        _ => "",
    };
    let what = format!("a replica of 400,000 rows {what} ({shards}): the longest wait");
    let is_enough = waits.read.max(waits.write) <= TARGET;
    figure(&what, phoenix, "5 ms", &measured, is_enough);
}
