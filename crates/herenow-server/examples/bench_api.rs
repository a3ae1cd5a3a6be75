//! How fast the HTTP API answers while a topic of 10,000 members changes 500 times a second.
//!
//! ```sh
//! cargo run --release -p herenow-server --no-default-features --example bench_api
//! ```
//!
//! Server and clients share this process, over loopback. Members and changes are presences of
//! backends, which take the same way through the shard as those of sockets. Each route is asked one
//! request after the other on one connection; the figures are times from the request's first byte
//! to the answer's last.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::run;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::interval;

const N_MEMBERS: usize = 10_000;
const N_REQUESTS: usize = 3_000;
/// Joins and leaves, half of each, in a second.
const CHANGES: u32 = 500;

static N_CHANGES: AtomicU64 = AtomicU64::new(0);

/// One connection to the server.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Makes a request, and returns the length of the answer's body.
    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<usize> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).await?;
        let (mut line, mut length) = (String::new(), 0);
        self.0.read_line(&mut line).await?;
        if !line.starts_with("HTTP/1.1 2") {
            bail!("{method} {path} was answered {line}");
        }
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).await?;
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        Ok(length)
    }
}

fn main() -> Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build()?;
    runtime.block_on(bench())
}

async fn bench() -> Result<()> {
    let flags = [("dev", "true"), ("api.max_leases", "20000")];
    let sources = Sources {
        flags: flags.map(|(key, value)| (key.into(), value.into())).into(),
        ..Sources::default()
    };
    let config = ServerConfig::load(&sources)?;
    let listener = run::listen(([127, 0, 0, 1], 0).into())?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(run::serve(config, listener, std::future::pending()));
    let mut client = Client::connect(address).await?;
    for member in 0..N_MEMBERS {
        let path = format!("/api/topics/room:1/presences/user-{member:05}");
        let body = r#"{"meta": {"status": "online"}, "lease_seconds": 3600}"#;
        client.ask("PUT", &path, body).await?;
    }
    let (began, churn) = (Instant::now(), tokio::spawn(churn(address)));
    println!("| route | bytes | p50 | p99 | most |\n| --- | --- | --- | --- | --- |");
    let where_are: Vec<String> = (0..100).map(|user| format!("\"user-{user:05}\"")).collect();
    let where_are = format!("{{\"keys\": [{}]}}", where_are.join(","));
    for (method, path, body) in [
        ("GET", "/api/topics/room:1/presences?limit=100", ""),
        ("GET", "/api/topics/room:1", ""),
        ("GET", "/api/keys/user-05000", ""),
        ("GET", "/api/topics?limit=100", ""),
        ("POST", "/api/where", &where_are),
    ] {
        measure(&mut client, method, path, body).await?;
    }
    let rate = N_CHANGES.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    println!("\n{rate:.0} joins and leaves a second meanwhile");
    if churn.is_finished() {
        churn.await.context("the changes ended")??;
    }
    server.abort();
    Ok(())
}

async fn measure(client: &mut Client, method: &str, path: &str, body: &str) -> Result<()> {
    let (mut times, mut n_bytes) = (Vec::with_capacity(N_REQUESTS), 0);
    let mut ticks = interval(Duration::from_millis(1));
    for _ in 0..N_REQUESTS {
        ticks.tick().await;
        let began = Instant::now();
        n_bytes = client.ask(method, path, body).await?;
        times.push(began.elapsed());
    }
    times.sort();
    let at = |part: usize| times[(N_REQUESTS - 1) * part / 100];
    let (p50, p99, most) = (at(50), at(99), at(100));
    println!("| `{method} {path}` | {n_bytes} | {p50:.0?} | {p99:.0?} | {most:.0?} |");
    Ok(())
}

/// Lets users join and leave the topic for ever.
async fn churn(address: SocketAddr) -> Result<()> {
    let mut client = Client::connect(address).await?;
    let mut ticks = interval(Duration::from_secs(1) / CHANGES);
    for n in 0_u64.. {
        // It comes and goes among the first ones: on the page that is asked for.
        let path = format!("/api/topics/room:1/presences/user-00050-{}", n / 2 % 10);
        ticks.tick().await;
        let (method, body) = if n % 2 == 0 {
            ("PUT", "{}")
        } else {
            ("DELETE", "")
        };
        client.ask(method, &path, body).await?;
        N_CHANGES.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
