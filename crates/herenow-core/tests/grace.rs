//! A disconnect that was not a leave is kept from readers for the grace of its topic.

mod support;

use std::time::Duration;

use herenow_core::{
    Change, Grace, Incarnation, LeaveReason, MonoTime, NodeName, OwnerId, Shard, ShardConfig,
    ShardMessage,
};
use support::{Drained, Mesh, SHARD, at, drain, key, listed, meta, node, shard_with, topic, track};

const ROOM: &str = "room:1";
const GRACE: Duration = Duration::from_secs(10);
const NOTHING: [String; 0] = [];

fn config() -> ShardConfig {
    let mut config = ShardConfig::default();
    config.graces = vec![("room:*".to_owned(), Grace::of(GRACE))];
    config
}

fn mesh() -> Mesh {
    let mut mesh = Mesh::new(&["a", "b", "c"], &config());
    mesh.pass(Duration::from_secs(1));
    mesh
}

/// Ends an owner as a lost connection does.
fn close(shard: &mut Shard, now: MonoTime, owner: u64) {
    shard.handle_owner_end(now, OwnerId(owner), LeaveReason::Closed);
}

fn rejoin(shard: &mut Shard, now: MonoTime, owner: u64, as_key: &str) {
    let (topic, key) = (topic(ROOM), key(as_key));
    let row = shard.handle_track(now, OwnerId(owner), topic, key, meta("back"));
    row.expect("a new owner has not tracked yet");
}

fn told_all(told: &[Drained]) -> Vec<Vec<String>> {
    told.iter().map(Drained::told).collect()
}

/// Takes a node out of the mesh, with what it still has to say if it says good-bye.
fn end(mesh: &mut Mesh, name: &str, says_bye: bool) -> Vec<Drained> {
    let place = mesh
        .shards
        .iter()
        .position(|shard| shard.id().node == node(name));
    let mut shard = mesh.shards.remove(place.expect("it is in the mesh"));
    if says_bye {
        shard.handle_shutdown(mesh.now);
        for message in drain(&mut shard).broadcasts {
            for other in &mut mesh.shards {
                other.handle_message(mesh.now, &node(name), message.clone());
            }
        }
    }
    mesh.settle()
}

#[test]
fn shd_600_a_disconnect_is_told_when_its_grace_is_over_and_a_leave_at_once() {
    let mut shard = shard_with("a", 1, &config());
    for (owner, name) in [(1, "closed"), (2, "left"), (3, "evicted")] {
        track(&mut shard, at(0), owner, ROOM, name);
    }
    track(&mut shard, at(0), 1, "lobby", "elsewhere");
    drain(&mut shard);
    shard.handle_owner_end(at(100), OwnerId(3), LeaveReason::Evicted);
    shard.handle_owner_end(at(100), OwnerId(2), LeaveReason::Left);
    close(&mut shard, at(100), 1);
    assert_eq!(
        drain(&mut shard).told(),
        ["-evicted", "-left", "-elsewhere"]
    );
    assert_eq!(listed(&shard, ROOM), ["closed"]);
    assert_eq!(shard.count(&topic(ROOM)), 1);
    assert!(shard.is_in_grace(&topic(ROOM), &key("closed")));
    assert_eq!(shard.n_own_rows(), 0, "its own node has let go of it");

    assert!(shard.poll_timeout() <= at(10_100));
    shard.handle_timeout(at(10_099));
    assert_eq!(drain(&mut shard).told(), NOTHING);
    shard.handle_timeout(at(10_100));
    let changes = drain(&mut shard).changes;
    let [Change::Left { row, reason, .. }] = &changes[..] else {
        panic!("one leave, not {changes:?}");
    };
    assert_eq!(
        (row.key().as_str(), *reason),
        ("closed", LeaveReason::Closed)
    );
    assert_eq!(listed(&shard, ROOM), NOTHING);
    assert_eq!(shard.poll_timeout(), MonoTime::MAX);
}

