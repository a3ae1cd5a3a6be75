//! Networks that are cut under joins and leaves, and heal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::network::Network;
use super::{Cluster, DOWN, Engine, LOOK, User, names, until, within};

/// What one machine and all others, with the broker, do not hear any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Neither side hears the other.
    BothWays,
    /// The one is not heard, and hears.
    Outward,
    /// The one does not hear, and is heard.
    Inward,
}

/// How long a cut stays after the lists have followed it. With what they need for that, it is
/// longer than any engine keeps a connection that is silent.
const HOLD: Duration = Duration::from_secs(6);

impl Cluster {
    /// Starts three nodes and the broker, each on a machine of its own.
    async fn start_on_network(engine: Engine) -> Self {
        let network = Network::new(4);
        let names = ["a", "b", "c"];
        let mut cluster = Self::prepare_on(engine, &names, network.machines()).await;
        cluster.network = Some(network);
        for at in 0..3 {
            cluster.start_node(at, &[]);
        }
        for place in &cluster.places {
            place.ready().await;
        }
        cluster
    }

    fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    /// Cuts the third node off from the two others and the broker.
    fn cut_off_the_third(&self, cut: Cut) {
        for other in [0, 1, 3] {
            if cut != Cut::Inward {
                self.network().cut(2, other);
            }
            if cut != Cut::Outward {
                self.network().cut(other, 2);
            }
        }
    }

    /// Waits until every node knows of as many rows as live and lacks none.
    async fn agrees_on(&self, n_alive: usize) {
        for at in 0..self.places.len() {
            let agrees = async {
                loop {
                    let status = self.status(at).await;
                    let nodes = status["nodes"].as_array().unwrap();
                    let is_complete = nodes
                        .iter()
                        .all(|node| node["state"] == "up" && node["lag"] == 0);
                    if n_rows(&status) == n_alive as u64 && is_complete && nodes.len() == 3 {
                        return;
                    }
                    sleep(LOOK).await;
                }
            };
            within("all nodes agree on who lives", agrees).await;
        }
    }
}

/// How many rows a node knows of, by what it says of the cluster.
pub(super) fn n_rows(status: &Value) -> u64 {
    let nodes = status["nodes"].as_array().unwrap().iter();
    nodes.filter_map(|node| node["n_rows"].as_u64()).sum()
}

/// Watches that none of these lists changes for so long.
pub(super) async fn steady(users: &mut [User], time: Duration) {
    for user in &mut *users {
        user.list.mark_unchanged();
    }
    let ends = Instant::now() + time;
    for user in users {
        let left = ends.saturating_duration_since(Instant::now());
        let changed = timeout(left, user.list.changed()).await.is_ok();
        let list = user.list.borrow();
        assert!(!changed, "{} sees a change to {:?}", user.name, *list);
    }
}

fn take(users: &mut Vec<User>, name: &str) {
    let n_before = users.len();
    users.retain(|user| user.name != name); // Dropped: the connection ends.
    assert_eq!(users.len() + 1, n_before, "{name} was there");
}

/// One node is cut off from the two others, and from the broker, under joins and leaves on both
/// sides: each side lists those it reaches. After it heals, all list those who live.
pub(crate) async fn a_cut_heals(engine: Engine, cut: Cut) {
    let cluster = Cluster::start_on_network(engine).await;
    let users = cluster.populate(3).await;
    let (mut rest, mut alone) = super::split(users, "c");
    let began = Instant::now();
    cluster.cut_off_the_third(cut);
    // At once, when neither side knows yet that the other is away.
    take(&mut rest, "a0");
    take(&mut alone, "c0");
    rest.push(cluster.join(1, "b-early").await);
    alone.push(cluster.join(2, "c-early").await);
    until(&rest, &names(&rest)).await;
    until(&alone, &names(&alone)).await;
    let hidden = began.elapsed();
    assert!(
        hidden > DOWN / 2,
        "nothing says that a side is away but its silence"
    );
    // And later, when both do.
    take(&mut rest, "b1");
    take(&mut alone, "c1");
    rest.push(cluster.join(0, "a-late").await);
    alone.push(cluster.join(2, "c-late").await);
    until(&rest, &names(&rest)).await;
    until(&alone, &names(&alone)).await;
    steady(&mut rest, HOLD / 2).await;
    steady(&mut alone, HOLD / 2).await;
    let lasted = began.elapsed();
    cluster.network().heal();
    rest.append(&mut alone);
    let took = until(&rest, &names(&rest)).await;
    cluster.agrees_on(rest.len()).await;
    eprintln!(
        "{engine:?}, {cut:?}: each side listed what it reached {hidden:?} after the cut; \
         every list was right {took:?} after a cut of {lasted:?}"
    );
}

/// Two nodes do not hear each other, and the third hears both: nobody passes on what is another's,
/// so the two list themselves and the third, and the third lists all.
pub(crate) async fn a_cut_between_two_leaves_the_third(engine: Engine) {
    let cluster = Cluster::start_on_network(engine).await;
    let mut users = cluster.populate(2).await;
    cluster.network().cut(1, 2);
    cluster.network().cut(2, 1);
    take(&mut users, "b0");
    take(&mut users, "c0");
    users.push(cluster.join(0, "a-late").await);
    users.push(cluster.join(1, "b-late").await);
    users.push(cluster.join(2, "c-late").await);
    let everybody = names(&users);
    let mut by_node: BTreeMap<&str, Vec<User>> = BTreeMap::new();
    for node in ["a", "b", "c"] {
        let (others, here) = super::split(users, node);
        users = others;
        by_node.insert(node, here);
    }
    let without = |node: &str| -> BTreeSet<String> {
        let listed = everybody.iter().filter(|name| !name.starts_with(node));
        listed.cloned().collect()
    };
    until(&by_node["b"], &without("c")).await;
    until(&by_node["c"], &without("b")).await;
    until(&by_node["a"], &everybody).await;
    for here in by_node.values_mut() {
        steady(here, HOLD / 3).await;
    }
    cluster.network().heal();
    for here in by_node.values() {
        let took = until(here, &everybody).await;
        eprintln!("{engine:?}: the lists of a node were right {took:?} after it healed");
    }
    cluster.agrees_on(everybody.len()).await;
}
