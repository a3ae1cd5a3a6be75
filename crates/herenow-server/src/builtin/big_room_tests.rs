//! A topic that grows past its summary and shrinks again, as its clients see it.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use herenow_channels::Sockets;
use herenow_channels::testing::TestClient;
use herenow_presence::{Here, Presence, PresenceConfig};
use herenow_protocol::{JoinRef, Payload, PresenceFold, ServerMessage};
use herenow_pubsub::PubSub;
use serde_json::{Value, json};

use super::{BuiltIn, Rules};
use crate::config::{TopicConfig, WhenBig};
use crate::identity::Authority;

const ROOM: &str = "room:1";
const MAX_SAMPLE: usize = 5;

/// A node whose topics are summed up from 50 presences on, until there are fewer than 40; lists are
/// in parts, so that those are at work as well.
fn node(big_room: WhenBig) -> (Sockets, Presence) {
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    (config.big_room.summary_from, config.big_room.summary_until) = (50, 40);
    config.big_room.count_interval = Duration::from_millis(100);
    config.big_room.max_sample = MAX_SAMPLE;
    config.big_room.parts_from_bytes = 100;
    config.big_room.part_bytes = NonZero::new(300).unwrap();
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let mut topic = TopicConfig::new("room:*");
    (topic.presence, topic.big_room) = (true, big_room);
    let rules = Arc::new(Rules {
        topic,
        presence: presence.clone(),
        limits: crate::limits::Limits::new(crate::config::LimitsConfig::default()),
    });
    let authority = Authority::dev();
    let sockets = Sockets::new(&pubsub)
        .connect(move |info| {
            let authority = authority.clone();
            async move { authority.connect(&info).await }
        })
        .channel("room:*", move || BuiltIn::new(&rules));
    (sockets, presence)
}

/// A client that keeps its list by the stock client's rules, and what it was told beside it.
struct Follower {
    client: TestClient,
    fold: PresenceFold,
    modes: Vec<String>,
    count: Option<Value>,
}

impl Follower {
    async fn join(sockets: &Sockets, user: &str, payload: Value) -> Self {
        let mut client = TestClient::connect(sockets, "").await.unwrap();
        let mut params = json!({ "user_id": user });
        params
            .as_object_mut()
            .unwrap()
            .extend(payload.as_object().cloned().unwrap());
        client.join(ROOM, params).await.unwrap();
        Self {
            client,
            fold: PresenceFold::new(),
            modes: Vec::new(),
            count: None,
        }
    }

    /// Takes messages until `is_met`; the client's deadline is the test's.
    async fn until(&mut self, what: &str, is_met: impl Fn(&Self) -> bool) {
        while !is_met(self) {
            let message = self.client.next().await;
            let message = message.unwrap_or_else(|| panic!("waited in vain for {what}"));
            let (ServerMessage::Push { event, payload, .. }
            | ServerMessage::Broadcast { event, payload, .. }) = message
            else {
                continue;
            };
            self.take(&event, &payload);
        }
    }

    fn take(&mut self, event: &str, payload: &Payload) {
        let value: Value = payload.deserialize().unwrap();
        match event {
            "presence:mode" => self.modes.push(value["mode"].as_str().unwrap().to_owned()),
            "presence:count" => {
                assert_eq!(
                    self.mode(),
                    "summary",
                    "a count comes with the summary only"
                );
                let n_sampled = value["sample"].as_object().unwrap().len();
                assert!(n_sampled <= MAX_SAMPLE, "{value}");
                self.count = Some(value["count"].clone());
            }
            _ => {
                let is_list = event != "presence_diff" || self.mode() != "summary";
                assert!(is_list, "a diff in the summary: {value}");
                let join_ref = JoinRef::from("1");
                let folded = self
                    .fold
                    .handle_event(&join_ref, event, payload, &mut |_| {});
                folded.unwrap();
            }
        }
    }