#[test]
fn shd_601_a_return_is_told_in_one_diff_with_the_leave_of_what_it_replaces() {
    let mut mesh = mesh();
    let now = mesh.now;
    track(&mut mesh.shards[0], now, 1, ROOM, "ada");
    mesh.settle();
    close(&mut mesh.shards[0], now, 1);
    let told = mesh.pass(GRACE / 2);
    assert_eq!(told_all(&told), [NOTHING, NOTHING, NOTHING]);
    for returns_to in [0, 2] {
        let now = mesh.now;
        rejoin(&mut mesh.shards[returns_to], now, 2, "ada");
        let told = mesh.settle();
        for of_node in &told {
            assert_eq!(of_node.told(), ["+ada", "-ada"]);
        }
        close(&mut mesh.shards[returns_to], now, 2);
        let told = mesh.pass(Duration::from_secs(1));
        assert_eq!(told_all(&told), [NOTHING, NOTHING, NOTHING]);
    }
    let told = mesh.pass(GRACE + Duration::from_secs(1));
    assert_eq!(told_all(&told), [["-ada"], ["-ada"], ["-ada"]]);
}

#[test]
fn shd_602_a_reader_misses_nobody_whichever_of_two_nodes_it_hears_first() {
    for return_first in [false, true] {
        let mut mesh = mesh();
        let now = mesh.now;
        track(&mut mesh.shards[0], now, 1, ROOM, "ada");
        mesh.settle();
        close(&mut mesh.shards[0], now, 1);
        rejoin(&mut mesh.shards[1], now, 1, "ada");
        let soon = now + Duration::from_millis(10);
        let mut said: Vec<(NodeName, ShardMessage)> = Vec::new();
        for from in [0, 1] {
            mesh.shards[from].handle_timeout(soon);
            let name = mesh.shards[from].id().node.clone();
            let broadcasts = drain(&mut mesh.shards[from]).broadcasts;
            said.extend(
                broadcasts
                    .into_iter()
                    .map(|message| (name.clone(), message)),
            );
        }
        assert_eq!(said.len(), 2);
        if return_first {
            said.reverse();
        }
        let mut told = Vec::new();
        for (from, message) in said {
            mesh.shards[2].handle_message(soon, &from, message);
            told.extend(drain(&mut mesh.shards[2]).told());
            assert!(!listed(&mesh.shards[2], ROOM).is_empty());
        }
        assert_eq!(told, ["+ada", "-ada"]);
        assert_eq!(mesh.shards[2].count(&topic(ROOM)), 1);
    }
}

#[test]
fn shd_603_presences_outlive_a_node_that_says_good_bye_for_their_grace() {
    let mut mesh = mesh();
    let now = mesh.now;
    for (owner, name) in [(1, "ada"), (2, "bob")] {
        track(&mut mesh.shards[0], now, owner, ROOM, name);
    }
    track(&mut mesh.shards[0], now, 3, "lobby", "cid");
    mesh.settle();
    let told = end(&mut mesh, "a", true);
    assert_eq!(told_all(&told), [["-cid"], ["-cid"]], "no grace there");
    mesh.pass(GRACE / 2);
    let now = mesh.now;
    rejoin(&mut mesh.shards[0], now, 1, "ada");
    assert_eq!(
        told_all(&mesh.settle()),
        [["+ada", "-ada"], ["+ada", "-ada"]]
    );
    let told = mesh.pass(GRACE / 2 + Duration::from_secs(1));
    assert_eq!(told_all(&told), [["-bob"], ["-bob"]]);
    for shard in &mesh.shards {
        assert_eq!(listed(shard, ROOM), ["ada"]);
    }
}

