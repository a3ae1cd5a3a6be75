//! [`Crowd`]: who lives, where and in which topic. It is the oracle: it knows no table and no delta.

use std::num::NonZeroU16;

use herenow_core::{Key, Meta, OwnerId, Row, Shard, ShardIndex, Topic};
use xxhash_rust::xxh3::xxh3_64;

use crate::random::Random;

/// Presences of a topic, on average.
const MEMBERS: usize = 20;
const META: &str = r#"{"online_at":"1700000000"}"#;

/// One presence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    /// Owner and key: a number that no other presence of the run has.
    pub(super) number: u64,
    pub(super) node: u32,
    pub(super) topic: u32,
}

impl Person {
    pub(super) fn owner(self) -> OwnerId {
        OwnerId(self.number)
    }

    pub(super) fn key(self) -> Key {
        Key::new(format!("user:{:010}", self.number)).expect("a short key is fine")
    }
}

pub(super) fn meta() -> Meta {
    Meta::new(META).expect("a small object is fine")
}

/// Rows of one shard as a number that does not depend on their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    n_rows: usize,
    hashes: u64,
}

impl Sum {
    fn add(&mut self, topic: &str, key: &str, meta: &str, owner: OwnerId, node: &str) {
        let text = format!("{topic} {key} {meta} {owner} {node}");
        self.n_rows += 1;
        self.hashes = self.hashes.wrapping_add(xxh3_64(text.as_bytes()));
    }

    /// Sums up what a shard lists.
    pub(super) fn of_shard(shard: &Shard) -> Self {
        let mut sum = Self::default();
        let topics = shard.topics();
        let rows = topics.flat_map(|(topic, _)| shard.rows_of_topic(topic));
        for row in rows {
            let row: &Row = row;
            let node = row.replica().node.as_str();
            let (topic, key, meta) = (row.topic().as_str(), row.key(), row.meta());
            sum.add(topic, key.as_str(), meta.as_str(), row.owner(), node);
        }
        sum
    }
}

/// Everybody.
#[derive(Debug)]
pub(super) struct Crowd {
    topics: Vec<Topic>,
    shards: Vec<u16>,
    people: Vec<Person>,
    n_in_shard: Vec<usize>,
    n_born: u64,
    /// Joins and leaves so far.
    pub(super) n_changes: u64,
}

impl Crowd {
    pub(super) fn new(n_presences: usize, n_shards: NonZeroU16) -> Self {
        let names = (0..n_presences.div_ceil(MEMBERS).max(1)).map(|n| format!("room:{n}"));
        let topics: Vec<Topic> = names
            .map(|name| Topic::new(name).expect("a short topic is fine"))
            .collect();
        let shards = topics.iter();
        let shards = shards.map(|topic| ShardIndex::of_topic(topic.as_str(), n_shards).0);
        Self {
            shards: shards.collect(),
            topics,
            people: Vec::with_capacity(n_presences),
            n_in_shard: vec![0; n_shards.get().into()],
            n_born: 0,
            n_changes: 0,
        }
    }

    pub(super) fn topic(&self, person: Person) -> &Topic {
        &self.topics[person.topic as usize]
    }

    pub(super) fn shard(&self, person: Person) -> u16 {
        self.shards[person.topic as usize]
    }

    pub(super) fn n_in_shard(&self, shard: usize) -> usize {
        self.n_in_shard[shard]
    }

    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    /// Lets somebody live on a node, in a topic of a shard that the node carries.
    pub(super) fn join(
        &mut self,
        random: &mut Random,
        node: usize,
        carries: impl Fn(u16) -> bool,
    ) -> Person {
        let topic = loop {
            let topic = random.index(self.topics.len());
            if carries(self.shards[topic]) {
                break topic;
            }
        };
        self.n_born += 1;
        self.n_changes += 1;
        let person = Person {
            number: self.n_born,
            node: u32::try_from(node).expect("nodes are few"),
            topic: u32::try_from(topic).expect("topics are few"),
        };
        let shard = self.shard(person);
        self.n_in_shard[usize::from(shard)] += 1;
        self.people.push(person);
        person
    }

    /// Ends somebody.
    pub(super) fn leave(&mut self, random: &mut Random) -> Option<Person> {
        if self.people.is_empty() {
            return None;
        }
        let person = self.people.swap_remove(random.index(self.people.len()));
        let shard = self.shard(person);
        self.n_in_shard[usize::from(shard)] -= 1;
        self.n_changes += 1;
        Some(person)
    }

    /// Sums up who lives, by shard.
    pub(super) fn sums(&self, name: impl Fn(usize) -> String) -> Vec<Sum> {
        let mut sums = vec![Sum::default(); self.n_in_shard.len()];
        for person in &self.people {
            let (topic, key) = (self.topic(*person).as_str(), person.key());
            let node = name(person.node as usize);
            let sum = &mut sums[usize::from(self.shard(*person))];
            sum.add(topic, key.as_str(), META, person.owner(), &node);
        }
        sums
    }
}