    fn mode(&self) -> &str {
        self.modes.last().map_or("", String::as_str)
    }

    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self
            .fold
            .state()
            .list()
            .map(|(key, _)| key.to_owned())
            .collect();
        keys.sort_unstable();
        keys
    }

    async fn until_listed(&mut self, presence: &Presence) {
        presence.flush().await;
        let keys = presence.list(ROOM).await.keys();
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        self.until("the list", |follower| follower.keys() == keys)
            .await;
    }
}

async fn crowd(presence: &Presence, n: usize) -> Vec<Here> {
    let mut crowd = Vec::new();
    for n in 0..n {
        let here = presence.track_on(ROOM, format!("user-{n:03}"), json!({ "n": n }));
        crowd.push(here.await.unwrap());
    }
    crowd
}

fn asked() -> Value {
    json!({ "presence": { "modes": true } })
}

#[tokio::test(start_paused = true)]
async fn srv_981_a_client_that_asked_follows_the_modes_and_others_always_have_the_list() {
    let (sockets, presence) = node(WhenBig::List);
    let mut crowd = crowd(&presence, 10).await;
    let mut stock = Follower::join(&sockets, "stock", json!({})).await;
    let mut follower = Follower::join(&sockets, "follower", asked()).await;
    stock.until_listed(&presence).await;
    follower.until_listed(&presence).await;
    assert_eq!(follower.modes, ["exact"]);
    crowd.extend(self::crowd(&presence, 60).await);
    follower
        .until("the count", |it| it.count == Some(json!(62)))
        .await;
    assert_eq!(follower.modes, ["exact", "summary"]);
    assert!(follower.keys().is_empty(), "its list is empty meanwhile");
    // One that comes now is told the same at once.
    let mut late = Follower::join(&sockets, "late", asked()).await;
    late.until("the count", |it| it.count.is_some()).await;
    assert_eq!((late.modes.len(), late.mode()), (1, "summary"));
    stock.until_listed(&presence).await;
    // Between the two sizes nothing changes; below both the list is back.
    crowd.drain(..25).for_each(drop);
    follower
        .until("the count", |it| it.count == Some(json!(48)))
        .await;
    assert_eq!(follower.mode(), "summary");
    crowd.drain(..15).for_each(drop);
    for client in [&mut follower, &mut late, &mut stock] {
        client.until_listed(&presence).await;
    }
    assert_eq!(follower.modes, ["exact", "summary", "exact"]);
    assert_eq!(late.mode(), "exact");
    crowd.extend(self::crowd(&presence, 5).await);
    for client in [&mut follower, &mut late, &mut stock] {
        client.until_listed(&presence).await;
    }
    assert!(stock.modes.is_empty() && stock.count.is_none());
}

#[tokio::test(start_paused = true)]
async fn srv_982_an_operator_can_give_the_summary_to_all() {
    let (sockets, presence) = node(WhenBig::Summary);
    let _crowd = crowd(&presence, 60).await;
    let mut stock = Follower::join(&sockets, "stock", json!({})).await;
    stock
        .until("the count", |it| it.count == Some(json!(61)))
        .await;
    assert!(stock.keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn srv_983_a_list_by_page_is_the_whole_list() {
    let (sockets, presence) = node(WhenBig::Summary);
    let _crowd = crowd(&presence, 60).await;
    let mut client = Follower::join(&sockets, "client", json!({})).await.client;
    let (mut keys, mut after) = (Vec::new(), Value::Null);
    loop {
        let ask = json!({ "limit": 25, "after": after });
        let (status, page) = client.call(ROOM, "presence:list", ask).await;
        assert_eq!(status, "ok", "{page}");
        assert_eq!((&page["keys"], &page["metas"]), (&json!(61), &json!(61)));
        let presences = page["presences"].as_object().unwrap();
        assert!(
            presences
                .values()
                .all(|entry| entry["metas"][0]["phx_ref"].is_string())
        );
        keys.extend(presences.keys().cloned());
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    let expected = presence.list(ROOM).await.keys();
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(keys, expected);
    let (status, reply) = client
        .call(ROOM, "presence:list", json!({ "limit": 0 }))
        .await;
    assert_eq!(status, "error");
    assert!(
        reply["reason"].as_str().unwrap().contains("from 1 to 1000"),
        "{reply}"
    );
}
