//! The fetch hook: what it adds, and that it harms nothing when it goes wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use herenow_presence::{Fetch, FetchError, Key, Presence, PresenceConfig, Topic};
use herenow_pubsub::PubSub;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::*;

/// Adds `"extra": "extra"`, or misbehaves in a way that the topic is named for.
#[derive(Default)]
struct Extra {
    calls: Mutex<Vec<(String, Vec<String>)>>,
    mood: Mutex<HashMap<String, Mood>>,
    n_running: AtomicUsize,
    max_running: AtomicUsize,
    gate: Mutex<Option<mpsc::Receiver<()>>>,
}

#[derive(Clone, Copy)]
enum Mood {
    Fail,
    /// The first of the keys has fields, and the others have no answer.
    Halve,
    Panic,
    Stall,
    Block,
    Take(Duration),
}

impl Extra {
    fn set(&self, topic: &str, mood: Option<Mood>) {
        match mood {
            Some(mood) => self.mood.lock().insert(topic.into(), mood),
            None => self.mood.lock().remove(topic),
        };
    }

    fn n_calls(&self) -> usize {
        self.calls.lock().len()
    }
}

#[derive(Clone)]
struct Shared(Arc<Extra>);

impl Fetch for Shared {
    type Fields = Value;

    async fn fetch(&self, topic: &Topic, keys: &[Key]) -> Result<HashMap<Key, Value>, FetchError> {
        let its_keys = keys.iter().map(ToString::to_string).collect();
        self.0.calls.lock().push((topic.to_string(), its_keys));
        let n_running = self.0.n_running.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.max_running.fetch_max(n_running, Ordering::SeqCst);
        let mood = self.0.mood.lock().get(topic.as_str()).copied();
        match mood {
            None => {}
            Some(Mood::Fail) => return Err(FetchError::new("no database")),
            Some(Mood::Halve) => {
                let found = keys.iter().take(1);
                let found = found.map(|key| (key.clone(), json!({"extra": "extra", "metas": 1})));
                let found = found.collect();
                return Err(FetchError::incomplete("one is enough", found));
            }
            Some(Mood::Panic) => panic!("a bug in the hook"),
            Some(Mood::Stall) => std::future::pending().await,
            Some(Mood::Block) => {
                let gate = self.0.gate.lock().take();
                let _ = gate.map(|gate| gate.recv());
            }
            Some(Mood::Take(time)) => tokio::time::sleep(time).await,
        }
        self.0.n_running.fetch_sub(1, Ordering::SeqCst);
        // The metas are not the hook's to set.
        let fields = json!({"extra": "extra", "metas": "no"});
        Ok(keys
            .iter()
            .map(|key| (key.clone(), fields.clone()))
            .collect())
    }
}

fn start_with(change: impl FnOnce(&mut PresenceConfig)) -> (PubSub, Presence, Arc<Extra>) {
    let (pubsub, extra) = (PubSub::local(), Arc::new(Extra::default()));
    let mut config = PresenceConfig::default();
    change(&mut config);
    let builder = Presence::builder(&pubsub)
        .config(config)
        .fetch(Shared(extra.clone()));
    let presence = builder.start().unwrap();
    (pubsub, presence, extra)
}

fn with_extra(key: &str, metas: &[Value]) -> Value {
    json!({ key: { "metas": metas, "extra": "extra" } })
}

#[tokio::test(start_paused = true)]
async fn p_03_list_after_fetch_has_the_extra_fields() {
    let (_, presence, _) = start_with(|_| {});
    assert_eq!(list(&presence, TOPIC).await, json!({}));
    let _here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    assert_eq!(
        list_bare(&presence, TOPIC).await,
        with_extra("u1", &[name("u1")])
    );
}

