//! Who gets a long-poll session, and what `connect` is told.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/http.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod http;
#[path = "support/log.rs"]
mod log;
#[path = "support/longpoll.rs"]
mod longpoll;
#[path = "support/room.rs"]
mod room;

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use herenow_channels::{
    CheckOrigin, ConnectInfo, ConnectRefused, Connected, LongPollConfig, NoNewcomers, Sockets,
};
use herenow_pubsub::PubSub;
use http_status::{FORBIDDEN, TOO_MANY_REQUESTS};
use serde_json::{Value, json};

use self::http::{Http, Response};
use self::log::Log;
use self::longpoll::{LongPollClient, json as body_json};
use self::room::{sockets, start, start_app};

mod http_status {
    pub(crate) use axum::http::StatusCode;
    pub(crate) const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
    pub(crate) const TOO_MANY_REQUESTS: StatusCode = StatusCode::TOO_MANY_REQUESTS;
}

/// What `connect` was told, one after the other.
type Seen = Arc<Mutex<Vec<ConnectInfo>>>;

/// Sockets that remember what `connect` was told.
fn watched() -> (Sockets, Seen) {
    let seen = Seen::default();
    let sockets = sockets(&PubSub::local()).connect({
        let seen = Arc::clone(&seen);
        move |info: ConnectInfo| {
            seen.lock().unwrap().push(info);
            async { Ok(Connected::anonymous()) }
        }
    });
    (sockets, seen)
}

