//! Which replicas are up, down and forgotten: the reference's replica table (area R) and more.

mod support;

use std::time::Duration;

use herenow_core::{
    Change, Incarnation, LeaveReason, MonoTime, OwnerId, PeerEvent, PeerStatus, Shard, ShardConfig,
    ShardMessage, Version,
};
use support::{Mesh, at, drain, key, listed, node, shard, shard_with, topic, track};

const ROOM: &str = "lobby";
const PEER: &str = "peer";

fn life(number: u64) -> Incarnation {
    Incarnation(number)
}

/// A sign of life of the peer, which has written nothing.
fn hear(shard: &mut Shard, now: MonoTime, incarnation: u64) {
    shard.handle_heartbeat(now, &node(PEER), life(incarnation), Version::ZERO);
}

/// Calls the shard back at every time it asks for, up to `end`.
fn wait(shard: &mut Shard, end: MonoTime) {
    while shard.poll_timeout() <= end {
        let now = shard.poll_timeout();
        shard.handle_timeout(now);
        let before = shard.poll_timeout();
        assert!(before > now, "a timeout that was handled is not due again");
    }
    shard.handle_timeout(end);
}

fn status(shard: &Shard) -> Option<(Incarnation, PeerStatus)> {
    shard
        .peers()
        .next()
        .map(|peer| (peer.incarnation, peer.status))
}

/// The first delta of a peer's life, with one presence of this key.
fn first_delta(incarnation: u64, as_key: &str) -> ShardMessage {
    let mut peer = shard_with(PEER, incarnation, &ShardConfig::default());
    peer.handle_heartbeat(at(0), &node("me"), life(1), Version::ZERO);
    track(&mut peer, at(0), 1, ROOM, as_key);
    drain(&mut peer).broadcasts.remove(0)
}

/// A shard that knows one peer with one presence, at 0 s.
fn with_peer(as_key: &str) -> Shard {
    let mut shard = shard("me");
    shard.handle_message(at(0), &node(PEER), first_delta(1, as_key));
    let drained = drain(&mut shard);
    assert_eq!(drained.told(), [format!("+{as_key}")]);
    assert_eq!(drained.events, [(node(PEER), PeerEvent::Up)]);
    shard
}

fn seconds(n: u64) -> MonoTime {
    at(n * 1000)
}

#[test]
fn r_01_two_lives_of_one_name_are_two_replicas() {
    let (one, two) = (
        shard_with(PEER, 1, &ShardConfig::default()),
        shard_with(PEER, 2, &ShardConfig::default()),
    );
    assert_ne!(one.id(), two.id());
}

#[test]
fn r_02_a_replica_is_a_node_a_life_and_a_shard() {
    let id = shard_with(PEER, 7, &ShardConfig::default()).id().clone();
    assert_eq!(
        (id.node, id.incarnation, id.shard),
        (node(PEER), life(7), support::SHARD)
    );
}

#[test]
fn r_03_the_first_sign_of_life_adds_a_replica_that_is_up() {
    let mut shard = shard("me");
    assert_eq!(status(&shard), None);
    hear(&mut shard, seconds(3), 1);
    let peer = shard.peers().next().unwrap();
    assert_eq!(
        (peer.node, peer.status, peer.since),
        (node(PEER), PeerStatus::Up, seconds(3))
    );
    assert_eq!(drain(&mut shard).events, [(node(PEER), PeerEvent::Up)]);
}

#[test]
fn r_04_a_later_sign_of_life_renews_and_brings_up_what_was_down() {
    let mut shard = shard("me");
    hear(&mut shard, at(0), 1);
    drain(&mut shard);
    hear(&mut shard, seconds(4), 1);
    wait(&mut shard, seconds(8));
    assert_eq!(
        status(&shard),
        Some((life(1), PeerStatus::Up)),
        "4 s of silence, not 8"
    );
    assert_eq!(drain(&mut shard).events, []);
    wait(&mut shard, seconds(10));
    assert_eq!(status(&shard), Some((life(1), PeerStatus::Down)));
    hear(&mut shard, seconds(11), 1);
    assert_eq!(status(&shard), Some((life(1), PeerStatus::Up)));
    assert_eq!(
        drain(&mut shard).events,
        [PeerEvent::Down, PeerEvent::Up].map(|e| (node(PEER), e))
    );
}

