//! `handle_metas` and `watch`: server code that follows presences.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use herenow_presence::{
    Event, Fetch, FetchError, HandleMetas, Here, Key, LeaveReason, Owner, Presence, PresenceConfig,
    PresenceDiff, Presences, Topic, Watch, WatchEvent,
};
use herenow_pubsub::PubSub;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::*;

/// Writes down each call as JSON, and misbehaves once for keys named for it.
#[derive(Default)]
struct Log {
    calls: Mutex<Vec<Value>>,
    pubsub: Mutex<Option<PubSub>>,
}

struct Logging(Arc<Log>);

impl HandleMetas for Logging {
    async fn handle_metas(&self, topic: &Topic, diff: &PresenceDiff, presences: &Presences) {
        let call = json!({
            "topic": topic.as_str(),
            "diff": without_refs(json_of(diff)),
            "presences": without_refs(serde_json::from_slice(&presences.json()).unwrap()),
            "events": diff.events().map(words).collect::<Vec<_>>(),
        });
        self.0.calls.lock().push(call);
        let first_key = diff.events().next().unwrap().key().to_string();
        match first_key.as_str() {
            "panics" => panic!("a bug in the hook"),
            "stalls" => std::future::pending().await,
            _ => {}
        }
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Joined { meta, first, .. } => format!("joined {} first={first}", meta.key()),
        Event::Updated { new, .. } => format!("updated {}", new.key()),
        Event::Left {
            meta, last, reason, ..
        } => format!("left {} last={last} {reason:?}", meta.key()),
        other => format!("{other:?}"),
    }
}

fn start_logging(change: impl FnOnce(&mut PresenceConfig)) -> (PubSub, Presence, Arc<Log>) {
    let (pubsub, log) = (PubSub::local(), Arc::new(Log::default()));
    let mut config = PresenceConfig::default();
    change(&mut config);
    let builder = Presence::builder(&pubsub)
        .config(config)
        .handle_metas(Logging(log.clone()));
    (pubsub, builder.start().unwrap(), log)
}

async fn track(presence: &Presence, key: &str, its_name: &str) -> Here {
    let here = presence.track_on(TOPIC, key, name(its_name)).await.unwrap();
    presence.flush().await;
    here
}

fn entries(of: &[(&str, &[&str])]) -> Value {
    let entry = |(key, names): &(&str, &[&str])| {
        let metas: Vec<Value> = names.iter().map(|n| name(n)).collect();
        ((*key).to_owned(), json!({"metas": metas}))
    };
    Value::Object(of.iter().map(entry).collect())
}

#[tokio::test(start_paused = true)]
async fn p_16_handle_metas_gets_the_diff_and_who_is_present_after_it() {
    let (_, presence, log) = start_logging(|_| {});
    let _here = track(&presence, "u1", "u1").await;
    let calls = log.calls.lock();
    assert_eq!(calls.len(), 1);
    let u1 = entries(&[("u1", &["u1"])]);
    assert_eq!(calls[0]["topic"], TOPIC);
    assert_eq!(calls[0]["diff"], diff(u1.clone(), json!({})));
    assert_eq!(calls[0]["presences"], u1);
    assert_eq!(calls[0]["events"], json!(["joined u1 first=true"]));
}

async fn three_keys() -> (Presence, Arc<Log>, Vec<Here>) {
    let (_, presence, log) = start_logging(|_| {});
    let mut held = Vec::new();
    for key in ["u1", "u2", "u3"] {
        held.push(track(&presence, key, key).await);
    }
    (presence, log, held)
}

async fn three_metas() -> (Presence, Arc<Log>, Vec<Here>) {
    let (_, presence, log) = start_logging(|_| {});
    let mut held = Vec::new();
    for its_name in ["u1.1", "u1.2", "u1.3"] {
        held.push(track(&presence, "u1", its_name).await);
    }
    (presence, log, held)
}

