//! The accept loop, over real connections.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/http.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod http;
#[path = "support/log.rs"]
mod log;

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::routing::get;
use herenow_channels::{ServeConfig, ServeCounts, ServeError, serve_with};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use self::http::{DEADLINE, Http};
use self::log::Log;

/// What the slow handler tells, and waits for.
#[derive(Default)]
struct Gate {
    entered: Notify,
    open: Notify,
}

struct Running {
    address: SocketAddr,
    gate: Arc<Gate>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    async fn start(config: ServeConfig) -> Self {
        let gate = Arc::new(Gate::default());
        let app = Router::new()
            .route(
                "/peer",
                get(async |ConnectInfo::<SocketAddr>(peer)| peer.to_string()),
            )
            .route("/slow", get(slow))
            .route("/large", get(async || vec![0_u8; 1 << 20]))
            .route("/panic", get(panics))
            .with_state(Arc::clone(&gate));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve_with(listener, app, config, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            gate,
            stop,
            served,
        }
    }

    async fn connect(&self) -> Http {
        Http::connect(self.address).await
    }
}

async fn slow(State(gate): State<Arc<Gate>>) -> &'static str {
    gate.entered.notify_one();
    gate.open.notified().await;
    "done"
}

async fn panics() -> &'static str {
    panic!("as the test asked")
}

fn config(change: impl FnOnce(&mut ServeConfig)) -> ServeConfig {
    let mut config = ServeConfig::default();
    change(&mut config);
    config
}

#[tokio::test]
async fn soc_118_a_connection_that_sends_no_request_is_closed() {
    let header_timeout = Duration::from_secs(1);
    let server = Running::start(config(|config| config.header_timeout = header_timeout)).await;
    let mut silent = server.connect().await;
    let mut slow_writer = server.connect().await;
    slow_writer
        .write(b"GET /peer HTTP/1.1\r\nhost: local")
        .await
        .unwrap();
    silent.closed().await;
    slow_writer.closed().await;
    assert_eq!(server.connect().await.get("/peer").await.status, 200);
}

#[tokio::test]
async fn soc_119_a_connection_that_stays_idle_after_an_answer_is_closed() {
    let header_timeout = Duration::from_secs(1);
    let server = Running::start(config(|config| config.header_timeout = header_timeout)).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/peer").await.status, 200);
    client.closed().await;
}

#[tokio::test]
async fn soc_120_heads_that_are_too_large_are_answered_431() {
    let counts = ServeCounts::default();
    let server = Running::start(config(|config| {
        config.counts = counts.clone();
        config.max_header_bytes = 8 << 10;
        config.max_headers = NonZero::new(10).unwrap();
    }))
    .await;
    let long = "a".repeat(9 << 10);
    let answer = server
        .connect()
        .await
        .request("GET", "/peer", &[("x-long", &long)], b"")
        .await;
    assert_eq!(answer.status, 431);
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.starts_with("the head of the request is 92"), "{text}");
    assert!(text.ends_with("bytes, the limit is 8192 (http.max_header_bytes)\n"));
    let many = [("x-a", "1"); 10];
    let answer = server
        .connect()
        .await
        .request("GET", "/peer", &many, b"")
        .await;
    assert_eq!(answer.status, 431);
    assert_eq!(
        String::from_utf8(answer.body).unwrap(),
        "the request has 11 headers, the limit is 10 (http.max_headers)\n"
    );
    assert_eq!((counts.over_bytes(), counts.over_headers()), (1, 1));
    // So much that it is not read, and just enough.
    let enormous = "a".repeat(64 << 10);
    let mut http = server.connect().await;
    let headers = [("x-long", enormous.as_str())];
    let answer = http.try_request("GET", "/peer", &headers, b"").await;
    assert!(answer.is_none_or(|answer| answer.status == 431));
    assert_eq!((counts.over_bytes(), counts.over_headers()), (2, 1));
    let enough = [("x-a", "1"); 9];
    let answer = server
        .connect()
        .await
        .request("GET", "/peer", &enough, b"")
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn soc_121_connections_without_a_request_are_bounded_and_others_wait_for_them() {
    let server = Running::start(config(|config| {
        config.max_handshakes = NonZero::new(1).unwrap();
        config.header_timeout = Duration::from_secs(2);
    }))
    .await;
    let mut first = server.connect().await;
    first.write(b"GET").await.unwrap();
    let answer = server.connect().await.get("/peer").await;
    assert_eq!(answer.status, 200);
    assert!(
        first.is_closed_now(),
        "the second was accepted beside the first"
    );
}

#[tokio::test]
async fn soc_122_a_request_in_hand_is_no_handshake() {
    let server = Running::start(config(|config| {
        config.max_handshakes = NonZero::new(1).unwrap()
    }))
    .await;
    let (mut slow, mut quick) = (server.connect().await, server.connect().await);
    let (slow, ()) = tokio::join!(slow.get("/slow"), async {
        server.gate.entered.notified().await;
        assert_eq!(quick.get("/peer").await.status, 200);
        server.gate.open.notify_one();
    });
    assert_eq!(slow.body, b"done");
}

#[tokio::test]
async fn soc_123_handlers_know_the_peer() {
    let server = Running::start(ServeConfig::default()).await;
    let mut client = server.connect().await;
    let answer = client.get("/peer").await;
    assert_eq!(
        String::from_utf8(answer.body).unwrap(),
        client.local_addr().to_string()
    );
}

