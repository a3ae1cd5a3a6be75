//! Presence on a channel, as typed events.

#[path = "support/server.rs"]
mod server;

use herenow_client::{ClientConfig, Presence, PresenceEvent};
use herenow_protocol::Payload;
use server::{Peer, Server, json, seconds};

fn config() -> ClientConfig {
    let mut config = ClientConfig::default();
    config.heartbeat = seconds(100_000);
    config
}

async fn send_state(peer: &mut Peer, state: &'static str) {
    peer.broadcast("room:a", "presence_state", json(state))
        .await;
}

async fn send_diff(peer: &mut Peer, joins: &str, leaves: &str) {
    let diff = format!(r#"{{"joins":{joins},"leaves":{leaves}}}"#);
    let payload = Payload::from_json_text(diff.into()).expect("JSON");
    peer.broadcast("room:a", "presence_diff", payload).await;
}

/// The events up to the next sync, as words.
async fn story(presence: &mut Presence) -> Vec<String> {
    let mut story = Vec::new();
    loop {
        story.push(match presence.next().await.expect("the channel is open") {
            PresenceEvent::Synced => return story,
            PresenceEvent::Joined { key, meta, first } => {
                format!("{key} joined as {} first={first}", meta.phx_ref())
            }
            PresenceEvent::Updated { key, old, new } => {
                format!("{key} updated {} to {}", old.phx_ref(), new.phx_ref())
            }
            PresenceEvent::Left { key, meta, last } => {
                format!("{key} left as {} last={last}", meta.phx_ref())
            }
            PresenceEvent::Errored(_) => "errored".to_owned(),
            PresenceEvent::Rejoined(_) => "rejoined".to_owned(),
            event => format!("{event:?}"),
        });
    }
}

fn keys(presence: &Presence) -> Vec<&str> {
    presence.list().list().map(|(key, _)| key).collect()
}

#[tokio::test(start_paused = true)]
async fn presences_are_told_as_joins_updates_and_leaves() {
    let (_server, _client, mut peer, channel) = Server::joined(config()).await;
    let mut presence = channel.into_presence();
    send_state(&mut peer, r#"{"u1":{"metas":[{"phx_ref":"a"}]}}"#).await;
    assert_eq!(story(&mut presence).await, ["u1 joined as a first=true"]);

    send_diff(&mut peer, r#"{"u1":{"metas":[{"phx_ref":"b"}]}}"#, "{}").await;
    assert_eq!(story(&mut presence).await, ["u1 joined as b first=false"]);

    let update = r#"{"u1":{"metas":[{"phx_ref":"c","phx_ref_prev":"a","status":"away"}]}}"#;
    send_diff(&mut peer, update, r#"{"u1":{"metas":[{"phx_ref":"a"}]}}"#).await;
    assert_eq!(story(&mut presence).await, ["u1 updated a to c"]);
    let entry = presence.list().get("u1").unwrap();
    assert_eq!(
        entry.metas()[1].field::<String>("status").as_deref(),
        Some("away")
    );

    send_diff(&mut peer, "{}", r#"{"u1":{"metas":[{"phx_ref":"b"}]}}"#).await;
    assert_eq!(story(&mut presence).await, ["u1 left as b last=false"]);
    send_diff(&mut peer, "{}", r#"{"u1":{"metas":[{"phx_ref":"c"}]}}"#).await;
    assert_eq!(story(&mut presence).await, ["u1 left as c last=true"]);
    assert!(presence.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_known_already_is_not_told_again() {
    let (_server, _client, mut peer, channel) = Server::joined(config()).await;
    let mut presence = channel.into_presence();
    let join = r#"{"u1":{"metas":[{"phx_ref":"a"}]}}"#;
    send_diff(&mut peer, join, "{}").await;
    send_state(&mut peer, r#"{"u1":{"metas":[{"phx_ref":"a"}]}}"#).await;
    assert_eq!(story(&mut presence).await, ["u1 joined as a first=true"]);
    send_diff(&mut peer, join, r#"{"u2":{"metas":[{"phx_ref":"x"}]}}"#).await;
    assert_eq!(story(&mut presence).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn after_a_rejoin_the_difference_is_told() {
    let (mut server, _client, mut peer, channel) = Server::joined(config()).await;
    let mut presence = channel.into_presence();
    let state = r#"{"u1":{"metas":[{"phx_ref":"a"}]},"u2":{"metas":[{"phx_ref":"b"}]}}"#;
    send_state(&mut peer, state).await;
    story(&mut presence).await;
    peer.close(1001).await;
    let mut peer = server.accept().await;
    peer.answer_join("room:a").await;
    let state = r#"{"u1":{"metas":[{"phx_ref":"a2","phx_ref_prev":"a"}]},"u3":{"metas":[{"phx_ref":"c"}]}}"#;
    send_state(&mut peer, state).await;
    assert_eq!(
        story(&mut presence).await,
        [
            "errored",
            "rejoined",
            "u1 updated a to a2",
            "u3 joined as c first=true",
            "u2 left as b last=true"
        ]
    );
    assert_eq!(keys(&presence), ["u1", "u3"]);
}

#[tokio::test(start_paused = true)]
async fn other_messages_pass_through() {
    let (_server, _client, mut peer, channel) = Server::joined(config()).await;
    let mut presence = channel.into_presence();
    peer.broadcast("room:a", "cursor", json(r#"{"x":1}"#)).await;
    let event = presence.next().await;
    assert!(matches!(&event, Some(PresenceEvent::Message { event, .. }) if event == "cursor"));
    peer.close_channel("1", "room:a").await;
    assert_eq!(presence.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn missed_events_lead_to_a_fresh_state() {
    let mut config = config();
    config.max_waiting_events = 2;
    let (_server, client, mut peer, channel) = Server::joined(config).await;
    let mut presence = channel.into_presence();
    send_state(&mut peer, r#"{"u1":{"metas":[{"phx_ref":"a"}]}}"#).await;
    for _ in 0..2 {
        send_diff(&mut peer, r#"{"u2":{"metas":[{"phx_ref":"b"}]}}"#, "{}").await;
    }
    send_diff(&mut peer, "{}", r#"{"u1":{"metas":[{"phx_ref":"a"}]}}"#).await;
    let ping = tokio::spawn(async move { client.ping().await });
    let message = peer.expect("heartbeat").await;
    peer.reply(&message, "ok", Payload::empty()).await;
    assert!(ping.await.unwrap().is_some());
    assert_eq!(story(&mut presence).await, ["u1 joined as a first=true"]);
    assert_eq!(story(&mut presence).await, ["u2 joined as b first=true"]);

    // Of what comes before the new join nothing is believed.
    send_diff(&mut peer, r#"{"ghost":{"metas":[{"phx_ref":"g"}]}}"#, "{}").await;
    let serve = async {
        peer.answer_join("room:a").await;
        send_state(&mut peer, r#"{"u2":{"metas":[{"phx_ref":"b"}]}}"#).await;
    };
    let (told, ()) = tokio::join!(story(&mut presence), serve);
    assert_eq!(told, ["rejoined", "u1 left as a last=true"]);
    assert_eq!(keys(&presence), ["u2"]);
}
