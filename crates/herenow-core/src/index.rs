//! [`Index`]: where every row is kept once, found by topic, and, if it is our own, by owner and key.
//!
//! A row gets a slot when it arrives and keeps it until it goes. A slot is *visible* while its
//! replica is up: then it is a member of its topic. Members stand in order of arrival; one that
//! goes leaves a hole, and a list that is half holes is compacted, so removal costs constant time
//! on average and nothing is sorted.
//!
//! What must never happen: a topic without a visible member; a member whose slot does not point
//! back; an own row missing from its owner's chain. [`check`](crate::check) looks for all of it.

use std::fmt;
use std::hash::BuildHasher;
use std::mem;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::ids::{Key, OwnerId, Topic};
use crate::row::Row;

/// No slot, no topic, no position.
const NONE: u32 = u32::MAX;
/// Member lists shorter than this are not worth compacting.
const MIN_COMPACT: usize = 16;

/// The name of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotId(u32);

impl SlotId {
    /// No slot.
    pub(crate) const NONE: Self = Self(NONE);

    fn at(self) -> usize {
        self.0 as usize
    }
}

struct Slot {
    row: Option<Arc<Row>>,
    /// The topic it is a member of; `NONE` while hidden.
    topic: u32,
    /// Where in the topic's members.
    position: u32,
    /// Neighbours among the own rows of one owner.
    older: u32,
    newer: u32,
}

struct Members {
    topic: Topic,
    slots: Vec<u32>,
    n_holes: u32,
}

/// All rows that a shard knows.
pub(crate) struct Index {
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    topics: Vec<Option<Members>>,
    free_topics: Vec<u32>,
    topic_ids: HashTable<u32>,
    /// Own rows by topic, owner and key.
    own: HashTable<u32>,
    /// The newest own row of each owner, by owner.
    owners: HashTable<u32>,
    hasher: FixedState,
    n_visible: usize,
}

