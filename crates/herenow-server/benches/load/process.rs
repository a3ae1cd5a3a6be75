//! [`Server`]: the released program as a process of its own, and what it takes.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use herenow_pubsub::conformance::reserve_port;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::until_some;

/// Of the kernel's clock, in which `/proc` tells CPU time: `getconf CLK_TCK`.
const TICKS_PER_SECOND: u64 = 100;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
}

/// Runs this program on the second core, if there is one and a way to say so.
pub(crate) fn take_the_second_core() {
    let own = std::process::id().to_string();
    if has_two_cores() {
        let _told = Command::new("taskset").args(["-pc", "1", &own]).output();
    }
}

fn has_two_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2)
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) async fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], reserve_port()));
        let server = Self {
            address,
            child: spawn(address),
        };
        server.is_ready().await;
        server
    }

    /// Kills it, and starts it at the same address.
    pub(crate) async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.address);
        self.is_ready().await;
    }

    async fn is_ready(&self) {
        until_some("the server is ready", || self.get("/readyz")).await;
    }

    /// Waits until so many presences are tracked.
    pub(crate) async fn has_presences(&self, n_presences: usize) {
        until_some("all are present", || async {
            let node: Value = serde_json::from_str(&self.get("/api/node").await?).ok()?;
            (node["n_presences"] == n_presences).then_some(())
        })
        .await;
    }

    /// Returns the body of an answer that is 200.
    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// Returns the CPU time that the server has spent so far, in user and in kernel.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name, which may have any character, is in parentheses; then the state and the rest.
        let rest = stat.rsplit_once(')').unwrap().1;
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
    }

    pub(crate) fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        rss.unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn(address: SocketAddr) -> Child {
    let program = env!("CARGO_BIN_EXE_herenow");
    let is_pinned = has_two_cores() && Command::new("taskset").arg("-V").output().is_ok();
    let mut command = if is_pinned {
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", "0", program]);
        pinned
    } else {
        Command::new(program)
    };
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HERENOW_")) {
        command.env_remove(name);
    }
    command.args(["serve", "--dev", "--listen", &address.to_string()]);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    quiet.stderr(Stdio::null()).spawn().unwrap()
}
