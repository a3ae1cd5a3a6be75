//! `crowd room`: one room of very many, whose clients ask for modes and so get counts and a sample,
//! while people come and go; a few stock clients follow the whole list; another reads it by page.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::follower::Follower;
use super::meter::{mib, percentile, resident, until};
use super::server::{self, Server, WAVE};

const ROOM: &str = "room:crowd";
/// People who come, and as many who go, each second; in small rooms a tenth of the room.
const MAX_RATE: usize = 1_000;
const N_STOCK: usize = 5;
/// What a client sends that asks for modes.
const MODES: &str = r#","presence":{"modes":true}"#;

/// Somebody who is in the room, or about to be.
struct Member {
    user: usize,
    client: Client,
}

struct Room {
    server: Server,
    /// Who has been there longest is first.
    members: VecDeque<Member>,
    joining: Vec<(Instant, Member)>,
    /// Connections of those who come next.
    ready: VecDeque<Client>,
    stock: Vec<(Client, Follower)>,
    n_users: usize,
    /// Join to reply.
    times: Vec<Duration>,
    /// The member to be read next.
    at: usize,
    n_counts: usize,
}

pub(crate) fn run(n: usize, seconds: u32) -> anyhow::Result<()> {
    let mut config = server::config();
    let big = &mut config.presence.big_room;
    big.summary_from = big.summary_from.min(n / 10);
    big.summary_until = big.summary_until.min(n / 20);
    let mut room = Room::fill(Server::start(&config)?, n);
    let rate = (n / 10).clamp(1, MAX_RATE);
    room.churn(rate, seconds);
    room.settle();
    let list = room.check_lists();
    room.check_pages(&list);
    room.check_counts(list);
    Ok(())
}

impl Room {
    fn fill(server: Server, n: usize) -> Self {
        let began = Instant::now();
        let mut members = VecDeque::with_capacity(n);
        while members.len() < n {
            let first = members.len();
            let users = first..n.min(first + WAVE);
            let wave = server.join_wave(users.clone(), join, |_, _| {});
            let wave = users.zip(wave);
            members.extend(wave.map(|(user, client)| Member { user, client }));
            for member in &mut members {
                member.client.read(|_| {});
            }
        }
        let ready = server.connect_wave(WAVE.min(n)).into();
        println!(
            "{n} people joined in {:.1?}, {:.1?} of the server's CPU; {} MiB resident",
            began.elapsed(),
            server::cpu(),
            mib(resident())
        );
        Self {
            server,
            members,
            joining: Vec::new(),
            ready,
            stock: Vec::new(),
            n_users: n,
            times: Vec::new(),
            at: 0,
            n_counts: 0,
        }
    }

    /// Has so many come and go each second.
    fn churn(&mut self, rate: usize, seconds: u32) {
        let n_ticks = rate * seconds as usize;
        let (began, cpu) = (Instant::now(), server::cpu());
        for tick in 0..n_ticks {
            self.read_until(
                began + seconds * Duration::from_secs(1) * tick as u32 / n_ticks as u32,
            );
            self.come_and_go();
            if tick % n_ticks.div_ceil(N_STOCK) == 0 {
                let client = self.server.connect();
                let user = format!("stock-{tick}");
                client.join(ROOM, &user, "");
                self.stock.push((client, Follower::default()));
            }
        }
        until("the last joins", || {
            self.read_joining();
            self.joining.is_empty()
        });
        let (took, cpu) = (began.elapsed(), server::cpu_since(cpu));
        let per_second = n_ticks as f64 / took.as_secs_f64();
        let [p50, p99, most] = [50, 99, 100].map(|part| percentile(&mut self.times, part));
        println!(
            "{per_second:.0} joins and as many leaves a second for {took:.0?}: \
             join to reply p50 {p50:.2?}, p99 {p99:.2?}, most {most:.2?}"
        );
        println!(
            "{} counts received; {:.0} % of a core for the server; {} MiB resident",
            self.n_counts,
            cpu.as_secs_f64() / took.as_secs_f64() * 100.0,
            mib(resident())
        );
    }

    /// Who has been there longest goes; the next one comes.
    fn come_and_go(&mut self) {
        if let Some(oldest) = self.members.pop_front() {
            oldest.client.hang_up();
        }
        self.ready.push_back(self.server.connect());
        let mut client = self.ready.pop_front().expect("one was just put there");
        client.read(|_| {});
        join(&client, self.n_users);
        let user = self.n_users;
        self.joining.push((Instant::now(), Member { user, client }));
        self.n_users += 1;
    }

