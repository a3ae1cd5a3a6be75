//! Clusters of real `herenow` processes on this machine, with clients, and what must hold of them.
//!
//! Each scenario is a function here and a test in `cluster_<engine>.rs` for every engine.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use herenow_client::{Backoff, Client, ClientConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that tells no one when it changes.
const LOOK: Duration = Duration::from_millis(20);
const SECRET: &str = "the secret of these processes";
const HEARTBEAT: &str = "250ms";
const DOWN: Duration = Duration::from_millis(2_000);
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
    engine: Engine,
    port: u16,
    child: Child,
}

/// Three nodes, or as many of them as run.
pub(crate) struct Cluster {
    engine: Engine,
    broker: Option<Broker>,
    places: Vec<Place>,
}

/// Where a node is, whether it runs or not.
struct Place {
    name: String,
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
    task: JoinHandle<()>,
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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(sent.success());
}

impl Broker {
    fn start(engine: Engine, port: u16) -> Option<Self> {
        let number = port.to_string();
        let mut command = match engine {
            Engine::Zenoh => return None,
            Engine::Nats => {
                let mut nats = Command::new("nats-server");
                nats.args(["-a", "127.0.0.1", "-p", &number]);
                nats
            }
            Engine::Redis => {
                let mut redis = Command::new("redis-server");
                redis.args(["--bind", "127.0.0.1", "--port", &number]);
                redis.args(["--save", "", "--appendonly", "no"]);
                redis
            }
        };
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet.stderr(Stdio::null()).spawn().unwrap();
        Some(Self {
            engine,
            port,
            child,
        })
    }
}

