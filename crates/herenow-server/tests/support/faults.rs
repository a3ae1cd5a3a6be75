//! Nodes and brokers that are killed, frozen and started again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::cuts::steady;
use super::{Broker, Cluster, DOWN, Engine, LOOK, Machine, PATIENCE, names, signal, split, until};

/// A node that is killed takes its users with it and no one else's; under its old name it comes
/// back, and so do they.
pub(crate) async fn a_killed_node_takes_its_users_and_can_come_back(engine: Engine) {
    let mut cluster = Cluster::start(engine).await;
    let users = cluster.populate(5).await;
    let everybody = names(&users);
    let (rest, lost) = split(users, "c");
    signal(cluster.child(2), "-KILL");
    let killed = Instant::now();
    // Under load: somebody joins meanwhile.
    let late = cluster.join(0, "a-late").await;
    let mut here = names(&rest);
    here.insert(late.name.clone());
    until(&rest, &here).await;
    let took = killed.elapsed();
    eprintln!("{engine:?}: the users of a killed node were gone after {took:?}");
    cluster.places[2].ended().await;
    cluster.start_node(2, &[]);
    let mut all = everybody;
    all.insert(late.name.clone());
    until(&rest, &all).await;
    until(&lost, &all).await;
}

/// A node that is stopped for longer than `down_period` is hidden, and back when it goes on.
pub(crate) async fn a_frozen_node_is_hidden_and_returns(engine: Engine) {
    let cluster = Cluster::start(engine).await;
    let users = cluster.populate(2).await;
    let everybody = names(&users);
    let (rest, frozen) = split(users, "c");
    signal(cluster.child(2), "-STOP");
    until(&rest, &names(&rest)).await;
    let late = cluster.join(1, "b-late").await;
    sleep(DOWN).await; // Frozen for longer than it would take the node for everybody else.
    signal(cluster.child(2), "-CONT");
    let mut all = everybody;
    all.insert(late.name.clone());
    let took = until(&rest, &all).await;
    until(&frozen, &all).await;
    eprintln!("{engine:?}: the users of a frozen node were back after {took:?}");
}

/// A node that was stopped while users were evicted is told when it goes on, and ends what they had.
pub(crate) async fn a_frozen_node_is_told_whom_it_is_to_evict(engine: Engine) {
    let cluster = Cluster::start(engine).await;
    let users = cluster.populate(3).await;
    let (rest, frozen) = split(users, "c");
    signal(cluster.child(2), "-STOP");
    until(&rest, &names(&rest)).await;
    sleep(2 * DOWN).await; // Until the engine gives it up, and keeps nothing for it.
    for path in ["/api/keys/c0", "/api/keys/c1/topics/room:cluster"] {
        let evicted = cluster.places[0].ask("DELETE", path).await;
        assert_eq!(evicted.map(|(status, _)| status), Some(202), "{path}");
    }
    signal(cluster.child(2), "-CONT");
    let mut here = names(&rest);
    here.insert("c2".to_owned());
    let took = until(&rest, &here).await;
    until(&frozen[2..], &here).await;
    eprintln!("{engine:?}: users of a frozen node were evicted after {took:?}");
}

/// A lease whose node is stopped is ended by a backend all the same: when that node goes on.
pub(crate) async fn a_frozen_node_is_told_which_lease_is_to_end(engine: Engine) {
    let cluster = Cluster::start(engine).await;
    let users = cluster.populate(3).await;
    let (rest, mut frozen) = split(users, "c");
    let lease = "/api/topics/room:cluster/presences/call";
    let hour = r#"{"lease_seconds": 3600}"#;
    let held = cluster.places[2].send("PUT", lease, hour).await;
    assert_eq!(held.map(|(status, _)| status), Some(201));
    // Who is seen to come after it comes after the word of it, too.
    frozen.push(cluster.join(2, "late").await);
    let mut with_lease = names(&rest);
    with_lease.extend(names(&frozen));
    with_lease.insert("call".to_owned());
    until(&rest, &with_lease).await;
    signal(cluster.child(2), "-STOP");
    until(&rest, &names(&rest)).await;
    sleep(2 * DOWN).await; // Until the engine gives it up, and keeps nothing for it.
    let nobody = "/api/topics/room:cluster/presences/nobody";
    for (path, expected) in [(lease, 202), (nobody, 404)] {
        let ended = cluster.places[0].ask("DELETE", path).await;
        assert_eq!(ended.map(|(status, _)| status), Some(expected), "{path}");
    }
    signal(cluster.child(2), "-CONT");
    with_lease.remove("call");
    let took = until(&rest, &with_lease).await;
    until(&frozen, &with_lease).await;
    eprintln!("{engine:?}: a lease of a frozen node was ended after {took:?}");
}

