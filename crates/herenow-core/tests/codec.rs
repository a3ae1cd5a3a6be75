//! Messages as bytes: what comes back, what is refused, and that nothing panics.

mod support;

use herenow_core::{
    Change, DecodeError, Grace, Incarnation, LeaveReason, MAX_MESSAGE_BYTES, NodeHeartbeat,
    OwnerId, Shard, ShardConfig, ShardMessage, Version, check,
};
use std::time::Duration;

use proptest::prelude::*;
use support::{SHARD, at, drain, listed, node, shard, shard_with, track};

const ROOM: &str = "lobby";
const OWNER: &str = "owner";

/// An owner with some history, and everything that it says in it.
fn sample_messages() -> Vec<ShardMessage> {
    let mut config = ShardConfig::default();
    config.max_history = 2;
    let mut owner = shard_with(OWNER, 1, &config);
    owner.handle_heartbeat(at(0), &node("b"), Incarnation(1), Version::ZERO);
    drain(&mut owner);
    let mut said = Vec::new();
    for n in 0..12 {
        track(
            &mut owner,
            at(n * 10),
            n,
            &format!("room:{}", n % 3),
            &format!("user-{n}"),
        );
        if n % 2 == 0 {
            owner.handle_owner_end(at(n * 10), OwnerId(n / 2), LeaveReason::Closed);
        }
        said.extend(drain(&mut owner).broadcasts);
    }
    for seen in [0, 3, 14] {
        let request = ShardMessage::Request {
            incarnation: Incarnation(1),
            owner: Incarnation(1),
            seen: Version(seen),
            pruned: Version(seen),
            pruning: None,
        };
        said.push(request.clone());
        owner.handle_message(at(1_000), &node("b"), request);
        owner.handle_timeout(at(2_000));
        said.extend(
            drain(&mut owner)
                .sent
                .into_iter()
                .map(|(_, message)| message),
        );
    }
    said.extend(held_messages());
    said.push(ShardMessage::Bye {
        incarnation: Incarnation(1),
    });
    said
}

/// What a node with two presences in grace tells one that has nothing of it.
fn held_messages() -> Vec<ShardMessage> {
    let mut config = ShardConfig::default();
    config.graces = vec![("room:*".to_owned(), Grace::of(Duration::from_secs(5)))];
    let mut owner = shard_with(OWNER, 1, &config);
    for n in 0..2 {
        track(&mut owner, at(0), n, "room:1", &format!("user-{n}"));
        owner.handle_owner_end(at(n), OwnerId(n), LeaveReason::Closed);
    }
    let request = ShardMessage::Request {
        incarnation: Incarnation(1),
        owner: Incarnation(1),
        seen: Version::ZERO,
        pruned: Version::ZERO,
        pruning: None,
    };
    owner.handle_message(at(10), &node("b"), request);
    let sent = drain(&mut owner)
        .sent
        .into_iter()
        .map(|(_, message)| message);
    let held: Vec<_> = sent
        .filter(|message| matches!(message, ShardMessage::Held { .. }))
        .collect();
    assert_eq!(held.len(), 1);
    held
}

fn sample_bytes() -> Vec<Vec<u8>> {
    sample_messages().iter().map(ShardMessage::encode).collect()
}

fn decode(bytes: &[u8]) -> Result<ShardMessage, DecodeError> {
    ShardMessage::decode(bytes, &node(OWNER), SHARD)
}

/// A reader that already holds some of the owner's rows.
fn reader() -> Shard {
    let mut reader = shard("reader");
    for bytes in sample_bytes().iter().take(4) {
        reader.handle_message(at(0), &node(OWNER), decode(bytes).expect("what we encoded"));
    }
    drain(&mut reader);
    reader
}

#[test]
fn cod_1_every_message_comes_back_as_it_was() {
    let messages = sample_messages();
    let n_transfers = messages
        .iter()
        .filter(|m| matches!(m, ShardMessage::Transfer { .. }))
        .count();
    assert_eq!(n_transfers, 3);
    for message in messages {
        let bytes = message.encode();
        let back = decode(&bytes).unwrap();
        assert_eq!(back.encode(), bytes);
        assert_eq!(
            std::mem::discriminant(&back),
            std::mem::discriminant(&message)
        );
    }
}

#[test]
fn cod_2_a_row_keeps_its_texts_owner_and_refs() {
    let mut owner = shard_with(OWNER, 1, &ShardConfig::default());
    owner.handle_heartbeat(at(0), &node("b"), Incarnation(1), Version::ZERO);
    let long = "ключ-".repeat(20);
    track(&mut owner, at(0), u64::MAX, "тема", &long);
    let message = drain(&mut owner).broadcasts.remove(0);
    let mut reader = shard("reader");
    reader.handle_message(at(0), &node(OWNER), decode(&message.encode()).unwrap());
    drain(&mut reader);
    let topic = support::topic("тема");
    let (sent, got) = (
        owner.rows_of_topic(&topic).next().unwrap(),
        reader.rows_of_topic(&topic).next().unwrap(),
    );
    assert_eq!(
        (got.key(), got.meta(), got.owner()),
        (sent.key(), sent.meta(), sent.owner())
    );
    assert_eq!(
        (got.meta_ref(), got.replica()),
        (sent.meta_ref(), sent.replica())
    );
}

