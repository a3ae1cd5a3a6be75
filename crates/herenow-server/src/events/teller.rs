//! [`Teller`]: which events a diff is, who has to tell of them, and their numbers.
//!
//! Every node sees all changes of the cluster. What this node saw goes to those who listen here. What
//! it has to tell goes to the webhooks, so that an event is told by one node:
//!
//! - **joined, updated, left**: the node that the presence is on.
//! - **left** from a node that is down, or lives anew, and cannot say so: the *home* of the topic among the nodes
//!   that are up, without the one that is down. Should the home turn out to be down as well, soon
//!   after, it may not have told: then its successor does, who has kept it for a while.
//! - **topic occupied, topic vacated**: the home of the topic among the nodes that are up, when the
//!   number of presences that it knows leaves zero or comes to it. The home is one node for a topic
//!   while the nodes stay the same, so the two alternate.
//! - **joined** because a node that was down is back: who told that its presences left, and who alone
//!   knows that it did.
//!
//! The home of a topic is the node with the greatest hash of topic and name: when a node goes, only
//! its own topics get another home. What "up" means is what this node's shard knew when it happened.
//! So while nodes disagree, in the moment in which one comes or goes, and in a network that is cut in
//! two, something can be told twice or not at all; docs/events.md says what, and what to do.
//!
//! A node that is still joining its cluster learns of presences that have been there for long, which
//! do not occupy anything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herenow_presence::{
    Event, HandleMetas, LeaveReason, MetaRef, NodeName, PresenceDiff, PresenceMeta, Presences,
    Topic,
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::event::{Kind, Loss, Record, Told, Who, reason_word};
use super::journal::Journal;
use super::queue::Queue;
use crate::health::Ready;

/// Presences of nodes that are down that are remembered, in each of two generations.
const MAX_HIDDEN: usize = 500_000;
/// How long they are, at least; a node that is down for longer is forgotten by its peers as well.
const HIDDEN_TIME: Duration = Duration::from_secs(20 * 60);
/// Events that another node is to tell that are kept in case it does not.
const MAX_OWED: usize = 100_000;

/// See the module's documentation.
pub(crate) struct Teller {
    node: String,
    ready: Ready,
    queues: Vec<Arc<Queue>>,
    journal: Arc<Journal>,
    /// What the ids of this life's events begin with, as webhooks have them.
    life: String,
    state: Mutex<State>,
    /// How long a node that is down may be taken for up.
    down_period: Duration,
    n_missed: AtomicU64,
}

struct State {
    /// Of what this node tells the webhooks.
    own: Numbers,
    /// Of what it tells those who listen, with the round of their journal.
    seen: Numbers,
    round: u64,
    hidden: Hidden,
    owed: VecDeque<Owed>,
    /// The nodes that were up in the last diff, of whatever shard.
    nodes: Vec<NodeName>,
}

/// An event of a node that is down, which another node is to tell.
struct Owed {
    since: Instant,
    /// Who is to tell.
    by: String,
    /// Whose presence it was.
    node: NodeName,
    meta_ref: MetaRef,
    record: Record,
}

/// Numbers of events. Those of a topic ascend by one as long as somebody is in it; whoever comes
/// after that begins above all numbers that there were.
#[derive(Default)]
struct Numbers {
    n_told: u64,
    topics: HashMap<Topic, u64>,
}

/// Presences that this node said had left because their node is down, and whether it told so.
struct Hidden {
    young: HashMap<MetaRef, bool>,
    old: HashMap<MetaRef, bool>,
    since: Instant,
}

/// What a diff is told as.
#[derive(Default)]
struct Telling {
    own: Vec<Record>,
    seen: Vec<Record>,
    owed: Vec<Owed>,
}

/// An event of a presence, as it is to be told.
struct Change<'a> {
    kind: Kind,
    reason: &'static str,
    who: Who<'a>,
    /// Whether this node tells of it.
    is_own: bool,
    /// Whether this node tells what it means for the topic.
    is_topics: bool,
    /// Who tells it, if its own node cannot and this one is not to.
    teller: Option<&'a str>,
}

