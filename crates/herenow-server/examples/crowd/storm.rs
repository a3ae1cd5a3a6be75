//! `crowd storm`: a server crashes, and all its clients come back to the next one at once, with
//! their tokens; some are connected to that one already, and go on. The time is compared with a
//! server on the same wire that only shakes hands. `crowd tcp` is the same over TCP, for as many as
//! this process has descriptors for.

mod hands;
mod regulars;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use herenow_channels::Rate;
use herenow_server::config::{Secret, ServerConfig};
use herenow_server::identity::{TokenRequest, issue};

use self::hands::Hands;
use self::regulars::Regulars;
use super::client::{Client, Handshake};
use super::follower::Follower;
use super::line::Way;
use super::meter::until;
use super::server::{self, Server};
use super::town::{PER_ROOM, topic, user_id};

/// Those who come who are looked at before the regulars are.
const TURN: usize = 32;

/// Somebody who comes back.
struct Comer {
    token: String,
    user: usize,
    /// `None`: away until then.
    client: Option<Client>,
    since: Instant,
    has_asked: bool,
    follower: Follower,
}

/// What people come over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Tcp,
}

impl Kind {
    fn start(self, config: &ServerConfig) -> anyhow::Result<Server> {
        match self {
            Self::Memory => Server::start(config),
            Self::Tcp => Server::start_tcp(config),
        }
    }
}

/// What those who come want.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// To be connected.
    Connect,
    /// To be in their rooms as well.
    Join,
}

/// How long it took until all had what they wish.
struct Took {
    wall: Duration,
    cpu: Duration,
    /// Handshakes that were answered that it is too busy now.
    n_busy: usize,
}

pub(crate) fn run(n: usize, kind: Kind) -> anyhow::Result<()> {
    let mut config = server::config();
    if kind == Kind::Tcp {
        // Everybody comes from the same address.
        config.limits.sockets_per_address = 0;
        config.limits.handshake_rate = Rate::new(0, 0);
    }
    config.jwt.secret = Some(Secret::new("of a crowd, and long enough for HS256"));
    let tokens: Vec<String> = (0..n)
        .map(|user| token(&config, user_id(user)))
        .collect::<Result<_, _>>()?;
    let bare = shake_hands(kind, &tokens)?;
    println!("only handshakes: {bare}");
    let before = kind.start(&config)?;
    let mut crowd = comers(&tokens);
    let first = come(before.way(), &mut crowd, Wish::Join, None);
    println!("{n} people came: {first}");
    drop(before);
    until("the crash", || crowd.iter_mut().all(Comer::is_lost));
    let after = kind.start(&config)?;
    let mut regulars = Regulars::join(&after, &token(&config, "regular".to_owned())?);
    let mut crowd = comers(&tokens);
    let storm = come(after.way(), &mut crowd, Wish::Join, Some(&mut regulars));
    println!("they came back after a crash: {storm}");
    println!(
        "to only handshakes: {:.2} by the clock, {:.2} by the CPU",
        storm.wall.as_secs_f64() / bare.wall.as_secs_f64(),
        storm.cpu.as_secs_f64() / bare.cpu.as_secs_f64()
    );
    regulars.report();
    check(&after, crowd);
    Ok(())
}

pub(super) fn token(config: &ServerConfig, user: String) -> anyhow::Result<String> {
    let mut request = TokenRequest::default();
    request.sub = Some(user);
    Ok(issue(config, &request)?)
}

/// Has all connect to a server that does no more than shake hands.
fn shake_hands(kind: Kind, tokens: &[String]) -> anyhow::Result<Took> {
    let hands = Hands::start(kind)?;
    let mut crowd = comers(tokens);
    Ok(come(hands.way(), &mut crowd, Wish::Connect, None))
}

