//! [`Sealed`]: an adapter around another one that lets only nodes of the own cluster in.
//!
//! # Why here
//!
//! Engines differ in what they can keep out: zenoh has mutual TLS, a broker has users and
//! passwords, and whoever has those can still claim to be any node. So every message is
//! authenticated at the seam that all engines share, with one secret that all nodes have: the
//! guarantee is the same whatever carries the bytes, and a broker need not be trusted with it. It
//! does not hide anything: use the engine's TLS where others can listen.
//!
//! # What it holds
//!
//! - A message counts only if its tag fits: HMAC-SHA256 with a key derived from the secret and the
//!   cluster's name, over sender, subject, bytes, and the receiver if it is for one node.
//! - It counts once: each node numbers its frames, and takes each number of a peer once.
//! - It counts only in the sender's present life: a node believes a peer after it has answered a
//!   number drawn for it, so what was recorded of an earlier life, or before this node was
//!   started, is refused.
//! - Of two processes of one name the one that was started last counts, for all others; the earlier
//!   one takes nothing in, as if it were cut off, until the later one is silent.
//! - Nodes that differ in what a cluster must agree on ([`SealConfig::agreement`]), or in the
//!   version of this protocol, refuse each other.
//!
//! Each refusal is counted, logged once a minute and peer, on both sides, and kept for
//! [`Sealed::refused`]. Every node with the secret is trusted to give its true name. What an engine
//! says of peers that are gone is believed, of those that have proved themselves.
//!
//! Without a secret the same frames are sent with a key that everybody knows. That keeps mistakes
//! out (other clusters, other versions, other settings, a node that has a secret), and no one else.
//!
//! # How nodes meet
//!
//! ```text
//! a starts      a ── knock ───────────────────────▶ all      (or any message; or the engine reports a)
//! b asks        b ── hello  nonce, agreement ─────▶ a
//! a proves      a ── answer nonce, agreement ─────▶ b        b takes what a sends from here on
//! a asks        a ── hello  nonce, agreement ─────▶ b        and b answers likewise
//! ```
//!
//! A peer is reported as seen once both have proved themselves. Until then its messages are
//! dropped and counted; heartbeats make up for a handshake that was lost.

mod config;
mod refusal;
mod frame;
mod peers;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::config::{CLUSTER_PROTOCOL_VERSION, SealConfig, SealError};
use self::config::{read_agreement, write_agreement};
use self::frame::{HEAD_BYTES, Kind, Opened, Sealer};
use self::peers::{Nonce, Peer, Peers, SILENT_AFTER, Verdict};
use self::refusal::Refusals;
pub use self::refusal::{Refusal, RefusedPeer};
use crate::adapter::{Adapter, AdapterError, Closing, Receiver};

/// The subject of knocks, hellos and answers; other subjects of ours begin with `t` or `l`.
const SUBJECT: &str = "seal";
const NONCE_BYTES: usize = size_of::<Nonce>();

/// What a [`Sealed`] has counted since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealStats {
    /// Messages handed on.
    pub n_taken: u64,
    /// Messages dropped because their sender had not proved yet that it lives.
    pub n_unproved: u64,
    /// Messages dropped because they were taken before, or came much too late.
    pub n_replayed: u64,
    /// Messages refused for any other reason.
    pub n_refused: u64,
}

/// An adapter that authenticates what another one carries. See the module for what it holds.
pub struct Sealed {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<dyn Adapter>,
    sealer: Sealer,
    agreement: BTreeMap<String, String>,
    receiver: OnceLock<Arc<dyn Receiver>>,
    peers: Mutex<Peers>,
    refusals: Mutex<Refusals>,
    /// When a process of this node's name that was started later was last heard.
    replaced: Mutex<Option<Instant>>,
    n_taken: AtomicU64,
    n_unproved: AtomicU64,
    n_replayed: AtomicU64,
    n_refused: AtomicU64,
}

