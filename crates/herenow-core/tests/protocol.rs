//! The shard protocol: when deltas leave, who is asked when, and what bounds an answer.

mod support;

use std::time::Duration;

use herenow_core::{
    Change, Incarnation, LeaveReason, MonoTime, Output, OwnerId, Shard, ShardConfig, ShardMessage,
    Version,
};
use support::{at, drain, key, listed, meta, node, shard, shard_with, topic, track};

const ROOM: &str = "lobby";
const PEER: &str = "peer";

fn with_silent_peer(config: &ShardConfig) -> Shard {
    let mut shard = shard_with("me", 1, config);
    shard.handle_heartbeat(at(0), &node(PEER), Incarnation(1), Version::ZERO);
    drain(&mut shard);
    shard
}

fn request(seen: u64, owner: u64) -> ShardMessage {
    ShardMessage::Request {
        incarnation: Incarnation(1),
        owner: Incarnation(owner),
        seen: Version(seen),
        pruned: Version(seen),
        pruning: None,
    }
}

fn ranges(messages: &[ShardMessage]) -> Vec<(u64, u64)> {
    let ranges = messages.iter().map(|message| match message {
        ShardMessage::Delta { delta, .. } => (delta.from().0, delta.to().0),
        ShardMessage::Request { .. }
        | ShardMessage::Transfer { .. }
        | ShardMessage::Held { .. }
        | ShardMessage::Bye { .. } => {
            panic!("a delta, not {message:?}")
        }
    });
    ranges.collect()
}

/// Where the transfers among these reach to.
fn reached(sent: &[(herenow_core::NodeName, ShardMessage)]) -> Vec<u64> {
    let reached = sent.iter().filter_map(|(_, message)| match message {
        ShardMessage::Transfer { delta, .. } => Some(delta.to().0),
        ShardMessage::Delta { .. }
        | ShardMessage::Request { .. }
        | ShardMessage::Held { .. }
        | ShardMessage::Bye { .. } => None,
    });
    reached.collect()
}

#[test]
fn shd_2_a_delta_leaves_at_once_when_it_was_quiet_and_the_next_waits() {
    let mut shard = with_silent_peer(&ShardConfig::default());
    track(&mut shard, at(100), 1, ROOM, "one");
    assert_eq!(ranges(&drain(&mut shard).broadcasts), [(0, 1)]);
    track(&mut shard, at(101), 1, ROOM, "two");
    track(&mut shard, at(102), 1, ROOM, "three");
    assert_eq!(ranges(&drain(&mut shard).broadcasts), []);
    assert_eq!(shard.poll_timeout(), at(105));
    shard.handle_timeout(at(105));
    assert_eq!(ranges(&drain(&mut shard).broadcasts), [(1, 3)]);
}

#[test]
fn shd_3_all_writes_between_two_drains_are_one_diff_and_one_delta() {
    let mut shard = with_silent_peer(&ShardConfig::default());
    for n in 0..50 {
        track(&mut shard, at(100), n, ROOM, &n.to_string());
    }
    shard.handle_owner_end(at(100), OwnerId(3), LeaveReason::Closed);
    let first = shard.poll_output();
    let Some(Output::Diff(diff)) = first else {
        panic!("the diff first, not {first:?}")
    };
    assert_eq!(diff.changes.len(), 51);
    let drained = drain(&mut shard);
    assert_eq!(ranges(&drained.broadcasts), [(0, 51)]);
    assert!(drained.changes.is_empty());
    assert!(shard.poll_output().is_none());
}

#[test]
fn shd_4_a_node_alone_sends_nothing() {
    let mut shard = shard("me");
    for n in 0..10 {
        track(&mut shard, at(n * 100), n, ROOM, &n.to_string());
        let drained = drain(&mut shard);
        assert!(drained.broadcasts.is_empty() && drained.sent.is_empty());
    }
    assert_eq!(shard.announced(), Version(10));
    assert_eq!(shard.poll_timeout(), MonoTime::MAX);
}

