//! Who comes back after a restart, and who is inside meanwhile.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/handshake.rs"]
mod handshake;
#[path = "support/http.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod http;

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use herenow_channels::testing::TestClient;
use herenow_channels::{
    Channel, Connected, Joined, LongPollConfig, Params, Refused, ServeConfig, Socket, SocketConfig,
    Sockets, listen, serve, serve_with,
};
use herenow_pubsub::PubSub;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use self::handshake::handshake;
use self::http::{DEADLINE, Http};

const WEBSOCKET: &str = "/ws/websocket?vsn=2.0.0";
const LONG_POLL: &str = "/ws/longpoll?vsn=2.0.0";

/// Joins to `slow:*` wait for a permit.
struct Slow(Arc<Gate>);

struct Gate {
    permits: Semaphore,
    n_waiting: AtomicUsize,
}

impl Channel for Slow {
    async fn join(&mut self, socket: &mut Socket, _: Params) -> Result<Joined, Refused> {
        if socket.topic().starts_with("slow:") {
            self.0.n_waiting.fetch_add(1, Ordering::SeqCst);
            let _permit = self.0.permits.acquire().await;
        }
        Ok(Joined::empty())
    }
}

fn limit(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

fn sockets(change: impl FnOnce(&mut SocketConfig)) -> (Sockets, Arc<Gate>) {
    let gate = Arc::new(Gate {
        permits: Semaphore::new(0),
        n_waiting: AtomicUsize::new(0),
    });
    let mut config = SocketConfig::default();
    change(&mut config);
    let (rooms, slow) = (gate.clone(), gate.clone());
    let sockets = Sockets::new(&PubSub::local())
        .config(config)
        .long_poll(LongPollConfig::default())
        .channel("room:*", move || Slow(rooms.clone()))
        .channel("slow:*", move || Slow(slow.clone()));
    (sockets, gate)
}

async fn start(sockets: &Sockets) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().nest("/ws", sockets.clone().into_router());
    tokio::spawn(serve(listener, app, std::future::pending()));
    address
}

#[tokio::test]
async fn soc_502_too_many_on_their_way_in_shut_the_door_and_nobody_inside_feels_it() {
    let (sockets, gate) = sockets(|config| config.max_arrivals = limit(2));
    let address = start(&sockets).await;
    let mut inside = TestClient::open(&sockets, Connected::anonymous());
    inside.join("room:1", json!({})).await.unwrap();
    let joins: Vec<_> = (0..2)
        .map(|n| {
            let mut client = TestClient::open(&sockets, Connected::anonymous());
            tokio::spawn(async move { client.join(&format!("slow:{n}"), json!({})).await })
        })
        .collect();
    let all_wait = async {
        while gate.n_waiting.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, all_wait).await.unwrap();

    let refused = handshake(address, WEBSOCKET, &[]).await;
    let text = String::from_utf8(refused.body.clone()).unwrap();
    assert_eq!(refused.status, 503, "{text}");
    assert!(
        text.contains("the limit is 2 (socket.max_arrivals)"),
        "{text}"
    );
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds));
    let polling = Http::connect(address).await.get(LONG_POLL).await;
    assert_eq!(polling.status, 503);
    assert_eq!(sockets.metrics().busy_connects.value(), 2);
    // Who is inside is served, and may join: it only keeps the door shut.
    assert_eq!(inside.call("phoenix", "heartbeat", json!({})).await.0, "ok");
    inside.join("room:2", json!({})).await.unwrap();

    gate.permits.add_permits(2);
    for join in joins {
        timeout(DEADLINE, join).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(handshake(address, WEBSOCKET, &[]).await.status, 101);
    assert_eq!(
        Http::connect(address).await.get(LONG_POLL).await.status,
        200
    );
}

#[tokio::test]
async fn soc_504_handshakes_are_checked_a_few_at_a_time_and_all_get_their_turn() {
    let (n_now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (sockets, _gate) = sockets(|config| config.max_checks = limit(2));
    let (counted, seen) = (n_now.clone(), most.clone());
    let sockets = sockets.connect(move |_| {
        let (n_now, most) = (counted.clone(), seen.clone());
        async move {
            most.fetch_max(n_now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            n_now.fetch_sub(1, Ordering::SeqCst);
            Ok(Connected::anonymous())
        }
    });
    let address = start(&sockets).await;
    let handshakes: Vec<_> = (0..20)
        .map(|_| tokio::spawn(async move { handshake(address, WEBSOCKET, &[]).await.status }))
        .collect();
    for status in handshakes {
        assert_eq!(timeout(DEADLINE, status).await.unwrap().unwrap(), 101);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn soc_721_who_waits_to_be_let_in_keeps_a_place_at_the_entry_but_not_for_long() {
    let (sockets, gate) = sockets(|_| {});
    let asked = gate.clone();
    let sockets = sockets.connect(move |info| {
        let gate = asked.clone();
        let waits = info.params().contains_key("wait");
        async move {
            gate.n_waiting.fetch_add(1, Ordering::SeqCst);
            if waits {
                let _permit = gate.permits.acquire().await;
            }
            Ok(Connected::anonymous())
        }
    });
    let mut config = ServeConfig::default();
    config.max_handshakes = limit(1);
    let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().nest("/ws", sockets.clone().into_router());
    tokio::spawn(serve_with(listener, app, config, std::future::pending()));

    let began = Instant::now();
    let waiting = format!("{WEBSOCKET}&wait=1");
    let first = tokio::spawn(async move { handshake(address, &waiting, &[]).await.status });
    let first_asks = async {
        while gate.n_waiting.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, first_asks).await.unwrap();
    // There is one place. It is kept while the first one is asked about, for a second at most.
    assert_eq!(handshake(address, WEBSOCKET, &[]).await.status, 101);
    assert!(began.elapsed() >= Duration::from_secs(1));
    // Who is in keeps no place: all of them stay.
    for _ in 0..3 {
        assert_eq!(handshake(address, WEBSOCKET, &[]).await.status, 101);
    }
    gate.permits.add_permits(1);
    assert_eq!(timeout(DEADLINE, first).await.unwrap().unwrap(), 101);
}

#[tokio::test]
async fn soc_722_many_who_come_at_once_find_room_in_the_backlog() {
    let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for n in 0..1_000 {
        // Nobody accepts them, so whoever finds no room stays outside until the deadline.
        let connecting = timeout(DEADLINE, TcpStream::connect(address)).await;
        waiting.push(connecting.unwrap_or_else(|_| panic!("no room for number {n}")));
    }
    assert!(waiting.iter().all(Result::is_ok));
}
