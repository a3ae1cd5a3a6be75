//! Area P: the presence server.

use std::sync::Arc;

use herenow_presence::{Owner, Presence, PresenceConfig, UpdateError};
use herenow_pubsub::{Broadcast, Once, PubSub, Sink};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn p_01_default_options_give_the_default_configuration() {
    let (_, presence) = start();
    let default = PresenceConfig::default();
    assert_eq!(presence.config().name, default.name);
    assert_eq!(presence.config().n_shards, default.n_shards);
}

#[tokio::test]
async fn p_02_without_fetch_entries_are_their_metas() {
    let (_, presence) = start();
    let _here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    assert_eq!(
        list_bare(&presence, TOPIC).await,
        entry("u1", &[name("u1")])
    );
}

#[tokio::test]
async fn p_03_list_is_empty_and_then_has_who_was_tracked() {
    let (_, presence) = start();
    let owner = Owner::new();
    assert_eq!(list(&presence, TOPIC).await, json!({}));
    let meta_ref = presence
        .track(&owner.at(TOPIC), "u1", name("u1"))
        .await
        .unwrap();
    let expected = json!({"u1": {"metas": [{"name": "u1", "phx_ref": meta_ref.as_str()}]}});
    assert_eq!(list(&presence, TOPIC).await, expected);
}

#[tokio::test]
async fn p_04_keys_come_back_as_given() {
    let (_, presence) = start();
    let mut held = Vec::new();
    for key in ["1", "café 🚀", "a\"quote\\", "__proto__", " "] {
        held.push(presence.track_on(TOPIC, key, json!({})).await.unwrap());
    }
    let listed = list(&presence, TOPIC).await;
    let keys: Vec<&str> = listed
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(keys, [" ", "1", "__proto__", "a\"quote\\", "café 🚀"]);
}

#[tokio::test]
async fn p_05_get_by_key_returns_the_metas_of_one_key_in_order() {
    let (_, presence) = start();
    assert!(presence.get_by_key(TOPIC, "1").await.is_none());
    let _a = presence.track_on(TOPIC, "1", name("u1")).await.unwrap();
    let _b = presence.track_on(TOPIC, "1", name("u1.2")).await.unwrap();
    let _c = presence.track_on(TOPIC, "2", name("u2")).await.unwrap();
    let got = presence.get_by_key(TOPIC, "1").await.unwrap();
    assert_eq!((got.key().as_str(), got.metas().len()), ("1", 2));
    let bare = without_refs(serde_json::from_str(&got.json()).unwrap());
    assert_eq!(bare, json!({"metas": [name("u1"), name("u1.2")]}));
    assert!(presence.get_by_key(TOPIC, "another_key").await.is_none());
    assert!(presence.get_by_key("another_topic", "2").await.is_none());
}

#[tokio::test]
async fn p_06_joins_and_leaves_are_broadcast_and_listed() {
    let (pubsub, presence) = start();
    let mut subscription = pubsub.subscribe(TOPIC);
    let owner = Owner::new();
    let meta_ref = presence
        .track(&owner.at(TOPIC), "u1", name("u1"))
        .await
        .unwrap();
    let with_ref = json!({"u1": {"metas": [{"name": "u1", "phx_ref": meta_ref.as_str()}]}});
    assert_eq!(
        next_json(&mut subscription).await,
        diff(with_ref.clone(), json!({}))
    );
    assert_eq!(list(&presence, TOPIC).await, with_ref);
    drop(owner);
    assert_eq!(
        next_json(&mut subscription).await,
        diff(json!({}), with_ref)
    );
    assert_eq!(list(&presence, TOPIC).await, json!({}));
}

/// Wraps each broadcast in words of its own.
struct Wrapping(Mutex<Vec<Value>>);

impl Sink for Wrapping {
    fn deliver(&self, broadcast: &Broadcast, _once: &mut Once) {
        let diff = without_refs(json_of(&as_diff(&broadcast.payload)));
        self.0
            .lock()
            .push(json!({ "custom": [&*broadcast.event, diff] }));
    }
}

#[tokio::test]
async fn p_08_a_sink_of_ones_own_wraps_what_it_gets() {
    let (pubsub, presence) = start();
    let sink = Arc::new(Wrapping(Mutex::default()));
    let _attached = pubsub.attach(TOPIC, sink.clone());
    drop(presence.track_on(TOPIC, "u1", name("u1")).await.unwrap());
    presence.flush().await;
    let u1 = entry("u1", &[name("u1")]);
    let expected = [
        json!({"custom": ["presence_diff", diff(u1.clone(), json!({}))]}),
        json!({"custom": ["presence_diff", diff(json!({}), u1)]}),
    ];
    assert_eq!(*sink.0.lock(), expected);
}