impl Place {
    /// The program with these arguments, and without any configuration from this environment.
    fn start(&mut self, arguments: &[String]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herenow"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HERENOW_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("HERENOW_CLUSTER_SECRET", SECRET);
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
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
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

    async fn prepare(engine: Engine, names: &[&str]) -> Self {
        let broker = Broker::start(engine, free_port());
        if let Some(broker) = &broker {
            let listens = async {
                while TcpStream::connect(("127.0.0.1", broker.port))
                    .await
                    .is_err()
                {
                    sleep(LOOK).await;
                }
            };
            within("the broker listens", listens).await;
        }
        let place = |name: &&str| Place {
            name: (*name).to_owned(),
            port: free_port(),
            cluster_port: free_port(),
            node: None,
        };
        Self {
            engine,
            broker,
            places: names.iter().map(place).collect(),
        }
    }

    fn start_node(&mut self, at: usize, more: &[&str]) {
        let peer = |place: &Place| format!("tcp/127.0.0.1:{}", place.cluster_port);
        let own = &self.places[at];
        let listen = format!("127.0.0.1:{}", own.port);
        let down = format!("{}ms", DOWN.as_millis());
        let mut arguments = vec!["serve", "--listen", &listen, "--node", &own.name];
        arguments.extend(["--cluster-heartbeat-period", HEARTBEAT]);
        arguments.extend(["--cluster-down-period", &down, "--drain-total", "5s"]);
        arguments.extend(["--socket-close-timeout", "500ms"]);
        let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let port = self.broker.as_ref().map_or(0, |broker| broker.port);
        let engine = match self.engine {
            Engine::Zenoh => {
                let others = self.places.iter().filter(|place| place.name != own.name);
                for other in others {
                    arguments.extend(["--peers".to_owned(), peer(other)]);
                }
                vec!["zenoh".to_owned(), "--cluster-listen".to_owned(), peer(own)]
            }
            Engine::Nats => {
                let url = format!("nats://127.0.0.1:{port}");
                vec!["nats".to_owned(), "--nats-url".to_owned(), url]
            }
            Engine::Redis => {
                let url = format!("redis://127.0.0.1:{port}");
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
        let url = format!("ws://127.0.0.1:{}/socket", self.places[at].port);
        let client = within("connecting", Client::connect(&url, config))
            .await
            .unwrap();
        let joining = client.channel(TOPIC, &json!({ "user_id": name })).join();
        let channel = within("joining", joining).await.unwrap();
        let (changed, list) = watch::channel(BTreeSet::new());
        let task = tokio::spawn(async move {
            let _client = client; // It ends with its last handle.
            let mut presence = channel.into_presence();
            while presence.next().await.is_some() {
                let keys = presence.list().list().map(|(key, _)| key.to_string());
                changed.send_replace(keys.collect());
            }
        });
        User {
            name: name.to_owned(),
            list,
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
        let (_, body) = self.places[at].get("/api/cluster").await.unwrap();
        serde_json::from_str(&body).unwrap()
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
    cluster.start_node(0, &[]);
    cluster.start_node(1, &[]);
    cluster.places[0].ready().await;
    cluster.places[1].ready().await;
    let mut users = vec![cluster.join(0, "a0").await, cluster.join(1, "b0").await];
    until(&users, &names(&users)).await;
    cluster.start_node(2, &[]);
    cluster.places[2].ready().await;
    users.push(cluster.join(2, "c0").await);
    let mut first = users[2].list.clone();
    let complete = within("a first list", first.wait_for(|list| !list.is_empty())).await;
    assert_eq!(*complete.unwrap(), names(&users), "ready means complete");
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

/// A node that is killed takes its users with it and no one else's; under its old name it comes
/// back, and so do they.
pub(crate) async fn a_killed_node_takes_its_users_and_can_come_back(engine: Engine) {
    let mut cluster = Cluster::start(engine).await;
    let users = cluster.populate(5).await;
    let everybody = names(&users);
    let (rest, lost) = split(users, "c");
    signal(cluster.child(2), "-KILL");
    let killed = Instant::now();
    // Under load: somebody joins meanwhile.
    let late = cluster.join(0, "a-late").await;
    let mut here = names(&rest);
    here.insert(late.name.clone());
    until(&rest, &here).await;
    let took = killed.elapsed();
    eprintln!("{engine:?}: the users of a killed node were gone after {took:?}");
    assert!(took < DOWN + Duration::from_secs(5), "{took:?}");
    cluster.places[2].ended().await;
    cluster.start_node(2, &[]);
    let mut all = everybody;
    all.insert(late.name.clone());
    until(&rest, &all).await;
    until(&lost, &all).await;
}

/// A node that is stopped for longer than `down_period` is hidden, and back when it goes on.
pub(crate) async fn a_frozen_node_is_hidden_and_returns(engine: Engine) {
    let cluster = Cluster::start(engine).await;
    let users = cluster.populate(2).await;
    let everybody = names(&users);
    let (rest, frozen) = split(users, "c");
    signal(cluster.child(2), "-STOP");
    until(&rest, &names(&rest)).await;
    let late = cluster.join(1, "b-late").await;
    sleep(DOWN).await; // Frozen for longer than it would take the node for everybody else.
    signal(cluster.child(2), "-CONT");
    let mut all = everybody;
    all.insert(late.name.clone());
    let took = until(&rest, &all).await;
    until(&frozen, &all).await;
    eprintln!("{engine:?}: the users of a frozen node were back after {took:?}");
}

/// A node that is told to stop is gone at once everywhere, and exits with 0.
pub(crate) async fn a_graceful_stop_is_seen_at_once(engine: Engine) {
    let mut cluster = Cluster::start(engine).await;
    let users = cluster.populate(3).await;
    let (rest, _gone) = split(users, "c");
    signal(cluster.child(2), "-TERM");
    let took = until(&rest, &names(&rest)).await;
    eprintln!("{engine:?}: the users of a stopped node were gone after {took:?}");
    assert!(took < DOWN, "{took:?}: not by silence");
    assert_eq!(cluster.places[2].ended().await.code(), Some(0));
    let nodes = cluster.status(0).await["nodes"].clone();
    assert_eq!(nodes.as_array().unwrap().len(), 2, "{nodes}");
}

/// All three nodes are restarted one after the other while their users stay: nobody is lost, and
/// no ghost remains.
pub(crate) async fn a_rolling_restart_loses_nobody(engine: Engine) {
    let mut cluster = Cluster::start(engine).await;
    let users = cluster.populate(3).await;
    for at in 0..3 {
        signal(cluster.child(at), "-TERM");
        assert_eq!(cluster.places[at].ended().await.code(), Some(0));
        cluster.start_node(at, &[]);
        cluster.places[at].ready().await;
    }
    // A list is as it was while its client is not joined: somebody new shows that it is alive.
    let mut users = users;
    users.push(cluster.join(0, "witness").await);
    let took = until(&users, &names(&users)).await;
    eprintln!("{engine:?}: every list was right {took:?} after the last restart");
    for at in 0..3 {
        let status = cluster.status(at).await;
        let nodes = status["nodes"].as_array().unwrap();
        let n_rows: u64 = nodes
            .iter()
            .filter_map(|node| node["n_rows"].as_u64())
            .sum();
        assert_eq!(n_rows, 10, "no ghost: {status}");
        assert_eq!(nodes.len(), 3, "no earlier life: {status}");
    }
}

/// A broker that is killed and comes back is a partition that heals.
pub(crate) async fn a_restarted_broker_is_a_partition_that_heals(engine: Engine) {
    let mut cluster = Cluster::start(engine).await;
    let mut users = cluster.populate(2).await;
    let port = cluster.broker.take().unwrap().port; // Dropped, which kills it.
    for (at, name) in [(0, "a-cut"), (1, "b-cut"), (2, "c-cut")] {
        users.push(cluster.join(at, name).await);
    }
    let alone: BTreeSet<String> = ["a0", "a1", "a-cut"].map(str::to_owned).into();
    until(&users[..1], &alone).await;
    cluster.broker = Broker::start(engine, port);
    let took = until(&users, &names(&users)).await;
    eprintln!("{engine:?}: every list was right {took:?} after the broker began to start");
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
}