    /// Reads members in turn, and those who join all the time.
    fn read_until(&mut self, due: Instant) {
        loop {
            self.read_joining();
            for (client, follower) in &mut self.stock {
                follower.read(client);
            }
            if Instant::now() >= due {
                return;
            }
            self.at = (self.at + 1) % self.members.len().max(1);
            let n_counts = &mut self.n_counts;
            if let Some(member) = self.members.get_mut(self.at) {
                let mut visit = |text: &str| *n_counts += usize::from(is_count(text));
                member.client.read(&mut visit);
            }
        }
    }

    fn read_joining(&mut self) {
        let mut at = 0;
        while let Some((sent, member)) = self.joining.get_mut(at) {
            if !member.client.read_joined() {
                at += 1;
                continue;
            }
            self.times.push(sent.elapsed());
            let (_, member) = self.joining.swap_remove(at);
            self.members.push_back(member);
        }
    }

    /// Waits until the server has told all that it has to tell.
    fn settle(&mut self) {
        let users = self.members.iter().map(|member| user_id(member.user));
        let expected: BTreeSet<String> = users.collect();
        self.server.flush();
        until("the server's list", || {
            let (stock, users): (BTreeSet<_>, BTreeSet<_>) = self
                .server
                .keys(ROOM)
                .into_iter()
                .partition(|key| key.starts_with("stock-"));
            users == expected && stock.len() == self.stock.len()
        });
    }

    /// Compares the lists of the stock clients with the server's, which is returned.
    fn check_lists(&mut self) -> BTreeSet<String> {
        let list = self.server.keys(ROOM);
        for (client, follower) in &mut self.stock {
            until("a stock client's list", || {
                follower.read(client);
                follower.keys() == list
            });
        }
        println!(
            "exact: {} stock clients that came meanwhile have the list of all {}",
            self.stock.len(),
            list.len()
        );
        list
    }

    /// Reads the list by page, as a client does.
    fn check_pages(&mut self, list: &BTreeSet<String>) {
        let reader = &mut self.members[0].client;
        let began = Instant::now();
        let (mut paged, mut after, mut n_pages) = (BTreeSet::new(), Value::Null, 0);
        loop {
            let what = format!(r#"{{"limit":1000,"after":{after}}}"#);
            reader.send(&format!(
                r#"["1","p{n_pages}","{ROOM}","presence:list",{what}]"#
            ));
            let page = answer(reader, &format!(r#"["1","p{n_pages}","#));
            let presences = page["presences"].as_object();
            let keys = presences.expect("a page has presences").keys();
            paged.extend(keys.cloned());
            n_pages += 1;
            after = page["next"].clone();
            if after.is_null() {
                break;
            }
        }
        assert!(paged == *list, "the list by page is another");
        println!(
            "exact: {n_pages} pages, {:.0?} in all, have the same",
            began.elapsed()
        );
    }

    /// Has one more come, and waits until everybody has been told of how many there are then, with
    /// a sample of who is there.
    fn check_counts(&mut self, mut list: BTreeSet<String>) {
        // What was told of others, who have left since, is read and over.
        self.server.flush();
        for member in &mut self.members {
            member.client.read(|_| {});
        }
        let user = self.n_users;
        let _newcomer = self.server.join_wave(user..user + 1, join, |_, _| {});
        list.insert(user_id(user));
        let n = list.len();
        for member in &mut self.members {
            let mut last = 0;
            until("the count", || {
                member.client.read(|text| {
                    if let Some((count, sample)) = count_and_sample(text) {
                        assert!(
                            count != n || sample.iter().all(|key| list.contains(key)),
                            "a sample is of those who are there"
                        );
                        last = count;
                    }
                });
                last == n
            });
        }
        println!("exact: all who ask for modes are told that {n} are here");
    }
}

fn user_id(user: usize) -> String {
    format!("user-{user:07}")
}

fn join(client: &Client, user: usize) {
    client.join(ROOM, &user_id(user), MODES);
}

fn is_count(text: &str) -> bool {
    text.contains(r#","presence:count",{"#)
}

/// Reads what is told of how many there are.
fn count_and_sample(text: &str) -> Option<(usize, Vec<String>)> {
    if !is_count(text) {
        return None;
    }
    let message: Value = serde_json::from_str(text).expect("a message is JSON");
    let count = message[4]["count"].as_u64().expect("a count is a number");
    let sample = message[4]["sample"].as_object().expect("it has a sample");
    Some((count as usize, sample.keys().cloned().collect()))
}

/// Waits for the answer that begins so.
fn answer(client: &mut Client, head: &str) -> Value {
    let mut answer = None;
    until("a page", || {
        client.read(|text| {
            if text.starts_with(head) {
                answer = serde_json::from_str::<Value>(text).ok();
            }
        });
        answer.is_some()
    });
    answer.map_or(Value::Null, |mut message| message[4]["response"].take())
}
