//! Area T, of one node: tracks, owners, the pool; and its limits.

use std::num::NonZero;
use std::time::Duration;

use herenow_presence::{
    ConfigError, MetaError, NameError, Owner, Presence, PresenceConfig, TrackError, UpdateError,
};
use herenow_pubsub::PubSub;
use serde_json::{Value, json};

use crate::support::*;

const OTHER: &str = "room:2";

fn with_config(change: impl FnOnce(&mut PresenceConfig)) -> Presence {
    let mut config = PresenceConfig::default();
    change(&mut config);
    Presence::builder(&PubSub::local())
        .config(config)
        .start()
        .unwrap()
}

#[tokio::test]
async fn t_08_untrack_of_an_unknown_entry_is_fine() {
    let (_, presence) = start();
    let owner = Owner::new();
    assert!(!presence.untrack(&owner.at(TOPIC), "foo").await);
}

#[tokio::test]
async fn t_09_the_owner_is_watched_until_its_last_presence_goes() {
    let (_, presence) = start();
    let owner = Owner::new();
    presence
        .track(&owner.at(TOPIC), "user1", name("user1"))
        .await
        .unwrap();
    presence
        .track(&owner.at(OTHER), "user2", name("user2"))
        .await
        .unwrap();
    assert!(presence.untrack(&owner.at(TOPIC), "user1").await);
    assert_eq!((presence.count(TOPIC), presence.count(OTHER)), (0, 1));
    assert!(format!("{owner:?}").contains("n_holds: 1"));
    assert!(presence.untrack(&owner.at(OTHER), "user2").await);
    assert_eq!((presence.count(TOPIC), presence.count(OTHER)), (0, 0));
    assert!(format!("{owner:?}").contains("n_holds: 0"));
}

#[tokio::test]
async fn t_10_untrack_all_ends_every_topic_at_once() {
    let (_, presence) = start();
    let owner = Owner::new();
    presence
        .track(&owner.at(TOPIC), "user1", name("user1"))
        .await
        .unwrap();
    presence
        .track(&owner.at(OTHER), "user2", name("user2"))
        .await
        .unwrap();
    assert_eq!(presence.untrack_all(&owner.at(TOPIC)).await, 2);
    assert_eq!((presence.count(TOPIC), presence.count(OTHER)), (0, 0));
    assert!(format!("{owner:?}").contains("n_holds: 0"));
}

#[tokio::test]
async fn t_11_update_with_a_meta_replaces_it_and_names_the_one_before() {
    let (pubsub, presence) = start();
    let here = presence
        .track_on(TOPIC, "user1", json!({"status": "online"}))
        .await
        .unwrap();
    presence.flush().await;
    let mut subscription = pubsub.subscribe(TOPIC);
    let before = list(&presence, TOPIC).await["user1"]["metas"][0]["phx_ref"].clone();
    let after = here.update(json!({"away": true})).await.unwrap();
    let both = next_json(&mut subscription).await;
    let old = json!({"status": "online", "phx_ref": before});
    let new = json!({"away": true, "phx_ref": after.as_str(), "phx_ref_prev": before});
    assert_eq!(both, diff(entry("user1", &[new]), entry("user1", &[old])));
}

#[tokio::test]
async fn t_12_update_with_a_function_keeps_what_it_does_not_touch() {
    let (pubsub, presence) = start();
    let meta = json!({"browser": "Chrome", "status": "online"});
    let here = presence.track_on(TOPIC, "user1", &meta).await.unwrap();
    presence.flush().await;
    let mut subscription = pubsub.subscribe(TOPIC);
    let mut seen_ref = Value::Null;
    here.update_with(|meta| {
        seen_ref = meta["phx_ref"].clone();
        meta.insert("status".into(), json!("away"));
    })
    .await
    .unwrap();
    let both = next_json(&mut subscription).await;
    let old = &both["leaves"]["user1"]["metas"][0];
    let new = &both["joins"]["user1"]["metas"][0];
    assert_eq!(
        old,
        &json!({"browser": "Chrome", "status": "online", "phx_ref": seen_ref})
    );
    assert_eq!(
        (&new["browser"], &new["status"]),
        (&json!("Chrome"), &json!("away"))
    );
    assert_eq!(new["phx_ref_prev"], seen_ref);
}

