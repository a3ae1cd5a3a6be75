//! Who tells what, and how often.

use herenow_presence::{Here, Presence, PresenceConfig};
use herenow_pubsub::{MemoryCluster, PubSub};
use serde_json::{Value, json};

use super::*;
use crate::config::{EventsConfig, WebhookConfig};
use crate::events::event::Filter;
use crate::events::queue::Next;

#[test]
fn srv_681_a_topic_has_one_home_and_keeps_it_when_another_node_goes() {
    let names = ["a", "b", "c"].map(|name| NodeName::new(name).unwrap());
    let mut n_of_each = [0; 3];
    for n in 0..300 {
        let topic = Topic::new(format!("room:{n}")).unwrap();
        let home = home_of(&topic, names.iter()).unwrap();
        let at = names.iter().position(|name| name.as_str() == home).unwrap();
        n_of_each[at] += 1;
        for gone in names.iter().filter(|name| name.as_str() != home) {
            let left = names.iter().filter(|name| *name != gone);
            assert_eq!(home_of(&topic, left), Some(home));
        }
    }
    assert!(n_of_each.iter().all(|n| *n > 60), "{n_of_each:?}");
    assert_eq!(home_of(&Topic::new("x").unwrap(), [].iter()), None);
}

#[test]
fn srv_682_numbers_of_a_topic_ascend_by_one_and_never_come_again() {
    let mut numbers = Numbers::default();
    let (one, two) = (Topic::new("one").unwrap(), Topic::new("two").unwrap());
    assert_eq!(numbers.take(&one, 2).seq, 1);
    assert_eq!(numbers.take(&two, 1).seq, 3);
    assert_eq!(numbers.take(&one, 3).seq, 3);
    assert_eq!(numbers.take(&two, 2).seq, 4);
    numbers.forget(&one);
    let again = numbers.take(&one, 1);
    assert_eq!((again.seq, again.n_told), (9, 9));
    assert_eq!(numbers.take(&one, 1).seq, 10);
}

struct Node {
    name: &'static str,
    presence: Presence,
    queue: Arc<Queue>,
    teller: Arc<Teller>,
}

impl Node {
    fn start(cluster: &MemoryCluster, name: &'static str) -> Self {
        let config = WebhookConfig {
            max_delay: Duration::ZERO,
            ..WebhookConfig::default()
        };
        let config = Arc::new(config);
        let queue = Arc::new(Queue::new(name.to_owned(), Filter::all(), config));
        let ready = Ready::new();
        ready.become_ready();
        let journal = Journal::new(&EventsConfig::default(), Arc::default());
        let shard = PresenceConfig::default().shard;
        let teller = Teller::new(name, &ready, vec![queue.clone()], journal, &shard);
        let teller = Arc::new(teller);
        let presence = Presence::builder(&PubSub::new(cluster.adapter(name)))
            .handle_metas(teller.clone())
            .start()
            .unwrap();
        tokio::spawn(teller.clone().watch_nodes(presence.clone()));
        Self {
            name,
            presence,
            queue,
            teller,
        }
    }

    /// What it has told since the last time: event, topic and reason.
    fn told(&self) -> Vec<(String, String, String)> {
        let mut told = Vec::new();
        while let Next::Batch(batch) = self.queue.next(Instant::now()) {
            for item in batch.parts.iter().flat_map(|part| &part.items) {
                let event: Value = serde_json::from_slice(&item.json).unwrap();
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                told.push((text("event"), text("topic"), text("reason")));
            }
            self.queue.on_delivered(batch);
        }
        told
    }

