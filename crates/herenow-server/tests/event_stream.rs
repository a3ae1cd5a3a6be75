//! `GET /api/events`: server-sent events, read by the plainest reader there can be.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/rig.rs"]
mod rig;

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use self::hooks::{Listener, meta};
use self::rig::{Rig, end, put};

/// Waits until the node says so of its streams.
async fn until_shown(rig: &Rig, name: &str, n: u64) {
    let waiting = async {
        while rig.get("/api/node").await.json()["events"]["streams"][name] != n {
            tokio::time::sleep(Duration::from_millis(10)).await; // Nobody is told when it changes.
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, waiting).await.unwrap();
}

#[tokio::test]
async fn srv_692_a_listener_hears_of_a_topic_a_prefix_or_all_and_of_some_kinds() {
    let rig = Rig::start().await;
    put(&rig, "room:1", "early", "x").await;
    let mut topic = Listener::open(rig.address, "?topic=room:1", "").await;
    let mut prefix = Listener::open(rig.address, "?prefix=room%3A&events=joined", "").await;
    let mut all = Listener::open(rig.address, "", "").await;
    assert_eq!(topic.status, 200);
    for header in ["content-type: text/event-stream", "cache-control: no-store"] {
        assert!(topic.head.contains(header), "{}", topic.head);
    }
    put(&rig, "room:1", "ada", "x").await;
    put(&rig, "room:2", "bob", "x").await;
    put(&rig, "lobby", "cleo", "x").await;
    end(&rig, "room:1", "early").await;
    end(&rig, "room:1", "ada").await;
    let expected = [
        "joined room:1 ada first tracked",
        "left room:1 early last left",
        "left room:1 ada last left",
        "topic_vacated room:1 left",
    ];
    assert_eq!(topic.heard(4).await, expected);
    let expected = [
        "joined room:1 ada first tracked",
        "joined room:2 bob first tracked",
    ];
    assert_eq!(prefix.heard(2).await, expected);
    let heard = all.heard(8).await;
    assert!(
        heard.contains(&"joined lobby cleo first tracked".to_owned()),
        "{heard:?}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_693_a_listener_that_comes_back_misses_nothing_or_is_told_what() {
    let rig = Rig::with(&[("events.max_kept", "5")]).await;
    let mut first = Listener::open(rig.address, "?topic=room:1", "").await;
    put(&rig, "room:1", "ada", "0").await;
    assert_eq!(first.next().await.unwrap().event, "topic_occupied");
    let joined = first.next().await.unwrap();
    drop(first);
    put(&rig, "room:1", "ada", "1").await;
    put(&rig, "room:2", "bob", "1").await;
    let id = joined.id.clone().unwrap();
    let resume = format!("last-event-id: {id}\r\n");
    let mut second = Listener::open(rig.address, "?topic=room:1", &resume).await;
    let updated = second.next().await.unwrap();
    assert_eq!(
        (updated.event.as_str(), &updated.data["meta"]["device"]),
        ("updated", &json!("1"))
    );
    let seqs = (
        joined.data["seq"].as_u64().unwrap(),
        updated.data["seq"].as_u64().unwrap(),
    );
    assert_eq!(seqs.1, seqs.0 + 1);
    // Three were told since: the update, and two of another topic. Five are kept.
    for n in 0..4 {
        put(&rig, "room:1", "ada", &format!("x{n}")).await;
    }
    let mut third = Listener::open(rig.address, "?topic=room:1", &resume).await;
    let lost = third.next().await.unwrap();
    assert_eq!((lost.event.as_str(), lost.id), ("lost", None));
    assert_eq!(
        (&lost.data["reason"], &lost.data["n_events"]),
        (&json!("not_kept"), &json!(2))
    );
    assert_eq!(
        third.next().await.unwrap().data["meta"]["device"],
        json!("x0")
    );
    let stranger = "last-event-id: 0000000000000001-7\r\n";
    let mut other_life = Listener::open(rig.address, "?topic=room:1", stranger).await;
    let lost = other_life.next().await.unwrap();
    assert_eq!(
        (lost.event.as_str(), &lost.data["n_events"]),
        ("lost", &json!(null))
    );
    let wrong = Listener::open(rig.address, "", "last-event-id: nonsense\r\n").await;
    assert_eq!(wrong.status, 400);
    rig.stop().await;
}

#[tokio::test]
async fn srv_696_a_reader_that_reads_nothing_is_hung_up_on_and_holds_up_nobody() {
    let rig = Rig::with(&[("events.max_kept", "50")]).await;
    let mut stuck = Listener::narrow(rig.address, "?topic=room:1").await;
    let mut good = Listener::open(rig.address, "?topic=room:1", "").await;
    // More than the buffers between the two hold, all in one go.
    let (path, large) = ("/api/topics/room:1/presences/ada", "x".repeat(7_000));
    let one = |n: u32| {
        let body = meta(&format!("{n}{large}"));
        format!(
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let puts: String = (0..350).map(one).collect();
    let mut writer = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let writing = tokio::spawn(async move {
        writer.write_all(puts.as_bytes()).await.unwrap();
        writer // Closed, it would not get its answers, and then nothing would be done.
    });
    assert_eq!(good.heard(351).await.len(), 351);
    let _answers = writing.await.unwrap();
    until_shown(&rig, "n_too_slow", 1).await;
    until_shown(&rig, "n_open", 1).await;
    while stuck.next().await.is_some() {}
    put(&rig, "room:1", "ada", "after").await;
    assert_eq!(good.heard(1).await, ["updated room:1 ada updated"]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_695_streams_have_a_limit_a_right_and_an_end() {
    let keys = "ask:read:rrrrrrrrrrrrrrrr";
    let rig = Rig::with(&[
        ("api.keys", keys),
        ("events.max_streams", "1"),
        ("events.keep_alive", "20ms"),
    ])
    .await;
    let key = "x-api-key: rrrrrrrrrrrrrrrr\r\n";
    assert_eq!(Listener::open(rig.address, "", "").await.status, 401);
    for wrong in [
        "?topic=a&prefix=b",
        "?topic=",
        "?events=joined,moved",
        "?events=",
        "?kind=left",
    ] {
        assert_eq!(
            Listener::open(rig.address, wrong, key).await.status,
            400,
            "{wrong}"
        );
    }
    let mut one = Listener::open(rig.address, "", key).await;
    assert_eq!(one.status, 200);
    let full = rig.http("GET", "/api/events", key, "").await;
    assert_eq!((full.status, full.json()["limit"].clone()), (503, json!(1)));
    assert!(full.body.contains("events.max_streams"));
    let counted = "herenow_limit_refusals_total{limit=\"events.max_streams\"} 1\n";
    let metrics = rig.http("GET", "/metrics", key, "").await.body;
    assert!(metrics.contains(counted), "{metrics}");
    while one.line().await.unwrap() != ": still here" {}
    drop(one);
    let opened = async {
        loop {
            let again = Listener::open(rig.address, "", key).await;
            if again.status == 200 {
                return again;
            }
        }
    };
    let mut again = tokio::time::timeout(Duration::from_secs(30), opened)
        .await
        .unwrap();
    let mut rig = rig;
    rig.ask_to_stop();
    let last = again.next().await.unwrap();
    assert_eq!(
        (last.event.as_str(), &last.data["reason"]),
        ("closed", &json!("stopping"))
    );
    rig.ended().await;
}
