//! [`Crowd`]: users who come, change, go and come back, and what each of them is shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use herenow_client::{Backoff, ChannelSender, Client, ClientConfig};
use oorandom::Rand32;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::backend::{Guest, evict};
use crate::faults::IMMORTAL;
use crate::nodes::Nodes;

/// How long a list may take to be right once nothing changes, or an answer to come. A client whose
/// node was gone tries again after five seconds at the latest.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a user waits for before they try something else.
const IMPATIENCE: Duration = Duration::from_secs(2);
const N_ROOMS: u32 = 4;

/// Who is shown, and with how many metas.
type List = BTreeMap<String, usize>;

pub(crate) struct Crowd {
    users: Vec<User>,
    n_wanted: usize,
    /// Names of those who left, most of whom come back.
    gone: Vec<String>,
    /// Those who were evicted while their node was frozen, which does not know of it yet.
    evicted: Vec<User>,
    n_evicted: usize,
    n_names: usize,
    n_acts: usize,
}

struct User {
    name: String,
    room: String,
    /// Which node they are on.
    at: usize,
    list: watch::Receiver<List>,
    sender: ChannelSender,
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for User {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Crowd {
    pub(crate) fn new(n_wanted: usize) -> Self {
        Self {
            users: Vec::new(),
            n_wanted,
            gone: Vec::new(),
            evicted: Vec::new(),
            n_evicted: 0,
            n_names: 0,
            n_acts: 0,
        }
    }

    /// Somebody comes, goes (in order, by losing their connection, or evicted), or changes their
    /// status.
    pub(crate) async fn do_something(&mut self, nodes: &Nodes, random: &mut Rand32) {
        self.n_acts += 1;
        let is_full = self.users.len() >= self.n_wanted;
        match random.rand_range(0..10) {
            0 if is_full => self.evict(nodes, random).await,
            1..3 if is_full => self.leave_in_order(random).await,
            3..5 if is_full => self.get_lost(random),
            0..5 => self.come(nodes, random).await,
            _ => self.change(random),
        }
    }

    /// A user joins on a node that is well.
    async fn come(&mut self, nodes: &Nodes, random: &mut Rand32) {
        let at = nodes.any_well(random);
        let is_back = !self.gone.is_empty() && random.rand_range(0..3) > 0;
        let name = if is_back {
            self.gone.swap_remove(pick(random, self.gone.len()))
        } else {
            self.n_names += 1;
            format!("user-{}", self.n_names)
        };
        let room = room(random);
        let url = format!("ws://{}/socket", nodes.url(at));
        match timeout(PATIENCE, User::join(&url, at, &name, &room)).await {
            Ok(Some(user)) => self.users.push(user),
            // Its node was full of something else for so long that the user gave up.
            Ok(None) => self.gone.push(name),
            Err(_) => panic!("{name} could not join {room} at {url} in {PATIENCE:?}"),
        }
    }

    async fn leave_in_order(&mut self, random: &mut Rand32) {
        let user = self.users.swap_remove(pick(random, self.users.len()));
        self.gone.push(user.name.clone());
        // Ends what the user does, and with it the channel.
        user.task.abort();
        let _in_time = timeout(IMPATIENCE, user.client.clone().disconnect()).await;
    }

    /// The backend makes somebody go who is connected: who is not may come back after it.
    async fn evict(&mut self, nodes: &Nodes, random: &mut Rand32) {
        let at = pick(random, self.users.len());
        if !self.users[at].is_connected(nodes).await {
            return;
        }
        let user = self.users.swap_remove(at);
        evict(nodes, nodes.any_well(random), &user.name).await;
        self.n_evicted += 1;
        self.evicted.push(user);
        self.evicted_have_gone(|user| nodes.is_well(user.at)).await;
    }

    /// Waits until these have been told to go, though they did not ask for it.
    async fn evicted_have_gone(&mut self, is_asked: impl Fn(&User) -> bool) {
        for mut user in self.evicted.extract_if(.., |user| is_asked(user)) {
            let ended = timeout(PATIENCE, &mut user.task).await;
            assert!(
                ended.is_ok(),
                "{} was evicted, and is still there",
                user.name
            );
            self.gone.push(user.name.clone());
        }
    }

    fn get_lost(&mut self, random: &mut Rand32) {
        let user = self.users.swap_remove(pick(random, self.users.len()));
        self.gone.push(user.name.clone());
    }

    fn change(&self, random: &mut Rand32) {
        if self.users.is_empty() {
            return;
        }
        let user = &self.users[pick(random, self.users.len())];
        let sender = user.sender.clone();
        let status = json!({ "status": format!("status {}", random.rand_u32()) });
        tokio::spawn(async move {
            // Its node may be gone; whether it went through is not what is asked.
            let _answered = timeout(IMPATIENCE, sender.push("status", &status)).await;
        });
    }

    /// Waits until every list is exactly who is there, with the backend's guests, and every socket
    /// has answered.
    pub(crate) async fn is_whole(&mut self, guests: &[Guest]) -> Duration {
        let began = Instant::now();
        self.evicted_have_gone(|_| true).await;
        for user in &self.users {
            let others = self.users.iter().filter(|other| other.room == user.room);
            let guests = guests.iter().filter(|guest| guest.room == user.room);
            let names = others.map(|other| other.name.clone());
            let names = names.chain(guests.map(|guest| guest.name.clone()));
            let expected: List = names.map(|name| (name, 1)).collect();
            let mut list = user.list.clone();
            let right = timeout(PATIENCE, list.wait_for(|list| *list == expected)).await;
            if !right.is_ok_and(|open| open.is_ok()) {
                let shown = user.list.borrow().clone();
                panic!(
                    "{} is shown {} in {} and not {}: too much {:?}, missing {:?}",
                    user.name,
                    shown.len(),
                    user.room,
                    expected.len(),
                    difference(&shown, &expected),
                    difference(&expected, &shown),
                );
            }
            let word = json!({ "still": "here" });
            let echo = timeout(PATIENCE, user.sender.push("echo", &word)).await;
            let answer = echo.unwrap_or_else(|_| panic!("{} gets no answer", user.name));
            assert!(answer.is_ok_and(|reply| reply.is_ok()), "{}", user.name);
        }
        began.elapsed()
    }

    /// How many there are, how much they did, and how many were evicted.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.users.len(), self.n_acts, self.n_evicted)
    }

    /// Everybody leaves.
    pub(crate) async fn leave(&mut self) {
        for user in self.users.drain(..) {
            user.task.abort();
            let _in_time = timeout(IMPATIENCE, user.client.clone().disconnect()).await;
        }
    }
}

impl User {
    /// Who is on a node that does not run is only if that node has always been there.
    async fn is_connected(&self, nodes: &Nodes) -> bool {
        if !nodes.is_well(self.at) {
            return self.at == IMMORTAL;
        }
        let word = json!({ "still": "here" });
        let echo = timeout(IMPATIENCE, self.sender.push("echo", &word)).await;
        echo.is_ok_and(|answer| answer.is_ok_and(|reply| reply.is_ok()))
    }