impl Index {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = FixedState::with_seed(hash_seed);
        Self {
            slots: Vec::new(),
            free_slots: Vec::new(),
            topics: Vec::new(),
            free_topics: Vec::new(),
            topic_ids: HashTable::new(),
            own: HashTable::new(),
            owners: HashTable::new(),
            hasher,
            n_visible: 0,
        }
    }

    /// Takes in a row and shows it. The row's topic comes to share the index's text if it can.
    pub(crate) fn insert(&mut self, mut row: Arc<Row>) -> SlotId {
        let topic = self.topic_id(row.topic());
        if let Some(row) = Arc::get_mut(&mut row) {
            row.adopt_topic(&self.members(topic).topic);
        }
        let slot = Slot {
            row: Some(row),
            topic: NONE,
            position: NONE,
            older: NONE,
            newer: NONE,
        };
        let id = match self.free_slots.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("rows are bounded below four billion")
            }
        };
        self.add_member(topic, id);
        SlotId(id)
    }

    /// Takes in a row of this node's own.
    pub(crate) fn insert_own(&mut self, row: Arc<Row>) -> SlotId {
        let owner = row.owner();
        let hash = self.hash_own(row.topic(), owner, row.key());
        let id = self.insert(row);
        let slots = &self.slots;
        let hasher = &self.hasher;
        self.own.insert_unique(hash, id.0, |&other| {
            let row = row_of(slots, other);
            hasher.hash_one((row.topic().as_str(), row.owner(), row.key().as_str()))
        });
        let newest = self.replace_newest(owner, id.0);
        self.slots[id.at()].older = newest;
        if newest != NONE {
            self.slots[newest as usize].newer = id.0;
        }
        id
    }

    /// Makes a slot the newest of its owner and returns the one that was, or `NONE`.
    fn replace_newest(&mut self, owner: OwnerId, id: u32) -> u32 {
        let hash = self.hasher.hash_one(owner);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let entry = self.owners.entry(
            hash,
            |&other| row_of(slots, other).owner() == owner,
            |&other| hasher.hash_one(row_of(slots, other).owner()),
        );
        match entry {
            Entry::Occupied(mut newest) => mem::replace(newest.get_mut(), id),
            Entry::Vacant(vacant) => {
                vacant.insert(id);
                NONE
            }
        }
    }

    /// Gives up a row; one of this node's own is [disowned](Self::disown) first.
    pub(crate) fn remove(&mut self, id: SlotId) -> Arc<Row> {
        self.hide(id);
        let row = self.slots[id.at()].row.take();
        self.free_slots.push(id.0);
        row.expect("a table removes a slot once")
    }

    /// Makes a row of this node's own one like any other.
    pub(crate) fn disown(&mut self, id: SlotId) {
        let Slot { older, newer, .. } = self.slots[id.at()];
        let row = self.row(id).clone();
        if older != NONE {
            self.slots[older as usize].newer = newer;
        }
        if newer != NONE {
            self.slots[newer as usize].older = older;
        } else if older != NONE {
            self.replace_newest(row.owner(), older);
        } else {
            self.forget_owner(row.owner());
        }
        let hash = self.hash_own(row.topic(), row.owner(), row.key());
        if let Ok(entry) = self.own.find_entry(hash, |&other| other == id.0) {
            entry.remove();
        }
    }

    fn forget_owner(&mut self, owner: OwnerId) {
        let hash = self.hasher.hash_one(owner);
        let slots = &self.slots;
        let is_of_owner = |&id: &u32| row_of(slots, id).owner() == owner;
        if let Ok(entry) = self.owners.find_entry(hash, is_of_owner) {
            entry.remove();
        }
    }

    fn newest_of(&self, owner: OwnerId) -> u32 {
        let hash = self.hasher.hash_one(owner);
        let found = self
            .owners
            .find(hash, |&id| row_of(&self.slots, id).owner() == owner);
        found.copied().unwrap_or(NONE)
    }

    /// Returns whether reads see the row in a slot.
    pub(crate) fn is_visible(&self, id: SlotId) -> bool {
        self.slots[id.at()].topic != NONE
    }

    /// Hides a row: it stays, but no read sees it. False if it was hidden.
    pub(crate) fn hide(&mut self, id: SlotId) -> bool {
        let slot = &mut self.slots[id.at()];
        if slot.topic == NONE {
            return false;
        }
        let (topic, position) = (slot.topic, slot.position);
        slot.topic = NONE;
        slot.position = NONE;
        self.n_visible -= 1;
        let members = self.members_mut(topic);
        members.slots[position as usize] = NONE;
        members.n_holes += 1;
        let (n_holes, n_slots) = (members.n_holes as usize, members.slots.len());
        if n_holes == n_slots {
            self.remove_topic(topic);
        } else if n_slots >= MIN_COMPACT && n_holes * 2 > n_slots {
            self.compact(topic);
        }
        true
    }

    /// Shows a hidden row, after the members that its topic has. False if it was visible.
    pub(crate) fn show(&mut self, id: SlotId) -> bool {
        if self.is_visible(id) {
            return false;
        }
        let topic = self.row(id).topic().clone();
        let topic = self.topic_id(&topic);
        self.add_member(topic, id.0);
        true
    }

    /// Returns the row in a slot.
    pub(crate) fn row(&self, id: SlotId) -> &Arc<Row> {
        row_of(&self.slots, id.0)
    }

    /// Returns the slot of an own row.
    pub(crate) fn find_own(&self, owner: OwnerId, topic: &Topic, key: &Key) -> Option<SlotId> {
        let hash = self.hash_own(topic, owner, key);
        let found = self.own.find(hash, |&id| {
            let row = row_of(&self.slots, id);
            row.owner() == owner && row.key() == key && row.topic() == topic
        });
        found.map(|&id| SlotId(id))
    }

    /// Returns the own rows of an owner, the newest first.
    pub(crate) fn slots_of_owner(&self, owner: OwnerId) -> impl Iterator<Item = SlotId> {
        let mut next = self.newest_of(owner);
        std::iter::from_fn(move || {
            let id = next;
            let slot = self.slots.get(id as usize)?;
            next = slot.older;
            Some(SlotId(id))
        })
    }

    /// Returns the visible rows of a topic in order of arrival.
    pub(crate) fn rows_of_topic(&self, topic: &Topic) -> impl Iterator<Item = &Arc<Row>> {
        let members = self.find_topic(topic).map(|id| self.members(id));
        let slots = members.map(|members| members.slots.as_slice());
        let present = slots.unwrap_or_default().iter().filter(|&&id| id != NONE);
        present.map(|&id| row_of(&self.slots, id))
    }

    /// Returns how many visible rows the topic has.
    pub(crate) fn count(&self, topic: &Topic) -> usize {
        let members = self.find_topic(topic).map(|id| self.members(id));
        members.map_or(0, Members::count)
    }

    /// Returns the topics with a visible row, in no particular order, with their counts.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (&Topic, usize)> {
        let members = self.topics.iter().flatten();
        members.map(|members| (&members.topic, members.count()))
    }

    /// Returns how many rows are visible.
    pub(crate) fn n_visible(&self) -> usize {
        self.n_visible
    }

    fn add_member(&mut self, topic: u32, id: u32) {
        let members = self.members_mut(topic);
        let position = u32::try_from(members.slots.len()).expect("no more members than rows");
        members.slots.push(id);
        let slot = &mut self.slots[id as usize];
        slot.topic = topic;
        slot.position = position;
        self.n_visible += 1;
    }

    fn find_topic(&self, topic: &Topic) -> Option<u32> {
        let hash = self.hasher.hash_one(topic.as_str());
        let found = self
            .topic_ids
            .find(hash, |&id| self.members(id).topic == *topic);
        found.copied()
    }

    fn topic_id(&mut self, topic: &Topic) -> u32 {
        if let Some(id) = self.find_topic(topic) {
            return id;
        }
        let members = Members {
            topic: topic.clone(),
            slots: Vec::new(),
            n_holes: 0,
        };
        let id = match self.free_topics.pop() {
            Some(id) => {
                self.topics[id as usize] = Some(members);
                id
            }
            None => {
                self.topics.push(Some(members));
                u32::try_from(self.topics.len() - 1).expect("no more topics than rows")
            }
        };
        let hash = self.hasher.hash_one(topic.as_str());
        let topics = &self.topics;
        let hasher = &self.hasher;
        self.topic_ids.insert_unique(hash, id, |&other| {
            let members = topics[other as usize].as_ref();
            hasher.hash_one(members.expect("ids in the table are alive").topic.as_str())
        });
        id
    }

    fn remove_topic(&mut self, id: u32) {
        let hash = self.hasher.hash_one(self.members(id).topic.as_str());
        if let Ok(entry) = self.topic_ids.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.topics[id as usize] = None;
        self.free_topics.push(id);
    }

    fn compact(&mut self, id: u32) {
        let members = self.topics[id as usize].as_mut();
        let members = members.expect("only a topic with members is compacted");
        members.slots.retain(|&slot| slot != NONE);
        members.n_holes = 0;
        for (position, &slot) in (0u32..).zip(&members.slots) {
            self.slots[slot as usize].position = position;
        }
        members.slots.shrink_to(members.slots.len() * 2);
    }

    fn members(&self, id: u32) -> &Members {
        let members = self.topics[id as usize].as_ref();
        members.expect("ids of topics without members are not kept")
    }

    fn members_mut(&mut self, id: u32) -> &mut Members {
        let members = self.topics[id as usize].as_mut();
        members.expect("ids of topics without members are not kept")
    }

    fn hash_own(&self, topic: &Topic, owner: OwnerId, key: &Key) -> u64 {
        self.hasher.hash_one((topic.as_str(), owner, key.as_str()))
    }

    /// Returns the first broken rule of this structure, if one is broken.
    pub(crate) fn broken_rule(&self) -> Option<&'static str> {
        let mut n_members = 0;
        for (id, members) in (0u32..).zip(&self.topics) {
            let Some(members) = members else { continue };
            if members.count() == 0 {
                return Some("a topic has no members");
            }
            if self.find_topic(&members.topic) != Some(id) {
                return Some("a topic is not found by its name");
            }
            for (position, &slot) in (0u32..).zip(&members.slots) {
                if slot == NONE {
                    continue;
                }
                n_members += 1;
                let slot = &self.slots[slot as usize];
                if slot.topic != id || slot.position != position || slot.row.is_none() {
                    return Some("a member's slot does not point back");
                }
            }
        }
        if n_members != self.n_visible {
            return Some("the number of visible rows is wrong");
        }
        self.broken_owner_rule()
    }

    fn broken_owner_rule(&self) -> Option<&'static str> {
        let mut n_own = 0;
        for &newest in &self.owners {
            let owner = row_of(&self.slots, newest).owner();
            let mut id = newest;
            while id != NONE {
                n_own += 1;
                let row = row_of(&self.slots, id);
                if row.owner() != owner {
                    return Some("an owner's chain holds another owner's row");
                }
                if self.find_own(owner, row.topic(), row.key()) != Some(SlotId(id)) {
                    return Some("an own row is not found by topic, owner and key");
                }
                id = self.slots[id as usize].older;
            }
        }
        (n_own != self.own.len()).then_some("an own row is in no owner's chain")
    }
}

impl Members {
    fn count(&self) -> usize {
        self.slots.len() - self.n_holes as usize
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("n_visible", &self.n_visible)
            .field("n_own", &self.own.len())
            .field("n_topics", &self.topic_ids.len())
            .finish_non_exhaustive()
    }
}

fn row_of(slots: &[Slot], id: u32) -> &Arc<Row> {
    let row = slots[id as usize].row.as_ref();
    row.expect("ids of empty slots are not kept")
}
