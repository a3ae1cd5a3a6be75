//! Disconnects that are held back from readers, as users of the library see them.

use std::time::Duration;

use herenow_presence::{
    Event, Grace, LeaveReason, Owner, Presence, PresenceConfig, PresenceDiff, Window,
};
use herenow_pubsub::{MemoryCluster, PubSub, Subscription};
use serde_json::json;
use tokio::time::Instant;

use crate::support::*;

const GRACE: Duration = Duration::from_secs(10);

fn config() -> PresenceConfig {
    let mut config = PresenceConfig::default();
    config.window = Window::none();
    config.shard.graces = vec![("room:*".to_owned(), Grace::of(GRACE))];
    config
}

fn start_in(cluster: &MemoryCluster, node: &str) -> Presence {
    let pubsub = PubSub::new(cluster.adapter(node));
    Presence::builder(&pubsub).config(config()).start().unwrap()
}

fn alone() -> Presence {
    let pubsub = PubSub::local();
    Presence::builder(&pubsub).config(config()).start().unwrap()
}

async fn join(presence: &Presence, key: &str) -> Owner {
    let owner = Owner::new();
    let tracked = presence.track(&owner.at(TOPIC), key, json!({})).await;
    tracked.unwrap();
    owner
}

async fn subscribe(presence: &Presence) -> Subscription {
    presence.flush().await; // What was before is out.
    presence.pubsub().subscribe(TOPIC)
}

/// The events of a diff: `+` joined, `-` left; `!` if its key was, or is, not there at all.
fn told(diff: &PresenceDiff) -> Vec<String> {
    let events = diff.events().map(|event| match event {
        Event::Joined { meta, first, .. } => format!("+{}{}", meta.key(), mark(*first)),
        Event::Left {
            meta, last, reason, ..
        } => format!("-{}{} {reason:?}", meta.key(), mark(*last)),
        other => panic!("{other:?}"),
    });
    events.collect()
}

async fn next(subscription: &mut Subscription) -> Vec<String> {
    told(&*next_diff(subscription).await)
}

fn mark(is_all: bool) -> &'static str {
    if is_all { "!" } else { "" }
}

#[tokio::test(start_paused = true)]
async fn prs_200_who_returns_in_time_was_never_away() {
    let presence = alone();
    let ada = join(&presence, "ada").await;
    let mut diffs = subscribe(&presence).await;
    drop(ada);
    presence.flush().await;
    assert_eq!(presence.list(TOPIC).await.keys().len(), 1, "still listed");
    assert_eq!(presence.count(TOPIC), 1);
    assert_eq!(presence.where_is("ada", None, 10).len(), 1);
    let _ada = join(&presence, "ada").await;
    // One diff, and the key is there before and after it.
    assert_eq!(next(&mut diffs).await, ["+ada", "-ada Closed"]);
    assert_eq!(presence.count(TOPIC), 1);
    assert_eq!(presence.cluster().await.stats.n_returned, 1);
}

