//! What clients ask of a server: to connect, to poll, to join; and what an operator tells it.

use std::num::NonZero;
use std::path::Path;

use axum::Router;
use axum::body::{Body, to_bytes};
use herenow_channels::testing::TestClient;
use herenow_channels::{CheckOrigin, ConnectInfo, Connected, Sockets};
use herenow_presence::Presence;
use herenow_protocol::{Payload, ServerMessage};
use herenow_pubsub::PubSub;
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::identity::Authority;
use herenow_server::run;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tower_service::Service;

use crate::reader::Reader;
use crate::targets::cluster::on_paused_clock;

/// The deepest that parameters nest: as many brackets as a name may have, and the map around them.
const MAX_PARAM_DEPTH: usize = 18;
const MAX_TOKEN_BYTES: usize = 8 << 10;
const MAX_ANSWER_BYTES: usize = 1 << 20;
const ROOM: &str = "room:1";

/// A request to connect is let in or refused, and what is let in keeps its limits.
pub(super) fn connect(input: &[u8]) {
    let mut reader = Reader(input);
    let [query, protocols, origin, host, entry] = [(); 5].map(|()| reader.line());
    let Ok(query) = std::str::from_utf8(query) else {
        return;
    };
    let check_origin = match CheckOrigin::list([String::from_utf8_lossy(entry)]) {
        Ok(list) => list,
        Err(error) => {
            let _words = error.to_string();
            CheckOrigin::same_host()
        }
    };
    let request = Request::get(format!("/websocket?{query}"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocols)
        .header("origin", origin)
        .header("host", host)
        .body(Body::empty());
    let Ok(request) = request else {
        return; // hyper would not have let it through either.
    };
    on_paused_clock(async {
        let sockets = Sockets::new(&PubSub::local())
            .check_origin(check_origin)
            .connect(async |info: ConnectInfo| {
                assert_params(&info);
                Ok(Connected::anonymous())
            });
        let response = ask(&mut sockets.into_router(), request).await;
        // Without a connection below there is nothing to upgrade, so nobody gets further than 4xx.
        assert!(!response.status().is_success(), "{response:?}");
        assert_ne!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    });
}

fn assert_params(info: &ConnectInfo) {
    let depth = info
        .params()
        .values()
        .map(depth_of)
        .max()
        .unwrap_or_default();
    assert!(
        depth <= MAX_PARAM_DEPTH,
        "parameters nest {depth} levels deep"
    );
    assert!(
        info.auth_token()
            .is_none_or(|token| token.len() <= MAX_TOKEN_BYTES)
    );
    let shown = format!("{info:?}");
    assert!(
        info.auth_token()
            .is_none_or(|token| token.len() < 8 || !shown.contains(token))
    );
}

fn depth_of(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth_of).max(),
        Value::Object(fields) => fields.values().map(depth_of).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    1 + inner.unwrap_or_default()
}

async fn ask(router: &mut Router, request: Request<Body>) -> Response<Body> {
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A body is answered whatever it is, and its session goes on or ends: the server does not mind.
pub(super) fn post(input: &[u8]) {
    let mut reader = Reader(input);
    let types = ["application/json", "application/x-ndjson", "text/plain"];
    let content_type = types[usize::from(reader.byte()) % types.len()];
    on_paused_clock(async {
        let (sockets, presence) = start();
        let mut router: Router = sockets.into_router();
        let new = Request::get("/longpoll?vsn=2.0.0").body(Body::empty());
        let answer = ask(&mut router, new.expect("a good request")).await;
        let answer = json_of(answer).await;
        let token = answer["token"].as_str().expect("a new session has a token");
        let post = Request::post("/longpoll?vsn=2.0.0")
            .header("x-phoenix-longpoll-token", token)
            .header("content-type", content_type)
            .body(Body::from(reader.0.to_vec()));
        let _answer = ask(&mut router, post.expect("a good request")).await;
        let poll = Request::get("/longpoll?vsn=2.0.0")
            .header("x-phoenix-longpoll-token", token)
            .body(Body::empty());
        let answer = json_of(ask(&mut router, poll.expect("a good request")).await).await;
        assert!(answer["status"].is_u64(), "{answer}");
        assert_serves(&mut router).await;
        presence.shutdown().await;
    });
}

async fn assert_serves(router: &mut Router) {
    let new = Request::get("/longpoll?vsn=2.0.0").body(Body::empty());
    let answer = json_of(ask(router, new.expect("a good request")).await).await;
    assert_eq!(answer["status"], 410, "nobody gets a session any more");
}

async fn json_of(response: Response<Body>) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    let body = to_bytes(response.into_body(), MAX_ANSWER_BYTES).await;
    serde_json::from_slice(&body.expect("answers are short")).expect("answers are JSON")
}