#[tokio::test(start_paused = true)]
async fn p_17_the_call_for_the_third_join_has_all_three() {
    let (_presence, log, _held) = three_keys().await;
    let calls = log.calls.lock();
    assert_eq!(calls[2]["diff"]["joins"], entries(&[("u3", &["u3"])]));
    let all = entries(&[("u1", &["u1"]), ("u2", &["u2"]), ("u3", &["u3"])]);
    assert_eq!(calls[2]["presences"], all);
}

#[tokio::test(start_paused = true)]
async fn p_18_metas_of_one_key_come_in_order() {
    let (_presence, log, _held) = three_metas().await;
    let calls = log.calls.lock();
    assert_eq!(
        calls[2]["presences"],
        entries(&[("u1", &["u1.1", "u1.2", "u1.3"])])
    );
    assert_eq!(calls[2]["events"], json!(["joined u1 first=false"]));
}

#[tokio::test(start_paused = true)]
async fn p_19_after_the_last_leave_nobody_is_present() {
    let (presence, log, held) = three_keys().await;
    for here in held {
        here.untrack().await;
        presence.flush().await;
    }
    let calls = log.calls.lock();
    assert_eq!(calls[5]["diff"]["leaves"], entries(&[("u3", &["u3"])]));
    assert_eq!(calls[5]["presences"], json!({}));
    assert_eq!(calls[5]["events"], json!(["left u3 last=true Left"]));
}

#[tokio::test(start_paused = true)]
async fn p_20_after_one_leave_the_others_are_present() {
    let (presence, log, mut held) = three_keys().await;
    held.pop();
    presence.flush().await;
    let calls = log.calls.lock();
    assert_eq!(
        calls[3]["presences"],
        entries(&[("u1", &["u1"]), ("u2", &["u2"])])
    );
}

#[tokio::test(start_paused = true)]
async fn p_21_after_one_of_three_metas_left_two_are_present_in_order() {
    let (presence, log, mut held) = three_metas().await;
    held.pop();
    presence.flush().await;
    let calls = log.calls.lock();
    assert_eq!(calls[3]["presences"], entries(&[("u1", &["u1.1", "u1.2"])]));
    assert_eq!(calls[3]["events"], json!(["left u1 last=false Left"]));
}

struct AfterBroadcast(Arc<Log>, Mutex<Option<herenow_pubsub::Subscription>>);

impl HandleMetas for AfterBroadcast {
    async fn handle_metas(&self, _: &Topic, diff: &PresenceDiff, _: &Presences) {
        // Its subscribers have the very diff by now.
        let received = self
            .1
            .lock()
            .as_mut()
            .and_then(|s| s.try_recv())
            .unwrap()
            .unwrap();
        let is_same = as_diff(&received.payload).to() == diff.to();
        self.0.calls.lock().push(json!(is_same));
    }
}

#[tokio::test(start_paused = true)]
async fn p_22_handle_metas_comes_after_the_broadcast_once_per_topic() {
    let (pubsub, log) = (PubSub::local(), Arc::new(Log::default()));
    let subscription = Mutex::new(Some(pubsub.subscribe(TOPIC)));
    let hook = AfterBroadcast(log.clone(), subscription);
    let presence = Presence::builder(&pubsub)
        .handle_metas(hook)
        .start()
        .unwrap();
    let _here = track(&presence, "u1", "u1").await;
    let _there = track(&presence, "u2", "u2").await;
    assert_eq!(*log.calls.lock(), [json!(true), json!(true)]);
    assert!(log.pubsub.lock().is_none());
}

#[tokio::test(start_paused = true)]
async fn prs_13_a_panic_or_stall_in_handle_metas_harms_only_its_call() {
    let (pubsub, presence, log) = start_logging(|_| {});
    let mut subscription = pubsub.subscribe(TOPIC);
    let mut held = Vec::new();
    for key in ["panics", "stalls", "u1"] {
        held.push(presence.track_on(TOPIC, key, name(key)).await.unwrap());
        next_json(&mut subscription).await;
    }
    presence.flush().await;
    assert_eq!(log.calls.lock().len(), 3);
    assert_eq!(presence.stats().n_observe_failures, 2);
    assert_eq!(presence.count(TOPIC), 3);
}

