//! Who gets a WebSocket, what `connect` is told, and how a drain closes it.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/handshake.rs"]
mod handshake;
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
use std::time::{Duration, Instant};

use axum::{Extension, Router};
use futures_util::{SinkExt, StreamExt};
use herenow_channels::{
    CheckOrigin, ConnectInfo, Connected, DrainConfig, SocketConfig, Sockets, serve,
};
use herenow_pubsub::{Payload, PubSub};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use self::handshake::handshake;
use self::http::DEADLINE;
use self::log::Log;
use self::longpoll::LongPollClient;
use self::room::{sockets, start, start_app};

type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const TARGET: &str = "/ws/websocket?vsn=2.0.0";

/// A constant of the application, as a layer around the router hands it in.
#[derive(Debug, Clone, PartialEq)]
struct Region(&'static str);

/// Shakes hands with these headers and returns what `connect` was told.
async fn connect_info(target: &str, headers: &[(&str, &str)]) -> ConnectInfo {
    let seen: Arc<Mutex<Option<ConnectInfo>>> = Arc::default();
    let sockets = sockets(&PubSub::local()).connect({
        let seen = Arc::clone(&seen);
        move |info: ConnectInfo| {
            *seen.lock().unwrap() = Some(info);
            async { Ok(Connected::anonymous()) }
        }
    });
    let app = Router::new()
        .nest("/ws", sockets.into_router())
        .layer(Extension(Region("north")));
    assert_eq!(
        handshake(start_app(app).await, target, headers)
            .await
            .status,
        101
    );
    let mut seen = seen.lock().unwrap();
    seen.take().unwrap()
}

#[tokio::test]
async fn w_05_connect_is_told_the_x_headers() {
    let info = connect_info(TARGET, &[("x-application", "Phoenix"), ("accept", "*/*")]).await;
    let names: Vec<_> = info.x_headers().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-application"]);
    assert_eq!(info.header("x-application"), Some("Phoenix"));
}

#[tokio::test]
async fn w_06_connect_is_told_the_websocket_headers() {
    let info = connect_info(TARGET, &[]).await;
    let mut names: Vec<_> = info
        .sec_websocket_headers()
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["sec-websocket-key", "sec-websocket-version"]);
    assert_eq!(
        info.header("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
}

#[tokio::test]
async fn w_07_connect_is_told_the_trace_headers() {
    let headers = [
        ("traceparent", "00-0af7-b7ad-01"),
        ("tracestate", "congo=t61"),
    ];
    let info = connect_info(TARGET, &headers).await;
    let names: Vec<_> = info
        .trace_context_headers()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["traceparent", "tracestate"]);
}

#[tokio::test]
async fn w_08_connect_is_told_the_peer() {
    let peer = connect_info(TARGET, &[]).await.peer().unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.1");
    assert_ne!(peer.port(), 0);
}

#[tokio::test]
async fn w_09_connect_is_told_the_uri() {
    let info = connect_info("/ws/websocket?vsn=2.0.0&a=1", &[("host", "[::1]:4001")]).await;
    let uri = info.uri();
    assert_eq!(
        (uri.scheme(), uri.host(), uri.port()),
        ("http", "::1", 4001)
    );
    assert_eq!(
        (uri.path(), uri.query()),
        ("/ws/websocket", Some("vsn=2.0.0&a=1"))
    );
}

#[tokio::test]
async fn w_10_connect_is_told_the_user_agent() {
    let info = connect_info(TARGET, &[("user-agent", "custom agent")]).await;
    assert_eq!(info.user_agent(), Some("custom agent"));
}

#[tokio::test]
async fn w_12_connect_is_told_constants_of_the_application() {
    let info = connect_info(TARGET, &[]).await;
    assert_eq!(info.extension::<Region>(), Some(&Region("north")));
    assert_eq!(info.extension::<u8>(), None);
}

#[tokio::test]
async fn soc_138_a_token_in_the_sub_protocol_reaches_connect_and_phoenix_is_chosen() {
    let seen: Arc<Mutex<Option<String>>> = Arc::default();
    let sockets = sockets(&PubSub::local()).connect({
        let seen = Arc::clone(&seen);
        move |info: ConnectInfo| {
            *seen.lock().unwrap() = info.auth_token().map(str::to_owned);
            async { Ok(Connected::anonymous()) }
        }
    });
    let address = start(sockets).await;
    let offered = (
        "sec-websocket-protocol",
        "phoenix, base64url.bearer.phx.c2VjcmV0",
    );
    let answer = handshake(address, TARGET, &[offered]).await;
    assert_eq!(
        (answer.status, answer.header("sec-websocket-protocol")),
        (101, Some("phoenix"))
    );
    assert_eq!(seen.lock().unwrap().take().as_deref(), Some("secret"));
    let damaged = ("sec-websocket-protocol", "phoenix, base64url.bearer.phx.*");
    let answer = handshake(address, TARGET, &[damaged]).await;
    assert_eq!((answer.status, answer.body.len()), (403, 0));
}

async fn origin_status(address: SocketAddr, target: &str, origin: &str) -> u16 {
    let answer = handshake(address, target, &[("origin", origin)]).await;
    assert!(answer.status == 101 || answer.body.is_empty());
    answer.status
}

#[tokio::test]
async fn w_19_only_allowed_origins_get_a_websocket() {
    let check = CheckOrigin::list(["//example.com"]).unwrap();
    let address = start(sockets(&PubSub::local()).check_origin(check)).await;
    for vsn in ["1.0.0", "2.0.0"] {
        let target = format!("/ws/websocket?vsn={vsn}");
        assert_eq!(
            origin_status(address, &target, "https://example.com").await,
            101
        );
        assert_eq!(
            origin_status(address, &target, "http://notallowed.com").await,
            403
        );
    }
}

#[tokio::test]
async fn w_30_the_host_asked_is_the_origin_let_in_by_default() {
    let sockets = Sockets::new(&PubSub::local());
    let address = start(sockets).await;
    assert_eq!(handshake(address, TARGET, &[]).await.status, 101);
    for origin in ["http://localhost", "http://127.0.0.1:3000", "https://[::1]"] {
        assert_eq!(
            origin_status(address, TARGET, origin).await,
            101,
            "{origin}"
        );
    }
    for origin in [
        "http://evil.com",
        "null",
        "http://localhost.evil.com",
        "file://",
    ] {
        assert_eq!(
            origin_status(address, TARGET, origin).await,
            403,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn x_23_each_mount_applies_its_own_list() {
    let pubsub = PubSub::local();
    let mount = |origin: &str| {
        let check = CheckOrigin::list([origin]).unwrap();
        sockets(&pubsub).check_origin(check).into_router()
    };
    let app = Router::new()
        .nest("/a", mount("//a.com"))
        .nest("/b", mount("//b.com"));
    let address = start_app(app).await;
    for (path, origin, status) in [
        ("/a", "http://a.com", 101),
        ("/a", "http://b.com", 403),
        ("/b", "http://b.com", 101),
        ("/b", "http://a.com", 403),
        ("/a", "http://a.com", 101),
    ] {
        let target = format!("{path}/websocket?vsn=2.0.0");
        assert_eq!(
            origin_status(address, &target, origin).await,
            status,
            "{path} {origin}"
        );
    }
}

#[tokio::test]
async fn soc_139_a_configured_sub_protocol_is_chosen_or_the_handshake_refused() {
    let mut config = SocketConfig::default();
    config.subprotocols = vec!["sip".to_owned()];
    let address = start(sockets(&PubSub::local()).config(config)).await;
    let offer = async |protocols| {
        handshake(address, TARGET, &[("sec-websocket-protocol", protocols)]).await
    };
    let answer = offer("mqtt, sip").await;
    assert_eq!(
        (answer.status, answer.header("sec-websocket-protocol")),
        (101, Some("sip"))
    );
    assert_eq!(offer("mqtt").await.status, 403);
    let answer = handshake(address, TARGET, &[]).await;
    assert_eq!(
        (answer.status, answer.header("sec-websocket-protocol")),
        (101, None)
    );
}

/// Opens a WebSocket and joins the room.
async fn joined(address: SocketAddr) -> WebSocket {
    let (mut socket, _) = connect_async(format!("ws://{address}{TARGET}"))
        .await
        .unwrap();
    let join = json!(["1", "1", "room:lobby", "phx_join", {}]).to_string();
    socket.send(Message::text(join)).await.unwrap();
    let reply = socket.next().await.unwrap().unwrap();
    assert!(reply.into_text().unwrap().contains("phx_reply"));
    socket
}

/// Waits for the close frame, answers it and hangs up; returns its code.
async fn close_code(mut socket: WebSocket) -> u16 {
    let code = async {
        let mut code = None;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(close)) = message {
                code = Some(close.code.into());
            }
        }
        code.unwrap()
    };
    tokio::time::timeout(DEADLINE, code).await.unwrap()
}

#[tokio::test]
async fn y_16_a_disconnect_closes_with_1001_and_a_drain_with_1012() {
    let sockets = sockets(&PubSub::local()).connect(async |_| Ok(Connected::with_id("users:1")));
    let handle = sockets.clone();
    let address = start(sockets).await;
    let socket = joined(address).await;
    handle.disconnect("users:1").unwrap();
    assert_eq!(close_code(socket).await, 1001);

    let socket = joined(address).await;
    let (report, code) = tokio::join!(handle.drain(), close_code(socket));
    assert_eq!(code, 1012);
    assert_eq!(
        (report.n_sockets, report.n_batches, report.n_left),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn x_05_the_drain_of_a_mount_is_configured_at_run_time() {
    let mut config = DrainConfig::default();
    config.batch_size = NonZero::new(1).unwrap();
    config.batch_interval = Duration::from_millis(100);
    let sockets = sockets(&PubSub::local()).drain_config(config);
    let handle = sockets.clone();
    let address = start(sockets).await;
    let (first, second) = (joined(address).await, joined(address).await);
    let started = Instant::now();
    let (report, first, second) =
        tokio::join!(handle.drain(), close_code(first), close_code(second));
    assert_eq!((first, second), (1012, 1012));
    assert_eq!(
        (report.n_sockets, report.n_batches, report.n_left),
        (2, 2, 0)
    );
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn soc_300_a_drain_does_not_wait_for_clients_that_answered_to_hang_up() {
    let mut config = SocketConfig::default();
    config.close_timeout = Duration::from_secs(3_600);
    let mut drain = DrainConfig::default();
    drain.total = Duration::from_secs(3_600);
    let sockets = sockets(&PubSub::local()).config(config).drain_config(drain);
    let handle = sockets.clone();
    let address = start(sockets).await;
    let mut socket = joined(address).await;
    let answer = async {
        while !socket.next().await.unwrap().unwrap().is_close() {}
        // The answer is written, or already was; the connection stays open.
        let _written = socket.flush().await;
    };
    let drained = async { tokio::join!(handle.drain(), answer) };
    let (report, ()) = tokio::time::timeout(DEADLINE, drained).await.unwrap();
    assert_eq!((report.n_sockets, report.n_left), (1, 0));
    drop(socket);
}

#[tokio::test]
async fn soc_302_a_slow_reader_that_is_closed_is_logged_with_the_limit() {
    let mut config = SocketConfig::default();
    config.max_queue_messages = NonZero::new(10).unwrap();
    let pubsub = PubSub::local();
    let address = start(sockets(&pubsub).config(config)).await;
    let (log, _guard) = Log::start();
    let _socket = joined(address).await;
    let mut polled = LongPollClient::open(address, "2.0.0").await;
    polled
        .join(&json!(["1", "1", "room:lobby", "phx_join", {}]))
        .await;
    // Nobody gets a turn to read in between.
    for _ in 0..20 {
        let payload = Payload::json("{}");
        pubsub.broadcast("room:lobby", "news", payload).unwrap();
    }
    for transport in ["websocket", "longpoll"] {
        let line = format!(
            r#"slow reader closed transport="{transport}" code=1008 text="slow reader: over max_queue_messages, 10""#
        );
        log.contains(&line).await;
    }
}

#[tokio::test]
async fn srv_1158_whose_connection_was_closed_is_logged_for_debugging_only() {
    let mut config = SocketConfig::default();
    config.max_queue_messages = NonZero::new(10).unwrap();
    let pubsub = PubSub::local();
    let named = sockets(&pubsub).connect(async |_| Ok(Connected::with_id("users:ada-7")));
    let address = start(named.config(config)).await;
    let (log, _guard) = Log::start();
    let _socket = joined(address).await;
    for _ in 0..20 {
        let payload = Payload::json("{}");
        pubsub.broadcast("room:lobby", "news", payload).unwrap();
    }
    log.contains("slow reader closed").await;
    let text = log.text();
    let named: Vec<&str> = text.lines().filter(|l| l.contains("ada-7")).collect();
    assert!(!named.is_empty());
    let is_quiet = |line: &&str| line.contains(" DEBUG ") || line.contains(" TRACE ");
    assert!(named.iter().all(is_quiet), "{named:#?}");
}

#[tokio::test]
async fn soc_140_a_stopping_server_drains_its_sockets_of_both_transports() {
    let sockets = sockets(&PubSub::local());
    let app = Router::new().nest("/ws", sockets.into_router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, app, async {
        let _ = stopped.await;
    }));
    let socket = joined(address).await;
    let mut polled = LongPollClient::open(address, "2.0.0").await;
    let (log, _guard) = Log::start();
    let started = Instant::now();
    let (answer, code) = tokio::join!(polled.poll(), async {
        log.contains("poll waits").await;
        stop.send(()).unwrap();
        close_code(socket).await
    });
    assert_eq!(code, 1012);
    assert_eq!(answer["status"], 410);
    tokio::time::timeout(DEADLINE, served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(
        started.elapsed() < DEADLINE,
        "the poll did not wait for its window"
    );
    assert!(TcpStream::connect(address).await.is_err());
}