/// A newcomer that has heard one node is not ready before one that is slow has spoken too, and has
/// its users then.
pub(crate) async fn a_newcomer_waits_for_who_is_slow(engine: Engine) {
    let mut cluster = Cluster::prepare(engine, &["a", "b", "c"]).await;
    cluster.heartbeat_period = Duration::from_secs(4); // Longer than all that happens below takes.
    cluster.down_period = 10 * PATIENCE;
    let mut users = cluster.begin_with_two().await;
    signal(cluster.child(1), "-STOP");
    cluster.start_node(2, &[]);
    cluster.knows(2, 2).await;
    let heard = Instant::now();
    while heard.elapsed() < Duration::from_millis(500) {
        let ready = cluster.places[2].get("/readyz").await;
        assert_eq!(ready.map(|(status, _)| status), Some(503), "b is slow");
        sleep(LOOK).await;
    }
    signal(cluster.child(1), "-CONT");
    cluster.places[2].ready().await;
    users.push(cluster.join(2, "c0").await);
    users[2].sees_at_first(&names(&users)).await;
}

/// A broker that is killed and comes back is a partition that heals.
pub(crate) async fn a_restarted_broker_is_a_partition_that_heals(engine: Engine) {
    let mut cluster = Cluster::start(engine).await;
    let mut users = cluster.populate(2).await;
    let port = cluster.broker.take().unwrap().port; // Dropped, which kills it.
    for (at, name) in [(0, "a-cut"), (1, "b-cut"), (2, "c-cut")] {
        users.push(cluster.join(at, name).await);
    }
    let alone: BTreeSet<String> = ["a0", "a1", "a-cut"].map(str::to_owned).into();
    until(&users[..1], &alone).await;
    cluster.broker = Broker::start(engine, Machine::Here, port);
    let took = until(&users, &names(&users)).await;
    eprintln!("{engine:?}: every list was right {took:?} after the broker began to start");
}

/// Two processes have one name: all three say so, the later one counts for the others, the earlier
/// one is as if cut off, nothing flickers, and once the later one has ended the earlier one is
/// back.
pub(crate) async fn a_name_that_is_taken_is_told(engine: Engine) {
    let mut cluster = Cluster::prepare(engine, &["a", "b", "a"]).await;
    cluster.start_node(0, &[]);
    cluster.start_node(1, &[]);
    cluster.places[0].ready().await;
    cluster.places[1].ready().await;
    let mut earlier = vec![cluster.join(0, "earlier").await];
    let other = cluster.join(1, "b0").await;
    let before: BTreeSet<String> = ["earlier", "b0"].map(str::to_owned).into();
    until(&earlier, &before).await;
    cluster.start_node(2, &[]);
    for place in &cluster.places {
        place.logs("another process has the same name").await;
        place.ready().await;
    }
    let mut later = vec![other, cluster.join(2, "later").await];
    until(&later, &names(&later)).await;
    until(&earlier, &names(&earlier)).await;
    steady(&mut later, DOWN).await;
    steady(&mut earlier, DOWN).await;
    for at in 0..3 {
        let status = cluster.status(at).await;
        let refused = &status["refused"][0];
        assert_eq!(refused["node"], "a", "{status}");
        assert!(refused["why"].as_str().unwrap().contains("must be unique"));
    }
    signal(cluster.child(2), "-TERM");
    assert_eq!(cluster.places[2].ended().await.code(), Some(0));
    until(&earlier, &before).await;
    until(&later[..1], &before).await;
}