impl Teller {
    pub(super) fn new(
        node: &str,
        ready: &Ready,
        queues: Vec<Arc<Queue>>,
        journal: Arc<Journal>,
        down_period: Duration,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            node: node.to_owned(),
            ready: ready.clone(),
            queues,
            journal,
            life: format!("{:016x}", now.unwrap_or_default().as_nanos()),
            state: Mutex::new(State {
                own: Numbers::default(),
                seen: Numbers::default(),
                round: 0,
                hidden: Hidden {
                    young: HashMap::new(),
                    old: HashMap::new(),
                    since: Instant::now(),
                },
                owed: VecDeque::new(),
                nodes: Vec::new(),
            }),
            down_period,
            n_missed: AtomicU64::new(0),
        }
    }

    /// Returns how many events were left out because this node was too busy.
    pub(super) fn n_missed(&self) -> u64 {
        self.n_missed.load(Ordering::Relaxed)
    }

    fn tell(&self, diff: &PresenceDiff, n_after: usize) {
        let mut state = self.state.lock();
        let round = self.journal.round();
        let is_heard = round.is_some();
        if let Some(round) = round.filter(|round| *round != state.round) {
            state.round = round;
            state.seen.topics.clear();
        }
        if !state.nodes.iter().eq(diff.nodes()) {
            state.nodes = diff.nodes().cloned().collect();
            self.tell_what_is_owed(&mut state);
        }
        let telling = self.telling(diff, n_after, is_heard, &mut state.hidden);
        let topic = diff.topic();
        self.tell_webhooks(&mut state.own, &telling.own);
        state.owed.extend(telling.owed);
        let n_excess = state.owed.len().saturating_sub(MAX_OWED);
        drop(state.owed.drain(..n_excess));
        let first = state.seen.take(topic, telling.seen.len());
        let records = telling.seen.into_iter().zip(first.seq..);
        let records: Vec<(Record, u64)> = records.collect();
        if !records.is_empty() {
            self.journal.push(&records);
        }
        if n_after == 0 {
            state.own.topics.remove(topic);
            state.seen.topics.remove(topic);
        }
    }

    /// Tells webhooks of events of one topic.
    fn tell_webhooks(&self, numbers: &mut Numbers, records: &[Record]) {
        let Some(record) = records.first() else {
            return;
        };
        let first = numbers.take(&record.topic, records.len());
        for (at, record) in (0..).zip(records) {
            let id = format!("{}-{}", self.life, first.n_told + at);
            for queue in &self.queues {
                queue.push(record, &id, first.seq + at);
            }
        }
    }

    /// Tells what nodes were to tell that are down now themselves, if this one is their successor.
    fn tell_what_is_owed(&self, state: &mut State) {
        for mut owed in std::mem::take(&mut state.owed) {
            if owed.since.elapsed() > self.down_period * 2 {
                continue; // Whoever was to tell it has.
            }
            let is_up = |name: &str| state.nodes.iter().any(|node| node.as_str() == name);
            if !is_up(&owed.by) {
                let others = state.nodes.iter().filter(|node| **node != owed.node);
                owed.by = home_of(&owed.record.topic, others).map_or_else(String::new, Into::into);
            }
            if owed.by == self.node {
                state.hidden.put(owed.meta_ref, true);
                self.tell_webhooks(&mut state.own, &[owed.record]);
            } else {
                state.owed.push_back(owed);
            }
        }
    }

    /// Makes records of a diff, for the webhooks and for those who listen, if anybody does.
    fn telling(
        &self,
        diff: &PresenceDiff,
        n_after: usize,
        is_heard: bool,
        hidden: &mut Hidden,
    ) -> Telling {
        let (mut telling, mut n_presences) = (Telling::default(), count_before(diff, n_after));
        for (at, event) in diff.timed_events() {
            let Some(change) = self.change(diff, event, hidden) else {
                continue;
            };
            let n_before = n_presences;
            match change.kind {
                Kind::Joined => n_presences += 1,
                Kind::Left => n_presences = n_presences.saturating_sub(1),
                Kind::Updated | Kind::Occupied | Kind::Vacated => {}
            }
            let topics = match (n_before, n_presences) {
                (0, 1) => Some(Kind::Occupied),
                (1, 0) => Some(Kind::Vacated),
                _ => None,
            };
            let (is_own, is_topics, reason) = (change.is_own, change.is_topics, change.reason);
            let (meta, teller) = (change.who.meta, change.teller);
            let node = meta.node().as_str();
            let its = Told {
                kind: change.kind,
                topic: diff.topic(),
                at,
                node,
                reason,
                n_presences,
                who: Some(change.who),
            };
            let of_topic = |kind| Told {
                kind,
                who: None,
                node: &self.node,
                ..its
            };
            let mut add = |told: &Told<'_>, is_own: bool| {
                if is_heard {
                    telling.seen.push(Record::new(told));
                }
                if is_own && !self.queues.is_empty() {
                    telling.own.push(Record::new(told));
                }
                if let Some(by) = teller.filter(|_| !self.queues.is_empty()) {
                    telling.owed.push(Owed {
                        since: Instant::now(),
                        by: by.to_owned(),
                        node: meta.node().clone(),
                        meta_ref: meta.meta_ref(),
                        record: Record::new(told),
                    });
                }
            };
            // A topic is occupied before somebody is in it, and vacated after the last one has left.
            match topics {
                Some(Kind::Occupied) => {
                    add(&of_topic(Kind::Occupied), is_topics);
                    add(&its, is_own);
                }
                Some(kind) => {
                    add(&its, is_own);
                    add(&of_topic(kind), is_topics);
                }
                None => add(&its, is_own),
            }
        }
        telling
    }

    /// Says what an event is, and whether this node tells of it.
    fn change<'a>(
        &self,
        diff: &'a PresenceDiff,
        event: &'a Event,
        hidden: &mut Hidden,
    ) -> Option<Change<'a>> {
        // An earlier life of this node is another node: it cannot speak any more.
        let is_here =
            |meta: &PresenceMeta| meta.node().as_str() == self.node && diff.has_life_of(meta);
        let home = |without: Option<&NodeName>| {
            let up = diff.nodes().filter(|node| Some(*node) != without);
            home_of(diff.topic(), up)
        };
        let is_home = |without| home(without) == Some(self.node.as_str());
        let who = |meta, before, first, last| Who {
            meta,
            before,
            first,
            last,
        };
        Some(match event {
            Event::Joined { meta, first, .. } => {
                let told = hidden.take(meta.meta_ref());
                let (is_here, is_back) = (is_here(meta), told == Some(true));
                Change {
                    kind: Kind::Joined,
                    reason: told.map_or("tracked", |_| "node_up"),
                    who: who(meta, None, Some(*first), None),
                    is_own: is_here || is_back,
                    is_topics: is_back
                        || told.is_none() && (is_here || self.ready.is_ready()) && is_home(None),
                    teller: None,
                }
            }
            Event::Updated { old, new, .. } => Change {
                kind: Kind::Updated,
                reason: "updated",
                who: who(new, Some(old), None, None),
                is_own: is_here(new),
                is_topics: false,
                teller: None,
            },
            Event::Left {
                meta, last, reason, ..
            } => {
                let is_down = *reason == LeaveReason::NodeDown || !diff.has_life_of(meta);
                let is_lost = is_down && !is_here(meta);
                let home = home(Some(meta.node()).filter(|_| is_lost));
                let is_home = home == Some(self.node.as_str());
                if is_lost {
                    hidden.put(meta.meta_ref(), is_home);
                }
                Change {
                    kind: Kind::Left,
                    reason: reason_word(*reason),
                    who: who(meta, None, None, Some(*last)),
                    is_own: is_here(meta) || is_lost && is_home,
                    is_topics: is_home,
                    teller: home.filter(|_| is_lost && !is_home),
                }
            }
            _ => return None, // A kind of event that there is not yet.
        })
    }
}

