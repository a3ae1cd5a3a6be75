//! The HTTP API: keys and rights, who is here, and what is answered to what is wrong.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use std::net::SocketAddr;

use herenow_pubsub::conformance::reserve_port;
use herenow_server::config::{ServerConfig, Sources};
use serde_json::{Value, json};

use self::rig::{Answer, Client, Rig};

const KEYS: &str =
    "ask:read:rrrrrrrrrrrrrrrr,shop:write:wwwwwwwwwwwwwwww,ops:admin:aaaaaaaaaaaaaaaa";

/// The answer's problem, after checking that it is one.
fn problem(answer: &Answer, status: u16, name: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    let media = answer.header("content-type");
    assert_eq!(media, Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert!(
        problem["type"]
            .as_str()
            .unwrap()
            .ends_with(&format!("#{name}")),
        "{problem}"
    );
    assert!(
        problem["title"].is_string() && problem["detail"].is_string(),
        "{problem}"
    );
    problem
}

async fn post(rig: &Rig, path: &str, body: &Value) -> Answer {
    let json = "content-type: application/json\r\n";
    rig.http("POST", path, json, &body.to_string()).await
}

async fn join(rig: &Rig, topic: &str, key: &str) -> Client {
    let user = json!({ "user_id": key, "meta": { "device": "x" } });
    rig.connect("").await.joined(topic, user).await
}

#[tokio::test]
async fn srv_650_each_key_may_do_what_its_right_says() {
    let rig = Rig::with(&[("api.keys", KEYS)]).await;
    let get = async |headers: &str| rig.http("GET", "/api/topics", headers, "").await;
    let nobody = get("").await;
    problem(&nobody, 401, "unauthorized");
    assert_eq!(
        nobody.header("www-authenticate"),
        Some("Bearer realm=\"herenow\"")
    );
    for wrong in [
        "x-api-key: rrrrrrrrrrrrrrr\r\n",
        "x-api-key: ask\r\n",
        "authorization: Bearer \r\n",
        "authorization: Basic cnJycnJycnJycnJycnJycg==\r\n",
        "authorization: Bearer rrrrrrrrrrrrrrrrr\r\n",
    ] {
        problem(&get(wrong).await, 401, "unauthorized");
    }
    for right in [
        "x-api-key: rrrrrrrrrrrrrrrr\r\n",
        "authorization: Bearer rrrrrrrrrrrrrrrr\r\n",
        "authorization: bearer wwwwwwwwwwwwwwww\r\n",
        "x-api-key: aaaaaaaaaaaaaaaa\r\n",
    ] {
        assert_eq!(get(right).await.status, 200, "{right}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_651_without_keys_the_api_is_open_to_this_machine_in_dev_mode_only() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/api/topics").await.status, 200);
    let page = async |headers: &str| rig.http("GET", "/api/topics", headers, "").await;
    assert_eq!(page("origin: http://localhost:3000\r\n").await.status, 200);
    let foreign = page("origin: https://evil.example\r\n").await;
    assert_eq!(problem(&foreign, 403, "forbidden")["field"], "origin");
    let rebound = rig
        .raw("GET /api/topics HTTP/1.1\r\nhost: evil.example:80\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(problem(&rebound, 403, "forbidden")["field"], "host");
    rig.stop().await;
    // The API on all interfaces: not private, and without a key it says how to set one.
    let address = SocketAddr::from(([0, 0, 0, 0], reserve_port()));
    let mut rig = Rig::with(&[("api.listen", &address.to_string())]).await;
    assert_eq!(rig.get("/api/topics").await.status, 404);
    rig.address = ([127, 0, 0, 1], address.port()).into();
    let closed = problem(&rig.get("/api/topics").await, 403, "api-closed");
    assert!(
        closed["detail"]
            .as_str()
            .unwrap()
            .contains("HERENOW_API_KEYS="),
        "{closed}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_1690_what_a_proxy_passes_on_needs_a_key_also_in_dev_mode() {
    const SOCKET: &str = "/dashboard/socket/websocket?vsn=2.0.0";
    const BROADCAST: &str = "/realtime/v1/api/broadcast/room:1/events/note";
    let json = "content-type: application/json\r\napikey: any\r\n";
    let rig = Rig::start().await;
    let direct = rig.http("POST", BROADCAST, json, "{}").await;
    assert_eq!(direct.status, 202, "{}", direct.body);
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "http"),
        ("x-real-ip", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
    ] {
        let header = format!("{name}: {value}\r\n");
        for (method, path) in [
            ("DELETE", "/api/keys/ada"),
            ("GET", "/api/topics"),
            ("GET", "/metrics"),
            ("GET", "/dashboard/access"),
        ] {
            let refused = problem(&rig.http(method, path, &header, "").await, 403, "forbidden");
            let detail = refused["detail"].as_str().unwrap();
            assert!(
                detail.contains("proxy") && detail.contains("set api.keys"),
                "{detail}"
            );
            assert_eq!(refused["field"], name, "{path}");
        }
        let socket = rig.open(SOCKET, &[(name, value)]).await;
        assert!(socket.unwrap_err().to_string().contains("403"), "{name}");
        let headers = format!("{json}{header}");
        let relayed = rig.http("POST", BROADCAST, &headers, "{}").await;
        assert_eq!(relayed.status, 401, "{name}");
    }
    rig.open(SOCKET, &[]).await.unwrap();
    rig.stop().await;
    let rig = Rig::with(&[("api.keys", KEYS)]).await;
    let keyed = "x-forwarded-for: 203.0.113.7\r\nx-api-key: aaaaaaaaaaaaaaaa\r\n";
    let evicted = rig.http("DELETE", "/api/keys/ada", keyed, "").await;
    assert_eq!(evicted.status, 202, "{}", evicted.body);
    rig.stop().await;
}

#[tokio::test]
async fn srv_656_the_api_can_have_a_listener_of_its_own() {
    let address = SocketAddr::from(([127, 0, 0, 1], reserve_port()));
    let flags = [("api.listen", &*address.to_string()), ("api.keys", KEYS)];
    let mut rig = Rig::with(&flags).await;
    assert_eq!(rig.get("/api/topics").await.status, 404);
    let main = std::mem::replace(&mut rig.address, address);
    let key = "x-api-key: rrrrrrrrrrrrrrrr\r\n";
    assert_eq!(rig.http("GET", "/api/topics", key, "").await.status, 200);
    assert_eq!(rig.get("/healthz").await.status, 404);
    rig.address = main;
    assert_eq!(rig.get("/healthz").await.status, 200);
    rig.stop().await;
}

/// An address that was free a moment ago.
#[tokio::test]
async fn srv_652_topics_are_counted_and_paged_by_a_cursor() {
    let rig = Rig::start().await;
    let mut here = Vec::new();
    for topic in ["room:a", "room:b", "room:ü/%1?", "room:c"] {
        here.push(join(&rig, topic, "ada").await);
    }
    here.push(join(&rig, "room:b", "bob").await);
    let first = rig.get("/api/topics?limit=2").await.json();
    let count = |topic: &str, n: usize| json!({ "topic": topic, "n_presences": n, "n_keys": n });
    assert_eq!(
        first["topics"],
        json!([count("room:a", 1), count("room:b", 2)])
    );
    let path = format!(
        "/api/topics?limit=2&cursor={}",
        first["next"].as_str().unwrap()
    );
    let second = rig.get(&path).await.json();
    let rest = json!([count("room:c", 1), count("room:ü/%1?", 1)]);
    assert_eq!((&second["topics"], &second["next"]), (&rest, &Value::Null));
    let found = rig.get("/api/topics?prefix=room%3A%C3%BC").await.json();
    assert_eq!(found["topics"], json!([count("room:ü/%1?", 1)]));
    // In a path, what is special is encoded; what is not may be.
    for path in ["room:%C3%BC%2F%251%3F", "room%3A%c3%bc%2f%25%31%3F"] {
        let one = rig.get(&format!("/api/topics/{path}")).await;
        assert_eq!(one.json(), count("room:ü/%1?", 1));
        let one = rig.get(&format!("/api/topics/{path}/presences/ada")).await;
        assert_eq!(one.json()["metas"][0]["device"], "x");
    }
    assert_eq!(
        rig.get("/api/topics/nobody").await.json(),
        count("nobody", 0)
    );
    let asked = json!({ "topics": ["room:b", "nobody", "room:b"] });
    let counts = post(&rig, "/api/counts", &asked).await.json();
    let expected = json!([count("room:b", 2), count("nobody", 0), count("room:b", 2)]);
    assert_eq!(counts["counts"], expected);
    rig.stop().await;
}

#[tokio::test]
async fn srv_653_presences_of_a_topic_are_paged_by_key() {
    let rig = Rig::start().await;
    let mut here = Vec::new();
    for key in ["ada", "bob", "cleo", "ada"] {
        here.push(join(&rig, "room:1", key).await);
    }
    let page = rig
        .get("/api/topics/room:1/presences?limit=2&bare=true")
        .await
        .json();
    assert_eq!(
        (&page["n_presences"], &page["n_keys"]),
        (&json!(4), &json!(3))
    );
    let keys: Vec<&Value> = page["presences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["key"])
        .collect();
    assert_eq!(keys, ["ada", "bob"]);
    assert_eq!(page["presences"][0]["metas"].as_array().unwrap().len(), 2);
    assert_eq!(page["presences"][0]["nodes"], json!(["local", "local"]));
    assert!(page["presences"][0]["metas"][0]["phx_ref"].is_string());
    let cursor = page["next"].as_str().unwrap();
    let rest = rig
        .get(&format!("/api/topics/room:1/presences?cursor={cursor}"))
        .await
        .json();
    assert_eq!(rest["presences"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&rest["presences"][0]["key"], &rest["next"]),
        (&json!("cleo"), &Value::Null)
    );
    let one = rig.get("/api/topics/room:1/presences/bob").await.json();
    assert_eq!(one["key"], "bob");
    let nobody = rig.get("/api/topics/room:1/presences/dan").await;
    assert_eq!(problem(&nobody, 404, "not-present")["value"], "dan");
    rig.stop().await;
}

#[tokio::test]
async fn srv_654_where_is_a_key_and_where_are_many() {
    let rig = Rig::start().await;
    let mut here = Vec::new();
    for topic in ["room:2", "room:1", "room:3"] {
        here.push(join(&rig, topic, "ada").await);
    }
    here.push(join(&rig, "room:3", "bob").await);
    let topics = |found: &Value| -> Vec<String> {
        let places = found["places"].as_array().unwrap().iter();
        places
            .map(|place| place["topic"].as_str().unwrap().to_owned())
            .collect()
    };
    let ada = rig.get("/api/keys/ada").await.json();
    assert_eq!(topics(&ada), ["room:1", "room:2", "room:3"]);
    assert_eq!(ada["places"][0]["nodes"], json!(["local"]));
    assert_eq!(ada["places"][0]["metas"][0]["device"], "x");
    let ada = rig.get("/api/keys/ada?limit=2").await.json();
    assert_eq!(topics(&ada), ["room:1", "room:2"]);
    let path = format!("/api/keys/ada?cursor={}", ada["next"].as_str().unwrap());
    assert_eq!(topics(&rig.get(&path).await.json()), ["room:3"]);
    let asked = json!({ "keys": ["bob", "nobody", "ada"] });
    let many = post(&rig, "/api/where", &asked).await.json();
    let found: Vec<_> = many["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(topics)
        .collect();
    assert_eq!(
        found,
        [vec!["room:3"], vec![], vec!["room:1", "room:2", "room:3"]]
    );
    drop(here.remove(0));
    rig.stop().await;
}

#[tokio::test]
async fn srv_1663_who_is_beyond_the_page_of_many_keys_has_a_cursor_that_goes_on() {
    let rig = Rig::with(&[("api.max_page", "2")]).await;
    let mut here = Vec::new();
    for topic in ["room:1", "room:2", "room:3"] {
        here.push(join(&rig, topic, "ann").await);
    }
    here.push(join(&rig, "room:4", "bob").await);
    let asked = json!({ "keys": ["ann", "bob", "nobody"] });
    let many = post(&rig, "/api/where", &asked).await.json();
    assert_eq!(many["keys"][2]["next"], Value::Null);
    for (at, n_told, rest) in [(0, 2, "room:3"), (1, 0, "room:4")] {
        let found = &many["keys"][at];
        assert_eq!(found["places"].as_array().unwrap().len(), n_told);
        let (key, next) = (found["key"].as_str(), found["next"].as_str());
        let (key, next) = (key.unwrap(), next.unwrap());
        assert!(
            !next.is_empty(),
            "an empty one reads as that there is no more"
        );
        let path = format!("/api/keys/{key}?cursor={next}");
        let more = rig.get(&path).await.json();
        assert_eq!(more["places"].as_array().unwrap().len(), 1, "{more}");
        assert_eq!(more["places"][0]["topic"], rest);
    }
    drop(here.remove(0));
    rig.stop().await;
}

/// The field that a problem names.
fn field(answer: &Answer, status: u16, name: &str) -> Value {
    problem(answer, status, name)["field"].clone()
}

#[tokio::test]
async fn srv_655_a_wrong_parameter_or_path_is_a_problem_that_names_it() {
    let rig = Rig::start().await;
    for (path, wrong) in [
        ("/api/topics?limit=1&limit=2", "limit"),
        ("/api/topics?cursor=*", "cursor"),
        ("/api/topics?prefix=%ff", "prefix"),
        ("/api/topics/%ff", "path"),
        ("/api/topics//presences", "topic"),
        ("/api/topics/a/presences?bare=1", "bare"),
    ] {
        assert_eq!(field(&rig.get(path).await, 400, "invalid-value"), wrong);
    }
    let unknown = rig.get("/api/topics?size=3").await;
    assert_eq!(field(&unknown, 400, "unknown-field"), "size");
    let limit = problem(
        &rig.get("/api/topics?limit=5000").await,
        400,
        "invalid-value",
    );
    assert_eq!(
        (&limit["value"], &limit["limit"]),
        (&json!("5000"), &json!(1000))
    );
    let long = rig.get(&format!("/api/topics/{}", "x".repeat(600))).await;
    let long = problem(&long, 400, "invalid-value");
    assert_eq!(
        (&long["field"], &long["limit"]),
        (&json!("topic"), &json!(512))
    );
    for path in ["/api/", "/api/nothing", "/api/topics/a/b"] {
        assert_eq!(field(&rig.get(path).await, 404, "not-found"), "path");
    }
    let method = rig.http("PUT", "/api/topics", "", "").await;
    assert_eq!(field(&method, 405, "method-not-allowed"), "method");
    assert_eq!(method.header("allow"), Some("GET,HEAD"));
    rig.stop().await;
}

#[tokio::test]
async fn srv_655_a_wrong_body_is_a_problem_that_names_it() {
    let rig = Rig::with(&[("api.max_batch", "2"), ("api.max_body_bytes", "1KiB")]).await;
    let three = post(&rig, "/api/counts", &json!({ "topics": ["a", "b", "c"] })).await;
    assert_eq!(problem(&three, 400, "invalid-value")["limit"], 2);
    let other = post(&rig, "/api/counts", &json!({ "topics": [], "x": 1 })).await;
    assert_eq!(field(&other, 400, "unknown-field"), "x");
    let wrong = post(&rig, "/api/counts", &json!({ "topics": [1] })).await;
    assert_eq!(problem(&wrong, 400, "invalid-value")["value"], "1");
    let missing = post(&rig, "/api/counts", &json!({})).await;
    assert_eq!(field(&missing, 400, "invalid-value"), "topics");
    problem(
        &post(&rig, "/api/counts", &json!([])).await,
        400,
        "invalid-json",
    );
    let json = "content-type: application/json\r\n";
    let broken = rig.http("POST", "/api/counts", json, "{").await;
    problem(&broken, 400, "invalid-json");
    let large = rig
        .http("POST", "/api/counts", json, &" ".repeat(2000))
        .await;
    let large = problem(&large, 413, "too-large");
    assert_eq!(
        (&large["field"], &large["limit"]),
        (&json!("body"), &json!(1024))
    );
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let form = rig.http("POST", "/api/counts", form, "{}").await;
    assert_eq!(field(&form, 415, "unsupported-type"), "content-type");
    rig.stop().await;
}

fn load(environment: &[(&str, &str)]) -> Result<ServerConfig, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let sources = Sources {
        environment: environment.iter().map(owned).collect(),
        ..Sources::default()
    };
    ServerConfig::load(&sources).map_err(|errors| errors.to_string())
}

#[test]
fn srv_1722_two_keys_with_one_secret_are_refused_by_their_names() {
    let path = std::env::temp_dir().join(format!("herenow-one-secret-{}", std::process::id()));
    std::fs::write(&path, "late:admin:secret-secret-secret\n").unwrap();
    let keys = "one:read:secret-secret-secret,two:write:secret-secret-second";
    let twice = [
        ("HERENOW_API_KEYS", keys),
        ("HERENOW_API_KEYS_FILE", path.to_str().unwrap()),
    ];
    let error = load(&twice).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let names = "api.keys is a list in which one and late have one secret";
    assert!(error.contains(names), "{error}");
    assert!(
        !error.contains("two") && !error.contains("secret-"),
        "{error}"
    );
    assert!(load(&twice[..1]).is_ok());
}

#[test]
fn srv_657_keys_come_from_the_environment_and_a_file_and_are_never_shown() {
    let path = std::env::temp_dir().join(format!("herenow-api-keys-{}", std::process::id()));
    let file = path.to_str().unwrap();
    std::fs::write(&path, "# ours\n\n  two:admin:secret-secret-second  \n").unwrap();
    let keys = ("HERENOW_API_KEYS", "one:read:secret-secret-secret");
    let config = load(&[keys, ("HERENOW_API_KEYS_FILE", file)]).unwrap();
    let shown = format!("{:?}", config.api.keys);
    assert_eq!(shown, "[ApiKey(one may read), ApiKey(two may admin)]");

    std::fs::write(
        &path,
        "\none:admin:secret-secret-second\nshort:read:secret\n",
    )
    .unwrap();
    let error = load(&[keys, ("HERENOW_API_KEYS_FILE", file)]).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    for part in ["line 3", "two keys called one"] {
        assert!(error.contains(part), "{error}");
    }
    let missing = load(&[("HERENOW_API_KEYS_FILE", file)]).unwrap_err();
    assert!(missing.contains("cannot read api.keys_file"), "{missing}");
    for wrong in [
        "one:read:secret",
        "one:all:secret-secret-secret",
        ":read:secret-secret-secret",
    ] {
        let wrong = load(&[("HERENOW_API_KEYS", wrong)]).unwrap_err();
        assert!(
            wrong.contains("wrong in entry 1") && !wrong.contains("secret-"),
            "{wrong}"
        );
    }
    assert!(!error.contains("secret-"), "{error}");
    let leases = [
        ("HERENOW_API_MIN_LEASE", "2h"),
        ("HERENOW_API_MAX_LEASE", "1h"),
    ];
    let leases = load(&leases).unwrap_err();
    assert!(
        leases.contains("api.min_lease is 2h, but api.max_lease is 1h"),
        "{leases}"
    );
}
