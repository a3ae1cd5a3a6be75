//! [`Elsewhere`]: which leases other nodes hold, as they have said, and which ran out here.
//!
//! It is what a lease that moves here takes along: a later stamp than the one that it had, and the
//! meta, which the presence with its ref has. A client's own presence of the same key has another
//! ref. Nodes do not tell when a lease ends: then nothing present has the ref any more, unless the
//! topic has a grace, in which it is still shown.

use std::collections::HashMap;

use herenow_presence::{Presence, PresenceMeta};
use serde_json::{Map, Value};

use super::Name;
use super::link::{Claim, Stamp};

/// Leases known at most. With more in the cluster, some move without their meta.
const MAX_KNOWN: usize = 65_536;

/// The leases that are not held here.
#[derive(Debug, Default)]
pub(super) struct Elsewhere(HashMap<Name, Known>);

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    phx_ref: String,
}

impl Elsewhere {
    /// Takes note of another node's claim, or of that of a lease that ran out here, unless a later
    /// one is known.
    pub(super) fn note(&mut self, claim: Claim, presence: &Presence) {
        if !self.0.contains_key(&claim.name) {
            self.make_room(presence);
        }
        let new = Known {
            stamp: claim.stamp,
            phx_ref: claim.phx_ref,
        };
        match self.0.get_mut(&claim.name) {
            Some(known) if known.stamp > new.stamp => {}
            Some(known) => *known = new,
            None => _ = self.0.insert(claim.name, new),
        }
    }

    /// When the lease came to the node that had it last.
    pub(super) fn stamp(&self, name: &Name) -> Option<&Stamp> {
        self.0.get(name).map(|known| &known.stamp)
    }

    /// The meta of the presence of this lease, without its refs; empty if there is none.
    pub(super) fn meta(&self, name: &Name, presence: &Presence) -> Map<String, Value> {
        let known = self.0.get(name);
        let meta = known.and_then(|known| known.find(name, presence));
        let meta = meta.and_then(|meta| meta.read().ok());
        let mut meta: Map<String, Value> = meta.unwrap_or_default();
        meta.remove("phx_ref");
        meta.remove("phx_ref_prev");
        meta
    }

    /// Whether the presence of this lease is still shown: there, or in grace.
    pub(super) fn is_shown(&self, name: &Name, presence: &Presence) -> bool {
        let known = self.0.get(name);
        known.is_some_and(|known| known.find(name, presence).is_some())
    }

    /// Forgets leases that have ended, if there are many; if that does not help, all.
    fn make_room(&mut self, presence: &Presence) {
        if self.0.len() < MAX_KNOWN {
            return;
        }
        self.0
            .retain(|name, known| known.find(name, presence).is_some());
        if self.0.len() > MAX_KNOWN / 2 {
            self.0.clear();
        }
    }
}

impl Known {
    fn find(&self, name: &Name, presence: &Presence) -> Option<PresenceMeta> {
        let entry = presence.entry(&name.topic, &name.key)?;
        // A change can be here before the claim that has its ref.
        let is_it = |meta: &&PresenceMeta| {
            let before = meta.prev_ref();
            let mut refs = before.iter().copied().chain([meta.meta_ref()]);
            meta.node().as_str() == self.stamp.node && refs.any(|at| at.as_str() == self.phx_ref)
        };
        entry.metas().iter().find(is_it).cloned()
    }
}