#[test]
fn r_05_silence_for_the_down_period_is_down() {
    let mut shard = with_peer("ada");
    wait(&mut shard, seconds(6));
    assert_eq!(status(&shard), Some((life(1), PeerStatus::Down)));
}

#[test]
fn r_06_silence_for_the_permdown_period_is_forgotten() {
    let mut shard = with_peer("ada");
    wait(&mut shard, seconds(20 * 60 - 1));
    assert_eq!(status(&shard), Some((life(1), PeerStatus::Down)));
    wait(&mut shard, seconds(20 * 60 + 1));
    assert_eq!(status(&shard), None);
    let events = [PeerEvent::Down, PeerEvent::Forgotten].map(|event| (node(PEER), event));
    assert_eq!(drain(&mut shard).events, events);
}

#[test]
fn r_07_a_replica_just_heard_is_left_alone() {
    let mut shard = with_peer("ada");
    shard.handle_timeout(at(0));
    assert_eq!(status(&shard), Some((life(1), PeerStatus::Up)));
    assert_eq!(drain(&mut shard).events, []);
}

#[test]
fn rep_1_settings_that_do_not_go_together_are_named_with_both_values() {
    let error = |change: fn(&mut ShardConfig)| {
        let mut config = ShardConfig::default();
        change(&mut config);
        let id = shard("me").id().clone();
        Shard::new(&config, id, at(0)).unwrap_err().to_string()
    };
    assert_eq!(
        error(|config| config.down_period = Duration::from_secs(2)),
        "down_period is 2s, it must be at least 3s (3 x heartbeat_period)"
    );
    assert_eq!(
        error(|config| config.permdown_period = Duration::from_secs(5)),
        "permdown_period is 5s, it must be longer than down_period, 5s"
    );
    assert!(error(|config| config.heartbeat_period = Duration::ZERO).contains("heartbeat_period"));
    assert!(error(|config| config.max_delta_bytes = 9).contains("max_delta_bytes is 9"));
    assert!(error(|config| config.transfer_bytes_per_second = 9).contains("is 9"));
}

#[test]
fn rep_2_first_heartbeat_of_an_unseen_replica_brings_it_up_and_asks_it() {
    let mut shard = shard("me");
    shard.handle_heartbeat(at(10), &node(PEER), life(1), Version(5));
    let drained = drain(&mut shard);
    assert_eq!(drained.events, [(node(PEER), PeerEvent::Up)]);
    let [(to, ShardMessage::Request { owner, seen, .. })] = &drained.sent[..] else {
        panic!("one request, not {:?}", drained.sent);
    };
    assert_eq!((to, owner, seen), (&node(PEER), &life(1), &Version::ZERO));
}

#[test]
fn rep_3_a_replica_that_is_down_is_hidden_in_one_diff_and_kept() {
    let mut shard = with_peer("ada");
    wait(&mut shard, seconds(6));
    let drained = drain(&mut shard);
    let [
        Change::Left {
            row,
            reason: LeaveReason::NodeDown,
            was_held: false,
        },
    ] = &drained.changes[..]
    else {
        panic!("one leave because the node is down");
    };
    assert_eq!(row.key(), &key("ada"));
    assert_eq!((shard.n_rows(), shard.count(&topic(ROOM))), (0, 0));
    assert_eq!(
        shard.rows_of_peer(&node(PEER)).count(),
        1,
        "kept, in case it returns"
    );
}

#[test]
fn rep_4_heard_again_it_shows_what_it_had_and_is_asked_for_what_was_missed() {
    let mut shard = with_peer("ada");
    wait(&mut shard, seconds(6));
    drain(&mut shard);
    shard.handle_heartbeat(seconds(7), &node(PEER), life(1), Version(9));
    let drained = drain(&mut shard);
    assert_eq!(drained.told(), ["+ada"]);
    let [
        (
            _,
            ShardMessage::Request {
                seen: Version(1), ..
            },
        ),
    ] = &drained.sent[..]
    else {
        panic!("one request from 1, not {:?}", drained.sent);
    };
}

