//! Why frames are refused, and the memory of who was told so: one line in the log a minute, not one
//! a frame.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How often the same refusal of the same peer is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);
/// Peers whose refusals are remembered.
const MAX_REMEMBERED: usize = 256;
/// For how long, after the last of them: who is refused still says something in that time.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Why a frame, and with it perhaps its sender, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It was sent by something that does not seal at all.
    #[error("its messages are not sealed: it is no node of this version, or not one of ours")]
    NotSealed,
    /// It speaks another version.
    #[error("it speaks version {theirs} of the cluster protocol, this node version {ours}")]
    OtherVersion {
        /// The version of the frame.
        theirs: u8,
        /// The version of this node.
        ours: u8,
    },
    /// It belongs to a cluster of another name that shares the engine.
    #[error("it belongs to a cluster of another name")]
    OtherCluster,
    /// This node has a secret and the sender has none.
    #[error("it has no cluster secret, this node has one")]
    NoSecretThere,
    /// The sender has a secret and this node has none.
    #[error("it has a cluster secret, this node has none")]
    NoSecretHere,
    /// Both have a secret, and the tag does not fit.
    #[error("its cluster secret is another one, or its messages were changed on the way")]
    WrongTag,
    /// The frame passed and cannot be read all the same.
    #[error("its message cannot be read")]
    Malformed,
    /// The frame was taken before, or is older than what still can be told.
    #[error("its message came twice, or much too late")]
    Replayed,
    /// Two processes have the same name.
    #[error(
        "another process has the same name: node names must be unique, and only the one that was started last counts"
    )]
    SameName,
    /// Sender and receiver differ in what a cluster must agree on.
    #[error("{key} is {theirs} there and {ours} here, a cluster must agree on it")]
    Disagrees {
        /// What they differ in.
        key: String,
        /// The sender's value, or `not set`.
        theirs: String,
        /// This node's value, or `not set`.
        ours: String,
    },
}

/// A peer that was refused.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RefusedPeer {
    /// The name that it gave.
    pub peer: Arc<str>,
    /// The latest reason.
    pub refusal: Refusal,
    /// How many frames of it were refused.
    pub n_refused: u64,
    /// When the last one was.
    pub last: Instant,
}

/// Who was refused, bounded.
#[derive(Default)]
pub(super) struct Refusals {
    peers: BTreeMap<Arc<str>, Entry>,
}

struct Entry {
    refused: RefusedPeer,
    logged: Instant,
}

impl Refusals {
    /// Takes note; true if it is to be logged.
    pub(super) fn note(&mut self, peer: &str, refusal: &Refusal, now: Instant) -> bool {
        if let Some(entry) = self.peers.get_mut(peer) {
            let is_new = entry.refused.refusal != *refusal;
            entry.refused.refusal = refusal.clone();
            entry.refused.n_refused += 1;
            entry.refused.last = now;
            let is_due = is_new || now.duration_since(entry.logged) >= LOG_PERIOD;
            if is_due {
                entry.logged = now;
            }
            return is_due;
        }
        if self.peers.len() >= MAX_REMEMBERED {
            self.forget(now);
        }
        if self.peers.len() >= MAX_REMEMBERED {
            return false; // Whoever invents names shall not fill the log: it is counted only.
        }
        let peer: Arc<str> = Arc::from(peer);
        let refused = RefusedPeer {
            peer: peer.clone(),
            refusal: refusal.clone(),
            n_refused: 1,
            last: now,
        };
        let entry = Entry {
            refused,
            logged: now,
        };
        self.peers.insert(peer, entry);
        true
    }

    /// Forgets a peer that is welcome now.
    pub(super) fn forgive(&mut self, peer: &str) {
        self.peers.remove(peer);
    }

    /// Those that are refused still, or were just now.
    pub(super) fn list(&mut self, now: Instant) -> Vec<RefusedPeer> {
        self.forget(now);
        let entries = self.peers.values();
        entries.map(|entry| entry.refused.clone()).collect()
    }

    fn forget(&mut self, now: Instant) {
        let is_recent = |entry: &Entry| now.duration_since(entry.refused.last) < REMEMBERED;
        self.peers.retain(|_, entry| is_recent(entry));
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.peers.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1826_who_is_refused_no_more_is_forgotten_and_makes_room() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        for n in 0..MAX_REMEMBERED {
            assert!(refusals.note(&n.to_string(), &Refusal::NotSealed, start));
        }
        let soon = start + REMEMBERED / 2;
        assert!(!refusals.note("more", &Refusal::NotSealed, soon));
        refusals.note("0", &Refusal::NotSealed, soon);
        let later = start + REMEMBERED;
        assert!(refusals.note("more", &Refusal::NotSealed, later));
        let names =
            |list: Vec<RefusedPeer>| list.iter().map(|p| p.peer.to_string()).collect::<Vec<_>>();
        assert_eq!(names(refusals.list(later)), ["0", "more"]);
        assert_eq!(names(refusals.list(soon + REMEMBERED)), ["more"]);
        assert!(refusals.list(later + REMEMBERED).is_empty());
    }
}
