//! The dashboard: its page, who may look and act, and what its channels tell.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use herenow_pubsub::conformance::reserve_port;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use self::rig::{Client, Frame, Rig};

const KEYS: &str =
    "ask:read:rrrrrrrrrrrrrrrr,shop:write:wwwwwwwwwwwwwwww,ops:admin:aaaaaaaaaaaaaaaa";
const SOCKET: &str = "/dashboard/socket/websocket?vsn=2.0.0";
const OVERVIEW: &str = "overview";

/// Opens the dashboard's socket with a key, as the page does: in the sub-protocol.
async fn open(rig: &Rig, secret: &str) -> Result<Client, String> {
    let encoded = STANDARD_NO_PAD.encode(secret);
    let protocols = format!("phoenix, base64url.bearer.phx.{encoded}");
    let opened = rig
        .open(SOCKET, &[("sec-websocket-protocol", &protocols)])
        .await;
    opened.map_err(|error| error.to_string())
}

/// Opens it in dev mode, and a channel.
async fn look(rig: &Rig, topic: &str) -> Client {
    let mut client = rig.open(SOCKET, &[]).await.unwrap();
    let (status, response) = client.join(topic, json!({})).await;
    assert_eq!(status, "ok", "{response}");
    client
}

async fn join(rig: &Rig, topic: &str, key: &str, device: &str) -> Client {
    let user = json!({ "user_id": key, "meta": { "device": device } });
    let mut client = rig.connect("").await.joined(topic, user).await;
    client.event("presence_state").await;
    client
}

/// Waits for figures that fit.
async fn figures(client: &mut Client, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let figures = client.event("figures").await;
        if fits(&figures) {
            return figures;
        }
    }
}