#[test]
fn rep_512_a_heartbeat_that_says_nothing_new_is_a_sign_of_life_and_nothing_else() {
    let mut shard = with_peer("ada");
    wait(&mut shard, seconds(4));
    drain(&mut shard);
    shard.handle_heartbeat(seconds(4), &node(PEER), life(1), Version(1));
    wait(&mut shard, seconds(8));
    let drained = drain(&mut shard);
    assert_eq!(drained.told(), [""; 0], "heard four seconds ago");
    assert!(drained.sent.is_empty(), "{:?}", drained.sent);
    wait(&mut shard, seconds(10));
    assert_eq!(drain(&mut shard).told(), ["-ada"]);
}

#[test]
fn rep_5_forgetting_what_was_hidden_tells_readers_nothing() {
    let mut shard = with_peer("ada");
    wait(&mut shard, seconds(6));
    assert_eq!(drain(&mut shard).told(), ["-ada"]);
    wait(&mut shard, seconds(21 * 60));
    let drained = drain(&mut shard);
    assert_eq!(drained.told(), [""; 0]);
    assert_eq!(drained.events, [(node(PEER), PeerEvent::Forgotten)]);
    assert_eq!(
        shard.poll_timeout(),
        MonoTime::MAX,
        "nobody is left to wait for"
    );
}

#[test]
fn rep_6_a_new_life_takes_the_old_ones_presences_with_it() {
    let mut shard = with_peer("ada");
    shard.handle_message(at(10), &node(PEER), first_delta(2, "eve"));
    let drained = drain(&mut shard);
    assert_eq!(drained.told(), ["-ada", "+eve"]);
    assert_eq!(
        drained.events,
        [PeerEvent::Forgotten, PeerEvent::Up].map(|e| (node(PEER), e))
    );
    assert_eq!(status(&shard), Some((life(2), PeerStatus::Up)));
    assert_eq!(shard.peers().count(), 1);
}

#[test]
fn rep_7_a_late_message_of_a_superseded_life_is_dropped() {
    let late = first_delta(1, "ada");
    let mut shard = with_peer("ada");
    hear(&mut shard, at(10), 2);
    drain(&mut shard);
    for _ in 0..2 {
        shard.handle_message(at(20), &node(PEER), late.clone());
        hear(&mut shard, at(20), 1);
        shard.handle_message(
            at(20),
            &node(PEER),
            ShardMessage::Bye {
                incarnation: life(1),
            },
        );
    }
    let drained = drain(&mut shard);
    assert_eq!(
        (
            drained.told().len(),
            drained.events.len(),
            drained.sent.len()
        ),
        (0, 0, 0)
    );
    assert_eq!(status(&shard), Some((life(2), PeerStatus::Up)));
    assert_eq!(shard.stats().n_buried, 6);
}

#[test]
fn rep_8_a_good_bye_drops_the_presences_at_once_and_for_good() {
    let late = first_delta(1, "ada");
    let mut shard = with_peer("ada");
    shard.handle_message(
        at(10),
        &node(PEER),
        ShardMessage::Bye {
            incarnation: life(1),
        },
    );
    let drained = drain(&mut shard);
    assert_eq!(drained.told(), ["-ada"]);
    assert_eq!(drained.events, [(node(PEER), PeerEvent::Forgotten)]);
    shard.handle_message(at(20), &node(PEER), late);
    hear(&mut shard, at(20), 1);
    assert_eq!(drain(&mut shard).told(), [""; 0], "no ghosts");
    assert_eq!(shard.peers().count(), 0);
    hear(&mut shard, at(30), 2);
    assert_eq!(
        status(&shard),
        Some((life(2), PeerStatus::Up)),
        "the next life is welcome"
    );
}

