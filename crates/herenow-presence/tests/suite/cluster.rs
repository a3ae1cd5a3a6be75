//! Area T, of several nodes: the driver as a cluster uses it, over the in-process adapter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use herenow_presence::{Here, Presence, PresenceConfig, Watch, WatchEvent, Window};
use herenow_pubsub::{MemoryCluster, PubSub, Receiver};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::*;

const DOWN: Duration = Duration::from_millis(400);
const PERMDOWN: Duration = Duration::from_millis(1500);

/// The periods of the reference's own tests.
fn config() -> PresenceConfig {
    let mut config = PresenceConfig::default();
    config.n_shards = 1.try_into().unwrap();
    config.shard.heartbeat_period = Duration::from_millis(100);
    config.shard.down_period = DOWN;
    config.shard.permdown_period = PERMDOWN;
    config.window = Window::none();
    config
}

struct Node {
    pubsub: PubSub,
    presence: Presence,
}

impl Node {
    fn start(cluster: &MemoryCluster, node: &str) -> Self {
        let pubsub = PubSub::new(cluster.adapter(node));
        let presence = Presence::builder(&pubsub).config(config()).start().unwrap();
        Self { pubsub, presence }
    }

    async fn track(&self, key: &str) -> Here {
        self.presence.track_on(TOPIC, key, json!({})).await.unwrap()
    }

    fn keys(&self) -> Vec<String> {
        let listed = self.presence.list(TOPIC);
        let listed = futures_util::FutureExt::now_or_never(listed).expect("no fetch, no wait");
        listed.keys().iter().map(ToString::to_string).collect()
    }

    async fn until_keys(&self, keys: &[&str]) {
        let node = self.pubsub.node_name();
        eventually(&format!("{node} lists {keys:?}"), || self.keys() == keys).await;
    }
}

fn nodes<const N: usize>(names: [&str; N]) -> (MemoryCluster, [Node; N]) {
    let cluster = MemoryCluster::new();
    let nodes = names.map(|name| Node::start(&cluster, name));
    (cluster, nodes)
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // Time is paused: it passes when nobody has anything to do.
}

/// Counts what one node sends on the presence link.
#[derive(Default)]
struct Listening(AtomicUsize);

impl Receiver for Listening {
    fn receive(&self, _from: &str, _subject: &str, _bytes: Bytes) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn peer_seen(&self, _peer: &str) {}
    fn peer_gone(&self, _peer: &str) {}
}

#[tokio::test(start_paused = true)]
async fn t_01_a_node_sends_one_heartbeat_for_all_its_shards_each_period() {
    let cluster = MemoryCluster::new();
    let heard = Arc::new(Listening::default());
    let listener = PubSub::new(cluster.adapter("listener"));
    let _link = listener.link("presence", heard.clone()).unwrap();
    let pubsub = PubSub::new(cluster.adapter("primary"));
    let mut config = config();
    config.n_shards = 64.try_into().unwrap();
    let _presence = Presence::builder(&pubsub).config(config).start().unwrap();
    // After the one out of turn, for the peer that came.
    pass(Duration::from_millis(50)).await;
    let greeted = heard.0.load(Ordering::Relaxed);
    pass(Duration::from_millis(1000)).await;
    assert_eq!(heard.0.load(Ordering::Relaxed) - greeted, 10);
    assert!(greeted <= 2, "{greeted}");
}

#[tokio::test(start_paused = true)]
async fn t_02_a_deaf_node_catches_up_when_it_hears_again() {
    let cluster = MemoryCluster::new();
    let primary = Node::start(&cluster, "primary");
    cluster.cut("node1", "primary");
    let node1 = Node::start(&cluster, "node1");
    let _here = node1.track("node1").await;
    pass(Duration::from_millis(300)).await;
    assert_eq!(primary.keys(), Vec::<String>::new());
    cluster.heal();
    primary.until_keys(&["node1"]).await;
}

