//! docs/channel.md against the server: every event is on the page, and so is every refusal.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tokens.rs"]
mod tokens;

use std::collections::BTreeSet;

use herenow_server::config::ServerConfig;
use serde_json::{Value, json};

use self::rig::{Client, Rig};
use self::tokens::{SECRET, claims, hs256, in_seconds};

const PAGE: &str = include_str!("../../../docs/channel.md");
const REQUEST: &str = include_str!("../src/builtin/request.rs");
const ROOM: &str = "room:1";
const TOPICS: &str = "[{ pattern = \"room:*\", presence = true, broadcast = true }, \
                      { pattern = \"silent\", presence = true }, \
                      { pattern = \"bare\", broadcast = true }]";

/// Checks that a reason is on the page as it is.
fn on_page(reason: &str) {
    assert!(
        PAGE.contains(&format!("`{reason}`")),
        "not on the page: {reason}"
    );
}

#[test]
fn srv_1810_every_event_that_the_channel_reads_or_sends_is_on_its_page() {
    let reading = REQUEST.split_once("pub(crate) fn read(event").unwrap().1;
    let reading = reading.split_once("\n}\n").unwrap().0;
    let names = reading.lines().filter_map(|line| {
        let (name, _) = line.trim().strip_prefix('"')?.split_once("\" =>")?;
        Some(name)
    });
    let mut names: BTreeSet<&str> = names.collect();
    assert!(names.len() >= 7, "{names:?}");
    names.extend([
        "access_token",
        "phx_join",
        "phx_leave",
        "phx_error",
        "phx_close",
        "heartbeat",
    ]);
    names.extend(["presence_state", "presence_diff"]);
    names.extend([
        herenow_presence::PRESENCE_MODE,
        herenow_presence::PRESENCE_COUNT,
    ]);
    for name in names {
        assert!(
            PAGE.contains(&format!("`{name}`")),
            "not on the page: {name}"
        );
    }
    let config = ServerConfig::default();
    let topic = &config.topics[0];
    let limits = [
        (
            topic.max_meta_bytes,
            "4 KiB | `topics.max_meta_bytes`",
            4 << 10,
        ),
        (
            topic.max_payload_bytes,
            "1 MiB | `topics.max_payload_bytes`",
            1 << 20,
        ),
        (
            herenow_pubsub::MAX_EVENT_BYTES,
            "1,024 bytes | fixed",
            1_024,
        ),
        (
            config.socket.max_channels.get(),
            "100 | `socket.max_channels`",
            100,
        ),
    ];
    for (limit, shown, expected) in limits {
        assert_eq!(limit, expected, "{shown}");
        assert!(PAGE.contains(shown), "{shown}");
    }
}

/// Pushes what is refused, whose reasons must be on the page.
async fn all_refused(client: &mut Client, topic: &str, pushes: &[(&str, Value)]) {
    for (event, payload) in pushes {
        on_page(&client.refused(topic, event, payload.clone()).await);
    }
}

#[tokio::test]
async fn srv_1811_what_the_channel_refuses_is_on_its_page_word_for_word() {
    let rig = Rig::with(&[("topics", TOPICS)]).await;
    let mut client = rig.connect("").await;
    for user in [json!([1]), json!("")] {
        let (status, response) = client.join(ROOM, json!({ "user_id": user })).await;
        assert_eq!(status, "error");
        on_page(response["reason"].as_str().unwrap());
    }
    let ada = json!({ "user_id": "ada" });
    let mut client = client.joined(ROOM, ada.clone()).await;
    let large = json!({ "meta": { "x": "x".repeat(5_000) } });
    let pushes = [
        ("presence:track", json!({})),
        ("presence:update", json!({})),
        ("presence:update", json!({ "meta": {}, "patch": {} })),
        ("presence:update", json!({ "meta": 3 })),
        ("presence:update", large),
        ("status", json!({})),
        ("shout", json!([1])),
        ("access_token", json!({})),
        ("presence:list", json!({ "limit": 0 })),
        ("presence:list", json!({ "after": "ada" })),
        ("presence:foo", json!({})),
    ];
    all_refused(&mut client, ROOM, &pushes).await;
    client.ok(ROOM, "presence:untrack", json!({})).await;
    let gone = [
        ("presence:untrack", json!({})),
        ("status", json!({ "status": 1 })),
    ];
    all_refused(&mut client, ROOM, &gone).await;
    let client = client.joined("silent", ada).await;
    let client = client.joined("bare", json!({})).await;
    let mut client = client.joined("room:2", json!({})).await;
    all_refused(&mut client, "silent", &[("shout", json!({}))]).await;
    all_refused(&mut client, "bare", &[("presence:count", json!({}))]).await;
    all_refused(&mut client, "room:2", &[("presence:track", json!({}))]).await;
    rig.stop().await;

    let rig = Rig::with(&[("jwt.secret", SECRET)]).await;
    let nobody = hs256(&json!({ "exp": in_seconds(60) }));
    let quiet = hs256(&claims(
        "ada",
        json!({ "herenow": { "rights": ["present"] } }),
    ));
    for (token, event) in [(nobody, "presence:track"), (quiet, "broadcast")] {
        let client = rig.connect(&format!("&token={token}")).await;
        let mut client = client.joined(ROOM, json!({})).await;
        all_refused(&mut client, ROOM, &[(event, json!({}))]).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1811_what_the_channel_answers_is_as_on_its_page() {
    let rig = Rig::with(&[("topics", TOPICS)]).await;
    let client = rig.connect("").await;
    let mut client = client.joined(ROOM, json!({ "user_id": "ada" })).await;
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    for (event, payload, fields) in [
        (
            "presence:update",
            json!({ "meta": { "a": 1 } }),
            &["phx_ref"][..],
        ),
        (
            "presence:update",
            json!({ "patch": { "a": null } }),
            &["phx_ref"],
        ),
        ("status", json!({ "status": "away" }), &["phx_ref"]),
        ("presence:list", json!({}), &["ada"]),
        (
            "presence:list",
            json!({ "limit": 100 }),
            &["keys", "metas", "next", "presences"],
        ),
        ("presence:count", json!([]), &["keys", "metas"]),
        ("echo", json!({ "any": "thing" }), &["any"]),
        ("shout", json!({ "text": "hello" }), &[]),
        ("presence:untrack", json!(null), &[]),
        ("presence:track", json!({}), &["phx_ref"]),
    ] {
        let response = client.ok(ROOM, event, payload).await;
        let mut found = keys(&response);
        found.sort();
        assert_eq!(found, fields, "{event}");
    }
    assert_eq!(client.event("shout").await["text"], "hello");
    rig.stop().await;
}
