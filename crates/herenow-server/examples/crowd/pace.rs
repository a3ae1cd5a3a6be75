//! `crowd pace`: one says something 30 times a second to a room of others, over TCP; and by turns
//! with it, a thread writes as many bytes to as many sockets at that pace, with one `write` for
//! each.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::bare;
use super::client::Client;
use super::meter::{percentile, until};
use super::rush;
use super::server::{self, Server};

const PER_SECOND: u32 = 30;
/// How long each has its turn.
const TURN: u32 = 5;

/// What was measured of the server, or of the bare writes.
#[derive(Default)]
struct Side {
    /// CPU time, turn by turn.
    cpu: Vec<Duration>,
    /// From the word to each who heard it.
    times: Vec<Duration>,
}

pub(crate) fn run(n: usize, seconds: u32) -> anyhow::Result<()> {
    let server = Server::start_tcp(&rush::config())?;
    let (mut rushers, _) = rush::connect(server.way(), &vec![None; n]);
    rush::join(&mut rushers);
    rush::check(&mut rushers, 1);
    let clients = rushers.into_iter().map(|rusher| rusher.client);
    let mut room = Room {
        clients: clients.collect(),
        n_said: 1_000, // So that all are of the same length.
        frame_bytes: 0,
    };
    until("quiet", || room.is_quiet());
    room.say(&mut Vec::new());
    let mut writes = Writes::start(n, room.frame_bytes)?;
    let (mut whole, mut bare) = (Side::default(), Side::default());
    for turn in 0..(seconds / TURN).max(1) {
        for is_whole in [turn % 2 == 0, turn % 2 != 0] {
            match is_whole {
                true => whole.turn(|times| room.say(times)),
                false => bare.turn(|times| writes.write(times)),
            }
        }
    }
    let ratio = {
        let [whole, bare] = [&whole, &bare].map(|side| side.cpu.iter().sum::<Duration>());
        whole.as_secs_f64() / bare.as_secs_f64()
    };
    whole.report("the server", n);
    bare.report("bare writes", n);
    println!("to bare writes: {ratio:.2} by the CPU");
    Ok(())
}

impl Side {
    fn turn(&mut self, mut say: impl FnMut(&mut Vec<Duration>)) {
        let (began, cpu) = (Instant::now(), server::cpu());
        for n in 0..TURN * PER_SECOND {
            let due = began + Duration::from_secs(1) * n / PER_SECOND;
            // The pace is part of what is measured.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            say(&mut self.times);
        }
        self.cpu.push(server::cpu_since(cpu));
    }

    fn report(&mut self, what: &str, n: usize) {
        let per_turn = n as f64 * f64::from(TURN * PER_SECOND);
        let micros = self
            .cpu
            .iter()
            .map(|cpu| cpu.as_secs_f64() * 1e6 / per_turn);
        let micros: Vec<_> = micros.map(|micros| format!("{micros:.2}")).collect();
        let [p50, p99] = [50, 99].map(|part| percentile(&mut self.times, part));
        println!(
            "{what}: µs of CPU for each of {n}, turn by turn: {}; until they have it: p50 {p50:.2?}, \
             p99 {p99:.2?}",
            micros.join(", ")
        );
    }
}

struct Room {
    clients: Vec<Client>,
    n_said: u32,
    /// What a listener gets of each word.
    frame_bytes: usize,
}

impl Room {
    fn is_quiet(&mut self) -> bool {
        let mut n_texts = 0;
        for client in &mut self.clients {
            client.read(|_| n_texts += 1);
        }
        n_texts == 0
    }

    /// Has the first say something, and waits until all have heard it.
    fn say(&mut self, times: &mut Vec<Duration>) {
        let n = self.n_said;
        self.n_said += 1;
        let mark = format!(r#","said",{{"n":{n},"#);
        let speech = "x".repeat(64);
        let said = format!(
            r#"["1","{n}","{}","said",{{"n":{n},"text":"{speech}"}}]"#,
            rush::ROOM
        );
        let began = Instant::now();
        self.clients[0].send(&said);
        let frame_bytes = &mut self.frame_bytes;
        let mut waiting: Vec<_> = self.clients.iter_mut().collect();
        until("the word", || {
            waiting.retain_mut(|client| {
                let mut has_it = false;
                client.read(|text| {
                    if text.contains(&mark) {
                        has_it = true;
                        *frame_bytes = text.len() + rush::HEAD_BYTES;
                    }
                });
                if has_it {
                    times.push(began.elapsed());
                }
                !has_it
            });
            waiting.is_empty()
        });
    }
}

/// Writes to sockets whenever it is told to.
struct Writes {
    tell: mpsc::Sender<()>,
    readers: Vec<TcpStream>,
    frame_bytes: usize,
}

impl Writes {
    fn start(n: usize, frame_bytes: usize) -> anyhow::Result<Self> {
        let (writers, readers) = bare::pairs(n)?;
        let (tell, is_told) = mpsc::channel();
        let frame = vec![b'x'; frame_bytes];
        bare::thread(move || {
            while is_told.recv().is_ok() {
                for writer in &writers {
                    assert_eq!(bare::write(writer, &frame), frame.len());
                }
            }
        })?;
        Ok(Self {
            tell,
            readers,
            frame_bytes,
        })
    }

    fn write(&mut self, times: &mut Vec<Duration>) {
        let mut buffer = vec![0; 1 << 16];
        let began = Instant::now();
        self.tell
            .send(())
            .expect("it runs until this end is dropped");
        let mut waiting: Vec<_> = self
            .readers
            .iter()
            .map(|reader| (reader, self.frame_bytes))
            .collect();
        until("the writes", || {
            waiting.retain_mut(|(reader, n_left)| {
                match reader.read(&mut buffer) {
                    Ok(n_bytes) => *n_left -= n_bytes,
                    Err(error) => assert!(error.kind() == ErrorKind::WouldBlock, "{error}"),
                }
                if *n_left == 0 {
                    times.push(began.elapsed());
                }
                *n_left > 0
            });
            waiting.is_empty()
        });
    }
}