#[test]
fn cod_3_a_heartbeat_comes_back_as_it_was() {
    let heartbeat = NodeHeartbeat {
        node: node(OWNER),
        incarnation: Incarnation(u64::MAX),
        versions: (0..64).map(|n| Version(n * n * n * 1_000)).collect(),
    };
    assert_eq!(
        NodeHeartbeat::decode(&heartbeat.encode()).unwrap(),
        heartbeat
    );
    assert_eq!(
        heartbeat.version_of(herenow_core::ShardIndex(2)),
        Some(Version(8_000))
    );
    assert_eq!(heartbeat.version_of(herenow_core::ShardIndex(64)), None);
    let idle = NodeHeartbeat {
        versions: vec![Version(1); 64],
        ..heartbeat
    };
    assert!(idle.encode().len() < 100, "a byte or so for each shard");
}

#[test]
fn cod_4_what_is_empty_foreign_or_too_large_is_refused_by_name() {
    assert!(matches!(decode(&[]), Err(DecodeError::Empty)));
    assert!(matches!(
        decode(&[2, 0x80]),
        Err(DecodeError::Format { got: 2, .. })
    ));
    let huge = vec![1; MAX_MESSAGE_BYTES + 1];
    assert!(matches!(decode(&huge), Err(DecodeError::TooLarge { .. })));
    assert!(matches!(
        NodeHeartbeat::decode(&huge),
        Err(DecodeError::TooLarge { .. })
    ));
    let heartbeat = NodeHeartbeat {
        node: node(OWNER),
        incarnation: Incarnation(1),
        versions: vec![],
    };
    assert!(
        decode(&heartbeat.encode()).is_err(),
        "a heartbeat is no shard message"
    );
    let bye = ShardMessage::Bye {
        incarnation: Incarnation(1),
    };
    assert!(NodeHeartbeat::decode(&bye.encode()).is_err());
    // An array of two: kind 200, life 1.
    assert!(matches!(
        decode(&[1, 0x82, 0x18, 200, 1]),
        Err(DecodeError::Kind { kind: 200 })
    ));
}

#[test]
fn cod_5_items_that_a_later_version_adds_are_ignored() {
    let bye = ShardMessage::Bye {
        incarnation: Incarnation(5),
    }
    .encode();
    assert_eq!(bye, [1, 0x82, 3, 5]);
    let longer = decode(&[1, 0x84, 3, 5, 0xf6, 0x01]).unwrap();
    assert!(matches!(
        longer,
        ShardMessage::Bye {
            incarnation: Incarnation(5)
        }
    ));
}

#[test]
fn cod_6_a_message_that_ends_early_is_refused_wherever_it_ends() {
    for bytes in sample_bytes() {
        for end in 0..bytes.len() {
            assert!(
                decode(&bytes[..end]).is_err(),
                "{end} of {} bytes",
                bytes.len()
            );
        }
    }
}

#[test]
fn cod_7_a_row_takes_less_than_eighty_bytes() {
    let mut owner = shard_with(OWNER, 1, &ShardConfig::default());
    owner.handle_heartbeat(at(0), &node("b"), Incarnation(1), Version::ZERO);
    let meta = || herenow_core::Meta::new("{\"online_at\":\"1700000000\"}").unwrap();
    for n in 0..1_000_u64 {
        let topic = support::topic(&format!("topic:{}", n / 100));
        let key = support::key(&format!("user-{n:010}"));
        owner
            .handle_track(at(0), OwnerId(1_000_000 + n), topic, key, meta())
            .unwrap();
    }
    let n_bytes: usize = drain(&mut owner)
        .broadcasts
        .iter()
        .map(|m| m.encode().len())
        .sum();
    assert!(n_bytes < 80 * 1_000, "{n_bytes} bytes for a thousand rows");
}

#[test]
fn cod_8_lengths_that_lie_take_no_memory() {
    // A delta whose list of topics claims four billion, then two to the power of 63.
    for claim in [
        &[0x9a, 0xff, 0xff, 0xff, 0xff][..],
        &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let mut bytes = vec![1, 0x83, 0, 1, 0x87, 0, 5, 0, 0];
        bytes.extend_from_slice(claim);
        assert!(decode(&bytes).is_err());
    }
}

