//! Nodes that hold, move and end leases, on paused time.

use herenow_presence::{
    Event, Grace, LeaveReason, PresenceConfig, PresenceMeta, Watch, WatchEvent,
};
use herenow_pubsub::{MemoryCluster, PubSub};
use serde_json::json;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::*;

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

struct Node {
    presence: Presence,
    people: People,
    watch: Watch,
}

impl Node {
    async fn start(cluster: &MemoryCluster, node: &str) -> Self {
        Self::start_with(cluster, node, PresenceConfig::default()).await
    }

    /// With a grace of five minutes.
    async fn with_grace(cluster: &MemoryCluster, node: &str) -> Self {
        let mut config = PresenceConfig::default();
        let grace = Grace::of(Duration::from_mins(5));
        config.shard.graces = vec![("room:*".to_owned(), grace)];
        Self::start_with(cluster, node, config).await
    }

    async fn start_with(cluster: &MemoryCluster, node: &str, config: PresenceConfig) -> Self {
        let pubsub = PubSub::new(cluster.adapter(node));
        let presence = Presence::builder(&pubsub).config(config).start().unwrap();
        let people = People::start(&presence, 10).unwrap();
        let mut watch = presence.watch("room:1");
        assert!(matches!(watch.next().await, WatchEvent::State(_)));
        Self {
            presence,
            people,
            watch,
        }
    }

    async fn put(&self, device: &str) -> Held {
        let meta = json!({ "device": device }).as_object().cloned();
        let change = meta.map_or(Change::Keep, Change::Set);
        self.people.hold(name(), change, MINUTE).await.unwrap()
    }

    /// What happens next, as `+node`, `+node again`, `-node reason`, `-node reason, last`.
    async fn next(&mut self) -> String {
        match self.watch.next().await {
            WatchEvent::Changed(Event::Joined {
                meta, first: true, ..
            }) => {
                format!("+{}", meta.node())
            }
            WatchEvent::Changed(Event::Joined {
                meta, first: false, ..
            }) => {
                format!("+{} again", meta.node())
            }
            WatchEvent::Changed(Event::Left {
                meta, last, reason, ..
            }) => {
                let last = if last { ", last" } else { "" };
                format!("-{} {reason:?}{last}", meta.node())
            }
            other => format!("{other:?}"),
        }
    }
}

fn name() -> Name {
    Name {
        topic: "room:1".to_owned(),
        key: "ada".to_owned(),
    }
}

#[tokio::test]
async fn srv_672_a_lease_moves_to_the_node_that_is_asked_and_back_without_a_gap() {
    let cluster = MemoryCluster::new();
    let mut a = Node::start(&cluster, "a").await;
    let mut b = Node::start(&cluster, "b").await;
    assert!(a.put("tv").await.is_new);
    assert_eq!((a.next().await, b.next().await), ("+a".into(), "+a".into()));
    let elsewhere = b.people.renew(name(), Change::Keep, None).await;
    assert!(matches!(elsewhere, Err(PeopleError::NotHeld)));
    assert_eq!(b.people.other_nodes(&name()), ["a"]);

    assert!(b.put("phone").await.is_new);
    assert_eq!(
        (a.next().await, a.next().await),
        ("+b again".into(), "-a Closed".into())
    );
    assert_eq!(
        (b.next().await, b.next().await),
        ("+b again".into(), "-a Closed".into())
    );
    assert!(!b.put("phone").await.is_new);
    assert!(a.put("tv").await.is_new);
    assert_eq!(
        (b.next().await, b.next().await),
        ("+a again".into(), "-b Closed".into())
    );
    assert_eq!(
        (a.next().await, a.next().await),
        ("+a again".into(), "-b Closed".into())
    );
    assert_eq!(b.people.stats().n_moved.load(Ordering::Relaxed), 1);
    assert_eq!(a.presence.count("room:1"), 1);
}

#[tokio::test]
async fn srv_673_another_node_can_end_a_lease_or_evict_its_user() {
    let cluster = MemoryCluster::new();
    let mut a = Node::start(&cluster, "a").await;
    let mut b = Node::start(&cluster, "b").await;
    a.put("tv").await;
    assert_eq!(b.next().await, "+a");
    assert!(!b.people.end(name()).await.unwrap());
    b.people.end_elsewhere(name()).await.unwrap();
    assert_eq!(b.next().await, "-a Left, last");

    a.put("tv").await;
    assert_eq!(b.next().await, "+a");
    b.people.evict("ada", Some("room:2")).await.unwrap();
    b.people.evict("bob", None).await.unwrap();
    b.people.evict("ada", None).await.unwrap();
    assert_eq!(b.next().await, "-a Evicted, last");
    // They are counted once in the cluster: where they were asked for.
    let n_evicted = |node: &Node| node.people.stats().n_evicted.load(Ordering::Relaxed);
    assert_eq!((n_evicted(&a), n_evicted(&b)), (0, 3));
    for expected in ["+a", "-a Left, last", "+a", "-a Evicted, last"] {
        assert_eq!(a.next().await, expected);
    }
}

