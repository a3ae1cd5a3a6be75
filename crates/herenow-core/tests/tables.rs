//! Tables, deltas and history: what the reference's set (areas S and G) must still show here, and
//! the bugs of its design that this one cannot have.

mod support;

use std::sync::Arc;
use std::time::Duration;

use herenow_core::{
    Change, LeaveReason, OwnerId, Shard, ShardConfig, ShardMessage, TrackError, UpdateError,
    Version,
};
use support::{
    Mesh, SHARD, at, drain, key, keys, listed, meta, node, shard, shard_with, topic, track,
};

const ROOM: &str = "lobby";

/// Nodes that know of each other and have nothing to say.
fn mesh(names: &[&str]) -> Mesh {
    mesh_with(names, &ShardConfig::default())
}

fn mesh_with(names: &[&str], config: &ShardConfig) -> Mesh {
    let mut mesh = Mesh::new(names, config);
    mesh.heartbeat();
    mesh.settle();
    later(&mut mesh);
    mesh
}

/// Lets the flush interval pass.
fn later(mesh: &mut Mesh) {
    mesh.now = mesh.now + Duration::from_millis(10);
}

fn join(mesh: &mut Mesh, at: usize, owner: u64, as_key: &str) {
    let now = mesh.now;
    track(&mut mesh.shards[at], now, owner, ROOM, as_key);
}

fn leave(mesh: &mut Mesh, at: usize, owner: u64, as_key: &str) {
    let now = mesh.now;
    let reason = LeaveReason::Left;
    let was =
        mesh.shards[at].handle_untrack(now, OwnerId(owner), &topic(ROOM), &key(as_key), reason);
    assert!(was, "{as_key} is there");
}

fn update(mesh: &mut Mesh, at: usize, owner: u64, as_key: &str, text: &str) {
    let (now, owner) = (mesh.now, OwnerId(owner));
    mesh.shards[at]
        .handle_update(now, owner, &topic(ROOM), &key(as_key), meta(text))
        .expect("it is tracked");
}

fn sorted(shard: &Shard) -> Vec<String> {
    let mut keys = listed(shard, ROOM);
    keys.sort();
    keys
}

fn seen(shard: &Shard, peer: &str) -> Version {
    shard
        .peers()
        .find(|view| view.node == node(peer))
        .expect("the peer is known")
        .seen
}

/// What the owner broadcasts of its latest writes, without delivering it.
fn unsent(mesh: &mut Mesh, at: usize) -> ShardMessage {
    later(mesh);
    mesh.shards[at].handle_timeout(mesh.now);
    let mut broadcasts = drain(&mut mesh.shards[at]).broadcasts;
    assert_eq!(broadcasts.len(), 1, "what was written since is one delta");
    broadcasts.remove(0)
}

fn hand(mesh: &mut Mesh, to: usize, from: &str, message: &ShardMessage) {
    let now = mesh.now;
    mesh.shards[to].handle_message(now, &node(from), message.clone());
}

#[test]
fn tbl_2_a_tracked_presence_is_listed_until_it_is_untracked() {
    let mut shard = shard("a");
    track(&mut shard, at(0), 1, ROOM, "john");
    assert_eq!(listed(&shard, ROOM), ["john"]);
    assert!(shard.handle_untrack(
        at(0),
        OwnerId(1),
        &topic(ROOM),
        &key("john"),
        LeaveReason::Left
    ));
    assert!(!shard.handle_untrack(
        at(0),
        OwnerId(1),
        &topic(ROOM),
        &key("john"),
        LeaveReason::Left
    ));
    assert_eq!(listed(&shard, ROOM), [""; 0]);
    assert_eq!(
        (
            shard.n_rows(),
            shard.count(&topic(ROOM)),
            shard.topics().count()
        ),
        (0, 0, 0)
    );
    assert_eq!(drain(&mut shard).told(), ["+john", "-john"]);
    assert_eq!(
        shard.version(),
        Version(2),
        "an untrack is a write of its own"
    );
}

#[test]
fn tbl_3_both_sides_end_with_both_sides_presences_and_a_replay_changes_nothing() {
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 0, 1, "alice");
    join(&mut mesh, 1, 1, "bob");
    let told = mesh.settle();
    assert_eq!(
        told[0].told(),
        ["+bob"]
            .map(|_| "+alice")
            .into_iter()
            .chain(["+bob"])
            .collect::<Vec<_>>()
    );
    assert_eq!(sorted(&mesh.shards[0]), ["alice", "bob"]);
    assert_eq!(sorted(&mesh.shards[1]), ["alice", "bob"]);
    leave(&mut mesh, 0, 1, "alice");
    let message = unsent(&mut mesh, 0);
    for _ in 0..3 {
        hand(&mut mesh, 1, "a", &message);
    }
    assert_eq!(drain(&mut mesh.shards[1]).told(), ["-alice"]);
    assert_eq!(mesh.shards[1].stats().n_stale, 2);
    assert_eq!(sorted(&mesh.shards[1]), ["bob"]);
}

