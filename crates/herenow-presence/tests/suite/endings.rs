//! Owners and callers that go away at any moment, and functions that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use herenow_presence::{Holder, Owner, Presence, PresenceConfig, TrackError, UpdateError};
use herenow_pubsub::PubSub;
use serde_json::json;
use tokio::task::yield_now;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn trk_05_a_track_that_is_dropped_before_its_answer_leaves_nothing() {
    // Dropped after 0, 1, 2, … turns of the other tasks: before, while and after the driver runs.
    for n_turns in 0..8 {
        let (pubsub, presence) = start();
        let mut subscription = pubsub.subscribe(TOPIC);
        let owner = Owner::new();
        let at = owner.at(TOPIC);
        let mut tracking = Box::pin(presence.track(&at, "u1", json!({})));
        assert!(poll_once(&mut tracking).await.is_pending());
        for _ in 0..n_turns {
            yield_now().await;
        }
        drop(tracking);
        presence.flush().await;
        assert_eq!(presence.count(TOPIC), 0, "after {n_turns} turns");
        // Whoever saw a join saw a leave.
        let n_diffs = waiting_json(&mut subscription).len();
        assert!(n_diffs.is_multiple_of(2), "{n_diffs} diffs");
        // And the way is free for the next one.
        presence.track(&at, "u1", json!({})).await.unwrap();
        assert_eq!(presence.count(TOPIC), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn trk_06_track_again_right_after_a_dropped_track() {
    for n_turns in 0..8 {
        let (_, presence) = start();
        let owner = Owner::new();
        let at = owner.at(TOPIC);
        let mut tracking = Box::pin(presence.track(&at, "u1", json!({"n": 1})));
        assert!(poll_once(&mut tracking).await.is_pending());
        for _ in 0..n_turns {
            yield_now().await;
        }
        drop(tracking);
        presence.track(&at, "u1", json!({"n": 2})).await.unwrap();
        presence.flush().await;
        assert_eq!(
            list_bare(&presence, TOPIC).await,
            entry("u1", &[json!({"n": 2})])
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trk_07_tasks_aborted_at_any_moment_leave_nothing() {
    let (_, presence) = start();
    let mut tasks = Vec::new();
    for n in 0..400u64 {
        let presence = presence.clone();
        tasks.push(tokio::spawn(async move {
            let owner = Owner::new();
            for round in 0.. {
                let topic = format!("room:{}", round % 5);
                let at = owner.at(&topic);
                let _ = presence
                    .track(&at, format!("u{n}"), json!({"round": round}))
                    .await;
                let _ = presence.update(&at, format!("u{n}"), json!({})).await;
                if round % 3 == 0 {
                    presence.untrack(&at, format!("u{n}")).await;
                }
            }
        }));
    }
    for (n, task) in tasks.into_iter().enumerate() {
        for _ in 0..n % 7 {
            yield_now().await;
        }
        task.abort();
        let _ = task.await;
    }
    in_time(presence.flush()).await; // What was undone is written by now,
    in_time(presence.flush()).await; // and what undid it is, too.
    assert_eq!(presence.topics(), []);
    assert!(presence.stats().n_tracked > 0);
}

#[tokio::test(start_paused = true)]
async fn trk_08_a_task_that_panics_takes_its_presence_along() {
    let (_, presence) = start();
    let its_presence = presence.clone();
    let task = tokio::spawn(async move {
        let _here = its_presence.track_on(TOPIC, "u1", json!({})).await.unwrap();
        assert_eq!(its_presence.count(TOPIC), 1);
        panic!("a bug in the application");
    });
    assert!(task.await.unwrap_err().is_panic());
    presence.flush().await;
    assert_eq!(presence.count(TOPIC), 0);
}

#[tokio::test(start_paused = true)]
async fn trk_09_an_owner_takes_all_its_topics_along_and_no_others() {
    let (_, presence) = start();
    let (owner, other) = (Owner::new(), Owner::new());
    for n in 0..50 {
        let topic = format!("room:{n}");
        presence
            .track(&owner.at(&topic), "u", json!({}))
            .await
            .unwrap();
        presence
            .track(&other.at(&topic), "u", json!({}))
            .await
            .unwrap();
    }
    drop(owner);
    presence.flush().await;
    assert_eq!(presence.topics().len(), 50);
    assert!((0..50).all(|n| presence.count(&format!("room:{n}")) == 1));
}

#[tokio::test(start_paused = true)]
async fn trk_10_owners_may_outlive_the_presence_system() {
    let (_, presence) = start();
    let owner = Owner::new();
    presence
        .track(&owner.at(TOPIC), "u", json!({}))
        .await
        .unwrap();
    let here = presence.track_on(TOPIC, "u", json!({})).await.unwrap();
    presence.shutdown().await;
    drop(presence);
    drop(owner);
    drop(here);
}

#[tokio::test(start_paused = true)]
async fn trk_11_a_late_write_is_an_error_and_is_undone() {
    let mut config = PresenceConfig::default();
    config.write_deadline = Duration::ZERO;
    let presence = Presence::builder(&PubSub::local())
        .config(config)
        .start()
        .unwrap();
    let owner = Owner::new();
    let refused = presence
        .track(&owner.at(TOPIC), "u", json!({}))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        TrackError::Late {
            deadline: Duration::ZERO
        }
    );
    presence.flush().await;
    assert_eq!(presence.count(TOPIC), 0);
    assert_eq!(presence.stats().n_late_writes, 1);
}

#[tokio::test(start_paused = true)]
async fn trk_12_writers_wait_for_room_and_all_get_in() {
    let mut config = PresenceConfig::default();
    config.max_queued = 1.try_into().unwrap();
    let presence = Presence::builder(&PubSub::local())
        .config(config)
        .start()
        .unwrap();
    let tracks = (0..100).map(|n| presence.track_on(TOPIC, format!("u{n}"), json!({})));
    let held = futures_util::future::join_all(tracks).await;
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(presence.count(TOPIC), 100);
}

#[tokio::test(start_paused = true)]
async fn trk_13_an_update_function_that_panics_or_refuses_changes_nothing() {
    let (pubsub, presence) = start();
    let here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    presence.flush().await;
    let mut subscription = pubsub.subscribe(TOPIC);
    let refused = here
        .update_with(|meta| {
            meta.insert("half".into(), json!("done"));
            panic!("a bug in the function");
        })
        .await;
    assert_eq!(refused.unwrap_err(), UpdateError::Panicked);
    let refused = presence.try_update_with(&here, "u1", |meta| {
        meta.clear();
        Err("too long".to_owned())
    });
    assert_eq!(
        refused.await.unwrap_err(),
        UpdateError::Refused {
            reason: "too long".into()
        }
    );
    presence.flush().await;
    assert_eq!(waiting_json(&mut subscription).len(), 0);
    assert_eq!(
        list_bare(&presence, TOPIC).await,
        entry("u1", &[name("u1")])
    );
    here.update(name("still works")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trk_14_an_update_function_that_blocks_holds_up_nobody() {
    let (pubsub, presence) = start();
    let mut subscription = pubsub.subscribe(TOPIC);
    let here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    let (entered, is_in) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let updating = tokio::spawn(async move {
        here.update_with(move |_| {
            let _ = entered.send(());
            let _ = gate.recv();
        })
        .await
        .unwrap();
        here
    });
    in_time(tokio::task::spawn_blocking(move || is_in.recv().unwrap()))
        .await
        .unwrap();
    // Its thread is stuck inside the function; the same topic reads and writes all the same.
    assert_eq!(presence.count(TOPIC), 1);
    let _there = in_time(presence.track_on(TOPIC, "u2", name("u2")))
        .await
        .unwrap();
    assert_eq!(in_time(presence.list(TOPIC)).await.n_metas(), 2);
    next_json(&mut subscription).await;
    next_json(&mut subscription).await;
    open.send(()).unwrap();
    drop(in_time(updating).await.unwrap());
}

/// The same owner and topic from several tasks.
struct Together(Owner);

impl Holder for Together {
    fn owner(&self) -> &Owner {
        &self.0
    }
    fn topic(&self) -> &str {
        TOPIC
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trk_15_update_functions_of_several_tasks_lose_nothing() {
    let (_, presence) = start();
    let together = Arc::new(Together(Owner::new()));
    presence
        .track(&*together, "u", json!({"n": 0}))
        .await
        .unwrap();
    let n_calls = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (presence, together, n_calls) =
                (presence.clone(), together.clone(), n_calls.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    let change = |meta: &mut serde_json::Map<_, _>| {
                        n_calls.fetch_add(1, Ordering::Relaxed);
                        let n = meta["n"].as_i64().unwrap();
                        meta.insert("n".into(), json!(n + 1));
                    };
                    presence.update_with(&*together, "u", change).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        in_time(task).await.unwrap();
    }
    assert_eq!(
        list_bare(&presence, TOPIC).await,
        entry("u", &[json!({"n": 400})])
    );
    assert!(n_calls.load(Ordering::Relaxed) >= 400);
}