#[tokio::test]
async fn t_13_update_without_entry_is_not_tracked() {
    let (_, presence) = start();
    let owner = Owner::new();
    let refused = presence
        .update(&owner.at(TOPIC), "user1", json!({}))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        UpdateError::NotTracked {
            topic: TOPIC.into(),
            key: "user1".into()
        }
    );
}

#[tokio::test]
async fn t_14_the_same_track_twice_is_refused_and_others_are_not() {
    let (_, presence) = start();
    let owner = Owner::new();
    presence
        .track(&owner.at(TOPIC), "user1", json!({}))
        .await
        .unwrap();
    let refused = presence
        .track(&owner.at(TOPIC), "user1", json!({"again": 1}))
        .await
        .unwrap_err();
    let expected = TrackError::AlreadyTracked {
        topic: TOPIC.into(),
        key: "user1".into(),
    };
    assert_eq!(refused, expected);
    assert_eq!(
        refused.to_string(),
        "user1 is tracked in room:1 already by this owner"
    );
    presence
        .track(&owner.at(OTHER), "user1", json!({}))
        .await
        .unwrap();
    presence
        .track(&owner.at(TOPIC), "user2", json!({}))
        .await
        .unwrap();
    assert!(presence.untrack(&owner.at(TOPIC), "user1").await);
    assert!(presence.untrack(&owner.at(OTHER), "user1").await);
    assert!(presence.untrack(&owner.at(TOPIC), "user2").await);
    assert_eq!(presence.topics(), []);
}

#[tokio::test]
async fn t_19_nodes_may_not_be_down_between_two_heartbeats() {
    let mut config = PresenceConfig::default();
    config.shard.heartbeat_period = Duration::from_millis(1500);
    config.shard.down_period = Duration::from_millis(1);
    let refused = Presence::builder(&PubSub::local())
        .config(config)
        .start()
        .unwrap_err();
    assert!(matches!(refused, ConfigError::Shard(_)), "{refused}");
}

#[tokio::test]
async fn t_20_permdown_may_not_come_before_down() {
    let mut config = PresenceConfig::default();
    config.shard.down_period = Duration::from_secs(1200);
    config.shard.permdown_period = Duration::from_secs(120);
    let refused = Presence::builder(&PubSub::local())
        .config(config)
        .start()
        .unwrap_err();
    assert!(matches!(refused, ConfigError::Shard(_)), "{refused}");
}

#[tokio::test]
async fn t_21_default_construction_works() {
    let (_, presence) = start();
    assert_eq!(presence.stats().n_presences, 0);
}

/// Runs a scenario with pools of 1, 2, 8 and 512 shards, one owner and a hundred topics.
async fn with_pools(scenario: impl AsyncFn(&Presence, &Owner, &[String])) {
    let topics: Vec<String> = (1..=100).map(|n| format!("topic_{n}")).collect();
    for n_shards in [1, 2, 8, 512] {
        let presence = with_config(|config| config.n_shards = NonZero::new(n_shards).unwrap());
        scenario(&presence, &Owner::new(), &topics).await;
        presence.shutdown().await;
    }
}

async fn track_all(presence: &Presence, owner: &Owner, topics: &[String]) -> Vec<String> {
    let mut refs = Vec::new();
    for topic in topics {
        let at = owner.at(topic);
        let tracked = presence.track(&at, "me", json!({"name": "me", "a": "oldval"}));
        refs.push(tracked.await.unwrap().as_str().to_owned());
    }
    refs
}