#[test]
fn tbl_4_an_update_is_one_change_with_the_old_and_the_new_row() {
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 1, 1, "carol");
    mesh.settle();
    later(&mut mesh);
    let version = mesh.shards[1].version();
    update(&mut mesh, 1, 1, "carol", "updated");
    assert_eq!(
        mesh.shards[1].version(),
        Version(version.0 + 1),
        "an update is one write"
    );
    let told = mesh.settle();
    for drained in &told {
        let [Change::Updated { old, new }] = &drained.changes[..] else {
            panic!("one update, not {:?}", drained.told());
        };
        assert_eq!(old.meta().as_str(), "{\"m\":\"carol\"}");
        assert_eq!(new.meta().as_str(), "{\"m\":\"updated\"}");
        assert_eq!(new.prev_ref(), Some(old.meta_ref()));
        assert_eq!(old.prev_ref(), None);
    }
    assert_eq!(listed(&mesh.shards[0], ROOM), ["carol"]);
}

#[test]
fn tbl_5_a_split_hides_the_other_side_and_healing_brings_what_changed_meanwhile() {
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 0, 1, "alice");
    join(&mut mesh, 1, 1, "bob");
    mesh.settle();
    mesh.cut_both(0, 1);
    let told = mesh.pass(Duration::from_secs(6));
    assert_eq!(told[0].told(), ["-bob"]);
    join(&mut mesh, 0, 1, "carol");
    leave(&mut mesh, 0, 1, "alice");
    join(&mut mesh, 1, 1, "dave");
    let told = mesh.settle();
    assert_eq!(told[0].told(), ["+carol", "-alice"]);
    mesh.cut.clear();
    let told = mesh.pass(Duration::from_secs(2));
    assert_eq!(
        told[0].told(),
        ["+bob", "+dave"],
        "hidden rows return once, and what is new"
    );
    assert_eq!(told[1].told(), ["+alice", "-alice", "+carol"]);
    assert_eq!(sorted(&mesh.shards[0]), ["bob", "carol", "dave"]);
    assert_eq!(sorted(&mesh.shards[1]), ["bob", "carol", "dave"]);
}

#[test]
fn tbl_6_only_the_owner_serves_its_rows() {
    let mut mesh = mesh(&["a", "b", "c"]);
    mesh.cut_both(0, 2);
    join(&mut mesh, 0, 1, "alice");
    join(&mut mesh, 1, 1, "bob");
    mesh.pass(Duration::from_secs(7));
    assert_eq!(sorted(&mesh.shards[1]), ["alice", "bob"]);
    assert_eq!(
        sorted(&mesh.shards[2]),
        ["bob"],
        "b does not pass on what a owns"
    );
    mesh.cut.clear();
    mesh.pass(Duration::from_secs(2));
    assert_eq!(sorted(&mesh.shards[2]), ["alice", "bob"]);
    leave(&mut mesh, 0, 1, "alice");
    mesh.settle();
    assert_eq!(sorted(&mesh.shards[2]), ["bob"]);
}

#[test]
fn tbl_7_own_rows_are_found_by_owner_topic_and_key() {
    let mut shard = shard("a");
    assert!(shard.row(OwnerId(1), &topic(ROOM), &key("k1")).is_none());
    assert_eq!(shard.rows_of_owner(OwnerId(1)).count(), 0);
    track(&mut shard, at(0), 1, ROOM, "k1");
    track(&mut shard, at(0), 2, ROOM, "k1");
    track(&mut shard, at(0), 2, ROOM, "k2");
    track(&mut shard, at(0), 2, "other", "k1");
    let row = shard.row(OwnerId(1), &topic(ROOM), &key("k1")).unwrap();
    assert_eq!((row.owner(), row.version()), (OwnerId(1), Version(1)));
    assert!(shard.row(OwnerId(1), &topic("other"), &key("k1")).is_none());
    assert!(shard.row(OwnerId(1), &topic(ROOM), &key("k2")).is_none());
    assert_eq!(
        keys(shard.rows_of_owner(OwnerId(2))),
        ["k1", "k2", "k1"],
        "the newest first"
    );
    let (room, k1) = (topic(ROOM), key("k1"));
    let owners = shard.rows_of_key(&room, &k1).map(|row| row.owner());
    assert_eq!(owners.collect::<Vec<_>>(), [OwnerId(1), OwnerId(2)]);
    assert_eq!(shard.rows_of_key(&topic("none"), &key("k1")).count(), 0);
}