impl Sealed {
    /// Puts `inner` under seal.
    ///
    /// # Errors
    ///
    /// [`SealError`] if the secret is too short, the agreement too long, or the system gives no
    /// random numbers.
    pub fn new(inner: Arc<dyn Adapter>, config: SealConfig) -> Result<Self, SealError> {
        config.validate()?;
        let no_random = |error: getrandom::Error| SealError::NoRandom {
            reason: error.to_string(),
        };
        let life = in_order_of_starts(getrandom::u64().map_err(no_random)?);
        let secret = config.secret.as_deref();
        let shared = Shared {
            inner,
            sealer: Sealer::new(secret, &config.cluster, config.version, life),
            agreement: config.agreement,
            receiver: OnceLock::new(),
            peers: Mutex::new(Peers::new(config.max_peers)),
            refusals: Mutex::default(),
            replaced: Mutex::default(),
            n_taken: AtomicU64::new(0),
            n_unproved: AtomicU64::new(0),
            n_replayed: AtomicU64::new(0),
            n_refused: AtomicU64::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Returns the peers that were refused in the last two minutes, by name, with the latest reason;
    /// 256 at most.
    pub fn refused(&self) -> Vec<RefusedPeer> {
        self.shared.refusals.lock().list(Instant::now())
    }

    /// Returns what was counted so far.
    pub fn stats(&self) -> SealStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SealStats {
            n_taken: read(&self.shared.n_taken),
            n_unproved: read(&self.shared.n_unproved),
            n_replayed: read(&self.shared.n_replayed),
            n_refused: read(&self.shared.n_refused),
        }
    }
}

impl Adapter for Sealed {
    fn node_name(&self) -> &str {
        self.shared.inner.node_name()
    }

    fn start(&self, receiver: Arc<dyn Receiver>) {
        let is_first = self.shared.receiver.set(receiver).is_ok();
        debug_assert!(is_first, "an adapter is started once");
        self.shared.inner.start(Arc::new(Inlet {
            shared: Arc::downgrade(&self.shared),
        }));
        let knock = self.shared.seal(Kind::Knock, "", SUBJECT, &[]);
        self.shared
            .quietly(self.shared.inner.broadcast(SUBJECT, knock));
    }

    fn broadcast(&self, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        let frame = self.shared.seal(Kind::Broadcast, "", subject, &bytes);
        let sent = self.shared.inner.broadcast(subject, frame);
        sent.map_err(without_head)
    }

    fn send(&self, node: &str, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        let frame = self.shared.seal(Kind::Direct, node, subject, &bytes);
        let sent = self.shared.inner.send(node, subject, frame);
        sent.map_err(without_head)
    }

    fn close(&self) -> Closing<'_> {
        self.shared.inner.close()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("node_name", &self.node_name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What the inner adapter hands arrivals to. Weak: it must not keep the outer one alive.
struct Inlet {
    shared: Weak<Shared>,
}

impl Receiver for Inlet {
    fn receive(&self, from: &str, subject: &str, bytes: Bytes) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let own = shared.inner.node_name();
        match shared.sealer.open(from, own, subject, &bytes) {
            Ok(opened) if from == own => shared.on_namesake(opened.life),
            Ok(_) if shared.is_replaced() => {}
            Ok(opened) => shared.take(from, subject, opened),
            Err(refusal) => shared.refuse(from, &refusal),
        }
    }

    fn peer_seen(&self, peer: &str) {
        if let Some(shared) = self.shared.upgrade() {
            let is_reported = shared.peers.lock().is_reported(peer);
            if is_reported {
                shared.with_receiver(|receiver| receiver.peer_seen(peer));
            } else {
                shared.ask(peer, None);
            }
        }
    }

    fn peer_gone(&self, peer: &str) {
        if let Some(shared) = self.shared.upgrade() {
            let is_reported = shared.peers.lock().is_reported(peer);
            if is_reported {
                shared.with_receiver(|receiver| receiver.peer_gone(peer));
            }
        }
    }
}

impl Shared {
    fn seal(&self, kind: Kind, to: &str, subject: &str, body: &[u8]) -> Bytes {
        self.sealer
            .seal(kind, self.inner.node_name(), to, subject, body)
    }

