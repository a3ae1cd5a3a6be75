//! Against a real PostgreSQL: types, keys, wrong queries, and a server that goes away.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/postgres.rs"]
mod postgres;

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_sql::{Database, Row, Settings, SqlError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use self::postgres::{Postgres, Proxy, Traffic};

const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that tells no one when it changes.
const LOOK: Duration = Duration::from_millis(20);

fn database(url: &str, query: &str) -> Database {
    Database::new(&Settings::new(url, query)).unwrap()
}

async fn ask(database: &Database, keys: &[&str]) -> BTreeMap<String, Value> {
    by_key(within(database.ask(keys)).await.unwrap())
}

fn by_key(rows: Vec<Row>) -> BTreeMap<String, Value> {
    let rows = rows.into_iter();
    rows.map(|row| (row.key, serde_json::from_str(&row.fields).unwrap()))
        .collect()
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it took too long")
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_730_each_type_of_postgresql_is_what_its_own_json_makes_of_it() {
    let server = Postgres::start();
    server.execute(
        "create table users (id text primary key, name varchar(20), age int, big bigint, \
         share numeric, is_away boolean, token uuid, since timestamptz, day date, prefs jsonb, \
         tags text[], ratio double precision, raw bytea, nothing text);
         insert into users values ('ada', 'Ada \"L\"', 36, 9007199254740993, 1.50, true, \
         'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '2026-11-28 12:00:00+02', '2026-11-28', \
         '{\"theme\": \"dark\"}', '{a,b}', 'NaN', '\\x00ff', null);",
    );
    let query = "select * from users where id = any($1) -- and nobody else;";
    let users = database(&server.url(), query);
    within(users.check()).await.unwrap();
    let rows = within(users.ask(&["ada", "nobody", "nul\0"]))
        .await
        .unwrap();
    assert!(rows[0].fields.contains("9007199254740993"), "{rows:?}");
    assert!(rows[0].fields.contains("1.50"), "{rows:?}");
    let found = by_key(rows);
    assert_eq!(
        found["ada"],
        json!({
            "name": "Ada \"L\"", "age": 36, "big": 9_007_199_254_740_993_i64, "share": 1.5,
            "is_away": true, "token": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "since": "2026-11-28T10:00:00+00:00", "day": "2026-11-28",
            "prefs": { "theme": "dark" }, "tags": ["a", "b"], "ratio": "NaN",
            "raw": "\\x00ff", "nothing": null,
        })
    );
    assert_eq!(found.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_731_keys_are_given_as_what_the_column_is_and_others_are_not_asked_for() {
    let server = Postgres::start();
    server.execute(
        "create table n2 (id smallint, x int); insert into n2 values (2, 2);
         create table n4 (id int, x int); insert into n4 values (4, 4);
         create table n8 (id bigint, x int); insert into n8 values (8, 8);
         create table u (id uuid, x int);
         insert into u values ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 16);
         create type color as enum ('red', 'blue');
         create table e (id color, x int); insert into e values ('red', 1);",
    );
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let keys = [
        "2",
        "4",
        "8",
        uuid,
        "007",
        "guest-7",
        "99999999999999999999",
        "'; drop table u",
    ];
    for (table, key, x) in [
        ("n2", "2", 2),
        ("n4", "4", 4),
        ("n8", "8", 8),
        ("u", uuid, 16),
    ] {
        let query = format!("select id, x from {table} where id = any($1);");
        let found = ask(&database(&server.url(), &query), &keys).await;
        assert_eq!(found, BTreeMap::from([(key.to_owned(), json!({ "x": x }))]));
        let nobody = ask(&database(&server.url(), &query), &["guest"]).await;
        assert_eq!(nobody, BTreeMap::new());
    }
    let as_text = "select id::text, x from n8 where id::text = any($1)";
    assert_eq!(ask(&database(&server.url(), as_text), &keys).await.len(), 1);
    let enums = "select id, x from e where id::text = any($1)";
    assert_eq!(
        ask(&database(&server.url(), enums), &["red", "pink"])
            .await
            .len(),
        1
    );
}

/// Queries that can never work, and what is said of each.
const WRONG: &[(&str, &str)] = &[
    (
        "selec id, name from users where id = any($1)",
        "at or near \"selec\" (at character 1 of it)",
    ),
    (
        "select id, nam from users where id = any($1)",
        "column \"nam\" does not exist",
    ),
    (
        "select id, nam from users where id = any($1)",
        "(at character 12 of it)",
    ),
    (
        "select id, name from people where id = any($1)",
        "\"people\" does not exist",
    ),
    ("select id, name from users", "it has 0 parameters"),
    (
        "select id, name from users where id = any($1) and name = $2",
        "it has 2 parameters",
    ),
    (
        "select id, name from users where id = $1",
        "write `= any($1)`",
    ),
    (
        "select id from users where id = any($1)",
        "it returns 1 columns",
    ),
    (
        "select id, name, name from users where id = any($1)",
        "two columns called \"name\"",
    ),
    (
        "select id, metas from users where id = any($1)",
        "called \"metas\", which is reserved",
    ),
    (
        "update users set name = 'x' where id = any($1) returning id, name",
        "at or near \"set\"",
    ),
    (
        "select id, x from n where id = any($1::text[])",
        "operator does not exist",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn srv_732_a_query_that_can_never_work_says_what_is_wrong_with_it() {
    let server = Postgres::start();
    server.execute(
        "create table users (id text, name text, metas int); create table n (id int, x int)",
    );
    for &(query, said) in WRONG {
        let refused = within(database(&server.url(), query).check())
            .await
            .unwrap_err();
        assert!(refused.is_wrong_query(), "{query}: {refused:?}");
        assert!(refused.to_string().contains(said), "{query}: {refused}");
    }
    let all = database(
        &server.url(),
        "select name, id from users where $1::text[] is not null",
    );
    server.execute("insert into users values ('a', 'x', 1), ('b', 'y', 1)");
    let refused = within(all.ask(&["x"])).await.unwrap_err();
    assert!(
        refused.to_string().contains("more than 1 rows for 1 keys"),
        "{refused}"
    );
    let boolean = database(
        &server.url(),
        "select true, id from users where id = any($1)",
    );
    let refused = within(boolean.ask(&["a"])).await.unwrap_err();
    assert!(refused.to_string().contains("a boolean"), "{refused}");
    let writes = "select id, nextval('s') as n from users where id = any($1)";
    server.execute("create sequence s");
    let refused = within(database(&server.url(), writes).ask(&["a"]))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_733_a_server_that_was_restarted_is_asked_again_without_an_error() {
    let mut server = Postgres::start();
    server.execute(
        "create table users (id text, name text); insert into users values ('ada', 'Ada')",
    );
    let users = database(
        &server.url(),
        "select id, name from users where id = any($1)",
    );
    assert_eq!(ask(&users, &["ada"]).await["ada"]["name"], "Ada");
    server.stop();
    for _ in 0..2 {
        let gone = within(users.ask(&["ada"])).await.unwrap_err();
        assert!(matches!(gone, SqlError::Unreachable { .. }), "{gone:?}");
    }
    server.restart();
    assert_eq!(ask(&users, &["ada"]).await["ada"]["name"], "Ada");
    server.restart();
    assert_eq!(
        ask(&users, &["ada"]).await["ada"]["name"],
        "Ada",
        "the idle connection is dead"
    );
    server.execute("alter table users rename to people");
    let wrong = within(users.ask(&["ada"])).await.unwrap_err();
    assert!(wrong.is_wrong_query(), "{wrong:?}");
    server.execute("create view users as select id::int, name from people where id ~ '^[0-9]+$'");
    server.execute("insert into people values ('7', 'Seven')");
    assert_eq!(
        ask(&users, &["7", "ada"]).await["7"]["name"],
        "Seven",
        "its type has changed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_1802_a_database_that_refuses_a_connection_is_told_from_one_that_is_not_there() {
    let mut server = Postgres::start();
    server.execute(
        "create role app login password 'right'; 
         do $$ begin execute format('copy (select ''local all all scram-sha-256'') to %L',
         current_setting('hba_file')); end $$",
    );
    server.restart();
    let query = "select id, name from users where id = any($1)";
    let said = async |user: &str, name: &str| {
        let url = server.url().replace("//postgres@", &format!("//{user}@"));
        let url = url.replace("/postgres?", &format!("/{name}?"));
        let error = within(database(&url, query).check()).await.unwrap_err();
        error.to_string()
    };
    for (user, name, expected) in [
        (
            "app:wrong",
            "postgres",
            "the database refuses: password authentication failed for user \"app\"",
        ),
        (
            "app:right",
            "nowhere",
            "the database refuses: database \"nowhere\" does not exist",
        ),
    ] {
        assert_eq!(said(user, name).await, expected);
    }
    let there = said("app:right", "postgres").await;
    assert!(there.contains("\"users\" does not exist"), "{there}");
    server.stop();
    let away = database(&server.url(), query);
    let away = within(away.check()).await.unwrap_err().to_string();
    assert!(
        away.starts_with("the database cannot be reached: "),
        "{away}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_734_who_gives_up_leaves_no_connection_behind_that_still_waits() {
    let server = Postgres::start();
    server.execute(
        "create table users (id text, name text); insert into users values ('ada', 'Ada')",
    );
    let proxy = Proxy::start(server.socket()).await;
    let users = database(
        &proxy.url(),
        "select id, name from users where id = any($1)",
    );
    assert_eq!(ask(&users, &["ada"]).await.len(), 1);
    assert_eq!(ask(&users, &["ada"]).await.len(), 1);
    assert_eq!(proxy.n_accepted(), 1, "a connection is used again");
    proxy.set(Traffic::Stalls);
    for _ in 0..3 {
        let waits = tokio::time::timeout(Duration::from_millis(50), users.ask(&["ada"])).await;
        assert!(waits.is_err(), "nothing comes through");
    }
    proxy.set(Traffic::Passes);
    assert_eq!(ask(&users, &["ada"]).await.len(), 1);
    proxy.set(Traffic::Breaks);
    let gone = within(users.ask(&["ada"])).await.unwrap_err();
    assert!(matches!(gone, SqlError::Unreachable { .. }), "{gone:?}");
    proxy.set(Traffic::Passes);
    assert_eq!(ask(&users, &["ada"]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_735_the_database_itself_gives_up_what_takes_too_long() {
    let server = Postgres::start();
    let query = "select k, pg_sleep(60)::text as slept from unnest($1::text[]) k";
    let mut settings = Settings::new(server.url(), query);
    settings.statement_timeout = Duration::from_millis(50);
    let slow = Database::new(&settings).unwrap();
    let late = within(slow.ask(&["ada"])).await.unwrap_err();
    assert!(late.to_string().contains("statement timeout"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_736_tls_is_spoken_and_the_certificate_is_checked() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (_server, port) = Postgres::start_with_tls(&certificate, &key);
    let root = std::env::temp_dir().join(format!("herenow-root-{}.crt", std::process::id()));
    std::fs::write(&root, &certificate).unwrap();
    let query = "select k, (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as is_secret \
                 from unnest($1::text[]) k";
    let url = format!("postgres://postgres@localhost:{port}/postgres?sslmode=verify-full");
    let trusted = format!("{url}&sslrootcert={}", root.display());
    let found = ask(&database(&trusted, query), &["ada"]).await;
    assert_eq!(found["ada"]["is_secret"], true);
    let refused = within(database(&url, query).check()).await.unwrap_err();
    assert!(
        matches!(refused, SqlError::Unreachable { .. }),
        "{refused:?}"
    );
    std::fs::remove_file(&root).unwrap();
}

#[test]
fn srv_737_no_error_and_no_debug_shows_a_password() {
    let secret = "hunter2hunter2";
    for url in [
        format!("postgres://app:{secret}@db.internal:notaport/app"),
        format!("mysql://app:{secret}@db.internal/app"),
        secret.to_owned(),
    ] {
        let error = Database::new(&Settings::new(url, "select 1")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
    let settings = Settings::new(format!("postgres://app:{secret}@db/app"), "select 1");
    let database = Database::new(&settings).unwrap();
    assert!(!format!("{settings:?} {database:?}").contains(secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_1792_a_query_of_postgresql_that_nobody_waits_for_ends_after_its_time() {
    let server = Postgres::start();
    let query = "select k, pg_sleep(3600)::text as slept from unnest($1::text[]) k";
    let watch = "select k, (select count(*) from pg_stat_activity where pid <> pg_backend_pid() \
                 and query like '%pg_sleep(3600)%') as n from unnest($1::text[]) k";
    let watch = database(&server.url(), watch);
    let n_running = async || ask(&watch, &["x"]).await["x"]["n"].clone();
    let mut settings = Settings::new(server.url(), query);
    settings.statement_timeout = Duration::from_secs(1);
    let slow = Database::new(&settings).unwrap();
    let asking = tokio::spawn(async move { slow.ask(&["ada"]).await });
    while n_running().await == 0 && !asking.is_finished() {
        tokio::time::sleep(LOOK).await;
    }
    asking.abort();
    let looks = async {
        while n_running().await != 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(looks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_1792_a_time_that_postgresql_cannot_count_is_not_for_ever() {
    let server = Postgres::start();
    let query = "select k, pg_sleep(3600)::text as slept from unnest($1::text[]) k";
    let mut settings = Settings::new(server.url(), query);
    settings.statement_timeout = Duration::from_nanos(1);
    let slow = Database::new(&settings).unwrap();
    let late = within(slow.ask(&["ada"])).await.unwrap_err();
    assert!(late.to_string().contains("statement timeout"), "{late}");
    settings.query = "select k, 1 as n from unnest($1::text[]) k".to_owned();
    settings.statement_timeout = Duration::MAX;
    let quick = Database::new(&settings).unwrap();
    assert_eq!(ask(&quick, &["ada"]).await.len(), 1);
}

/// What a server says who lets one in, and then has an error of which it says nothing but a text.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
const REFUSAL: &[u8] = b"E\0\0\0\x0cMoops!\0\0Z\0\0\0\x05I";

#[tokio::test]
async fn srv_1794_an_error_of_postgresql_without_a_code_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("postgres://app@{address}/app?sslmode=disable");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = [0; 4096];
        for answer in [WELCOME, REFUSAL] {
            assert_ne!(stream.read(&mut said).await.unwrap(), 0);
            stream.write_all(answer).await.unwrap();
        }
        stream.read(&mut said).await
    });
    let users = database(&url, "select id, name from users where id = any($1)");
    let refused = within(users.check()).await.unwrap_err();
    assert!(refused.to_string().contains("without a code"), "{refused}");
}