#[test]
fn tbl_8_a_list_leaves_out_replicas_that_are_down() {
    let mut mesh = mesh(&["n1", "n2", "n3"]);
    join(&mut mesh, 0, 1, "key1");
    join(&mut mesh, 0, 1, "key2");
    join(&mut mesh, 1, 1, "user2");
    join(&mut mesh, 2, 1, "user3");
    mesh.settle();
    assert_eq!(sorted(&mesh.shards[0]), ["key1", "key2", "user2", "user3"]);
    let now = mesh.now;
    mesh.shards[0].handle_peer_gone(now, &node("n2"));
    assert_eq!(sorted(&mesh.shards[0]), ["key1", "key2", "user3"]);
    mesh.shards[0].handle_peer_gone(now, &node("n3"));
    assert_eq!(sorted(&mesh.shards[0]), ["key1", "key2"]);
    assert_eq!(mesh.shards[0].count(&topic(ROOM)), 2);
    assert_eq!(listed(&mesh.shards[0], "unknown"), [""; 0]);
}

#[test]
fn tbl_9_a_forgotten_replica_leaves_nothing_behind() {
    let mut mesh = mesh(&["n1", "n2"]);
    join(&mut mesh, 0, 1, "alice");
    join(&mut mesh, 1, 1, "bob");
    mesh.settle();
    let now = mesh.now;
    mesh.shards[0].handle_shutdown(now);
    mesh.settle();
    assert_eq!(sorted(&mesh.shards[1]), ["bob"]);
    assert_eq!(mesh.shards[1].peers().count(), 0);
    assert_eq!(mesh.shards[1].rows_of_peer(&node("n1")).count(), 0);
    assert_eq!(mesh.shards[1].n_rows(), 1);
}

#[test]
fn tbl_10_each_delta_moves_the_table_to_the_owners_version() {
    let mut mesh = mesh(&["a", "b"]);
    for (sign, n) in [("+", 1), ("-", 2), ("+", 3)] {
        match sign {
            "+" => join(&mut mesh, 0, 1, "alice"),
            _ => leave(&mut mesh, 0, 1, "alice"),
        }
        later(&mut mesh);
        let told = mesh.settle();
        assert_eq!(told[1].told(), [format!("{sign}alice")]);
        assert_eq!(seen(&mesh.shards[1], "a"), Version(n));
    }
}

#[test]
fn tbl_11_a_delta_after_a_gap_is_not_applied_and_the_owner_is_asked() {
    let mut mesh = mesh(&["a", "b"]);
    mesh.pass(Duration::from_secs(1));
    join(&mut mesh, 0, 1, "one");
    let _lost = unsent(&mut mesh, 0);
    join(&mut mesh, 0, 1, "two");
    let second = unsent(&mut mesh, 0);
    hand(&mut mesh, 1, "a", &second);
    let drained = drain(&mut mesh.shards[1]);
    assert_eq!(drained.told(), [""; 0], "nothing of it is shown");
    assert_eq!(mesh.shards[1].stats().n_gaps, 1);
    assert_eq!(seen(&mesh.shards[1], "a"), Version::ZERO);
    let [
        (
            to,
            request @ ShardMessage::Request {
                seen: Version::ZERO,
                ..
            },
        ),
    ] = &drained.sent[..]
    else {
        panic!("one request, not {:?}", drained.sent);
    };
    assert_eq!(*to, node("a"));
    hand(&mut mesh, 0, "b", request);
    mesh.settle();
    assert_eq!(sorted(&mesh.shards[1]), ["one", "two"]);
}

#[test]
fn tbl_12_an_answer_carries_the_owners_rows_only() {
    let mut mesh = mesh(&["a", "b", "c"]);
    for (node, name) in [(0, "user1"), (1, "user2"), (2, "user3")] {
        join(&mut mesh, node, 1, name);
    }
    mesh.settle();
    let mut newcomer = shard("d");
    let b = mesh.shards[1].id().clone();
    newcomer.handle_heartbeat(mesh.now, &b.node, b.incarnation, mesh.shards[1].announced());
    for (to, message) in drain(&mut newcomer).sent {
        assert_eq!(to, b.node);
        hand(&mut mesh, 1, "d", &message);
    }
    let sent = drain(&mut mesh.shards[1]).sent;
    let transfers = sent.iter().filter(|(to, _)| *to == node("d"));
    for (_, message) in transfers {
        newcomer.handle_message(mesh.now, &b.node, message.clone());
    }
    drain(&mut newcomer);
    assert_eq!(listed(&newcomer, ROOM), ["user2"]);
}