#[tokio::test(start_paused = true)]
async fn p_05_get_by_key_after_fetch_has_the_extra_fields() {
    let (_, presence, extra) = start_with(|_| {});
    let _here = presence.track_on(TOPIC, "1", name("u1")).await.unwrap();
    let _other = presence.track_on(TOPIC, "2", name("u2")).await.unwrap();
    let got = presence.get_by_key(TOPIC, "1").await.unwrap();
    let bare = without_refs(serde_json::from_str(&got.json()).unwrap());
    assert_eq!(bare, json!({"metas": [name("u1")], "extra": "extra"}));
    assert_eq!(extra.calls.lock().last().unwrap().1, ["1"]);
    assert!(presence.get_by_key(TOPIC, "3").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn p_07_both_halves_and_the_list_have_the_extra_fields() {
    let (pubsub, presence, _) = start_with(|_| {});
    let mut subscription = pubsub.subscribe(TOPIC);
    let here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    let u1 = with_extra("u1", &[name("u1")]);
    assert_eq!(
        without_refs(next_json(&mut subscription).await),
        diff(u1.clone(), json!({}))
    );
    assert_eq!(list_bare(&presence, TOPIC).await, u1);
    drop(here);
    assert_eq!(
        without_refs(next_json(&mut subscription).await),
        diff(json!({}), u1)
    );
    assert_eq!(list(&presence, TOPIC).await, json!({}));
}

#[tokio::test(start_paused = true)]
async fn p_14_flush_waits_for_running_fetches() {
    let (pubsub, presence, extra) = start_with(|_| {});
    extra.set(TOPIC, Some(Mood::Take(Duration::from_millis(300))));
    let mut subscription = pubsub.subscribe(TOPIC);
    let began = Instant::now();
    let _here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    assert_eq!(waiting_json(&mut subscription), Vec::<Value>::new());
    presence.flush().await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(waiting_json(&mut subscription).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn y_22_a_failing_fetch_disturbs_no_other_topic_and_no_presence() {
    for mood in [Mood::Fail, Mood::Panic, Mood::Stall] {
        let (pubsub, presence, extra) = start_with(|_| {});
        extra.set("room:bad", Some(mood));
        let mut on_bad = pubsub.subscribe("room:bad");
        let mut on_good = pubsub.subscribe("room:good");
        let began = Instant::now();
        let _bad = presence
            .track_on("room:bad", "u1", name("u1"))
            .await
            .unwrap();
        let _good = presence
            .track_on("room:good", "u2", name("u2"))
            .await
            .unwrap();
        let good = without_refs(next_json(&mut on_good).await);
        assert_eq!(good, diff(with_extra("u2", &[name("u2")]), json!({})));
        assert!(
            began.elapsed() < Duration::from_millis(900),
            "it waited for the other topic"
        );
        // The failing one loses its fields, not its diff.
        let bad = without_refs(next_json(&mut on_bad).await);
        assert_eq!(bad, diff(entry("u1", &[name("u1")]), json!({})));
        assert_eq!(
            (presence.count("room:bad"), presence.count("room:good")),
            (1, 1)
        );
        assert_eq!(
            list_bare(&presence, "room:bad").await,
            entry("u1", &[name("u1")])
        );
        let stats = presence.stats();
        let n_failures = stats.n_fetch_errors + stats.n_fetch_panics + stats.n_fetch_late;
        assert_eq!(n_failures, 2, "the diff's and the list's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn y_22_a_fetch_that_blocks_its_thread_disturbs_nobody() {
    let (pubsub, presence, extra) =
        start_with(|config| config.fetch_deadline = Duration::from_millis(50));
    let (open, gate) = mpsc::channel();
    *extra.gate.lock() = Some(gate);
    extra.set("room:bad", Some(Mood::Block));
    let mut on_bad = pubsub.subscribe("room:bad");
    let _bad = presence
        .track_on("room:bad", "u1", name("u1"))
        .await
        .unwrap();
    let bad = without_refs(next_json(&mut on_bad).await);
    assert_eq!(bad, diff(entry("u1", &[name("u1")]), json!({})));
    assert_eq!(presence.stats().n_fetch_late, 1);
    let _good = presence
        .track_on("room:bad", "u2", name("u2"))
        .await
        .unwrap();
    assert_eq!(presence.count("room:bad"), 2);
    open.send(()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn prs_09_a_late_or_failed_fetch_falls_back_to_the_fields_known_last() {
    let (pubsub, presence, extra) = start_with(|_| {});
    let mut subscription = pubsub.subscribe(TOPIC);
    let here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    next_json(&mut subscription).await;
    for (mood, name_then) in [(Mood::Stall, "stalled"), (Mood::Fail, "failed")] {
        extra.set(TOPIC, Some(mood));
        here.update(name(name_then)).await.unwrap();
        let both = without_refs(next_json(&mut subscription).await);
        assert_eq!(both["joins"], with_extra("u1", &[name(name_then)]));
        assert_eq!(both["leaves"]["u1"]["extra"], "extra");
        assert_eq!(
            list_bare(&presence, TOPIC).await,
            with_extra("u1", &[name(name_then)])
        );
    }
    // Somebody new has no known fields, and somebody who left is forgotten.
    let _new = presence.track_on(TOPIC, "u2", name("u2")).await.unwrap();
    let joined = without_refs(next_json(&mut subscription).await);
    assert_eq!(joined, diff(entry("u2", &[name("u2")]), json!({})));
    drop(here);
    assert_eq!(
        without_refs(next_json(&mut subscription).await)["leaves"]["u1"]["extra"],
        "extra"
    );
    let _again = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    let joined = without_refs(next_json(&mut subscription).await);
    assert_eq!(joined, diff(entry("u1", &[name("u1")]), json!({})));
}

#[tokio::test(start_paused = true)]
async fn prs_10_diffs_keep_their_order_and_those_that_wait_share_one_fetch() {
    let (pubsub, presence, extra) = start_with(|_| {});
    extra.set(TOPIC, Some(Mood::Take(Duration::from_millis(500))));
    let (mut slow, mut fast) = (pubsub.subscribe(TOPIC), pubsub.subscribe("room:fast"));
    let first = presence.track_on(TOPIC, "u0", name("u0")).await.unwrap();
    eventually("the first fetch", || extra.n_calls() == 1).await;
    let mut held = Vec::new();
    for n in 1..=5 {
        held.push(
            presence
                .track_on(TOPIC, format!("u{n}"), json!({}))
                .await
                .unwrap(),
        );
    }
    drop(first);
    let _fast = presence
        .track_on("room:fast", "f", name("f"))
        .await
        .unwrap();
    next_json(&mut fast).await;
    assert_eq!(
        waiting_json(&mut slow),
        Vec::<Value>::new(),
        "the fast topic did not wait"
    );
    let one = next_json(&mut slow).await;
    assert_eq!(
        one["joins"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["u0"]
    );
    let two = next_json(&mut slow).await;
    let joined: Vec<&String> = two["joins"].as_object().unwrap().keys().collect();
    assert_eq!(joined, ["u1", "u2", "u3", "u4", "u5"]);
    assert!(two["leaves"]["u0"].is_object());
    let calls = extra.calls.lock();
    let of_slow: Vec<_> = calls.iter().filter(|(topic, _)| topic == TOPIC).collect();
    assert_eq!(of_slow.len(), 2);
    assert_eq!(of_slow[1].1, ["u0", "u1", "u2", "u3", "u4", "u5"]);
}

#[tokio::test(start_paused = true)]
async fn prs_11_fetches_are_bounded_in_number() {
    let (pubsub, presence, extra) = start_with(|config| {
        config.max_fetches = 2.try_into().unwrap();
        config.fetch_deadline = Duration::from_secs(60);
    });
    let mut held = Vec::new();
    let mut subscriptions = Vec::new();
    for n in 0..10 {
        let topic = format!("room:{n}");
        extra.set(&topic, Some(Mood::Take(Duration::from_millis(100))));
        subscriptions.push(pubsub.subscribe(&topic));
        held.push(presence.track_on(&topic, "u", name("u")).await.unwrap());
    }
    presence.flush().await;
    assert_eq!(extra.max_running.load(Ordering::SeqCst), 2);
    for subscription in &mut subscriptions {
        let joined = without_refs(next_json(subscription).await);
        assert_eq!(joined["joins"], with_extra("u", &[name("u")]));
    }
}

#[tokio::test(start_paused = true)]
async fn prs_12_all_who_list_a_snapshot_share_one_fetch() {
    let (_, presence, extra) = start_with(|_| {});
    extra.set(TOPIC, Some(Mood::Take(Duration::from_millis(50))));
    let _here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    let _there = presence.track_on(TOPIC, "u2", name("u2")).await.unwrap();
    let lists = (0..50).map(|_| presence.list(TOPIC));
    let lists = futures_util::future::join_all(lists).await;
    assert_eq!(
        extra.n_calls(),
        1,
        "nobody listens, so the diffs needed none"
    );
    let first = lists[0].json();
    assert!(
        lists
            .iter()
            .all(|list| list.json().as_ptr() == first.as_ptr())
    );
    let _third = presence.track_on(TOPIC, "u3", name("u3")).await.unwrap();
    presence.list(TOPIC).await;
    assert_eq!(extra.n_calls(), 2);
    assert_eq!(extra.calls.lock()[1].1, ["u1", "u2", "u3"]);
    // The topic is quiet, but its fields grow old.
    tokio::time::advance(Duration::from_secs(11)).await;
    presence.list(TOPIC).await;
    assert_eq!(extra.n_calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn prs_23_a_failed_look_up_of_a_list_is_tried_again_soon() {
    let (_, presence, extra) = start_with(|_| {});
    extra.set(TOPIC, Some(Mood::Stall));
    let _here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    let began = Instant::now();
    let lists = (0..50).map(|_| list_bare(&presence, TOPIC));
    let lists = futures_util::future::join_all(lists).await;
    assert!(lists.iter().all(|list| *list == entry("u1", &[name("u1")])));
    assert_eq!(
        began.elapsed().as_secs(),
        1,
        "all wait for one deadline, not each for its own"
    );
    extra.set(TOPIC, None);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(
        list_bare(&presence, TOPIC).await,
        with_extra("u1", &[name("u1")])
    );
}

#[tokio::test(start_paused = true)]
async fn prs_102_a_look_up_that_nobody_waits_for_any_more_gives_its_place_back() {
    let (_, presence, extra) = start_with(|config| {
        config.max_fetches = std::num::NonZero::new(1).unwrap();
    });
    let _bad = presence
        .track_on("room:bad", "u1", name("u1"))
        .await
        .unwrap();
    let _good = presence.track_on(TOPIC, "u2", name("u2")).await.unwrap();
    extra.set("room:bad", Some(Mood::Stall));
    let n_before = extra.n_calls();
    let mut listing = Box::pin(presence.list("room:bad"));
    assert!(poll_once(&mut listing).await.is_pending());
    eventually("the look-up began", || extra.n_calls() > n_before).await;
    drop(listing); // Such as by a client that goes away while it joins.
    assert_eq!(
        list_bare(&presence, TOPIC).await,
        with_extra("u2", &[name("u2")])
    );
    assert_eq!(presence.stats().n_fetch_late, 0);
}

#[tokio::test(start_paused = true)]
async fn srv_1741_an_incomplete_look_up_is_shown_as_it_is_and_shared_for_its_deadline_only() {
    let (_, presence, extra) = start_with(|_| {});
    let _ada = presence.track_on(TOPIC, "ada", name("a")).await.unwrap();
    let _bob = presence.track_on(TOPIC, "bob", name("b")).await.unwrap();
    extra.set(TOPIC, Some(Mood::Halve));
    for _ in 0..2 {
        let list = list_bare(&presence, TOPIC).await;
        assert_eq!(list["ada"], with_extra("ada", &[name("a")])["ada"]);
        assert_eq!(list["bob"], entry("bob", &[name("b")])["bob"]);
        assert_eq!(extra.n_calls(), 1, "it is shared");
    }
    extra.set(TOPIC, None);
    tokio::time::advance(PresenceConfig::default().fetch_deadline).await;
    let list = list_bare(&presence, TOPIC).await;
    assert_eq!(list["bob"], with_extra("bob", &[name("b")])["bob"]);
    assert_eq!((extra.n_calls(), presence.stats().n_fetch_errors), (2, 0));
}
