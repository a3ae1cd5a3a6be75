//! [`Oracle`]: the simplest model of what is true, who lives and what every life has written.
//!
//! It knows nothing of deltas, transfers or liveness. A life of a node is a list of writes; a
//! presence is there from the write that made it to the write that ended it, and everywhere only as
//! long as its node lives.

use std::collections::BTreeMap;

use herenow_core::{Incarnation, Key, Meta, NodeName, OwnerId, Topic, Version};

use crate::cluster::{Outcome, Write};

/// One writing of a presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRow {
    /// Whose it is.
    pub owner: OwnerId,
    /// Where.
    pub topic: Topic,
    /// As whom.
    pub key: Key,
    /// With what.
    pub meta: Meta,
    /// The writing that it replaced.
    pub prev: Option<Version>,
    /// The write that ended it, unless it is there still.
    pub ended: Option<Version>,
}

/// All that one life of a node has written.
#[derive(Debug, Clone, Default)]
pub struct Life {
    version: Version,
    rows: BTreeMap<Version, ModelRow>,
    present: BTreeMap<(OwnerId, Topic, Key), Version>,
    is_over: bool,
}

impl Life {
    /// Returns the number of writes.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the writing of this version, if it made a row.
    pub fn row(&self, version: Version) -> Option<&ModelRow> {
        self.rows.get(&version)
    }

    /// Returns the versions of the presences that are there, ascending.
    pub fn alive(&self) -> Vec<Version> {
        let mut alive: Vec<Version> = self.present.values().copied().collect();
        alive.sort_unstable();
        alive
    }

    /// Returns whether the node crashed or left.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn write(&mut self, write: &Write) -> Outcome {
        match write.clone() {
            Write::Track {
                owner,
                topic,
                key,
                meta,
            } => {
                let presence = (owner, topic, key);
                if self.present.contains_key(&presence) {
                    return Outcome::Refused;
                }
                self.make(presence, meta, None)
            }
            Write::Update {
                owner,
                topic,
                key,
                meta,
            } => {
                let presence = (owner, topic, key);
                match self.present.get(&presence).copied() {
                    Some(prev) => self.make(presence, meta, Some(prev)),
                    None => Outcome::Refused,
                }
            }
            Write::Untrack { owner, topic, key } => {
                match self.present.remove(&(owner, topic, key)) {
                    Some(row) => self.end(row),
                    None => Outcome::Refused,
                }
            }
            Write::OwnerEnd { owner } => self.end_owner(owner),
        }
    }

    fn make(
        &mut self,
        presence: (OwnerId, Topic, Key),
        meta: Meta,
        prev: Option<Version>,
    ) -> Outcome {
        self.version.0 += 1;
        if let Some(old) = prev.and_then(|prev| self.rows.get_mut(&prev)) {
            old.ended = Some(self.version);
        }
        let (owner, topic, key) = presence.clone();
        let row = ModelRow {
            owner,
            topic,
            key,
            meta,
            prev,
            ended: None,
        };
        self.rows.insert(self.version, row);
        self.present.insert(presence, self.version);
        Outcome::Wrote(self.version)
    }

    fn end(&mut self, row: Version) -> Outcome {
        self.version.0 += 1;
        if let Some(row) = self.rows.get_mut(&row) {
            row.ended = Some(self.version);
        }
        Outcome::Wrote(self.version)
    }

    /// The presences of an owner leave in the order of their writing, one version each.
    fn end_owner(&mut self, owner: OwnerId) -> Outcome {
        let of_owner = self.present.iter().filter(|((of, _, _), _)| *of == owner);
        let mut rows: Vec<Version> = of_owner.map(|(_, version)| *version).collect();
        rows.sort_unstable();
        self.present.retain(|(of, _, _), _| *of != owner);
        for row in &rows {
            self.end(*row);
        }
        Outcome::Ended(rows.len())
    }
}

/// Every life of every node.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    lives: BTreeMap<(NodeName, Incarnation), Life>,
}

impl Oracle {
    /// Returns one life of a node.
    pub fn life(&self, node: &NodeName, incarnation: Incarnation) -> Option<&Life> {
        self.lives.get(&(node.clone(), incarnation))
    }

    /// Returns how many lives there have been.
    pub fn n_lives(&self) -> usize {
        self.lives.len()
    }

    pub(crate) fn begin(&mut self, node: NodeName, incarnation: Incarnation) {
        self.lives.insert((node, incarnation), Life::default());
    }

    pub(crate) fn end(&mut self, node: &NodeName, incarnation: Incarnation) {
        if let Some(life) = self.lives.get_mut(&(node.clone(), incarnation)) {
            life.is_over = true;
        }
    }

    /// Returns what a write must come to.
    pub(crate) fn write(
        &mut self,
        node: &NodeName,
        incarnation: Incarnation,
        write: &Write,
    ) -> Outcome {
        match self.lives.get_mut(&(node.clone(), incarnation)) {
            Some(life) => life.write(write),
            None => Outcome::Refused,
        }
    }
}