#[test]
fn tbl_13_overlapping_deltas_end_where_the_later_one_ends() {
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 0, 1, "kept");
    join(&mut mesh, 0, 1, "gone");
    let first = unsent(&mut mesh, 0);
    leave(&mut mesh, 0, 1, "gone");
    let second = unsent(&mut mesh, 0);
    // An answer from zero covers what both say.
    let reader = mesh.shards[1].id().clone();
    let request = ShardMessage::Request {
        incarnation: reader.incarnation,
        owner: mesh.shards[0].id().incarnation,
        seen: Version::ZERO,
        pruned: Version::ZERO,
        pruning: None,
    };
    hand(&mut mesh, 0, "b", &request);
    let whole = drain(&mut mesh.shards[0]).sent.remove(0).1;
    hand(&mut mesh, 1, "a", &first);
    assert_eq!(sorted(&mesh.shards[1]), ["gone", "kept"]);
    hand(&mut mesh, 1, "a", &whole);
    assert_eq!(
        drain(&mut mesh.shards[1]).told(),
        ["+kept", "+gone", "-gone"]
    );
    hand(&mut mesh, 1, "a", &second);
    hand(&mut mesh, 1, "a", &first);
    assert_eq!(drain(&mut mesh.shards[1]).told(), [""; 0]);
    assert_eq!(sorted(&mesh.shards[1]), ["kept"]);
}

/// 300 presences that both nodes hold, then `n_changes` joins and leaves behind the reader's back;
/// returns how many bytes healing takes, and on the reader how many changes.
fn heal_after(n_changes: usize, max_history: usize) -> (usize, usize) {
    let mut config = ShardConfig::default();
    config.max_history = max_history;
    let mut mesh = mesh_with(&["a", "b"], &config);
    for n in 0..300 {
        join(&mut mesh, 0, n, &format!("user-{n}"));
    }
    later(&mut mesh);
    mesh.settle();
    assert_eq!(mesh.shards[1].n_rows(), 300);
    for n in 0..n_changes {
        leave(&mut mesh, 0, n as u64, &format!("user-{n}"));
        join(&mut mesh, 0, 1000 + n as u64, &format!("new-{n}"));
    }
    let _lost = unsent(&mut mesh, 0);
    let (a, now) = (mesh.shards[0].id().clone(), mesh.now);
    let announced = mesh.shards[0].announced();
    mesh.shards[1].handle_heartbeat(now, &a.node, a.incarnation, announced);
    let (_, request) = drain(&mut mesh.shards[1]).sent.remove(0);
    hand(&mut mesh, 0, "b", &request);
    let (_, answer) = drain(&mut mesh.shards[0]).sent.remove(0);
    hand(&mut mesh, 1, "a", &answer);
    let n_told = drain(&mut mesh.shards[1]).changes.len();
    assert_eq!(sorted(&mesh.shards[1]), sorted(&mesh.shards[0]));
    (answer.encode().len(), n_told)
}

#[test]
fn tbl_14_a_short_gap_costs_what_changed() {
    let (n_bytes, n_told) = heal_after(2, 1000);
    assert_eq!(n_told, 4);
    assert!(
        n_bytes < 150,
        "two rows and two numbers, not {n_bytes} bytes"
    );
}

#[test]
fn tbl_15_beyond_the_history_no_meta_is_sent_that_the_reader_has() {
    let (n_bytes, n_told) = heal_after(20, 3);
    assert_eq!(n_told, 40);
    let (exact, _) = heal_after(20, 1000);
    assert!(n_bytes < exact + 1200, "{n_bytes} bytes instead of {exact}");
}

#[test]
fn tbl_16_who_lacks_nothing_gets_nothing() {
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 0, 1, "alice");
    mesh.settle();
    for ahead in [0, 5] {
        let request = ShardMessage::Request {
            incarnation: mesh.shards[1].id().incarnation,
            owner: mesh.shards[0].id().incarnation,
            seen: Version(1 + ahead),
            pruned: Version(u64::MAX),
            pruning: None,
        };
        hand(&mut mesh, 0, "b", &request);
        assert!(drain(&mut mesh.shards[0]).sent.is_empty());
    }
    let before = mesh.n_messages;
    mesh.pass(Duration::from_secs(3));
    assert_eq!(
        mesh.n_messages, before,
        "a complete cluster only heartbeats"
    );
}

