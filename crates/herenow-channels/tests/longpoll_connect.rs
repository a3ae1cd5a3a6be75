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
use std::sync::{Arc, Mutex};

use axum::Router;
use herenow_channels::{
    CheckOrigin, ConnectInfo, ConnectRefused, Connected, LongPollConfig, Sockets,
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
