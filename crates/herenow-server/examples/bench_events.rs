//! Whether webhooks and the stream of events keep up with 5,000 presence changes a second.
//!
//! ```sh
//! cargo run --release -p herenow-server --no-default-features --example bench_events
//! ```
//!
//! Users come and go in 100 topics, half joins and half leaves, as presences of backends, which
//! take the same way through the shards as those of sockets. It runs without anybody being told,
//! with a webhook, with a listener, and with both. Server, users and receivers share this process,
//! over loopback; the receiver verifies nothing. What was told is checked: every change once, the
//! numbers of each topic without a gap. Times are from the moment at which the server took the
//! change in, to the millisecond, to its arrival. An argument is another rate than 5,000.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::run;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep};

const N_TOPICS: u64 = 100;
const N_CONNECTIONS: u64 = 4;
const TIME: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(4);
/// What an answer begins with.
const HEAD: &[u8] = b"HTTP/1.1 ";
/// How long the last events may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What arrived at a receiver.
#[derive(Default)]
struct Arrived {
    late: Vec<Duration>,
    last_seq: HashMap<String, u64>,
    n_out_of_order: u64,
    n_lost: u64,
    n_requests: u64,
}

impl Arrived {
    fn take(&mut self, event: &Value) {
        if event["event"] == "lost" {
            self.n_lost += event["n_events"].as_u64().unwrap_or(1);
            return;
        }
        // The users that stay are not measured.
        if event["key"]
            .as_str()
            .is_none_or(|key| key.starts_with("stays"))
        {
            self.note(event);
            return;
        }
        let at = event["at"]
            .as_str()
            .and_then(|at| at.parse::<Timestamp>().ok());
        let at = at.and_then(|at| SystemTime::try_from(at).ok());
        let late = at.and_then(|at| SystemTime::now().duration_since(at).ok());
        self.late.push(late.unwrap_or_default());
        self.note(event);
    }

    fn note(&mut self, event: &Value) {
        let (topic, seq) = (event["topic"].as_str(), event["seq"].as_u64());
        let (topic, seq) = (topic.unwrap_or_default(), seq.unwrap_or_default());
        let last = self.last_seq.insert(topic.to_owned(), seq);
        if last.is_some_and(|last| last + 1 != seq) {
            self.n_out_of_order += 1;
        }
    }
}

type Shared = Arc<Mutex<Arrived>>;

fn main() -> Result<()> {
    let rate = std::env::args()
        .nth(1)
        .map_or(Ok(5_000), |rate| rate.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!("| told | changes/s | arrived | p50 | p99 | most | requests | CPU-s |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (has_webhook, has_stream) in [(false, false), (true, false), (false, true), (true, true)] {
        runtime.block_on(bench(rate, has_webhook, has_stream))?;
    }
    Ok(())
}

async fn bench(rate: u64, has_webhook: bool, has_stream: bool) -> Result<()> {
    let (hook, heard) = (Shared::default(), Shared::default());
    let receiver = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", receiver.local_addr()?);
    let receiving = tokio::spawn(receive(receiver, hook.clone()));
    let config = config(has_webhook.then_some(url.as_str()))?;
    let listener = run::listen(([127, 0, 0, 1], 0).into())?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _asked = stopped.await;
    };
    let server = tokio::spawn(run::serve(config, listener, shutdown));
    let listening = has_stream.then(|| tokio::spawn(listen(address, heard.clone())));
    if has_stream {
        sleep(Duration::from_millis(300)).await; // Until it is open.
    }
    let stays: String = (0..N_TOPICS).map(|n| request("PUT", n, "stays")).collect();
    let mut first = TcpStream::connect(address).await?;
    first.write_all(stays.as_bytes()).await?;
    sleep(Duration::from_millis(500)).await;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let n_changes = Arc::new(AtomicU64::new(0));
    let users = (0..N_CONNECTIONS).map(|n| {
        let share = rate / N_CONNECTIONS;
        tokio::spawn(users(address, n, share, n_changes.clone()))
    });
    for users in users.collect::<Vec<_>>() {
        users.await??;
    }
    let took = began.elapsed();
    let n_changes = n_changes.load(Ordering::Relaxed);
    for (is_on, arrived) in [(has_webhook, &hook), (has_stream, &heard)] {
        if is_on {
            arrival(arrived, n_changes).await;
        }
    }
    let cpu = cpu_seconds()? - cpu;
    let rate = n_changes as f64 / took.as_secs_f64();
    for (name, is_on, arrived) in [
        ("webhook", has_webhook, &hook),
        ("stream", has_stream, &heard),
    ] {
        if is_on {
            print(name, rate, cpu, n_changes, arrived)?;
        }
    }
    if !has_webhook && !has_stream {
        println!("| nobody | {rate:.0} | | | | | | {cpu:.2} |");
    }
    let _ended = stop.send(());
    server.await??;
    receiving.abort();
    if let Some(listening) = listening {
        listening.await??;
    }
    Ok(())
}

/// The configuration of the server, with a webhook if there is a URL.
fn config(url: Option<&str>) -> Result<ServerConfig> {
    let mut flags = vec![("dev", "true"), ("api.max_leases", "20000")];
    if let Some(url) = url {
        flags.extend([
            ("webhook.urls", url),
            ("webhook.secret", "0123456789abcdef"),
        ]);
    }
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Ok(ServerConfig::load(&Sources {
        flags: flags.iter().map(owned).collect(),
        ..Sources::default()
    })?)
}