#[test]
fn cod_9_deltas_that_contradict_themselves_are_refused() {
    // [from, to - from, base, as_of - to, topics, rows, [exactly, versions]]
    let delta = |body: &[u8]| {
        let mut bytes = vec![1, 0x83, 0, 1, 0x87];
        bytes.extend_from_slice(body);
        decode(&bytes)
    };
    let row = |topic: u8, step: u8, back: u8| {
        [
            &[0x86, topic, step, 9, 0x61, b'k', 0x62, b'{', b'}', back][..],
            &[0x82, 0, 0x80],
        ]
        .concat()
    };
    let with = |head: [u8; 4], rows: &[u8]| [&head[..], &[0x81, 0x61, b't'], rows].concat();
    assert!(delta(&with([4, 2, 4, 0], &row(0, 1, 0))).is_ok());
    assert!(
        delta(&with([4, 0, 4, 0], &row(0, 1, 0))).is_err(),
        "an empty range"
    );
    assert!(
        delta(&with([4, 2, 9, 0], &row(0, 1, 0))).is_err(),
        "a base after its moment"
    );
    assert!(
        delta(&with([4, 2, 4, 0], &row(1, 1, 0))).is_err(),
        "a topic that is not there"
    );
    assert!(
        delta(&with([4, 2, 4, 0], &row(0, 3, 0))).is_err(),
        "a row after the range"
    );
    assert!(
        delta(&with([4, 2, 4, 0], &row(0, 0, 0))).is_err(),
        "a row before the range"
    );
    assert!(
        delta(&with([4, 2, 4, 0], &row(0, 1, 9))).is_err(),
        "a row that replaced nothing"
    );
    let gone = |version: u8| {
        [
            &[4, 2, 4, 0, 0x80, 0x80, 0x82, 0, 0x81][..],
            &[version << 2],
        ]
        .concat()
    };
    assert!(delta(&gone(4)).is_ok());
    assert!(delta(&gone(5)).is_err(), "gone before it was written");
    assert!(
        delta(&[4, 2, 4, 0, 0x80, 0x80, 0x82, 1, 0x43, 1, 2, 3]).is_err(),
        "no bitmap"
    );
}

#[test]
fn cod_12_more_topics_than_rows_are_refused_before_they_take_memory() {
    let n_topics = 60_000_u16;
    let mut bytes = vec![1, 0x83, 0, 1, 0x87, 0, 5, 0, 0, 0x99];
    bytes.extend_from_slice(&n_topics.to_be_bytes());
    bytes.extend(std::iter::repeat_n(0x60, n_topics.into()));
    bytes.extend_from_slice(&[0x80, 0x82, 0, 0x80]);
    let refused = decode(&bytes);
    assert!(
        matches!(refused, Err(DecodeError::Contradiction { .. })),
        "not {refused:?}"
    );
}

#[test]
fn cod_13_what_is_gone_keeps_its_reason() {
    let mut owner = shard_with(OWNER, 1, &ShardConfig::default());
    owner.handle_heartbeat(at(0), &node("b"), Incarnation(1), Version::ZERO);
    let reasons = [
        LeaveReason::Evicted,
        LeaveReason::Left,
        LeaveReason::Closed,
        LeaveReason::NodeDown,
    ];
    for n in 0..4 {
        track(&mut owner, at(0), n, ROOM, &n.to_string());
    }
    let joins = drain(&mut owner).broadcasts.remove(0);
    for (n, reason) in (0..).zip(reasons) {
        owner.handle_owner_end(at(10), OwnerId(n), reason);
    }
    let leaves = drain(&mut owner).broadcasts.remove(0);
    let mut reader = shard("reader");
    for message in [joins, leaves] {
        let message = decode(&message.encode()).unwrap();
        reader.handle_message(at(20), &node(OWNER), message);
    }
    let told = drain(&mut reader)
        .changes
        .into_iter()
        .filter_map(|change| match change {
            Change::Left { reason, .. } => Some(reason),
            Change::Joined(_) | Change::Updated { .. } => None,
        });
    assert_eq!(told.collect::<Vec<_>>(), reasons);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn cod_10_random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let _ = NodeHeartbeat::decode(&bytes);
        let with_format: Vec<u8> = [1].into_iter().chain(bytes).collect();
        let _ = decode(&with_format);
        let _ = NodeHeartbeat::decode(&with_format);
    }

    #[test]
    fn cod_11_mutated_messages_never_panic_nor_break_a_table(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        how in 0..4u8,
    ) {
        let samples = sample_bytes();
        let mut reader = reader();
        track(&mut reader, at(0), 1, ROOM, "own");
        for pick in picks {
            let mut bytes = samples[pick.index(samples.len())].clone();
            match how {
                0 => {
                    let at = cut.index(bytes.len());
                    bytes.splice(at..at, samples[pick.index(samples.len())].iter().copied());
                }
                1 => bytes.truncate(cut.index(bytes.len()) + 1),
                _ => {}
            }
            for (place, value) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = if how == 3 { bytes[place].wrapping_add(value % 3) } else { *value };
            }
            if let Ok(message) = decode(&bytes) {
                let _ = message.encode();
                reader.handle_message(at(10), &node(OWNER), message);
            }
            reader.handle_timeout(at(20));
            drain(&mut reader);
            prop_assert_eq!(check(&reader), Ok(()));
            prop_assert_eq!(listed(&reader, ROOM), ["own"], "own rows are out of reach");
        }
        // Whatever it took in, a heartbeat and an honest answer make it whole or it asks on.
        reader.handle_heartbeat(at(30), &node(OWNER), Incarnation(2), Version(1));
        drain(&mut reader);
    }
}