#[test]
fn shd_5_a_heartbeat_announces_only_what_was_sent() {
    let mut shard = with_silent_peer(&ShardConfig::default());
    track(&mut shard, at(100), 1, ROOM, "one");
    drain(&mut shard);
    track(&mut shard, at(101), 1, ROOM, "two");
    drain(&mut shard);
    assert_eq!(
        (shard.version(), shard.announced()),
        (Version(2), Version(1))
    );
    shard.handle_timeout(at(105));
    drain(&mut shard);
    assert_eq!(shard.announced(), Version(2));
}

#[test]
fn shd_6_an_unanswered_request_is_repeated_after_its_timeout_and_not_before() {
    let mut shard = shard("me");
    let mut n_sent = Vec::new();
    for ms in (0..2_000).step_by(100) {
        // The peer announces more all the time, and never answers.
        shard.handle_heartbeat(at(ms), &node(PEER), Incarnation(1), Version(10 + ms));
        shard.handle_timeout(at(ms));
        n_sent.push(drain(&mut shard).sent.len());
    }
    assert_eq!(
        n_sent.iter().sum::<usize>(),
        4,
        "at 0, 500, 1000 and 1500 ms: {n_sent:?}"
    );
    assert_eq!(n_sent[0], 1);
    assert_eq!(shard.stats().n_requests, 4);
}

#[test]
fn shd_7_answers_are_paced_by_bytes_and_wait_their_turn() {
    let mut config = ShardConfig::default();
    config.max_delta_bytes = 1024;
    config.transfer_bytes_per_second = 1024;
    let mut shard = shard_with("me", 1, &config);
    for n in 0..100 {
        track(&mut shard, at(0), n, ROOM, &format!("user-{n}"));
    }
    drain(&mut shard);
    let mut seen = 0;
    let mut n_answers = Vec::new();
    for second in 0..10 {
        let mut n = 0;
        for tenth in 0..10 {
            let now = at(10_000 + second * 1000 + tenth * 100);
            shard.handle_message(now, &node(PEER), request(seen, 1));
            for to in reached(&drain(&mut shard).sent) {
                seen = to;
                n += 1;
            }
        }
        n_answers.push(n);
    }
    assert_eq!(seen, 100, "in the end it has all");
    assert!(
        n_answers.iter().all(|n| *n <= 3),
        "about a chunk a second: {n_answers:?}"
    );
}

#[test]
fn shd_8_of_one_reader_only_the_latest_request_waits() {
    let mut config = ShardConfig::default();
    config.max_delta_bytes = 1024;
    config.transfer_bytes_per_second = 1024;
    let mut shard = shard_with("me", 1, &config);
    for n in 0..1000 {
        track(&mut shard, at(0), n, ROOM, &format!("user-{n}"));
    }
    drain(&mut shard);
    for n in 0..10_000 {
        shard.handle_message(at(1), &node(PEER), request(n % 900, 1));
    }
    let at_once = reached(&drain(&mut shard).sent).len();
    assert!(at_once <= 2, "{at_once} answers at once");
    while shard.poll_timeout() < at(60_000) {
        let now = shard.poll_timeout();
        shard.handle_timeout(now);
        shard.handle_heartbeat(now, &node(PEER), Incarnation(1), Version::ZERO);
        let later = reached(&drain(&mut shard).sent).len();
        if later > 0 {
            assert_eq!(later, 1);
            assert!(
                shard.stats().n_transfers <= 3,
                "ten thousand requests, one waits"
            );
            return;
        }
    }
    panic!("the one that waits is answered");
}

#[test]
fn shd_9_a_request_for_another_life_is_not_answered() {
    let mut shard = with_silent_peer(&ShardConfig::default());
    track(&mut shard, at(100), 1, ROOM, "one");
    drain(&mut shard);
    shard.handle_message(at(200), &node(PEER), request(0, 2));
    assert!(drain(&mut shard).sent.is_empty());
    shard.handle_message(at(200), &node(PEER), request(0, 1));
    assert_eq!(reached(&drain(&mut shard).sent), [1]);
}

#[test]
fn shd_10_a_request_is_a_sign_of_life() {
    let mut owner = shard("me");
    track(&mut owner, at(0), 1, ROOM, "one");
    drain(&mut owner);
    owner.handle_message(at(10), &node(PEER), request(0, 1));
    let drained = drain(&mut owner);
    assert_eq!(drained.events.len(), 1);
    assert_eq!(
        reached(&drained.sent),
        [1],
        "a stranger is answered at once"
    );
}

