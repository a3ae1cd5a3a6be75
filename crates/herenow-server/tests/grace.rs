//! Users whose connection ended without a leave, on one server.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use serde_json::{Value, json};

use self::rig::{Client, Rig};

const ROOM: &str = "room:1";

/// A server with a grace that no test waits for, and one topic with a short one.
async fn start() -> Rig {
    let topics = r#"[
        { pattern = "room:brief", presence = true, broadcast = true, grace = "200ms" },
        { pattern = "room:*", presence = true, broadcast = true, grace = "1h" },
    ]"#;
    Rig::with(&[("topics", topics), ("api.min_lease", "1s")]).await
}

async fn join(rig: &Rig, topic: &str, key: &str) -> (Client, Value) {
    let user = json!({ "user_id": key });
    let mut client = rig.connect("").await.joined(topic, user).await;
    let state = client.event("presence_state").await;
    (client, state)
}

/// The next diff, as the keys that join and leave in it.
async fn diff(client: &mut Client) -> (Vec<String>, Vec<String>) {
    let diff = client.event("presence_diff").await;
    let keys = |half: &Value| half.as_object().unwrap().keys().cloned().collect();
    (keys(&diff["joins"]), keys(&diff["leaves"]))
}

fn one(key: &str) -> Vec<String> {
    vec![key.to_owned()]
}

/// How many presences the server holds back now.
async fn n_in_grace(rig: &Rig) -> u64 {
    let cluster = rig.get("/api/cluster").await.json();
    cluster["grace"]["n_now"].as_u64().unwrap()
}

/// Ends a client's connection as a lost network does, and waits until the server knows.
async fn lose(rig: &Rig, client: Client) {
    let n = n_in_grace(rig).await + 1;
    drop(client);
    until_in_grace(rig, n).await;
}

async fn until_in_grace(rig: &Rig, n: u64) {
    let known = async {
        while n_in_grace(rig).await != n {
            tokio::task::yield_now().await;
        }
    };
    rig::within(known).await;
}