#[test]
fn shd_604_a_node_that_falls_silent_has_grace_unless_it_is_kept_from_it() {
    for on_node_down in [true, false] {
        let mut config = config();
        let mut grace = Grace::of(GRACE);
        grace.on_node_down = on_node_down;
        config.graces = vec![(ROOM.to_owned(), grace)];
        let mut reader = shard_with("reader", 1, &config);
        let mut peer = shard_with("peer", 1, &config);
        peer.handle_heartbeat(at(0), &node("reader"), Incarnation(1), reader.version());
        track(&mut peer, at(0), 1, ROOM, "ada");
        for message in drain(&mut peer).broadcasts {
            reader.handle_message(at(0), &node("peer"), message);
        }
        drain(&mut reader);
        reader.handle_peer_gone(at(1_000), &node("peer"));
        let (told, back): (&[&str], &[&str]) = match on_node_down {
            true => (&[], &[]),
            false => (&["-ada"], &["+ada"]),
        };
        assert_eq!(drain(&mut reader).told(), told);
        // It was only cut off: nobody has missed it.
        reader.handle_heartbeat(at(4_000), &node("peer"), Incarnation(1), peer.version());
        assert_eq!(drain(&mut reader).told(), back);
        reader.handle_timeout(at(4_000));
        reader.handle_heartbeat(at(8_000), &node("peer"), Incarnation(1), peer.version());
        reader.handle_timeout(at(12_000));
        assert_eq!(drain(&mut reader).told(), NOTHING);
        assert_eq!(listed(&reader, ROOM), ["ada"]);
        // And now it is gone, and found to live anew.
        reader.handle_heartbeat(at(12_000), &node("peer"), Incarnation(2), peer.version());
        assert_eq!(drain(&mut reader).told(), told);
        reader.handle_timeout(at(22_000));
        let late = if on_node_down {
            vec!["-ada"]
        } else {
            Vec::new()
        };
        assert_eq!(drain(&mut reader).told(), late);
    }
}

#[test]
fn shd_605_one_of_two_presences_of_a_key_leaves_at_once() {
    let mut shard = shard_with("a", 1, &config());
    for owner in [1, 2] {
        track(&mut shard, at(0), owner, ROOM, "ada");
    }
    drain(&mut shard);
    close(&mut shard, at(10), 1);
    assert_eq!(drain(&mut shard).told(), ["-ada"]);
    close(&mut shard, at(20), 2);
    assert_eq!(drain(&mut shard).told(), NOTHING);
    assert_eq!(listed(&shard, ROOM), ["ada"]);
    // What is held can be had by its key only: its owner is gone.
    let late = shard.handle_update(at(30), OwnerId(2), &topic(ROOM), &key("ada"), meta("late"));
    late.unwrap_err();
    let (topic, key) = (topic(ROOM), key("ada"));
    assert!(!shard.handle_untrack(at(30), OwnerId(2), &topic, &key, LeaveReason::Left));
    assert_eq!(drain(&mut shard).told(), NOTHING);
}

#[test]
fn shd_606_a_node_that_starts_is_told_whom_others_hold() {
    let mut mesh = mesh();
    let now = mesh.now;
    for (owner, name) in [(1, "ada"), (2, "bob"), (3, "cid")] {
        track(&mut mesh.shards[0], now, owner, ROOM, name);
    }
    track(&mut mesh.shards[1], now, 1, ROOM, "dan");
    mesh.settle();
    end(&mut mesh, "a", true);
    let now = mesh.now;
    close(&mut mesh.shards[0], now, 1);
    rejoin(&mut mesh.shards[1], now, 1, "cid");
    mesh.settle();
    mesh.pass(GRACE / 2);
    let mut newcomer = shard_with("a", 2, &config());
    // Its clock has another origin; only what is left of each grace is told.
    newcomer.handle_timeout(mesh.now);
    mesh.shards.push(newcomer);
    mesh.pass(Duration::from_secs(1));
    let mut here = listed(&mesh.shards[2], ROOM);
    here.sort();
    assert_eq!(here, ["ada", "bob", "cid", "dan"]);
    // Who returns is told as anywhere else, who does not leaves with all others.
    let now = mesh.now;
    rejoin(&mut mesh.shards[2], now, 1, "ada");
    let both = ["+ada", "-ada"];
    assert_eq!(told_all(&mesh.settle()), [both, both, both]);
    for told in mesh.pass(GRACE / 2) {
        let mut told = told.told();
        told.sort();
        assert_eq!(told, ["-bob", "-dan"]);
    }
}

