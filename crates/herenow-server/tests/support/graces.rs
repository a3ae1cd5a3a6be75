//! What users with a grace see of nodes that restart or are killed: nothing.

use serde_json::json;
use tokio::time::sleep;

use super::cuts::n_rows;
use super::{Cluster, Engine, LOOK, User, names, signal, until, within};

/// Longer than any test.
const TOPICS: [&str; 2] = [
    "--topics",
    r#"[{ pattern = "room:*", presence = true, broadcast = true, grace = "5m" }]"#,
];

async fn start(engine: Engine) -> Cluster {
    let mut cluster = Cluster::prepare(engine, &["a", "b", "c"]).await;
    for at in 0..3 {
        cluster.start_node(at, &TOPICS);
    }
    for place in &cluster.places {
        place.ready().await;
    }
    cluster
}

/// Waits until a node shows so many presences and holds none of them back.
async fn until_all_are_back(cluster: &Cluster, at: usize, n_users: u64) {
    let all_are_back = async {
        loop {
            let status = cluster.status(at).await;
            if n_rows(&status) == n_users && status["grace"]["n_now"] == json!(0) {
                return;
            }
            sleep(LOOK).await;
        }
    };
    within("everybody is back", all_are_back).await;
}

/// Checks that nobody was told that anybody came or went, and that all are still told of who does.
async fn nobody_has_seen_anything(cluster: &Cluster, mut users: Vec<User>) {
    for at in 0..3 {
        until_all_are_back(cluster, at, users.len() as u64).await;
    }
    let witness = cluster.join(0, "witness").await;
    let mut expected = names(&users);
    expected.insert("witness".to_owned());
    until(&users, &expected).await;
    for user in &users {
        let told = user.told.lock().unwrap().clone();
        assert_eq!(told, ["+witness"], "{} was told", user.name);
    }
    users.push(witness);
    let returned = async {
        let mut n_returned = 0;
        for at in 0..3 {
            let grace = cluster.status(at).await["grace"].clone();
            n_returned += grace["n_returned"].as_u64().unwrap();
        }
        n_returned
    };
    let n_returned = within("the counters", returned).await;
    assert!(n_returned > 0, "somebody was away");
}

fn forget_what_was_told(users: &[User]) {
    for user in users {
        user.told.lock().unwrap().clear();
    }
}

/// All nodes are restarted one after the other, also those of the users who watch: nobody is told
/// that anybody came or went.
pub(crate) async fn a_rolling_restart_with_grace_is_not_seen(engine: Engine) {
    let mut cluster = start(engine).await;
    let users = cluster.populate(3).await;
    forget_what_was_told(&users);
    for at in 0..3 {
        signal(cluster.child(at), "-TERM");
        assert_eq!(cluster.places[at].ended().await.code(), Some(0));
        cluster.start_node(at, &TOPICS);
        cluster.places[at].ready().await;
    }
    nobody_has_seen_anything(&cluster, users).await;
}

/// The same for a node that is killed, which nobody is told of before it is missed.
pub(crate) async fn a_killed_node_with_grace_is_not_seen(engine: Engine) {
    let mut cluster = start(engine).await;
    let users = cluster.populate(3).await;
    forget_what_was_told(&users);
    signal(cluster.child(2), "-KILL");
    cluster.places[2].ended().await;
    let is_missed = async {
        let is_held = || async { cluster.status(0).await["grace"]["n_now"] == json!(3) };
        while !is_held().await {
            sleep(LOOK).await;
        }
    };
    within("the node is missed", is_missed).await;
    cluster.start_node(2, &TOPICS);
    cluster.places[2].ready().await;
    nobody_has_seen_anything(&cluster, users).await;
}
