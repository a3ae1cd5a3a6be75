//! Lists of 100 and 10,000 members, unchanged and changed; tracks through the tracker.
//!
//! `cargo bench -p herenow-presence`. Targets: a list that is unchanged since the last, its JSON
//! included, in 5 µs for 100 members and 100 µs for 10,000.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use herenow_presence::{Here, Owner, Presence};
use herenow_pubsub::PubSub;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

const TOPIC: &str = "room:1";

fn room(runtime: &Runtime, n_members: usize) -> (Presence, Vec<Here>) {
    runtime.block_on(async {
        let presence = Presence::new(&PubSub::local());
        let mut held = Vec::new();
        for n in 0..n_members {
            let meta = json!({"online_at": "1700000000", "status": "online"});
            held.push(
                presence
                    .track_on(TOPIC, format!("user-{n:05}"), meta)
                    .await
                    .unwrap(),
            );
        }
        (presence, held)
    })
}

fn lists(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("list");
    for n_members in [100, 10_000] {
        let (presence, held) = room(&runtime, n_members);
        group.bench_function(format!("unchanged/{n_members}"), |bencher| {
            bencher
                .iter(|| runtime.block_on(async { black_box(presence.list(TOPIC).await.json()) }));
        });
        let mut n = 0;
        group.bench_function(format!("changed/{n_members}"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    n += 1;
                    held[n % n_members]
                        .update(json!({"status": "away", "n": n}))
                        .await
                        .unwrap();
                    black_box(presence.list(TOPIC).await.json())
                })
            });
        });
        group.bench_function(format!("get_by_key/{n_members}"), |bencher| {
            bencher.iter(|| {
                runtime
                    .block_on(async { black_box(presence.get_by_key(TOPIC, "user-00050").await) })
            });
        });
    }
    group.finish();
}

fn tracks(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("track");
    let n_tracks = 1_000;
    group.throughput(Throughput::Elements(n_tracks));
    for n_topics in [1, 100] {
        let presence = runtime.block_on(async { Presence::new(&PubSub::local()) });
        group.bench_function(format!("1000 into {n_topics}, and leave"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let owners: Vec<(Owner, String)> = (0..n_tracks)
                        .map(|n| (Owner::new(), format!("room:{}", n % n_topics)))
                        .collect();
                    let tracks = owners.iter().enumerate().map(|(n, (owner, topic))| {
                        let presence = &presence;
                        async move {
                            let meta = json!({"online_at": "1700000000"});
                            presence
                                .track(&owner.at(topic), format!("user-{n}"), meta)
                                .await
                        }
                    });
                    black_box(join_all(tracks).await);
                    drop(owners);
                    presence.flush().await;
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lists, tracks);
criterion_main!(benches);
