//! Against a real SQLite file.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/sqlite.rs"]
mod sqlite;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use herenow_sql::{Database, Settings, SqlError};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const BY_ID: &str = "where id in (select value from json_each(?1))";

/// A file of a database, which goes away with it.
struct File(PathBuf);

impl File {
    async fn new(name: &str, statements: &str) -> Self {
        let name = format!("herenow-{name}-{}.db", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        let _stale = std::fs::remove_file(&file.0);
        file.execute(statements).await;
        file
    }

    async fn execute(&self, statements: &str) {
        sqlite::execute(&self.0, statements).await;
    }

    fn database(&self, query: &str) -> Database {
        Database::new(&self.settings(query)).unwrap()
    }

    fn settings(&self, query: &str) -> Settings {
        Settings::new(format!("sqlite://{}", self.0.display()), query)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it took too long")
}

async fn ask(database: &Database, keys: &[&str]) -> BTreeMap<String, Value> {
    let rows = database.ask(keys).await.unwrap().into_iter();
    rows.map(|row| (row.key, serde_json::from_str(&row.fields).unwrap()))
        .collect()
}

#[tokio::test]
async fn srv_740_values_of_sqlite_are_what_they_are_and_what_their_column_says() {
    let file = File::new(
        "740",
        "create table users (id text primary key, name text, age int, is_away boolean, share real,
         since datetime, prefs text, raw blob, gone text);
         insert into users values ('ada', 'Ada \"L\"', 36, 1, 1.5, '2026-11-28 12:00:00',
         '{\"theme\": \"dark\"}', x'00ff', null), ('bob', 'Bob', 9007199254740993, 0, 1e999,
         null, 'not json', null, null);",
    )
    .await;
    let query = format!(
        "select id, name, age, is_away, share, since, prefs as \"prefs: json\", raw, gone \
         from users {BY_ID}"
    );
    let users = file.database(&query);
    users.check().await.unwrap();
    let found = ask(&users, &["ada", "bob", "nobody", "'; --"]).await;
    assert_eq!(
        found["ada"],
        json!({
            "name": "Ada \"L\"", "age": 36, "is_away": true, "share": 1.5,
            "since": "2026-11-28 12:00:00", "prefs": { "theme": "dark" }, "raw": "\\x00ff",
            "gone": null,
        })
    );
    assert_eq!(found["bob"]["age"], 9_007_199_254_740_993_i64);
    assert_eq!(found["bob"]["is_away"], false);
    assert_eq!(found["bob"]["share"], Value::Null, "JSON has no infinity");
    assert_eq!(found["bob"]["prefs"], "not json");
    assert_eq!(found.len(), 2);
}

#[tokio::test]
async fn srv_741_ids_that_are_numbers_are_found_by_their_text() {
    let file = File::new(
        "741",
        "create table users (id integer primary key, name text);
         insert into users values (7, 'Seven'), (8, 'Eight');",
    )
    .await;
    let users = file.database(&format!("select id, name from users {BY_ID}"));
    let found = ask(&users, &["7", "guest-7", "9"]).await;
    assert_eq!(
        found,
        BTreeMap::from([("7".to_owned(), json!({ "name": "Seven" }))])
    );
}

#[tokio::test]
async fn srv_742_a_query_that_can_never_work_says_so_and_a_file_that_is_not_there_is_no_query() {
    let file = File::new("742", "create table users (id text, name text, metas int)").await;
    let wrong = [
        ("selec 1", "syntax error"),
        (
            "select id, nam from users where id in (select value from json_each(?1))",
            "no such column: nam",
        ),
        (
            "select id, name from people where id = ?1",
            "no such table: people",
        ),
        ("select id, name from users", "it has 0 parameters"),
        (
            "select id, name from users where id = ?1 and name = ?2",
            "it has 2 parameters",
        ),
        ("select id from users where id = ?1", "it returns 1 columns"),
        (
            "select id, name, name from users where id = ?1",
            "two columns called \"name\"",
        ),
        (
            "select id, name as \"metas: json\" from users where id = ?1",
            "reserved",
        ),
        (
            "delete from users where id = ?1 returning id, name",
            "readonly",
        ),
        (
            "begin; select id, name from users where id = ?1",
            "more than one statement",
        ),
    ];
    for (query, said) in wrong {
        let refused = file.database(query).check().await.unwrap_err();
        assert!(refused.is_wrong_query(), "{query}: {refused:?}");
        assert!(refused.to_string().contains(said), "{query}: {refused}");
    }
    let late = File(std::env::temp_dir().join(format!("herenow-late-{}.db", std::process::id())));
    let users = late.database(&format!("select id, name from users {BY_ID}"));
    let refused = users.check().await.unwrap_err();
    assert!(
        matches!(refused, SqlError::Unreachable { .. }),
        "{refused:?}"
    );
    assert!(!late.0.exists(), "it is not made either");
    late.execute("create table users (id text, name text); insert into users values ('a', 'A')")
        .await;
    assert_eq!(ask(&users, &["a"]).await["a"]["name"], "A");
}

/// A file, and a query of it that does not end.
async fn endless(name: &str) -> (File, String) {
    let file = File::new(
        name,
        "create table users (id text); insert into users values ('ada')",
    )
    .await;
    let query = format!(
        "with recursive c (x) as (select 1 union all select x + 1 from c) \
         select id, (select sum(x) from c) as n from users {BY_ID}"
    );
    (file, query)
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_1790_a_query_of_sqlite_ends_after_its_time() {
    let (file, query) = endless("1790-time").await;
    let mut settings = file.settings(&query);
    settings.statement_timeout = Duration::from_millis(50);
    let slow = Database::new(&settings).unwrap();
    for _ in 0..2 {
        let late = within(slow.ask(&["ada"])).await.unwrap_err();
        assert!(matches!(late, SqlError::Late { .. }), "{late:?}");
        assert!(late.to_string().contains("50 ms"), "{late}");
        sqlite::until_free(&file.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_1790_a_query_of_sqlite_ends_when_nobody_waits_for_it() {
    let (file, query) = endless("1790-gone").await;
    let mut settings = file.settings(&query);
    settings.statement_timeout = Duration::from_secs(3600);
    let slow = Database::new(&settings).unwrap();
    let asking = tokio::spawn(async move { slow.ask(&["ada"]).await });
    sqlite::until_read(&file.0).await;
    asking.abort();
    sqlite::until_free(&file.0).await;
}

#[tokio::test]
async fn srv_1791_a_file_that_was_replaced_is_read_and_one_that_is_gone_is_missed() {
    let users = |name| {
        format!(
            "create table users (id text, name text); insert into users values ('ada', '{name}')"
        )
    };
    let file = File::new("1791", &users("first")).await;
    let database = file.database(&format!("select id, name from users {BY_ID}"));
    assert_eq!(ask(&database, &["ada"]).await["ada"]["name"], "first");
    let next = File::new("1791-next", &users("second")).await;
    std::fs::rename(&next.0, &file.0).unwrap();
    assert_eq!(ask(&database, &["ada"]).await["ada"]["name"], "second");
    std::fs::remove_file(&file.0).unwrap();
    let gone = database.ask(&["ada"]).await.unwrap_err();
    assert!(matches!(gone, SqlError::Unreachable { .. }), "{gone:?}");
    let path = file.0.display().to_string();
    assert!(gone.to_string().contains(&path), "{gone}");
    file.execute(&users("third")).await;
    assert_eq!(ask(&database, &["ada"]).await["ada"]["name"], "third");
}

#[tokio::test]
async fn srv_1792_a_time_that_sqlite_cannot_count_is_the_longest_that_it_can() {
    let file = File::new("1792", "create table users (id text, name text)").await;
    let mut settings = file.settings(&format!("select id, name from users {BY_ID}"));
    settings.statement_timeout = Duration::MAX;
    let database = Database::new(&settings).unwrap();
    assert!(ask(&database, &["ada"]).await.is_empty());
}

/// Writes what is more than a cache of one page holds.
const WRITES: &str = "with recursive c (x) as (select 1 union all select x + 1 from c limit 500)
     insert into users select x, randomblob(4000) from c";

#[tokio::test]
async fn srv_1793_a_file_whose_application_died_in_a_transaction_is_no_wrong_query() {
    let users = "create table users (id text, name text); insert into users values ('ada', 'Ada')";
    let file = File::new("1793", users).await;
    let mut writer = sqlite::open(&file.0).await;
    let half = format!("pragma cache_size = 1; begin; {WRITES}; {WRITES}");
    sqlite::run(&mut writer, &half).await;
    // What is on the disk if it dies now.
    let died = File(file.0.with_extension("died"));
    let journal = File(file.0.with_extension("died-journal"));
    std::fs::copy(&file.0, &died.0).unwrap();
    std::fs::copy(file.0.with_extension("db-journal"), &journal.0).unwrap();
    let database = died.database(&format!("select id, name from users {BY_ID}"));
    let refused = database.check().await.unwrap_err();
    assert!(
        matches!(refused, SqlError::Unreachable { .. }),
        "{refused:?}"
    );
    let path = died.0.display().to_string();
    assert!(refused.to_string().contains(&path), "{refused}");
    died.execute("select count(*) from users").await;
    assert_eq!(ask(&database, &["ada"]).await["ada"]["name"], "Ada");
}

#[tokio::test]
async fn srv_1793_a_file_that_is_locked_is_there_and_says_so() {
    let file = File::new("1793-locked", "create table users (id text, name text)").await;
    let mut settings = file.settings(&format!("select id, name from users {BY_ID}"));
    settings.statement_timeout = Duration::from_millis(1);
    let database = Database::new(&settings).unwrap();
    let mut writer = sqlite::open(&file.0).await;
    sqlite::run(&mut writer, "begin exclusive").await;
    let refused = within(database.ask(&["ada"])).await.unwrap_err();
    assert!(matches!(refused, SqlError::Failed { .. }), "{refused:?}");
    let said = format!("{}: database is locked", file.0.display());
    assert!(refused.to_string().contains(&said), "{refused}");
}

#[tokio::test]
async fn srv_1793_a_text_that_is_not_utf_8_does_not_cost_the_others_theirs() {
    let file = File::new(
        "1793-text",
        "create table users (id text, name text);
         insert into users values ('ada', 'Ada'), ('bob', cast(x'42ff62' as text))",
    )
    .await;
    let database = file.database(&format!("select id, name from users {BY_ID}"));
    let found = ask(&database, &["ada", "bob"]).await;
    assert_eq!(found["ada"]["name"], "Ada");
    assert_eq!(found["bob"]["name"], "B\u{fffd}b");
}
