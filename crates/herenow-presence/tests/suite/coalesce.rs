//! Windows, and that every reader gets exactly the changes that its list lacks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use herenow_presence::{Event, Here, Presence, PresenceConfig, PresenceDiff, WatchEvent, Window};
use herenow_pubsub::{Broadcast, Once, PubSub, Sink, Subscription};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::*;

fn crowd(pubsub: &PubSub, n_subscribers: usize) -> Vec<Subscription> {
    (0..n_subscribers)
        .map(|_| pubsub.subscribe(TOPIC))
        .collect()
}

#[test]
fn prs_17_a_window_grows_with_the_subscribers_up_to_its_bound() {
    let window = Window::default();
    let millis: Vec<u128> = [0, 100, 101, 1_000, 5_000, 1_000_000]
        .map(|n| window.length(n).as_micros())
        .to_vec();
    assert_eq!(millis, [0, 0, 5_050, 50_000, 250_000, 250_000]);
    assert_eq!(Window::none().length(1_000_000), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn prs_18_few_subscribers_get_a_join_at_once() {
    let (pubsub, presence) = start();
    let mut crowd = crowd(&pubsub, 100);
    let began = Instant::now();
    let _here = presence.track_on(TOPIC, "u1", json!({})).await.unwrap();
    next_json(&mut crowd[99]).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn prs_19_many_subscribers_get_the_diffs_of_a_window_as_one() {
    let (pubsub, presence) = start();
    let mut crowd = crowd(&pubsub, 1_000);
    let began = Instant::now();
    let mut held = Vec::new();
    for n in 0..30 {
        held.push(
            presence
                .track_on(TOPIC, format!("u{n}"), json!({"n": n}))
                .await
                .unwrap(),
        );
        held.last()
            .unwrap()
            .update(json!({"updated": n}))
            .await
            .unwrap();
    }
    held.truncate(10);
    let one = next_json(&mut crowd[0]).await;
    assert!(
        (50..=52).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    // What joined and left within the window cancels; an update within it is a join with a prev.
    assert_eq!(one["joins"].as_object().unwrap().len(), 10);
    assert_eq!(one["leaves"], json!({}));
    assert!(one["joins"]["u0"]["metas"][0]["phx_ref_prev"].is_string());
    assert_eq!(waiting_json(&mut crowd[1]).len(), 1);
    assert_eq!(presence.stats().n_diffs, 1);
}

#[tokio::test(start_paused = true)]
async fn prs_20_windows_are_configured_by_pattern_and_cut_short_by_flush() {
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    let mut slow = Window::default();
    slow.free_subscribers = 0;
    slow.per_subscriber = Duration::from_secs(5);
    slow.max = Duration::from_secs(5);
    config.windows = vec![("room:*".into(), slow)];
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let (mut room, mut lobby) = (pubsub.subscribe(TOPIC), pubsub.subscribe("lobby"));
    let began = Instant::now();
    let _here = presence.track_on(TOPIC, "u1", json!({})).await.unwrap();
    let _there = presence.track_on("lobby", "u1", json!({})).await.unwrap();
    next_json(&mut lobby).await;
    assert_eq!(waiting_json(&mut room).len(), 0);
    presence.flush().await;
    assert_eq!(waiting_json(&mut room).len(), 1);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let _second = presence.track_on(TOPIC, "u2", json!({})).await.unwrap();
    next_json(&mut room).await;
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn prs_21_a_window_ends_early_when_too_much_waits() {
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    config.max_pending_changes = 20;
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let mut crowd = crowd(&pubsub, 1_000);
    let began = Instant::now();
    let mut held = Vec::new();
    for n in 0..20 {
        held.push(
            presence
                .track_on(TOPIC, format!("u{n}"), json!({}))
                .await
                .unwrap(),
        );
    }
    let one = next_json(&mut crowd[0]).await;
    assert_eq!(one["joins"].as_object().unwrap().len(), 20);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// A reader that began with a list and folds exactly what is new to it, strictly.
struct Reader {
    subscription: Subscription,
    seen: u64,
    held: BTreeMap<String, Vec<String>>,
    kept: Vec<Arc<PresenceDiff>>,
}

impl Reader {
    async fn new(pubsub: &PubSub, presence: &Presence) -> Self {
        let subscription = pubsub.subscribe_bounded(TOPIC, 1_000_000);
        let state = presence.list(TOPIC).await;
        let json: Value = serde_json::from_slice(&state.json()).unwrap();
        Self {
            subscription,
            seen: state.version(),
            held: refs(&json),
            kept: Vec::new(),
        }
    }

    fn take(&mut self) {
        while let Some(next) = self.subscription.try_recv() {
            self.kept.push(as_diff(&next.unwrap().payload));
        }
    }

    fn fold_each(&mut self) {
        for diff in std::mem::take(&mut self.kept) {
            self.apply(
                diff.json_since(self.seen)
                    .map(|json| serde_json::from_slice(&json).unwrap()),
            );
            self.seen = self.seen.max(diff.to());
        }
    }

    fn fold_as_one(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        let Some(folded) = PresenceDiff::fold(&kept) else {
            return;
        };
        let since = folded.json_since(self.seen);
        let cancelled = PresenceDiff::fold_since(self.seen, &kept);
        let also = cancelled.and_then(|diff| diff.json_since(self.seen));
        let parse = |json: bytes::Bytes| serde_json::from_slice::<Value>(&json).unwrap();
        assert_eq!(
            since.clone().map(parse),
            also.map(parse),
            "both folds say the same"
        );
        self.apply(since.map(parse));
        self.seen = self.seen.max(folded.to());
    }

    /// Applies a diff; a join of what is there, or a leave of what is not, is an error.
    fn apply(&mut self, diff: Option<Value>) {
        let Some(diff) = diff else { return };
        assert_ne!(
            diff,
            json!({"joins": {}, "leaves": {}}),
            "an empty diff is none"
        );
        for (key, joined) in refs(&diff["joins"]) {
            let held = self.held.entry(key).or_default();
            for meta_ref in joined {
                assert!(!held.contains(&meta_ref), "joined twice");
                held.push(meta_ref);
            }
        }
        for (key, left) in refs(&diff["leaves"]) {
            let held = self.held.get_mut(&key).expect("left without having joined");
            for meta_ref in left {
                let at = held.iter().position(|other| *other == meta_ref);
                held.remove(at.expect("left without having joined"));
            }
            if held.is_empty() {
                self.held.remove(&key);
            }
        }
    }
}

fn refs(presences: &Value) -> BTreeMap<String, Vec<String>> {
    let refs_of = |entry: &Value| -> Vec<String> {
        let metas = entry["metas"].as_array().unwrap();
        metas
            .iter()
            .map(|meta| meta["phx_ref"].as_str().unwrap().to_owned())
            .collect()
    };
    presences
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, e)| (key.clone(), refs_of(e)))
        .collect()
}

/// A generator that repeats with its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

async fn random_history(seed: u64, window: Window) {
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    config.window = window;
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let mut dice = Dice(seed);
    let mut held: Vec<Here> = Vec::new();
    let mut readers: Vec<Reader> = Vec::new();
    for _ in 0..400 {
        match dice.roll(10) {
            0..=3 => {
                let key = format!("u{}", dice.roll(6));
                held.push(
                    presence
                        .track_on(TOPIC, key, json!({"a": dice.roll(9)}))
                        .await
                        .unwrap(),
                );
            }
            4 | 5 if !held.is_empty() => {
                let at = dice.roll(held.len());
                held[at].update(json!({"b": dice.roll(9)})).await.unwrap();
            }
            6 | 7 if !held.is_empty() => drop(held.swap_remove(dice.roll(held.len()))),
            8 if readers.len() < 12 => readers.push(Reader::new(&pubsub, &presence).await),
            9 => {
                // Lets windows end in the middle of things.
                tokio::time::advance(Duration::from_millis(dice.roll(12) as u64)).await;
                for reader in &mut readers {
                    reader.take();
                    if dice.roll(2) == 0 {
                        reader.fold_each();
                    }
                }
            }
            _ => {}
        }
    }
    presence.flush().await;
    let expected = refs(&list(&presence, TOPIC).await);
    for reader in &mut readers {
        reader.take();
        if dice.roll(2) == 0 {
            reader.fold_as_one()
        } else {
            reader.fold_each()
        }
        // The order too: a folding client has each key's metas in the list's order.
        assert_eq!(reader.held, expected, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn prs_22_state_and_the_diffs_after_it_equal_the_list_for_every_reader() {
    let mut windowed = Window::default();
    windowed.free_subscribers = 0;
    windowed.per_subscriber = Duration::from_millis(7);
    windowed.max = Duration::from_millis(20);
    for seed in 0..12 {
        random_history(seed, Window::none()).await;
        random_history(seed, windowed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn prs_24_readers_stay_exact_while_several_threads_write() {
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    config.window.free_subscribers = 4;
    config.window.per_subscriber = Duration::from_micros(300);
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let presence = presence.clone();
            tokio::spawn(async move {
                let mut dice = Dice(writer);
                let mut held: Vec<Here> = Vec::new();
                for _ in 0..600 {
                    // Few at a time, so that the topic is empty now and then.
                    if held.len() < 2 {
                        let key = format!("u{}", dice.roll(3));
                        held.push(presence.track_on(TOPIC, key, json!({})).await.unwrap());
                    } else if dice.roll(3) == 0 {
                        held[0].update(json!({"n": dice.roll(9)})).await.unwrap();
                    } else {
                        held.truncate(dice.roll(2));
                    }
                }
                held
            })
        })
        .collect();
    let mut readers = Vec::new();
    while writers.iter().any(|writer| !writer.is_finished()) {
        if readers.len() < 40 {
            readers.push(Reader::new(&pubsub, &presence).await);
        }
        tokio::task::yield_now().await;
    }
    let held = futures_util::future::join_all(writers).await;
    in_time(presence.flush()).await;
    let expected = refs(&list(&presence, TOPIC).await);
    for (at, reader) in readers.iter_mut().enumerate() {
        reader.take();
        if at % 2 == 0 {
            reader.fold_as_one()
        } else {
            reader.fold_each()
        }
        assert_eq!(reader.held, expected);
    }
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn y_17_own_diff_before_or_after_the_state_ends_in_the_right_list() {
    let (pubsub, presence) = start();
    // A channel: attached first, then tracked, then listed.
    let mut subscription = pubsub.subscribe(TOPIC);
    let _other = presence.track_on(TOPIC, "before", json!({})).await.unwrap();
    let _own = presence.track_on(TOPIC, "own", json!({})).await.unwrap();
    let state = presence.list(TOPIC).await;
    let diffs = [
        next_diff(&mut subscription).await,
        next_diff(&mut subscription).await,
    ];
    // The state has both: neither diff is sent to this reader, whenever it arrives.
    assert!(
        diffs
            .iter()
            .all(|diff| diff.json_since(state.version()).is_none())
    );
    let _next = presence.track_on(TOPIC, "next", json!({})).await.unwrap();
    let next = next_diff(&mut subscription).await;
    assert_eq!(next.json_since(state.version()), Some(next.json()));
}

#[tokio::test]
async fn prs_104_other_tasks_run_between_the_diffs_of_many_topics() {
    /// Counts deliveries since another task ran.
    #[derive(Default)]
    struct Meter {
        n_since: AtomicUsize,
        max: AtomicUsize,
    }
    impl Sink for Meter {
        fn deliver(&self, _: &Broadcast, _: &mut Once) {
            let n = self.n_since.fetch_add(1, Ordering::Relaxed) + 1;
            self.max.fetch_max(n, Ordering::Relaxed);
        }
    }
    const N_TOPICS: usize = 200;
    const N_SINKS: usize = 100;
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    config.n_shards = std::num::NonZero::new(1).unwrap();
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let meter = Arc::new(Meter::default());
    let topics: Vec<String> = (0..N_TOPICS).map(|n| format!("room:{n}")).collect();
    let sinks = topics
        .iter()
        .flat_map(|topic| std::iter::repeat_n(topic, N_SINKS));
    let _attachments: Vec<_> = sinks
        .map(|topic| pubsub.attach(topic, meter.clone()))
        .collect();
    let its_meter = meter.clone();
    let ticker = tokio::spawn(async move {
        loop {
            its_meter.n_since.store(0, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let tracks = topics
        .iter()
        .map(|topic| presence.track_on(topic, "ada", name("a")));
    let heres = futures_util::future::join_all(tracks).await;
    presence.flush().await;
    ticker.abort();
    assert_eq!(heres.len(), N_TOPICS);
    let max = meter.max.load(Ordering::Relaxed);
    // Two turns may come in a row; without turns it would be all of them.
    assert!(max < N_TOPICS * N_SINKS / 2, "{max} deliveries in one go");
}

/// Counts the diffs that its subscribers get.
#[derive(Default)]
struct Count(AtomicUsize);

impl Sink for Count {
    fn deliver(&self, _: &Broadcast, _: &mut Once) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn prs_304_who_watches_while_a_diff_is_handed_out_in_turns_misses_and_repeats_nothing() {
    const N_SUBSCRIBERS: usize = 10_000;
    let (pubsub, presence) = start();
    let count = Arc::new(Count::default());
    let attachments: Vec<_> = (0..N_SUBSCRIBERS)
        .map(|_| pubsub.attach(TOPIC, count.clone()))
        .collect();
    let n_delivered = || count.0.load(Ordering::Relaxed);
    let mut here = Vec::new();
    let mut watches = Vec::new();
    for round in 1..=3 {
        let key = format!("user-{round}");
        here.push(presence.track_on(TOPIC, key, json!({})).await.unwrap());
        let so_far = (round - 1) * N_SUBSCRIBERS;
        let began = Instant::now();
        while n_delivered() <= so_far {
            tokio::time::advance(Duration::from_millis(10)).await; // Until the window is over.
            assert!(began.elapsed() < DEADLINE, "no turn began");
        }
        assert!(n_delivered() < round * N_SUBSCRIBERS, "in the middle");
        let mut watch = presence.watch(TOPIC);
        let first = in_time(watch.next()).await;
        watches.push((round, watch, vec![first]));
        presence.flush().await;
        assert_eq!(n_delivered(), round * N_SUBSCRIBERS);
    }
    drop(here.remove(0));
    presence.flush().await;
    for (round, mut watch, mut told) in watches {
        while !matches!(told.last(), Some(WatchEvent::Changed(Event::Left { .. }))) {
            told.push(in_time(watch.next()).await);
        }
        let told = told.iter().map(|event| match event {
            WatchEvent::State(state) => format!("{} are here", state.n_metas()),
            WatchEvent::Changed(Event::Joined { meta, .. }) => format!("joined {}", meta.key()),
            WatchEvent::Changed(Event::Left { meta, .. }) => format!("left {}", meta.key()),
            other => format!("{other:?}"),
        });
        let joined = (round + 1..=3).map(|later| format!("joined user-{later}"));
        let expected = std::iter::once(format!("{round} are here"))
            .chain(joined)
            .chain(["left user-1".to_owned()]);
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
    drop(attachments);
}