/// Whatever a client asks of the built-in channel, it is answered, and nobody else's presence
/// changes.
pub(super) fn channel(input: &[u8]) {
    on_paused_clock(async {
        let (sockets, presence) = start();
        let mut witness = open(&sockets).await;
        let join = json!({ "user_id": "witness", "meta": { "w": 1 } });
        witness
            .join(ROOM, join)
            .await
            .expect("the witness is let in");
        let refs = refs_of(&presence, "witness").await;

        let mut client = open(&sockets).await;
        let mut reader = Reader(input);
        let join = serde_json::from_slice(reader.line()).unwrap_or(json!({}));
        let _joined = client.join(ROOM, join).await;
        while !reader.is_at_end() {
            let line = String::from_utf8_lossy(reader.line()).into_owned();
            let (event, payload) = line.split_once(' ').unwrap_or((&line, "{}"));
            client
                .push_payload(ROOM, event, Payload::Json(payload.to_owned().into()))
                .await;
        }
        finish(&mut client).await;
        // A client that is believed may be the witness once more, beside what there is.
        let refs_now = refs_of(&presence, "witness").await;
        assert!(
            refs.iter().all(|meta_ref| refs_now.contains(meta_ref)),
            "the witness was touched: {refs:?}, {refs_now:?}"
        );
        let (status, _) = witness.call(ROOM, "echo", json!({})).await;
        assert_eq!(status, "ok", "the witness is served no more");
        drop(client);
        presence.shutdown().await;
    });
}

/// Opens a connection of somebody whom the server believes.
async fn open(sockets: &Sockets) -> TestClient {
    let connected = TestClient::connect(sockets, "").await;
    connected.expect("dev mode lets everybody in")
}

/// Reads until all that was asked is answered, or the connection is closed.
async fn finish(client: &mut TestClient) {
    // Not on the room, which it may have left.
    let last = client.push("phoenix", "heartbeat", json!({})).await;
    loop {
        match client.next().await {
            Some(ServerMessage::Reply { message_ref, .. })
                if message_ref.as_ref() == Some(&last) =>
            {
                return;
            }
            Some(_) => {}
            None => {
                client.closed().await; // Panics if it was not closed: then it is stuck.
                return;
            }
        }
    }
}

/// The refs of a user's presences; metas are objects within the topic's limit.
async fn refs_of(presence: &Presence, user: &str) -> Vec<String> {
    let here = json!(presence.list(ROOM).await);
    for entry in here.as_object().expect("a list is an object").values() {
        for meta in entry["metas"].as_array().expect("metas are a list") {
            assert!(
                meta.is_object() && meta.to_string().len() < 8 << 10,
                "{meta}"
            );
        }
    }
    let metas = here[user]["metas"].as_array();
    let refs = metas.into_iter().flatten();
    refs.map(|meta| meta["phx_ref"].to_string()).collect()
}

