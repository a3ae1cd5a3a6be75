//! [`Crowd`]: users who come, change, go and come back, and what each of them is shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use herenow_client::{Backoff, ChannelSender, Client, ClientConfig};
use oorandom::Rand32;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

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
    n_names: usize,
    n_acts: usize,
}

struct User {
    name: String,
    room: String,
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
            n_names: 0,
            n_acts: 0,
        }
    }

    /// Somebody comes, goes (in order or by losing their connection), or changes their status.
    pub(crate) async fn do_something(&mut self, nodes: &Nodes, random: &mut Rand32) {
        self.n_acts += 1;
        let is_full = self.users.len() >= self.n_wanted;
        match random.rand_range(0..10) {
            0..3 if is_full => self.leave_in_order(random).await,
            3..5 if is_full => self.get_lost(random),
            0..5 => self.come(nodes, random).await,
            _ => self.change(random),
        }
    }

    /// A user joins on a node that is well.
    async fn come(&mut self, nodes: &Nodes, random: &mut Rand32) {
        let well: Vec<usize> = (0..nodes.len()).filter(|&at| nodes.is_well(at)).collect();
        let node = well[pick(random, well.len())];
        let is_back = !self.gone.is_empty() && random.rand_range(0..3) > 0;
        let name = if is_back {
            self.gone.swap_remove(pick(random, self.gone.len()))
        } else {
            self.n_names += 1;
            format!("user-{}", self.n_names)
        };
        let room = format!("room:soak-{}", random.rand_range(0..N_ROOMS));
        let url = format!("ws://{}/socket", nodes.url(node));
        match timeout(PATIENCE, User::join(&url, &name, &room)).await {
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

    /// Waits until every list is exactly who is there, and every socket has answered.
    pub(crate) async fn is_whole(&self) -> Duration {
        let began = Instant::now();
        for user in &self.users {
            let others = self.users.iter().filter(|other| other.room == user.room);
            let expected: List = others.map(|other| (other.name.clone(), 1)).collect();
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

    /// How many there are, and how much they did.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.users.len(), self.n_acts)
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
    /// Returns nobody if the node does not take them in.
    async fn join(url: &str, name: &str, room: &str) -> Option<Self> {
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
            list,
            sender,
            client,
            task,
        })
    }
}

fn difference(these: &List, those: &List) -> Vec<(String, usize)> {
    let missing = these
        .iter()
        .filter(|(key, n_metas)| those.get(*key) != Some(n_metas));
    missing
        .map(|(key, n_metas)| (key.clone(), *n_metas))
        .collect()
}

fn pick(random: &mut Rand32, len: usize) -> usize {
    let len = u32::try_from(len).unwrap();
    random.rand_range(0..len) as usize
}