#[test]
fn shd_11_rows_beyond_a_peers_limit_are_refused_and_counted() {
    let mut peer = with_silent_peer(&ShardConfig::default());
    for n in 0..20 {
        track(&mut peer, at(100), n, ROOM, &n.to_string());
    }
    let delta = drain(&mut peer).broadcasts.remove(0);
    let mut config = ShardConfig::default();
    config.max_peer_rows = 19;
    let mut reader = shard_with("reader", 1, &config);
    reader.handle_message(at(0), &node("me"), delta);
    drain(&mut reader);
    assert_eq!((reader.n_rows(), reader.stats().n_refused), (0, 1));
    assert_eq!(
        reader.peers().next().map(|peer| peer.seen),
        Some(Version::ZERO)
    );
}

#[test]
fn shd_12_good_bye_is_the_last_word() {
    let mut shard = with_silent_peer(&ShardConfig::default());
    track(&mut shard, at(100), 1, ROOM, "one");
    shard.handle_shutdown(at(100));
    let broadcasts = drain(&mut shard).broadcasts;
    let [ShardMessage::Delta { .. }, ShardMessage::Bye { .. }] = &broadcasts[..] else {
        panic!("what was written, then the good-bye, not {broadcasts:?}");
    };
    assert_eq!(
        listed(&shard, ROOM),
        ["one"],
        "local readers keep what they have"
    );
}

#[test]
fn shd_13_a_handled_timeout_does_nothing_a_second_time() {
    let mut shard = with_silent_peer(&ShardConfig::default());
    track(&mut shard, at(100), 1, ROOM, "one");
    drain(&mut shard);
    track(&mut shard, at(101), 1, ROOM, "two");
    let mut n_told = (0, 0);
    while shard.poll_timeout() <= at(6_000) {
        let now = shard.poll_timeout();
        shard.handle_timeout(now);
        let first = drain(&mut shard);
        n_told.0 += first.broadcasts.len();
        n_told.1 += first.events.len();
        for again in [now, at(0)] {
            shard.handle_timeout(again);
            let second = drain(&mut shard);
            let n_second = (
                second.broadcasts.len(),
                second.events.len(),
                second.sent.len(),
            );
            assert_eq!(n_second, (0, 0, 0));
        }
        assert!(shard.poll_timeout() > now);
    }
    assert_eq!(
        n_told,
        (1, 1),
        "the second delta, and the peer that is silent"
    );
}

#[test]
fn shd_14_draining_late_is_slow_but_never_wrong() {
    let mut owner = with_silent_peer(&ShardConfig::default());
    let mut reader = shard("reader");
    for n in 0..200 {
        track(&mut owner, at(n * 20), n, ROOM, &n.to_string());
        if n % 3 == 0 {
            owner.handle_owner_end(at(n * 20), OwnerId(n), LeaveReason::Closed);
        }
        if n % 5 == 0 {
            let _ = owner.handle_update(
                at(n * 20),
                OwnerId(n),
                &topic(ROOM),
                &key(&n.to_string()),
                meta("x"),
            );
        }
    }
    // Never drained until now: one diff with all of it, in order, and deltas that say the outcome.
    let drained = drain(&mut owner);
    let n_joined = drained
        .changes
        .iter()
        .filter(|c| matches!(c, Change::Joined(_)))
        .count();
    assert_eq!(n_joined, 200);
    for message in drained.broadcasts {
        reader.handle_message(at(5_000), &node("me"), message);
    }
    drain(&mut reader);
    let (mut one, mut two) = (listed(&owner, ROOM), listed(&reader, ROOM));
    one.sort();
    two.sort();
    assert_eq!(one, two);
}

#[test]
fn shd_15_a_request_from_the_future_or_with_nonsense_is_survived() {
    let mut shard = with_silent_peer(&ShardConfig::default());
    for n in 0..10 {
        track(&mut shard, at(100), n, ROOM, &n.to_string());
    }
    drain(&mut shard);
    for (seen, pruned) in [
        (u64::MAX, 0),
        (5, u64::MAX),
        (5, 0),
        (u64::MAX, u64::MAX),
        (10, 3),
    ] {
        let message = ShardMessage::Request {
            incarnation: Incarnation(1),
            owner: Incarnation(1),
            seen: Version(seen),
            pruned: Version(pruned),
            pruning: None,
        };
        shard.handle_message(at(200), &node(PEER), message);
        shard.handle_timeout(at(300));
        for to in reached(&drain(&mut shard).sent) {
            assert!(to <= 10);
        }
    }
}

