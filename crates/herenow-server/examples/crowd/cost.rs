//! `crowd cost`: what tokens and limits cost. All connect, then all join one room at once, and then
//! one of them speaks to all, by turns on a server that has both and on one that has neither.
//!
//! Each turn is a server of its own, and what is compared is the CPU time of its thread. One turn
//! differs from the next by more than what is looked for; the middle of many ratios does not.

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

/// What a server took of the CPU in one turn.
#[derive(Default, Clone, Copy)]
struct Costs {
    handshakes: Duration,
    storm: Duration,
    speech: Duration,
}

type Cost = fn(&Costs) -> Duration;

/// What is compared, by its name.
const COMPARED: [(&str, Cost); 4] = [
    ("handshakes", |costs| costs.handshakes),
    ("storm", |costs| costs.storm),
    ("both", |costs| costs.handshakes + costs.storm),
    ("speech", |costs| costs.speech),
];

pub(crate) fn run(n: usize, turns: u32) -> anyhow::Result<()> {
    let (bare, whole) = (without(), with());
    let tokens = (0..n).map(|user| token(&whole, user_id(user)).map(Some));
    let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
    let costs_of = |is_bare: bool| match is_bare {
        true => costs(&bare, &vec![None; n]),
        false => costs(&whole, &tokens),
    };
    let mut pairs = Vec::new();
    for turn in 0..turns {
        let is_bare_first = turn % 2 == 0;
        let (first, second) = (costs_of(is_bare_first)?, costs_of(!is_bare_first)?);
        pairs.push(match is_bare_first {
            true => [first, second],
            false => [second, first],
        });
    }
    for (what, cost) in COMPARED {
        compare(what, &pairs, cost);
    }
    Ok(())
}

/// No limits, and clients are who they say they are.
fn without() -> ServerConfig {
    let mut config = rush::config();
    let none = Rate::new(0, 1);
    (config.socket.message_rate, config.socket.join_rate) = (none, none);
    config.limits.sockets_per_user = 0;
    config.limits.user_rate = Rate::new(0, 0);
    config
}

/// The limits of the default configuration, which count this machine's own address and refuse it
/// nothing, and tokens.
fn with() -> ServerConfig {
    let mut config = server::config();
    config.jwt.secret = Some(Secret::new("of a crowd, and long enough for HS256"));
    config
}

/// Has all come to a server of their own, and one of them speak.
fn costs(config: &ServerConfig, tokens: &[Option<String>]) -> anyhow::Result<Costs> {
    let server = Server::start_tcp(config)?;
    let (mut rushers, _) = rush::connect(server.way(), tokens);
    // What a server still does for a connection when its client has the answer is of the handshake.
    let handshakes = server::settled_cpu();
    rush::join(&mut rushers);
    let storm = server::settled_cpu();
    rush::check(&mut rushers, LOOKED_AT);
    let mut clients: Vec<_> = rushers.into_iter().map(|rusher| rusher.client).collect();
    for _ in 0..N_SAID / WINDOW {
        speak(&mut clients);
    }
    Ok(Costs {
        handshakes,
        storm: storm - handshakes,
        speech: server::settled_cpu() - storm,
    })
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

/// Compares each turn with its neighbour, which the machine's other work disturbed alike, and
/// prints the middle of those ratios, and between which two of them it is with 95 % certainty.
fn compare(what: &str, pairs: &[[Costs; 2]], cost: Cost) {
    let [bare, whole] = [0, 1].map(|side| {
        let mut times: Vec<_> = pairs.iter().map(|pair| cost(&pair[side])).collect();
        percentile(&mut times, 50)
    });
    let ratio = |[bare, whole]: &[Costs; 2]| cost(whole).as_secs_f64() / cost(bare).as_secs_f64();
    let mut ratios: Vec<f64> = pairs.iter().map(ratio).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let [low, middle, high] = median_within(&ratios).map(|ratio| 100.0 * (ratio - 1.0));
    println!(
        "{what}: {bare:.2?} without, {whole:.2?} with them; {middle:+.1} % ({low:+.1} to {high:+.1})"
    );
}

/// The median of a sample between its bounds for 95 %: how many are below it is as with coins.
fn median_within(sorted: &[f64]) -> [f64; 3] {
    let (n, last) = (sorted.len() as f64, sorted.len().saturating_sub(1));
    let at = |rank: f64| sorted[(rank.max(0.0) as usize).min(last)];
    let off = 0.98 * n.sqrt();
    [at(n / 2.0 - off), at(n / 2.0), at(n / 2.0 + off)]
}
