//! Named scenarios at the level of the cluster: the known bugs of the reference, and our own.
//!
//! Everything is done through a [`Simulation`], so every invariant is checked all the while.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::time::Duration;

use herenow_core::{
    Key, Meta, NodeName, OwnerId, PeerStatus, Row, Shard, ShardConfig, Topic, Version,
};
use herenow_sim::{Failure, NodeIndex, Simulation, Weather, Write};

const A: NodeIndex = NodeIndex(0);
const B: NodeIndex = NodeIndex(1);
const C: NodeIndex = NodeIndex(2);

type Outcome = Result<(), Failure>;

fn cluster(n_nodes: usize) -> Simulation {
    cluster_with(&ShardConfig::default(), n_nodes)
}

fn cluster_with(config: &ShardConfig, n_nodes: usize) -> Simulation {
    let mut simulation = Simulation::new(config, n_nodes, Weather::clear(), 1);
    simulation.pass(seconds(2)).expect("nodes that meet");
    simulation
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn room() -> Topic {
    Topic::new("room").unwrap()
}

fn meta(text: &str) -> Meta {
    Meta::new(format!("{{\"m\":\"{text}\"}}")).unwrap()
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn track(owner: u64, name: &str) -> Write {
    Write::Track {
        owner: OwnerId(owner),
        topic: room(),
        key: key(name),
        meta: meta("joined"),
    }
}

fn update(owner: u64, name: &str, text: &str) -> Write {
    Write::Update {
        owner: OwnerId(owner),
        topic: room(),
        key: key(name),
        meta: meta(text),
    }
}

fn untrack(owner: u64, name: &str) -> Write {
    Write::Untrack {
        owner: OwnerId(owner),
        topic: room(),
        key: key(name),
    }
}

fn shard(simulation: &Simulation, at: NodeIndex) -> &Shard {
    simulation.cluster().node(at).unwrap().shard()
}

fn count(simulation: &Simulation, at: NodeIndex) -> usize {
    shard(simulation, at).count(&room())
}

fn n_rows(simulation: &Simulation, at: NodeIndex) -> usize {
    shard(simulation, at).n_rows()
}

fn metas(simulation: &Simulation, at: NodeIndex) -> Vec<String> {
    let topic = room();
    let rows = shard(simulation, at).rows_of_topic(&topic);
    let meta = |row: &Row| row.meta().as_str().to_owned();
    rows.map(|row| meta(row)).collect()
}

fn status(simulation: &Simulation, at: NodeIndex, of: NodeIndex) -> Option<PeerStatus> {
    let name: &NodeName = simulation.cluster().name(of);
    let mut peers = shard(simulation, at).peers();
    let peer = peers.find(|peer| peer.node == *name);
    peer.map(|peer| peer.status)
}

/// Lets time pass until something is so, and returns how long it took.
fn wait_until(
    simulation: &mut Simulation,
    at_most: Duration,
    mut is_so: impl FnMut(&Simulation) -> bool,
) -> Result<Duration, Failure> {
    let begin = simulation.cluster().now();
    while !is_so(simulation) {
        let waited = simulation.cluster().now() - begin;
        assert!(waited < at_most, "still not so after {waited:?}");
        simulation.pass(millis(1))?;
    }
    Ok(simulation.cluster().now() - begin)
}

#[test]
fn tbl_500_what_a_delta_costs_does_not_depend_on_how_much_is_held() -> Outcome {
    let mut costs = Vec::new();
    for n_held in [10, 100, 10_000] {
        let mut simulation = cluster(2);
        simulation.burst(A, n_held)?;
        simulation.calm()?;
        let before = shard(&simulation, B).stats().n_visited;
        for number in 0..10 {
            simulation.write(A, &track(number, "late"))?;
        }
        simulation.calm()?;
        assert_eq!(n_rows(&simulation, B) as u64, n_held + 10);
        costs.push(shard(&simulation, B).stats().n_visited - before);
    }
    assert_eq!(costs, [10, 10, 10]);
    Ok(())
}

#[test]
fn tbl_501_a_stale_answer_neither_overwrites_nor_loses_what_is_newer() -> Outcome {
    // phoenix_pubsub issue 148: C misses the first of two updates, then gets an old state.
    let mut simulation = cluster(3);
    simulation.write(A, &track(1, "alice"))?;
    simulation.pass(millis(100))?;
    simulation.cut(A, C);
    simulation.write(A, &update(1, "alice", "once"))?;
    simulation.pass(millis(100))?;
    // From here on C hears A, but late, twice, and out of order.
    simulation.mend();
    let mut rough = Weather::clear();
    (rough.doubled, rough.late, rough.lateness) = (900, 700, millis(400));
    simulation.set_weather(rough);
    simulation.write(A, &update(1, "alice", "twice"))?;
    for _ in 0..200 {
        simulation.pass(millis(5))?;
        let shown = metas(&simulation, C);
        assert_eq!(shown.len(), 1, "alice never disappears, and is never two");
    }
    simulation.calm()?;
    assert_eq!(metas(&simulation, C), ["{\"m\":\"twice\"}"]);
    Ok(())
}

#[test]
fn tbl_502_the_same_owner_topic_and_key_on_two_nodes_are_two_presences_everywhere() -> Outcome {
    // phoenix_pubsub issue 214: nodes keep whichever they merged last, and disagree for ever.
    let mut simulation = cluster(3);
    simulation.write(A, &track(7, "ada"))?;
    simulation.write(B, &track(7, "ada"))?;
    simulation.calm()?;
    for at in [A, B, C] {
        assert_eq!(count(&simulation, at), 2);
    }
    simulation.write(A, &untrack(7, "ada"))?;
    simulation.write(B, &update(7, "ada", "stays"))?;
    simulation.calm()?;
    for at in [A, B, C] {
        assert_eq!(metas(&simulation, at), ["{\"m\":\"stays\"}"]);
    }
    Ok(())
}

#[test]
fn tbl_503_who_leaves_and_rejoins_inside_one_window_is_never_gone() -> Outcome {
    // phoenix_pubsub issue 182.
    let mut simulation = cluster(2);
    simulation.write(A, &track(1, "ada"))?;
    simulation.pass(millis(100))?;
    simulation.write(A, &untrack(1, "ada"))?;
    simulation.write(A, &track(1, "ada"))?;
    for _ in 0..500 {
        simulation.pass(Duration::from_micros(100))?;
        assert_eq!(count(&simulation, B), 1);
    }
    let topic = room();
    let row = shard(&simulation, B).rows_of_topic(&topic).next().cloned();
    assert_eq!(
        row.map(|row| row.version()),
        Some(Version(3)),
        "and is the one that rejoined"
    );
    Ok(())
}

#[test]
fn tbl_504_a_split_with_more_than_fifty_changes_on_each_side_heals_within_a_second() -> Outcome {
    // phoenix_pubsub issues 55 and 80.
    let mut simulation = cluster(4);
    let (left, right) = ([NodeIndex(0), NodeIndex(1)], [NodeIndex(2), NodeIndex(3)]);
    for at in left.into_iter().chain(right) {
        simulation.burst(at, 60)?;
    }
    simulation.calm()?;
    for (one, other) in left
        .into_iter()
        .flat_map(|one| right.map(|other| (one, other)))
    {
        simulation.cut_both(one, other);
    }
    simulation.calm()?;
    for at in left.into_iter().chain(right) {
        assert_eq!(n_rows(&simulation, at), 120, "the other side is hidden");
        simulation.burst(at, 30)?; // These leave.
        for number in 0..70 {
            simulation.write(at, &track(number, &format!("new-{number}")))?;
        }
    }
    simulation.calm()?;
    simulation.mend();
    let took = wait_until(&mut simulation, seconds(3), |simulation| {
        (0..4).all(|at| n_rows(simulation, NodeIndex(at)) == 400)
    })?;
    assert!(
        took <= millis(1_100),
        "the next heartbeat heals, it took {took:?}"
    );
    simulation.calm()
}

#[test]
fn rep_500_a_peer_that_restarts_again_and_again_leaves_nothing_that_grows() -> Outcome {
    // phoenix_pubsub issue 179: each restart of a peer leaves a mark for ever.
    let mut simulation = cluster(3);
    for round in 0..60 {
        simulation.write(B, &track(1, "ada"))?;
        simulation.pass(millis(50))?;
        match round % 2 {
            0 => simulation.crash(B, false),
            _ => simulation.leave(B),
        }
        simulation.restart(B);
        simulation.pass(millis(50))?;
    }
    simulation.calm()?;
    for at in [A, C] {
        assert_eq!(shard(&simulation, at).peers().count(), 2);
        assert_eq!(shard(&simulation, at).memory().n_burials, 1);
        assert_eq!(n_rows(&simulation, at), 0, "the last life has nobody");
    }
    Ok(())
}

#[test]
fn rep_501_after_a_restart_heartbeats_are_all_that_is_sent() -> Outcome {
    // phoenix_pubsub issue 135: traffic for twenty minutes after each restart.
    let mut simulation = cluster(3);
    simulation.burst(A, 20)?;
    simulation.crash(B, false);
    simulation.pass(seconds(1))?;
    simulation.restart(B);
    simulation.pass(seconds(1))?;
    let before = simulation.cluster().traffic();
    simulation.quiet()?;
    let traffic = simulation.cluster().traffic();
    assert_eq!(traffic.n_messages, before.n_messages);
    let n_beats = traffic.n_heartbeats - before.n_heartbeats;
    assert!(
        (3600..3700).contains(&n_beats),
        "three nodes, twenty minutes: {n_beats}"
    );
    Ok(())
}

#[test]
fn rep_502_a_wall_clock_set_forward_changes_nothing() -> Outcome {
    let mut simulation = cluster(3);
    simulation.burst(A, 5)?;
    simulation.calm()?;
    simulation.set_wall_clock(A, 60_000);
    for _ in 0..100 {
        simulation.pass(millis(100))?;
        assert_eq!(n_rows(&simulation, B), 5);
    }
    simulation.crash(A, false);
    simulation.restart(A);
    simulation.write(A, &track(1, "ada"))?;
    simulation.pass(millis(100))?;
    assert_eq!(n_rows(&simulation, B), 1, "a restart is seen at once");
    simulation.calm()
}

#[test]
fn rep_503_a_wall_clock_set_back_delays_a_restarted_node_until_its_former_life_is_down() -> Outcome
{
    let mut simulation = cluster(3);
    simulation.burst(A, 5)?;
    simulation.calm()?;
    simulation.set_wall_clock(A, -60_000);
    for _ in 0..100 {
        simulation.pass(millis(100))?;
        assert_eq!(n_rows(&simulation, B), 5, "the running node is not touched");
    }
    simulation.crash(A, false);
    simulation.restart(A);
    simulation.write(A, &track(1, "ada"))?;
    let took = wait_until(&mut simulation, seconds(10), |simulation| {
        n_rows(simulation, B) == 1
    })?;
    assert!((seconds(4)..seconds(7)).contains(&took), "it took {took:?}");
    // After a good-bye there is nothing to wait for.
    simulation.leave(A);
    simulation.set_wall_clock(A, -60_000);
    simulation.restart(A);
    simulation.write(A, &track(2, "eve"))?;
    simulation.pass(millis(100))?;
    assert_eq!(n_rows(&simulation, B), 1);
    simulation.calm()
}

#[test]
fn rep_504_a_monotonic_clock_that_jumps_hides_nobody_for_longer_than_a_heartbeat() -> Outcome {
    let mut simulation = cluster(3);
    simulation.burst(B, 5)?;
    simulation.calm()?;
    simulation.jump(A, 60_000);
    simulation.pass(millis(1_100))?;
    assert_eq!(n_rows(&simulation, A), 5);
    simulation.jump(A, -3_000);
    for _ in 0..100 {
        simulation.pass(millis(100))?;
        assert_eq!((n_rows(&simulation, A), n_rows(&simulation, C)), (5, 5));
    }
    simulation.calm()
}

#[test]
fn rep_505_a_late_message_of_a_crashed_life_does_not_shut_out_its_successor() -> Outcome {
    let mut simulation = cluster(3);
    let mut rough = Weather::clear();
    (rough.late, rough.lateness) = (1000, seconds(4));
    simulation.set_weather(rough);
    for number in 0..40 {
        simulation.write(A, &track(number, "ada"))?;
        simulation.pass(millis(20))?;
    }
    // What A has said is under way. It crashes and restarts with its clock set back.
    simulation.set_weather(Weather::clear());
    simulation.crash(A, true);
    simulation.set_wall_clock(A, -60_000);
    simulation.restart(A);
    simulation.write(A, &track(1, "eve"))?;
    simulation.pass(millis(100))?;
    assert_eq!(status(&simulation, B, A), Some(PeerStatus::Up));
    simulation.calm()?;
    for at in [A, B, C] {
        assert_eq!(count(&simulation, at), 1, "eve, who lives, and nobody else");
    }
    Ok(())
}

#[test]
fn rep_506_peers_that_come_and_go_do_not_put_off_the_search_for_silent_ones() -> Outcome {
    let mut simulation = cluster(4);
    let silent = NodeIndex(3);
    simulation.burst(silent, 5)?;
    simulation.calm()?;
    simulation.crash(silent, false);
    for _ in 0..20 {
        for at in [B, C] {
            simulation.leave(at);
            simulation.pass(millis(150))?;
            simulation.restart(at);
            simulation.pass(millis(20))?;
        }
    }
    assert_eq!(status(&simulation, A, silent), Some(PeerStatus::Down));
    assert_eq!(n_rows(&simulation, A), 0);
    Ok(())
}

#[test]
fn rep_507_a_rolling_restart_leaves_exactly_the_living() -> Outcome {
    let mut simulation = cluster(5);
    for round in 0..3 {
        for at in (0..5).map(NodeIndex) {
            simulation.burst(at, 10)?;
            simulation.leave(at);
            simulation.pass(millis(30))?;
            for other in (0..5).map(NodeIndex).filter(|other| *other != at) {
                let mut rows = shard(&simulation, other).peers();
                assert!(rows.all(|peer| peer.node != *simulation.cluster().name(at)));
            }
            simulation.restart(at);
            simulation.write(at, &track(round, "ada"))?;
            simulation.pass(millis(200))?;
        }
    }
    simulation.calm()?;
    for at in (0..5).map(NodeIndex) {
        assert_eq!(n_rows(&simulation, at), 5, "one for each node's last life");
    }
    simulation.quiet()
}

#[test]
fn rep_508_a_node_that_the_engine_reports_gone_is_hidden_at_once() -> Outcome {
    let mut simulation = cluster(3);
    simulation.burst(A, 10)?;
    simulation.calm()?;
    simulation.crash(A, true);
    let took = wait_until(&mut simulation, seconds(1), |simulation| {
        n_rows(simulation, B) == 0
    })?;
    assert!(took < millis(10), "it took {took:?}");
    // A false alarm costs a heartbeat.
    simulation.restart(A);
    simulation.burst(A, 10)?;
    simulation.calm()?;
    simulation.hint_gone(A);
    simulation.pass(millis(5))?;
    assert_eq!(n_rows(&simulation, B), 0);
    let took = wait_until(&mut simulation, seconds(2), |simulation| {
        n_rows(simulation, B) == 10
    })?;
    assert!(took <= millis(1_010), "it took {took:?}");
    simulation.calm()
}

#[test]
fn rep_509_a_node_that_is_paused_for_longer_than_the_down_period_returns_whole() -> Outcome {
    let mut simulation = cluster(3);
    simulation.burst(A, 10)?;
    simulation.burst(B, 10)?;
    simulation.calm()?;
    simulation.pause(A, seconds(20));
    simulation.pass(seconds(10))?;
    assert_eq!(n_rows(&simulation, B), 10, "the paused node is hidden");
    simulation.burst(B, 25)?; // Ten leave, fifteen join.
    simulation.pass(seconds(11))?;
    for at in [A, B, C] {
        assert_eq!(n_rows(&simulation, at), 25);
    }
    simulation.calm()
}

#[test]
fn rep_510_a_split_longer_than_the_permdown_period_heals() -> Outcome {
    let mut config = ShardConfig::default();
    config.permdown_period = seconds(30);
    let mut simulation = cluster_with(&config, 3);
    for at in [A, B, C] {
        simulation.burst(at, 10)?;
    }
    simulation.cut_both(A, B);
    simulation.cut_both(A, C);
    simulation.pass(seconds(60))?;
    assert_eq!(shard(&simulation, A).peers().count(), 0, "forgotten");
    simulation.mend();
    simulation.calm()?;
    for at in [A, B, C] {
        assert_eq!(n_rows(&simulation, at), 30);
    }
    Ok(())
}

#[test]
fn shd_503_a_join_is_on_all_nodes_within_the_latency_of_the_network() -> Outcome {
    let mut simulation = cluster(3);
    simulation.pass(seconds(5))?;
    for number in 0..20 {
        simulation.write(A, &track(number, "ada"))?;
        let wanted = usize::try_from(number).unwrap() + 1;
        let took = wait_until(&mut simulation, seconds(1), |simulation| {
            n_rows(simulation, B) == wanted && n_rows(simulation, C) == wanted
        })?;
        assert!(took <= millis(3), "it took {took:?}");
        simulation.pass(millis(40))?;
    }
    Ok(())
}

#[test]
fn shd_504_a_newcomer_lists_everybody_within_a_heartbeat() -> Outcome {
    let mut simulation = cluster(3);
    for at in [A, B, C] {
        simulation.burst(at, 100)?;
    }
    simulation.calm()?;
    let newcomer = simulation.add();
    let took = wait_until(&mut simulation, seconds(3), |simulation| {
        n_rows(simulation, newcomer) == 300
    })?;
    assert!(took <= millis(50), "it took {took:?}");
    simulation.calm()
}