#[tokio::test]
async fn soc_124_a_panic_in_a_handler_ends_its_connection_alone() {
    let server = Running::start(ServeConfig::default()).await;
    let mut bystander = server.connect().await;
    assert_eq!(bystander.get("/peer").await.status, 200);
    assert!(
        server
            .connect()
            .await
            .try_request("GET", "/panic", &[], b"")
            .await
            .is_none()
    );
    assert_eq!(bystander.get("/peer").await.status, 200);
    assert_eq!(server.connect().await.get("/peer").await.status, 200);
}

#[tokio::test]
async fn soc_125_a_stopping_server_refuses_newcomers_and_finishes_what_it_has() {
    let server = Running::start(ServeConfig::default()).await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    assert_eq!(idle.get("/peer").await.status, 200);
    let Running {
        address,
        gate,
        stop,
        served,
    } = server;
    let (answer, ()) = tokio::join!(busy.get("/slow"), async {
        gate.entered.notified().await;
        stop.send(()).unwrap();
        idle.closed().await;
        assert!(TcpStream::connect(address).await.is_err());
        gate.open.notify_one();
    });
    assert_eq!(answer.body, b"done");
    tokio::time::timeout(DEADLINE, served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn srv_1225_who_was_let_in_before_a_stop_is_answered() {
    let never = Duration::from_secs(3_600);
    let server = Running::start(config(|config| config.shutdown_timeout = never)).await;
    let (mut late, silent) = (server.connect().await, server.connect().await);
    // The last one in is served, so those before it are in.
    let mut idle = server.connect().await;
    assert_eq!(idle.get("/peer").await.status, 200);
    server.stop.send(()).unwrap();
    late.write(b"GET /peer HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    idle.closed().await;
    assert_eq!(late.read_response().await.unwrap().status, 200);
    // Nor does it wait for one that never says anything.
    tokio::time::timeout(DEADLINE, server.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    drop(silent);
}

#[tokio::test]
async fn soc_126_what_does_not_finish_is_cut_when_the_time_is_over() {
    let shutdown_timeout = Duration::from_millis(50);
    let server = Running::start(config(|config| config.shutdown_timeout = shutdown_timeout)).await;
    let mut client = server.connect().await;
    client
        .write(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    server.gate.entered.notified().await;
    server.stop.send(()).unwrap();
    tokio::time::timeout(DEADLINE, server.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(client.read_response().await.is_none());
}

#[tokio::test]
async fn srv_1769_who_reads_nothing_of_an_answer_is_cut_and_counted() {
    let (log, _guard) = Log::start();
    let counts = ServeCounts::default();
    let server = Running::start(config(|config| {
        config.counts = counts.clone();
        config.write_timeout = Duration::from_millis(200);
    }))
    .await;
    // As many answers as no buffer holds.
    let mut unread = server.connect().await;
    for _ in 0..20 {
        unread
            .write(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
    }
    log.contains("http.write_timeout").await;
    assert_eq!(counts.unread_answers(), 1);
    unread.closed().await;
    // Who has no answer yet, or waits for the next one, has all the time.
    let (mut slow, mut idle) = (server.connect().await, server.connect().await);
    assert_eq!(idle.get("/peer").await.status, 200);
    let (slow, ()) = tokio::join!(slow.get("/slow"), async {
        server.gate.entered.notified().await;
        let mut unread = server.connect().await;
        for _ in 0..20 {
            unread
                .write(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .await
                .unwrap();
        }
        let both_cut = async {
            while counts.unread_answers() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, both_cut).await.unwrap();
        server.gate.open.notify_one();
    });
    assert_eq!(slow.body, b"done");
    assert_eq!(idle.get("/peer").await.status, 200);
    assert_eq!(counts.unread_answers(), 2);
}

#[tokio::test]
async fn srv_1772_who_does_not_send_a_first_head_in_time_is_counted_and_who_is_idle_is_not() {
    let counts = ServeCounts::default();
    let server = Running::start(config(|config| {
        config.counts = counts.clone();
        config.header_timeout = Duration::from_millis(500);
    }))
    .await;
    let mut idle = server.connect().await;
    assert_eq!(idle.get("/peer").await.status, 200);
    let (mut silent, mut slow_writer) = (server.connect().await, server.connect().await);
    slow_writer.write(b"GET /peer HTTP/1.1\r\n").await.unwrap();
    silent.closed().await;
    slow_writer.closed().await;
    idle.closed().await;
    assert_eq!(counts.late_heads(), 2);
}

#[tokio::test]
async fn srv_1771_who_opens_many_connections_and_says_nothing_keeps_nobody_out() {
    let (log, _guard) = Log::start();
    let counts = ServeCounts::default();
    let server = Running::start(config(|config| {
        config.counts = counts.clone();
        config.max_handshakes = NonZero::new(64).unwrap();
        config.crowded_timeout = Duration::from_millis(20);
        config.header_timeout = Duration::from_secs(3_600);
    }))
    .await;
    // Loopback addresses are of the machine altogether, on Linux; elsewhere it is one address.
    let silent = async || {
        let socket = TcpSocket::new_v4().unwrap();
        if cfg!(target_os = "linux") {
            socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        }
        Http::from_stream(socket.connect(server.address).await.unwrap())
    };
    let mut flood = Vec::new();
    for n in 0..200 {
        let mut one = silent().await;
        if n % 2 == 0 {
            one.write(b"GET /peer HTTP/1.1\r\n").await.unwrap();
        }
        flood.push(one);
    }
    // It came last, and all others are there to stay.
    assert_eq!(server.connect().await.get("/peer").await.status, 200);
    assert!(counts.displaced() >= 200 - 63, "{}", counts.displaced());
    assert!(log.text().contains("(http.max_handshakes)"));
    flood[0].closed().await;
    assert_eq!(counts.late_heads(), 0);
}