#[test]
fn tbl_17_what_came_and_went_between_two_deltas_never_travels() {
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 0, 1, "brief");
    update(&mut mesh, 0, 1, "brief", "x");
    leave(&mut mesh, 0, 1, "brief");
    join(&mut mesh, 0, 1, "stays");
    let ShardMessage::Delta { delta, .. } = unsent(&mut mesh, 0) else {
        panic!("a delta");
    };
    assert_eq!(
        (delta.n_rows(), delta.from(), delta.to()),
        (1, Version(0), Version(4))
    );
}

#[test]
fn tbl_18_a_leave_and_a_rejoin_in_one_window_are_one_update() {
    // phoenix_pubsub 182: the rejoin was lost.
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 0, 1, "alice");
    mesh.settle();
    later(&mut mesh);
    leave(&mut mesh, 0, 1, "alice");
    join(&mut mesh, 0, 1, "alice");
    let told = mesh.settle();
    assert_eq!(told[0].told(), ["-alice", "+alice"]);
    assert_eq!(told[1].told(), ["~alice"]);
    assert_eq!(listed(&mesh.shards[1], ROOM), ["alice"]);
}

#[test]
fn tbl_19_a_reader_that_missed_updates_is_told_of_one_from_what_it_had() {
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 0, 1, "alice");
    join(&mut mesh, 0, 2, "bob");
    mesh.settle();
    later(&mut mesh);
    for text in ["v1", "v2", "v3"] {
        update(&mut mesh, 0, 1, "alice", text);
    }
    update(&mut mesh, 0, 2, "bob", "v1");
    let told = mesh.settle();
    assert_eq!(told[1].told(), ["~alice", "~bob"]);
    let Change::Updated { old, new } = &told[1].changes[0] else {
        panic!("an update")
    };
    assert_eq!(old.version(), Version(1));
    assert_eq!(new.meta().as_str(), "{\"m\":\"v3\"}");
    assert_ne!(
        new.prev_ref(),
        Some(old.meta_ref()),
        "the previous writing was never seen here"
    );
}

#[test]
fn tbl_21_a_long_answer_comes_in_chunks_each_of_which_stands_alone() {
    let mut config = ShardConfig::default();
    config.max_delta_bytes = 1024;
    let mut owner = shard_with("a", 1, &config);
    for n in 0..500 {
        track(&mut owner, at(0), n, ROOM, &format!("user-{n}"));
    }
    drain(&mut owner);
    let mut reader = shard_with("b", 1, &config);
    let incarnation = owner.id().incarnation;
    reader.handle_heartbeat(at(0), &node("a"), incarnation, owner.announced());
    let mut n_chunks = 0;
    for tick in 0..10_000 {
        let now = at(tick);
        reader.handle_timeout(now);
        for (_, request) in drain(&mut reader).sent {
            owner.handle_message(now, &node("b"), request);
        }
        owner.handle_timeout(now);
        for (_, chunk) in drain(&mut owner).sent {
            if !matches!(chunk, ShardMessage::Transfer { .. }) {
                continue;
            }
            n_chunks += 1;
            assert!(chunk.encode().len() < 2 * 1024);
            let is_lost = n_chunks % 9 == 0; // After a while the reader asks again.
            if !is_lost {
                let was = reader.n_rows();
                reader.handle_message(now, &node("a"), chunk);
                assert!(reader.n_rows() > was, "each chunk is shown as it comes");
            }
        }
        if reader.n_rows() == 500 {
            break;
        }
    }
    assert!(n_chunks > 20, "{n_chunks} chunks");
    assert_eq!(listed(&reader, ROOM), listed(&owner, ROOM));
}

#[test]
fn tbl_22_writes_between_two_chunks_are_neither_lost_nor_undone() {
    let mut config = ShardConfig::default();
    config.max_delta_bytes = 1024;
    config.max_history = 4;
    let mut mesh = Mesh::new(&["a", "b"], &config);
    for n in 0..200 {
        join(&mut mesh, 0, n, &format!("user-{n}"));
    }
    mesh.heartbeat();
    // Each round is a chunk; between the rounds old and new presences come and go.
    for n in 0..40 {
        leave(&mut mesh, 0, n, &format!("user-{n}"));
        update(
            &mut mesh,
            0,
            199 - n,
            &format!("user-{}", 199 - n),
            "changed",
        );
        join(&mut mesh, 0, 300 + n, &format!("new-{n}"));
        later(&mut mesh);
        for message in drain(&mut mesh.shards[0]).broadcasts {
            hand(&mut mesh, 1, "a", &message);
        }
        for (_, request) in drain(&mut mesh.shards[1]).sent {
            hand(&mut mesh, 0, "b", &request);
        }
        for (_, chunk) in drain(&mut mesh.shards[0]).sent {
            hand(&mut mesh, 1, "a", &chunk);
        }
    }
    mesh.pass(Duration::from_secs(1));
    assert_eq!(sorted(&mesh.shards[1]), sorted(&mesh.shards[0]));
    assert_eq!(mesh.shards[1].n_rows(), 200);
}

