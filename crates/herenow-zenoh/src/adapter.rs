//! [`ZenohAdapter`]: the [`Adapter`] that needs no broker.

mod names;
mod frame;
mod queue;
mod peers;
mod links;
mod settings;
mod shared;
mod inbox;
mod redial;
mod engine;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use herenow_pubsub::{Adapter, AdapterError, Closing, Receiver};
use tokio::sync::oneshot;

use crate::config::{ConfigError, ZenohConfig};
use frame::MAX_SUBJECT_BYTES;
use queue::Refused;
use shared::{Command, Shared};

/// One node of a cluster whose nodes talk to each other directly.
///
/// It owns two threads: one publishes what is queued, one hands over what arrives. Dropping it
/// closes it in the background; [`close`](Adapter::close) says when that is done.
pub struct ZenohAdapter {
    shared: Arc<Shared>,
    is_started: AtomicBool,
    max_queued: usize,
    max_message_bytes: usize,
}

/// What a [`ZenohAdapter`] has counted since it was opened, and how it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ZenohStats {
    /// Other nodes of the cluster that are there, as far as zenoh can tell.
    pub n_peers: usize,
    /// Times that a node was there again after it had been gone, in the same life.
    pub n_reconnects: u64,
    /// Messages that wait to be published.
    pub n_queued: usize,
    /// Messages that arrived and wait for the receiver.
    pub n_waiting: usize,
    /// Messages that were published; zenoh takes them even when nobody is there.
    pub n_sent: u64,
    /// Messages that zenoh did not take.
    pub n_failed: u64,
    /// Messages that the full queue refused.
    pub n_refused: u64,
    /// Messages that arrived.
    pub n_received: u64,
    /// Messages and reports of peers that arrived and were dropped, for the receiver was too slow.
    pub n_overrun: u64,
    /// Messages that arrived and could not be read.
    pub n_malformed: u64,
}

/// Who is at an address, of those that a [`ZenohAdapter`] has dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Linked {
    /// There is no link there.
    Nobody,
    /// Somebody who is no node of this cluster, or does not take part yet.
    Stranger,
    /// A router of zenoh's own, which other nodes may be behind.
    Router,
    /// This node of the cluster.
    Node(String),
}

