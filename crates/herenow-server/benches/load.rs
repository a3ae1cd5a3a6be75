//! The released server under load, as one Markdown table: memory, storms, fan-out, churn, and
//! everybody back after a restart.
//!
//! `cargo xtask bench server`; `-- storm` runs only the works whose name has that word. The server
//! has the first core and this program the second, where there are two and `taskset` is installed.
//! CPU seconds are the server's own, from `/proc`. In each work every list is compared with who is
//! there, and every broadcast is looked for at every subscriber, in order; what is not as it must
//! be ends the run. This program is no fast one: what it needs itself bounds the deliveries per
//! second, not the server's CPU seconds per million of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "load/peer.rs"]
mod peer;
#[path = "load/process.rs"]
mod process;
#[path = "cluster/room.rs"]
mod room;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{interval, sleep};

use self::peer::{Peer, connect_all};
use self::process::Server;
use self::room::Room;

/// Connections whose memory is looked at.
const N_IDLE: usize = 5_000;
/// Users of a topic, where they are many small ones.
const N_PER_TOPIC: usize = 50;
const N_SUBSCRIBERS: usize = 1_000;
/// Messages of the publisher that sends as fast as it goes, and how many are under way.
const N_SATURATED: usize = 2_000;
const WINDOW: usize = 64;
/// Messages of the publisher that takes its time, and how many a second.
const N_PACED: usize = 150;
const PACE: u64 = 30;
/// Joins and leaves of the churn, and how many a second.
const N_CHURN: usize = 1_000;
const CHURN_PACE: u64 = 200;
/// Who comes back after a restart, and in how many rooms.
const N_BACK: usize = 2_000;
const N_ROOMS_BACK: usize = 40;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|w| w != "--bench")
        .collect();
    let is_wanted =
        |work: &str| words.is_empty() || words.iter().any(|word| work.contains(&**word));
    process::take_the_second_core();
    println!("| work | herenow |\n| --- | --- |");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        if is_wanted("idle") {
            idle().await;
        }
        for n_users in [500, 1_000, 2_000] {
            if is_wanted("storm") {
                storm(n_users).await;
            }
        }
        if is_wanted("fan-out") {
            saturated().await;
            paced().await;
        }
        for n_topics in [100, 10] {
            if is_wanted("churn") {
                churn(n_topics).await;
            }
        }
        if is_wanted("restart") {
            restart().await;
        }
    });
}

fn figure(work: &str, measured: &str) {
    println!("| {work} | {measured} |");
}

/// Memory of connections that are joined and silent, without and with a presence.
async fn idle() {
    let kib_each = |grown: u64| grown as f64 / N_IDLE as f64;
    for is_present in [false, true] {
        let server = Server::start().await;
        // What the first connections bring about is not theirs.
        let _warm = connect_all(&server, 50, |_| |_: &str| {}).await;
        let before = server.rss_kib();
        let peers = connect_all(&server, N_IDLE, |_| |_: &str| {}).await;
        for (n, peer) in peers.iter().enumerate() {
            let topic = format!("room:idle-{}", n / N_PER_TOPIC);
            let user = is_present.then(|| format!("user-{n}"));
            peer.join(&topic, user.as_deref()).await;
        }
        server
            .has_presences(if is_present { N_IDLE } else { 0 })
            .await;
        let each = kib_each(server.rss_kib() - before);
        let what = if is_present {
            "with a tracked presence"
        } else {
            "joined, idle"
        };
        let work = format!("memory per connection, {what} ({N_IDLE}, {N_PER_TOPIC} per topic)");
        figure(&work, &format!("{each:.1} KiB"));
    }
}

/// Everybody joins one topic at once.
async fn storm(n_users: usize) {
    let server = Server::start().await;
    let room = Room::new("room:storm");
    let mut users = Vec::new();
    for n in 0..n_users {
        users.push(room.connect(server.address, &format!("user-{n}")).await);
    }
    let (cpu, began) = (server.cpu(), Instant::now());
    users.iter().for_each(|user| user.join());
    room.holds(n_users).await;
    let (took, spent) = (began.elapsed(), server.cpu() - cpu);
    let measured = format!(
        "{:.2} s; {:.3} CPU-s",
        took.as_secs_f64(),
        spent.as_secs_f64()
    );
    let work = format!("storm: {n_users} users join one topic, until every list is complete");
    figure(&work, &measured);
    room.close();
}

/// What the subscribers of a fan-out have got.
#[derive(Default)]
struct Deliveries {
    n_all: Cell<usize>,
    /// Until all have a message: how many have it, by its number.
    n_of: RefCell<Vec<usize>>,
    took: RefCell<Vec<Duration>>,
    sent: RefCell<Vec<Instant>>,
}

impl Deliveries {
    /// Takes in what a subscriber was told; its messages must come in order, none left out.
    fn take_in(&self, next: &mut usize, text: &str) {
        let Some(rest) = text.split("\"n\":").nth(1) else {
            return; // A reply.
        };
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        let number: usize = rest[..digits].parse().unwrap();
        assert_eq!(number, *next, "a message is missing, or out of order");
        *next += 1;
        self.n_all.set(self.n_all.get() + 1);
        self.n_of.borrow_mut()[number] += 1;
        let sent = self.sent.borrow()[number];
        self.took.borrow_mut().push(sent.elapsed());
    }

    fn is_everywhere(&self, number: usize) -> bool {
        self.n_of.borrow()[number] == N_SUBSCRIBERS
    }
}

