//! [`Room`]: clients of one topic on several nodes, each with the list that it has made of what it
//! was told, by the rules of the stock client.
//!
//! All clients are tasks of one thread. Who waits for all of them looks only when one has come to
//! the right number; when all have, the lists are compared with who is there, name by name.

#![allow(dead_code, reason = "each bench uses a part")]

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Formatter};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long anything may take before the run has failed.
const PATIENCE: Duration = Duration::from_secs(40);

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Some clients of one topic.
#[derive(Clone)]
pub(crate) struct Room(Rc<Inner>);

struct Inner {
    topic: &'static str,
    clients: RefCell<BTreeMap<String, Rc<Client>>>,
    /// How many are to be shown.
    goal: Cell<usize>,
    names: RefCell<Names>,
    /// Whom the clients look out for.
    expected: Cell<Option<u32>>,
    /// Told when a client has come to show as many.
    reached: Notify,
}

/// One client, and what it shows.
pub(crate) struct Client {
    name: String,
    node: SocketAddr,
    topic: &'static str,
    outgoing: mpsc::UnboundedSender<String>,
    /// Metas, since the first list has come: the number of the key, and the ref's hash.
    shown: RefCell<Option<HashSet<Meta>>>,
    n_shown: Cell<usize>,
    n_first: Cell<usize>,
    /// When whom the room looks out for was first shown.
    noticed: Cell<Option<Instant>>,
    listed: Notify,
    task: RefCell<Option<JoinHandle<()>>>,
    /// The ref of its join, and how often it has joined.
    life: Cell<u32>,
}

/// The number of a key, and the hash of a ref.
type Meta = (u32, u64);

/// Metas as they are told, by key.
struct Told<'a>(Vec<(&'a str, Entry<'a>)>);

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    metas: Vec<Ref<'a>>,
}

#[derive(Deserialize)]
struct Ref<'a> {
    #[serde(borrow)]
    phx_ref: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Diff<'a> {
    #[serde(borrow)]
    joins: Told<'a>,
    #[serde(borrow)]
    leaves: Told<'a>,
}

/// The refs of the join and of the message, the topic, the event, and what it carries.
type Frame<'a> = (IgnoredAny, IgnoredAny, IgnoredAny, &'a str, &'a RawValue);

impl<'de: 'a, 'a> Deserialize<'de> for Told<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Told<'de>;

            fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                formatter.write_str("metas by key")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Told<'de>, M::Error> {
                let mut told = Vec::with_capacity(map.size_hint().unwrap_or_default());
                while let Some((key, entry)) = map.next_entry::<&str, Entry<'de>>()? {
                    told.push((key, entry));
                }
                Ok(Told(told))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// Numbers for keys, the same for all clients.
#[derive(Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = u32::try_from(self.0.len()).unwrap();
        self.0.insert(name.to_owned(), number);
        number
    }
}

impl Room {
    pub(crate) fn new(topic: &'static str) -> Self {
        Self(Rc::new(Inner {
            topic,
            clients: RefCell::default(),
            goal: Cell::new(0),
            names: RefCell::default(),
            expected: Cell::new(None),
            reached: Notify::new(),
        }))
    }

    /// Connects a client to a node; it does not join yet.
    pub(crate) async fn connect(&self, node: SocketAddr, name: &str) -> Rc<Client> {
        let url = format!("ws://{node}/socket/websocket?vsn=2.0.0");
        let (stream, _) = connect_async(url).await.unwrap();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let client = Rc::new(Client {
            name: name.to_owned(),
            node,
            topic: self.0.topic,
            outgoing,
            shown: RefCell::default(),
            n_shown: Cell::new(0),
            n_first: Cell::new(0),
            noticed: Cell::new(None),
            listed: Notify::new(),
            task: RefCell::default(),
            life: Cell::new(1),
        });
        let conversation = converse(self.0.clone(), client.clone(), stream, queue);
        client
            .task
            .replace(Some(tokio::task::spawn_local(conversation)));
        let mut clients = self.0.clients.borrow_mut();
        clients.insert(client.name.clone(), client.clone());
        client
    }

    /// Ends a client as one ends whose window is closed.
    pub(crate) fn disconnect(&self, client: &Client) {
        self.forsake(client);
        if let Some(task) = client.task.take() {
            task.abort();
        }
    }

    /// Does not look at a client any more, nor count on it.
    pub(crate) fn forsake(&self, client: &Client) {
        self.0.clients.borrow_mut().remove(&client.name);
    }

    /// Waits until there are so many clients, and each shows exactly those.
    pub(crate) async fn holds(&self, n_clients: usize) {
        self.0.goal.set(n_clients);
        let is_so = async {
            while !self.is_complete(n_clients) {
                self.0.reached.notified().await;
            }
        };
        if timeout(PATIENCE, is_so).await.is_err() {
            let clients = self.0.clients.borrow();
            let shown: Vec<_> = clients
                .values()
                .map(|client| client.n_shown.get())
                .collect();
            panic!(
                "{} of {n_clients} clients, who show {shown:?}",
                clients.len()
            );
        }
    }

    fn is_complete(&self, n_clients: usize) -> bool {
        let clients = self.0.clients.borrow();
        let mut each = clients.values();
        // Counting is cheap and done often; the names are compared once the numbers are right.
        clients.len() == n_clients
            && each.all(|client| client.n_shown.get() == n_clients)
            && self.names_are_right(&clients)
    }

    fn names_are_right(&self, clients: &BTreeMap<String, Rc<Client>>) -> bool {
        let mut names = self.0.names.borrow_mut();
        let numbers = clients.keys().map(|name| names.number(name)).collect();
        clients.values().all(|client| client.shows(&numbers))
    }

