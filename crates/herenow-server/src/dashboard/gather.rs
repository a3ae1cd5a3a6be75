//! [`Gatherer`]: the one task that knows how all nodes do, while somebody looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use herenow_presence::{ClusterStatus, NodeStatus};
use herenow_pubsub::{Link, LinkError, Payload, PubSub};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::channels::{FIGURES, OVERVIEW};
use super::figures::{Figures, Rates, rate};
use super::link::{Heard, Message};
use super::overview::{ClusterShown, NodeShown, Overview, RefusedShown};
use crate::api::Api;
use crate::links;

/// How often the nodes are asked, and the dashboards told.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the other nodes have to answer before a dashboard that was just opened is told of them.
const FIRST_ANSWERS: Duration = Duration::from_millis(100);
/// An answer that is older says nothing about the node any more.
const FRESH: Duration = Duration::from_millis(3_500);
/// Own figures that are younger are good for the next who asks, too.
const REUSED: Duration = Duration::from_millis(250);
/// Topics that are shown.
const MAX_TOPICS: usize = 50;

/// The task, and how it is told that somebody looks.
#[derive(Debug)]
pub(super) struct Gatherer {
    interest: Interest,
    end: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// How many look, and what was shown to them last. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Interest {
    n_lookers: watch::Sender<usize>,
    latest: Arc<Mutex<Option<Bytes>>>,
}

/// Somebody who looks, as long as it is held.
#[derive(Debug)]
pub(super) struct Looking(Interest);

impl Interest {
    /// Begins to look; also returns what the others see at the moment, if there are any.
    pub(super) fn look(&self) -> (Looking, Option<Bytes>) {
        self.n_lookers.send_modify(|n| *n += 1);
        (Looking(self.clone()), self.latest.lock().clone())
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.n_lookers.send_modify(|n| *n -= 1);
    }
}

impl Gatherer {
    /// Starts the task, which broadcasts on `local`.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if this node has one already.
    pub(super) fn start(api: &Arc<Api>, local: &PubSub) -> Result<Self, LinkError> {
        let (heard, inbox) = Heard::new();
        let link = api.presence.pubsub().link("dashboard", Arc::new(heard))?;
        let (n_lookers, looking) = watch::channel(0);
        let interest = Interest {
            n_lookers,
            latest: Arc::default(),
        };
        let gathering = Gathering {
            api: api.clone(),
            link,
            local: local.clone(),
            latest: interest.latest.clone(),
            own: Answer::default(),
            others: HashMap::new(),
            flow: None,
        };
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(gathering.run(looking, inbox, ended));
        Ok(Self {
            interest,
            end: Mutex::new(Some((end, task))),
        })
    }

    pub(super) fn interest(&self) -> Interest {
        self.interest.clone()
    }

    /// Ends the task.
    pub(super) async fn close(&self) {
        let Some((end, task)) = self.end.lock().take() else {
            return;
        };
        drop(end);
        if let Err(error) = task.await {
            tracing::error!(%error, "the task of the dashboard has failed");
        }
    }
}

/// What a node said last.
#[derive(Debug, Default)]
struct Answer {
    figures: Figures,
    at: Option<Instant>,
    rates: Option<Rates>,
}

impl Answer {
    fn take(&mut self, figures: Figures) {
        // Two who ask at once may get the same figures; what they say of rates stands.
        if self.at.is_none() || figures.uptime_ms != self.figures.uptime_ms {
            let before = self.at.is_some().then_some(&self.figures);
            self.rates = before.and_then(|before| Rates::between(before, &figures));
        }
        (self.figures, self.at) = (figures, Some(Instant::now()));
    }

    fn is_younger_than(&self, age: Duration) -> bool {
        self.at.is_some_and(|at| at.elapsed() < age)
    }
}

/// What the task owns.
#[derive(Debug)]
struct Gathering {
    api: Arc<Api>,
    link: Link,
    local: PubSub,
    latest: Arc<Mutex<Option<Bytes>>>,
    own: Answer,
    others: HashMap<String, Answer>,
    /// Joins and leaves of all nodes so far, and when that was.
    flow: Option<(u64, u64, Instant)>,
}