    /// Takes note of another process that has this node's name.
    fn on_namesake(&self, life: u64) {
        if life == self.sealer.life() {
            return; // What this process sent came back.
        }
        if life > self.sealer.life() {
            *self.replaced.lock() = Some(Instant::now());
        }
        self.refuse(self.inner.node_name(), &Refusal::SameName);
    }

    /// Whether another process has this node's name, was started later, and speaks.
    fn is_replaced(&self) -> bool {
        let heard = *self.replaced.lock();
        heard.is_some_and(|heard| heard.elapsed() < SILENT_AFTER)
    }

    /// Takes in what passed the check of its tag.
    fn take(&self, from: &str, subject: &str, opened: Opened) {
        let now = Instant::now();
        if self.with_peer(from, |peer| peer.is_replaced(opened.life, now)) {
            return self.refuse(from, &Refusal::SameName);
        }
        match opened.kind {
            Kind::Broadcast | Kind::Direct => self.on_message(from, subject, opened),
            Kind::Knock => self.on_knock(from, opened.life),
            Kind::Hello => self.on_hello(from, &opened),
            Kind::Answer => self.on_answer(from, &opened),
        }
    }

    fn on_message(&self, from: &str, subject: &str, opened: Opened) {
        let judged = self.with_peer(from, |peer| {
            peer.judge(opened.life, opened.counter, Instant::now())
        });
        match judged {
            Verdict::Take => {
                self.n_taken.fetch_add(1, Ordering::Relaxed);
                self.with_receiver(|receiver| receiver.receive(from, subject, opened.body));
            }
            Verdict::Replayed => {
                self.n_replayed.fetch_add(1, Ordering::Relaxed);
                let reason = Refusal::Replayed;
                tracing::debug!(peer = from, %reason, "dropped a frame");
            }
            Verdict::Unproved => {
                self.n_unproved.fetch_add(1, Ordering::Relaxed);
                self.ask(from, Some(opened.life));
            }
        }
    }

    fn on_knock(&self, from: &str, life: u64) {
        if !self.with_peer(from, |peer| peer.has_proved(life)) {
            self.ask(from, Some(life));
        }
    }

    /// Answers whoever asks: an answer gives away nothing, and tells one who differs why.
    fn on_hello(&self, from: &str, hello: &Opened) {
        let Some((nonce, theirs)) = read_greeting(&hello.body) else {
            return self.refuse(from, &Refusal::Malformed);
        };
        let answer = self.greeting(nonce);
        let answer = self.seal(Kind::Answer, from, SUBJECT, &answer);
        self.quietly(self.inner.send(from, SUBJECT, answer));
        let has_proved = self.with_peer(from, |peer| {
            peer.answer(hello.life);
            peer.has_proved(hello.life)
        });
        if let Err(refusal) = self.compare(&theirs) {
            return self.refuse(from, &refusal);
        }
        if has_proved {
            self.report(from);
        } else {
            self.ask(from, Some(hello.life));
        }
    }

    fn on_answer(&self, from: &str, answer: &Opened) {
        let Some((nonce, theirs)) = read_greeting(&answer.body) else {
            return self.refuse(from, &Refusal::Malformed);
        };
        let agreed = self.compare(&theirs);
        let is_answer = self.with_peer(from, |peer| {
            let is_answer = peer.is_answer(nonce, answer.life);
            match (&agreed, is_answer) {
                (Ok(()), true) => peer.prove(answer.life, answer.counter, Instant::now()),
                (Err(_), true) => peer.disown(),
                (_, false) => {} // Late, doubled, or of an earlier life of this node.
            }
            is_answer
        });
        if !is_answer {
            return;
        }
        match agreed {
            Ok(()) => {
                self.refusals.lock().forgive(from);
                self.report(from);
            }
            Err(refusal) => self.refuse(from, &refusal),
        }
    }

