//! `crowd cost`: what tokens and limits cost. All connect, then all join one room at once, and then one
//! of them speaks to all, by turns on a server that has both and on one that has neither.
//!
//! Each turn is a server of its own, and what is compared is the CPU time of its thread. One turn
//! differs from the next by more than what is looked for; the medians of many do not.

use std::time::Duration;

use herenow_channels::Rate;
use herenow_server::config::{Secret, ServerConfig};

use super::client::Client;
use super::meter::{percentile, until};
use super::rush;
use super::server::{self, Server};
use super::storm::token;
use super::town::user_id;

/// Messages that are said, so many of them at a time.
const N_SAID: usize = 512;
const WINDOW: usize = 32;
/// One list of so many is compared, name by name; all were counted.
const LOOKED_AT: usize = 50;
/// What each holds, besides its envelope.
const SPEECH: &str = "a sentence of about the length that people write to each other in rooms";

/// What a server took of the CPU.
#[derive(Default)]
struct Costs {
    handshakes: Vec<Duration>,
    storms: Vec<Duration>,
    /// The two together.
    comings: Vec<Duration>,
    speeches: Vec<Duration>,
}

pub(crate) fn run(n: usize, turns: u32) -> anyhow::Result<()> {
    let (bare, whole) = (without(), with());
    let tokens = (0..n).map(|user| token(&whole, user_id(user)).map(Some));
    let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
    let (mut bare_costs, mut whole_costs) = (Costs::default(), Costs::default());
    for turn in 0..turns {
        let is_bare_first = turn % 2 == 0;
        for is_bare in [is_bare_first, !is_bare_first] {
            match is_bare {
                true => bare_costs.add(&bare, &vec![None; n]),
                false => whole_costs.add(&whole, &tokens),
            }?;
        }
    }
    compare(
        "handshakes",
        &mut bare_costs.handshakes,
        &mut whole_costs.handshakes,
    );
    compare("storm", &mut bare_costs.storms, &mut whole_costs.storms);
    compare("both", &mut bare_costs.comings, &mut whole_costs.comings);
    compare(
        "speech",
        &mut bare_costs.speeches,
        &mut whole_costs.speeches,
    );
    Ok(())
}

/// No limits, and clients are who they say they are.
fn without() -> ServerConfig {
    let mut config = rush::config();
    let none = Rate::new(0, 1);
    (config.socket.message_rate, config.socket.join_rate) = (none, none);
    config.limits.sockets_per_user = 0;
    config
}

/// The limits of the default configuration, which count this machine's own address and refuse it
/// nothing, and tokens.
fn with() -> ServerConfig {
    let mut config = server::config();
    config.jwt.secret = Some(Secret::new("of a crowd, and long enough for HS256"));
    config
}

impl Costs {
    fn add(&mut self, config: &ServerConfig, tokens: &[Option<String>]) -> anyhow::Result<()> {
        let server = Server::start_tcp(config)?;
        let (mut rushers, handshakes) = rush::connect(server.way(), tokens);
        let storm = rush::join(&mut rushers);
        rush::check(&mut rushers, LOOKED_AT);
        self.handshakes.push(handshakes.cpu);
        self.storms.push(storm.cpu);
        self.comings.push(handshakes.cpu + storm.cpu);
        let mut clients: Vec<_> = rushers.into_iter().map(|rusher| rusher.client).collect();
        let cpu = server::cpu();
        for _ in 0..N_SAID / WINDOW {
            speak(&mut clients);
        }
        self.speeches.push(server::cpu() - cpu);
        Ok(())
    }
}

/// Has the first say some, and waits until everybody has all of it.
fn speak(clients: &mut [Client]) {
    for n in 0..WINDOW {
        let payload = format!(r#"{{"n":{n},"text":"{SPEECH}"}}"#);
        clients[0].send(&format!(r#"["1","{n}","{}","said",{payload}]"#, rush::ROOM));
    }
    let mut missing = clients.len() * WINDOW;
    until("the speech", || {
        for client in clients.iter_mut() {
            client.read(|text| missing -= usize::from(text.contains(SPEECH)));
        }
        missing == 0
    });
}

fn compare(what: &str, bare: &mut [Duration], whole: &mut [Duration]) {
    // The least are those that the machine's other work disturbed least.
    for part in [10, 25, 50] {
        let [bare, whole] = [&mut *bare, &mut *whole].map(|times| percentile(times, part));
        println!(
            "{what}: {part} % of the turns took at most {bare:.2?} without, {whole:.2?} with them, {:+.1} %",
            100.0 * (whole.as_secs_f64() / bare.as_secs_f64() - 1.0)
        );
    }
}