impl Gathering {
    async fn run(
        mut self,
        mut looking: watch::Receiver<usize>,
        mut inbox: mpsc::Receiver<(String, Message)>,
        mut ended: oneshot::Receiver<()>,
    ) {
        let mut due: Option<Instant> = None;
        loop {
            let tick = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut ended => return,
                Ok(()) = looking.changed() => {
                    if due.is_none() && *looking.borrow() > 0 {
                        self.ask();
                        due = Some(Instant::now() + FIRST_ANSWERS);
                    }
                }
                Some((from, message)) = inbox.recv() => self.hear(from, message).await,
                () = tick => {
                    let is_looked_at = *looking.borrow() > 0;
                    due = is_looked_at.then(|| Instant::now() + PERIOD);
                    if is_looked_at {
                        self.show().await;
                        self.ask();
                    } else {
                        self.forget();
                    }
                }
            }
        }
    }

    /// Asks the other nodes how they do.
    fn ask(&self) {
        // Refused: they are shown as silent after a while, and the engine says why in the log.
        if let Err(error) = self.link.broadcast(links::encode(&Message::Look)) {
            tracing::debug!(%error, "nodes not asked for figures");
        }
    }

    async fn hear(&mut self, from: String, message: Message) {
        match message {
            Message::Look => {
                if !self.own.is_younger_than(REUSED) {
                    let status = self.api.presence.cluster().await;
                    self.own.take(Figures::of(&self.api, &status));
                }
                let figures = Message::Figures(Box::new(self.own.figures.clone()));
                if let Err(error) = self.link.send(&from, links::encode(&figures)) {
                    tracing::debug!(peer = from, %error, "figures not sent");
                }
            }
            Message::Figures(figures) => {
                // Nobody looks any more, or there are more nodes than a cluster can have.
                let is_known = self.others.contains_key(&from);
                let max = self.api.presence.config().shard.max_peers;
                if is_known || self.others.len() < max {
                    self.others.entry(from).or_default().take(*figures);
                }
            }
        }
    }

    /// Tells the dashboards how all nodes do.
    async fn show(&mut self) {
        let status = self.api.presence.cluster().await;
        self.own.take(Figures::of(&self.api, &status));
        let is_there = |name: &String| status.nodes.iter().any(|node| node.node.as_str() == name);
        self.others.retain(|name, _| is_there(name));
        let (joins, leaves) = self.flow();
        let overview = serde_json::to_vec(&self.overview(&status, joins, leaves));
        let bytes = Bytes::from(overview.expect("an overview has texts for keys"));
        *self.latest.lock() = Some(bytes.clone());
        self.local
            .local_broadcast(OVERVIEW, FIGURES, Payload::Json(bytes));
    }

    fn overview<'a>(
        &'a self,
        status: &'a ClusterStatus,
        joins: Option<f64>,
        leaves: Option<f64>,
    ) -> Overview<'a> {
        let presence = &self.api.presence;
        let stats = presence.stats();
        let cluster = self.api.cluster.as_deref();
        let topics = presence.largest_topics(MAX_TOPICS).into_iter();
        Overview {
            node: presence.pubsub().node_name(),
            cluster: cluster.map(|cluster| ClusterShown {
                name: &cluster.name,
                engine: cluster.engine.as_str(),
                authenticated: cluster.has_secret,
            }),
            n_presences: stats.n_presences,
            n_topics: stats.n_topics,
            joins,
            leaves,
            nodes: status.nodes.iter().map(|node| self.node(node)).collect(),
            refused: self.refused(status),
            topics: topics.map(|(topic, n)| (topic.to_string(), n)).collect(),
        }
    }

    fn node<'a>(&'a self, node: &'a NodeStatus) -> NodeShown<'a> {
        let name = node.node.as_str();
        let answer = match node.is_self {
            true => Some(&self.own),
            false => self.others.get(name),
        };
        let answer = answer.filter(|answer| node.is_up && answer.is_younger_than(FRESH));
        let state = match answer {
            _ if !node.is_up => "down",
            Some(answer) => &answer.figures.state,
            // The first answer is on its way.
            None if node.since < FRESH || !self.has_shown() => "up",
            None => "silent",
        };
        NodeShown {
            node: name,
            is_self: node.is_self,
            state,
            since_ms: u64::try_from(node.since.as_millis()).unwrap_or(u64::MAX),
            n_presences: node.n_rows,
            figures: answer.map(|answer| &answer.figures),
            rates: answer.and_then(|answer| answer.rates),
        }
    }

    /// Whether anything was shown since somebody looks.
    fn has_shown(&self) -> bool {
        self.latest.lock().is_some()
    }

    /// Nodes that are not let in, and why.
    fn refused(&self, status: &ClusterStatus) -> Vec<RefusedShown> {
        let sealed = self.api.cluster.as_deref();
        let sealed = sealed.map(|cluster| cluster.sealed.refused());
        let strangers = sealed.unwrap_or_default().into_iter();
        let strangers = strangers.map(|peer| RefusedShown {
            node: peer.peer.to_string(),
            why: peer.refusal.to_string(),
        });
        let n_ours = status.n_shards;
        let misfits = status.misfits.iter().map(|(node, n_theirs)| RefusedShown {
            node: node.to_string(),
            why: format!("presence.n_shards is {n_theirs} there and {n_ours} here"),
        });
        strangers.chain(misfits).collect()
    }

    /// Joins and leaves per second since the last time.
    fn flow(&mut self) -> (Option<f64>, Option<f64>) {
        let stats = self.api.presence.stats();
        let now = (stats.n_joins, stats.n_leaves, Instant::now());
        let Some((joins, leaves, then)) = self.flow.replace(now) else {
            return (None, None);
        };
        let elapsed = now.2.duration_since(then);
        (rate(joins, now.0, elapsed), rate(leaves, now.1, elapsed))
    }

    /// Nobody looks: what was known gets old, and rates over a pause are none.
    fn forget(&mut self) {
        self.others.clear();
        self.own = Answer::default();
        self.flow = None;
        *self.latest.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use herenow_presence::Presence;
    use herenow_pubsub::{MemoryCluster, Subscription};
    use serde_json::Value;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Node {
        local: PubSub,
        gatherer: Gatherer,
        presence: Presence,
    }

    impl Node {
        fn start(cluster: &MemoryCluster, name: &str) -> Self {
            let pubsub = PubSub::new(cluster.adapter(name));
            let api = Arc::new(Api::for_tests(&pubsub));
            let presence = api.presence.clone();
            let local = PubSub::local();
            let gatherer = Gatherer::start(&api, &local).unwrap();
            Self {
                local,
                gatherer,
                presence,
            }
        }

        fn open(&self) -> (Looking, Subscription) {
            let subscription = self.local.subscribe(OVERVIEW);
            (self.gatherer.interest.look().0, subscription)
        }
    }

    /// Waits until the dashboard is told of nodes that fit.
    async fn told(subscription: &mut Subscription, fits: impl Fn(&[Value]) -> bool) {
        let waiting = async {
            loop {
                let broadcast = subscription.recv().await.unwrap();
                let Payload::Json(json) = &broadcast.payload else {
                    panic!("figures are JSON");
                };
                let overview: Value = serde_json::from_slice(json).unwrap();
                if fits(overview["nodes"].as_array().unwrap()) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }

    #[tokio::test]
    async fn srv_794_every_node_shows_all_nodes_with_their_own_figures() {
        let cluster = MemoryCluster::new();
        let (a, b) = (Node::start(&cluster, "a"), Node::start(&cluster, "b"));
        let _here = b.presence.track_on("room:1", "ada", ()).await;
        let is_complete = |node: &Value| {
            node["state"] == "ready"
                && node["rates"].is_object()
                && node["figures"]["n_peers_up"] == 1
                && node["figures"]["n_lag"] == 0
        };
        for (node, name, other) in [(&a, "a", "b"), (&b, "b", "a")] {
            let (_looking, mut subscription) = node.open();
            told(&mut subscription, |nodes| {
                nodes.len() == 2
                    && (&nodes[0]["node"], &nodes[1]["node"]) == (&name.into(), &other.into())
                    && nodes.iter().all(is_complete)
            })
            .await;
        }
        cluster.partition(&["a"]);
        cluster.report_gone("b");
        let (_looking, mut subscription) = a.open();
        told(&mut subscription, |nodes| {
            nodes[1]["state"] == "down" && nodes[1]["figures"].is_null()
        })
        .await;
    }

    #[tokio::test]
    async fn srv_795_a_node_that_does_not_answer_is_silent_and_nothing_is_kept_for_nobody() {
        let cluster = MemoryCluster::new();
        let a = Node::start(&cluster, "a");
        // Of a version that has no dashboard.
        let _b = Presence::new(&PubSub::new(cluster.adapter("b")));
        let (looking, mut subscription) = a.open();
        told(&mut subscription, |nodes| {
            nodes.len() == 2 && nodes[1]["state"] == "up"
        })
        .await;
        told(&mut subscription, |nodes| nodes[1]["state"] == "silent").await;
        let interest = a.gatherer.interest();
        assert!(interest.latest.lock().is_some());
        drop(looking);
        let forgotten = async {
            let mut looks = tokio::time::interval(Duration::from_millis(10));
            while interest.latest.lock().is_some() {
                looks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, forgotten).await.unwrap();
        a.gatherer.close().await;
        a.gatherer.close().await;
    }
}
