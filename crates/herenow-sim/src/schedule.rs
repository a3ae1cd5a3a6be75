//! [`Plan`]: what a seed means, a list of operations and faults.
//!
//! A plan is made before anything runs and depends on nothing but its seed, so a failing one can be
//! looked at, and shortened. Nodes are named by a number that is taken modulo those that there are
//! when the time comes. Each seed leaves out some kinds of faults altogether: a fault that is rare
//! among many others hides what it does alone.

use std::num::NonZero;
use std::time::Duration;

use herenow_core::{Grace, Key, Meta, OwnerId, ShardConfig, Topic};

use crate::cluster::Write;
use crate::network::Weather;
use crate::random::Random;

/// One thing that is done to the cluster.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are what they are named")]
pub enum Act {
    /// An owner does something.
    Write { node: usize, write: Write },
    /// Many owners join at once; those that are there already end.
    Burst { node: usize, n_owners: u64 },
    /// Owners of one node do much in a short time.
    Storm {
        node: usize,
        writes: Vec<Write>,
        gap: Duration,
    },
    /// The network becomes better or worse.
    Weather(Weather),
    /// Links between two halves are cut: bit 0 of the mask is the first node.
    Split { mask: u16, both_ways: bool },
    /// One link is cut, in one direction.
    Cut { from: usize, to: usize },
    /// All links are whole again.
    Mend,
    /// A node stops for a while and goes on as if nothing had been.
    Pause { node: usize, length: Duration },
    /// A node dies; the engine may notice.
    Crash { node: usize, hinted: bool },
    /// A node that died lives again, under its name.
    Restart { node: usize },
    /// A node with a new name comes.
    Newcomer,
    /// A node says good-bye and ends.
    Leave { node: usize },
    /// All nodes leave and restart, one after the other.
    Rolling { gap: Duration },
    /// A monotonic clock is set.
    Jump { node: usize, by_millis: i64 },
    /// A wall clock is set.
    WallClock { node: usize, by_millis: i64 },
    /// The engine says that a node is gone which is not.
    FalseAlarm { node: usize },
    /// The weather clears, and what can be reached must be right.
    Calm,
}

/// An act and how long after the one before it comes.
#[derive(Debug, Clone)]
pub struct Step {
    /// The time to wait.
    pub after: Duration,
    /// What then is done.
    pub act: Act,
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Nodes at the beginning.
    pub n_nodes: usize,
    /// The settings of all shards.
    pub config: ShardConfig,
    /// The network at the beginning.
    pub weather: Weather,
    /// What happens.
    pub steps: Vec<Step>,
}

/// How often each kind of act comes, in parts of the whole.
struct Odds(Vec<(u64, Kind)>);

#[derive(Clone, Copy)]
enum Kind {
    Write,
    Burst,
    Crowd,
    Storm,
    Weather,
    Split,
    Cut,
    Mend,
    Pause,
    Crash,
    Restart,
    Newcomer,
    Leave,
    Rolling,
    Jump,
    WallClock,
    FalseAlarm,
    Calm,
}

/// Kinds that a seed may leave out, with their parts if it does not.
const FAULTS: [(u64, Kind); 13] = [
    (20, Kind::Burst),
    (20, Kind::Weather),
    (20, Kind::Split),
    (20, Kind::Cut),
    (30, Kind::Pause),
    (30, Kind::Crash),
    (10, Kind::Newcomer),
    (15, Kind::Leave),
    (5, Kind::Rolling),
    (15, Kind::Jump),
    (15, Kind::WallClock),
    (15, Kind::FalseAlarm),
    (8, Kind::Calm),
];

/// How many seeds of a thousand are about nothing but long answers to readers that missed a lot:
/// what can go wrong between two chunks needs so much at once that it is rare among everything
/// else.
const LONG_ANSWERS: u64 = 150;

/// How many seeds of a thousand are about nodes with so many rows, and messages so small, that what
/// is gone does not fit into one.
const LONG_LISTS: u64 = 100;
/// The seed of the draw for them, which is apart from the plan's own so that other seeds go on
/// meaning what they did.
const LONG_LISTS_SEED: u64 = 0x6c69_7374;

/// How many seeds of a thousand have topics with grace, drawn apart like the above.
const GRACES: u64 = 250;
const GRACES_SEED: u64 = 0x6772_6163;

