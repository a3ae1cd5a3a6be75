//! Those who are connected while others come, and how long they wait for an answer.

use std::time::{Duration, Instant};

use super::super::client::{Client, is_beat};
use super::super::meter::{percentile, until};
use super::super::server::Server;

const N_REGULARS: usize = 100;
/// From one heartbeat to the next, of the next one of them.
const PERIOD: Duration = Duration::from_millis(1);

pub(super) struct Regulars {
    clients: Vec<Client>,
    /// Who waits for an answer, and since when.
    waiting: Vec<(usize, Instant)>,
    next: usize,
    last: Instant,
    times: Vec<Duration>,
}

impl Regulars {
    /// Connects them, all by one token.
    pub(super) fn join(server: &Server, token: &str) -> Self {
        let connect = |_| Client::connect(server.way(), Some(token));
        let mut clients: Vec<Client> = (0..N_REGULARS).map(connect).collect();
        until("handshakes", || {
            clients.iter_mut().for_each(|client| client.read(|_| {}));
            clients.iter().all(Client::is_open)
        });
        Self {
            clients,
            waiting: Vec::new(),
            next: 0,
            last: Instant::now(),
            times: Vec::new(),
        }
    }

    /// Reads what has come, and sends a heartbeat if it is time. Nobody sends one more before the
    /// answer.
    pub(super) fn turn(&mut self) {
        let (clients, times) = (&mut self.clients, &mut self.times);
        self.waiting.retain(|(at, since)| {
            let mut has_answer = false;
            clients[*at].read(|text| has_answer |= is_beat(text));
            if has_answer {
                times.push(since.elapsed());
            }
            !has_answer
        });
        let is_waiting = self.waiting.iter().any(|(at, _)| *at == self.next);
        if self.last.elapsed() >= PERIOD && !is_waiting {
            self.last = Instant::now();
            self.clients[self.next].beat();
            self.waiting.push((self.next, self.last));
            self.next = (self.next + 1) % N_REGULARS;
        }
    }

    /// Waits for the last answers, and says how long all took.
    pub(super) fn report(&mut self) {
        let n_sent = self.times.len() + self.waiting.len();
        until("the last answers", || {
            self.turn();
            self.times.len() >= n_sent
        });
        let [p50, p99, most] = [50, 99, 100].map(|part| percentile(&mut self.times, part));
        println!(
            "{N_REGULARS} who were connected meanwhile, heartbeat to answer: p50 {p50:.2?}, p99 \
             {p99:.2?}, most {most:.2?} ({} of them)",
            self.times.len()
        );
    }
}
