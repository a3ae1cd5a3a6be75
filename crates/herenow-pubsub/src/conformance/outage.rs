//! Checks of what happens while nodes cannot hear each other, and afterwards.

use std::time::Instant;

use bytes::Bytes;

use super::Harness;
use super::recorder::{connect, nodes};

/// Enough to fill any queue.
const FLOOD: usize = 100_000;

/// PUB-105: after an outage nodes hear each other again, without anybody doing anything.
pub async fn an_outage_heals_by_itself(harness: &dyn Harness) {
    let nodes = nodes(harness, "outage", &["a", "b", "c"]).await;
    if !harness.begin_outage("outage").await {
        return;
    }
    for node in &nodes {
        node.recorder.forget();
        // Accepted or not: what is sent in an outage may be lost.
        let _ = node
            .adapter
            .broadcast("s", Bytes::from_static(b"lost, or late"));
    }
    harness.end_outage("outage").await;
    connect(harness, &nodes.iter().collect::<Vec<_>>()).await;
    nodes[0]
        .adapter
        .send("c", "after", Bytes::new())
        .expect("accepted");
    nodes[2]
        .wait_for(harness, "the message after the outage", |seen| {
            seen.messages
                .iter()
                .any(|message| message.subject == "after")
        })
        .await;
}

/// PUB-106: in an outage messages are accepted up to a bound and then refused, and nobody waits.
pub async fn publishing_never_blocks_in_an_outage(harness: &dyn Harness) {
    let nodes = nodes(harness, "flood", &["a", "b"]).await;
    if !harness.begin_outage("flood").await {
        return;
    }
    let began = Instant::now();
    for n in 0..FLOOD {
        let adapter = &nodes[0].adapter;
        let _ = match n % 2 {
            0 => adapter.broadcast("s", Bytes::from_static(b"flood")),
            _ => adapter.send("b", "s", Bytes::from_static(b"flood")),
        };
    }
    let elapsed = began.elapsed();
    assert!(
        elapsed < harness.deadline(),
        "{FLOOD} messages took {elapsed:?}"
    );
    nodes.iter().for_each(|node| node.recorder.forget());
    harness.end_outage("flood").await;
    connect(harness, &nodes.iter().collect::<Vec<_>>()).await;
}