#[test]
fn shd_16_flushing_is_due_only_after_the_interval_however_long_the_interval() {
    let mut config = ShardConfig::default();
    config.flush_interval = Duration::from_millis(300);
    let mut shard = with_silent_peer(&config);
    let mut n_deltas = 0;
    for ms in 0..1_000 {
        track(&mut shard, at(1_000 + ms), ms, ROOM, &ms.to_string());
        n_deltas += drain(&mut shard).broadcasts.len();
    }
    assert_eq!(n_deltas, 4, "at 0, 300, 600 and 900 ms");
}

#[test]
fn shd_17_a_gap_is_asked_for_at_once_even_by_a_reader_just_welcomed() {
    let mut owner = with_silent_peer(&ShardConfig::default());
    let mut reader = shard("reader");
    reader.handle_heartbeat(at(0), &node("me"), Incarnation(1), Version::ZERO);
    assert_eq!(
        drain(&mut reader).sent.len(),
        1,
        "the welcome asks, and nothing answers"
    );
    track(&mut owner, at(100), 1, ROOM, "lost");
    drain(&mut owner);
    track(&mut owner, at(200), 1, ROOM, "arrives");
    let second = drain(&mut owner).broadcasts.remove(0);
    reader.handle_message(at(200), &node("me"), second);
    let sent = drain(&mut reader).sent;
    assert!(
        matches!(&sent[..], [(_, ShardMessage::Request { .. })]),
        "not {sent:?}"
    );
}

#[test]
fn shd_18_a_refused_answer_is_not_asked_for_again_at_once() {
    let mut owner = shard("me");
    for n in 0..20 {
        track(&mut owner, at(0), n, ROOM, &n.to_string());
    }
    drain(&mut owner);
    let mut config = ShardConfig::default();
    config.max_peer_rows = 19;
    let mut reader = shard_with("reader", 1, &config);
    reader.handle_heartbeat(at(0), &node("me"), Incarnation(1), owner.announced());
    for ms in 0..2_000 {
        reader.handle_timeout(at(ms));
        for (_, message) in drain(&mut reader).sent {
            owner.handle_message(at(ms), &node("reader"), message);
        }
        owner.handle_timeout(at(ms));
        for (_, message) in drain(&mut owner).sent {
            reader.handle_message(at(ms), &node("me"), message);
        }
    }
    let n_requests = reader.stats().n_requests;
    assert!(
        (1..=5).contains(&n_requests),
        "{n_requests} requests in 2 s"
    );
}

#[test]
fn shd_19_a_network_that_doubles_messages_does_not_multiply_answers() {
    let mut config = ShardConfig::default();
    config.max_delta_bytes = 1024;
    let mut owner = shard_with("me", 1, &config);
    for n in 0..1_000 {
        track(&mut owner, at(0), n, ROOM, &n.to_string());
    }
    drain(&mut owner);
    let mut reader = shard_with("reader", 1, &config);
    reader.handle_heartbeat(at(0), &node("me"), Incarnation(1), owner.announced());
    let mut now = 0;
    while reader.n_rows() < 1_000 && now < 10_000 {
        now += 1;
        reader.handle_timeout(at(now));
        for (_, message) in drain(&mut reader).sent {
            owner.handle_message(at(now), &node("reader"), message.clone());
            owner.handle_message(at(now), &node("reader"), message);
        }
        owner.handle_timeout(at(now));
        for (_, message) in drain(&mut owner).sent {
            reader.handle_message(at(now), &node("me"), message.clone());
            reader.handle_message(at(now), &node("me"), message);
        }
    }
    assert_eq!(reader.n_rows(), 1_000);
    let (n_needed, n_sent) = (reader.stats().n_applied, owner.stats().n_transfers);
    assert!(
        n_sent <= 3 * n_needed,
        "{n_sent} chunks instead of {n_needed}"
    );
}