impl HandleMetas for Teller {
    async fn handle_metas(&self, _topic: &Topic, diff: &PresenceDiff, presences: &Presences) {
        self.tell(diff, presences.n_metas());
    }

    fn handle_missed(&self, n_events: usize) {
        self.n_missed.fetch_add(n_events as u64, Ordering::Relaxed);
        tracing::warn!(n_events, "too busy to tell of events");
        for queue in &self.queues {
            queue.lose(Loss::Missed, n_events);
        }
        self.journal.lose(n_events);
    }
}

/// How many were in the topic before the diff.
fn count_before(diff: &PresenceDiff, n_after: usize) -> usize {
    let (mut n_joined, mut n_left) = (0, 0);
    for event in diff.events() {
        match event {
            Event::Joined { .. } => n_joined += 1,
            Event::Left { .. } => n_left += 1,
            _ => {}
        }
    }
    (n_after + n_left).saturating_sub(n_joined)
}

/// The node that tells what is of a topic and of nobody.
fn home_of<'a>(topic: &Topic, nodes: impl Iterator<Item = &'a NodeName>) -> Option<&'a str> {
    let mut nodes = nodes.map(NodeName::as_str).peekable();
    let first = nodes.next()?;
    if nodes.peek().is_none() {
        return Some(first); // A node alone is everything's home.
    }
    let weight = |node: &str| {
        let mut hash = Sha256::new();
        hash.update(node);
        hash.update([0]);
        hash.update(topic.as_str());
        <[u8; 32]>::from(hash.finalize())
    };
    let weighed = std::iter::once(first)
        .chain(nodes)
        .map(|node| (weight(node), node));
    weighed.max().map(|(_, node)| node)
}