    /// Has the clients note when they are told of this one.
    pub(crate) fn look_out_for(&self, client: &Client) {
        let number = self.0.names.borrow_mut().number(&client.name);
        self.0.expected.set(Some(number));
        let clients = self.0.clients.borrow();
        clients.values().for_each(|client| client.noticed.set(None));
    }

    /// Returns how long after `began` the clients of other nodes than this one's were told of it.
    pub(crate) fn noticed(&self, client: &Client, began: Instant) -> Vec<Duration> {
        let clients = self.0.clients.borrow();
        let watchers = clients.values().filter(|other| other.node != client.node);
        let noticed = watchers.map(|watcher| watcher.noticed.get().unwrap().duration_since(began));
        noticed.collect()
    }

    /// Has a client leave the topic and stay connected; nobody counts on it until it is back.
    pub(crate) fn leave(&self, name: &str) -> Rc<Client> {
        let client = self.0.clients.borrow_mut().remove(name).unwrap();
        client.shown.replace(None);
        client.n_shown.set(0);
        client.say("phx_leave", "{}");
        client
    }

    /// Has a client that left join again.
    pub(crate) fn come_back(&self, client: Rc<Client>) {
        client.life.set(client.life.get() + 1);
        client.join();
        self.0
            .clients
            .borrow_mut()
            .insert(client.name.clone(), client);
    }

    /// Ends all clients.
    pub(crate) fn close(&self) {
        let clients = std::mem::take(&mut *self.0.clients.borrow_mut());
        clients.values().for_each(|client| self.disconnect(client));
    }
}

impl Client {
    /// Joins the topic as the user of its name.
    pub(crate) fn join(&self) {
        self.say("phx_join", &format!(r#"{{"user_id":"{}"}}"#, self.name));
    }

    fn say(&self, event: &str, payload: &str) {
        let (topic, life) = (self.topic, self.life.get());
        let message = format!(r#"["{life}","1","{topic}","{event}",{payload}]"#);
        self.outgoing.send(message).unwrap();
    }

    /// Waits for the first list.
    pub(crate) async fn has_list(&self) {
        while self.shown.borrow().is_none() {
            self.listed.notified().await;
        }
    }

    /// Returns how many were in the first list.
    pub(crate) fn n_first(&self) -> usize {
        self.n_first.get()
    }

    /// Whether it shows each of these once, and nobody else.
    fn shows(&self, numbers: &HashSet<u32>) -> bool {
        let shown = self.shown.borrow();
        shown.as_ref().is_some_and(|shown| {
            let keys: HashSet<u32> = shown.iter().map(|(key, _)| *key).collect();
            shown.len() == numbers.len() && keys == *numbers
        })
    }

    fn take_in(&self, room: &Inner, frame: &str) {
        let (_, _, _, event, payload): Frame<'_> = serde_json::from_str(frame).unwrap();
        match event {
            // Of before it left, or the answer to that.
            "phx_close" | "presence_diff" if self.shown.borrow().is_none() => {}
            "presence_state" => self.begin(room, serde_json::from_str(payload.get()).unwrap()),
            "presence_diff" => self.follow(room, serde_json::from_str(payload.get()).unwrap()),
            "phx_reply" => {
                let is_ok = payload.get().contains(r#""status":"ok""#);
                assert!(is_ok, "{}: {}", self.name, payload.get());
            }
            other => panic!("{} was told of {other}", self.name),
        }
    }

    fn begin(&self, room: &Inner, state: Told<'_>) {
        let before = self.shown.replace(Some(HashSet::new()));
        assert!(before.is_none(), "{} got a second list", self.name);
        self.n_first.set(state.0.len());
        let leaves = Told(Vec::new());
        self.follow(
            room,
            Diff {
                joins: state,
                leaves,
            },
        );
        self.listed.notify_one();
    }

    fn follow(&self, room: &Inner, diff: Diff<'_>) {
        let mut shown = self.shown.borrow_mut();
        let shown = shown.as_mut().expect("a list comes before what changes it");
        let mut names = room.names.borrow_mut();
        let mut metas = |told: Told<'_>| -> Vec<Meta> {
            let entries = told
                .0
                .into_iter()
                .map(|(key, entry)| (names.number(key), entry));
            let metas = entries.flat_map(|(number, entry)| {
                let refs = entry.metas.into_iter();
                refs.map(move |meta| (number, hash_of(&meta.phx_ref)))
            });
            metas.collect()
        };
        for meta in metas(diff.joins) {
            if room.expected.get() == Some(meta.0) && self.noticed.get().is_none() {
                self.noticed.set(Some(Instant::now()));
            }
            assert!(shown.insert(meta), "{}: a meta joined twice", self.name);
        }
        for meta in metas(diff.leaves) {
            assert!(
                shown.remove(&meta),
                "{}: a meta left that was not there",
                self.name
            );
        }
        self.n_shown.set(shown.len());
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Reads and writes for one client until its connection ends.
async fn converse(
    room: Rc<Inner>,
    client: Rc<Client>,
    mut stream: Stream,
    mut queue: mpsc::UnboundedReceiver<String>,
) {
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    client.take_in(&room, &text);
                    if client.n_shown.get() == room.goal.get() {
                        room.reached.notify_one();
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return, // Closed, or its node is gone.
            },
            Some(frame) = queue.recv() => {
                if stream.send(Message::text(frame)).await.is_err() {
                    return;
                }
            }
        }
    }
}