    /// Asks a peer to prove that it lives, unless it was asked just now.
    fn ask(&self, peer: &str, since: Option<u64>) {
        let mut nonce = Nonce::default();
        if getrandom::fill(&mut nonce).is_err() {
            return; // Without fresh numbers nobody can prove anything; the next message asks again.
        }
        let is_due = self.with_peer(peer, |peer| peer.ask(nonce, since, Instant::now()));
        if is_due {
            let hello = self.greeting(&nonce);
            let hello = self.seal(Kind::Hello, peer, SUBJECT, &hello);
            self.quietly(self.inner.send(peer, SUBJECT, hello));
        }
    }

    fn report(&self, peer: &str) {
        let is_due = self.with_peer(peer, Peer::is_to_report);
        if is_due {
            tracing::debug!(peer, "peer has proved itself");
            self.with_receiver(|receiver| receiver.peer_seen(peer));
        }
    }

    fn greeting(&self, nonce: &[u8]) -> Vec<u8> {
        [nonce, write_agreement(&self.agreement).as_bytes()].concat()
    }

    /// Finds the first thing that sender and receiver differ in.
    fn compare(&self, theirs: &BTreeMap<String, String>) -> Result<(), Refusal> {
        for key in self.agreement.keys().chain(theirs.keys()) {
            let (ours, theirs) = (self.agreement.get(key), theirs.get(key));
            if ours != theirs {
                let show = |value: Option<&String>| value.map_or("not set", |text| text).to_owned();
                return Err(Refusal::Disagrees {
                    key: key.clone(),
                    theirs: show(theirs),
                    ours: show(ours),
                });
            }
        }
        Ok(())
    }

    fn refuse(&self, peer: &str, reason: &Refusal) {
        self.n_refused.fetch_add(1, Ordering::Relaxed);
        if *reason == Refusal::OtherCluster {
            // Nothing is wrong: clusters may share an engine.
            return tracing::debug!(peer, %reason, "refused a node");
        }
        if self.refusals.lock().note(peer, reason, Instant::now()) {
            tracing::warn!(peer, %reason, "refused a node");
        }
    }

    /// Runs `act` on a peer, under the lock.
    fn with_peer<T>(&self, peer: &str, act: impl FnOnce(&mut Peer) -> T) -> T {
        act(self.peers.lock().entry(peer, Instant::now()))
    }

    fn with_receiver(&self, call: impl FnOnce(&dyn Receiver)) {
        if let Some(receiver) = self.receiver.get() {
            call(&**receiver);
        }
    }

    /// A greeting that is not accepted is made up for by the next message of the peer.
    fn quietly(&self, sent: Result<(), AdapterError>) {
        if let Err(error) = sent {
            tracing::debug!(%error, "greeting not accepted");
        }
    }
}

/// The caller's message is what the engine refused, without what sealing added.
fn without_head(error: AdapterError) -> AdapterError {
    match error {
        AdapterError::TooLarge { len, max } => AdapterError::TooLarge {
            len: len.saturating_sub(HEAD_BYTES),
            max: max.saturating_sub(HEAD_BYTES),
        },
        AdapterError::Full { .. } | AdapterError::Closed | AdapterError::Engine { .. } => error,
    }
}

/// The number of a life: later ones are higher by the wall clock, and no two are the same.
fn in_order_of_starts(random: u64) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    u64::try_from(nanos).unwrap_or(u64::MAX) & !0xff | random & 0xff
}

/// A nonce, then the sender's agreement.
fn read_greeting(body: &[u8]) -> Option<(&[u8], BTreeMap<String, String>)> {
    let (nonce, agreement) = body.split_at_checked(NONCE_BYTES)?;
    Some((nonce, read_agreement(agreement)?))
}
