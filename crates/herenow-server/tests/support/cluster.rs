//! Clusters of real `herenow` processes on this machine, with clients, and what must hold of them.
//!
//! Each scenario is a function here and a test in `cluster_<engine>.rs` for every engine.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod network;
mod cuts;
mod faults;
mod hooks;
mod graces;
mod stops;
mod tellers;
pub(crate) mod tls;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use herenow_client::{Backoff, ChannelSender, Client, ClientConfig, PresenceEvent};
use herenow_pubsub::conformance::reserve_port;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub(crate) use self::cuts::*;
pub(crate) use self::faults::*;
pub(crate) use self::graces::*;
use self::network::{Machine, Network};
pub(crate) use self::stops::*;
pub(crate) use self::tellers::*;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that tells no one when it changes.
const LOOK: Duration = Duration::from_millis(20);
const SECRET: &str = "the secret of these processes";
/// A node on a machine of its own answers to those with a key only.
const API_KEY: &str = "the-key-of-the-test-of-these-processes";
const HEARTBEAT: Duration = Duration::from_millis(250);
/// So long that a process that gets no processor for a while is not taken for gone.
const DOWN: Duration = Duration::from_secs(4);
const TOPIC: &str = "room:cluster";

/// What carries messages between the nodes of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Zenoh,
    Nats,
    Redis,
}

/// A broker as a process; zenoh has none.
struct Broker {
    address: Ipv4Addr,
    port: u16,
    child: Child,
}

/// Three nodes, or as many of them as run.
pub(crate) struct Cluster {
    engine: Engine,
    broker: Option<Broker>,
    places: Vec<Place>,
    /// What an address between zenoh nodes begins with: `tcp` or `tls`.
    scheme: &'static str,
    /// Dropped last: what runs on its machines has ended then.
    network: Option<Network>,
    /// These two are of the nodes that are started from now on.
    heartbeat_period: Duration,
    down_period: Duration,
}

/// Where a node is, whether it runs or not.
struct Place {
    name: String,
    /// The loopback, or the address of the node's own machine.
    machine: Machine,
    port: u16,
    cluster_port: u16,
    node: Option<Node>,
}

/// A node as a process.
struct Node {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// Somebody who is there, as far as their client can hold the connection.
pub(crate) struct User {
    name: String,
    list: watch::Receiver<BTreeSet<String>>,
    sender: ChannelSender,
    /// Whom its client was told of: `+` came, `-` went, as a key.
    told: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl User {
    /// Waits for the first list, and asserts that it is this one.
    async fn sees_at_first(&self, expected: &BTreeSet<String>) {
        let mut list = self.list.clone();
        let first = within("a first list", list.wait_for(|list| !list.is_empty())).await;
        assert_eq!(*first.unwrap(), *expected, "ready means complete");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(|lock| lock.into_inner());
            eprintln!("--- log of process {}\n{}", self.child.id(), log.join("\n"));
        }
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(sent.success());
}

impl Broker {
    /// Starts the engine's broker on a machine; zenoh has none.
    fn start(engine: Engine, machine: Machine, port: u16) -> Option<Self> {
        let (address, number) = (machine.address(), port.to_string());
        let host = address.to_string();
        let mut command = match engine {
            Engine::Zenoh => return None,
            Engine::Nats => {
                let mut nats = machine.command("nats-server");
                nats.args(["-a", &host, "-p", &number]);
                nats
            }
            Engine::Redis => {
                let mut redis = machine.command("redis-server");
                redis.args(["--bind", &host, "--port", &number]);
                redis.args(["--save", "", "--appendonly", "no"]);
                redis.args(["--protected-mode", "no"]);
                redis
            }
        };
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet.stderr(Stdio::null()).spawn().unwrap();
        Some(Self {
            address,
            port,
            child,
        })
    }