#[test]
fn y_20_a_stale_answer_neither_overwrites_nor_loses_a_newer_row() {
    // phoenix_pubsub 148.
    let mut mesh = mesh(&["a", "b", "c"]);
    join(&mut mesh, 0, 1, "alice");
    let first = unsent(&mut mesh, 0);
    hand(&mut mesh, 1, "a", &first);
    let stale = ShardMessage::Request {
        incarnation: mesh.shards[2].id().incarnation,
        owner: mesh.shards[0].id().incarnation,
        seen: Version::ZERO,
        pruned: Version::ZERO,
        pruning: None,
    };
    hand(&mut mesh, 0, "c", &stale);
    let stale = drain(&mut mesh.shards[0]).sent.remove(0).1;
    update(&mut mesh, 0, 1, "alice", "v1");
    let _lost = unsent(&mut mesh, 0);
    update(&mut mesh, 0, 1, "alice", "v2");
    let last = unsent(&mut mesh, 0);
    hand(&mut mesh, 2, "a", &last);
    mesh.settle();
    hand(&mut mesh, 2, "a", &stale);
    hand(&mut mesh, 2, "a", &first);
    mesh.settle();
    mesh.pass(Duration::from_secs(2));
    for shard in &mesh.shards {
        let room = topic(ROOM);
        let metas = shard.rows_of_topic(&room).map(|row| row.meta().as_str());
        assert_eq!(metas.collect::<Vec<_>>(), ["{\"m\":\"v2\"}"]);
    }
}

#[test]
fn y_21_the_same_owner_number_topic_and_key_on_two_nodes_are_two_presences_everywhere() {
    // phoenix_pubsub 214.
    let mut mesh = mesh(&["a", "b", "c"]);
    join(&mut mesh, 0, 7, "same");
    join(&mut mesh, 1, 7, "same");
    mesh.settle();
    let refs = |shard: &Shard| {
        let mut refs: Vec<_> = shard
            .rows_of_topic(&topic(ROOM))
            .map(|row| row.meta_ref())
            .collect();
        refs.sort();
        refs
    };
    assert_eq!(refs(&mesh.shards[0]).len(), 2);
    assert_eq!(refs(&mesh.shards[0]), refs(&mesh.shards[1]));
    assert_eq!(refs(&mesh.shards[0]), refs(&mesh.shards[2]));
    later(&mut mesh);
    leave(&mut mesh, 0, 7, "same");
    mesh.settle();
    for shard in &mesh.shards {
        let room = topic(ROOM);
        let nodes = shard
            .rows_of_topic(&room)
            .map(|row| row.replica().node.clone());
        assert_eq!(
            nodes.collect::<Vec<_>>(),
            [node("b")],
            "the other one stays"
        );
    }
}

#[test]
fn y_23_restarts_of_a_peer_leave_nothing_that_grows() {
    // phoenix_pubsub 179.
    let mut survivor = shard("a");
    track(&mut survivor, at(0), 1, ROOM, "own");
    for life in 1..=500 {
        let now = at(life * 10);
        let mut peer = shard_with("b", life, &ShardConfig::default());
        let survivor_id = survivor.id().clone();
        peer.handle_heartbeat(
            now,
            &node("a"),
            survivor_id.incarnation,
            survivor.announced(),
        );
        track(&mut peer, now, 1, ROOM, "theirs");
        for message in drain(&mut peer).broadcasts {
            survivor.handle_message(now, &node("b"), message);
        }
        drain(&mut survivor);
        assert_eq!(survivor.peers().count(), 1);
        assert_eq!(survivor.n_rows(), 2, "one presence of each node");
        assert_eq!(survivor.rows_of_peer(&node("b")).count(), 1);
    }
    assert_eq!(listed(&survivor, ROOM), ["own", "theirs"]);
}

#[test]
fn tbl_23_meta_refs_are_the_same_on_every_node_and_differ_between_writings() {
    let mut mesh = mesh(&["a", "b"]);
    join(&mut mesh, 0, 1, "alice");
    join(&mut mesh, 1, 1, "bob");
    mesh.settle();
    let refs = |shard: &Shard| {
        let mut refs: Vec<_> = shard
            .rows_of_topic(&topic(ROOM))
            .map(|row| row.meta_ref())
            .collect();
        refs.sort();
        refs
    };
    assert_eq!(refs(&mesh.shards[0]), refs(&mesh.shards[1]));
    assert_ne!(refs(&mesh.shards[0])[0], refs(&mesh.shards[0])[1]);
    // Another life of the node never repeats a ref.
    let mut again = shard_with("a", 2, &ShardConfig::default());
    track(&mut again, at(0), 1, ROOM, "alice");
    assert!(!refs(&mesh.shards[0]).contains(&refs(&again)[0]));
}