impl Plan {
    /// Makes the plan of a seed; with `n_nodes` nodes, or as many as the seed says.
    pub fn of_seed(seed: u64, n_nodes: Option<usize>) -> Self {
        let mut random = Random::new(seed);
        let drawn = random.between(3, 9);
        let drawn = usize::try_from(drawn).expect("nine fits");
        let mut config = config(&mut random);
        let mut weather = Weather::random(&mut random);
        let mut odds = Odds::random(&mut random);
        if random.per_mille(LONG_ANSWERS) {
            let_answers_be_long(&mut config);
            weather = Weather::of_long_answers();
            odds = Odds::of_long_answers();
        } else if Random::new(seed ^ LONG_LISTS_SEED).per_mille(LONG_LISTS) {
            return Self::of_long_lists(&mut random, n_nodes, config);
        }
        config.graces = graces(&mut Random::new(seed ^ GRACES_SEED));
        let n_steps = random.between(40, 160);
        let steps = (0..n_steps).map(|_| step(&mut random, &odds)).collect();
        Self {
            n_nodes: n_nodes.unwrap_or(drawn),
            config,
            weather,
            steps,
        }
    }
}

impl Plan {
    /// Few nodes with many rows, of which many go while others do not listen.
    fn of_long_lists(random: &mut Random, n_nodes: Option<usize>, mut config: ShardConfig) -> Self {
        config.max_delta_bytes = 256;
        config.transfer_bytes_per_second = 1024 * 1024;
        config.max_history = random.pick(&[0, 0, 16, 65_536]);
        let odds = Odds::of_long_lists();
        let n_steps = random.between(30, 60);
        let steps = (0..n_steps).map(|_| step(random, &odds)).collect();
        Self {
            n_nodes: n_nodes.unwrap_or(3),
            config,
            weather: Weather::random(random),
            steps,
        }
    }
}

/// Large batches, cut into small chunks that come slowly, told exactly.
fn let_answers_be_long(config: &mut ShardConfig) {
    config.flush_interval = Duration::from_millis(300);
    config.max_delta_bytes = 1024;
    config.transfer_bytes_per_second = 32 * 1024;
    config.max_history = 65_536;
}

/// Of the topics that there are, one may have a grace, another, and some not.
fn graces(random: &mut Random) -> Vec<(String, Grace)> {
    if !random.per_mille(GRACES) {
        return Vec::new();
    }
    let mut grace = || {
        let mut grace = Grace::of(Duration::from_millis(random.pick(&[300, 2_000, 8_000])));
        grace.on_node_down = random.per_mille(700);
        grace
    };
    let (one, others) = (
        ("room:0".to_owned(), grace()),
        ("room:*".to_owned(), grace()),
    );
    match random.below(3) {
        0 => vec![one],
        1 => vec![others],
        _ => vec![one, others],
    }
}

fn config(random: &mut Random) -> ShardConfig {
    let mut config = ShardConfig::default();
    config.heartbeat_period = Duration::from_millis(random.pick(&[500, 1000]));
    config.down_period = config.heartbeat_period * random.pick(&[3, 5, 8]);
    config.permdown_period = config.down_period * random.pick(&[2, 4]);
    config.flush_interval = Duration::from_millis(random.pick(&[0, 5, 50, 300, 300]));
    config.request_timeout = Duration::from_millis(random.pick(&[100, 500]));
    config.max_delta_bytes = random.pick(&[1024, 1024, 1024, 4096, 256 * 1024]);
    config.transfer_bytes_per_second = random
        .pick(&[32 * 1024, 64 * 1024 * 1024])
        .max(config.max_delta_bytes);
    config.max_history = random.pick(&[0, 2, 16, 65_536, 65_536]);
    config.max_peers = 48;
    config.sweep_rows = NonZero::new(random.pick(&[1, 2, 16, 256])).expect("none is zero");
    config.hash_seed = random.below(u64::MAX);
    config
}

impl Odds {
    fn random(random: &mut Random) -> Self {
        let writes = random.pick(&[100, 300, 600]);
        let mut odds = vec![
            (writes, Kind::Write),
            (30, Kind::Storm),
            (20, Kind::Mend),
            (40, Kind::Restart),
        ];
        odds.extend(FAULTS.into_iter().filter(|_| random.per_mille(550)));
        Self(odds)
    }