/// The server's sockets as its configuration makes them, and who is here.
fn start() -> (Sockets, Presence) {
    let mut config = ServerConfig::default();
    config.presence.n_shards = NonZero::new(1).expect("one is not zero");
    let pubsub = PubSub::local();
    let presence = Presence::builder(&pubsub)
        .config(config.presence.clone())
        .start();
    let presence = presence.expect("the defaults fit together");
    let sockets = run::sockets(&config, &pubsub, &presence, Authority::dev());
    let sockets = sockets.expect("the defaults are good");
    (sockets, presence)
}

/// A file is a configuration or a list of what is wrong with it; so are variables and flags.
pub(super) fn configuration(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Err(errors) = ServerConfig::parse(&text, Path::new("fuzzed.toml")) {
        let _words = errors.to_string();
    }
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    let flags: Vec<_> = pairs.collect();
    let named = |key: &str| format!("HERENOW_{}", key.replace('.', "_").to_uppercase());
    let variables = flags.iter().map(|(key, value)| (named(key), value.clone()));
    let sources = Sources {
        file: None,
        // Not a file: that would be the machine's, and not the input's.
        environment: variables
            .filter(|(name, _)| name != "HERENOW_CONFIG")
            .collect(),
        flags,
    };
    match ServerConfig::load(&sources) {
        Ok(config) => drop(format!("{config:?}")),
        Err(errors) => drop(errors.to_string()),
    }
}

pub(super) fn seeds_of_connect() -> Vec<Vec<u8>> {
    let lines = |lines: [&str; 5]| lines.join("\n").into_bytes();
    vec![
        lines([
            "vsn=2.0.0&user[name]=ada&tags[]=a&tags[]=b%20c",
            "phoenix, base64url.bearer.phx.YT8-Yn4",
            "https://example.com:443",
            "example.com",
            "https://*.example.com",
        ]),
        lines([
            "vsn=1.0.0",
            "",
            "http://[::1]:4000",
            "[::1]:4000",
            "//localhost:4000",
        ]),
        lines(["a[b][c][][d]=1&a=%ff", "phoenix", "null", "", "*"]),
    ]
}

pub(super) fn seeds_of_post() -> Vec<Vec<u8>> {
    let join = r#"["1","1","room:1","phx_join",{"user_id":"ada","meta":{"a":1}}]"#;
    let update = r#"["1","2","room:1","presence:update",{"patch":{"a":null}}]"#;
    vec![
        format!("\0{join}").into_bytes(),
        format!("\x01{join}\n{update}\nAAEBAQEwMXRlAQ==\n").into_bytes(),
        b"\x02[]".to_vec(),
    ]
}

pub(super) fn seeds_of_channel() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"user_id":"ada","meta":{"a":1,"phx_ref":"x"}}"#,
        r#"presence:update {"patch":{"a":null,"b":{"c":[1,2]}}}"#,
        r#"presence:update {"meta":{"status":"away"}}"#,
        "presence:untrack {}",
        r#"presence:track {"meta":{"online_at":"0"}}"#,
        r#"status {"status":"busy"}"#,
        r#"shout {"text":"hello"}"#,
        "echo [1,2,3]",
        "phx_leave {}",
    ];
    vec![
        lines.join("\n").into_bytes(),
        b"{\"user_id\":7}\nphx_join {\"user_id\":\"witness\"}".to_vec(),
        b"{}\npresence:track {}".to_vec(),
    ]
}

pub(super) fn seeds_of_configuration() -> Vec<Vec<u8>> {
    let file = r#"listen = "0.0.0.0:4000"
dev = true
[socket]
idle_timeout = "30s"
max_frame_bytes = "1MiB"
[presence]
n_shards = 8
[cluster]
engine = "nats"
nats_url = "nats://127.0.0.1:4222"
peers = ["tcp/10.0.0.2:7447"]
[[topics]]
pattern = "room:*"
presence = true
"#;
    vec![
        file.as_bytes().to_vec(),
        b"socket.idle_timeout=1h\nlisten=[::1]:1\npresence.max_meta_bytes=1e9".to_vec(),
    ]
}