#[test]
fn tbl_24_a_delta_does_not_touch_an_unchanged_row() {
    let mut mesh = mesh(&["a", "b"]);
    for n in 0..50 {
        join(&mut mesh, 0, n, &format!("user-{n}"));
    }
    later(&mut mesh);
    mesh.settle();
    let before: Vec<_> = mesh.shards[1]
        .rows_of_topic(&topic(ROOM))
        .cloned()
        .collect();
    later(&mut mesh);
    leave(&mut mesh, 0, 7, "user-7");
    join(&mut mesh, 0, 99, "user-99");
    mesh.settle();
    let after: Vec<_> = mesh.shards[1].rows_of_topic(&topic(ROOM)).collect();
    let kept = before
        .iter()
        .filter(|old| after.iter().any(|new| Arc::ptr_eq(old, new)));
    assert_eq!(kept.count(), 49);
}

#[test]
fn tbl_25_a_split_with_more_than_fifty_changes_on_both_sides_heals() {
    // phoenix_pubsub 55 and 80.
    let mut mesh = mesh(&["a", "b", "c"]);
    for shard in 0..3 {
        for n in 0..80 {
            join(&mut mesh, shard, n, &format!("{shard}-{n}"));
        }
    }
    mesh.settle();
    mesh.cut_both(0, 1);
    mesh.cut_both(0, 2);
    mesh.pass(Duration::from_secs(6));
    for shard in 0..2 {
        for n in 0..60 {
            leave(&mut mesh, shard, n, &format!("{shard}-{n}"));
            join(&mut mesh, shard, n, &format!("{shard}-later-{n}"));
        }
    }
    mesh.pass(Duration::from_secs(2));
    mesh.cut.clear();
    mesh.pass(Duration::from_secs(3));
    assert_eq!(sorted(&mesh.shards[0]).len(), 240);
    assert_eq!(sorted(&mesh.shards[0]), sorted(&mesh.shards[1]));
    assert_eq!(sorted(&mesh.shards[0]), sorted(&mesh.shards[2]));
}

#[test]
fn tbl_26_the_same_calls_give_the_same_bytes() {
    let run = || {
        let mut shard = shard("a");
        shard.handle_heartbeat(at(0), &node("b"), shard.id().incarnation, Version::ZERO);
        for n in 0..300 {
            track(
                &mut shard,
                at(1),
                n % 7,
                &format!("room:{}", n % 13),
                &format!("user-{n}"),
            );
        }
        for owner in 0..3 {
            shard.handle_owner_end(at(2), OwnerId(owner), LeaveReason::Closed);
        }
        let drained = drain(&mut shard);
        let bytes: Vec<_> = drained
            .broadcasts
            .iter()
            .map(ShardMessage::encode)
            .collect();
        let topics: Vec<_> = shard
            .topics()
            .map(|(topic, n)| (topic.clone(), n))
            .collect();
        (drained.told(), bytes, topics)
    };
    assert_eq!(run(), run());
}

#[test]
fn tbl_27_tracking_twice_or_updating_nothing_is_an_error_that_changes_nothing() {
    let mut shard = shard("a");
    track(&mut shard, at(0), 1, ROOM, "ada");
    let again = shard.handle_track(at(0), OwnerId(1), topic(ROOM), key("ada"), meta("x"));
    let Err(TrackError::AlreadyTracked {
        owner,
        topic: in_topic,
        key: as_key,
    }) = again
    else {
        panic!("already tracked");
    };
    assert_eq!(
        (owner, in_topic, as_key),
        (OwnerId(1), topic(ROOM), key("ada"))
    );
    let none = shard.handle_update(at(0), OwnerId(2), &topic(ROOM), &key("ada"), meta("x"));
    assert!(matches!(
        none,
        Err(UpdateError::NotTracked {
            owner: OwnerId(2),
            ..
        })
    ));
    assert_eq!(shard.version(), Version(1));
    assert_eq!(drain(&mut shard).told(), ["+ada"]);
    // Another owner, topic or key is another presence.
    track(&mut shard, at(0), 2, ROOM, "ada");
    track(&mut shard, at(0), 1, "other", "ada");
    track(&mut shard, at(0), 1, ROOM, "eve");
    assert_eq!(shard.n_rows(), 4);
}

