//! Fields from a callback over real HTTP, which answers, stalls, fails and talks nonsense.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/fields.rs"]
mod fields;
#[path = "support/rig.rs"]
mod rig;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::fields::{forget, node_fetch, shown, user};
use self::rig::{Client, Rig};

/// An application whose answers the test decides.
#[derive(Clone)]
struct Application {
    url: String,
    state: Arc<Mutex<Answers>>,
}

struct Answers {
    how: How,
    name: &'static str,
    asked: Vec<(Option<String>, Value)>,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Well,
    Never,
    Status(u16),
    Text(&'static str),
}

impl Application {
    async fn start() -> Self {
        let state = Arc::new(Mutex::new(Answers {
            how: How::Well,
            name: "Ada",
            asked: Vec::new(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/fields", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/fields", post(answer))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, state }
    }

    fn set(&self, how: How) {
        self.state.lock().unwrap().how = how;
    }

    fn rename(&self, name: &'static str) {
        self.state.lock().unwrap().name = name;
    }

    fn n_asked(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }
}

async fn answer(
    State(state): State<Arc<Mutex<Answers>>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let (how, name, asked) = {
        let mut state = state.lock().unwrap();
        let asked: Value = serde_json::from_str(&body).unwrap();
        let token = headers.get("authorization");
        let token = token.map(|value| value.to_str().unwrap().to_owned());
        state.asked.push((token, asked.clone()));
        (state.how, state.name, asked)
    };
    match how {
        How::Well => {
            let keys = asked["keys"].as_array().unwrap().iter();
            let fields = keys.filter_map(|key| {
                let key = key.as_str().unwrap();
                let fields = match key {
                    "nobody" => return None,
                    "null" => Value::Null,
                    "list" => json!(["not", "an", "object"]),
                    "large" => json!({ "name": "x".repeat(9_000) }),
                    _ => json!({ "name": name, "metas": "mine", "topic": asked["topic"] }),
                };
                Some((key.to_owned(), fields))
            });
            axum::Json(fields.collect::<Value>()).into_response()
        }
        How::Never => std::future::pending().await,
        How::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        How::Text(text) => text.into_response(),
    }
}

/// A server that asks the application. Where nothing is to be late, the deadline is out of the way.
async fn rig(app: &Application, more: &[(&str, &str)]) -> Rig {
    let mut flags = vec![
        ("fetch.url", app.url.as_str()),
        ("fetch.token", "a-token-of-the-test"),
        ("fetch.deadline", "20s"),
        ("fetch.ttl", "0s"),
        ("fetch.min_pause", "10ms"),
        ("fetch.max_pause", "50ms"),
    ];
    flags.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
    flags.extend(more);
    Rig::with(&flags).await
}

/// Returns ada, and bob who is here with her: both have been looked up, for their lists and for their
/// diffs, and nothing is under way.
async fn looked_up(rig: &Rig) -> (Client, Client) {
    let mut bob = rig.connect("").await.joined("room:1", user("bob")).await;
    let mut ada = rig.connect("").await.joined("room:1", user("ada")).await;
    ada.event("presence_state").await;
    bob.diff_with("ada").await;
    (ada, bob)
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_750_a_callback_is_asked_for_topic_and_keys_and_its_fields_stand_beside_metas() {
    let app = Application::start().await;
    let rig = rig(&app, &[]).await;
    let mut ada = rig.connect("").await;
    ada = ada.joined("room:1", user("ada")).await;
    let state = ada.event("presence_state").await;
    assert_eq!(state["ada"]["name"], "Ada");
    assert_eq!(state["ada"]["topic"], "room:1");
    assert!(state["ada"]["metas"][0]["phx_ref"].is_string(), "{state}");
    let (token, asked) = app.state.lock().unwrap().asked[0].clone();
    assert_eq!(token.as_deref(), Some("Bearer a-token-of-the-test"));
    assert_eq!(asked, json!({ "topic": "room:1", "keys": ["ada"] }));
    for key in ["nobody", "null", "list", "large"] {
        let _bob = rig.connect("").await.joined("room:1", user(key)).await;
        let diff = ada.diff_with(key).await;
        let entry = diff["joins"][key].as_object().unwrap();
        assert_eq!(entry.keys().collect::<Vec<_>>(), ["metas"], "{key}");
    }
    let fetch = &node_fetch(&rig).await[0];
    assert_eq!(
        (&fetch["kind"], &fetch["state"]),
        (&json!("http"), &json!("ok"))
    );
    assert!(fetch["n_fields_refused"].as_u64().unwrap() >= 2, "{fetch}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_751_while_a_callback_stalls_fails_or_talks_nonsense_what_was_known_is_shown() {
    let app = Application::start().await;
    let flags = [("fetch.max_answer_bytes", "1KiB"), ("fetch.deadline", "3s")];
    let rig = rig(&app, &flags).await;
    let mut ada = rig.connect("").await;
    ada = ada.joined("room:1", user("ada")).await;
    assert_eq!(shown(&rig, "room:1", "ada").await["name"], "Ada");
    let huge: &'static str = Box::leak(format!("{{\"ada\":\"{}\"}}", "x".repeat(2_000)).into());
    let faults = [
        (How::Never, "no answer within 3000 ms"),
        (How::Status(500), "500 Internal Server Error"),
        (How::Status(302), "302 Found"),
        (How::Text("<html>"), "not an object of JSON"),
        (How::Text("[]"), "not an object of JSON"),
        (How::Text(huge), "over 1024 bytes"),
    ];
    for (n, (how, said)) in faults.into_iter().enumerate() {
        app.set(how);
        let known = shown(&rig, "room:1", "ada").await;
        assert_eq!(known["name"], "Ada", "{said}");
        let key = format!("new-{n}");
        let _new = rig.connect("").await.joined("room:1", user(&key)).await;
        let diff = ada.diff_with(&key).await;
        assert!(
            diff["joins"][&key].get("name").is_none(),
            "nobody knows the name: {diff}"
        );
        let says = |fetch: &Value| fetch["error"].as_str().is_some_and(|e| e.contains(said));
        let fetch = fields::until(&rig, says).await;
        assert_ne!(fetch["state"], "ok");
        app.set(How::Well);
        fields::until_shown(&rig, "room:1", &key, |fields| fields["name"] == "Ada").await;
        fields::until(&rig, |fetch| fetch["state"] == "ok").await;
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_752_a_source_that_is_down_is_left_alone_and_holds_nobody_up() {
    let app = Application::start().await;
    let flags = [
        ("fetch.min_pause", "1h"),
        ("fetch.max_pause", "1h"),
        ("fetch.max_failures", "2"),
    ];
    let rig = rig(&app, &flags).await;
    let (mut ada, _bob) = looked_up(&rig).await;
    assert_eq!(shown(&rig, "room:1", "ada").await["name"], "Ada");
    app.set(How::Status(503));
    for _ in 0..2 {
        assert_eq!(shown(&rig, "room:1", "ada").await["name"], "Ada");
    }
    let fetch = &node_fetch(&rig).await[0];
    assert_eq!(fetch["state"], "down", "{fetch}");
    app.set(How::Never);
    let n_before = app.n_asked();
    for n in 0..20 {
        let key = format!("new-{n}");
        let _new = rig.connect("").await.joined("room:1", user(&key)).await;
        ada.diff_with(&key).await;
        assert_eq!(shown(&rig, "room:1", "ada").await["name"], "Ada");
    }
    assert_eq!(app.n_asked(), n_before, "nobody asks it during its pause");
    let fetch = &node_fetch(&rig).await[0];
    assert!(fetch["n_paused"].as_u64().unwrap() >= 20, "{fetch}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_753_fields_are_asked_for_once_in_their_time_and_again_when_they_are_forgotten() {
    let app = Application::start().await;
    let rig = rig(&app, &[("fetch.ttl", "1h")]).await;
    let mut users = Vec::new();
    for user in ["ada", "bob"] {
        let user = json!({ "user_id": user });
        users.push(rig.connect("").await.joined("room:1", user.clone()).await);
        users.push(rig.connect("").await.joined("room:2", user).await);
    }
    for room in ["room:1", "room:2"] {
        assert_eq!(shown(&rig, room, "ada").await["name"], "Ada");
        assert_eq!(shown(&rig, room, "bob").await["name"], "Ada");
    }
    let n_asked = app.n_asked();
    app.rename("Ada II");
    assert_eq!(shown(&rig, "room:1", "ada").await["name"], "Ada");
    assert_eq!(app.n_asked(), n_asked);
    forget(&rig, "?key=ada").await;
    for room in ["room:1", "room:2"] {
        assert_eq!(shown(&rig, room, "ada").await["name"], "Ada II");
        assert_eq!(shown(&rig, room, "bob").await["name"], "Ada");
    }
    forget(&rig, "?topic=room:1").await;
    assert_eq!(shown(&rig, "room:1", "bob").await["name"], "Ada II");
    assert_eq!(shown(&rig, "room:2", "bob").await["name"], "Ada");
    app.rename("Ada III");
    forget(&rig, "").await;
    for room in ["room:1", "room:2"] {
        assert_eq!(shown(&rig, room, "bob").await["name"], "Ada III");
    }
    let state = rig.connect("").await;
    let mut state = state.joined("room:1", json!({ "user_id": "cleo" })).await;
    assert_eq!(
        state.event("presence_state").await["bob"]["name"],
        "Ada III"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_754_whoever_needs_a_key_that_is_asked_for_waits_for_that_answer() {
    let app = Application::start().await;
    let rig = rig(&app, &[("fetch.ttl", "1h")]).await;
    let _both = looked_up(&rig).await;
    forget(&rig, "").await;
    let n_before = app.n_asked();
    let looks = (0..20).map(|_| shown(&rig, "room:1", "ada"));
    for found in futures_util::future::join_all(looks).await {
        assert_eq!(found["name"], "Ada");
    }
    assert_eq!(
        app.n_asked(),
        n_before + 1,
        "twenty who look are one request"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_755_topics_have_sources_of_their_own_or_none() {
    let (general, docs) = (Application::start().await, Application::start().await);
    docs.rename("Reader");
    let topics = format!(
        "[{{ pattern = \"room:*\", presence = true }},
          {{ pattern = \"doc:*\", presence = true, fetch_url = \"{}\" }},
          {{ pattern = \"bare:*\", presence = true, fetch = false }}]",
        docs.url
    );
    let rig = rig(&general, &[("topics", &topics)]).await;
    let mut here = Vec::new();
    for (topic, name) in [
        ("room:1", json!("Ada")),
        ("doc:1", json!("Reader")),
        ("bare:1", json!(null)),
    ] {
        let ada = rig.connect("").await;
        here.push(ada.joined(topic, user("ada")).await);
        assert_eq!(shown(&rig, topic, "ada").await["name"], name, "{topic}");
    }
    let sources = node_fetch(&rig).await;
    let keys: Vec<&Value> = sources.iter().map(|fetch| &fetch["source"]).collect();
    assert_eq!(keys, ["fetch.url", "topics[1].fetch_url"]);
    rig.stop().await;
}

#[test]
fn srv_756_what_cannot_be_fetched_from_is_refused_when_the_configuration_is_read() {
    let wrong: [(&[(&str, &str)], &str); 10] = [
        (&[("fetch.url", "http://10.0.0.1/f")], "use https"),
        (
            &[("fetch.url", "https://me:secret@example.com/")],
            "without a user or a password",
        ),
        (
            &[("fetch.url", "ftp://example.com/")],
            "it must be a URL such as",
        ),
        (
            &[("fetch.query", "select 1")],
            "fetch.database_url, which fetch.query is for, is missing",
        ),
        (
            &[("fetch.database_url", "sqlite:a.db")],
            "fetch.query, which says",
        ),
        (
            &[
                ("fetch.database_url", "mysql://me:secret@db/app"),
                ("fetch.query", "select 1"),
            ],
            "fetch.database_url is something else, it must be postgres://… or sqlite:…",
        ),
        (
            &[
                ("fetch.url", "https://example.com/"),
                ("fetch.query", "select 1"),
                ("fetch.database_url", "sqlite:a.db"),
            ],
            "fields come from one of them",
        ),
        (
            &[(
                "topics",
                "[{ pattern = \"a\", fetch_query = \"x\", fetch_url = \"https://a/\" }]",
            )],
            "topics[0].fetch_url",
        ),
        (
            &[(
                "topics",
                "[{ pattern = \"a\", fetch_url = \"http://10.0.0.1/\" }]",
            )],
            "use https",
        ),
        (
            &[("fetch.min_pause", "1m")],
            "the least pause must not be longer than the longest",
        ),
    ];
    for (flags, said) in wrong {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let sources = herenow_server::config::Sources {
            flags: flags.iter().map(owned).collect(),
            ..Default::default()
        };
        let refused = herenow_server::config::ServerConfig::load(&sources).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains(said), "{flags:?}: {refused}");
        assert!(!refused.contains("secret@db"), "{refused}");
    }
}