async fn fan_out(n_messages: usize) -> (Server, Vec<Peer>, Rc<Deliveries>) {
    let server = Server::start().await;
    let deliveries = Rc::new(Deliveries::default());
    deliveries.n_of.borrow_mut().resize(n_messages, 0);
    let peers = connect_all(&server, N_SUBSCRIBERS, |_| {
        let (deliveries, mut next) = (deliveries.clone(), 0);
        move |text: &str| deliveries.take_in(&mut next, text)
    });
    let peers = peers.await;
    for peer in &peers {
        peer.join("bench:fan", None).await;
    }
    (server, peers, deliveries)
}

async fn saturated() {
    let (server, peers, deliveries) = fan_out(N_SATURATED).await;
    let (cpu, began) = (server.cpu(), Instant::now());
    for number in 0..N_SATURATED {
        deliveries.sent.borrow_mut().push(Instant::now());
        peers[0].say("bench:fan", number);
        while number >= WINDOW && !deliveries.is_everywhere(number - WINDOW) {
            sleep(Duration::from_micros(200)).await;
        }
    }
    all_arrived(&deliveries, N_SATURATED).await;
    let (took, spent) = (began.elapsed(), server.cpu() - cpu);
    let millions = (N_SATURATED * N_SUBSCRIBERS) as f64 / 1e6;
    let measured = format!(
        "{:.0} deliveries/s; {:.2} CPU-s per million",
        millions * 1e6 / took.as_secs_f64(),
        spent.as_secs_f64() / millions
    );
    let work = format!("fan-out, one publisher, {WINDOW} under way, {N_SUBSCRIBERS} subscribers");
    figure(&work, &measured);
}

async fn paced() {
    let (server, peers, deliveries) = fan_out(N_PACED).await;
    let cpu = server.cpu();
    let mut ticks = interval(Duration::from_millis(1_000 / PACE));
    for number in 0..N_PACED {
        ticks.tick().await;
        deliveries.sent.borrow_mut().push(Instant::now());
        peers[0].say("bench:fan", number);
    }
    all_arrived(&deliveries, N_PACED).await;
    let spent = server.cpu() - cpu;
    let millions = (N_PACED * N_SUBSCRIBERS) as f64 / 1e6;
    let mut took = deliveries.took.borrow_mut();
    took.sort_unstable();
    let measured = format!(
        "{:.1} CPU-s per million; p50 {:.1} ms, p99 {:.1} ms",
        spent.as_secs_f64() / millions,
        took[took.len() / 2].as_secs_f64() * 1e3,
        took[took.len() * 99 / 100].as_secs_f64() * 1e3
    );
    figure(
        &format!("fan-out, {PACE} messages/s to {N_SUBSCRIBERS}"),
        &measured,
    );
}

async fn all_arrived(deliveries: &Deliveries, n_messages: usize) {
    peer::until("every message is everywhere", || {
        deliveries.n_all.get() == n_messages * N_SUBSCRIBERS
    })
    .await;
}

/// Users of many topics leave and come back, one every few milliseconds.
async fn churn(n_topics: usize) {
    let server = Server::start().await;
    let n_each = 1_000 / n_topics;
    let mut rooms = Vec::new();
    for topic in 0..n_topics {
        let room = Room::new(format!("room:churn-{topic}").leak());
        for n in 0..n_each {
            let user = room.connect(server.address, &format!("user-{n}")).await;
            user.join();
        }
        room.holds(n_each).await;
        rooms.push(room);
    }
    let cpu = server.cpu();
    let mut ticks = interval(Duration::from_micros(1_000_000 / CHURN_PACE));
    for n in 0..N_CHURN / 2 {
        let room = &rooms[n % n_topics];
        let name = format!("user-{}", n / n_topics % n_each);
        ticks.tick().await;
        let user = room.leave(&name);
        ticks.tick().await;
        room.come_back(user);
    }
    for room in &rooms {
        room.holds(n_each).await;
    }
    let spent = server.cpu() - cpu;
    // Each leave is seen by the others of its topic, each join by them and whoever joins.
    let n_seen = N_CHURN / 2 * (2 * n_each - 1);
    let each = spent.as_secs_f64() * 1e6 / n_seen as f64;
    let work = format!("churn: 1,000 users in {n_topics} topics, {CHURN_PACE} joins or leaves/s");
    figure(&work, &format!("{each:.0} µs of CPU per event seen"));
    rooms.iter().for_each(Room::close);
}

/// The server is killed and comes back, and so does everybody, as fast as it goes.
async fn restart() {
    let mut server = Server::start().await;
    let rooms: Vec<Room> = (0..N_ROOMS_BACK)
        .map(|n| Room::new(format!("room:back-{n}").leak()))
        .collect();
    let n_each = N_BACK / N_ROOMS_BACK;
    everybody_joins(&server, &rooms, n_each).await;
    rooms.iter().for_each(Room::close);
    server.restart().await;
    let (cpu, began) = (server.cpu(), Instant::now());
    everybody_joins(&server, &rooms, n_each).await;
    let (took, spent) = (began.elapsed(), server.cpu() - cpu);
    rooms.iter().for_each(Room::close);
    server.restart().await;
    let began = Instant::now();
    let peers = connect_all(&server, N_BACK, |_| |_: &str| {}).await;
    let bare = began.elapsed();
    drop(peers);
    let measured = format!(
        "{:.2} s; {:.3} CPU-s; {:.1} times only shaking hands",
        took.as_secs_f64(),
        spent.as_secs_f64(),
        took.as_secs_f64() / bare.as_secs_f64()
    );
    let work =
        format!("restart: {N_BACK} users of {N_ROOMS_BACK} topics are back, every list complete");
    figure(&work, &measured);
}

async fn everybody_joins(server: &Server, rooms: &[Room], n_each: usize) {
    for n in 0..n_each {
        for room in rooms {
            let user = room.connect(server.address, &format!("user-{n}")).await;
            user.join();
        }
    }
    for room in rooms {
        room.holds(n_each).await;
    }
}
