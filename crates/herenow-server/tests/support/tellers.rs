//! Who of several nodes tells webhooks what, while nodes come and go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::time::sleep;

use super::hooks::{Mood, Receiver, Request, SECRET};
use super::{Cluster, DOWN, Engine, TOPIC, User, names, signal, split, until};

/// An event, and the node that told it.
struct Told {
    by: String,
    event: Value,
}

impl Told {
    fn is(&self, event: &str, reason: &str) -> bool {
        self.event["event"] == event && self.event["reason"] == reason
    }

    fn key(&self) -> &str {
        self.event["key"].as_str().unwrap()
    }
}

fn told(requests: &[Request]) -> Vec<Told> {
    let told = |request: &Request| {
        let by = request.body["node"].as_str().unwrap().to_owned();
        let events = request.events().to_vec().into_iter();
        let told = events.map(move |event| Told {
            by: by.clone(),
            event,
        });
        told.collect::<Vec<_>>()
    };
    requests.iter().flat_map(told).collect()
}

/// Waits until each of these keys was told of, and returns who told it; all by one node each.
async fn tellers<'a>(
    receiver: &Receiver,
    (event, reason): (&str, &str),
    keys: impl Iterator<Item = &'a User>,
) -> BTreeMap<String, String> {
    let expected: BTreeSet<String> = keys.map(|user| user.name.clone()).collect();
    let found = |requests: &[Request]| {
        let told = told(requests);
        let told = told.iter().filter(|told| told.is(event, reason));
        told.map(|told| (told.key().to_owned(), told.by.clone()))
            .collect::<Vec<_>>()
    };
    let is_complete = |requests: &[Request]| {
        let keys: BTreeSet<String> = found(requests).into_iter().map(|(key, _)| key).collect();
        keys.is_superset(&expected)
    };
    let what = format!("{event} {reason} of {expected:?}");
    let found = found(&receiver.until(&what, is_complete).await);
    let n_found = found.len();
    let by_key: BTreeMap<String, String> = found.into_iter().collect();
    assert_eq!(n_found, by_key.len(), "each is told once: {by_key:?}");
    by_key
}

async fn start(engine: Engine, receiver: &Receiver) -> Cluster {
    let mut cluster = Cluster::prepare(engine, &["a", "b", "c"]).await;
    let url = receiver.url();
    let hooks = ["--webhook-urls", &url, "--webhook-secret", SECRET];
    for at in 0..3 {
        cluster.start_node(at, &hooks);
    }
    for place in &cluster.places {
        place.ready().await;
    }
    cluster
}

/// Three nodes with one webhook: what happens to a user is told by the user's own node, once; when
/// that node is killed, one of the others tells that its users have left; a topic is occupied once,
/// and vacated once.
pub(crate) async fn each_event_is_told_by_one_node(engine: Engine) {
    let receiver = Receiver::start(Mood::Takes).await;
    let cluster = start(engine, &receiver).await;
    let users = cluster.populate(3).await;
    let joined = tellers(&receiver, ("joined", "tracked"), users.iter()).await;
    for (key, by) in &joined {
        assert!(key.starts_with(by.as_str()), "{key} was told by {by}");
    }
    let (rest, lost) = split(users, "c");
    signal(cluster.child(2), "-KILL");
    until(&rest, &names(&rest)).await;
    let left = tellers(&receiver, ("left", "node_down"), lost.iter()).await;
    assert_eq!(left.len(), lost.len(), "nobody else has left: {left:?}");
    let speakers: BTreeSet<&String> = left.values().collect();
    assert_eq!(speakers.len(), 1, "one node speaks for those of a topic");
    assert_ne!(*speakers.first().unwrap(), "c");
    drop(lost);
    drop(rest);
    let vacated = |requests: &[Request]| {
        let mut told = told(requests).into_iter();
        told.any(|told| told.event["event"] == "topic_vacated")
    };
    receiver.until("the topic is vacated", vacated).await;
    // Whoever comes now shows that nothing else was under way.
    let late = [
        cluster.join(0, "a-late").await,
        cluster.join(1, "b-late").await,
    ];
    tellers(&receiver, ("joined", "tracked"), late.iter()).await;
    let again = |requests: &[Request]| {
        let of_topics = told(requests).into_iter().map(|told| told.event);
        let of_topics = of_topics.filter(|event| event["topic"] == TOPIC && event["key"].is_null());
        let of_topics: Vec<Value> = of_topics.map(|event| event["event"].clone()).collect();
        of_topics == ["topic_occupied", "topic_vacated", "topic_occupied"]
    };
    let requests = receiver.until("occupied, vacated, occupied", again).await;
    let n_left = told(&requests)
        .iter()
        .filter(|told| told.event["event"] == "left")
        .count();
    assert_eq!(n_left, 9);
}

/// A node that is frozen has left for the others, which one of them tells; when it goes on, the
/// same one tells that its users are back.
pub(crate) async fn a_node_that_returns_is_told_by_who_told_that_it_was_gone(engine: Engine) {
    let receiver = Receiver::start(Mood::Takes).await;
    let cluster = start(engine, &receiver).await;
    let users = cluster.populate(2).await;
    let everybody = names(&users);
    let (rest, frozen) = split(users, "c");
    signal(cluster.child(2), "-STOP");
    until(&rest, &names(&rest)).await;
    let left = tellers(&receiver, ("left", "node_down"), frozen.iter()).await;
    sleep(DOWN).await; // Frozen for longer than it would take the node for everybody else.
    signal(cluster.child(2), "-CONT");
    until(&rest, &everybody).await;
    let back = tellers(&receiver, ("joined", "node_up"), frozen.iter()).await;
    for user in &frozen {
        assert_eq!(left[&user.name], back[&user.name], "{}", user.name);
    }
}
