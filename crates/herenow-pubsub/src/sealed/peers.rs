//! What is known of each peer: which life of it has proved itself, and which of its frames were
//! taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How far a frame may be behind the newest one of its sender, in frames.
const WINDOW: u64 = 1024;
/// A hello that is not answered is sent again after this, then after twice the time, and so on.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(5);
/// A life that was silent for so long makes room for one that began before it: of two processes of
/// one name, the later one counts while it speaks.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(5);

/// A number that is used once, for one hello.
pub(super) type Nonce = [u8; 16];

/// The frames of one life that were taken: those ahead of the newest are new, those within the
/// window behind it are known by a bit each, older ones are refused.
#[derive(Debug)]
pub(super) struct Window {
    newest: u64,
    taken: [u64; WINDOW as usize / 64],
}

impl Window {
    /// A window in which all frames up to `newest` count as taken.
    pub(super) fn after(newest: u64) -> Self {
        Self {
            newest,
            taken: [u64::MAX; WINDOW as usize / 64],
        }
    }

    /// Takes a frame; false if it was taken before or is too old to tell.
    pub(super) fn take(&mut self, counter: u64) -> bool {
        if counter > self.newest {
            let first = counter.saturating_sub(WINDOW - 1).max(self.newest + 1);
            for between in first..counter {
                self.set(between, false);
            }
            self.newest = counter;
            self.set(counter, true);
            return true;
        }
        if self.newest - counter >= WINDOW || self.is_set(counter) {
            return false;
        }
        self.set(counter, true);
        true
    }

    fn is_set(&self, counter: u64) -> bool {
        let (word, bit) = place(counter);
        self.taken[word] & bit != 0
    }

    fn set(&mut self, counter: u64, is_taken: bool) {
        let (word, bit) = place(counter);
        if is_taken {
            self.taken[word] |= bit;
        } else {
            self.taken[word] &= !bit;
        }
    }
}

fn place(counter: u64) -> (usize, u64) {
    let at = counter % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    heard: Instant,
    proved: Option<(u64, Window)>,
    /// When something of that life was last taken.
    taken: Instant,
    asked: Option<Asked>,
    /// The life whose hello was answered: it can have taken this node for proved since.
    answered: Option<u64>,
    /// The life that was reported as seen.
    reported: Option<u64>,
}

#[derive(Debug)]
struct Asked {
    nonce: Nonce,
    /// Whoever began before this life is not meant: another process of the name may answer too.
    since: Option<u64>,
    at: Instant,
    retry: Duration,
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Hand it on.
    Take,
    /// It was taken before.
    Replayed,
    /// Its sender has to prove first that it lives now.
    Unproved,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            heard: now,
            proved: None,
            taken: now,
            asked: None,
            answered: None,
            reported: None,
        }
    }

    /// Whether a life that began later has proved itself and speaks.
    pub(super) fn is_replaced(&self, life: u64, now: Instant) -> bool {
        let later = self
            .proved
            .as_ref()
            .is_some_and(|(proved, _)| life < *proved);
        later && now.duration_since(self.taken) < SILENT_AFTER
    }

    pub(super) fn judge(&mut self, life: u64, counter: u64, now: Instant) -> Verdict {
        match &mut self.proved {
            Some((proved, window)) if *proved == life => {
                if window.take(counter) {
                    self.taken = now;
                    Verdict::Take
                } else {
                    Verdict::Replayed
                }
            }
            Some(_) | None => Verdict::Unproved,
        }
    }

    pub(super) fn has_proved(&self, life: u64) -> bool {
        self.proved
            .as_ref()
            .is_some_and(|(proved, _)| *proved == life)
    }

    /// Takes note of a hello about to be sent, to the life `since` or a later one; false if the
    /// last one may still be answered.
    pub(super) fn ask(&mut self, nonce: Nonce, since: Option<u64>, now: Instant) -> bool {
        let retry = match &self.asked {
            Some(asked) if now.duration_since(asked.at) < asked.retry => return false,
            Some(asked) => (asked.retry * 2).min(MAX_RETRY),
            None => FIRST_RETRY,
        };
        self.asked = Some(Asked {
            nonce,
            since,
            at: now,
            retry,
        });
        true
    }

    /// Takes in an answer; false if it answers no question that is open.
    pub(super) fn is_answer(&self, nonce: &[u8], life: u64) -> bool {
        self.asked.as_ref().is_some_and(|asked| {
            asked.nonce == nonce && asked.since.is_none_or(|since| since <= life)
        })
    }

    /// From now on this life counts, and its frames after `counter`.
    pub(super) fn prove(&mut self, life: u64, counter: u64, now: Instant) {
        self.asked = None;
        self.taken = now;
        self.proved = Some((life, Window::after(counter)));
    }

    /// Nothing of this peer counts any more.
    pub(super) fn disown(&mut self) {
        self.proved = None;
        self.reported = None;
    }

    pub(super) fn answer(&mut self, life: u64) {
        self.answered = Some(life);
    }

    /// Whether both sides have proved themselves and it was not reported yet; it is then.
    pub(super) fn is_to_report(&mut self) -> bool {
        let proved = self.proved.as_ref().map(|(life, _)| *life);
        let is_due = proved.is_some() && proved == self.answered && proved != self.reported;
        if is_due {
            self.reported = proved;
        }
        is_due
    }
}

/// All peers, bounded.
#[derive(Debug)]
pub(super) struct Peers {
    max_peers: usize,
    peers: BTreeMap<Arc<str>, Peer>,
}

impl Peers {
    pub(super) fn new(max_peers: usize) -> Self {
        Self {
            max_peers,
            peers: BTreeMap::new(),
        }
    }

    /// Returns the peer, made if it is new. If it is one too many, the one that was silent for the
    /// longest time goes; should it come back, it proves itself again.
    pub(super) fn entry(&mut self, name: &str, now: Instant) -> &mut Peer {
        if !self.peers.contains_key(name) && self.peers.len() >= self.max_peers {
            let silent = self.peers.iter().min_by_key(|(_, peer)| peer.heard);
            if let Some(silent) = silent.map(|(name, _)| name.clone()) {
                self.peers.remove(&silent);
            }
        }
        if !self.peers.contains_key(name) {
            self.peers.insert(Arc::from(name), Peer::new(now));
        }
        let peer = self.peers.get_mut(name).expect("it was just put there");
        peer.heard = now;
        peer
    }

    /// Whether the receiver knows of this peer.
    pub(super) fn is_reported(&self, name: &str) -> bool {
        let peer = self.peers.get(name);
        peer.is_some_and(|peer| peer.reported.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_each_frame_once_in_any_order() {
        let mut window = Window::after(10);
        assert!(!window.take(10) && !window.take(3));
        assert!(window.take(13) && window.take(11) && window.take(12));
        assert!(!window.take(11) && !window.take(12) && !window.take(13));
        assert!(window.take(13 + WINDOW), "far ahead");
        assert!(!window.take(13), "taken before, and too old to tell");
        assert!(window.take(14), "within the window");
        assert!(!window.take(14));
        assert!(window.take(u64::MAX) && !window.take(u64::MAX));
    }
}