#[test]
fn rep_9_a_peer_reported_gone_is_down_at_once_until_it_is_heard_again() {
    let mut shard = with_peer("ada");
    shard.handle_peer_gone(at(10), &node(PEER));
    shard.handle_peer_gone(at(10), &node(PEER));
    shard.handle_peer_gone(at(10), &node("stranger"));
    let drained = drain(&mut shard);
    assert_eq!(drained.told(), ["-ada"]);
    assert_eq!(drained.events, [(node(PEER), PeerEvent::Down)]);
    hear(&mut shard, at(20), 1);
    assert_eq!(drain(&mut shard).told(), ["+ada"]);
}

#[test]
fn rep_10_time_that_runs_backwards_is_the_latest_time_seen() {
    let mut shard = with_peer("ada");
    hear(&mut shard, seconds(100), 1);
    hear(&mut shard, seconds(1), 1);
    shard.handle_timeout(seconds(2));
    drain(&mut shard);
    wait(&mut shard, seconds(104));
    assert_eq!(status(&shard), Some((life(1), PeerStatus::Up)));
    wait(&mut shard, seconds(106));
    assert_eq!(status(&shard), Some((life(1), PeerStatus::Down)));
}

#[test]
fn rep_11_peers_beyond_the_limit_are_ignored_and_counted() {
    let mut config = ShardConfig::default();
    config.max_peers = 2;
    let mut shard = shard_with("me", 1, &config);
    for name in ["a", "b", "c", "d"] {
        shard.handle_heartbeat(at(0), &node(name), life(1), Version(1));
    }
    assert_eq!(shard.peers().count(), 2);
    assert_eq!(shard.stats().n_refused, 2);
    drain(&mut shard);
}

#[test]
fn rep_12_messages_in_the_own_name_are_refused() {
    let mut shard = shard(PEER);
    track(&mut shard, at(0), 1, ROOM, "mine");
    hear(&mut shard, at(0), 9);
    shard.handle_message(at(0), &node(PEER), first_delta(9, "forged"));
    shard.handle_message(
        at(0),
        &node(PEER),
        ShardMessage::Bye {
            incarnation: life(1),
        },
    );
    shard.handle_peer_gone(at(0), &node(PEER));
    let drained = drain(&mut shard);
    assert_eq!(drained.told(), ["+mine"]);
    assert_eq!(drained.events, []);
    assert_eq!(shard.stats().n_refused, 3);
}

#[test]
fn rep_13_a_newcomer_has_everything_as_soon_as_it_was_heard_and_hears() {
    // The reference takes up to twenty seconds in an idle cluster.
    let mut mesh = Mesh::new(&["a", "b", "newcomer"], &ShardConfig::default());
    for node in 0..2 {
        for n in 0..50 {
            track(
                &mut mesh.shards[node],
                at(0),
                n,
                ROOM,
                &format!("{node}-{n}"),
            );
        }
    }
    mesh.heartbeat();
    mesh.settle();
    assert_eq!(
        mesh.shards[2].count(&topic(ROOM)),
        100,
        "one heartbeat and a round trip"
    );
}

#[test]
fn rep_14_a_one_way_split_hides_only_what_is_not_heard() {
    let mut mesh = Mesh::new(&["a", "b"], &ShardConfig::default());
    mesh.heartbeat();
    mesh.settle();
    let now = mesh.now;
    track(&mut mesh.shards[0], now, 1, ROOM, "of-a");
    track(&mut mesh.shards[1], now, 1, ROOM, "of-b");
    mesh.pass(Duration::from_secs(1));
    mesh.cut.push((0, 1));
    mesh.pass(Duration::from_secs(7));
    let now = mesh.now;
    track(&mut mesh.shards[1], now, 2, ROOM, "later");
    mesh.pass(Duration::from_secs(1));
    assert_eq!(
        listed(&mesh.shards[0], ROOM),
        ["of-a", "of-b", "later"],
        "a hears b"
    );
    assert_eq!(
        listed(&mesh.shards[1], ROOM),
        ["of-b", "later"],
        "b does not hear a"
    );
    mesh.cut.clear();
    mesh.pass(Duration::from_secs(1));
    assert_eq!(listed(&mesh.shards[1], ROOM), ["of-b", "later", "of-a"]);
}

