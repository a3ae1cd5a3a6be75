//! Which claims and orders are heeded, and what is told again.

use herenow_pubsub::{MemoryCluster, PubSub};

use super::super::link::Heard;
use super::*;

#[tokio::test]
async fn srv_1734_a_claim_is_later_than_one_that_is_known_of_a_node_whose_clock_is_ahead() {
    let pubsub = PubSub::new(MemoryCluster::new().adapter("a"));
    let (presence, stats) = (Presence::new(&pubsub), Arc::<Stats>::default());
    let (heard, _arrivals) = Heard::new(stats.clone());
    let link = pubsub.link("people", Arc::new(heard)).unwrap();
    let mut leases = Leases::new(presence, link, 10, stats);
    let name = Name {
        topic: "room:1".to_owned(),
        key: "ada".to_owned(),
    };
    let before = leases.next_stamp(&name);
    let hour_ns = 3_600_000_000_000;
    let claim = Claim {
        name: name.clone(),
        stamp: Stamp {
            unix_nanos: before.unix_nanos + hour_ns,
            node: "b".to_owned(),
        },
        phx_ref: "none".to_owned(),
    };
    leases.on_claims("b", vec![claim.clone()]);
    assert!(leases.next_stamp(&name) > claim.stamp);
    let held = leases.begin(name.clone(), Change::Keep, Some(TELL_AGAIN));
    assert!(held.await.unwrap().is_new);
    // The claim that was known before does not take it away, and a later one does.
    leases.on_claims("b", vec![claim.clone()]);
    assert!(!leases.held[&name].is_moved);
    let stamp = Stamp {
        unix_nanos: leases.next_stamp(&name).unix_nanos,
        node: "b".to_owned(),
    };
    leases.on_claims("b", vec![Claim { stamp, ..claim }]);
    assert!(leases.held[&name].is_moved);
}

#[tokio::test(start_paused = true)]
async fn srv_1751_each_lease_is_told_of_again_about_once_a_minute_and_not_all_at_once() {
    let cluster = MemoryCluster::new();
    let (a, b) = (
        PubSub::new(cluster.adapter("a")),
        PubSub::new(cluster.adapter("b")),
    );
    let stats = Arc::<Stats>::default();
    let (deaf, _arrivals) = Heard::new(stats.clone());
    let (heard, mut arrivals) = Heard::new(stats.clone());
    let _link = b.link("people", Arc::new(heard)).unwrap();
    let link = a.link("people", Arc::new(deaf)).unwrap();
    let mut leases = Leases::new(Presence::new(&a), link, 1_000, stats);
    let mut told = async || {
        let mut told = Vec::new();
        // Time in which all that was sent arrives; it is paused time.
        while let Ok(Some(arrival)) =
            tokio::time::timeout(Duration::from_millis(1), arrivals.recv()).await
        {
            if let Arrival::Message { message, .. } = arrival
                && let Message::Held(claims) = message
            {
                told.push(claims.len());
            }
        }
        told
    };
    let n_leases = 2 * MAX_BATCH + 1;
    for n in 0..n_leases {
        let (topic, key) = ("room:1".to_owned(), format!("user {n}"));
        let name = Name { topic, key };
        let hour = Some(Duration::from_hours(1));
        leases.begin(name, Change::Keep, hour).await.unwrap();
    }
    assert_eq!(told().await, vec![1; n_leases]);
    leases.tell_claims_again();
    assert!(told().await.is_empty());
    for _ in 0..2 {
        tokio::time::advance(CLAIM_AGAIN).await;
        for expected in [vec![MAX_BATCH], vec![MAX_BATCH], vec![1], vec![]] {
            leases.tell_claims_again();
            assert_eq!(told().await, expected);
        }
    }
}
