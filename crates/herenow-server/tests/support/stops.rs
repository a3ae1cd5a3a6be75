//! Nodes that are told to stop, and what others see of their users meanwhile.

use std::time::{Duration, Instant};

use herenow_client::{ChannelSender, Payload};
use tokio::time::sleep;

use super::cuts::n_rows;
use super::{Cluster, Engine, LOOK, PATIENCE, User, names, signal, split, until};

/// How long a socket that is open may need for an answer; one that needs longer is not believed.
const ANSWER: Duration = Duration::from_secs(2);

/// Three nodes in which nobody is taken for gone because of their silence.
async fn start(engine: Engine, more: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(engine, &["a", "b", "c"]).await;
    cluster.down_period = 10 * PATIENCE;
    for at in 0..3 {
        cluster.start_node(at, more);
    }
    for place in &cluster.places {
        place.ready().await;
    }
    cluster
}

/// A node that is told to stop is gone at once everywhere, and exits with 0.
pub(crate) async fn a_graceful_stop_is_seen_at_once(engine: Engine) {
    let mut cluster = start(engine, &[]).await;
    let users = cluster.populate(3).await;
    let (rest, _gone) = split(users, "c");
    signal(cluster.child(2), "-TERM");
    let took = until(&rest, &names(&rest)).await;
    eprintln!("{engine:?}: the users of a stopped node were gone after {took:?}");
    assert_eq!(cluster.places[2].ended().await.code(), Some(0));
    cluster.knows(0, 2).await;
}

/// All three nodes are restarted one after the other while their users stay: nobody is lost, and
/// no ghost remains.
pub(crate) async fn a_rolling_restart_loses_nobody(engine: Engine) {
    let mut cluster = Cluster::start(engine).await;
    let users = cluster.populate(3).await;
    for at in 0..3 {
        signal(cluster.child(at), "-TERM");
        assert_eq!(cluster.places[at].ended().await.code(), Some(0));
        cluster.start_node(at, &[]);
        cluster.places[at].ready().await;
    }
    // A list is as it was while its client is not joined: somebody new shows that it is alive.
    let mut users = users;
    users.push(cluster.join(0, "witness").await);
    let took = until(&users, &names(&users)).await;
    eprintln!("{engine:?}: every list was right {took:?} after the last restart");
    for at in 0..3 {
        let status = cluster.status(at).await;
        let nodes = status["nodes"].as_array().unwrap();
        assert_eq!(n_rows(&status), 10, "no ghost: {status}");
        assert_eq!(nodes.len(), 3, "no earlier life: {status}");
    }
}

/// Whether the server still answers on this user's socket.
async fn is_served(sender: ChannelSender) -> bool {
    let payload = Payload::Json("{}".into());
    let answer = sender.push_payload("echo", payload, ANSWER).await;
    answer.is_ok_and(|reply| reply.is_ok())
}

/// While a node closes its sockets one after the other, each of its users is listed everywhere
/// until their own socket is closed; when the process has ended, nothing is left of it.
pub(crate) async fn a_stopping_node_shows_whom_it_serves(engine: Engine) {
    let slowly = ["--drain-batch-size", "1", "--drain-batch-interval", "400ms"];
    let mut cluster = start(engine, &slowly).await;
    let users = cluster.populate(6).await;
    let (rest, mut leaving) = split(users, "c");
    signal(cluster.child(2), "-TERM");
    let (began, mut questions) = (Instant::now(), Vec::new());
    while !leaving.is_empty() {
        // First who is missing, then who is served: whoever is served now was so before.
        let lists: Vec<_> = rest.iter().map(|user| user.list.borrow().clone()).collect();
        let is_missing = |user: &User| lists.iter().any(|list| !list.contains(&user.name));
        for user in leaving.extract_if(.., |user| is_missing(user)) {
            let question = tokio::spawn(is_served(user.sender.clone()));
            questions.push((user, question));
        }
        assert!(began.elapsed() < PATIENCE, "it does not stop");
        sleep(LOOK).await;
    }
    for (user, is_served) in questions {
        assert!(
            !is_served.await.unwrap(),
            "{} was hidden, and served",
            user.name
        );
    }
    until(&rest, &names(&rest)).await;
    assert_eq!(cluster.places[2].ended().await.code(), Some(0));
    let ended = Instant::now();
    for at in [0, 1] {
        cluster.knows(at, 2).await;
    }
    let took = ended.elapsed();
    eprintln!("{engine:?}: nothing was left of a stopped node {took:?} after its end");
}