/// The numbers of the first of some events: among all of the node, and among those of the topic.
struct First {
    n_told: u64,
    seq: u64,
}

impl Numbers {
    /// Takes the numbers of the next events of a topic.
    fn take(&mut self, topic: &Topic, n_events: usize) -> First {
        let n_events = n_events as u64;
        let n_told = self.n_told + 1;
        if n_events == 0 {
            return First { n_told, seq: 0 };
        }
        self.n_told += n_events;
        let seq = match self.topics.get_mut(topic) {
            Some(last) => {
                *last += n_events;
                *last + 1 - n_events
            }
            None => {
                // No topic can have got further than all of them together.
                self.topics.insert(topic.clone(), self.n_told);
                n_told
            }
        };
        First { n_told, seq }
    }
}

impl Hidden {
    fn put(&mut self, meta_ref: MetaRef, is_told: bool) {
        if self.since.elapsed() > HIDDEN_TIME || self.young.len() >= MAX_HIDDEN {
            self.old = std::mem::take(&mut self.young);
            self.since = Instant::now();
        }
        self.young.insert(meta_ref, is_told);
    }

    /// Returns whether this node told that the presence had left, if it had.
    fn take(&mut self, meta_ref: MetaRef) -> Option<bool> {
        if self.young.is_empty() && self.old.is_empty() {
            return None;
        }
        let young = self.young.remove(&meta_ref);
        young.or_else(|| self.old.remove(&meta_ref))
    }
}

#[cfg(test)]
mod tests {
    use herenow_presence::{Presence, PresenceConfig};
    use herenow_pubsub::{MemoryCluster, PubSub};
    use serde_json::{Value, json};

    use super::super::event::Filter;
    use super::super::queue::Next;
    use super::*;
    use crate::config::{EventsConfig, WebhookConfig};

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
        numbers.topics.remove(&one);
        let again = numbers.take(&one, 1);
        assert_eq!((again.seq, again.n_told), (9, 9));
        assert_eq!(numbers.take(&one, 1).seq, 10);
    }

    struct Node {
        name: &'static str,
        presence: Presence,
        queue: Arc<Queue>,
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
            let down_period = PresenceConfig::default().shard.down_period;
            let teller = Teller::new(name, &ready, vec![queue.clone()], journal, down_period);
            let presence = Presence::builder(&PubSub::new(cluster.adapter(name)))
                .handle_metas(teller)
                .start();
            Self {
                name,
                presence: presence.unwrap(),
                queue,
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

        async fn sees(&self, n_topics: usize) {
            while self.presence.topics().len() != n_topics {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.presence.flush().await;
        }
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
        let nodes = ["a", "b", "c"].map(|name| Node::start(&cluster, name));
        let [a, b, c] = &nodes;
        for node in &nodes {
            node.knows(3).await;
        }
        let mut here = Vec::new();
        for n in 0..20 {
            let topic = format!("room:{n}");
            here.push(c.presence.track_on(&topic, "ada", json!({})).await.unwrap());
        }
        for node in &nodes {
            node.sees(20).await;
            node.told();
        }
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
}
