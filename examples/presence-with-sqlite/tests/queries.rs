//! Fifty people, and how often the database is asked about them.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use futures_util::future::try_join_all;
use herenow::{Here, Presence, PubSub, WatchEvent};
use presence_with_sqlite::Users;
use serde_json::json;

async fn fifty_join(presence: &Presence) -> Vec<Here> {
    let joins = (1..=50).map(|n| presence.track_on("room:1", format!("u{n}"), json!({})));
    try_join_all(joins).await.unwrap()
}

#[tokio::test]
async fn srv_70_a_list_of_fifty_people_is_one_query() {
    let users = Users::in_memory(50).await.unwrap();
    let presence = Presence::builder(&PubSub::local())
        .fetch(users.clone())
        .start()
        .unwrap();
    let _here = fifty_join(&presence).await;
    presence.flush().await;
    let before = users.n_queries();

    let list = json!(presence.list("room:1").await);
    assert_eq!(users.n_queries(), before + 1);
    assert_eq!(list.as_object().unwrap().len(), 50);
    assert_eq!(list["u7"]["name"], "User 7");
    assert_eq!(list["u7"]["city"], "Oslo");
    assert_eq!(list["u7"]["id"], json!(null));
    assert!(list["u7"]["metas"][0]["phx_ref"].is_string());

    presence.list("room:1").await;
    assert_eq!(users.n_queries(), before + 1, "nothing has changed since");
}

#[tokio::test]
async fn srv_70_fifty_people_who_join_at_once_are_a_few_queries() {
    let users = Users::in_memory(50).await.unwrap();
    let presence = Presence::builder(&PubSub::local())
        .fetch(users.clone())
        .start()
        .unwrap();
    let mut watch = presence.watch("room:1");
    let WatchEvent::State(state) = watch.next().await else {
        panic!("no state")
    };
    assert!(state.is_empty());

    let _here = fifty_join(&presence).await;
    let mut n_joined = 0;
    while n_joined < 50 {
        let WatchEvent::Changed(_) = watch.next().await else {
            panic!("no change")
        };
        n_joined += 1;
    }
    let n_queries = users.n_queries();
    assert!((1..=10).contains(&n_queries), "{n_queries} queries");
}