    async fn knows(&self, n_nodes: usize) {
        while self.presence.cluster().await.nodes.len() != n_nodes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it takes so many nodes for up.
    async fn knows_up(&self, n_nodes: usize) {
        loop {
            let nodes = self.presence.cluster().await.nodes;
            if nodes.iter().filter(|node| node.is_up).count() == n_nodes {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn sees(&self, n_topics: usize) {
        while self.presence.topics().len() != n_topics {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.presence.flush().await;
    }

    /// Waits until it owes nothing in the place of others any more.
    async fn owes_nothing(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.teller.owed().n_owed > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.teller.owed(), OwedStats::default());
    }
}

/// Three nodes, of which the last has a presence in each of some topics; all of it was told.
async fn three_and_topics(cluster: &MemoryCluster, n_topics: usize) -> ([Node; 3], Vec<Here>) {
    let nodes = ["a", "b", "c"].map(|name| Node::start(cluster, name));
    for node in &nodes {
        node.knows(3).await;
    }
    let mut here = Vec::new();
    for n in 0..n_topics {
        let topic = format!("room:{n}");
        let tracked = nodes[2].presence.track_on(&topic, "ada", json!({})).await;
        here.push(tracked.unwrap());
    }
    for node in &nodes {
        node.sees(n_topics).await;
        node.told();
    }
    (nodes, here)
}

#[tokio::test(start_paused = true)]
async fn srv_703_what_a_dead_node_was_to_tell_of_another_one_is_told_by_its_successor() {
    let cluster = MemoryCluster::new();
    let nodes = ["a", "b", "c", "d"].map(|name| Node::start(&cluster, name));
    let [a, b, c, d] = &nodes;
    for node in &nodes {
        node.knows(4).await;
    }
    let mut here = Vec::new();
    for n in 0..40 {
        let topic = format!("room:{n}");
        here.push(b.presence.track_on(&topic, "ada", json!({})).await.unwrap());
    }
    here.push(
        c.presence
            .track_on("lobby", "bob", json!({}))
            .await
            .unwrap(),
    );
    for node in &nodes {
        node.sees(41).await;
    }
    let occupied = nodes.iter().map(|node| {
        let told = node.told().into_iter();
        told.filter(|(event, ..)| event == "topic_occupied").count()
    });
    let occupied: Vec<usize> = occupied.collect();
    assert_eq!(occupied.iter().sum::<usize>(), 41, "{occupied:?}");
    assert!(occupied.iter().all(|n| *n > 0), "{occupied:?}");

    cluster.kill("b");
    cluster.kill("c"); // Which nobody notices at first.
    cluster.report_gone("b");
    a.sees(1).await;
    d.sees(1).await;
    let mut told = [a.told(), d.told()].concat();
    let n_told = told.len();
    assert!(n_told > 0 && n_told < 80, "{n_told}");
    a.sees(0).await;
    d.sees(0).await;
    told.extend([a.told(), d.told()].concat());
    told.sort();
    let mut expected = Vec::new();
    for topic in (0..40)
        .map(|n| format!("room:{n}"))
        .chain(["lobby".to_owned()])
    {
        for event in ["left", "topic_vacated"] {
            expected.push((event.to_owned(), topic.clone(), "node_down".to_owned()));
        }
    }
    expected.sort();
    assert_eq!(told, expected, "each once");
    assert_eq!(nodes.each_ref().map(|node| node.name), ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn srv_704_who_told_that_users_of_a_node_had_left_tells_that_they_are_back() {
    let cluster = MemoryCluster::new();
    let (nodes, _here) = three_and_topics(&cluster, 20).await;
    let [a, b, c] = &nodes;
    cluster.partition(&["c"]);
    a.sees(0).await;
    b.sees(0).await;
    let gone = [a.told(), b.told()];
    cluster.heal();
    a.sees(20).await;
    b.sees(20).await;
    let back = [a.told(), b.told()];
    let turned = |told: &[(String, String, String)]| {
        let mut told: Vec<_> = told
            .iter()
            .map(|(event, topic, _)| (event.clone(), topic.clone()))
            .collect();
        for (event, _) in &mut told {
            match event.as_str() {
                "left" => *event = "joined".to_owned(),
                "topic_vacated" => *event = "topic_occupied".to_owned(),
                _ => {}
            }
        }
        told.sort();
        told
    };
    assert_eq!(gone[0].len() + gone[1].len(), 40);
    assert!(gone.iter().all(|told| !told.is_empty()));
    for (gone, back) in gone.iter().zip(&back) {
        assert_eq!(turned(gone), turned(back));
        assert!(back.iter().all(|(.., reason)| reason == "node_up"));
    }
    assert_eq!(c.told(), [], "they were there all the while");
}

#[tokio::test(start_paused = true)]
async fn srv_1795_who_told_that_users_are_back_tells_that_they_left_while_nobody_heard_their_node()
{
    let cluster = MemoryCluster::new();
    let (nodes, mut here) = three_and_topics(&cluster, 20).await;
    let [a, b, c] = &nodes;
    cluster.partition(&["c"]);
    a.sees(0).await;
    b.sees(0).await;
    a.told();
    b.told();
    let changed = here.split_off(10);
    for one in &changed {
        one.update(json!({ "changed": true })).await.unwrap();
    }
    here.clear();
    c.sees(10).await;
    cluster.heal();
    a.sees(10).await;
    b.sees(10).await;
    // What c tells is delivered first, which is the worst that can happen.
    let told = [c.told(), a.told(), b.told()].concat();
    let of = |topic: &str, is_meta: bool| -> Vec<&str> {
        let its = told.iter().filter(|(_, its, _)| its == topic);
        let events = its.map(|(event, ..)| event.as_str());
        events
            .filter(|event| event.starts_with("topic") != is_meta)
            .collect()
    };
    for n in 0..20 {
        let topic = format!("room:{n}");
        let (last, last_of_topic) = match n {
            0..10 => (Some("left"), Some("topic_vacated")),
            _ => (Some("updated"), Some("topic_occupied")),
        };
        let (metas, topics) = (of(&topic, true), of(&topic, false));
        assert_eq!(metas.last().copied(), last, "{topic}: {metas:?}");
        assert_eq!(topics.last().copied(), last_of_topic, "{topic}: {topics:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn srv_1714_who_leaves_as_its_node_says_good_bye_is_told_once_by_that_node() {
    let (nodes, here) = three_and_topics(&MemoryCluster::new(), 40).await;
    drop(here);
    nodes[2].presence.say_bye().await;
    let mut told = Vec::new();
    for node in &nodes {
        node.sees(0).await;
        told.push(node.told());
    }
    let lefts = |told: &[(String, String, String)]| {
        let is_left = |(event, ..): &&(String, String, String)| event == "left";
        told.iter().filter(is_left).count()
    };
    assert_eq!(
        (lefts(&told[0]), lefts(&told[1]), lefts(&told[2])),
        (0, 0, 40)
    );
    let mut told = told.concat();
    told.sort();
    let mut expected = Vec::new();
    for n in 0..40 {
        for event in ["left", "topic_vacated"] {
            expected.push((event.to_owned(), format!("room:{n}"), "left".to_owned()));
        }
    }
    expected.sort();
    assert_eq!(told, expected, "each once");
}

#[tokio::test(start_paused = true)]
async fn srv_1744_a_successor_does_not_say_that_users_left_who_are_back() {
    let cluster = MemoryCluster::new();
    let (nodes, _here) = three_and_topics(&cluster, 20).await;
    let [a, b, _c] = &nodes;
    cluster.partition(&["c"]);
    a.sees(0).await;
    b.sees(0).await;
    assert!(a.teller.owed().n_owed > 0);
    cluster.heal();
    a.sees(20).await;
    b.sees(20).await;
    let told = a.told();
    assert!(
        told.len() < 80 && !told.is_empty(),
        "its own share: {told:?}"
    );
    cluster.kill("b");
    cluster.report_gone("b");
    a.knows_up(2).await;
    a.owes_nothing().await;
    assert_eq!(a.told(), [], "all of them are present");
    assert_eq!(a.presence.topics().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn srv_1744_a_successor_does_not_say_that_a_topic_was_vacated_that_somebody_is_in() {
    let cluster = MemoryCluster::new();
    let (nodes, _here) = three_and_topics(&cluster, 20).await;
    let [a, b, _c] = &nodes;
    cluster.kill("c");
    cluster.report_gone("c");
    a.sees(0).await;
    b.sees(0).await;
    let mut here = Vec::new();
    for n in 0..20 {
        let topic = format!("room:{n}");
        here.push(a.presence.track_on(&topic, "bob", json!({})).await.unwrap());
    }
    a.sees(20).await;
    a.told();
    cluster.kill("b");
    cluster.report_gone("b");
    a.knows_up(1).await;
    a.owes_nothing().await;
    let told = a.told();
    assert!(!told.is_empty() && told.len() < 20, "{told:?}");
    assert!(told.iter().all(|(event, ..)| event == "left"), "{told:?}");
    assert_eq!(a.teller.state.lock().own.n_topics(), 20);
}

#[tokio::test(start_paused = true)]
async fn srv_1745_what_a_dead_node_was_to_tell_is_told_though_nothing_else_happens() {
    let cluster = MemoryCluster::new();
    let (nodes, _here) = three_and_topics(&cluster, 20).await;
    let [a, ..] = &nodes;
    cluster.kill("c");
    cluster.kill("b"); // Which has no presences, and is missed after a while.
    cluster.report_gone("c");
    a.sees(0).await;
    let mut told = a.told();
    assert!(!told.is_empty() && told.len() < 40, "{told:?}");
    a.owes_nothing().await;
    told.extend(a.told());
    told.sort();
    told.dedup();
    let n_of = |event: &str| told.iter().filter(|(its, ..)| its == event).count();
    assert_eq!((n_of("left"), n_of("topic_vacated")), (20, 20));
    assert_eq!(a.teller.state.lock().own.n_topics(), 0, "all are empty");
}

#[tokio::test(start_paused = true)]
async fn srv_1746_what_another_node_is_to_tell_is_let_go_when_it_has() {
    let cluster = MemoryCluster::new();
    let (nodes, _here) = three_and_topics(&cluster, 20).await;
    let [a, b, _c] = &nodes;
    cluster.kill("c");
    cluster.report_gone("c");
    a.sees(0).await;
    b.sees(0).await;
    let owed = a.teller.owed();
    assert!(owed.n_owed > 0 && owed.owed_bytes > owed.n_owed, "{owed:?}");
    let began = Instant::now();
    a.owes_nothing().await;
    let keep_time = PresenceConfig::default().shard.down_period * 2;
    let kept = began.elapsed();
    assert!(
        kept <= keep_time + LOOK_PERIOD * 2 && kept * 2 > keep_time,
        "{kept:?}"
    );
    assert_eq!(a.told().len() + b.told().len(), 40, "each once");
}