#[tokio::test]
async fn p_09_untrack_ends_one_of_several_keys() {
    let (pubsub, presence) = start();
    let owner = Owner::new();
    let mut subscription = pubsub.subscribe(TOPIC);
    presence
        .track(&owner.at(TOPIC), "u1", name("u1"))
        .await
        .unwrap();
    presence
        .track(&owner.at(TOPIC), "u2", name("u2"))
        .await
        .unwrap();
    assert_eq!(presence.list(TOPIC).await.len(), 2);
    next_json(&mut subscription).await;
    next_json(&mut subscription).await;
    assert!(presence.untrack(&owner.at(TOPIC), "u1").await);
    let left = without_refs(next_json(&mut subscription).await);
    assert_eq!(left, diff(json!({}), entry("u1", &[name("u1")])));
    assert_eq!(
        list_bare(&presence, TOPIC).await,
        entry("u2", &[name("u2")])
    );
}

#[tokio::test]
async fn p_10_a_holder_tracks_and_untracks_itself() {
    let (pubsub, presence) = start();
    let mut subscription = pubsub.subscribe(TOPIC);
    let here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    assert_eq!(
        list_bare(&presence, TOPIC).await,
        entry("u1", &[name("u1")])
    );
    next_json(&mut subscription).await;
    assert!(presence.untrack(&here, "u1").await);
    let left = without_refs(next_json(&mut subscription).await);
    assert_eq!(left, diff(json!({}), entry("u1", &[name("u1")])));
    assert_eq!(list(&presence, TOPIC).await, json!({}));
}

#[tokio::test]
async fn p_11_untrack_of_something_never_tracked_is_fine() {
    let (_, presence) = start();
    let owner = Owner::new();
    assert!(!presence.untrack(&owner.at(TOPIC), "u1").await);
    assert_eq!(presence.untrack_all(&owner.at(TOPIC)).await, 0);
}

#[tokio::test]
async fn p_12_update_is_one_diff_with_both_halves() {
    let (pubsub, presence) = start();
    let owner = Owner::new();
    presence
        .track(&owner.at(TOPIC), "u1", name("u1"))
        .await
        .unwrap();
    presence.flush().await;
    let mut subscription = pubsub.subscribe(TOPIC);
    let meta_ref = presence
        .update(&owner.at(TOPIC), "u1", name("updated"))
        .await
        .unwrap();
    let both = next_json(&mut subscription).await;
    assert_eq!(
        both["joins"]["u1"]["metas"][0]["phx_ref"],
        meta_ref.as_str()
    );
    let (joined, left) = (entry("u1", &[name("updated")]), entry("u1", &[name("u1")]));
    assert_eq!(without_refs(both), diff(joined.clone(), left));
    assert_eq!(list_bare(&presence, TOPIC).await, joined);
}

#[tokio::test]
async fn p_13_update_without_track_is_not_tracked() {
    let (_, presence) = start();
    let owner = Owner::new();
    let refused = presence.update(&owner.at(TOPIC), "u1", name("u1")).await;
    let expected = UpdateError::NotTracked {
        topic: TOPIC.into(),
        key: "u1".into(),
    };
    assert_eq!(refused.unwrap_err(), expected);
    let refused = presence.update_with(&owner.at(TOPIC), "u1", |_| {}).await;
    assert_eq!(refused.unwrap_err(), expected);
}

#[tokio::test]
async fn prs_03_readers_share_one_rendering_until_the_topic_changes() {
    let (_, presence) = start();
    let _one = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    let (first, again) = (presence.list(TOPIC).await, presence.list(TOPIC).await);
    assert_eq!(first.json().as_ptr(), again.json().as_ptr());
    let _two = presence
        .track_on("room:other", "u2", name("u2"))
        .await
        .unwrap();
    assert_eq!(presence.list(TOPIC).await.version(), first.version());
    let _three = presence.track_on(TOPIC, "u3", name("u3")).await.unwrap();
    assert!(presence.list(TOPIC).await.version() > first.version());
    assert_eq!(first.n_metas(), 1, "a list is a value: it does not change");
}

#[tokio::test]
async fn prs_04_counts_and_topics_equal_the_lists() {
    let (_, presence) = start();
    let mut held = Vec::new();
    for n in 0..200 {
        let topic = format!("room:{}", n % 3);
        held.push(
            presence
                .track_on(&topic, format!("u{}", n % 40), json!({}))
                .await
                .unwrap(),
        );
    }
    for step in 0..20 {
        let mut topics: Vec<(String, usize)> = presence
            .topics()
            .into_iter()
            .map(|(topic, n)| (topic.to_string(), n))
            .collect();
        topics.sort();
        for (topic, n_metas) in &topics {
            let listed = presence.list(topic).await;
            let entries = listed.entries();
            let n_listed: usize = entries.iter().map(|entry| entry.metas().len()).sum();
            assert_eq!(
                (n_listed, listed.n_metas(), presence.count(topic)),
                (*n_metas, n_listed, n_listed)
            );
            assert_eq!(
                (entries.len(), presence.count_keys(topic)),
                (listed.len(), listed.len())
            );
            assert_eq!(listed.keys().len(), listed.len());
        }
        assert_eq!(
            topics.iter().map(|(_, n)| n).sum::<usize>(),
            200 - step * 10
        );
        assert_eq!(presence.stats().n_presences, 200 - step as u64 * 10);
        held.truncate(190 - step * 10);
        presence.flush().await;
    }
    assert_eq!(presence.topics(), []);
    assert_eq!(presence.count("room:0"), 0);
}

