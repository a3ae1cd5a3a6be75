//! `crowd slow`: a noisy room in which one of ten stops reading. What waits for them is bounded,
//! and the others do not notice.

use std::num::NonZero;
use std::time::{Duration, Instant};

use super::client::Client;
use super::meter::{mib, percentile, resident, until};
use super::server::{self, Server, WAVE};

const ROOM: &str = "room:noisy";
const PER_SECOND: u32 = 10;
const NOISE_BYTES: usize = 2_000;
/// What may wait for a client: so little that slow readers reach it while one looks on.
const MAX_QUEUE_BYTES: usize = 256 << 10;

struct Noisy {
    server: Server,
    readers: Vec<Client>,
    stopped: Vec<Client>,
    n_rounds: u32,
}

pub(crate) fn run(n: usize, seconds: u32) -> anyhow::Result<()> {
    let mut config = server::config();
    config.socket.max_queue_bytes = MAX_QUEUE_BYTES;
    config.socket.fold_queue_bytes = MAX_QUEUE_BYTES / 2;
    // A part of the list is to fit into it beside the answer to the join.
    let part = NonZero::new(MAX_QUEUE_BYTES / 4);
    config.presence.big_room.part_bytes = part.expect("a quarter of it is not zero");
    let server = Server::start(&config)?;
    let n_stopped = n / 10;
    let readers = join(&server, 0..n - n_stopped);
    let mut noisy = Noisy {
        server,
        readers,
        stopped: Vec::new(),
        n_rounds: 0,
    };
    noisy.quiet();
    let without = noisy.listen("without slow readers", seconds);
    noisy.stopped = join(&noisy.server, n - n_stopped..n);
    noisy.quiet();
    let with = noisy.listen("with them", seconds);
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!("p99 with them to without: {ratio:.2}");
    until("the bound", || {
        noisy.make_noise(&mut Vec::new());
        noisy.stopped.iter().all(Client::is_closed)
    });
    let users = noisy.readers.len();
    noisy.server.flush();
    until("their leaves", || noisy.server.keys(ROOM).len() == users);
    println!("exact: all {n_stopped} of them were closed at the bound, the other {users} are here");
    Ok(())
}

/// Has users join the room; returns those who have, with nothing left to read but what comes late.
fn join(server: &Server, users: std::ops::Range<usize>) -> Vec<Client> {
    let mut all = Vec::with_capacity(users.len());
    while all.len() < users.len() {
        let first = users.start + all.len();
        let join = |client: &Client, user: usize| client.join(ROOM, &format!("user-{user}"), "");
        let wave = first..users.end.min(first + WAVE);
        all.append(&mut server.join_wave(wave, join, |_, _| {}));
        all.iter_mut().for_each(|client| client.read(|_| {}));
    }
    all
}

impl Noisy {
    /// Reads until nothing comes any more.
    fn quiet(&mut self) {
        self.server.flush();
        until("quiet", || {
            let mut n_texts = 0;
            for client in self.readers.iter_mut().chain(&mut self.stopped) {
                client.read(|_| n_texts += 1);
            }
            n_texts == 0
        });
    }

    /// Makes noise for so many seconds; returns the p99 of its arrival at those who read.
    fn listen(&mut self, what: &str, seconds: u32) -> Duration {
        let (mut times, mut memory) = (Vec::new(), Vec::new());
        let (began, cpu) = (Instant::now(), server::cpu());
        for round in 0..seconds * PER_SECOND {
            let due = began + Duration::from_secs(1) * round / PER_SECOND;
            // The pace of the noise is part of what is measured.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if round % (2 * PER_SECOND) == 0 {
                memory.push(mib(resident()));
            }
            self.make_noise(&mut times);
        }
        let [p50, p99] = [50, 99].map(|part| percentile(&mut times, part));
        let n_closed = self.stopped.iter().filter(|client| client.is_closed());
        println!(
            "{what}: {} readers, p50 {p50:.2?}, p99 {p99:.2?}, {:.1?} of the server's CPU; MiB \
             resident every 2 s: {memory:?}; {} of {} slow ones closed",
            self.readers.len(),
            server::cpu_since(cpu),
            n_closed.count(),
            self.stopped.len()
        );
        p99
    }

    /// Broadcasts once, and notes when each reader has it.
    fn make_noise(&mut self, times: &mut Vec<Duration>) {
        let (round, noise) = (self.n_rounds, "x".repeat(NOISE_BYTES));
        self.n_rounds += 1;
        let mark = format!(r#""noise",{{"round":{round},"#);
        let payload = format!(r#"{{"round":{round},"noise":"{noise}"}}"#);
        let sent = Instant::now();
        self.readers[0].send(&format!(r#"["1","{round}","{ROOM}","noise",{payload}]"#));
        let mut waiting: Vec<_> = self.readers.iter_mut().collect();
        until("the noise", || {
            waiting.retain_mut(|client| {
                let mut has_it = false;
                client.read(|text| has_it |= text.contains(&mark));
                if has_it {
                    times.push(sent.elapsed());
                }
                !has_it
            });
            waiting.is_empty()
        });
    }
}