#[tokio::test(start_paused = true)]
async fn t_03_a_deaf_node_gets_all_that_several_others_tracked() {
    let (cluster, [primary, node1, node2]) = nodes(["primary", "node1", "node2"]);
    pass(Duration::from_millis(250)).await;
    cluster.cut("node1", "primary");
    cluster.cut("node2", "primary");
    let _held = [
        node1.track("node1").await,
        node1.track("node1.2").await,
        node2.track("node2").await,
    ];
    node2.until_keys(&["node1", "node1.2", "node2"]).await;
    let mut watch = primary.presence.watch(TOPIC);
    assert!(matches!(in_time(watch.next()).await, WatchEvent::State(state) if state.is_empty()));
    cluster.heal();
    primary.until_keys(&["node1", "node1.2", "node2"]).await;
    let mut joined = Vec::new();
    while joined.len() < 3 {
        let WatchEvent::Changed(event) = in_time(watch.next()).await else {
            panic!("no lag")
        };
        joined.push(event.key().to_string());
    }
    joined.sort();
    assert_eq!(joined, ["node1", "node1.2", "node2"]);
}

#[tokio::test(start_paused = true)]
async fn t_04_the_presences_of_a_nodes_former_life_are_gone_after_its_restart() {
    let (cluster, [primary, node1, node2]) = nodes(["primary", "node1", "node2"]);
    let _held = [
        primary.track("p").await,
        node1.track("old").await,
        node2.track("n2").await,
    ];
    primary.until_keys(&["n2", "old", "p"]).await;
    cluster.kill("node1");
    pass(DOWN + PERMDOWN).await;
    let again = Node::start(&cluster, "node1");
    let _new = again.track("new").await;
    for node in [&primary, &again, &node2] {
        node.until_keys(&["n2", "new", "p"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t_05_down_heal_crash_restart_and_permdown() {
    let (cluster, [primary, node1, node2]) = nodes(["primary", "node1", "node2"]);
    let (_one, _two) = (node1.track("node1").await, node2.track("node2").await);
    primary.until_keys(&["node1", "node2"]).await;
    let refs = list(&primary.presence, TOPIC).await;
    // Suspended: hidden. Resumed: the very same presences.
    cluster.partition(&["node1"]);
    primary.until_keys(&["node2"]).await;
    cluster.heal();
    primary.until_keys(&["node1", "node2"]).await;
    assert_eq!(list(&primary.presence, TOPIC).await, refs);
    // Killed and started again under the same name.
    cluster.kill("node1");
    primary.until_keys(&["node2"]).await;
    let back = Node::start(&cluster, "node1");
    let _back = back.track("node1-back").await;
    primary.until_keys(&["node1-back", "node2"]).await;
    cluster.kill("node1");
    primary.until_keys(&["node2"]).await;
    pass(PERMDOWN + DOWN).await;
    assert_eq!(primary.keys(), ["node2"]);
}

#[tokio::test(start_paused = true)]
async fn t_06_joins_and_leaves_of_two_nodes() {
    let cluster = MemoryCluster::new();
    let primary = Node::start(&cluster, "primary");
    let mut subscription = primary.pubsub.subscribe(TOPIC);
    let _me = primary.track("me").await;
    let me2 = primary.track("me2").await;
    assert_eq!(
        next_json(&mut subscription).await["joins"]["me"]["metas"][0]["x"],
        Value::Null
    );
    assert!(next_json(&mut subscription).await["joins"]["me2"].is_object());
    assert_eq!(primary.presence.stats().n_peers_up, 0);
    let node1 = Node::start(&cluster, "node1");
    let remote = node1
        .presence
        .track_on(TOPIC, "node1", json!({"name": "s1"}))
        .await
        .unwrap();
    let joined = without_refs(next_json(&mut subscription).await);
    assert_eq!(
        joined,
        diff(entry("node1", &[json!({"name": "s1"})]), json!({}))
    );
    primary.until_keys(&["me", "me2", "node1"]).await;
    node1.until_keys(&["me", "me2", "node1"]).await;
    drop(me2);
    assert!(next_json(&mut subscription).await["leaves"]["me2"].is_object());
    drop(remote);
    assert!(next_json(&mut subscription).await["leaves"]["node1"].is_object());
    primary.until_keys(&["me"]).await;
    node1.until_keys(&["me"]).await;
}

async fn next_words(watch: &mut Watch) -> String {
    match in_time(watch.next()).await {
        WatchEvent::State(state) => format!("state of {}", state.n_metas()),
        WatchEvent::Changed(event) => format!("{event:?}"),
        other => format!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn t_07_a_node_that_falls_silent_is_hidden_once_with_the_reason() {
    let (cluster, [primary, node1]) = nodes(["primary", "node1"]);
    let (_local, _remote) = (primary.track("local1").await, node1.track("node1").await);
    primary.until_keys(&["local1", "node1"]).await;
    let mut watch = primary.presence.watch(TOPIC);
    assert_eq!(next_words(&mut watch).await, "state of 2");
    let began = Instant::now();
    cluster.kill("node1");
    let left = next_words(&mut watch).await;
    assert!(
        left.starts_with("Left") && left.contains("NodeDown"),
        "{left}"
    );
    assert!(
        (300..=600).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(primary.keys(), ["local1"]);
    pass(PERMDOWN + DOWN).await;
    assert_eq!(primary.keys(), ["local1"]);
}

#[tokio::test(start_paused = true)]
async fn t_15_a_node_that_shuts_down_is_gone_at_once() {
    let (_cluster, [primary, node1]) = nodes(["primary", "node1"]);
    let _remote = node1.track("node1").await;
    primary.until_keys(&["node1"]).await;
    let began = Instant::now();
    node1.presence.shutdown().await;
    primary.until_keys(&[]).await;
    assert!(
        began.elapsed() < Duration::from_millis(50),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn t_16_a_newcomer_in_a_rolling_update_is_complete_and_not_confused_by_the_dead() {
    let (cluster, [primary, node1]) = nodes(["primary", "node1"]);
    let _here = primary.track("p").await;
    node1.until_keys(&["p"]).await;
    cluster.kill("node1");
    pass(DOWN + Duration::from_millis(200)).await;
    let node2 = Node::start(&cluster, "node2");
    node2.until_keys(&["p"]).await;
    pass(Duration::from_millis(50)).await; // What greets a newcomer is over.
    // In quiet there are heartbeats only: one from each to the other, every period.
    let (before, _) = cluster.n_sent_and_lost();
    pass(Duration::from_secs(2)).await;
    let (after, _) = cluster.n_sent_and_lost();
    assert!(
        after - before <= 42,
        "{} messages in 2 s of quiet",
        after - before
    );
}

#[tokio::test(start_paused = true)]
async fn t_30_peers_are_reported_up_and_down_once_per_change() {
    let (cluster, [primary, node1]) = nodes(["primary", "node1"]);
    let up_and_down = || {
        let stats = primary.presence.stats();
        (stats.n_peers_up, stats.n_peers_down)
    };
    eventually("node1 up", || up_and_down() == (1, 0)).await;
    cluster.partition(&["node1"]);
    eventually("node1 down", || up_and_down() == (1, 1)).await;
    cluster.heal();
    eventually("node1 up again", || up_and_down() == (2, 1)).await;
    pass(Duration::from_secs(3)).await;
    assert_eq!(up_and_down(), (2, 1));
    drop(node1);
}

#[tokio::test(start_paused = true)]
async fn trk_16_a_join_is_on_the_other_node_within_a_flush() {
    let (cluster, [a, b]) = nodes(["a", "b"]);
    pass(Duration::from_millis(250)).await;
    cluster.set_delay(Duration::from_millis(1));
    let mut subscription = b.pubsub.subscribe(TOPIC);
    let began = Instant::now();
    let here = a.track("ada").await;
    next_json(&mut subscription).await;
    assert!(
        began.elapsed() <= Duration::from_millis(10),
        "{:?}",
        began.elapsed()
    );
    here.update(json!({"status": "away"})).await.unwrap();
    let both = without_refs(next_json(&mut subscription).await);
    assert_eq!(both["joins"], entry("ada", &[json!({"status": "away"})]));
    assert_eq!(both["leaves"], entry("ada", &[json!({})]));
    assert_eq!(
        list(&a.presence, TOPIC).await,
        list(&b.presence, TOPIC).await
    );
}

#[tokio::test(start_paused = true)]
async fn trk_17_an_engine_that_reports_a_loss_makes_the_node_down_at_once() {
    let (cluster, [a, b]) = nodes(["a", "b"]);
    let _here = b.track("bob").await;
    a.until_keys(&["bob"]).await;
    cluster.kill("b");
    cluster.report_gone("b");
    let began = Instant::now();
    a.until_keys(&[]).await;
    assert!(
        began.elapsed() < Duration::from_millis(20),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn trk_18_garbage_from_peers_is_counted_and_survived() {
    let cluster = MemoryCluster::new();
    let node = Node::start(&cluster, "node");
    let stranger = PubSub::new(cluster.adapter("stranger"));
    let link = stranger
        .link("presence", Arc::new(Listening::default()))
        .unwrap();
    let frames: [&[u8]; 7] = [
        b"",
        b"\x01",
        b"\x01\x00\x01\x00\x63junk",
        b"\x01\x00\x01\x00\x00\xff\xff\xff",
        b"\x02\x00\x01\x00\x00",
        b"\x09\x00\x01\x00\x00x",
        b"\x02\x00\x40\x00\x00of a node with 64 shards",
    ];
    for frame in frames {
        link.broadcast(Bytes::copy_from_slice(frame)).unwrap();
    }
    eventually("all are counted", || node.presence.stats().n_malformed == 7).await;
    let _here = node.track("ada").await;
    assert_eq!(node.keys(), ["ada"]);
}

/// Follows a topic by its events alone.
async fn follow(watch: &mut Watch, held: &mut BTreeMap<String, usize>) {
    while let Some(event) = futures_util::FutureExt::now_or_never(watch.next()) {
        match event {
            WatchEvent::State(state) => {
                let entries = state.entries();
                *held = entries
                    .iter()
                    .map(|e| (e.key().to_string(), e.metas().len()))
                    .collect();
            }
            WatchEvent::Changed(event) => {
                let key = event.key().to_string();
                let words = format!("{event:?}");
                let n_metas = held.entry(key.clone()).or_default();
                if words.starts_with("Joined") {
                    assert_eq!(words.contains("first: true"), *n_metas == 0, "{words}");
                    *n_metas += 1;
                } else if words.starts_with("Left") {
                    *n_metas -= 1;
                    assert_eq!(words.contains("last: true"), *n_metas == 0, "{words}");
                }
                if *n_metas == 0 {
                    held.remove(&key);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trk_19_nodes_agree_after_loss_partitions_and_churn() {
    for seed in 0..6u64 {
        let (cluster, nodes) = nodes(["a", "b", "c"]);
        let mut dice = seed + 1;
        let mut roll = |below: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 33) % below
        };
        let mut watches: Vec<Watch> = nodes
            .iter()
            .map(|node| node.presence.watch(TOPIC))
            .collect();
        let mut held: Vec<Vec<Here>> = vec![Vec::new(), Vec::new(), Vec::new()];
        let mut followed = vec![BTreeMap::new(); 3];
        cluster.set_loss(4, seed);
        for step in 0..150 {
            let at = roll(3) as usize;
            match roll(6) {
                0..=2 => held[at].push(nodes[at].track(&format!("u{}", roll(8))).await),
                3 if !held[at].is_empty() => {
                    held[at][0].update(json!({"step": step})).await.unwrap();
                }
                4 if !held[at].is_empty() => drop(held[at].remove(0)),
                5 if step % 50 == 49 => cluster.partition(&[["a", "b", "c"][at]]),
                _ => {}
            }
            pass(Duration::from_millis(roll(30))).await;
            for (watch, followed) in watches.iter_mut().zip(&mut followed) {
                follow(watch, followed).await;
            }
        }
        cluster.heal();
        let n_alive: usize = held.iter().map(Vec::len).sum();
        eventually("all nodes list all", || {
            nodes
                .iter()
                .all(|node| node.presence.count(TOPIC) == n_alive)
        })
        .await;
        pass(Duration::from_secs(1)).await;
        let refs = |json: Value| -> Vec<String> {
            let entries = json.as_object().unwrap().values();
            let metas = entries.flat_map(|entry| entry["metas"].as_array().unwrap().clone());
            let mut metas: Vec<String> = metas.map(|meta| meta.to_string()).collect();
            metas.sort();
            metas
        };
        let expected = refs(list(&nodes[0].presence, TOPIC).await);
        assert_eq!(expected.len(), n_alive);
        for (at, node) in nodes.iter().enumerate() {
            assert_eq!(
                refs(list(&node.presence, TOPIC).await),
                expected,
                "seed {seed}"
            );
            follow(&mut watches[at], &mut followed[at]).await;
            let entries = node.presence.list(TOPIC).await.entries();
            let listed: BTreeMap<String, usize> = entries
                .iter()
                .map(|e| (e.key().to_string(), e.metas().len()))
                .collect();
            assert_eq!(followed[at], listed, "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn srv_514_a_node_with_another_number_of_shards_is_refused_and_shown_on_both_sides() {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a");
    let pubsub = PubSub::new(cluster.adapter("b"));
    let mut two_shards = config();
    two_shards.n_shards = 2.try_into().unwrap();
    let b = Presence::builder(&pubsub)
        .config(two_shards)
        .start()
        .unwrap();
    let _here = b.track_on(TOPIC, "bo", json!({})).await.unwrap();
    pass(DOWN).await;
    let misfits = |status: herenow_presence::ClusterStatus| {
        let misfits = status.misfits.into_iter();
        misfits
            .map(|(node, n)| (node.to_string(), n))
            .collect::<Vec<_>>()
    };
    assert_eq!(misfits(a.presence.cluster().await), [("b".to_owned(), 2)]);
    assert_eq!(misfits(b.cluster().await), [("a".to_owned(), 1)]);
    assert_eq!(a.keys(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn srv_515_the_status_shows_who_is_up_since_when_and_how_complete() {
    let (cluster, [a, b]) = nodes(["a", "b"]);
    let _bo = b.track("bo").await;
    a.until_keys(&["bo"]).await;
    let status = a.presence.cluster().await;
    let of_b = status
        .nodes
        .iter()
        .find(|node| node.node.as_str() == "b")
        .unwrap();
    assert!(of_b.is_up && !of_b.is_self);
    assert_eq!((of_b.n_rows, of_b.lag), (1, 0));
    assert_eq!((of_b.replicas[0].version, of_b.replicas[0].seen), (1, 1));
    assert_eq!((status.n_complete(), status.n_incomplete()), (1, 0));
    let own = &b.presence.cluster().await.nodes[0];
    assert!(own.is_self && own.n_rows == 1 && own.incarnation == of_b.incarnation);

    cluster.kill("b");
    pass(DOWN * 2).await;
    let status = a.presence.cluster().await;
    let of_b = status
        .nodes
        .iter()
        .find(|node| node.node.as_str() == "b")
        .unwrap();
    assert!(!of_b.is_up && of_b.since < DOWN * 2);
    assert_eq!(of_b.n_rows, 1, "hidden, not forgotten");
    assert_eq!((status.n_complete(), status.n_incomplete()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn srv_516_saying_bye_ends_presences_elsewhere_and_changes_nothing_here() {
    let (_cluster, [a, b]) = nodes(["a", "b"]);
    let _bo = b.track("bo").await;
    a.until_keys(&["bo"]).await;
    b.presence.say_bye().await;
    let began = Instant::now();
    a.until_keys(&[]).await;
    assert!(
        began.elapsed() < Duration::from_millis(50),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(b.keys(), ["bo"]);
    pass(DOWN * 3).await;
    assert_eq!(a.keys(), [""; 0], "its heartbeats do not bring it back");
}

#[tokio::test(start_paused = true)]
async fn srv_842_a_heartbeat_that_does_not_come_is_counted_until_its_node_is_down() {
    let (cluster, [primary, node1, node2]) = nodes(["primary", "node1", "node2"]);
    let (_one, _two) = (node1.track("one").await, node2.track("two").await);
    primary.until_keys(&["one", "two"]).await;
    let missed = || primary.presence.stats().n_heartbeats_missed;
    pass(DOWN * 3).await;
    assert_eq!(missed(), 0);
    // One that says good-bye is not missed.
    node2.presence.shutdown().await;
    pass(DOWN * 3).await;
    assert_eq!(missed(), 0);
    // One that dies is, for each heartbeat until it is down; then it is not asked for any more.
    cluster.kill("node1");
    pass(DOWN * 3).await;
    let n_due = u64::try_from(DOWN.as_millis() / 100).unwrap();
    assert!((1..=n_due).contains(&missed()), "{}", missed());
    primary.until_keys(&[]).await;
}
