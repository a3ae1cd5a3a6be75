//! What an operator sees of a server, and what a client may take of it: metrics, the dashboard and
//! the alarms made of them, limits, and who is believed to be whom behind a proxy.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/log.rs"]
mod log;
#[path = "support/tokens.rs"]
mod tokens;
#[path = "observe/entry.rs"]
mod entry;
#[path = "observe/keys.rs"]
mod keys;
#[path = "observe/limits.rs"]
mod limits;
#[path = "observe/metrics.rs"]
mod metrics;
#[path = "observe/named.rs"]
mod named;
#[path = "observe/operation.rs"]
mod operation;
#[path = "observe/privacy.rs"]
mod privacy;
#[path = "observe/told.rs"]
mod told;
#[cfg(feature = "otel")]
#[path = "observe/traces.rs"]
mod traces;

use std::collections::BTreeMap;

use self::rig::{PATIENCE, Rig};

/// A scrape: each sample by its name and labels, as the text has it.
async fn scrape(rig: &Rig) -> BTreeMap<String, f64> {
    let answer = rig.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

/// Scrapes until the sample `name` is what it must become.
async fn until_metric(rig: &Rig, name: &str, becomes: impl Fn(f64) -> bool) -> f64 {
    let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
    loop {
        let value = scrape(rig).await.get(name).copied();
        match value {
            Some(value) if becomes(value) => return value,
            _ if tokio::time::Instant::now() > deadline => panic!("{name} is {value:?}"),
            _ => tokio::task::yield_now().await,
        }
    }
}
