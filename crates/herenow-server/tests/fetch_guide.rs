//! docs/fetch.md, tried: each of its files is a configuration, its queries and its answers do what
//! it says, and its command is run by a real shell and curl.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/fields.rs"]
mod fields;
#[path = "../../herenow-sql/tests/support/postgres.rs"]
mod postgres;
#[path = "support/rig.rs"]
mod rig;
#[path = "../../herenow-sql/tests/support/sqlite.rs"]
mod sqlite;

use std::path::PathBuf;
use std::process::Command;

use axum::Router;
use axum::routing::post;
use herenow_server::config::{ServerConfig, Sources};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::fields::{node_fetch, shown, user};
use self::postgres::Postgres;
use self::rig::Rig;

const GUIDE: &str = include_str!("../../../docs/fetch.md");
const USERS: &str = "create table users (id text primary key, name text, avatar text);
    insert into users values ('ada', 'Ada Lovelace', '/a/1.png')";

/// The fenced blocks of a language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("\n```{language}\n");
    let blocks = GUIDE.split(fence.as_str()).skip(1);
    blocks
        .map(|block| block.split("\n```").next().unwrap())
        .collect()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn load(text: &str, name: &str) -> ServerConfig {
    let url = "postgres://app@localhost/app".to_owned();
    let sources = Sources {
        file: Some(file(name, text)),
        environment: vec![("HERENOW_FETCH_DATABASE_URL".to_owned(), url)],
        ..Sources::default()
    };
    ServerConfig::load(&sources).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// What the guide shows of ada, without her metas.
fn promised() -> Value {
    let mut ada: Value = serde_json::from_str(blocks("json")[0]).unwrap();
    let fields = ada["ada"].as_object_mut().unwrap();
    fields.remove("metas").unwrap();
    ada["ada"].take()
}

async fn shows_ada(url: &str, query: &str) {
    let rig = Rig::with(&[("fetch.database_url", url), ("fetch.query", query)]).await;
    let _ada = rig.connect("").await.joined("room:1", user("ada")).await;
    assert_eq!(shown(&rig, "room:1", "ada").await, promised(), "{query}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_761_the_queries_of_the_guide_show_what_it_shows() {
    let files = blocks("toml");
    let [for_postgres, for_sqlite, ..] = &files[..] else {
        panic!("{files:?}");
    };
    let server = Postgres::start();
    server.execute(USERS);
    let query = load(for_postgres, "srv_761_a.toml").fetch.query.unwrap();
    shows_ada(&server.url(), &query).await;
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("srv_761.db");
    let _stale = std::fs::remove_file(&path);
    sqlite::execute(&path, USERS).await;
    let query = load(for_sqlite, "srv_761_b.toml").fetch.query.unwrap();
    shows_ada(&format!("sqlite://{}", path.display()), &query).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_762_the_request_the_answer_and_the_command_of_the_guide_are_those_of_the_server() {
    let topics = blocks("toml")
        .into_iter()
        .filter(|text| text.contains("[[topics]]"));
    for (n, text) in topics.enumerate() {
        let config = load(text, &format!("srv_762_{n}.toml"));
        assert_eq!(config.topics.len(), 3);
    }
    let answer = blocks("json")
        .into_iter()
        .find(|text| text.starts_with("{\"ada\""))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/herenow/fields", listener.local_addr().unwrap());
    let app = Router::new().route(
        "/herenow/fields",
        post(move |body: String| async move {
            let asked: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(asked["keys"], json!(["ada"]));
            answer
        }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });
    let keys = "guide:admin:keykeykeykeykeykey";
    let rig = Rig::with(&[("fetch.url", &url), ("api.keys", keys)]).await;
    let mut ada = rig.connect("").await.joined("room:1", user("ada")).await;
    let mut state = ada.event("presence_state").await;
    state["ada"]
        .as_object_mut()
        .unwrap()
        .remove("metas")
        .unwrap();
    assert_eq!(state["ada"], promised());
    let command = blocks("sh")
        .into_iter()
        .find(|text| text.starts_with("curl"))
        .unwrap();
    let exports = format!(
        "export HERENOW=http://{} API_KEY=keykeykeykeykeykey",
        rig.address
    );
    let script = format!("{exports}\n{command}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, json!({ "key": "ada", "topic": null }));
    let report = blocks("json")
        .into_iter()
        .find(|text| text.contains("\"n_paused\""))
        .unwrap();
    let shown: Value = serde_json::from_str(report).unwrap();
    let header = "x-api-key: keykeykeykeykeykey\r\n";
    let node = rig.http("GET", "/api/node", header, "").await.json();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&shown), names(&node["fetch"][0]));
    rig.stop().await;
}

#[tokio::test]
async fn srv_763_without_a_source_nothing_is_fetched_and_nothing_waits() {
    let rig = Rig::start().await;
    let mut ada = rig.connect("").await.joined("room:1", user("ada")).await;
    let state = ada.event("presence_state").await;
    assert_eq!(state["ada"].as_object().unwrap().len(), 1);
    assert_eq!(node_fetch(&rig).await, Vec::<Value>::new());
    rig.stop().await;
}
