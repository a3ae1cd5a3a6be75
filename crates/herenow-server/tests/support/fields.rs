//! What the tests of `fetch` ask a server.

#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{Client, Rig};

/// How long something that comes by itself may take: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that tells no one when it changes.
const LOOK: Duration = Duration::from_millis(20);

/// The fields of a key, as the API shows them; null if there are none.
pub(crate) async fn shown(rig: &Rig, topic: &str, key: &str) -> Value {
    let path = format!("/api/topics/{topic}/presences/{key}");
    let answer = rig.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["fields"].clone()
}

/// Waits until the fields of a key are as they should be.
pub(crate) async fn until_shown(
    rig: &Rig,
    topic: &str,
    key: &str,
    is_right: impl Fn(&Value) -> bool,
) {
    let looks = async {
        while !is_right(&shown(rig, topic, key).await) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, looks).await;
    assert!(seen.is_ok(), "{topic} {key}");
}

/// How the sources of fields do.
pub(crate) async fn node_fetch(rig: &Rig) -> Vec<Value> {
    let node = rig.get("/api/node").await.json();
    node["fetch"].as_array().expect("a list").clone()
}

/// Waits until the first source does as it should, and returns how it does.
pub(crate) async fn until(rig: &Rig, is_right: impl Fn(&Value) -> bool) -> Value {
    let looks = async {
        loop {
            let fetch = node_fetch(rig).await.remove(0);
            if is_right(&fetch) {
                return fetch;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, looks).await;
    seen.expect("the source does as it should in the end")
}

/// Has fields forgotten.
pub(crate) async fn forget(rig: &Rig, query: &str) {
    let path = format!("/api/fields{query}");
    let answer = rig.http("DELETE", &path, "", "").await;
    assert_eq!(answer.status, 202, "{}", answer.body);
}

impl Client {
    /// The next diff in which a key joins.
    pub(crate) async fn diff_with(&mut self, key: &str) -> Value {
        loop {
            let diff = self.event("presence_diff").await;
            if diff["joins"].get(key).is_some() {
                return diff;
            }
        }
    }
}

/// What a user joins with.
pub(crate) fn user(key: &str) -> Value {
    json!({ "user_id": key })
}
