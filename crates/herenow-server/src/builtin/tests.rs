//! Users who are made to go, on two nodes.

use std::sync::Arc;
use std::time::Duration;

use herenow_channels::testing::TestClient;
use herenow_channels::{Reason, Sockets};
use herenow_presence::Presence;
use herenow_protocol::ServerMessage;
use herenow_pubsub::{MemoryCluster, PubSub};
use serde_json::json;

use super::{BuiltIn, Rules};
use crate::config::{LimitsConfig, Secret, ServerConfig, TopicConfig};
use crate::identity::{Authority, TokenRequest, issue};
use crate::limits::Limits;
use crate::people::People;

const ROOM: &str = "room:1";

/// A node of a cluster, as the server builds it.
fn node(cluster: &MemoryCluster, name: &str, authority: &Authority) -> (Sockets, People) {
    let pubsub = PubSub::new(cluster.adapter(name));
    let mut topic = TopicConfig::new("room:*");
    (topic.presence, topic.broadcast) = (true, true);
    let presence = Presence::new(&pubsub);
    let people = People::start(&presence, 10).unwrap();
    let limits = Limits::new(LimitsConfig::default());
    let rules = Arc::new(Rules {
        topic,
        presence,
        limits,
    });
    let authority = authority.clone();
    let sockets = Sockets::new(&pubsub)
        .connect(move |info| {
            let authority = authority.clone();
            async move { authority.connect(&info).await }
        })
        .channel("room:*", move || BuiltIn::new(&rules));
    (sockets, people)
}

fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.jwt.secret = Some(Secret::new("a secret of the tests, long enough"));
    config
}

async fn client(sockets: &Sockets, user: &str) -> TestClient {
    let request = TokenRequest {
        sub: Some(user.to_owned()),
        ..TokenRequest::default()
    };
    let token = issue(&config(), &request).unwrap();
    let client = TestClient::connect(sockets, &format!("token={token}")).await;
    let mut client = client.unwrap();
    client.join(ROOM, json!({})).await.unwrap();
    client.join("room:2", json!({})).await.unwrap();
    client
}

/// Waits until the client's channel ends, and no other.
async fn until_closed(client: &mut TestClient, ended: &str) {
    loop {
        let message = client.next().await.expect("the connection goes on");
        if let ServerMessage::Close { topic, .. } = message {
            assert_eq!(topic.to_string(), ended);
            break;
        }
    }
}

#[tokio::test]
async fn srv_647_evicting_a_user_closes_its_connections_on_every_node_and_no_others() {
    let cluster = MemoryCluster::new();
    let authority = Authority::start(&config()).unwrap();
    let (one, people) = node(&cluster, "one", &authority);
    let (two, _people) = node(&cluster, "two", &authority);
    let (mut here, mut there) = (client(&one, "ada").await, client(&two, "ada").await);
    let mut bob = client(&two, "bob").await;
    people.evict("ada", None).await.unwrap();
    assert_eq!(here.closed().await, Reason::Disconnected);
    assert_eq!(there.closed().await, Reason::Disconnected);
    let (status, _) = bob.call(ROOM, "echo", json!({})).await;
    assert_eq!(status, "ok");
}

#[tokio::test]
async fn srv_648_evicting_a_user_from_a_topic_ends_its_channels_there_on_every_node() {
    let cluster = MemoryCluster::new();
    let authority = Authority::start(&config()).unwrap();
    let (_one, people) = node(&cluster, "one", &authority);
    let (two, _people) = node(&cluster, "two", &authority);
    let mut there = client(&two, "ada").await;
    let mut bob = client(&two, "bob").await;
    // Clients cannot send the event themselves.
    let (status, response) = bob
        .call(ROOM, "herenow:evict", json!({ "key": "ada" }))
        .await;
    assert_eq!(status, "error", "{response}");
    people.evict("ada", Some(ROOM)).await.unwrap();
    until_closed(&mut there, ROOM).await;
    let (status, _) = there.call("room:2", "echo", json!({})).await;
    assert_eq!(status, "ok");
    let (status, _) = bob.call(ROOM, "echo", json!({})).await;
    assert_eq!(status, "ok");
    there.join(ROOM, json!({})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn srv_1730_a_node_that_could_not_be_told_evicts_when_it_is_back_and_only_once() {
    let cluster = MemoryCluster::new();
    let authority = Authority::start(&config()).unwrap();
    let (_one, people) = node(&cluster, "one", &authority);
    let (two, _people) = node(&cluster, "two", &authority);
    let (mut ada, mut bob) = (client(&two, "ada").await, client(&two, "bob").await);
    cluster.partition(&["two"]);
    people.evict("ada", None).await.unwrap();
    people.evict("bob", Some(ROOM)).await.unwrap();
    cluster.heal();
    cluster.report_seen("two");
    assert_eq!(ada.closed().await, Reason::Disconnected);
    until_closed(&mut bob, ROOM).await;

    // Both come back, and stay, however often the node is told.
    let mut ada = client(&two, "ada").await;
    bob.join(ROOM, json!({})).await.unwrap();
    cluster.report_seen("two");
    tokio::time::sleep(Duration::from_secs(100)).await;
    for client in [&mut ada, &mut bob] {
        let (status, _) = client.call(ROOM, "echo", json!({})).await;
        assert_eq!(status, "ok");
    }

    // Without an engine that says who is back, it takes a little longer.
    cluster.partition(&["two"]);
    people.evict("ada", None).await.unwrap();
    cluster.heal();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(ada.closed().await, Reason::Disconnected);
    let (three, _people) = node(&cluster, "three", &authority);
    let mut ada = client(&three, "ada").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let (status, _) = ada.call(ROOM, "echo", json!({})).await;
    assert_eq!(status, "ok", "a node that is younger than an eviction");
}