    async fn listens(&self) {
        let listens = async {
            while TcpStream::connect((self.address, self.port)).await.is_err() {
                sleep(LOOK).await;
            }
        };
        within("the broker listens", listens).await;
    }
}

impl Place {
    /// The program with these arguments, and without any configuration from this environment.
    fn start(&mut self, arguments: &[String]) {
        let mut command = self.machine.command(env!("CARGO_BIN_EXE_herenow"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HERENOW_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("HERENOW_CLUSTER_SECRET", SECRET)
            .env("HERENOW_API_KEYS", format!("test:write:{API_KEY}"));
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = quiet.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        self.node = Some(Node { child, log });
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        self.ask("GET", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        self.send(method, path, "").await
    }

    /// The same with a body in JSON.
    async fn send(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect((self.machine.address(), self.port))
            .await
            .ok()?;
        let n_bytes = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {API_KEY}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {n_bytes}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    async fn ready(&self) {
        let ready = async {
            while self
                .get("/readyz")
                .await
                .is_none_or(|(status, _)| status != 200)
            {
                sleep(LOOK).await;
            }
        };
        within(&format!("{} is ready", self.name), ready).await;
    }

    /// The lines of the log so far.
    fn log(&self) -> Vec<String> {
        self.node.as_ref().unwrap().log.lock().unwrap().clone()
    }

    /// Waits until a line of the log has this text.
    async fn logs(&self, text: &str) {
        let log = self.node.as_ref().unwrap().log.clone();
        let found = async {
            while !log.lock().unwrap().iter().any(|line| line.contains(text)) {
                sleep(LOOK).await;
            }
        };
        within(&format!("{} logs {text:?}", self.name), found).await;
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut node = self.node.take().unwrap();
        let ended = async {
            loop {
                if let Some(status) = node.child.try_wait().unwrap() {
                    return status;
                }
                sleep(LOOK).await;
            }
        };
        within("the process ends", ended).await
    }
}

/// Waits, but not for ever.
async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let done = timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("it took too long: {what}"))
}

fn names(users: &[User]) -> BTreeSet<String> {
    users.iter().map(|user| user.name.clone()).collect()
}

impl Cluster {
    /// Starts three nodes, `a`, `b` and `c`, and waits until each says that it is ready.
    pub(crate) async fn start(engine: Engine) -> Self {
        let mut cluster = Self::prepare(engine, &["a", "b", "c"]).await;
        for at in 0..3 {
            cluster.start_node(at, &[]);
        }
        for place in &cluster.places {
            place.ready().await;
        }
        cluster
    }

    /// The broker runs, and the nodes have places on this machine.
    async fn prepare(engine: Engine, names: &[&str]) -> Self {
        let here = vec![Machine::Here; names.len() + 1];
        Self::prepare_on(engine, names, &here).await
    }

    /// The same with a machine for each node, and a last one for the broker.
    async fn prepare_on(engine: Engine, names: &[&str], machines: &[Machine]) -> Self {
        let broker = Broker::start(engine, machines[names.len()], reserve_port());
        if let Some(broker) = &broker {
            broker.listens().await;
        }
        let place = |(name, machine): (&&str, &Machine)| Place {
            name: (*name).to_owned(),
            machine: *machine,
            port: reserve_port(),
            cluster_port: reserve_port(),
            node: None,
        };
        Self {
            engine,
            broker,
            places: names.iter().zip(machines).map(place).collect(),
            scheme: "tcp",
            network: None,
            heartbeat_period: HEARTBEAT,
            down_period: DOWN,
        }
    }

    /// Starts the first two nodes, and has a user join on each: `a0` and `b0`.
    async fn begin_with_two(&mut self) -> Vec<User> {
        self.start_node(0, &[]);
        self.start_node(1, &[]);
        self.places[0].ready().await;
        self.places[1].ready().await;
        let users = vec![self.join(0, "a0").await, self.join(1, "b0").await];
        until(&users, &names(&users)).await;
        users
    }

    /// Starts a node; `more` are further arguments.
    fn start_node(&mut self, at: usize, more: &[&str]) {
        let peer = |place: &Place| {
            format!(
                "{}/{}:{}",
                self.scheme,
                place.machine.address(),
                place.cluster_port
            )
        };
        let own = &self.places[at];
        let listen = format!("{}:{}", own.machine.address(), own.port);
        let heartbeat = format!("{}ms", self.heartbeat_period.as_millis());
        let down = format!("{}ms", self.down_period.as_millis());
        let mut arguments = vec!["serve", "--dev", "--listen", &listen, "--node", &own.name];
        arguments.extend(["--cluster-heartbeat-period", &heartbeat]);
        arguments.extend(["--cluster-down-period", &down, "--drain-total", "5s"]);
        arguments.extend(["--socket-close-timeout", "500ms"]);
        let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let broker = self.broker.as_ref();
        let at_broker = broker.map(|broker| format!("{}:{}", broker.address, broker.port));
        let at_broker = at_broker.unwrap_or_default();
        let engine = match self.engine {
            Engine::Zenoh => {
                // Over a network all have the first in common, and find each other through it.
                let given = self.places.iter().enumerate();
                let given = given.filter(|(n, _)| *n != at && (*n == 0 || self.network.is_none()));
                for (_, other) in given {
                    arguments.extend(["--peers".to_owned(), peer(other)]);
                }
                vec!["zenoh".to_owned(), "--cluster-listen".to_owned(), peer(own)]
            }
            Engine::Nats => {
                let url = format!("nats://{at_broker}");
                vec!["nats".to_owned(), "--nats-url".to_owned(), url]
            }
            Engine::Redis => {
                let url = format!("redis://{at_broker}");
                vec!["redis".to_owned(), "--redis-url".to_owned(), url]
            }
        };
        arguments.push("--cluster".to_owned());
        arguments.extend(engine);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        self.places[at].start(&arguments);
    }

    fn child(&self, at: usize) -> &Child {
        &self.places[at].node.as_ref().unwrap().child
    }

    /// Joins the topic on a node.
    async fn join(&self, at: usize, name: &str) -> User {
        let mut config = ClientConfig::default();
        config.reconnect_after = Backoff::from_millis(&[10, 50], 100);
        config.rejoin_after = Backoff::from_millis(&[50], 200);
        let place = &self.places[at];
        let url = format!("ws://{}:{}/socket", place.machine.address(), place.port);
        let client = within("connecting", Client::connect(&url, config))
            .await
            .unwrap();
        let joining = client.channel(TOPIC, &json!({ "user_id": name })).join();
        let channel = within("joining", joining).await.unwrap();
        let sender = channel.sender();
        let (changed, list) = watch::channel(BTreeSet::new());
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = told.clone();
        let task = tokio::spawn(async move {
            let _client = client; // It ends with its last handle.
            let mut presence = channel.into_presence();
            while let Some(event) = presence.next().await {
                match event {
                    PresenceEvent::Joined {
                        key, first: true, ..
                    } => heard.lock().unwrap().push(format!("+{key}")),
                    PresenceEvent::Left {
                        key, last: true, ..
                    } => heard.lock().unwrap().push(format!("-{key}")),
                    _ => {}
                }
                let keys = presence.list().list().map(|(key, _)| key.to_string());
                changed.send_replace(keys.collect());
            }
        });
        User {
            name: name.to_owned(),
            list,
            sender,
            told,
            task,
        }
    }

    /// Several users on each node: `a0`, `a1`, … on the first.
    async fn populate(&self, n_each: usize) -> Vec<User> {
        let mut users = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            for n in 0..n_each {
                users.push(self.join(at, &format!("{}{n}", place.name)).await);
            }
        }
        until(&users, &names(&users)).await;
        users
    }

    async fn status(&self, at: usize) -> Value {
        self.status_if_up(at).await.unwrap()
    }

    async fn status_if_up(&self, at: usize) -> Option<Value> {
        let (_, body) = self.places[at].get("/api/cluster").await?;
        Some(serde_json::from_str(&body).unwrap())
    }

    /// Waits until a node, which may be about to start, knows so many nodes, itself included.
    async fn knows(&self, at: usize, n_nodes: usize) {
        let n_known = |status: Value| status["nodes"].as_array().unwrap().len();
        let knows = async {
            while self.status_if_up(at).await.map(n_known) != Some(n_nodes) {
                sleep(LOOK).await;
            }
        };
        within(&format!("node {at} knows {n_nodes} nodes"), knows).await;
    }
}

/// Waits until each of these users sees exactly this list; returns how long it took.
async fn until(users: &[User], expected: &BTreeSet<String>) -> Duration {
    let began = Instant::now();
    for user in users {
        let mut list = user.list.clone();
        let waiting = timeout(PATIENCE, list.wait_for(|list| list == expected));
        let met = waiting.await.is_ok_and(|closed| closed.is_ok());
        let seen = user.list.borrow().clone();
        assert!(
            met,
            "{} sees {seen:?} and not {expected:?} after {:?}",
            user.name,
            began.elapsed()
        );
    }
    began.elapsed()
}

fn split(mut users: Vec<User>, node: &str) -> (Vec<User>, Vec<User>) {
    let there = users
        .extract_if(.., |user| user.name.starts_with(node))
        .collect();
    (users, there)
}

/// Three nodes, the third a newcomer: every join is seen everywhere, and a newcomer that is ready
/// has everybody.
pub(crate) async fn joins_are_seen_everywhere(engine: Engine) {
    let mut cluster = Cluster::prepare(engine, &["a", "b", "c"]).await;
    let mut users = cluster.begin_with_two().await;
    cluster.start_node(2, &[]);
    cluster.places[2].ready().await;
    users.push(cluster.join(2, "c0").await);
    users[2].sees_at_first(&names(&users)).await;
    until(&users, &names(&users)).await;
    users.push(cluster.join(0, "a1").await);
    let took = until(&users, &names(&users)).await;
    eprintln!("{engine:?}: a join was everywhere after {took:?}");
    drop(users.remove(0));
    until(&users, &names(&users)).await;
    check_status(&cluster).await;
}

async fn check_status(cluster: &Cluster) {
    let status = cluster.status(0).await;
    assert_eq!(
        (&status["node"], &status["ready"]),
        (&json!("a"), &json!(true))
    );
    assert_eq!(status["authenticated"], json!(true));
    let nodes = status["nodes"].as_array().unwrap();
    let seen: Vec<_> = nodes.iter().map(|n| (&n["node"], &n["state"])).collect();
    let (up, [a, b, c]) = (json!("up"), ["a", "b", "c"].map(|name| json!(name)));
    assert_eq!(seen, [(&a, &up), (&b, &up), (&c, &up)]);
    assert!(nodes.iter().all(|node| node["lag"] == 0), "{status}");
    assert_eq!(status["refused"], json!([]));
}

/// A node with another secret, or another number of shards, is refused, and both sides say so.
pub(crate) async fn strangers_are_refused_and_told(engine: Engine) {
    let mut cluster = Cluster::prepare(engine, &["a", "b", "c"]).await;
    let quick = ["--cluster-ready-timeout", "0s"];
    cluster.start_node(0, &quick);
    let secret = ["--cluster-secret", "another secret, just as long"];
    cluster.start_node(1, &[quick, secret].concat());
    cluster.start_node(2, &[quick, ["--presence-n-shards", "32"]].concat());
    let [a, b, c] = &cluster.places[..] else {
        panic!("there are three");
    };
    a.logs("its cluster secret is another one").await;
    b.logs("its cluster secret is another one").await;
    a.logs("presence.n_shards is 32 there and 64 here").await;
    c.logs("presence.n_shards is 64 there and 32 here").await;
    a.ready().await;
    let status = cluster.status(0).await;
    let refused = status["refused"].as_array().unwrap();
    let refused: Vec<_> = refused
        .iter()
        .filter_map(|peer| peer["node"].as_str())
        .collect();
    assert_eq!(refused, ["b", "c"]);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 1);
    let metrics = cluster.places[0].get("/metrics").await.unwrap().1;
    assert!(
        metrics.contains("\nherenow_peers_refused 2.0\n"),
        "{metrics}"
    );
}
