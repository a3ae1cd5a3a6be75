//! What goes wrong between nodes: killed, frozen, late, strange and foreign ones.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use herenow_pubsub::{Adapter, AdapterError};
use herenow_zenoh::{OpenError, ZenohAdapter};

use support::{ChildNode, Node, PING, PONG, Report, config};

/// Not a test: the program of the child processes.
#[tokio::test(flavor = "multi_thread")]
async fn child_node() {
    support::run_child().await;
}

/// For how long a link may be silent before it is given up.
const LEASE: Duration = Duration::from_secs(5);

/// Waits until `node` and the child of that name hear each other.
async fn hear(node: &Node, child: &str) {
    node.broadcast_until(PING, child, |seen| seen.senders().contains(child))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_211_zenoh_a_killed_process_is_reported_before_a_silent_one_would_be() {
    let a = Node::start(&config("killed", "a", &[])).await;
    let mut b = ChildNode::spawn(&config("killed", "b", &[&a.address]));
    hear(&a, "b").await;
    assert_eq!(a.adapter.stats().n_peers, 1);
    b.kill();
    let killed = Instant::now();
    a.wait_for("b gone", |seen| seen.last_report("b") == Some(Report::Gone))
        .await;
    assert!(killed.elapsed() < LEASE);
    assert_eq!(a.adapter.stats().n_peers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_212_zenoh_a_killed_process_comes_back_under_its_name() {
    let a = Node::start(&config("restart", "a", &[])).await;
    let settings = config("restart", "b", &[&a.address]);
    for _ in 0..3 {
        let mut b = ChildNode::spawn(&settings);
        hear(&a, "b").await;
        a.wait_for("b seen", |seen| seen.last_report("b") == Some(Report::Seen))
            .await;
        b.kill();
        a.wait_for("b gone", |seen| seen.last_report("b") == Some(Report::Gone))
            .await;
        a.forget();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_213_zenoh_a_name_taken_over_is_not_gone() {
    let a = Node::start(&config("takeover", "a", &[])).await;
    let old = Node::start(&config("takeover", "b", &[&a.address])).await;
    a.wait_for("b seen", |seen| seen.reports.len() == 1).await;
    let new = Node::start(&config("takeover", "b", &[&a.address])).await;
    a.wait_for("the other b seen", |seen| seen.reports.len() == 2)
        .await;
    old.adapter.close().await;
    new.broadcast_until("s", "nothing", |_| {
        a.has(|seen| seen.senders().contains("b"))
    })
    .await;
    assert!(a.has(|seen| {
        seen.reports
            .iter()
            .all(|(_, report)| *report == Report::Seen)
    }));
    assert_eq!(a.adapter.stats().n_peers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_214_zenoh_a_late_joiner_hears_what_comes_after() {
    let a = Node::start(&config("late", "a", &[])).await;
    a.adapter
        .broadcast("s", Bytes::from_static(b"early"))
        .unwrap();
    let b = Node::start(&config("late", "b", &[&a.address])).await;
    b.wait_for("a seen", |seen| seen.last_report("a").is_some())
        .await;
    a.wait_for("b seen", |seen| seen.last_report("b").is_some())
        .await;
    a.adapter
        .broadcast("s", Bytes::from_static(b"late"))
        .unwrap();
    b.wait_for("a message", |seen| !seen.messages.is_empty())
        .await;
    assert!(b.has(|seen| seen.messages.len() == 1 && seen.messages[0].2 == "late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_215_zenoh_a_frozen_peer_stalls_no_caller_and_no_other_peer() {
    let mut settings = config("frozen", "a", &[]);
    settings.max_queued = 200.try_into().unwrap();
    let a = Node::start(&settings).await;
    let b = Node::start(&config("frozen", "b", &[&a.address])).await;
    let frozen = ChildNode::spawn(&config("frozen", "c", &[&a.address]));
    hear(&a, "c").await;
    b.wait_for("a", |seen| seen.senders().contains("a")).await;

    frozen.freeze();
    let message = Bytes::from(vec![7; 64 * 1024]);
    let (mut slowest, mut n_refused) = (Duration::ZERO, 0);
    let began = Instant::now();
    while n_refused == 0 || a.has(|seen| seen.last_report("c") == Some(Report::Seen)) {
        assert!(began.elapsed() < support::DEADLINE, "{:?}", a.adapter);
        let called = Instant::now();
        match a.adapter.broadcast("flood", message.clone()) {
            Ok(()) => {}
            Err(AdapterError::Full { max: 200 }) => n_refused += 1,
            Err(error) => panic!("{error}"),
        }
        slowest = slowest.max(called.elapsed());
        tokio::task::yield_now().await;
    }
    // Whoever waited for the frozen one would wait for as long.
    assert!(slowest < LEASE, "took {slowest:?}");
    assert_eq!(a.adapter.stats().n_refused, n_refused);

    // The healthy peer hears on while the other is still frozen.
    a.broadcast_until("after", "b", |_| {
        b.has(|seen| {
            seen.messages
                .iter()
                .any(|(_, subject, _)| subject == "after")
        })
    })
    .await;
    // And the frozen one takes part again, once it runs.
    a.forget();
    frozen.thaw();
    hear(&a, "c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_216_zenoh_a_lost_link_that_nobody_was_told_of_heals() {
    // b and c know only the seed; their link is of the kind that zenoh does not dial again.
    let seed = Node::start(&config("heal", "seed", &[])).await;
    let mut settings = config("heal", "b", &[&seed.address]);
    settings.max_queued = 100.try_into().unwrap();
    // Long before the seed's own link to a frozen one is given up, which is when its lease ends.
    settings.max_stall = Duration::from_millis(50);
    let b = Node::start(&settings).await;
    // Which of the two dials is a matter of random numbers, drawn by each process.
    for _ in 0..4 {
        let mut c = ChildNode::spawn(&config("heal", "c", &[&seed.address]));
        hear(&b, "c").await;
        b.wait_for("c seen", |seen| seen.last_report("c") == Some(Report::Seen))
            .await;
        c.freeze();
        flood_until_a_link_is_given_up(&b).await;
        c.thaw();
        b.wait_for("c gone", |seen| seen.last_report("c") == Some(Report::Gone))
            .await;
        b.forget();
        hear(&b, "c").await;
        assert!(
            seed.has(|seen| seen.last_report("c") == Some(Report::Seen)),
            "the seed kept its link"
        );
        c.kill();
        for node in [&b, &seed] {
            node.wait_for("c gone", |seen| seen.last_report("c") == Some(Report::Gone))
                .await;
            node.forget();
        }
    }
}

/// Floods until the queue is full, and on until what is sent gets through again.
async fn flood_until_a_link_is_given_up(node: &Node) {
    let message = Bytes::from(vec![7; 64 * 1024]);
    let began = Instant::now();
    let mut n_sent_when_full = None;
    while n_sent_when_full.is_none_or(|n_sent| node.adapter.stats().n_sent < n_sent + 300) {
        assert!(began.elapsed() < support::DEADLINE, "{:?}", node.adapter);
        if node.adapter.broadcast("flood", message.clone()).is_err() {
            n_sent_when_full.get_or_insert(node.adapter.stats().n_sent);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_217_zenoh_any_text_may_be_a_name_or_a_subject() {
    const NAMES: [&str; 4] = ["*/$*", "a/b?c#d", "Zoë %41 @", "**"];
    let mut nodes: Vec<Node> = Vec::new();
    for name in NAMES {
        let known: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        nodes.push(Node::start(&config("*/**", name, &known)).await);
    }
    let stranger = Node::start(&config("*", NAMES[0], &[&nodes[0].address])).await;
    for node in &nodes {
        node.wait_for("all others", |seen| seen.reports.len() == NAMES.len() - 1)
            .await;
    }
    let subject = "any/*$?#\0 ☃".repeat(100);
    for (node, name) in nodes.iter().zip(NAMES) {
        for other in NAMES.iter().filter(|other| **other != name) {
            node.adapter.send(other, &subject, Bytes::new()).unwrap();
        }
    }
    for node in &nodes {
        node.wait_for("one of each other", |seen| {
            seen.messages.len() == NAMES.len() - 1
        })
        .await;
        assert!(node.has(|seen| seen.messages.iter().all(|(_, got, _)| *got == subject)));
    }
    assert!(stranger.has(|seen| seen.messages.is_empty() && seen.reports.is_empty()));
    assert_eq!(stranger.adapter.stats().n_received, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn pub_218_zenoh_runs_in_a_current_thread_runtime() {
    let a = Node::start(&config("single", "a", &[])).await;
    let b = Node::start(&config("single", "b", &[&a.address])).await;
    b.wait_for("a seen", |seen| seen.last_report("a").is_some())
        .await;
    a.wait_for("b seen", |seen| seen.last_report("b").is_some())
        .await;
    b.adapter.send("a", PONG, Bytes::new()).unwrap();
    a.wait_for("the message", |seen| seen.messages.len() == 1)
        .await;
    b.adapter.close().await;
    a.wait_for("b gone", |seen| seen.last_report("b") == Some(Report::Gone))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_219_zenoh_open_is_fine_alone_and_says_what_is_wrong() {
    let nobody = support::free_address("tcp");
    let mut settings = config("alone", "a", &[&nobody]);
    settings.max_message_bytes = 1000.try_into().unwrap();
    let a = Node::start(&settings).await;
    a.adapter
        .broadcast("s", Bytes::from(vec![0; 1000]))
        .unwrap();
    assert_eq!(
        a.adapter.broadcast("s", Bytes::from(vec![0; 1001])),
        Err(AdapterError::TooLarge {
            len: 1001,
            max: 1000
        })
    );
    let long = "s".repeat(4097);
    assert!(matches!(
        a.adapter.send("b", &long, Bytes::new()),
        Err(AdapterError::TooLarge {
            len: 4097,
            max: 4096
        })
    ));
    assert_eq!(a.adapter.stats().n_peers, 0);

    settings.node = "b".into();
    let taken = ZenohAdapter::open(&settings).await.unwrap_err();
    let own = &settings.listen[0];
    assert!(
        matches!(&taken, OpenError::Listen { address, .. } if address == own),
        "{taken}"
    );
    settings.node = String::new();
    let nameless = ZenohAdapter::open(&settings).await.unwrap_err();
    assert!(matches!(nameless, OpenError::Config(_)), "{nameless}");

    a.adapter.close().await;
    assert_eq!(a.adapter.stats().n_sent, 1);
    // The address is free again at once.
    settings.node = "c".into();
    ZenohAdapter::open(&settings).await.unwrap().close().await;
}