#[test]
fn shd_607_a_node_that_is_older_than_the_longest_grace_knows_by_itself() {
    let held = || {
        let mut other = shard_with("other", 1, &config());
        track(&mut other, at(0), 1, ROOM, "ada");
        close(&mut other, at(0), 1);
        let request = ShardMessage::Request {
            incarnation: Incarnation(1),
            owner: Incarnation(1),
            seen: herenow_core::Version::ZERO,
            pruned: herenow_core::Version::ZERO,
            pruning: None,
        };
        other.handle_message(at(0), &node("me"), request);
        let mut sent = drain(&mut other).sent.into_iter();
        let held = sent.find(|(_, message)| matches!(message, ShardMessage::Held { .. }));
        let (_, message) = held.expect("it holds one");
        ShardMessage::decode(&message.encode(), &node("other"), SHARD).expect("what we encoded")
    };
    for (age, expected) in [(9_999, vec!["+ada"]), (10_000, Vec::new())] {
        let mut me = shard_with("me", 1, &config());
        me.handle_message(at(age), &node("other"), held());
        assert_eq!(drain(&mut me).told(), expected);
        me.handle_message(at(age), &node("other"), held());
        assert_eq!(drain(&mut me).told(), NOTHING, "it is known already");
    }
    // Nobody can hold a row of mine against me.
    let mut other = shard_with("other", 1, &config());
    other.handle_message(at(1), &node("third"), held());
    assert_eq!(drain(&mut other).told(), NOTHING);
    assert_eq!(other.stats().n_refused, 1);
}

#[test]
fn shd_608_a_key_in_grace_can_be_let_go() {
    let mut shard = shard_with("a", 1, &config());
    let (room, ada) = (topic(ROOM), key("ada"));
    track(&mut shard, at(0), 1, ROOM, "ada");
    let evicted = LeaveReason::Evicted;
    assert!(
        !shard.handle_release(at(1), &room, &ada, evicted),
        "she is here"
    );
    close(&mut shard, at(1), 1);
    drain(&mut shard);
    assert!(shard.handle_release(at(2), &room, &ada, evicted));
    let changes = drain(&mut shard).changes;
    let [Change::Left { reason, .. }] = &changes[..] else {
        panic!("one leave, not {changes:?}");
    };
    assert_eq!(*reason, evicted);
    assert_eq!(listed(&shard, ROOM), NOTHING);
    assert!(!shard.handle_release(at(3), &room, &ada, evicted));
}

#[test]
fn shd_609_at_most_so_many_are_held_and_the_others_leave_at_once() {
    let mut config = config();
    config.max_held = 2;
    let mut shard = shard_with("a", 1, &config);
    for owner in 0..4 {
        track(&mut shard, at(0), owner, ROOM, &format!("u{owner}"));
    }
    drain(&mut shard);
    for owner in 0..4 {
        close(&mut shard, at(1), owner);
    }
    assert_eq!(drain(&mut shard).told(), ["-u2", "-u3"]);
    assert_eq!(shard.memory().n_held, 2);
    assert_eq!(shard.stats().n_held_refused, 2);
    shard.handle_timeout(at(10_001));
    assert_eq!(drain(&mut shard).told(), ["-u0", "-u1"]);
    let stats = shard.stats();
    assert_eq!(
        (stats.n_held, stats.n_grace_over, stats.n_returned),
        (2, 2, 0)
    );
    assert_eq!(shard.memory().n_held, 0);
}
