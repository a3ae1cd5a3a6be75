//! [`Hostile`]: clients that do what nobody should, at a bounded pace, as long as the run takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use oorandom::Rand32;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::nodes::Nodes;

/// How long one attack goes on before the next begins.
const BOUT: Duration = Duration::from_secs(5);
/// Readers that stop reading, on each node.
const N_DEAF: usize = 4;
/// What the noise is made of, and its pace: a deaf reader's queue is full after a minute.
const NOISE_BYTES: usize = 8 << 10;
const NOISE_PACE: Duration = Duration::from_millis(50);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) struct Hostile {
    tasks: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    n_bouts: AtomicU64,
    n_refused: AtomicU64,
    n_noises: AtomicU64,
}

impl Hostile {
    pub(crate) fn start(nodes: &Nodes, seed: u64) -> Self {
        let mut tasks = JoinSet::new();
        let counts = Arc::new(Counts::default());
        for at in 0..nodes.len() {
            let node = nodes.url(at);
            let random = Rand32::new_inc(seed, at as u64);
            tasks.spawn(attack(node, random, counts.clone()));
            tasks.spawn(make_noise(node, counts.clone()));
            for _ in 0..N_DEAF {
                tasks.spawn(be_deaf(node));
            }
        }
        Self { tasks, counts }
    }

    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) fn report(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        format!(
            "{} bouts of hostile clients, {} of which did not get in, {} noises",
            read(&counts.n_bouts),
            read(&counts.n_refused),
            read(&counts.n_noises)
        )
    }
}

/// One attack after the other, in any order. What a node answers, or whether it is there, is no
/// matter: others must not notice.
async fn attack(node: SocketAddr, mut random: Rand32, counts: Arc<Counts>) {
    loop {
        counts.n_bouts.fetch_add(1, Ordering::Relaxed);
        let kind = random.rand_range(0..6);
        let bout = timeout(BOUT, async {
            match kind {
                0 => send_garbage(node, &mut random).await,
                1 => dawdle(node).await,
                2 => send_too_much(node).await,
                3 => join_and_leave(node).await,
                4 => ping(node).await,
                _ => hang_up_at_once(node).await,
            }
        });
        if bout.await.is_ok_and(|got_in| got_in.is_none()) {
            counts.n_refused.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn connect(node: SocketAddr) -> Option<Socket> {
    let url = format!("ws://{node}/socket/websocket?vsn=2.0.0");
    connect_async(url).await.ok().map(|(socket, _)| socket)
}

/// Messages of random bytes, each on a connection of its own since each is the end of it.
async fn send_garbage(node: SocketAddr, random: &mut Rand32) -> Option<()> {
    for _ in 0..20 {
        let mut socket = connect(node).await?;
        let len = random.rand_range(0..2_000);
        let bytes: Vec<u8> = (0..len)
            .map(|_| random.rand_u32().to_le_bytes()[0])
            .collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for message in [Message::text(text), Message::binary(bytes)] {
            let _taken = socket.send(message).await;
        }
        while let Some(Ok(_)) = socket.next().await {}
    }
    Some(())
}

/// Connections that begin a request and do not end it.
async fn dawdle(node: SocketAddr) -> Option<()> {
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(node).await.ok()?;
        let _taken = stream
            .write_all(b"GET /socket/websocket HTTP/1.1\r\nhost")
            .await;
        streams.push(stream);
    }
    for stream in &mut streams {
        let _ended = stream.read_u8().await;
    }
    Some(())
}

/// A message of more than the limit, and a hundred thousand joins.
async fn send_too_much(node: SocketAddr) -> Option<()> {
    let mut socket = connect(node).await?;
    let _taken = socket.send(Message::text("x".repeat(9_000_000))).await;
    let mut socket = connect(node).await?;
    for n in 0..100_000 {
        let join = format!(r#"["{n}","{n}","room:much-{n}","phx_join",{{}}]"#);
        socket.feed(Message::text(join)).await.ok()?;
    }
    socket.flush().await.ok()
}

/// As fast as it goes, in a room where users are, too.
async fn join_and_leave(node: SocketAddr) -> Option<()> {
    let mut socket = connect(node).await?;
    for n in 0..u64::MAX {
        let join = format!(r#"["{n}","{n}","room:soak-0","phx_join",{{}}]"#);
        let leave = format!(r#"["{n}","{n}","room:soak-0","phx_leave",{{}}]"#);
        socket.feed(Message::text(join)).await.ok()?;
        socket.send(Message::text(leave)).await.ok()?;
        // Reads what has come, so that it is not closed as one who does not.
        while let Ok(Some(Ok(_))) = timeout(Duration::ZERO, socket.next()).await {}
    }
    Some(())
}

/// Pings whose pongs nobody reads.
async fn ping(node: SocketAddr) -> Option<()> {
    let mut socket = connect(node).await?;
    loop {
        let ping = Message::Ping(Bytes::from_static(&[0; 125]));
        socket.feed(ping).await.ok()?;
        socket.flush().await.ok()?;
    }
}

/// A reconnect storm: connections that end before they have said anything.
async fn hang_up_at_once(node: SocketAddr) -> Option<()> {
    for _ in 0..200 {
        drop(connect(node).await?);
    }
    Some(())
}

/// Says something large again and again to those who do not read.
async fn make_noise(node: SocketAddr, counts: Arc<Counts>) {
    let noise = "x".repeat(NOISE_BYTES);
    loop {
        sleep(Duration::from_secs(1)).await;
        let Some(mut socket) = connect(node).await else {
            continue;
        };
        let join = r#"["1","1","bench:noise","phx_join",{}]"#;
        let mut sent = socket.send(Message::text(join)).await;
        while sent.is_ok() {
            let message = format!(r#"["1","2","bench:noise","noise",{{"x":"{noise}"}}]"#);
            sent = socket.send(Message::text(message)).await;
            counts.n_noises.fetch_add(1, Ordering::Relaxed);
            while let Ok(Some(Ok(_))) = timeout(NOISE_PACE, socket.next()).await {}
        }
    }
}

/// Joins the noise and does not read, until it is closed; then again.
async fn be_deaf(node: SocketAddr) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let Some(mut socket) = connect(node).await else {
            continue;
        };
        let join = r#"["1","1","bench:noise","phx_join",{}]"#;
        let _taken = socket.send(Message::text(join)).await;
        sleep(Duration::from_secs(90)).await;
    }
}
