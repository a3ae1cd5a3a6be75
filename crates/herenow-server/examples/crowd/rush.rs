//! `crowd rush`: everybody connects to a server, and then all join one room at once, over TCP,
//! until each has the whole list. The storm is compared with a bare copy of as many bytes to as
//! many sockets.

mod copy;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use herenow_channels::Rate;
use herenow_server::config::ServerConfig;

use super::client::{Client, Handshake};
use super::follower::Follower;
use super::line::Way;
use super::meter::until;
use super::server::{self, Server};
use super::town::user_id;

pub(super) const ROOM: &str = "room:all";
/// What each presence has once in what a client is sent.
const META: &str = "\"phx_ref\"";
/// The head of most frames that a server sends here.
pub(super) const HEAD_BYTES: usize = 4;

pub(super) struct Rusher {
    pub(super) client: Client,
    follower: Follower,
    has_asked: bool,
    n_metas: usize,
    n_bytes: usize,
}

/// How long the server, or the copy, took.
#[derive(Clone, Copy)]
pub(super) struct Took {
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
}

pub(crate) fn run(n: usize) -> anyhow::Result<()> {
    let server = Server::start_tcp(&config())?;
    let (mut rushers, handshakes) = connect(server.way(), &vec![None; n]);
    let rush = join(&mut rushers);
    let bytes: Vec<usize> = rushers.iter().map(|rusher| rusher.n_bytes).collect();
    let n_bytes: usize = bytes.iter().sum();
    println!(
        "{n} connected: {:.2?}, {:.2?} of the server's CPU",
        handshakes.wall, handshakes.cpu
    );
    println!(
        "they joined one room: {:.2?}, {:.2?} of the server's CPU, {} MB delivered",
        rush.wall,
        rush.cpu,
        n_bytes / 1_000_000
    );
    check(&mut rushers, 1);
    println!("exact: the list of every client");
    drop((rushers, server));
    let bare = copy::run(&bytes)?;
    println!("a bare copy: {:.2?}, {:.2?} of CPU", bare.wall, bare.cpu);
    println!(
        "to a bare copy: {:.2} by the clock, {:.2} by the CPU",
        rush.wall.as_secs_f64() / bare.wall.as_secs_f64(),
        rush.cpu.as_secs_f64() / bare.cpu.as_secs_f64()
    );
    Ok(())
}

/// The configuration for those who all come from the same address.
pub(super) fn config() -> ServerConfig {
    let mut config = server::config();
    config.limits.sockets_per_address = 0;
    config.limits.handshake_rate = Rate::new(0, 0);
    config
}

/// Has all connect, each with its token if it has one, and nobody join.
pub(super) fn connect(way: &Way, tokens: &[Option<String>]) -> (Vec<Rusher>, Took) {
    let mut rushers = Vec::with_capacity(tokens.len());
    let took = measured("everybody's handshake", || {
        connect_more(way, &mut rushers, tokens);
        rushers
            .iter_mut()
            .for_each(|rusher| rusher.client.read(|_| {}));
        rushers.len() == tokens.len() && rushers.iter().all(|rusher| rusher.client.is_open())
    });
    (rushers, took)
}

/// Has all who are connected join, until everybody has the list of all.
pub(super) fn join(rushers: &mut [Rusher]) -> Took {
    measured("everybody's list", || turn(rushers))
}

fn measured(what: &str, is_done: impl FnMut() -> bool) -> Took {
    let (began, cpu) = (Instant::now(), server::cpu());
    until(what, is_done);
    Took {
        wall: began.elapsed(),
        cpu: server::cpu_since(cpu),
    }
}

/// Panics if the list of one is not all of them; looks at one of so many.
pub(super) fn check(rushers: &mut [Rusher], step: usize) {
    let expected: BTreeSet<String> = (0..rushers.len()).map(user_id).collect();
    let mut looked_at = rushers.iter_mut().step_by(step);
    assert!(looked_at.all(|rusher| rusher.follower.keys() == expected));
}

/// Lets more connect, as many as may wait for their handshakes.
fn connect_more(way: &Way, rushers: &mut Vec<Rusher>, tokens: &[Option<String>]) {
    let asking = |rusher: &&Rusher| rusher.client.handshake() == Handshake::Asked;
    let n_more = way.max_asked() - rushers.iter().filter(asking).count();
    for token in tokens.iter().skip(rushers.len()).take(n_more) {
        rushers.push(Rusher {
            client: Client::connect(way, token.as_deref()),
            follower: Follower::default(),
            has_asked: false,
            n_metas: 0,
            n_bytes: 0,
        });
    }
}

/// Lets each read and join; tells whether all who are there have the list of all.
fn turn(rushers: &mut [Rusher]) -> bool {
    for (user, rusher) in rushers.iter_mut().enumerate() {
        rusher.turn(user);
    }
    let n = rushers.len();
    rushers.iter().all(|rusher| rusher.n_metas == n)
}

impl Rusher {
    fn turn(&mut self, user: usize) {
        let (follower, n_metas, n_bytes) =
            (&mut self.follower, &mut self.n_metas, &mut self.n_bytes);
        self.client.read(|text| {
            *n_metas += text.matches(META).count();
            *n_bytes += HEAD_BYTES + text.len();
            follower.take(text);
        });
        if self.client.is_open() && !std::mem::replace(&mut self.has_asked, true) {
            self.client.join(ROOM, &user_id(user), "");
        }
    }
}