#[tokio::test]
async fn srv_783_the_page_is_at_the_root_and_may_load_its_own_files_only() {
    let rig = Rig::start().await;
    let page = rig.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    for file in ["dashboard.js", "dashboard.css", "icon.svg", "phoenix.mjs"] {
        let path = format!("/dashboard/{file}");
        assert!(page.body.contains(&path) || file == "phoenix.mjs", "{file}");
        let answer = rig.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-security-policy"), Some(policy));
    }
    for path in [
        "/dashboard/nothing.js",
        "/dashboard/%2e%2e%2fdemo%2findex.html",
    ] {
        assert_eq!(rig.get(path).await.status, 404, "{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_784_the_dashboard_is_where_the_api_is() {
    let address = SocketAddr::from(([127, 0, 0, 1], reserve_port()));
    let mut rig = Rig::with(&[("api.listen", &address.to_string())]).await;
    let root = rig.get("/").await;
    assert_eq!((root.status, root.header("location")), (307, Some("/demo")));
    assert_eq!(rig.get("/dashboard/access").await.status, 404);
    assert!(rig.open(SOCKET, &[]).await.is_err());
    let main = std::mem::replace(&mut rig.address, address);
    assert_eq!(rig.get("/").await.status, 200);
    look(&rig, OVERVIEW).await;
    rig.address = main;
    rig.stop().await;
}

#[tokio::test]
async fn srv_785_who_may_look_is_decided_by_the_key_in_the_handshake() {
    let rig = Rig::with(&[("api.keys", KEYS)]).await;
    let access = async |headers: &str| rig.http("GET", "/dashboard/access", headers, "").await;
    let nobody = access("").await;
    assert_eq!(nobody.status, 401);
    let wrong = access("x-api-key: xxxxxxxxxxxxxxxx\r\n").await;
    assert_eq!(wrong.status, 401);
    assert!(!wrong.body.contains("xxxxxxxxxxxxxxxx"), "{}", wrong.body);
    for (secret, key, right) in [
        ("rrrrrrrrrrrrrrrr", "ask", "read"),
        ("wwwwwwwwwwwwwwww", "shop", "write"),
        ("aaaaaaaaaaaaaaaa", "ops", "admin"),
    ] {
        let answer = access(&format!("x-api-key: {secret}\r\n")).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let shown = answer.json();
        assert_eq!(
            (&shown["key"], &shown["right"]),
            (&json!(key), &json!(right))
        );
        let mut client = open(&rig, secret).await.unwrap();
        let (status, joined) = client.join(OVERVIEW, json!({})).await;
        assert_eq!(status, "ok");
        assert_eq!(joined["right"], right);
    }
    for refused in [open(&rig, "xxxxxxxxxxxxxxxx").await, open(&rig, "é").await] {
        assert!(refused.unwrap_err().contains("401"));
    }
    let without = rig.open(SOCKET, &[]).await.unwrap_err().to_string();
    assert!(without.contains("401"), "{without}");
    let in_the_url = format!("{SOCKET}&token=rrrrrrrrrrrrrrrr&x-api-key=rrrrrrrrrrrrrrrr");
    assert!(rig.open(&in_the_url, &[]).await.is_err(), "never in a URL");
    rig.stop().await;

    let rig = Rig::with(&[("jwt.secret", "0123456789abcdef0123456789abcdef")]).await;
    let closed = rig.get("/dashboard/access").await;
    assert_eq!(closed.status, 403);
    assert!(
        closed.json()["type"]
            .as_str()
            .unwrap()
            .ends_with("#api-closed")
    );
    let closed = open(&rig, "rrrrrrrrrrrrrrrr").await.unwrap_err();
    assert!(closed.contains("403"), "{closed}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_786_without_keys_it_is_open_to_this_machine_and_to_no_page_of_another() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/dashboard/access").await.json()["right"], "admin");
    for header in ["origin: http://evil.example\r\n", "origin: null\r\n"] {
        let refused = rig.http("GET", "/dashboard/access", header, "").await;
        assert_eq!(refused.status, 403, "{header}");
    }
    let rebound =
        "GET /dashboard/access HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(rig.raw(rebound).await.status, 403);
    let stranger = rig.open(SOCKET, &[("origin", "http://evil.example")]).await;
    assert!(stranger.unwrap_err().to_string().contains("403"));
    let port = rig.address.port();
    let own = format!("http://127.0.0.1:{port}");
    rig.open(SOCKET, &[("origin", &own)]).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn srv_787_the_overview_tells_how_the_node_does_and_the_largest_topics() {
    let rig = Rig::start().await;
    let mut operator = look(&rig, OVERVIEW).await;
    let mut here = Vec::new();
    for (topic, key) in [
        ("room:b", "ada"),
        ("room:b", "bob"),
        ("room:a", "ada"),
        ("room:c", "ada"),
    ] {
        here.push(join(&rig, topic, key, "x").await);
    }
    let told = figures(&mut operator, |told| {
        let node = &told["nodes"][0];
        told["n_presences"] == 4 && node["figures"]["n_sockets"] == 4 && node["rates"].is_object()
    })
    .await;
    assert_eq!(
        told["topics"],
        json!([["room:b", 2], ["room:a", 1], ["room:c", 1]])
    );
    assert_eq!(told["n_topics"], 3);
    assert_eq!(told["cluster"], Value::Null);
    let node = &told["nodes"][0];
    assert_eq!(
        (&node["node"], &node["self"], &node["state"]),
        (&json!("local"), &json!(true), &json!("ready"))
    );
    assert_eq!(node["figures"]["n_presences"], 4);
    assert_eq!(
        node["figures"]["n_channels"], 4,
        "those of operators are not counted"
    );
    assert!(told["joins"].is_number() && told["leaves"].is_number());
    here[0].ok("room:b", "echo", json!({})).await;
    drop(here);
    figures(&mut operator, |told| {
        told["n_presences"] == 0 && told["topics"] == json!([])
    })
    .await;
    // Whoever opens a second one sees at once what the first sees.
    let mut second = look(&rig, OVERVIEW).await;
    assert_eq!(second.event("figures").await["n_presences"], 0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_788_a_topic_tells_who_is_here_and_what_happens() {
    let rig = Rig::start().await;
    let mut ada = join(&rig, "room:1", "ada", "phone").await;
    let mut operator = look(&rig, "topic:room:1").await;
    let state = operator.event("state").await;
    assert_eq!(
        (&state["n_keys"], &state["n_presences"]),
        (&json!(1), &json!(1))
    );
    let person = &state["people"][0];
    assert_eq!(
        (&person["key"], &person["n_devices"]),
        (&json!("ada"), &json!(1))
    );
    let device = &person["devices"][0];
    assert_eq!(
        (&device["node"], &device["meta"]["device"]),
        (&json!("local"), &json!("phone"))
    );
    assert!(device["meta"]["online_at"].is_string(), "{device}");

    let second = join(&rig, "room:1", "ada", "tv").await;
    let joined = operator.event("changes").await;
    assert_eq!(
        (&joined["n_keys"], &joined["n_presences"]),
        (&json!(1), &json!(2))
    );
    let change = &joined["changes"][0];
    assert_eq!(
        (&change["what"], &change["whole"]),
        (&json!("joined"), &json!(false))
    );
    ada.ok(
        "room:1",
        "presence:update",
        json!({ "patch": { "status": "away" } }),
    )
    .await;
    let updated = &operator.event("changes").await["changes"][0];
    assert_eq!(updated["what"], "updated");
    assert_eq!(updated["replaces"], device["ref"]);
    assert_eq!(updated["device"]["meta"]["status"], "away");
    drop(second);
    let left = &operator.event("changes").await["changes"][0];
    assert_eq!(
        (&left["what"], &left["whole"], &left["reason"]),
        (&json!("left"), &json!(false), &json!("closed"))
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_789_a_large_topic_comes_in_pages_and_a_large_meta_by_its_size() {
    let rig = Rig::start().await;
    let mut everybody = Vec::new();
    let mut client = rig.connect("").await;
    for n in 0..150 {
        let put = json!({ "meta": { "n": n }, "lease_seconds": 60 });
        let path = format!("/api/topics/room:big/presences/user{n:03}");
        let json = "content-type: application/json\r\n";
        everybody.push(rig.http("PUT", &path, json, &put.to_string()).await.status);
    }
    assert_eq!(everybody, [201; 150]);
    let large = json!({ "user_id": "zoe", "meta": { "text": "x".repeat(3_000) } });
    client.join("room:big", large).await;
    let mut operator = look(&rig, "topic:room:big").await;
    let state = operator.event("state").await;
    let keys = |page: &Value| -> Vec<String> {
        let people = page["people"].as_array().unwrap().iter();
        people
            .map(|one| one["key"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!((keys(&state).len(), &state["n_keys"]), (100, &json!(151)));
    assert_eq!(state["next"], "user099");
    let after = json!({ "after": state["next"] });
    let rest = operator.ok("topic:room:big", "more", after).await;
    assert_eq!((keys(&rest).len(), &rest["next"]), (51, &Value::Null));
    let zoe = &rest["people"][50]["devices"][0];
    assert_eq!(zoe["meta"], Value::Null);
    assert!(zoe["meta_bytes"].as_u64().unwrap() > 3_000);
    let wrong = operator.refused("topic:room:big", "more", json!({})).await;
    assert!(wrong.contains("after"), "{wrong}");
    operator.refused("topic:room:big", "evict", json!({})).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_790_a_user_is_followed_over_all_topics() {
    let rig = Rig::with(&[("presence.max_key_bytes", "40")]).await;
    let mut operator = look(&rig, "user:ada").await;
    let nowhere = operator.event("places").await;
    assert_eq!(nowhere, json!({ "places": [], "has_more": false }));
    let first = join(&rig, "room:1", "ada", "phone").await;
    let one = operator.event("places").await;
    assert_eq!(one["places"][0]["topic"], "room:1");
    assert_eq!(one["places"][0]["devices"][0]["meta"]["device"], "phone");
    let _second = join(&rig, "room:2", "ada", "tv").await;
    let both = operator.event("places").await;
    assert_eq!(both["places"][1]["topic"], "room:2");
    drop(first);
    let left = operator.event("places").await;
    assert_eq!(left["places"].as_array().unwrap().len(), 1);
    assert_eq!(left["places"][0]["topic"], "room:2");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1694_a_name_that_is_too_long_is_refused_by_its_own_limit_and_length() {
    let rig = Rig::with(&[("presence.max_key_bytes", "40")]).await;
    let mut operator = rig.open(SOCKET, &[]).await.unwrap();
    for (channel, len, reason) in [
        (
            "user:",
            41,
            "key is 41 bytes, the limit is 40 (presence.max_key_bytes)",
        ),
        (
            "user:",
            1_500,
            "key is 1500 bytes, the limit is 40 (presence.max_key_bytes)",
        ),
        (
            "topic:",
            1_500,
            "topic is 1500 bytes, the limit is 512 (presence.max_topic_bytes)",
        ),
    ] {
        let name = format!("{channel}{}", "q".repeat(len));
        // With a short ref, as the stock client has it: one of the topic's length is refused
        // itself.
        let join = json!(["1", "1", name, "phx_join", {}]);
        operator.send(Message::text(join.to_string())).await;
        let Frame::Text(reply) = operator.frame().await else {
            panic!("no reply");
        };
        assert_eq!(reply[4]["status"], "error");
        assert_eq!(reply[4]["response"]["reason"], reason);
    }
    let metrics = rig.get("/metrics").await.body;
    for (limit, n) in [
        ("presence.max_key_bytes", 2),
        ("presence.max_topic_bytes", 1),
    ] {
        let line = format!("herenow_limit_refusals_total{{limit=\"{limit}\"}} {n}\n");
        assert!(metrics.contains(&line), "{line}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1691_a_page_may_ask_again_for_one_person_of_many_devices() {
    let rig = Rig::start().await;
    let mut here = Vec::new();
    for n in 0..18 {
        here.push(join(&rig, "room:1", "ada", &n.to_string()).await);
    }
    let mut operator = look(&rig, "topic:room:1").await;
    let person = operator.event("state").await["people"][0].clone();
    let asked = json!({ "key": "ada" });
    let now = operator.ok("topic:room:1", "person", asked).await;
    assert_eq!(now["person"], person);
    assert_eq!(person["devices"].as_array().unwrap().len(), 16);
    assert_eq!(person["n_devices"], 18);
    let nobody = json!({ "key": "grace" });
    let nobody = operator.ok("topic:room:1", "person", nobody).await;
    assert_eq!(nobody["person"], Value::Null);
    let wrong = operator.refused("topic:room:1", "person", json!({})).await;
    assert!(wrong.contains("key"), "{wrong}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_791_a_search_finds_topics_by_their_beginning_and_a_user_by_its_key() {
    let rig = Rig::start().await;
    let mut operator = look(&rig, OVERVIEW).await;
    let _here = [
        join(&rig, "room:1", "ada", "x").await,
        join(&rig, "room:12", "ada", "x").await,
        join(&rig, "room:2", "room:1", "x").await,
    ];
    let mut search = async |text: &str| {
        operator
            .ok(OVERVIEW, "search", json!({ "text": text }))
            .await
    };
    let both = search("room:1").await;
    assert_eq!(both["topics"], json!([["room:1", 1], ["room:12", 1]]));
    assert_eq!(both["user"], json!({ "key": "room:1", "n_topics": 1 }));
    let user = search("ada").await;
    assert_eq!(
        (&user["topics"], &user["user"]["n_topics"]),
        (&json!([]), &json!(2))
    );
    assert_eq!(search("ad").await["user"], Value::Null);
    rig.stop().await;
}

#[tokio::test]
async fn srv_792_evicting_needs_the_right_to_write() {
    let rig = Rig::with(&[("api.keys", KEYS), ("dev", "true")]).await;
    let mut ada = join(&rig, "room:1", "ada", "x").await;
    let mut other = join(&rig, "room:2", "ada", "x").await;
    let mut looker = open(&rig, "rrrrrrrrrrrrrrrr").await.unwrap();
    looker.join(OVERVIEW, json!({})).await;
    let from_one = json!({ "key": "ada", "topic": "room:1" });
    let refused = looker.refused(OVERVIEW, "evict", from_one.clone()).await;
    assert_eq!(refused, "the key ask may read, this needs write");

    let mut operator = open(&rig, "wwwwwwwwwwwwwwww").await.unwrap();
    operator.join(OVERVIEW, json!({})).await;
    let done = operator.ok(OVERVIEW, "evict", from_one).await;
    assert_eq!(done["n_topics"], 1);
    ada.event("phx_close").await;
    other.ok("room:2", "echo", json!({})).await;
    let done = operator
        .ok(OVERVIEW, "evict", json!({ "key": "ada" }))
        .await;
    assert_eq!(done["n_topics"], 1);
    other.event("phx_close").await;
    let wrong = operator
        .refused(OVERVIEW, "evict", json!({ "key": "" }))
        .await;
    assert!(wrong.contains("key"), "{wrong}");
    let wrong = operator
        .refused(OVERVIEW, "evict", json!({ "topic": "room:1" }))
        .await;
    assert!(wrong.contains("key"), "{wrong}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_793_clients_and_backends_do_not_reach_the_channels_of_the_dashboard() {
    let rig = Rig::start().await;
    let mut operator = look(&rig, "topic:room:1").await;
    operator.event("state").await;
    let mut client = rig.connect("&user_id=ada").await;
    for topic in [OVERVIEW, "topic:room:1", "user:ada"] {
        let (status, refused) = client.join(topic, json!({})).await;
        assert_eq!(
            (&*status, &refused["reason"]),
            ("error", &json!("unmatched topic"))
        );
    }
    let said = json!({ "event": "state", "payload": { "people": [] } });
    let json = "content-type: application/json\r\n";
    let path = "/api/topics/topic:room:1/broadcast";
    let sent = rig.http("POST", path, json, &said.to_string()).await;
    assert_eq!(sent.status, 202);
    // What is sent to the topic itself does come.
    let _ada = join(&rig, "room:1", "ada", "x").await;
    assert_eq!(operator.event("changes").await["n_keys"], 1);
    let (status, _) = operator.join("room:1", json!({})).await;
    assert_eq!(status, "error", "and operators are no clients");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1299_a_page_behind_a_trusted_proxy_may_open_the_socket() {
    let rig = Rig::with(&[("api.keys", KEYS), ("http.trusted_proxies", "127.0.0.1")]).await;
    let encoded = STANDARD_NO_PAD.encode("rrrrrrrrrrrrrrrr");
    let protocols = format!("phoenix, base64url.bearer.phx.{encoded}");
    let forwarded = |origin| {
        [
            ("sec-websocket-protocol", protocols.as_str()),
            ("origin", origin),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "presence.example:8443"),
            ("x-forwarded-proto", "https"),
        ]
    };
    let own = forwarded("https://presence.example:8443");
    let mut operator = rig.open(SOCKET, &own).await.unwrap();
    assert_eq!(operator.join(OVERVIEW, json!({})).await.0, "ok");
    let strange = forwarded("https://evil.example:8443");
    let refused = rig.open(SOCKET, &strange).await;
    assert!(refused.unwrap_err().to_string().contains("403"));
    rig.stop().await;
    let rig = Rig::with(&[("api.keys", KEYS)]).await;
    let refused = rig.open(SOCKET, &own).await;
    assert!(
        refused.unwrap_err().to_string().contains("403"),
        "nobody is trusted"
    );
    rig.stop().await;
}