#[tokio::test(start_paused = true)]
async fn prs_14_diffs_of_a_topic_are_folded_when_handle_metas_is_slow() {
    let (_, presence, log) = start_logging(|config| {
        config.max_observed = 2;
        config.observe_deadline = Duration::from_secs(3);
    });
    let _stalls = presence
        .track_on(TOPIC, "stalls", name("stalls"))
        .await
        .unwrap();
    eventually("the first call", || log.calls.lock().len() == 1).await;
    let mut held = Vec::new();
    for n in 0..20 {
        held.push(
            presence
                .track_on(TOPIC, format!("u{n:02}"), json!({}))
                .await
                .unwrap(),
        );
    }
    presence.flush().await;
    let calls = log.calls.lock();
    assert_eq!(calls.len(), 3);
    let n_joined: usize = calls
        .iter()
        .map(|call| call["diff"]["joins"].as_object().unwrap().len())
        .sum();
    assert_eq!(n_joined, 21, "folded, not lost");
    assert_eq!(calls[2]["presences"].as_object().unwrap().len(), 21);
    assert_eq!(presence.stats().n_observe_folded, 18);
}

async fn next_words(watch: &mut Watch) -> String {
    match in_time(watch.next()).await {
        WatchEvent::State(state) => format!("state of {}", state.n_metas()),
        WatchEvent::Changed(event) => words(&event),
        other => format!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn prs_15_watch_begins_with_the_state_and_goes_on_with_events() {
    let (_, presence) = start();
    let first = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    let mut watch = presence.watch(TOPIC);
    let second = presence.track_on(TOPIC, "u1", name("u1.2")).await.unwrap();
    // The state is of when it is first polled; whatever it has does not come again.
    assert_eq!(next_words(&mut watch).await, "state of 2");
    second.update(name("u1.3")).await.unwrap();
    assert_eq!(next_words(&mut watch).await, "updated u1");
    drop(first);
    assert_eq!(next_words(&mut watch).await, "left u1 last=false Left");
    second.end_with(LeaveReason::Evicted);
    drop(second);
    assert_eq!(next_words(&mut watch).await, "left u1 last=true Evicted");
    let owner = Owner::new();
    presence
        .track(&owner.at(TOPIC), "u2", json!({}))
        .await
        .unwrap();
    assert_eq!(next_words(&mut watch).await, "joined u2 first=true");
    drop(owner);
    assert_eq!(next_words(&mut watch).await, "left u2 last=true Closed");
}

#[tokio::test(start_paused = true)]
async fn prs_16_a_watch_that_fell_behind_starts_over() {
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    config.max_watched = 3;
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let mut watch = presence.watch(TOPIC);
    assert_eq!(next_words(&mut watch).await, "state of 0");
    let mut held = Vec::new();
    for n in 0..10 {
        held.push(
            presence
                .track_on(TOPIC, format!("u{n}"), json!({}))
                .await
                .unwrap(),
        );
        presence.flush().await;
    }
    assert_eq!(next_words(&mut watch).await, "state of 10");
    held.pop();
    assert_eq!(next_words(&mut watch).await, "left u9 last=true Left");
    assert!(presence.stats().n_watch_lagged >= 1);
}

#[tokio::test(start_paused = true)]
async fn prs_103_a_handler_that_stays_behind_costs_no_more_than_the_presences() {
    let (_, presence, log) = start_logging(|config| {
        config.max_observed = 1;
        config.max_pending_changes = 20;
    });
    let _stalls = presence.track_on(TOPIC, "stalls", name("s")).await.unwrap();
    eventually("the handler stalls", || log.calls.lock().len() == 1).await;
    let ada = presence.track_on(TOPIC, "ada", name("a")).await.unwrap();
    for n in 0..100 {
        let bob = presence.track_on(TOPIC, "bob", name("b")).await.unwrap();
        bob.untrack().await;
        ada.update(name(&n.to_string())).await.unwrap();
    }
    presence.flush().await;
    let calls = log.calls.lock();
    assert_eq!(calls.len(), 2, "one call for all that was folded");
    let events: Vec<&str> = calls[1]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e.as_str().unwrap())
        .collect();
    assert!(events.len() <= 20, "{} events", events.len());
    assert_eq!(events[0], "joined ada first=true");
    assert_eq!(calls[1]["presences"]["ada"]["metas"], json!([name("99")]));
}

/// Counts events and those it missed, and stalls once for a key named for it.
#[derive(Default)]
struct Counting {
    n_told: AtomicUsize,
    n_missed: AtomicUsize,
    n_fetches: AtomicUsize,
}

impl HandleMetas for Counting {
    async fn handle_metas(&self, _: &Topic, diff: &PresenceDiff, _: &Presences) {
        let now = SystemTime::now();
        for (at, event) in diff.timed_events() {
            let age = now.duration_since(at).unwrap();
            assert!(age < Duration::from_secs(60), "{age:?}");
            self.n_told.fetch_add(1, Ordering::SeqCst);
            if event.key().as_str() == "stalls" {
                std::future::pending::<()>().await;
            }
        }
        let nodes: Vec<&str> = diff.nodes().map(|node| node.as_str()).collect();
        assert_eq!(nodes, ["local"]);
    }

    fn handle_missed(&self, n_events: usize) {
        self.n_missed.fetch_add(n_events, Ordering::SeqCst);
    }
}

struct Counted(Arc<Counting>);

impl Fetch for Counted {
    type Fields = Value;

    async fn fetch(&self, _: &Topic, _: &[Key]) -> Result<HashMap<Key, Value>, FetchError> {
        self.0.n_fetches.fetch_add(1, Ordering::SeqCst);
        Ok(HashMap::new())
    }
}

#[tokio::test(start_paused = true)]
async fn prs_680_a_bare_hook_is_told_while_it_is_on_and_nothing_is_fetched_for_it() {
    let (counting, is_on) = (Arc::<Counting>::default(), Arc::new(AtomicBool::new(false)));
    let presence = Presence::builder(&PubSub::local())
        .fetch(Counted(counting.clone()))
        .handle_bare_metas(counting.clone(), is_on.clone())
        .start()
        .unwrap();
    let read = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let _before = track(&presence, "before", "x").await;
    assert_eq!(read(&counting.n_told), 0);
    is_on.store(true, Ordering::SeqCst);
    let during = track(&presence, "during", "x").await;
    drop(during);
    presence.flush().await;
    assert_eq!(read(&counting.n_told), 2);
    is_on.store(false, Ordering::SeqCst);
    let _after = track(&presence, "after", "x").await;
    assert_eq!(read(&counting.n_told), 2);
    assert_eq!(read(&counting.n_fetches), 0);
}

#[tokio::test(start_paused = true)]
async fn prs_681_a_hook_that_does_not_keep_up_is_told_how_many_events_it_missed() {
    let counting = Arc::<Counting>::default();
    let mut config = PresenceConfig::default();
    config.max_observed = 1;
    config.max_pending_changes = 20;
    let presence = Presence::builder(&PubSub::local())
        .config(config)
        .handle_metas(counting.clone())
        .start()
        .unwrap();
    let read = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let _stalls = presence.track_on(TOPIC, "stalls", name("s")).await.unwrap();
    eventually("the handler stalls", || read(&counting.n_told) == 1).await;
    for _ in 0..100 {
        let bob = presence.track_on(TOPIC, "bob", name("b")).await.unwrap();
        bob.untrack().await;
    }
    presence.flush().await;
    assert!(read(&counting.n_missed) >= 100, "{:?}", counting.n_missed);
    assert_eq!(read(&counting.n_told) + read(&counting.n_missed), 201);
}
