//! Users who are made to go, on two nodes.

use std::sync::Arc;

use herenow_channels::testing::TestClient;
use herenow_channels::{Reason, Sockets};
use herenow_presence::Presence;
use herenow_protocol::ServerMessage;
use herenow_pubsub::{MemoryCluster, PubSub};
use serde_json::json;

use super::{BuiltIn, Rules};
use crate::config::{Secret, ServerConfig, TopicConfig};
use crate::identity::{Authority, TokenRequest, evict, evict_from, issue};

const ROOM: &str = "room:1";

/// A node of a cluster, as the server builds it.
fn node(cluster: &MemoryCluster, name: &str, authority: &Authority) -> Sockets {
    let pubsub = PubSub::new(cluster.adapter(name));
    let mut topic = TopicConfig::new("room:*");
    (topic.presence, topic.broadcast) = (true, true);
    let presence = Presence::new(&pubsub);
    let rules = Arc::new(Rules { topic, presence });
    let authority = authority.clone();
    Sockets::new(&pubsub)
        .connect(move |info| {
            let authority = authority.clone();
            async move { authority.connect(&info).await }
        })
        .channel("room:*", move || BuiltIn::new(&rules))
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

#[tokio::test]
async fn srv_647_evicting_a_user_closes_its_connections_on_every_node_and_no_others() {
    let cluster = MemoryCluster::new();
    let authority = Authority::start(&config()).unwrap();
    let (one, two) = (
        node(&cluster, "one", &authority),
        node(&cluster, "two", &authority),
    );
    let (mut here, mut there) = (client(&one, "ada").await, client(&two, "ada").await);
    let mut bob = client(&two, "bob").await;
    evict(&one, "ada").unwrap();
    assert_eq!(here.closed().await, Reason::Disconnected);
    assert_eq!(there.closed().await, Reason::Disconnected);
    let (status, _) = bob.call(ROOM, "echo", json!({})).await;
    assert_eq!(status, "ok");
}

#[tokio::test]
async fn srv_648_evicting_a_user_from_a_topic_ends_its_channels_there_on_every_node() {
    let cluster = MemoryCluster::new();
    let authority = Authority::start(&config()).unwrap();
    let (one, two) = (
        node(&cluster, "one", &authority),
        node(&cluster, "two", &authority),
    );
    let mut there = client(&two, "ada").await;
    let mut bob = client(&two, "bob").await;
    // Clients cannot send the event themselves.
    let (status, response) = bob
        .call(ROOM, "herenow:evict", json!({ "key": "ada" }))
        .await;
    assert_eq!(status, "error", "{response}");
    evict_from(&one, ROOM, "ada").unwrap();
    loop {
        let message = there.next().await.expect("the connection goes on");
        if let ServerMessage::Close { topic, .. } = message {
            assert_eq!(topic.to_string(), ROOM);
            break;
        }
    }
    let (status, _) = there.call("room:2", "echo", json!({})).await;
    assert_eq!(status, "ok");
    let (status, _) = bob.call(ROOM, "echo", json!({})).await;
    assert_eq!(status, "ok");
    there.join(ROOM, json!({})).await.unwrap();
}