/// Everybody, in an order in which neighbours are of different rooms.
fn comers(tokens: &[String]) -> Vec<Comer> {
    let n_rooms = tokens.len().div_ceil(PER_ROOM);
    let users = (0..n_rooms).flat_map(|room| (0..PER_ROOM).map(move |seat| (seat, room)));
    let users: BTreeSet<(usize, usize)> = users.collect();
    let users = users.iter().map(|(seat, room)| room * PER_ROOM + seat);
    let comer = |user: usize| Comer {
        token: tokens[user].clone(),
        user,
        client: None,
        since: Instant::now(),
        has_asked: false,
        follower: Follower::default(),
    };
    users
        .filter(|user| *user < tokens.len())
        .map(comer)
        .collect()
}

/// Has everybody come, and looks at the regulars meanwhile.
fn come(way: &Way, crowd: &mut [Comer], wish: Wish, mut regulars: Option<&mut Regulars>) -> Took {
    let (began, cpu) = (Instant::now(), server::cpu());
    let mut away: VecDeque<&mut Comer> = crowd.iter_mut().collect();
    let (mut n_busy, mut n_asked) = (0, 0);
    until("everybody", || {
        for _ in 0..away.len().div_ceil(TURN) {
            for _ in 0..TURN.min(away.len()) {
                let Some(comer) = away.pop_front() else {
                    break;
                };
                let was_asking = comer.is_asking();
                let may_ask = n_asked < way.max_asked();
                let has_come = comer.step(way, may_ask, wish, &mut n_busy);
                n_asked += usize::from(comer.is_asking());
                n_asked -= usize::from(was_asking);
                if !has_come {
                    away.push_back(comer);
                }
            }
            if let Some(regulars) = &mut regulars {
                regulars.turn();
            }
        }
        away.is_empty()
    });
    Took {
        wall: began.elapsed(),
        cpu: server::cpu_since(cpu),
        n_busy,
    }
}

impl Comer {
    /// Tells whether the answer to the handshake is not there yet.
    fn is_asking(&self) -> bool {
        let client = self.client.as_ref();
        client.is_some_and(|client| client.handshake() == Handshake::Asked)
    }

    /// Tells whether the server has hung up.
    fn is_lost(&mut self) -> bool {
        self.client.as_mut().is_some_and(|client| {
            client.read(|_| {});
            client.is_closed()
        })
    }

    /// Does what can be done now; tells whether the comer has what it wishes.
    fn step(&mut self, way: &Way, may_ask: bool, wish: Wish, n_busy: &mut usize) -> bool {
        let Some(client) = &mut self.client else {
            if may_ask && Instant::now() >= self.since {
                self.client = Some(Client::connect(way, Some(&self.token)));
            }
            return false;
        };
        let is_joined = self.follower.read(client);
        match client.handshake() {
            Handshake::Asked => false,
            Handshake::Busy(time) => {
                (self.client, self.since) = (None, Instant::now() + time);
                *n_busy += 1;
                false
            }
            Handshake::Open if wish == Wish::Connect || is_joined => true,
            Handshake::Open => {
                if !std::mem::replace(&mut self.has_asked, true) {
                    client.join(&topic(self.user), &user_id(self.user), "");
                }
                false
            }
        }
    }
}

/// Compares what the server and each client have with who is there.
fn check(server: &Server, mut crowd: Vec<Comer>) {
    server.flush();
    let n = crowd.len();
    for comer in &mut crowd {
        let room = comer.user / PER_ROOM;
        let users = room * PER_ROOM..n.min((room + 1) * PER_ROOM);
        let expected: BTreeSet<String> = users.map(user_id).collect();
        let client = comer.client.as_mut().expect("everybody has come");
        until("a client's list", || {
            comer.follower.read(client);
            comer.follower.keys() == expected
        });
        if comer.user % PER_ROOM == 0 {
            assert!(server.keys(&topic(comer.user)) == expected);
        }
    }
    println!("exact: every room, and the list of every client");
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, cpu) = (self.wall, self.cpu);
        write!(f, "{wall:.2?}, {cpu:.2?} of the server's CPU")?;
        if self.n_busy > 0 {
            write!(f, ", {} asked to come back later", self.n_busy)?;
        }
        Ok(())
    }
}