#[tokio::test]
async fn srv_964_who_is_back_in_time_was_never_away() {
    let rig = start().await;
    let (mut ada, _) = join(&rig, ROOM, "ada").await;
    let (bob, _) = join(&rig, ROOM, "bob").await;
    assert_eq!(diff(&mut ada).await, (one("bob"), vec![]));
    lose(&rig, bob).await;
    // He is listed, also for who comes now, and by the API.
    let (_cid, state) = join(&rig, ROOM, "cid").await;
    assert_eq!(diff(&mut ada).await, (one("cid"), vec![]));
    assert!(state.get("bob").is_some(), "{state}");
    let path = "/api/topics/room:1/presences/bob";
    assert_eq!(rig.get(path).await.status, 200);
    let (mut bob, state) = join(&rig, ROOM, "bob").await;
    assert_eq!(
        state["bob"]["metas"].as_array().unwrap().len(),
        1,
        "{state}"
    );
    // His new presence and the one that it replaces, in one diff: his key is there all the time.
    assert_eq!(diff(&mut ada).await, (one("bob"), one("bob")));
    // Back, he is as everybody: he can change what he shows, and leave.
    bob.ok(
        ROOM,
        "presence:update",
        json!({ "meta": { "mood": "fine" } }),
    )
    .await;
    assert_eq!(diff(&mut ada).await, (one("bob"), one("bob")));
    bob.ok(ROOM, "presence:untrack", json!({})).await;
    assert_eq!(diff(&mut ada).await, (vec![], one("bob")));
    assert_eq!(n_in_grace(&rig).await, 0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_965_a_leave_is_told_at_once_and_a_lost_connection_after_the_grace() {
    let rig = start().await;
    let (mut ada, _) = join(&rig, ROOM, "ada").await;
    let (mut bob, _) = join(&rig, ROOM, "bob").await;
    assert_eq!(diff(&mut ada).await, (one("bob"), vec![]));
    bob.ok(ROOM, "phx_leave", json!({})).await;
    assert_eq!(diff(&mut ada).await, (vec![], one("bob")));

    let (mut ada, _) = join(&rig, "room:brief", "ada").await;
    let (bob, _) = join(&rig, "room:brief", "bob").await;
    assert_eq!(diff(&mut ada).await, (one("bob"), vec![]));
    drop(bob);
    assert_eq!(diff(&mut ada).await, (vec![], one("bob")));
    let grace = rig.get("/api/cluster").await.json()["grace"].clone();
    assert_eq!((&grace["n_held"], &grace["n_over"]), (&json!(1), &json!(1)));
    rig.stop().await;
}

#[tokio::test]
async fn srv_966_who_is_evicted_or_ended_by_a_backend_has_no_grace() {
    let rig = start().await;
    let (mut ada, _) = join(&rig, ROOM, "ada").await;
    let ends = [("/api/keys/bob", 202), ("/api/keys/bob/topics/room:1", 202)];
    for (path, status) in ends {
        let (bob, _) = join(&rig, ROOM, "bob").await;
        assert_eq!(diff(&mut ada).await, (one("bob"), vec![]));
        lose(&rig, bob).await;
        let answer = rig.http("DELETE", path, "", "").await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(diff(&mut ada).await, (vec![], one("bob")), "{path}");
        assert_eq!(n_in_grace(&rig).await, 0);
    }
    // Nobody holds a presence of his now.
    let path = "/api/topics/room:1/presences/bob";
    assert_eq!(rig.http("DELETE", path, "", "").await.status, 404);
    // One who is there is evicted without grace.
    let (_bob, _) = join(&rig, ROOM, "bob").await;
    assert_eq!(diff(&mut ada).await, (one("bob"), vec![]));
    let evicted = rig
        .http("DELETE", "/api/keys/bob/topics/room:1", "", "")
        .await;
    assert_eq!(evicted.status, 202);
    assert_eq!(diff(&mut ada).await, (vec![], one("bob")));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1752_a_backend_ends_the_grace_of_its_own_presence_and_not_of_a_clients() {
    let rig = start().await;
    let (mut ada, _) = join(&rig, ROOM, "ada").await;
    let (bob, _) = join(&rig, ROOM, "bob").await;
    assert_eq!(diff(&mut ada).await, (one("bob"), vec![]));
    lose(&rig, bob).await;
    let path = "/api/topics/room:1/presences/bob";
    let refused = rig.http("DELETE", path, "", "").await;
    assert_eq!(refused.status, 404, "{refused:?}");
    assert_eq!(rig.get(path).await.status, 200);
    // A backend takes his place, and lets its lease run out.
    let json = "content-type: application/json\r\n";
    let put = rig.http("PUT", path, json, r#"{"lease_seconds": 1}"#).await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(diff(&mut ada).await, (one("bob"), one("bob")));
    until_in_grace(&rig, 1).await;
    assert_eq!(rig.http("DELETE", path, "", "").await.status, 204);
    assert_eq!(diff(&mut ada).await, (vec![], one("bob")));
    rig.stop().await;
}

#[tokio::test]
async fn srv_967_a_backend_takes_the_place_of_a_lost_connection() {
    let rig = start().await;
    let (mut ada, _) = join(&rig, ROOM, "ada").await;
    let (bob, _) = join(&rig, ROOM, "bob").await;
    assert_eq!(diff(&mut ada).await, (one("bob"), vec![]));
    lose(&rig, bob).await;
    let json = "content-type: application/json\r\n";
    let path = "/api/topics/room:1/presences/bob";
    let body = json!({ "meta": { "device": "tv" }, "lease_seconds": 60 }).to_string();
    // What is held is not the backend's to change: it begins one of its own.
    let patched = rig.http("PATCH", path, json, &body).await;
    assert_eq!(patched.status, 404, "{patched:?}");
    let put = rig.http("PUT", path, json, &body).await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(diff(&mut ada).await, (one("bob"), one("bob")));
    rig.stop().await;
}