#[test]
fn tbl_28_the_end_of_an_owner_is_the_leave_of_all_it_tracked() {
    let mut mesh = mesh(&["a", "b"]);
    for n in 0..10 {
        let now = mesh.now;
        track(&mut mesh.shards[0], now, n % 2, &format!("room:{n}"), "me");
    }
    mesh.settle();
    later(&mut mesh);
    let now = mesh.now;
    assert_eq!(
        mesh.shards[0].handle_owner_end(now, OwnerId(0), LeaveReason::Closed),
        5
    );
    assert_eq!(
        mesh.shards[0].handle_owner_end(now, OwnerId(0), LeaveReason::Closed),
        0
    );
    let told = mesh.settle();
    let reasons = told[0].changes.iter().map(|change| match change {
        Change::Left { reason, .. } => *reason,
        Change::Joined(_) | Change::Updated { .. } => panic!("leaves only"),
    });
    assert_eq!(reasons.collect::<Vec<_>>(), [LeaveReason::Closed; 5]);
    assert_eq!(told[1].changes.len(), 5);
    assert_eq!(mesh.shards[1].n_rows(), 5);
    assert_eq!(mesh.shards[1].topics().count(), 5);
}

#[test]
fn tbl_29_a_list_is_in_order_of_tracking_however_many_left_in_between() {
    let mut shard = shard("a");
    for n in 0..100 {
        track(&mut shard, at(0), n, ROOM, &format!("{n:03}"));
    }
    for n in (0..100).filter(|n| n % 3 != 0) {
        shard.handle_owner_end(at(0), OwnerId(n), LeaveReason::Left);
    }
    for n in 100..120 {
        track(&mut shard, at(0), n, ROOM, &format!("{n:03}"));
    }
    let keys = listed(&shard, ROOM);
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), 54);
    assert_eq!(shard.count(&topic(ROOM)), 54);
    drain(&mut shard);
}

#[test]
fn tbl_30_bytes_of_a_peer_that_is_not_the_owner_cannot_change_the_owners_rows() {
    let mut mesh = mesh(&["a", "b", "c"]);
    join(&mut mesh, 0, 1, "alice");
    mesh.settle();
    later(&mut mesh);
    leave(&mut mesh, 0, 1, "alice");
    let bytes = unsent(&mut mesh, 0).encode();
    // c replays a's bytes as its own: they are read as c's history.
    let forged = ShardMessage::decode(&bytes, &node("c"), SHARD).unwrap();
    hand(&mut mesh, 1, "c", &forged);
    drain(&mut mesh.shards[1]);
    assert_eq!(listed(&mesh.shards[1], ROOM), ["alice"]);
    assert_eq!(mesh.shards[1].rows_of_peer(&node("c")).count(), 0);
}

#[test]
fn tbl_32_a_leave_on_another_node_comes_with_its_reason() {
    let mut mesh = mesh(&["a", "b"]);
    let reasons = [
        LeaveReason::Left,
        LeaveReason::Closed,
        LeaveReason::NodeDown,
        LeaveReason::Evicted,
    ];
    for n in 0..4 {
        join(&mut mesh, 0, n, &format!("user-{n}"));
    }
    mesh.settle();
    later(&mut mesh);
    update(&mut mesh, 0, 3, "user-3", "updated first");
    for (n, reason) in (0..).zip(reasons) {
        let now = mesh.now;
        mesh.shards[0].handle_owner_end(now, OwnerId(n), reason);
    }
    let told = mesh.settle();
    let told = told[1].changes.iter().map(|change| match change {
        Change::Left { reason, .. } => *reason,
        Change::Joined(_) | Change::Updated { .. } => panic!("leaves only"),
    });
    assert_eq!(told.collect::<Vec<_>>(), reasons);
}

#[test]
fn tbl_33_the_set_of_what_is_alive_is_compressed() {
    let mut config = ShardConfig::default();
    config.max_history = 0;
    let mut owner = shard_with("a", 1, &config);
    for n in 0..5_000 {
        track(&mut owner, at(0), n, ROOM, &n.to_string());
    }
    owner.handle_owner_end(at(0), OwnerId(77), LeaveReason::Left);
    drain(&mut owner);
    let request = ShardMessage::Request {
        incarnation: owner.id().incarnation,
        owner: owner.id().incarnation,
        seen: Version(5_000),
        pruned: Version(5_000),
        pruning: None,
    };
    owner.handle_message(at(10), &node("b"), request);
    let sent = drain(&mut owner).sent;
    let transfers = sent
        .iter()
        .filter(|(_, m)| matches!(m, ShardMessage::Transfer { .. }));
    let n_bytes: usize = transfers.map(|(_, message)| message.encode().len()).sum();
    assert!(
        (1..100).contains(&n_bytes),
        "{n_bytes} bytes for 4,999 rows in two runs"
    );
}