#[tokio::test]
async fn prs_05_a_large_topic_reads_like_a_small_one() {
    let (_, presence) = start();
    let mut held = Vec::new();
    let mut expected = serde_json::Map::new();
    for n in 0..300 {
        let key = format!("u{:03}", n * 7 % 100);
        let meta = json!({ "n": n });
        held.push(presence.track_on(TOPIC, &key, &meta).await.unwrap());
        let entry = expected.entry(key).or_insert_with(|| json!({"metas": []}));
        entry["metas"].as_array_mut().unwrap().push(meta);
    }
    assert_eq!(list_bare(&presence, TOPIC).await, Value::Object(expected));
    let got = presence.get_by_key(TOPIC, "u007").await.unwrap();
    let n: Vec<i64> = got
        .metas()
        .iter()
        .map(|meta| meta.read::<Value>().unwrap()["n"].as_i64().unwrap())
        .collect();
    assert_eq!(n, [1, 101, 201]);
    held[101].update(json!({"n": "moved"})).await.unwrap();
    let got = presence.get_by_key(TOPIC, "u007").await.unwrap();
    assert!(
        got.metas()[2].json().starts_with(r#"{"n":"moved","#),
        "an updated meta is the last"
    );
    // Shrinks back to a slice.
    held.truncate(10);
    presence.flush().await;
    assert_eq!(presence.list(TOPIC).await.n_metas(), 10);
    assert_eq!(presence.list(TOPIC).await.keys()[1].as_str(), "u007");
}

#[tokio::test]
async fn prs_06_reads_need_no_driver() {
    let (_, presence) = start();
    let _here = presence.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    // On this one thread no driver can run while we do not wait: yet all reads answer.
    let owner = Owner::new();
    let at = owner.at(TOPIC);
    let mut writing = Box::pin(presence.track(&at, "u2", name("u2")));
    assert!(poll_once(&mut writing).await.is_pending());
    assert_eq!((presence.count(TOPIC), presence.count_keys(TOPIC)), (1, 1));
    assert_eq!(presence.topics().len(), 1);
    let mut listing = Box::pin(presence.list(TOPIC));
    let std::task::Poll::Ready(listed) = poll_once(&mut listing).await else {
        panic!("a list without fetch does not wait");
    };
    assert_eq!(listed.keys()[0].as_str(), "u1");
    writing.await.unwrap();
    assert_eq!(presence.count(TOPIC), 2);
}

#[tokio::test]
async fn prs_07_a_client_cannot_set_refs() {
    let (_, presence) = start();
    let forged = json!({"phx_ref": "forged", "phx_ref_prev": "forged", "a": 1});
    let here = presence.track_on(TOPIC, "u1", &forged).await.unwrap();
    let listed = list(&presence, TOPIC).await;
    let meta = &listed["u1"]["metas"][0];
    assert_eq!(meta["phx_ref"].as_str().unwrap().len(), 16);
    assert_eq!(meta.get("phx_ref_prev"), None);
    here.update(&forged).await.unwrap();
    let listed_again = list(&presence, TOPIC).await;
    assert_eq!(
        listed_again["u1"]["metas"][0]["phx_ref_prev"],
        meta["phx_ref"]
    );
    assert_ne!(listed_again["u1"]["metas"][0]["phx_ref"], meta["phx_ref"]);
}

#[tokio::test]
async fn prs_08_two_presence_systems_of_a_node_are_strangers() {
    let pubsub = PubSub::local();
    let (one, two) = (Presence::new(&pubsub), Presence::new(&pubsub));
    let _here = one.track_on(TOPIC, "u1", name("u1")).await.unwrap();
    assert_eq!((one.count(TOPIC), two.count(TOPIC)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn prs_580_a_sink_that_panics_harms_neither_its_shard_nor_a_flush() {
    struct Broken;
    impl Sink for Broken {
        fn deliver(&self, _: &Broadcast, _: &mut Once) {
            panic!("as the test wants");
        }
    }
    let (pubsub, presence) = start();
    let _broken = pubsub.attach(TOPIC, Arc::new(Broken));
    let mut subscription = pubsub.subscribe(TOPIC);
    for user in ["ada", "bob"] {
        let here = presence.track_on(TOPIC, user, json!({})).await.unwrap();
        in_time(presence.flush()).await;
        assert!(next_json(&mut subscription).await["joins"][user].is_object());
        drop(here);
        assert!(next_json(&mut subscription).await["leaves"][user].is_object());
    }
    assert_eq!(pubsub.stats().n_panicked, 4);
}