/// Why a [`ZenohAdapter`] could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of range.
    #[error("a setting of the cluster is out of range")]
    Config(#[from] ConfigError),
    /// The thread could not be started.
    #[error("the thread of the engine could not be started")]
    Thread(#[source] io::Error),
    /// An address of [`ZenohConfig::listen`] cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as given.
        address: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// zenoh refused: a certificate cannot be read, for example.
    #[error("the engine could not be opened: {reason}")]
    Engine {
        /// What zenoh said.
        reason: String,
    },
}

impl ZenohAdapter {
    /// Opens the node: binds what it listens on and begins to connect to its peers.
    ///
    /// Waits up to 150 ms for the peers, then goes on without: that none is there, or none is let
    /// in, is no error but [`ZenohStats::n_peers`] of zero. Runs in any tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a setting is wrong, an address is taken or a certificate cannot be read.
    pub async fn open(config: &ZenohConfig) -> Result<Arc<Self>, OpenError> {
        config.check()?;
        let refused = |error: zenoh::Error| OpenError::Engine {
            reason: without_places(&error.to_string()),
        };
        let settings = settings::zenoh_config(config).map_err(refused)?;
        let shared = Arc::new(Shared::new(config));
        let (opened, is_open) = oneshot::channel();
        // From here on the thread closes the session, even if this future is dropped.
        let adapter = Arc::new(Self {
            shared: shared.clone(),
            is_started: AtomicBool::new(false),
            max_queued: config.max_queued.get(),
            max_message_bytes: config.max_message_bytes.get(),
        });
        let run = move || {
            let ending = Ending(shared);
            engine::run(settings, &ending.0, opened);
        };
        thread::Builder::new()
            .name("herenow-zenoh-out".into())
            .spawn(run)
            .map_err(OpenError::Thread)?;
        match is_open.await {
            Ok(Ok(())) => Ok(adapter),
            Ok(Err(error)) => Err(not_listened(&config.listen).unwrap_or_else(|| refused(error))),
            Err(_) => Err(OpenError::Engine {
                reason: "its thread panicked".into(),
            }),
        }
    }

    /// Returns what this node has counted.
    pub fn stats(&self) -> ZenohStats {
        let counters = &self.shared.counters;
        let (n_peers, n_reconnects) = {
            let peers = self.shared.peers.lock();
            (peers.n_nodes(), peers.n_returns())
        };
        ZenohStats {
            n_peers,
            n_reconnects,
            n_queued: self.shared.outgoing.len(),
            n_waiting: self.shared.incoming.len(),
            n_sent: counters.n_sent.load(Ordering::Relaxed),
            n_failed: counters.n_failed.load(Ordering::Relaxed),
            n_refused: counters.n_refused.load(Ordering::Relaxed),
            n_received: counters.n_received.load(Ordering::Relaxed),
            n_overrun: counters.n_overrun.load(Ordering::Relaxed),
            n_malformed: counters.n_malformed.load(Ordering::Relaxed),
        }
    }

    /// Returns who is linked to at any of `addresses`, if this node has dialled there.
    ///
    /// There is one link that this node has dialled to each other: who is linked to at another of
    /// their addresses is not found at this one.
    pub fn linked_at(&self, addresses: &[SocketAddr]) -> Linked {
        let links = self.shared.links.lock();
        let mut linked = Linked::Nobody;
        for peer in links.at(addresses) {
            if links.is_router(peer) {
                return Linked::Router;
            }
            if let Some(node) = self.shared.peers.lock().node_of(&peer.to_string()) {
                return Linked::Node(node.to_owned());
            }
            linked = Linked::Stranger;
        }
        linked
    }

    /// Returns whether a node of the cluster is there, as [`ZenohStats::n_peers`] counts them.
    pub fn is_there(&self, node: &str) -> bool {
        self.shared.peers.lock().has(node)
    }

    fn head(&self, subject: &str, bytes: &Bytes) -> Result<Vec<u8>, AdapterError> {
        for (len, max) in [
            (subject.len(), MAX_SUBJECT_BYTES),
            (bytes.len(), self.max_message_bytes),
        ] {
            if len > max {
                return Err(AdapterError::TooLarge { len, max });
            }
        }
        Ok(frame::head(&self.shared.node, subject))
    }

    fn queue(&self, command: Command, n_bytes: usize) -> Result<(), AdapterError> {
        match self.shared.outgoing.push(command, n_bytes) {
            Ok(()) => Ok(()),
            Err(Refused::Closed) => Err(AdapterError::Closed),
            Err(Refused::Full) => {
                let counters = &self.shared.counters;
                counters.n_refused.fetch_add(1, Ordering::Relaxed);
                Err(AdapterError::Full {
                    max: self.max_queued,
                })
            }
        }
    }
}

impl Adapter for ZenohAdapter {
    fn node_name(&self) -> &str {
        &self.shared.node
    }

    fn start(&self, receiver: Arc<dyn Receiver>) {
        if self.is_started.swap(true, Ordering::Relaxed) {
            tracing::error!("the adapter was started twice; the second receiver gets nothing");
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.shared.runtime.get_or_init(|| runtime);
        }
        if self
            .shared
            .outgoing
            .push_signal(Command::Start(receiver))
            .is_err()
        {
            tracing::error!("the adapter was closed or flooded before it was started");
        }
    }

    fn broadcast(&self, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        let head = self.head(subject, &bytes)?;
        let n_bytes = head.len() + bytes.len();
        self.queue(Command::Broadcast { head, bytes }, n_bytes)
    }

    fn send(&self, node: &str, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        let head = self.head(subject, &bytes)?;
        let n_bytes = head.len() + bytes.len() + node.len();
        let node = node.into();
        self.queue(Command::Send { node, head, bytes }, n_bytes)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(async move {
            self.shared.outgoing.close();
            let mut is_over = self.shared.is_over.subscribe();
            // The sender is ours, so it is still there.
            let _ = is_over.wait_for(|is_over| *is_over).await;
        })
    }
}

impl Drop for ZenohAdapter {
    fn drop(&mut self) {
        self.shared.outgoing.close();
    }
}

/// Finds the address that cannot be listened on, after zenoh could not: it tells so in a text only.
fn not_listened(listen: &[String]) -> Option<OpenError> {
    let refused = |address: &String| {
        let (_, at) = address.split_once('/')?;
        let cause = TcpListener::bind(at).err()?;
        let address = address.clone();
        Some(OpenError::Listen { address, cause })
    };
    listen.iter().find_map(refused)
}

/// What zenoh says without the places in its source that it names, as ` at PATH.rs:LINE.`: they are
/// of the machine that it was built on.
fn without_places(text: &str) -> String {
    let mut parts = text.split(" at ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match after_place(part) {
            Some(rest) => kept.push_str(rest),
            None => kept.extend([" at ", part]),
        }
    }
    kept
}

/// What comes after a place, if the text begins with one.
fn after_place(text: &str) -> Option<&str> {
    let (path, rest) = text.split_once(".rs:")?;
    let line = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_place = !path.contains(char::is_whitespace) && line.len() < rest.len();
    is_place.then(|| line.strip_prefix('.').unwrap_or(line))
}

impl fmt::Debug for ZenohAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZenohAdapter")
            .field("node", &self.shared.node)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Says that the thread is over, however it ends: nothing is accepted or waited for any more.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(node = self.0.node, "the thread of the engine panicked");
        }
        self.0.outgoing.close();
        self.0.incoming.close();
        self.0.is_over.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1828_what_zenoh_says_is_told_without_places_in_its_source() {
        let said = "Can not create a new TCP listener bound to tcp/127.0.0.1:1: [[The wire is cut \
                    at night (os error 98) at /build/zenoh-link-tcp/src/tcp.rs:61.]] at \
                    /build/src/unicast.rs:338.";
        let told = "Can not create a new TCP listener bound to tcp/127.0.0.1:1: [[The wire is cut \
                    at night (os error 98)]]";
        assert_eq!(without_places(said), told);
        assert_eq!(without_places("nothing at all"), "nothing at all");
    }
}