#[test]
fn rep_15_each_change_of_a_peer_is_told_once() {
    let mut mesh = Mesh::new(&["a", "b", "c"], &ShardConfig::default());
    let told = mesh.pass(Duration::from_secs(3));
    assert_eq!(
        told[0].events,
        [(node("b"), PeerEvent::Up), (node("c"), PeerEvent::Up)]
    );
    mesh.cut_both(0, 1);
    let told = mesh.pass(Duration::from_secs(9));
    assert_eq!(told[0].events, [(node("b"), PeerEvent::Down)]);
    assert_eq!(told[2].events, []);
}

#[test]
fn rep_16_owners_outlive_what_happens_to_peers() {
    let mut shard = with_peer("ada");
    track(&mut shard, at(0), 5, ROOM, "mine");
    drain(&mut shard);
    wait(&mut shard, seconds(30 * 60));
    drain(&mut shard);
    assert_eq!(listed(&shard, ROOM), ["mine"]);
    assert_eq!(
        shard.handle_owner_end(seconds(30 * 60), OwnerId(5), LeaveReason::Left),
        1
    );
}

#[test]
fn rep_17_the_memory_of_lives_that_ended_is_bounded_and_the_latest_stay() {
    let mut config = ShardConfig::default();
    config.max_peers = 4;
    let mut shard = shard_with("me", 1, &config);
    for n in 0..200 {
        let name = node(&format!("node-{n}"));
        shard.handle_heartbeat(at(n), &name, life(1), Version::ZERO);
        shard.handle_message(
            at(n),
            &name,
            ShardMessage::Bye {
                incarnation: life(1),
            },
        );
    }
    drain(&mut shard);
    assert_eq!(shard.peers().count(), 0);
    shard.handle_heartbeat(at(200), &node("node-199"), life(1), Version::ZERO);
    assert_eq!((shard.peers().count(), shard.stats().n_buried), (0, 1));
}

#[test]
fn rep_18_a_node_cut_off_for_longer_than_the_permdown_period_returns() {
    let mut config = ShardConfig::default();
    config.permdown_period = Duration::from_secs(60);
    let mut mesh = Mesh::new(&["a", "b"], &config);
    for node in 0..2 {
        track(
            &mut mesh.shards[node],
            at(0),
            1,
            ROOM,
            &format!("of-{node}"),
        );
    }
    mesh.pass(Duration::from_secs(1));
    mesh.cut_both(0, 1);
    mesh.pass(Duration::from_secs(90));
    assert_eq!(mesh.shards[0].peers().count(), 0, "forgotten");
    mesh.cut.clear();
    mesh.pass(Duration::from_secs(1));
    for shard in &mesh.shards {
        assert_eq!(shard.count(&topic(ROOM)), 2, "the same life, heard again");
    }
}

#[test]
fn rep_19_a_node_restarted_with_its_clock_set_back_is_taken_once_its_former_life_is_down() {
    let mut shard = shard("me");
    hear(&mut shard, at(0), 100);
    drain(&mut shard);
    for second in 1..=4 {
        hear(&mut shard, seconds(second), 40);
    }
    assert_eq!(
        status(&shard),
        Some((life(100), PeerStatus::Up)),
        "it might be a late message"
    );
    wait(&mut shard, seconds(6));
    hear(&mut shard, seconds(6), 40);
    assert_eq!(status(&shard), Some((life(40), PeerStatus::Up)));
    let events = [PeerEvent::Down, PeerEvent::Forgotten, PeerEvent::Up];
    assert_eq!(
        drain(&mut shard).events,
        events.map(|event| (node(PEER), event))
    );
}

#[test]
fn rep_20_a_node_that_said_good_bye_may_return_with_its_clock_set_back() {
    let mut shard = shard("me");
    hear(&mut shard, at(0), 100);
    shard.handle_message(
        at(10),
        &node(PEER),
        ShardMessage::Bye {
            incarnation: life(100),
        },
    );
    hear(&mut shard, at(20), 40);
    assert_eq!(status(&shard), Some((life(40), PeerStatus::Up)));
    hear(&mut shard, at(30), 100);
    assert_eq!(
        status(&shard),
        Some((life(40), PeerStatus::Up)),
        "a life that ended stays ended"
    );
}