/// The metas of the key with their nodes, as a node shows them.
fn shown(node: &Node) -> Vec<(String, Value)> {
    let entry = node.presence.entry("room:1", "ada");
    let metas = entry.iter().flat_map(|entry| entry.metas());
    let show = |meta: &PresenceMeta| {
        let mut json: Value = meta.read().unwrap();
        let fields = json.as_object_mut().unwrap();
        fields.retain(|name, _| !name.starts_with("phx_ref"));
        (meta.node().to_string(), json)
    };
    metas.map(show).collect()
}

/// Time in which all that was sent arrives; it is paused time.
async fn settled() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn srv_1732_a_lease_that_moves_keeps_its_meta_and_since_when_and_takes_no_clients() {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a").await;
    let b = Node::start(&cluster, "b").await;
    let of_client = json!({ "device": "a client's own" });
    let client = a.presence.track_on("room:1", "ada", &of_client);
    let _client = client.await.unwrap();
    let own = ("a".to_owned(), of_client);
    let moved = |node: &str, device: &str| {
        let meta = json!({ "device": device, "online_at": "5" });
        [own.clone(), (node.to_owned(), meta)]
    };
    let meta = json!({ "device": "phone", "online_at": "5" });
    let change = Change::Set(meta.as_object().cloned().unwrap());
    a.people.hold(name(), change, MINUTE).await.unwrap();
    settled().await;
    b.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
    settled().await;
    assert_eq!(shown(&a), moved("b", "phone"));
    b.put("tablet").await;
    settled().await;
    a.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
    settled().await;
    assert_eq!(shown(&b), moved("a", "tablet"));
    b.put("tv").await;
    settled().await;
    assert_eq!(shown(&a), moved("b", "tv"));

    // A newcomer is told who holds what; and what has ended is not taken along.
    let c = Node::start(&cluster, "c").await;
    settled().await;
    c.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
    settled().await;
    assert_eq!(shown(&a), moved("c", "tv"));
    assert!(c.people.end(name()).await.unwrap());
    settled().await;
    b.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
    settled().await;
    let shown = shown(&a);
    assert_eq!((&shown[0], shown.len()), (&own, 2));
    assert_eq!(shown[1].1["device"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn srv_1751_a_lease_keeps_its_meta_also_at_a_node_that_missed_how_it_began() {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a").await;
    let b = Node::start(&cluster, "b").await;
    let meta = json!({ "device": "phone", "online_at": "5" });
    let change = Change::Set(meta.as_object().cloned().unwrap());
    cluster.partition(&["b"]);
    a.people.hold(name(), change, MINUTE).await.unwrap();
    cluster.heal(); // And nobody says that b is back.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        a.people.renew(name(), Change::Keep, None).await.unwrap();
    }
    b.people.hold(name(), Change::Keep, MINUTE).await.unwrap();
    settled().await;
    assert_eq!(shown(&a), [("b".to_owned(), meta)]);
}

#[tokio::test(start_paused = true)]
async fn srv_1733_of_two_nodes_that_could_not_talk_the_one_asked_last_keeps_a_lease() {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a").await;
    let b = Node::start(&cluster, "b").await;
    let nodes = |at: &Node| -> Vec<String> {
        let shown = shown(at).into_iter();
        let mut nodes: Vec<String> = shown.map(|(node, _)| node).collect();
        nodes.sort();
        nodes
    };
    let both_hold = async || {
        cluster.partition(&["b"]);
        b.put("phone").await;
        a.put("phone").await;
        cluster.heal();
        settled().await;
        assert_eq!((nodes(&a), nodes(&b).len()), (nodes(&b), 2));
    };
    both_hold().await;
    cluster.report_seen("b");
    settled().await;
    assert_eq!((nodes(&a), nodes(&b)), (vec!["a".into()], vec!["a".into()]));

    // An engine need not say who is back: the next renewal decides.
    both_hold().await;
    assert!(!b.put("phone").await.is_new);
    settled().await;
    assert_eq!((nodes(&a), nodes(&b)), (vec!["b".into()], vec!["b".into()]));

    // Whoever ends it ends both; also where that is heard later.
    both_hold().await;
    assert!(a.people.end(name()).await.unwrap());
    settled().await;
    assert_eq!((shown(&a), shown(&b)), (Vec::new(), Vec::new()));
    both_hold().await;
    cluster.partition(&["b"]);
    assert!(a.people.end(name()).await.unwrap());
    cluster.heal();
    cluster.report_seen("b");
    settled().await;
    assert_eq!((shown(&a), shown(&b)), (Vec::new(), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn srv_1752_the_end_of_a_lease_ends_its_grace_and_none_of_a_clients_own_presence() {
    let cluster = MemoryCluster::new();
    let a = Node::with_grace(&cluster, "a").await;
    let b = Node::with_grace(&cluster, "b").await;
    let counts = || (a.presence.count("room:1"), b.presence.count("room:1"));
    // A client that was cut off, also one that comes after a lease of its key.
    for _ in 0..2 {
        let client = a.presence.track_on("room:1", "ada", json!({}));
        let client = client.await.unwrap();
        client.end_with(LeaveReason::Closed);
        settled().await;
        drop(client);
        settled().await;
        for node in [&a, &b] {
            assert!(!node.people.end(name()).await.unwrap());
            node.people.end_elsewhere(name()).await.unwrap();
            settled().await;
            assert_eq!(counts(), (1, 1));
        }
        // The lease takes the client's place, and is ended while in grace, on either node.
        for node in [&a, &b] {
            a.put("phone").await;
            tokio::time::sleep(Duration::from_secs(63)).await;
            assert_eq!(a.people.stats().n_leases.load(Ordering::Relaxed), 0);
            assert_eq!(counts(), (1, 1));
            assert!(node.people.end(name()).await.unwrap());
            settled().await;
            assert_eq!(counts(), (0, 0));
            assert!(!node.people.end(name()).await.unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn srv_1752_a_lease_in_grace_whose_node_is_gone_can_be_ended_by_who_knew_of_it() {
    let cluster = MemoryCluster::new();
    let a = Node::with_grace(&cluster, "a").await;
    let b = Node::with_grace(&cluster, "b").await;
    a.put("phone").await;
    settled().await;
    cluster.kill("a");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(b.presence.count("room:1"), 1);
    assert!(b.people.end(name()).await.unwrap());
    settled().await;
    assert_eq!(b.presence.count("room:1"), 0);
}

#[tokio::test(start_paused = true)]
async fn srv_1785_a_lease_whose_node_is_silent_is_known_and_ended_when_it_is_heard_again() {
    let cluster = MemoryCluster::new();
    let a = Node::start(&cluster, "a").await;
    let b = Node::start(&cluster, "b").await;
    let claimant = async || a.people.silent_claimant(name()).await.unwrap();
    assert_eq!(claimant().await, None);
    b.people
        .hold(name(), Change::Keep, Some(Duration::from_hours(1)))
        .await
        .unwrap();
    settled().await;
    assert_eq!(claimant().await, None, "it is heard");
    cluster.partition(&["b"]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(
        (a.presence.count("room:1"), b.presence.count("room:1")),
        (0, 1)
    );
    assert!(!a.people.end(name()).await.unwrap());
    assert_eq!(claimant().await.as_deref(), Some("b"));
    a.people.end_elsewhere(name()).await.unwrap();
    cluster.heal(); // And nobody says that b is back.
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(
        (a.presence.count("room:1"), b.presence.count("room:1")),
        (0, 0)
    );
    assert_eq!(claimant().await, None, "it has ended");
}

/// Counts the warnings of a thread.
#[derive(Clone, Default)]
struct Warned(Arc<AtomicU64>);

impl<S: tracing::Subscriber> Layer<S> for Warned {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let is_warning = *event.metadata().level() == tracing::Level::WARN;
        self.0.fetch_add(u64::from(is_warning), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn srv_1786_what_backends_ask_for_over_a_limit_is_logged_a_few_times_only() {
    // Ten in ten seconds: were this thread held up for a minute, there would be more.
    const FEW: u64 = 100;
    let warned = Warned::default();
    let n_warned = || warned.0.swap(0, Ordering::Relaxed);
    let _guard = tracing_subscriber::registry()
        .with(warned.clone())
        .set_default();
    let a = Node::start(&MemoryCluster::new(), "a").await;
    for n in 0..1_010 {
        let (topic, key) = ("room:1".to_owned(), format!("user {n}"));
        let held = a
            .people
            .hold(Name { topic, key }, Change::Keep, MINUTE)
            .await;
        assert_eq!(held.is_ok(), n < 10, "{n}");
    }
    let n = n_warned();
    assert!((10..FEW).contains(&n), "{n} of 1,000 refused");

    let asked = (0..MAX_COMMANDS + 1_000).map(|_| a.people.end(name()));
    let asked = futures_util::future::join_all(asked).await;
    let is_busy =
        |asked: &&Result<bool, PeopleError>| matches!(asked, Err(PeopleError::Busy { .. }));
    assert_eq!(asked.iter().filter(is_busy).count(), 1_000);
    let n = n_warned();
    assert!(
        (10..FEW).contains(&n),
        "{n} of 1,000 that found too many wait"
    );

    let (heard, _arrivals) = Heard::new(Arc::default());
    for _ in 0..10_000 {
        herenow_pubsub::Receiver::peer_seen(&heard, "b");
    }
    let n = n_warned();
    assert!((10..FEW).contains(&n), "{n} of all that another node said");
}

#[tokio::test]
async fn srv_674_when_the_task_ends_its_presences_leave_and_requests_are_refused() {
    let cluster = MemoryCluster::new();
    let mut a = Node::start(&cluster, "a").await;
    a.put("tv").await;
    a.people.close().await;
    assert_eq!(
        (a.next().await, a.next().await),
        ("+a".into(), "-a Closed, last".into())
    );
    let late = a.people.hold(name(), Change::Keep, MINUTE).await;
    assert!(matches!(late, Err(PeopleError::Closed)));
}
