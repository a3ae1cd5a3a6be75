//! Large lists in parts: whoever asks, and whenever, they fold into the list.

use herenow_presence::{BigRoom, Here, Presence, PresenceConfig, StateParts};
use herenow_protocol::{JoinRef, Payload, PresenceFold, event};
use herenow_pubsub::PubSub;
use serde_json::{Value, json};
use std::num::NonZero;

use crate::support::*;

/// A node whose lists are large from `from` bytes on, in parts of `part` bytes.
fn start_with(from: usize, part: usize) -> (PubSub, Presence) {
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    config.big_room = BigRoom::default();
    config.big_room.parts_from_bytes = from;
    config.big_room.part_bytes = NonZero::new(part).unwrap();
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    (pubsub, presence)
}

async fn join(presence: &Presence, key: &str) -> Here {
    let meta = json!({ "name": key, "status": "online" });
    presence.track_on(TOPIC, key, meta).await.unwrap()
}

async fn crowd(presence: &Presence, n: usize) -> Vec<Here> {
    let mut crowd = Vec::new();
    for n in 0..n {
        crowd.push(join(presence, &format!("user-{n:04}")).await);
    }
    crowd
}

/// Folds as the stock client does; returns its list.
fn fold(parts: StateParts) -> PresenceFold {
    let (mut fold, join_ref) = (PresenceFold::new(), JoinRef::from("1"));
    for (at, part) in parts.enumerate() {
        let event = match at {
            0 => event::PRESENCE_STATE,
            _ => event::PRESENCE_DIFF,
        };
        let folded = fold.handle_event(&join_ref, event, &Payload::Json(part), &mut |_| {});
        folded.unwrap();
    }
    fold
}

/// Who a client has, with the metas of each in their order.
fn listed(fold: &PresenceFold) -> Value {
    let entries = fold.state().list().map(|(key, entry)| {
        let metas = entry.metas().iter();
        let metas = metas.map(|meta| serde_json::from_str::<Value>(meta.json()).unwrap());
        (key.to_owned(), json!({ "metas": Vec::from_iter(metas) }))
    });
    Value::Object(entries.collect())
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

async fn random_history(seed: u64) {
    let (_pubsub, presence) = start_with(4_000, 1_000);
    let mut dice = Dice(seed);
    let mut held = Vec::new();
    let mut most = 0;
    for round in 0..300 {
        // It grows past the threshold, shrinks below it, and grows again.
        let is_growing = !(150..=220).contains(&round);
        match dice.roll(10) {
            0..=6 if is_growing => {
                held.push(join(&presence, &format!("user-{}", dice.roll(150))).await);
            }
            0..=6 if !held.is_empty() => {
                let here: Here = held.swap_remove(dice.roll(held.len()));
                here.untrack().await;
            }
            7 | 8 if !held.is_empty() => {
                let here = &held[dice.roll(held.len())];
                here.update(json!({ "round": round })).await.unwrap();
            }
            _ => {
                let list = presence.list(TOPIC).await;
                let parts = list.parts();
                assert_eq!(parts.version(), list.version());
                most = most.max(parts.clone().count());
                let whole: Value = serde_json::from_slice(&list.json()).unwrap();
                assert_eq!(listed(&fold(parts)), whole, "seed {seed}, round {round}");
            }
        }
    }
    assert!(most > 5, "it was never large: {most} parts");
}

#[tokio::test(start_paused = true)]
async fn prs_300_a_list_in_parts_is_the_list_at_any_time() {
    for seed in 0..6 {
        random_history(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn prs_301_what_did_not_change_is_rendered_once_for_all_versions() {
    let (_pubsub, presence) = start_with(1_000, 4_000);
    let mut crowd = crowd(&presence, 300).await;
    let parts: Vec<_> = presence.list(TOPIC).await.parts().collect();
    let again: Vec<_> = presence.list(TOPIC).await.parts().collect();
    let pointers = |parts: &[bytes::Bytes]| Vec::from_iter(parts.iter().map(|part| part.as_ptr()));
    assert_eq!(pointers(&parts), pointers(&again));
    crowd.truncate(290);
    presence.flush().await;
    crowd.push(join(&presence, "late").await);
    let later: Vec<_> = presence.list(TOPIC).await.parts().collect();
    assert_eq!(pointers(&later)[..parts.len()], pointers(&parts));
    let [changes] = &later[parts.len()..] else {
        panic!("{} parts more", later.len() - parts.len())
    };
    let changes: Value = serde_json::from_slice(changes).unwrap();
    let n_keys = |half: &str| changes[half].as_object().unwrap().len();
    assert_eq!((n_keys("joins"), n_keys("leaves")), (1, 10));
}

#[tokio::test(start_paused = true)]
async fn prs_302_parts_are_bounded_and_few() {
    let (_pubsub, presence) = start_with(1_000, 4_000);
    let mut crowd = crowd(&presence, 500).await;
    for n in 0..200 {
        // Somebody asks at each version, as in a storm of joins.
        crowd.push(join(&presence, &format!("late-{n}")).await);
        let parts: Vec<_> = presence.list(TOPIC).await.parts().collect();
        assert!(parts.iter().all(|part| part.len() < 4_000 + 200));
        assert!(parts.len() < 30, "{} parts", parts.len());
    }
}

#[tokio::test(start_paused = true)]
async fn prs_303_a_list_that_is_not_large_is_one_part() {
    let (_pubsub, presence) = start_with(1 << 20, 4_000);
    let _crowd = crowd(&presence, 300).await;
    let list = presence.list(TOPIC).await;
    let mut parts = list.parts();
    assert_eq!(parts.next(), Some(list.json()));
    assert_eq!(parts.next(), None);
    let mut empty = presence.list("room:nobody").await.parts();
    assert_eq!(empty.next().unwrap(), "{}");
    assert_eq!(empty.next(), None);
}
