//! Fields by a query, through a whole server.

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

use herenow_server::config::{ServerConfig, Sources};
use herenow_server::run;
use serde_json::{Value, json};

use self::fields::{forget, node_fetch, shown, until_shown, user};
use self::postgres::Postgres;
use self::rig::{Rig, within};

const BY_ID: &str = "select id, name from users where id in (select value from json_each(?1))";

/// A path where no file is.
fn no_file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _stale = std::fs::remove_file(&path);
    path
}

/// What a server that does not start says.
async fn refusal(flags: &[(&str, &str)]) -> String {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let sources = Sources {
        flags: flags.iter().map(owned).collect(),
        ..Sources::default()
    };
    let config = ServerConfig::load(&sources).unwrap();
    let listener = run::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let served = run::serve(config, listener, std::future::pending());
    within(served).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_757_a_wrong_query_stops_the_start_with_what_the_database_says() {
    let server = Postgres::start();
    server.execute("create table users (id text, name text)");
    let url = server.url();
    let query = "select id, nam from users where id = any($1)";
    let said = refusal(&[("fetch.database_url", &url), ("fetch.query", query)]).await;
    assert!(
        said.starts_with("fetch.query: the query is wrong: "),
        "{said}"
    );
    assert!(said.contains("column \"nam\" does not exist"), "{said}");
    assert!(said.contains("(at character 12 of it)"), "{said}");
    assert!(said.ends_with(query), "{said}");
    let topics = format!("[{{ pattern = \"room:*\", fetch_query = \"{query}\" }}]");
    let said = refusal(&[("fetch.database_url", &url), ("topics", &topics)]).await;
    assert!(said.starts_with("topics[0].fetch_query: "), "{said}");
}

#[test]
fn srv_1801_a_typing_error_in_the_url_of_the_database_stops_the_check_and_the_start() {
    for command in ["config check", "serve --listen 127.0.0.1:0"] {
        for (parameter, meant) in [
            ("pasword=hunter5", "\"password\""),
            ("sslmod=verify-full", "\"sslmode\""),
        ] {
            let url = format!("postgres://postgres@127.0.0.1:1/postgres?{parameter}");
            let query = [
                "--fetch-query",
                "select id, name from users where id = any($1)",
            ];
            let output = Command::new(env!("CARGO_BIN_EXE_herenow"))
                .args(command.split(' ').chain(query))
                .env_clear()
                .env("HERENOW_FETCH_DATABASE_URL", url)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            let expected = format!(
                "there is no parameter {:?} for PostgreSQL, did you mean {meant}?",
                parameter.split_once('=').unwrap().0
            );
            assert!(said.contains("herenow: fetch.database_url: "), "{said}");
            assert!(said.contains(&expected), "{said}");
            assert!(!said.contains("hunter5"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_758_a_database_that_is_not_there_does_not_stop_the_start_and_may_come_later() {
    let path = no_file("srv_758.db");
    let url = format!("sqlite://{}", path.display());
    let flags = [
        ("fetch.database_url", url.as_str()),
        ("fetch.query", BY_ID),
        ("fetch.min_pause", "10ms"),
        ("fetch.max_pause", "20ms"),
    ];
    let rig = Rig::with(&flags).await;
    assert_eq!(node_fetch(&rig).await[0]["state"], "failing");
    let mut ada = rig.connect("").await.joined("room:1", user("ada")).await;
    let state = ada.event("presence_state").await;
    let entry = state["ada"].as_object().unwrap();
    assert_eq!(entry.keys().collect::<Vec<_>>(), ["metas"]);
    let fetch = &node_fetch(&rig).await[0];
    assert!(
        fetch["error"].as_str().unwrap().contains("unable to open"),
        "{fetch}"
    );
    let users = "create table users (id text, name text); insert into users values ('ada', 'Ada')";
    sqlite::execute(&path, users).await;
    until_shown(&rig, "room:1", "ada", |fields| fields["name"] == "Ada").await;
    assert_eq!(node_fetch(&rig).await[0]["state"], "ok");
    rig.stop().await;
    std::fs::remove_file(path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_759_a_list_of_fifty_is_one_query_and_one_who_was_looked_up_is_known_in_every_topic() {
    let server = Postgres::start();
    server.execute(
        "create table users (id text primary key, name text);
         insert into users select 'u' || n, 'User ' || n from generate_series(1, 50) n",
    );
    let url = server.url();
    let query = "select id, name from users where id = any($1)";
    let flags = [
        ("fetch.database_url", url.as_str()),
        ("fetch.query", query),
        ("fetch.deadline", "20s"),
    ];
    let rig = Rig::with(&flags).await;
    for n in 1..=50 {
        let path = format!("/api/topics/room:1/presences/u{n}");
        let json = "content-type: application/json\r\n";
        let held = rig
            .http("PUT", &path, json, r#"{"lease_seconds": 600}"#)
            .await;
        assert_eq!(held.status, 201, "{}", held.body);
    }
    forget(&rig, "").await;
    let before = node_fetch(&rig).await.remove(0);
    let list = rig
        .get("/api/topics/room:1/presences?limit=50")
        .await
        .json();
    for presence in list["presences"].as_array().unwrap() {
        let n = presence["key"].as_str().unwrap().trim_start_matches('u');
        assert_eq!(presence["fields"], json!({ "name": format!("User {n}") }));
    }
    let after = node_fetch(&rig).await.remove(0);
    let grown = |name: &str| after[name].as_u64().unwrap() - before[name].as_u64().unwrap();
    assert_eq!(
        (grown("n_queries"), grown("n_keys_asked")),
        (1, 50),
        "{after}"
    );
    let _u7 = rig.connect("").await.joined("room:2", user("u7")).await;
    assert_eq!(shown(&rig, "room:2", "u7").await["name"], "User 7");
    let last = node_fetch(&rig).await.remove(0);
    assert_eq!(
        last["n_queries"], after["n_queries"],
        "the query does not depend on the topic"
    );
    assert_eq!(last["kind"], Value::from("postgres"));
    rig.stop().await;
}
