//! What a connection's token costs: one check by each algorithm, and one refusal. And what it costs
//! to count: one addition, one duration with its two looks at the clock, one message's charge to
//! its rate.
#![allow(missing_docs, reason = "criterion's macros make items without docs")]

#[path = "../tests/support/tokens.rs"]
mod tokens;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use herenow_channels::{Bucket, Rate};
use herenow_pubsub::Histogram;
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::identity::Authority;
use serde_json::json;
use tokio::runtime::Runtime;

use self::tokens::{Pair, SECRET, claims, hs256, hs256_with};

/// Checks by these keys.
fn authority(pairs: &[&Pair]) -> Authority {
    let files: Vec<String> = pairs
        .iter()
        .enumerate()
        .map(|(at, pair)| {
            let path = std::env::temp_dir().join(format!("herenow-bench-{at}.pem"));
            std::fs::write(&path, pair.pem())
                .expect("the directory for temporary files takes them");
            path.display().to_string()
        })
        .collect();
    let flags = [
        ("jwt.secret", SECRET.to_owned()),
        ("jwt.public_key_files", files.join(",")),
    ];
    let sources = Sources {
        flags: flags.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        ..Sources::default()
    };
    let config =
        ServerConfig::load(&sources).expect("the keys are as the configuration wants them");
    Authority::start(&config).expect("the files hold keys")
}

fn check(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("the system has threads");
    let _inside = runtime.enter();
    let (rsa, ec) = (Pair::rsa("rsa"), Pair::ec("ec"));
    let authority = authority(&[&rsa, &ec]);
    let limits =
        json!({ "herenow": { "topics": ["room:*", "user:42"], "rights": ["join", "broadcast"] } });
    let claims = claims("8d3c1f0e-5a52-4c7e-9f55-2f3b9f6f2a11", limits);
    let mut group = criterion.benchmark_group("token");
    for (name, token) in [
        ("HS256", hs256(&claims)),
        ("RS256", rsa.sign(&claims)),
        ("ES256", ec.sign(&claims)),
        (
            "HS256, refused",
            hs256_with("not the server's secret, but long", &claims),
        ),
    ] {
        group.bench_function(name, |bencher| {
            let check = || runtime.block_on(authority.check(black_box(&token))).is_ok();
            bencher.iter(check);
        });
    }
    group.finish();
}

fn count(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("count");
    let counter = AtomicU64::new(0);
    group.bench_function("one", |bencher| {
        bencher.iter(|| black_box(&counter).fetch_add(1, Ordering::Relaxed));
    });
    let histogram = Histogram::default();
    group.bench_function("a duration", |bencher| {
        bencher.iter(|| {
            let began = Instant::now();
            black_box(&histogram).observe(began.elapsed());
        });
    });
    let (rate, mut bucket, began) = (Rate::new(10_000, 20_000), Bucket::default(), Instant::now());
    group.bench_function("a message", |bencher| {
        bencher.iter(|| bucket.charge(black_box(rate), began.elapsed()));
    });
    group.finish();
}

criterion_group!(benches, check, count);
criterion_main!(benches);
