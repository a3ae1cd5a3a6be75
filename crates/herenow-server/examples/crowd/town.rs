//! `crowd town`: very many people in rooms of 50, each with a socket and a presence. First they
//! only send heartbeats; then some come and go as well.

use std::collections::BTreeSet;
use std::mem;
use std::time::{Duration, Instant};

use super::client::{Client, is_beat};
use super::follower::Follower;
use super::meter::{mib, resident, until};
use super::server::{self, Server, WAVE};

pub(crate) const PER_ROOM: usize = 50;
/// Seconds from one heartbeat of a client to its next.
const BEAT_SECONDS: usize = 30;
/// One of so many goes in each second and comes back: a hundredth in a minute.
const STRIDE: usize = 6_000;

struct Town {
    server: Server,
    /// In order of their users.
    clients: Vec<Client>,
    /// One of each wave keeps its list.
    followers: Vec<(usize, Follower)>,
    /// Those who are about to come back.
    coming: Vec<usize>,
    n_beats: usize,
    n_answers: usize,
    n_moves: usize,
}

pub(crate) fn run(n: usize, seconds: u32) -> anyhow::Result<()> {
    let before = resident();
    let mut town = Town::fill(Server::start(&server::config())?, n, before);
    town.check_rooms();
    let seconds = seconds as usize;
    town.live("only heartbeats", seconds.min(BEAT_SECONDS), false);
    town.live("people come and go", seconds, true);
    town.check_rooms();
    town.check_lists();
    town.report(before);
    Ok(())
}

impl Town {
    fn fill(server: Server, n: usize, before: usize) -> Self {
        let began = Instant::now();
        let (mut clients, mut followers) = (Vec::with_capacity(n), Vec::new());
        while clients.len() < n {
            let users = clients.len()..n.min(clients.len() + WAVE);
            let (last, mut follower) = (users.end - 1, Follower::default());
            let mut wave = server.join_wave(users, join, |user, text| {
                if user == last {
                    follower.take(text);
                }
            });
            followers.push((last, follower));
            clients.append(&mut wave);
        }
        println!(
            "{n} people joined in {:.0?}, {:.0?} of the server's CPU",
            began.elapsed(),
            server::cpu()
        );
        let mut town = Self {
            server,
            clients,
            followers,
            coming: Vec::new(),
            n_beats: 0,
            n_answers: 0,
            n_moves: 0,
        };
        town.read_all();
        town.report(before);
        town
    }

    /// Says how much memory all need since it was so much.
    fn report(&self, before: usize) {
        let (now, n) = (resident(), self.clients.len());
        let wires = n * Client::idle_bytes();
        let server = (now - before).saturating_sub(wires);
        println!(
            "{} MiB resident, of which {} MiB are the wires and the clients; the server's share is \
             {} MiB, {} bytes a person",
            mib(now),
            mib(wires),
            mib(server),
            server / n
        );
    }
}

/// What goes on in it.
impl Town {
    /// Has everybody send heartbeats for so many seconds, and perhaps people come and go.
    fn live(&mut self, what: &str, seconds: usize, has_moves: bool) {
        let (began, cpu) = (Instant::now(), server::cpu());
        (self.n_beats, self.n_answers, self.n_moves) = (0, 0, 0);
        for second in 0..seconds {
            if has_moves {
                self.leave(second);
            }
            self.beat(second);
            let end = began + Duration::from_secs(second as u64 + 1);
            self.read_all();
            while Instant::now() < end {
                self.come_back();
                // Between two looks, so that the clients leave the core to the server.
                std::thread::sleep(Duration::from_millis(20));
                // The last ones to be heard are those whose answers are waited for.
                if !self.coming.is_empty() || self.n_answers < self.n_beats {
                    self.read_all();
                }
            }
        }
        until("the answers", || {
            self.read_all();
            self.come_back();
            self.n_answers == self.n_beats && self.coming.is_empty()
        });
        let (took, cpu) = (began.elapsed(), server::cpu_since(cpu));
        let core = cpu.as_secs_f64() / took.as_secs_f64() * 100.0;
        println!(
            "{what}, {took:.0?}: {} heartbeats answered, {} left and joined; {core:.1} % of a core \
             for the server, {:.2} % for each 10,000 people",
            self.n_beats,
            self.n_moves,
            core * 10_000.0 / self.clients.len() as f64
        );
    }

    fn leave(&mut self, second: usize) {
        for user in (second..self.clients.len()).step_by(STRIDE) {
            let newcomer = self.server.connect();
            mem::replace(&mut self.clients[user], newcomer).hang_up();
            self.coming.push(user);
        }
    }

    /// Has those join who left and whose new connections are open.
    fn come_back(&mut self) {
        let clients = &mut self.clients;
        let n_before = self.coming.len();
        self.coming.retain(|user| {
            clients[*user].read(|_| {});
            let is_open = clients[*user].is_open();
            if is_open {
                join(&clients[*user], *user);
            }
            !is_open
        });
        self.n_moves += n_before - self.coming.len();
    }

    /// Sends this second's heartbeats. Who is about to go sends none: it may go before the answer.
    fn beat(&mut self, second: usize) {
        for user in (second % BEAT_SECONDS..self.clients.len()).step_by(BEAT_SECONDS) {
            let is_settled = user % STRIDE > second + 1 && user % STRIDE < STRIDE - 1;
            if is_settled || user % STRIDE + 1 < second {
                self.clients[user].beat();
                self.n_beats += 1;
            }
        }
    }

    fn read_all(&mut self) {
        let mut followers = self.followers.iter_mut().peekable();
        for (user, client) in self.clients.iter_mut().enumerate() {
            let follower = followers.next_if(|(of, _)| *of == user);
            let mut follower = follower.map(|(_, follower)| follower);
            client.read(|text| {
                self.n_answers += usize::from(is_beat(text));
                if let Some(follower) = &mut follower {
                    follower.take(text);
                }
            });
        }
    }

    /// Compares every room with who should be in it.
    fn check_rooms(&self) {
        self.server.flush();
        for room in 0..self.clients.len().div_ceil(PER_ROOM) {
            let expected = self.users_of(room);
            until("a room's list", || {
                self.server.keys(&topic(room * PER_ROOM)) == expected
            });
        }
        println!("exact: every room has who should be in it");
    }

    /// Compares the lists that clients keep with who is in their rooms.
    fn check_lists(&mut self) {
        let mut followers = mem::take(&mut self.followers);
        for (user, follower) in &mut followers {
            let expected = self.users_of(*user / PER_ROOM);
            until("a client's list", || {
                follower.read(&mut self.clients[*user]);
                follower.keys() == expected
            });
        }
        println!("exact: so have the lists of {} clients", followers.len());
        self.followers = followers;
    }

    fn users_of(&self, room: usize) -> BTreeSet<String> {
        let end = self.clients.len().min((room + 1) * PER_ROOM);
        (room * PER_ROOM..end).map(user_id).collect()
    }
}

/// The room of a user.
pub(crate) fn topic(user: usize) -> String {
    format!("room:{}", user / PER_ROOM)
}

pub(crate) fn user_id(user: usize) -> String {
    format!("user-{user}")
}

fn join(client: &Client, user: usize) {
    client.join(&topic(user), &user_id(user), "");
}