#[test]
fn rep_21_a_life_that_was_down_is_not_shut_out_by_a_late_message_of_an_earlier_one() {
    let mut shard = shard("me");
    hear(&mut shard, at(0), 100);
    wait(&mut shard, seconds(6));
    // Never heard before: the first message of an earlier life, delayed for long.
    shard.handle_message(seconds(7), &node(PEER), first_delta(40, "ghost"));
    hear(&mut shard, seconds(8), 100);
    assert_eq!(status(&shard), Some((life(100), PeerStatus::Up)));
    assert_eq!(shard.n_rows(), 0);
    drain(&mut shard);
}

#[test]
fn rep_22_a_node_that_was_paused_itself_does_not_take_its_peers_for_silent() {
    let mut shard = with_peer("ada");
    for second in 1..=10 {
        hear(&mut shard, seconds(second), 1);
        wait(&mut shard, seconds(second));
    }
    drain(&mut shard);
    // Stopped for a minute; the timeout is handled before the messages that wait.
    shard.handle_timeout(seconds(70));
    assert_eq!(drain(&mut shard).told(), [""; 0]);
    wait(&mut shard, seconds(71));
    hear(&mut shard, seconds(71), 1);
    assert_eq!(status(&shard), Some((life(1), PeerStatus::Up)));
    wait(&mut shard, seconds(77));
    assert_eq!(
        status(&shard),
        Some((life(1), PeerStatus::Down)),
        "silence still counts"
    );
    let mut other = with_peer("eve");
    other.handle_timeout(seconds(70));
    wait(&mut other, seconds(73));
    assert_eq!(
        status(&other),
        Some((life(1), PeerStatus::Down)),
        "two heartbeats, no more"
    );
}

#[test]
fn rep_566_a_node_that_was_paused_itself_does_not_believe_its_carrier_that_peers_are_gone() {
    // The carrier may say so before the node looks at its clock, or after.
    for is_before in [true, false] {
        let mut shard = with_peer("ada");
        hear(&mut shard, seconds(1), 1);
        wait(&mut shard, seconds(2));
        drain(&mut shard);
        if is_before {
            shard.handle_peer_gone(seconds(9), &node(PEER));
            shard.handle_timeout(seconds(9));
        } else {
            shard.handle_timeout(seconds(9));
            shard.handle_peer_gone(seconds(9), &node(PEER));
        }
        hear(&mut shard, seconds(10), 1);
        assert_eq!(status(&shard), Some((life(1), PeerStatus::Up)));
        assert_eq!(drain(&mut shard).told(), [""; 0]);
        wait(&mut shard, seconds(13));
        shard.handle_peer_gone(seconds(13), &node(PEER));
        assert_eq!(
            status(&shard),
            Some((life(1), PeerStatus::Down)),
            "one that runs believes it"
        );
    }
}

#[test]
fn rep_511_a_good_bye_counts_though_another_life_took_the_place() {
    // Simulator seed 48: the good-bye of a life came after its successor, whose clock was set back.
    let mut shard = shard("me");
    hear(&mut shard, at(0), 100);
    shard.handle_peer_gone(at(10), &node(PEER));
    hear(&mut shard, at(20), 40);
    let bye = ShardMessage::Bye {
        incarnation: life(100),
    };
    shard.handle_message(at(30), &node(PEER), bye);
    assert_eq!(status(&shard), Some((life(40), PeerStatus::Up)));
    wait(&mut shard, seconds(6));
    assert_eq!(status(&shard), Some((life(40), PeerStatus::Down)));
    shard.handle_message(seconds(7), &node(PEER), first_delta(100, "ghost"));
    assert_eq!(status(&shard), Some((life(40), PeerStatus::Down)));
    assert_eq!(shard.n_rows(), 0);
    drain(&mut shard);
}
