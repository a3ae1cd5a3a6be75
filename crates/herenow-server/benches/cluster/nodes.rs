//! [`Nodes`]: three places for nodes of one cluster, each a process, and the broker they need.

#![allow(dead_code, reason = "each bench uses a part")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use herenow_pubsub::conformance::reserve_port;
use oorandom::Rand32;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long a process may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(2);
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// What carries messages between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Zenoh,
    Nats,
    Redis,
}

impl Engine {
    pub(crate) const ALL: [Self; 3] = [Self::Zenoh, Self::Nats, Self::Redis];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zenoh => "zenoh",
            Self::Nats => "NATS",
            Self::Redis => "Redis",
        }
    }

    /// The word for it on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Zenoh => "zenoh",
            Self::Nats => "nats",
            Self::Redis => "redis",
        }
    }
}

/// A process that ends with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

struct Place {
    port: u16,
    cluster_port: u16,
    is_frozen: bool,
    process: Option<Process>,
}

/// The processes of the nodes that run, for who looks at them from outside.
pub(crate) type Pids = Arc<Mutex<[Option<u32>; NAMES.len()]>>;

/// A cluster of up to three nodes.
pub(crate) struct Nodes {
    engine: Engine,
    places: Vec<Place>,
    pids: Pids,
    broker_port: u16,
    _broker: Option<Process>,
}

fn spawn(command: &mut Command) -> Process {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = quiet.stderr(Stdio::null()).spawn();
    Process(child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
}

fn start_broker(engine: Engine, port: u16) -> Option<Process> {
    let port = port.to_string();
    let mut command = match engine {
        Engine::Zenoh => return None,
        Engine::Nats => {
            let mut nats = Command::new("nats-server");
            nats.args(["-a", "127.0.0.1", "-p", &port]);
            nats
        }
        Engine::Redis => {
            let mut redis = Command::new("redis-server");
            redis.args(["--bind", "127.0.0.1", "--port", &port]);
            redis.args(["--save", "", "--appendonly", "no"]);
            redis
        }
    };
    // Debian keeps servers where only root looks for programs.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin"));
    Some(spawn(&mut command))
}

async fn listens(port: u16) {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "nothing listens on port {port}");
        sleep(LOOK).await;
    }
}

impl Nodes {
    /// Starts the broker, if the engine has one.
    pub(crate) async fn prepare(engine: Engine) -> Self {
        let broker_port = reserve_port();
        let broker = start_broker(engine, broker_port);
        if broker.is_some() {
            listens(broker_port).await;
        }
        let place = |_: &&str| Place {
            port: reserve_port(),
            cluster_port: reserve_port(),
            is_frozen: false,
            process: None,
        };
        Self {
            engine,
            places: NAMES.iter().map(place).collect(),
            pids: Pids::default(),
            broker_port,
            _broker: broker,
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// Starts a node with the settings that everybody has, and a secret.
    pub(crate) fn start(&mut self, at: usize) {
        let link = |place: &Place| format!("tcp/127.0.0.1:{}", place.cluster_port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_herenow"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HERENOW_")) {
            command.env_remove(name);
        }
        command.env("HERENOW_CLUSTER_SECRET", "a secret of these nodes only");
        let listen = format!("127.0.0.1:{}", self.places[at].port);
        command.args(["serve", "--dev", "--listen", &listen, "--node", NAMES[at]]);
        command.args(["--cluster", self.engine.word()]);
        match self.engine {
            Engine::Zenoh => {
                command.args(["--cluster-listen", &link(&self.places[at])]);
                // All name the first: one link for each pair, and the first waits for nobody.
                if at > 0 {
                    command.args(["--peers", &link(&self.places[0])]);
                }
            }
            Engine::Nats => {
                let url = format!("nats://127.0.0.1:{}", self.broker_port);
                command.args(["--nats-url", &url]);
            }
            Engine::Redis => {
                let url = format!("redis://127.0.0.1:{}", self.broker_port);
                command.args(["--redis-url", &url]);
            }
        }
        let process = spawn(&mut command);
        self.pids.lock()[at] = Some(process.0.id());
        self.places[at].process = Some(process);
    }

    /// Waits until a node says that it is ready.
    pub(crate) async fn is_ready(&self, at: usize) {
        let began = Instant::now();
        while self.readiness(at).await != Some(200) {
            assert!(
                began.elapsed() < PATIENCE,
                "node {} is not ready",
                NAMES[at]
            );
            sleep(LOOK).await;
        }
    }

    async fn readiness(&self, at: usize) -> Option<u16> {
        let answer = self.get(at, "/readyz").await?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    async fn get(&self, at: usize, path: &str) -> Option<String> {
        self.ask(at, "GET", path, "").await
    }

    /// Returns the answer of a node, with its head. A `body` is JSON.
    pub(crate) async fn ask(
        &self,
        at: usize,
        method: &str,
        path: &str,
        body: &str,
    ) -> Option<String> {
        let mut stream = TcpStream::connect(self.url(at)).await.ok()?;
        let n_bytes = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {n_bytes}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// Ends a node without a word.
    pub(crate) fn kill(&mut self, at: usize) {
        self.pids.lock()[at] = None;
        self.places[at].process = None;
    }

    /// Asks a node to stop, and does not wait for it.
    pub(crate) fn stop(&self, at: usize) {
        self.signal(at, "-TERM");
    }

    /// Waits until a node that was asked to stop has ended, in order.
    pub(crate) async fn has_ended(&mut self, at: usize) {
        let mut process = self.places[at].process.take().unwrap();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = process.0.try_wait().unwrap() {
                break status;
            }
            let name = NAMES[at];
            assert!(began.elapsed() < PATIENCE, "node {name} does not end");
            sleep(LOOK).await;
        };
        assert!(status.success(), "node {} ended with {status}", NAMES[at]);
        self.pids.lock()[at] = None;
    }

    /// Has the system not run a node.
    pub(crate) fn freeze(&mut self, at: usize) {
        self.signal(at, "-STOP");
        self.places[at].is_frozen = true;
    }

    /// Has the system run a node that was frozen.
    pub(crate) fn thaw(&mut self, at: usize) {
        self.signal(at, "-CONT");
        self.places[at].is_frozen = false;
    }

    fn signal(&self, at: usize, name: &str) {
        let process = self.places[at].process.as_ref().unwrap();
        let pid = process.0.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Any node that is well.
    pub(crate) fn any_well(&self, random: &mut Rand32) -> usize {
        let well: Vec<usize> = (0..self.len()).filter(|&at| self.is_well(at)).collect();
        let n_well = u32::try_from(well.len()).unwrap();
        well[random.rand_range(0..n_well) as usize]
    }

    /// Whether a node runs.
    pub(crate) fn is_well(&self, at: usize) -> bool {
        let place = &self.places[at];
        place.process.is_some() && !place.is_frozen
    }

    pub(crate) fn pids(&self) -> Pids {
        self.pids.clone()
    }

    /// Waits until no node has a presence or a socket any more.
    pub(crate) async fn are_empty(&self) {
        for (at, name) in NAMES.iter().enumerate() {
            let began = Instant::now();
            loop {
                let answer = self.get(at, "/api/node").await.unwrap_or_default();
                let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
                let node: Value = serde_json::from_str(body).unwrap_or_default();
                if node["n_presences"] == 0 && node["n_sockets"] == 0 {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "node {name} still has {node}");
                sleep(LOOK).await;
            }
        }
    }

    pub(crate) fn url(&self, at: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.places[at].port))
    }
}