/// Waits until all changes have arrived, but not for ever.
async fn arrival(arrived: &Shared, n_changes: u64) {
    let until = Instant::now() + PATIENCE;
    let n_arrived = || {
        let arrived = arrived.lock();
        arrived.map_or(0, |arrived| arrived.late.len() as u64)
    };
    while n_arrived() < n_changes && Instant::now() < until {
        sleep(Duration::from_millis(5)).await;
    }
}

fn print(name: &str, rate: f64, cpu: f64, n_changes: u64, arrived: &Shared) -> Result<()> {
    let mut arrived = arrived.lock().expect("nobody panics with it");
    arrived.late.sort();
    let n_arrived = arrived.late.len();
    ensure!(
        n_arrived as u64 == n_changes,
        "{name}: {n_arrived} of {n_changes} arrived"
    );
    ensure!(arrived.n_lost == 0, "{name}: {} were lost", arrived.n_lost);
    let n_wrong = arrived.n_out_of_order;
    ensure!(n_wrong == 0, "{name}: {n_wrong} were out of order");
    let at = |part: usize| arrived.late[(n_arrived - 1) * part / 100];
    let (p50, p99, most, n) = (at(50), at(99), at(100), arrived.n_requests);
    println!(
        "| {name} | {rate:.0} | {n_arrived} | {p50:.1?} | {p99:.1?} | {most:.1?} | {n} | {cpu:.2} |"
    );
    Ok(())
}

/// A request that makes a user come or go.
fn request(method: &str, topic: u64, key: &str) -> String {
    let body = match method {
        "PUT" => r#"{"meta": {"device": "phone"}, "lease_seconds": 600}"#,
        _ => "",
    };
    format!(
        "{method} /api/topics/room:{topic}/presences/{key} HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Has users come and go at a rate, without waiting for answers.
async fn users(address: SocketAddr, name: u64, rate: u64, n_changes: Arc<AtomicU64>) -> Result<()> {
    let (mut answers, mut requests) = TcpStream::connect(address).await?.into_split();
    let n_answers = Arc::new(AtomicU64::new(0));
    let n_read = n_answers.clone();
    let reading = tokio::spawn(async move {
        let (mut part, mut text) = (vec![0; 64 << 10], Vec::new());
        loop {
            let n_bytes = answers.read(&mut part).await?;
            if n_bytes == 0 {
                return Ok::<_, anyhow::Error>(());
            }
            text.extend_from_slice(&part[..n_bytes]);
            // A body has no line break at its end, and the next answer follows it.
            for status in text
                .windows(HEAD.len() + 1)
                .filter(|head| head.starts_with(HEAD))
            {
                ensure!(
                    status[HEAD.len()] == b'2',
                    "a request was answered an error"
                );
                n_read.fetch_add(1, Ordering::Relaxed);
            }
            let n_done = text.len().saturating_sub(HEAD.len());
            text.drain(..n_done);
        }
    });
    let (began, mut n) = (Instant::now(), 0);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while began.elapsed() < TIME {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        let mut batch = String::new();
        while n < due || n % 2 == 1 {
            let method = if n % 2 == 0 { "PUT" } else { "DELETE" };
            batch += &request(method, n / 2 % N_TOPICS, &format!("user-{name}"));
            n += 1;
        }
        requests.write_all(batch.as_bytes()).await?;
    }
    let until = Instant::now() + PATIENCE;
    while n_answers.load(Ordering::Relaxed) < n && Instant::now() < until {
        ensure!(!reading.is_finished(), "a request was answered an error");
        sleep(Duration::from_millis(1)).await;
    }
    let n_answers = n_answers.load(Ordering::Relaxed);
    ensure!(n_answers == n, "{n_answers} of {n} were answered");
    reading.abort();
    n_changes.fetch_add(n, Ordering::Relaxed);
    Ok(())
}

async fn receive(listener: TcpListener, arrived: Shared) -> Result<()> {
    let take = async move |body: Bytes| {
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut arrived = arrived.lock().expect("nobody panics with it");
        arrived.n_requests += 1;
        for event in body["events"].as_array().into_iter().flatten() {
            arrived.take(event);
        }
        StatusCode::NO_CONTENT
    };
    let app = Router::new().route("/", post(take));
    Ok(herenow_channels::serve(listener, app, std::future::pending()).await?)
}

async fn listen(address: SocketAddr, arrived: Shared) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = b"GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await?;
    let mut lines = BufReader::with_capacity(64 << 10, stream).lines();
    while let Some(line) = lines.next_line().await.context("the stream broke off")? {
        if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data)?;
            if event["event"] == "closed" {
                return Ok(());
            }
            arrived.lock().expect("nobody panics with it").take(&event);
        }
    }
    Ok(())
}

/// What this process has used of the processors.
fn cpu_seconds() -> Result<f64> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path().join("schedstat");
        let Ok(text) = std::fs::read_to_string(path) else {
            continue; // It has just ended.
        };
        let first = text.split(' ').next().unwrap_or_default();
        nanos += first.parse::<u64>().unwrap_or_default();
    }
    Ok(nanos as f64 / 1e9)
}