#[tokio::test(start_paused = true)]
async fn prs_201_who_does_not_return_leaves_when_the_grace_is_over() {
    let presence = alone();
    let ada = join(&presence, "ada").await;
    let mut diffs = subscribe(&presence).await;
    let began = Instant::now();
    drop(ada);
    assert_eq!(next(&mut diffs).await, ["-ada! Closed"]);
    let after = began.elapsed();
    assert!(after >= GRACE && after < GRACE * 2, "{after:?}");
    let stats = presence.cluster().await.stats;
    assert_eq!(
        (stats.n_in_grace, stats.n_held, stats.n_grace_over),
        (0, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn prs_202_leaves_and_evictions_are_told_at_once() {
    let presence = alone();
    let mut diffs = subscribe(&presence).await;
    let began = Instant::now();
    for reason in [LeaveReason::Left, LeaveReason::Evicted] {
        let ada = join(&presence, "ada").await;
        assert_eq!(next(&mut diffs).await, ["+ada!"]);
        ada.end_with(reason);
        drop(ada);
        assert_eq!(next(&mut diffs).await, [format!("-ada! {reason:?}")]);
    }
    let ada = join(&presence, "ada").await;
    assert_eq!(next(&mut diffs).await, ["+ada!"]);
    assert!(presence.untrack(&ada.at(TOPIC), "ada").await);
    assert_eq!(next(&mut diffs).await, ["-ada! Left"]);
    // A guard that is dropped is a leave.
    let here = presence.track_on(TOPIC, "ada", json!({})).await.unwrap();
    assert_eq!(next(&mut diffs).await, ["+ada!"]);
    drop(here);
    assert_eq!(next(&mut diffs).await, ["-ada! Left"]);
    assert!(began.elapsed() < GRACE);
}

#[tokio::test(start_paused = true)]
async fn prs_203_nobody_can_write_for_a_key_in_grace_but_it_can_be_let_go() {
    let presence = alone();
    let ada = join(&presence, "ada").await;
    let mut diffs = subscribe(&presence).await;
    assert!(!presence.end_grace(TOPIC, "ada", LeaveReason::Evicted).await);
    drop(ada);
    presence.flush().await;
    let other = Owner::new();
    let update = presence.update(&other.at(TOPIC), "ada", json!({})).await;
    update.unwrap_err();
    assert!(!presence.untrack(&other.at(TOPIC), "ada").await);
    assert!(presence.end_grace(TOPIC, "ada", LeaveReason::Evicted).await);
    assert_eq!(next(&mut diffs).await, ["-ada! Evicted"]);
    assert_eq!(presence.count(TOPIC), 0);
}

#[tokio::test(start_paused = true)]
async fn prs_204_what_is_held_takes_no_room_from_a_return() {
    let mut config = config();
    config.max_metas_per_key = 1;
    let pubsub = PubSub::local();
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    for _ in 0..3 {
        drop(join(&presence, "ada").await);
    }
    let _ada = join(&presence, "ada").await;
    let second = Owner::new();
    let second = presence.track(&second.at(TOPIC), "ada", json!({})).await;
    second.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn prs_205_nodes_restart_one_after_the_other_and_nobody_is_gone() {
    let cluster = MemoryCluster::new();
    let names = ["a", "b", "c", "w"];
    let mut nodes: Vec<Presence> = names.map(|name| start_in(&cluster, name)).into();
    let keys: Vec<String> = (0..30).map(|n| format!("u{n:02}")).collect();
    let mut people: Vec<(usize, Owner)> = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        people.push((n % 3, join(&nodes[n % 3], key).await));
    }
    let watching = nodes[3].clone();
    eventually("all are known", || watching.count(TOPIC) == keys.len()).await;
    let mut diffs = subscribe(&watching).await;
    for down in 0..3 {
        let (gone, next) = (nodes[down].clone(), nodes[(down + 1) % 3].clone());
        // Its connections end, then it says good-bye and ends itself.
        let mut moving = Vec::new();
        for (n, (node, _)) in people.iter().enumerate() {
            if *node == down {
                moving.push(n);
            }
        }
        for n in &moving {
            people[*n] = (usize::MAX, Owner::new());
        }
        gone.shutdown().await;
        drop(gone);
        nodes[down] = start_in(&cluster, names[down]);
        let fresh = nodes[down].clone();
        // Half go elsewhere, and half wait for the node that starts.
        for (i, n) in moving.iter().enumerate() {
            let (to, presence) = match i % 2 {
                0 => ((down + 1) % 3, &next),
                _ => (down, &fresh),
            };
            people[*n] = (to, join(presence, &keys[*n]).await);
        }
        // Also the node that has just started lists everybody.
        eventually("the new node knows all", || {
            fresh.count_keys(TOPIC) == keys.len()
        })
        .await;
    }
    // Every change so far is a return: nobody was gone, nobody new came.
    let all_are_told = async {
        while watching.cluster().await.stats.n_in_grace > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(all_are_told).await;
    watching.flush().await;
    let mut n_returned = 0;
    while let Some(next) = diffs.try_recv() {
        for told in told(&as_diff(&next.unwrap().payload)) {
            assert!(!told.contains('!'), "{told}");
            n_returned += usize::from(told.starts_with('+'));
        }
    }
    assert!(n_returned >= keys.len(), "{n_returned} returned");
    // Not earlier: whose node ends without a word is gone, and that is told.
    drop(nodes);
}