    /// Returns nobody if the node does not take them in.
    async fn join(url: &str, at: usize, name: &str, room: &str) -> Option<Self> {
        let mut config = ClientConfig::default();
        config.rejoin_after = Backoff::from_millis(&[100, 500], 1_000);
        let client = Client::connect(url, config).await.ok()?;
        let params = json!({ "user_id": name, "meta": { "device": "soak" } });
        let channel = client.channel(room, &params).join().await.ok()?;
        let sender = channel.sender();
        let (changed, list) = watch::channel(List::new());
        let task = tokio::spawn(async move {
            let mut presence = channel.into_presence();
            while presence.next().await.is_some() {
                let shown = presence.list().list();
                let shown = shown.map(|(key, entry)| (key.to_string(), entry.metas().len()));
                changed.send_replace(shown.collect());
            }
        });
        Some(Self {
            name: name.to_owned(),
            room: room.to_owned(),
            at,
            list,
            sender,
            client,
            task,
        })
    }
}

/// One of the rooms.
pub(crate) fn room(random: &mut Rand32) -> String {
    format!("room:soak-{}", random.rand_range(0..N_ROOMS))
}

fn difference(these: &List, those: &List) -> Vec<(String, usize)> {
    let missing = these
        .iter()
        .filter(|(key, n_metas)| those.get(*key) != Some(n_metas));
    missing
        .map(|(key, n_metas)| (key.clone(), *n_metas))
        .collect()
}

pub(crate) fn pick(random: &mut Rand32, len: usize) -> usize {
    let len = u32::try_from(len).unwrap();
    random.rand_range(0..len) as usize
}