async fn request(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response {
    Http::connect(address)
        .await
        .request("GET", target, headers, b"")
        .await
}

async fn status(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> u64 {
    body_json(&request(address, target, headers).await)["status"]
        .as_u64()
        .unwrap()
}

/// Begins a session with these headers and returns what `connect` was told.
async fn connect_info(target: &str, headers: &[(&str, &str)]) -> ConnectInfo {
    let (sockets, seen) = watched();
    let address = start(sockets).await;
    assert_eq!(status(address, target, headers).await, 410);
    let mut seen = seen.lock().unwrap();
    seen.pop().unwrap()
}

#[tokio::test]
async fn l_03_connect_is_told_the_x_headers() {
    let headers = [("x-application", "Phoenix"), ("accept", "*/*")];
    let info = connect_info("/ws/longpoll?vsn=2.0.0", &headers).await;
    let x_headers: Vec<_> = info
        .x_headers()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    assert_eq!(x_headers.len(), 1);
    assert_eq!(
        (x_headers[0].0, x_headers[0].1.as_bytes()),
        ("x-application", &b"Phoenix"[..])
    );
}

#[tokio::test]
async fn l_04_connect_is_told_the_trace_headers() {
    let headers = [
        ("traceparent", "00-0af7-b7ad-01"),
        ("tracestate", "congo=t61"),
    ];
    let info = connect_info("/ws/longpoll?vsn=2.0.0", &headers).await;
    let names: Vec<_> = info
        .trace_context_headers()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["traceparent", "tracestate"]);
    assert_eq!(info.header("traceparent"), Some("00-0af7-b7ad-01"));
}

#[tokio::test]
async fn l_05_connect_is_told_the_peer() {
    let info = connect_info("/ws/longpoll?vsn=2.0.0", &[]).await;
    let peer = info.peer().unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.1");
    assert_ne!(peer.port(), 0);
}

#[tokio::test]
async fn l_06_connect_is_told_the_uri() {
    let info = connect_info("/ws/longpoll?vsn=2.0.0&a=1", &[("host", "example.com:81")]).await;
    let uri = info.uri();
    assert_eq!(
        (uri.scheme(), uri.host(), uri.port()),
        ("http", "example.com", 81)
    );
    assert_eq!(
        (uri.path(), uri.query()),
        ("/ws/longpoll", Some("vsn=2.0.0&a=1"))
    );
}

#[tokio::test]
async fn l_13_a_refusal_of_connect_is_a_403_whatever_it_says() {
    for refusal in [FORBIDDEN, TOO_MANY_REQUESTS] {
        let refusing = sockets(&PubSub::local())
            .connect(move |_| async move { Err(ConnectRefused::response(refusal)) });
        let address = start(refusing).await;
        for vsn in ["1.0.0", "2.0.0"] {
            let answer = request(address, &format!("/ws/longpoll?vsn={vsn}"), &[]).await;
            assert_eq!(body_json(&answer), json!({ "status": 403 }));
        }
    }
}

#[tokio::test]
async fn l_14_only_allowed_origins_get_a_session() {
    let check = CheckOrigin::list(["//example.com"]).unwrap();
    let address = start(sockets(&PubSub::local()).check_origin(check)).await;
    for vsn in ["1.0.0", "2.0.0"] {
        let target = format!("/ws/longpoll?vsn={vsn}");
        assert_eq!(
            status(address, &target, &[("origin", "https://example.com")]).await,
            410
        );
        assert_eq!(
            status(address, &target, &[("origin", "http://notallowed.com")]).await,
            403
        );
    }
}

#[tokio::test]
async fn l_15_what_clients_send_is_not_logged() {
    let (log, _guard) = Log::start();
    let address = start(sockets(&PubSub::local())).await;
    for (vsn, join) in [
        (
            "1.0.0",
            json!({ "topic": "room:1", "event": "phx_join", "ref": "1",
            "payload": { "foo": "bar", "password": "shouldnotbelogged" } }),
        ),
        (
            "2.0.0",
            json!(["1", "1", "room:2", "phx_join", { "password": "shouldnotbelogged" }]),
        ),
    ] {
        let mut client =
            LongPollClient::open(address, &format!("{vsn}&password=norshouldthis")).await;
        client.join(&join).await;
    }
    let text = log.text();
    assert!(text.contains("listening"), "the log works");
    assert!(
        !text.contains("shouldnotbelogged") && !text.contains("norshouldthis"),
        "{text}"
    );
}

#[tokio::test]
async fn l_19_an_unknown_version_is_refused_and_logged() {
    let (log, _guard) = Log::start();
    let address = start(sockets(&PubSub::local())).await;
    assert_eq!(status(address, "/ws/longpoll?vsn=123.1.1", &[]).await, 403);
    log.contains("123.1.1").await;
    assert_eq!(status(address, "/ws/longpoll?vsn[]=2.0.0", &[]).await, 403);
}

#[tokio::test]
async fn l_21_the_origin_is_checked_on_every_request_of_a_session() {
    let check = CheckOrigin::list(["//example.com"]).unwrap();
    let address = start(sockets(&PubSub::local()).check_origin(check)).await;
    let client = LongPollClient::open(address, "2.0.0").await;
    let token = ("x-phoenix-longpoll-token", client.token.as_str());
    let mut http = Http::connect(address).await;
    for (method, origin, expected) in [
        ("POST", "https://example.com", 200),
        ("POST", "https://other.com", 403),
        ("OPTIONS", "https://other.com", 403),
        ("GET", "https://other.com", 403),
        ("GET", "https://example.com", 200),
    ] {
        let heartbeat = br#"[null,"1","phoenix","heartbeat",{}]"#;
        let headers = [token, ("origin", origin)];
        let answer = http
            .request(method, "/ws/longpoll?vsn=2.0.0", &headers, heartbeat)
            .await;
        assert_eq!(body_json(&answer)["status"], expected, "{method} {origin}");
        if method != "POST" {
            http = Http::connect(address).await;
        }
    }
}

#[tokio::test]
async fn l_22_connect_is_told_the_parameters() {
    let target = "/ws/longpoll?vsn=2.0.0&key=value&user[name]=ada";
    let info = connect_info(target, &[]).await;
    assert_eq!(info.param("key"), Some("value"));
    let expected = json!({ "vsn": "2.0.0", "key": "value", "user": { "name": "ada" } });
    assert_eq!(Value::Object(info.params().clone()), expected);
}

#[tokio::test]
async fn l_23_path_variables_are_parameters_and_win() {
    let (sockets, seen) = watched();
    let app = Router::new().nest("/ws/{user_id}/{_hidden}", sockets.into_router());
    let address = start_app(app).await;
    let target = "/ws/42/x/longpoll?vsn=2.0.0&user_id=7&room=a";
    assert_eq!(status(address, target, &[]).await, 410);
    let info = seen.lock().unwrap().pop().unwrap();
    let expected = json!({ "vsn": "2.0.0", "user_id": "42", "room": "a" });
    assert_eq!(Value::Object(info.params().clone()), expected);
    assert_eq!(info.uri().path(), "/ws/42/x/longpoll");
}

#[tokio::test]
async fn soc_132_a_query_that_is_not_text_is_a_bad_request() {
    let address = start(sockets(&PubSub::local())).await;
    assert_eq!(
        request(address, "/ws/longpoll?vsn=2.0.0&a=%ff", &[])
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn soc_133_sessions_are_bounded() {
    let mut config = LongPollConfig::default();
    config.max_sessions = NonZero::new(2).unwrap();
    let address = start(sockets(&PubSub::local()).long_poll(config)).await;
    for expected in [410, 410, 403] {
        assert_eq!(
            status(address, "/ws/longpoll?vsn=2.0.0", &[]).await,
            expected
        );
    }
}

/// The lines that warn of something.
fn warnings<'a>(text: &'a str, of: &str) -> Vec<&'a str> {
    let is_one = |line: &&str| line.contains(" WARN ") && line.contains(of);
    text.lines().filter(is_one).collect()
}

#[tokio::test]
async fn soc_728_the_topic_of_a_refused_join_cannot_forge_or_fill_the_log() {
    let (log, _guard) = Log::start();
    let address = start(sockets(&PubSub::local())).await;
    let mut client = LongPollClient::open(address, "2.0.0").await;
    let forged = "x\n2026-01-01T00:00:00Z  WARN herenow: forged\u{1b}[31m";
    let long = format!("x{}", "y".repeat(1_000_000));
    for topic in [forged, long.as_str()] {
        let join = json!(["1", "1", topic, "phx_join", {}]);
        assert_eq!(client.post(&join).await, 200);
        let reply = client.poll_messages(1).await;
        assert_eq!(reply[0][4]["status"], "error");
    }
    let text = log.text();
    let refused = warnings(&text, "join refused");
    assert_eq!(refused.len(), 2, "{refused:#?}");
    assert!(refused[0].contains("reason=\"no_channel\""), "{refused:?}");
    assert!(refused[0].contains(r"x\n2026-01-01T00:00:00Z  WARN herenow: forged\u{1b}[31m"));
    assert!(
        refused[1].contains("and 999873 bytes more"),
        "{}",
        refused[1]
    );
    assert!(!text.contains(&"y".repeat(200)));
    for _ in 0..40 {
        let join = json!(["1", "1", "x", "phx_join", {}]);
        assert_eq!(client.post(&join).await, 200);
    }
    client.poll_messages(40).await;
    assert_eq!(warnings(&log.text(), "join refused").len(), 10);
}

#[tokio::test]
async fn soc_729_a_denied_request_cannot_fill_the_log() {
    let (log, _guard) = Log::start();
    let check = CheckOrigin::list(["//example.com"]).unwrap();
    let address = start(sockets(&PubSub::local()).check_origin(check)).await;
    let origin = format!("http://{}", "o".repeat(40_000));
    let version = format!("/ws/longpoll?vsn={}", "1%0A".repeat(2_000));
    assert_eq!(
        status(address, "/ws/longpoll?vsn=2.0.0", &[("origin", &origin)]).await,
        403
    );
    assert_eq!(status(address, &version, &[]).await, 403);
    let text = log.text();
    let denied = warnings(&text, "socket request denied");
    assert_eq!(denied.len(), 2, "{denied:#?}");
    assert!(denied[0].contains("and 39879 bytes more"), "{}", denied[0]);
    assert!(denied[1].contains(r"1\n1\n") && denied[1].contains("and 3872 bytes more"));
    assert!(denied.iter().all(|line| line.len() < 600));
    for _ in 0..20 {
        assert_eq!(status(address, "/ws/longpoll?vsn=9.0.0", &[]).await, 403);
    }
    assert_eq!(warnings(&log.text(), "socket request denied").len(), 10);
}

#[tokio::test]
async fn soc_732_when_nobody_new_is_let_in_a_session_that_lives_goes_on() {
    let is_shut = Arc::new(AtomicBool::new(false));
    let shut = Arc::clone(&is_shut);
    let sockets = sockets(&PubSub::local()).long_poll(LongPollConfig::default());
    let tell = move |mut request: Request, next: Next| {
        if shut.load(Ordering::SeqCst) {
            request.extensions_mut().insert(NoNewcomers("not now\n"));
        }
        next.run(request)
    };
    let app = Router::new().nest("/ws", sockets.into_router().layer(from_fn(tell)));
    let address = start_app(app).await;
    let mut client = LongPollClient::open(address, "2.0.0").await;
    let gone = LongPollClient::open(start(self::sockets(&PubSub::local())).await, "2.0.0").await;
    is_shut.store(true, Ordering::SeqCst);
    let join = json!(["1", "1", "room:lobby", "phx_join", {}]);
    assert_eq!(client.join(&join).await.len(), 3);
    let target = "/ws/longpoll?vsn=2.0.0";
    for headers in [
        &[][..],
        &[("x-phoenix-longpoll-token", gone.token.as_str())],
    ] {
        let answer = request(address, target, headers).await;
        assert_eq!((answer.status, &answer.body[..]), (503, &b"not now\n"[..]));
        assert!(answer.header("retry-after").is_some());
    }
    let websocket = request(address, "/ws/websocket?vsn=2.0.0", &[]).await;
    assert_eq!(websocket.status, 503);
    is_shut.store(false, Ordering::SeqCst);
    assert_eq!(status(address, target, &[]).await, 410);
}

#[tokio::test]
async fn soc_733_who_comes_is_asked_about_once_before_anything_else() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (sockets, seen) = watched();
    let counted = Arc::clone(&asked);
    let sockets = sockets.admit(move |client, extensions| {
        assert!(client.is_some());
        extensions.insert(counted.fetch_add(1, Ordering::SeqCst));
        Ok(())
    });
    let address = start(sockets).await;
    let (poll, upgrade) = ("/ws/longpoll", "/ws/websocket");
    let origin = [("origin", "http://elsewhere.example")];
    for (n, (path, query, headers)) in [
        (poll, "vsn=9.0.0", &[][..]),
        (poll, "vsn=2.0.0", &origin),
        (poll, "vsn=%ff", &[]),
        (upgrade, "vsn=9.0.0", &[]),
        (upgrade, "vsn=2.0.0", &origin),
        (upgrade, "vsn=%ff", &[]),
        (
            upgrade,
            "vsn=2.0.0",
            &[("sec-websocket-protocol", "base64url.bearer.phx.*")],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(asked.load(Ordering::SeqCst), n);
        let answer = request(address, &format!("{path}?{query}"), headers).await;
        assert_ne!(answer.status, 101, "{path} {query}");
    }
    let mut client = LongPollClient::open(address, "2.0.0").await;
    assert_eq!(asked.load(Ordering::SeqCst), 8);
    let join = json!(["1", "1", "room:lobby", "phx_join", {}]);
    assert_eq!(client.join(&join).await.len(), 3);
    assert_eq!(asked.load(Ordering::SeqCst), 8, "a poll is no handshake");
    let info = seen.lock().unwrap().pop().unwrap();
    assert_eq!(info.extension::<usize>(), Some(&7));
}

#[tokio::test]
async fn soc_734_who_is_not_let_in_is_told_why_over_both_transports() {
    let (sockets, seen) = watched();
    let sockets = sockets.admit(|_, _| {
        let wait = Duration::from_secs(3);
        Err(ConnectRefused::too_many("too many", wait))
    });
    let metrics = sockets.metrics().clone();
    let address = start(sockets).await;
    for (path, body) in [
        ("/ws/websocket?vsn=9.0.0", r#"{"reason":"too many"}"#),
        (
            "/ws/longpoll?vsn=9.0.0",
            r#"{"status":403,"reason":"too many"}"#,
        ),
        (
            "/ws/longpoll?vsn=%ff",
            r#"{"status":403,"reason":"too many"}"#,
        ),
    ] {
        let answer = request(address, path, &[]).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (429, Some("3"))
        );
        assert_eq!(String::from_utf8(answer.body).unwrap(), body);
    }
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(metrics.refused_connects.value(), 3);
}

#[tokio::test]
async fn soc_735_the_token_of_a_session_that_is_gone_is_none_of_a_clients_own() {
    let (sockets, seen) = watched();
    let address = start(sockets).await;
    let gone = LongPollClient::open(start(self::sockets(&PubSub::local())).await, "2.0.0").await;
    let target = format!("/ws/longpoll?vsn=2.0.0&token={}", gone.token);
    let answer = request(address, &target, &[]).await;
    assert_eq!(body_json(&answer), json!({ "status": 410 }));
    assert!(seen.lock().unwrap().is_empty(), "nobody is asked about it");
    // With a token of the client's own the session is begun again, as with the reference.
    let session = &gone.token;
    let old = format!("/ws/longpoll?token=own&vsn=2.0.0&token={session}");
    let header = ("x-phoenix-longpoll-token", session.as_str());
    for (target, headers, own) in [
        (old.as_str(), &[][..], Some("own")),
        ("/ws/longpoll?vsn=2.0.0&token=own", &[header], Some("own")),
        (&target, &[("x-phoenix-authtoken", "auth")], None),
        ("/ws/longpoll?vsn=2.0.0", &[header], None),
    ] {
        let answer = body_json(&request(address, target, headers).await);
        assert_eq!(answer["status"], 410);
        assert!(answer["token"].is_string(), "{answer}");
        let info = seen.lock().unwrap().pop().unwrap();
        assert_eq!(info.param("token"), own, "{target}");
    }
}