    fn of_long_answers() -> Self {
        Self(vec![
            (60, Kind::Storm),
            (20, Kind::Burst),
            (20, Kind::Write),
            (10, Kind::Crash),
            (20, Kind::Restart),
            (10, Kind::Calm),
        ])
    }

    fn of_long_lists() -> Self {
        Self(vec![
            (60, Kind::Crowd),
            (20, Kind::Storm),
            (20, Kind::Write),
            (20, Kind::Split),
            (30, Kind::Mend),
            (20, Kind::Pause),
            (10, Kind::Weather),
            (5, Kind::Calm),
        ])
    }

    fn draw(&self, random: &mut Random) -> Kind {
        let whole = self.0.iter().map(|(part, _)| part).sum();
        let mut at = random.below(whole);
        for (part, kind) in &self.0 {
            if at < *part {
                return *kind;
            }
            at -= part;
        }
        Kind::Write
    }
}

fn step(random: &mut Random, odds: &Odds) -> Step {
    let after = match random.below(100) {
        0..60 => random.micros(0, 20_000),
        60..90 => random.millis(20, 1_500),
        90..99 => random.millis(1_500, 6_000),
        _ => random.millis(8_000, 45_000),
    };
    let kind = odds.draw(random);
    let act = act(random, kind);
    Step { after, act }
}

fn act(random: &mut Random, kind: Kind) -> Act {
    let node = random.index(64);
    match kind {
        Kind::Write => Act::Write {
            node,
            write: write(random),
        },
        Kind::Burst => Act::Burst {
            node,
            n_owners: random.between(10, 80),
        },
        Kind::Crowd => Act::Burst {
            node,
            n_owners: random.between(200, 400),
        },
        Kind::Storm => Act::Storm {
            node,
            gap: random.micros(0, 20_000),
            writes: (0..random.between(10, 60)).map(|_| write(random)).collect(),
        },
        Kind::Weather => Act::Weather(Weather::random(random)),
        Kind::Split => Act::Split {
            mask: u16::try_from(random.below(512)).expect("nine bits fit"),
            both_ways: random.per_mille(700),
        },
        Kind::Cut => Act::Cut {
            from: node,
            to: random.index(64),
        },
        Kind::Mend => Act::Mend,
        Kind::Pause => Act::Pause {
            node,
            length: random.millis(10, 12_000),
        },
        Kind::Crash => Act::Crash {
            node,
            hinted: random.per_mille(400),
        },
        Kind::Restart => Act::Restart { node },
        Kind::Newcomer => Act::Newcomer,
        Kind::Leave => Act::Leave { node },
        Kind::Rolling => Act::Rolling {
            gap: random.millis(10, 3_000),
        },
        Kind::Jump => {
            let by_millis = random.pick(&[-3_000, -200, 200, 3_000, 30_000]);
            Act::Jump { node, by_millis }
        }
        Kind::WallClock => {
            let by_millis = random.pick(&[-60_000, -5_000, 60_000]);
            Act::WallClock { node, by_millis }
        }
        Kind::FalseAlarm => Act::FalseAlarm { node },
        Kind::Calm => Act::Calm,
    }
}

/// Few owners, topics and keys, so that they meet often; the same numbers on every node.
fn write(random: &mut Random) -> Write {
    let owner = OwnerId(random.below(5));
    let topic = topic(random.below(3));
    let key = key(random.below(6));
    match random.below(100) {
        0..50 => Write::Track {
            owner,
            topic,
            key,
            meta: meta(random),
        },
        50..75 => Write::Update {
            owner,
            topic,
            key,
            meta: meta(random),
        },
        75..95 => Write::Untrack { owner, topic, key },
        _ => Write::OwnerEnd { owner },
    }
}

pub(crate) fn topic(number: u64) -> Topic {
    Topic::new(format!("room:{number}")).expect("a short topic is fine")
}

pub(crate) fn key(number: u64) -> Key {
    Key::new(format!("user-{number}")).expect("a short key is fine")
}

pub(crate) fn numbered_meta(number: u64) -> Meta {
    Meta::new(format!("{{\"n\":{number}}}")).expect("a small object is fine")
}

fn meta(random: &mut Random) -> Meta {
    // Now and then so long that a few rows fill a chunk.
    let longest = random.pick(&[60, 60, 400]);
    let filler = "x".repeat(random.index(longest));
    let text = format!("{{\"n\":{},\"s\":\"{filler}\"}}", random.below(1_000_000));
    Meta::new(text).expect("a small object is fine")
}
