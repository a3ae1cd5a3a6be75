//! Pages of a topic, of all topics, and of the topics that a key is in.

use std::collections::{BTreeMap, BTreeSet};

use herenow_presence::{Here, Presence};
use serde_json::json;

use crate::support::start;

fn topics_of(presence: &Presence, key: &str) -> Vec<String> {
    let topics = presence.topics_of_key(key, None, usize::MAX);
    topics.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn prs_650_where_is_finds_all_topics_of_a_key_and_each_of_its_presences() {
    let (_, presence) = start();
    let on = async |topic: &str| presence.track_on(topic, "ada", json!({})).await.unwrap();
    assert!(presence.where_is("ada", None, 10).is_empty());
    let first = on("room:1").await;
    assert_eq!(topics_of(&presence, "ada"), ["room:1"]);
    let again = on("room:1").await;
    let other = on("room:2").await;
    let places = presence.where_is("ada", None, 10);
    let shown: Vec<_> = places
        .iter()
        .map(|(topic, entry)| (topic.as_str(), entry.metas().len()))
        .collect();
    assert_eq!(shown, [("room:1", 2), ("room:2", 1)]);
    assert_eq!(places[0].1.metas()[0].node().as_str(), "local");
    // The one that the index may point at leaves, the other stays.
    first.untrack().await;
    assert_eq!(topics_of(&presence, "ada"), ["room:1", "room:2"]);
    again.update(json!({ "status": "away" })).await.unwrap();
    again.untrack().await;
    assert_eq!(topics_of(&presence, "ada"), ["room:2"]);
    other.untrack().await;
    assert!(topics_of(&presence, "ada").is_empty());
    assert!(presence.where_is(&"x".repeat(5_000), None, 10).is_empty());
}

#[tokio::test]
async fn prs_651_the_index_of_keys_agrees_with_the_lists_whatever_happens() {
    let (_, presence) = start();
    let mut random = oorandom::Rand32::new(7);
    let mut pick = |n: u32| random.rand_range(0..n);
    let mut here: Vec<Here> = Vec::new();
    let mut model: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for _ in 0..3_000 {
        let turn = if here.is_empty() { 4 } else { pick(5) };
        if turn > 1 {
            let (topic, key) = (format!("t:{}", pick(40)), format!("k{}", pick(12)));
            here.push(presence.track_on(&topic, &key, json!({})).await.unwrap());
            *model.entry(key).or_default().entry(topic).or_default() += 1;
            continue;
        }
        let at = usize::try_from(pick(u32::try_from(here.len()).unwrap())).unwrap();
        if turn == 1 {
            here[at].update(json!({ "x": 1 })).await.unwrap();
        } else {
            let gone = here.swap_remove(at);
            let key = gone.key().to_owned();
            let topic = herenow_presence::Holder::topic(&gone).to_owned();
            gone.untrack().await;
            let topics = model.get_mut(&key).unwrap();
            let n = topics.get_mut(&topic).unwrap();
            *n -= 1;
            if *n == 0 {
                topics.remove(&topic);
            }
        }
    }
    for (key, topics) in &model {
        let expected: Vec<&String> = topics.keys().collect();
        assert_eq!(
            topics_of(&presence, key).iter().collect::<Vec<_>>(),
            expected
        );
        for (topic, n) in topics {
            let entry = presence.entry(topic, key).unwrap();
            assert_eq!(entry.metas().len(), *n, "{topic} {key}");
        }
    }
    let all: BTreeSet<&String> = model.values().flat_map(BTreeMap::keys).collect();
    let listed = presence.topics_page("", None, usize::MAX);
    let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
    assert_eq!(listed.iter().collect::<BTreeSet<_>>(), all);
    assert!(listed.is_sorted());
}

#[tokio::test]
async fn prs_652_pages_hold_each_key_and_each_topic_once_while_others_come_and_go() {
    for n_members in [0_usize, 1, 63, 64, 65, 300] {
        let (_, presence) = start();
        let mut here = Vec::new();
        for member in 0..n_members {
            let key = format!("k{member:04}");
            here.push(presence.track_on("room:1", &key, json!({})).await.unwrap());
        }
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = presence.page_bare("room:1", after.as_deref(), 7);
            assert_eq!((page.n_metas, page.n_keys), (n_members, n_members));
            keys.extend(page.entries.iter().map(|entry| entry.key().to_string()));
            if !page.has_more {
                break;
            }
            assert_eq!(page.entries.len(), 7);
            after = keys.last().cloned();
            // Those before the cursor may leave: nobody is left out or comes twice for it.
            drop(presence.track_on("room:1", "a", json!({})).await.unwrap());
            presence.flush().await;
        }
        let expected: Vec<String> = (0..n_members)
            .map(|member| format!("k{member:04}"))
            .collect();
        assert_eq!(keys, expected);
    }
    let (_, presence) = start();
    let mut here = Vec::new();
    for topic in ["a", "room:", "room:1", "room:10", "room:2", "room;", "z"] {
        here.push(presence.track_on(topic, "ada", json!({})).await.unwrap());
    }
    let page = |prefix: &str, after: Option<&str>, max: usize| -> Vec<String> {
        let topics = presence.topics_page(prefix, after, max);
        topics.iter().map(ToString::to_string).collect()
    };
    assert_eq!(page("room:", None, 2), ["room:", "room:1"]);
    assert_eq!(page("room:", Some("room:1"), 9), ["room:10", "room:2"]);
    assert_eq!(page("room:", Some("a"), 1), ["room:"]);
    assert!(page("room:", Some("z"), 9).is_empty() && page("q", None, 9).is_empty());
    assert_eq!(page("", Some("room;"), 9), ["z"]);
    let some = presence.topics_of_key("ada", Some("room:1"), 2);
    assert_eq!(
        some.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
        ["room:10", "room:2"]
    );
}

#[tokio::test]
async fn srv_797_the_largest_topics_are_those_with_the_most_presences_whatever_their_shard() {
    let (_, presence) = start();
    let mut here = Vec::new();
    for topic in 0..40_usize {
        for key in 0..topic {
            let topic = format!("room:{topic:02}");
            here.push(
                presence
                    .track_on(&topic, key.to_string(), json!({}))
                    .await
                    .unwrap(),
            );
        }
    }
    let largest = |max| -> Vec<(String, usize)> {
        let topics = presence.largest_topics(max).into_iter();
        topics.map(|(topic, n)| (topic.to_string(), n)).collect()
    };
    let expected = |topics: std::ops::Range<usize>| -> Vec<(String, usize)> {
        topics.rev().map(|n| (format!("room:{n:02}"), n)).collect()
    };
    assert_eq!(largest(3), expected(37..40));
    assert_eq!(largest(100), expected(1..40));
    assert_eq!(largest(0), []);
    here.truncate(1); // One of the smallest.
    presence.flush().await;
    assert_eq!(largest(100), expected(1..2));
    here.push(presence.track_on("room:00", "a", json!({})).await.unwrap());
    let both = [("room:00".to_owned(), 1), ("room:01".to_owned(), 1)];
    assert_eq!(
        largest(100),
        both,
        "of one size in the order of their names"
    );
}
