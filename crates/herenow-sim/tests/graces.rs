//! Grace at the level of the cluster: restarts that readers do not see.
//!
//! Everything is done through a [`Simulation`], so every invariant is checked all the while.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::collections::BTreeSet;
use std::time::Duration;

use herenow_core::{Grace, Key, Meta, OwnerId, ShardConfig, Topic};
use herenow_sim::{NodeIndex, Simulation, Weather, Write};

const N_USERS: usize = 24;
/// The nodes that restart; the last one only watches.
const N_NODES: usize = 3;
const WATCHER: NodeIndex = NodeIndex(N_NODES);

fn room() -> Topic {
    Topic::new("room").unwrap()
}

fn name(user: usize) -> String {
    format!("user-{user:02}")
}

fn track(user: usize, owner: u64) -> Write {
    Write::Track {
        owner: OwnerId(owner),
        topic: room(),
        key: Key::new(name(user)).unwrap(),
        meta: Meta::new("{}").unwrap(),
    }
}

fn config() -> ShardConfig {
    let mut config = ShardConfig::default();
    let grace = Grace::of(Duration::from_secs(8));
    config.graces = vec![("room".to_owned(), grace)];
    config
}

/// Loses one frame of ten, doubles some, and lets most overtake each other.
fn bad_weather() -> Weather {
    let mut weather = Weather::clear();
    weather.latency.1 = Duration::from_millis(50);
    weather.lost = 100;
    weather.doubled = 100;
    weather.late = 300;
    weather.lateness = Duration::from_millis(500);
    weather
}

/// Users on nodes, each of which moves when its node ends.
struct Deploy {
    simulation: Simulation,
    /// The node and the owner of each user.
    places: Vec<(usize, u64)>,
    n_owners: u64,
}

impl Deploy {
    fn new(seed: u64) -> Self {
        let simulation = Simulation::new(&config(), N_NODES + 1, bad_weather(), seed);
        let mut deploy = Self {
            simulation,
            places: Vec::new(),
            n_owners: 0,
        };
        deploy.simulation.pass(Duration::from_secs(5)).unwrap();
        for user in 0..N_USERS {
            deploy.places.push((0, 0));
            deploy.join(user, user % N_NODES);
        }
        deploy.simulation.pass(Duration::from_secs(5)).unwrap();
        deploy
    }

    fn join(&mut self, user: usize, node: usize) {
        self.n_owners += 1;
        let write = track(user, self.n_owners);
        self.simulation.write(NodeIndex(node), &write).unwrap();
        self.places[user] = (node, self.n_owners);
    }

    /// Lets time pass, and looks all the while whether the watcher still sees everybody.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(10) {
            self.simulation.pass(Duration::from_millis(10)).unwrap();
            assert_eq!(
                self.listed(WATCHER).len(),
                N_USERS,
                "at {:?}",
                self.simulation.cluster().now()
            );
        }
    }

    fn listed(&self, at: NodeIndex) -> BTreeSet<String> {
        let node = self.simulation.cluster().node(at).expect("it runs");
        let rows = node
            .shard()
            .rows_of_topic(&room())
            .cloned()
            .collect::<Vec<_>>();
        rows.iter().map(|row| row.key().to_string()).collect()
    }

    fn users_on(&self, node: usize) -> Vec<usize> {
        let users = self.places.iter().enumerate();
        users
            .filter(|(_, (on, _))| *on == node)
            .map(|(user, _)| user)
            .collect()
    }
}

#[test]
fn shd_611_a_rolling_restart_in_bad_weather_is_seen_by_no_reader() {
    for seed in 0..20 {
        let mut deploy = Deploy::new(seed);
        assert_eq!(deploy.listed(WATCHER).len(), N_USERS);
        for node in 0..N_NODES {
            let moving = deploy.users_on(node);
            assert!(!moving.is_empty());
            for user in &moving {
                let owner = OwnerId(deploy.places[*user].1);
                let end = Write::OwnerEnd { owner };
                deploy.simulation.write(NodeIndex(node), &end).unwrap();
            }
            deploy.pass(20);
            deploy.simulation.leave(NodeIndex(node));
            deploy.pass(200);
            // The first half go elsewhere, the others wait until the node is back.
            let (first, second) = moving.split_at(moving.len() / 2);
            for user in first {
                deploy.join(*user, (node + 1) % N_NODES);
                deploy.pass(50);
            }
            deploy.simulation.restart(NodeIndex(node));
            deploy.pass(2_500);
            let known = deploy.listed(NodeIndex(node));
            assert_eq!(
                known.len(),
                N_USERS,
                "a node that starts is told whom others hold"
            );
            for user in second {
                deploy.join(*user, node);
                deploy.pass(50);
            }
            deploy.pass(3_000);
        }
    }
}

#[test]
fn shd_612_who_does_not_come_back_after_a_restart_leaves_everywhere() {
    let mut deploy = Deploy::new(7);
    deploy.simulation.leave(NodeIndex(0));
    deploy.pass(1_000);
    deploy.simulation.restart(NodeIndex(0));
    deploy.simulation.calm().unwrap();
    let gone = deploy.users_on(0).len();
    for at in 0..=N_NODES {
        assert_eq!(deploy.listed(NodeIndex(at)).len(), N_USERS - gone);
    }
}
