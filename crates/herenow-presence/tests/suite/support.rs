//! What the scenarios share.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use herenow_presence::{Presence, PresenceDiff};
use herenow_protocol::event::PRESENCE_DIFF;
use herenow_pubsub::{Payload, PubSub, Subscription};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

pub(crate) const TOPIC: &str = "room:1";
/// How long anything may take. Most tests run with paused time, where it costs nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A node of its own without fetch.
pub(crate) fn start() -> (PubSub, Presence) {
    let pubsub = PubSub::local();
    let presence = Presence::new(&pubsub);
    (pubsub, presence)
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("done in time")
}

/// Waits for the next diff.
pub(crate) async fn next_diff(subscription: &mut Subscription) -> Arc<PresenceDiff> {
    loop {
        let broadcast = in_time(subscription.recv()).await.unwrap();
        if &*broadcast.event == PRESENCE_DIFF {
            return as_diff(&broadcast.payload);
        }
    }
}

/// Waits for the next diff and returns its JSON.
pub(crate) async fn next_json(subscription: &mut Subscription) -> Value {
    json_of(&*next_diff(subscription).await)
}

/// Returns the JSON of all diffs that are there.
pub(crate) fn waiting_json(subscription: &mut Subscription) -> Vec<Value> {
    std::iter::from_fn(|| subscription.try_recv())
        .map(|next| json_of(&as_diff(&next.unwrap().payload)))
        .collect()
}

pub(crate) fn as_diff(payload: &Payload) -> Arc<PresenceDiff> {
    let Payload::Local(value) = payload else {
        panic!("a local payload: {payload:?}")
    };
    value.clone().downcast_arc::<PresenceDiff>().unwrap()
}

pub(crate) fn json_of(diff: &PresenceDiff) -> Value {
    serde_json::from_slice(&diff.json()).unwrap()
}

/// Lists a topic as JSON.
pub(crate) async fn list(presence: &Presence, topic: &str) -> Value {
    serde_json::from_slice(&presence.list(topic).await.json()).unwrap()
}

/// Lists a topic as JSON without refs.
pub(crate) async fn list_bare(presence: &Presence, topic: &str) -> Value {
    without_refs(list(presence, topic).await)
}

/// Takes all `phx_ref` and `phx_ref_prev` out, after checking that each meta has its ref.
pub(crate) fn without_refs(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(name, _)| !name.starts_with("phx_ref"))
                .map(|(name, value)| (name, without_refs(value)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => {
            for item in &items {
                let meta_ref = item["phx_ref"].as_str().unwrap_or_default();
                assert_eq!(meta_ref.len(), 16, "a meta has a ref: {item}");
            }
            Value::Array(items.into_iter().map(without_refs).collect())
        }
        other => other,
    }
}

/// Returns `{"key": {"metas": [metas…]}}`.
pub(crate) fn entry(key: &str, metas: &[Value]) -> Value {
    json!({ key: { "metas": metas } })
}

/// Returns the JSON of a diff without refs.
pub(crate) fn diff(joins: Value, leaves: Value) -> Value {
    json!({ "joins": joins, "leaves": leaves })
}

/// Returns `{"name": name}`.
pub(crate) fn name(name: &str) -> Value {
    json!({ "name": name })
}

/// Waits until a condition holds, letting the other tasks run and paused time pass.
pub(crate) async fn eventually(what: &str, is_met: impl Fn() -> bool) {
    let waiting = async {
        while !is_met() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(
        timeout(DEADLINE, waiting).await.is_ok(),
        "waited in vain for: {what}"
    );
}

/// Polls a future once.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}