async fn metas_of_me(presence: &Presence, topic: &str) -> Value {
    list(presence, topic).await["me"]["metas"].clone()
}

#[tokio::test]
async fn t_22_pool_track_on_one_topic() {
    with_pools(async |presence, owner, topics| {
        let refs = track_all(presence, owner, &topics[..1]).await;
        let expected = json!([{"name": "me", "a": "oldval", "phx_ref": refs[0]}]);
        assert_eq!(metas_of_me(presence, &topics[0]).await, expected);
    })
    .await;
}

#[tokio::test]
async fn t_23_pool_track_on_all_topics() {
    with_pools(async |presence, owner, topics| {
        let refs = track_all(presence, owner, topics).await;
        for (topic, meta_ref) in topics.iter().zip(&refs) {
            let expected = json!([{"name": "me", "a": "oldval", "phx_ref": meta_ref}]);
            assert_eq!(metas_of_me(presence, topic).await, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn t_24_pool_untrack_each() {
    with_pools(async |presence, owner, topics| {
        track_all(presence, owner, topics).await;
        for topic in topics {
            assert!(presence.untrack(&owner.at(topic), "me").await);
            assert_eq!(list(presence, topic).await, json!({}));
        }
        assert_eq!(presence.topics(), []);
    })
    .await;
}

#[tokio::test]
async fn t_25_pool_untrack_the_owner() {
    with_pools(async |presence, owner, topics| {
        track_all(presence, owner, topics).await;
        assert_eq!(presence.untrack_all(&owner.at("any")).await, 100);
        assert_eq!(presence.topics(), []);
    })
    .await;
}

#[tokio::test]
async fn t_26_pool_update_with_a_meta() {
    with_pools(async |presence, owner, topics| {
        let refs = track_all(presence, owner, topics).await;
        for (topic, old) in topics.iter().zip(&refs) {
            let updated = presence
                .update(&owner.at(topic), "me", json!({"new": "thing"}))
                .await;
            let new = updated.unwrap();
            let meta = json!({"new": "thing", "phx_ref": new.as_str(), "phx_ref_prev": old});
            assert_eq!(metas_of_me(presence, topic).await, json!([meta]));
        }
    })
    .await;
}

#[tokio::test]
async fn t_27_pool_update_with_a_function() {
    with_pools(async |presence, owner, topics| {
        let refs = track_all(presence, owner, topics).await;
        for (topic, old) in topics.iter().zip(&refs) {
            let change = |meta: &mut serde_json::Map<String, Value>| {
                meta.insert("a".into(), json!("newval"));
            };
            let new = presence
                .update_with(&owner.at(topic), "me", change)
                .await
                .unwrap();
            let meta =
                json!({"name": "me", "a": "newval", "phx_ref": new.as_str(), "phx_ref_prev": old});
            assert_eq!(metas_of_me(presence, topic).await, json!([meta]));
        }
    })
    .await;
}

#[tokio::test]
async fn t_28_shutdown_ends_all_shards_and_a_new_pool_lists_nothing() {
    let pubsub = PubSub::local();
    let presence = Presence::new(&pubsub);
    let owner = Owner::new();
    presence
        .track(&owner.at(TOPIC), "me", json!({}))
        .await
        .unwrap();
    in_time(presence.shutdown()).await;
    in_time(presence.shutdown()).await;
    let refused = presence.track(&owner.at(OTHER), "me", json!({})).await;
    assert_eq!(refused.unwrap_err(), TrackError::Closed);
    let refused = presence.update(&owner.at(TOPIC), "me", json!({})).await;
    assert_eq!(refused.unwrap_err(), UpdateError::Closed);
    assert!(!presence.untrack(&owner.at(TOPIC), "me").await);
    in_time(presence.flush()).await;
    let fresh = Presence::new(&pubsub);
    assert_eq!(list(&fresh, TOPIC).await, json!({}));
}

#[tokio::test]
async fn t_29_a_topic_always_finds_its_presences_whatever_the_pool() {
    with_pools(async |presence, owner, topics| {
        track_all(presence, owner, topics).await;
        // Clones and later calls find the same shards.
        let clone = presence.clone();
        for topic in topics {
            assert_eq!(clone.count(topic), 1);
        }
        assert_eq!(clone.topics().len(), 100);
    })
    .await;
}

#[tokio::test]
async fn trk_01_limits_are_named_in_the_errors() {
    let presence = with_config(|config| {
        config.max_topic_bytes = 8;
        config.max_key_bytes = 4;
        config.max_meta_bytes = 16;
        config.max_metas_per_key = 2;
    });
    let owner = Owner::new();
    let track = async |topic: &str, key: &str, meta: Value| {
        presence
            .track(&owner.at(topic), key, meta)
            .await
            .map(|_| ())
            .unwrap_err()
    };
    let too_long = |field, len, max| TrackError::Name(NameError::TooLong { field, len, max });
    assert_eq!(
        track("room:1234", "k", json!({})).await,
        too_long("topic", 9, 8)
    );
    assert_eq!(
        track(TOPIC, "12345", json!({})).await,
        too_long("key", 5, 4)
    );
    let empty = |field| TrackError::Name(NameError::Empty { field });
    assert_eq!(track(TOPIC, "", json!({})).await, empty("key"));
    assert_eq!(track("", "k", json!({})).await, empty("topic"));
    let not_an_object = TrackError::Meta(MetaError::NotAnObject { found: "an array" });
    assert_eq!(track(TOPIC, "k", json!([])).await, not_an_object);
    let too_large = TrackError::Meta(MetaError::TooLarge { len: 18, max: 16 });
    assert_eq!(
        track(TOPIC, "k", json!({"a": "0123456789"})).await,
        too_large
    );
    assert_eq!(presence.stats().n_refused, 6);

    let _held = [
        presence.track_on(TOPIC, "k", json!({})).await.unwrap(),
        presence.track_on(TOPIC, "k", json!({})).await.unwrap(),
    ];
    let refused = track(TOPIC, "k", json!({})).await;
    let topic = TOPIC.to_owned();
    assert_eq!(
        refused,
        TrackError::TooManyMetas {
            topic,
            key: "k".into(),
            n_metas: 2,
            max: 2
        }
    );
    presence
        .track(&owner.at(TOPIC), "l", json!({}))
        .await
        .unwrap();
    assert_eq!(
        presence
            .list("a topic that is far too long to be one")
            .await
            .n_metas(),
        0
    );
}

#[tokio::test]
async fn trk_02_the_limit_of_metas_holds_within_one_batch() {
    let presence = with_config(|config| config.max_metas_per_key = 3);
    let tracks = (0..10).map(|_| presence.track_on(TOPIC, "k", json!({})));
    let outcomes = futures_util::future::join_all(tracks).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    assert_eq!(presence.count(TOPIC), 3);
}

#[tokio::test]
async fn trk_03_wrong_limits_are_refused_with_both_values() {
    let mut config = PresenceConfig::default();
    config.max_key_bytes = 1_000_000;
    let refused = Presence::builder(&PubSub::local())
        .config(config)
        .start()
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("max_key_bytes is 1000000, it must be between 1 and")
    );
}

#[tokio::test]
async fn trk_04_writes_that_are_ready_together_become_one_batch() {
    let (pubsub, presence) = start();
    let mut subscription = pubsub.subscribe(TOPIC);
    let before = presence.stats().n_batches;
    let tracks = (0..50).map(|n| presence.track_on(TOPIC, format!("u{n}"), json!({})));
    let held = futures_util::future::join_all(tracks).await;
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(presence.stats().n_batches - before, 1);
    let joined = next_json(&mut subscription).await;
    assert_eq!(joined["joins"].as_object().unwrap().len(), 50);
}
