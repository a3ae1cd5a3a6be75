//! Dials again the peers that were found through others and lost.
//!
//! zenoh dials again the peers that it was told by address, for ever, but not those that it heard
//! of from other peers: two nodes that lose their link, while both keep one to a third, would stay
//! apart. The node that had dialled knows the address, so it is the one that dials again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use zenoh::config::{Locator, ZenohId};
use zenoh::internal::runtime::Runtime;

use super::shared::Shared;

/// The pause before the first attempt, and the longest between two; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// How long a lost peer is dialled.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3600);

/// Lost peers that are dialled at a time; what comes on top is not.
const MAX_LOST: usize = 1024;

/// Links that came down and are not looked at yet; what comes on top is not dialled again.
pub(super) const MAX_LINKS: usize = 4096;

/// A link that this node had dialled and that is down.
#[derive(Debug)]
pub(super) struct LostLink {
    pub(super) peer: ZenohId,
    pub(super) address: Locator,
}

#[derive(Debug)]
struct Lost {
    address: Locator,
    given_up: Instant,
    pause: Duration,
    /// `None` while an attempt is under way.
    next: Option<Instant>,
}

/// Dials until `links` is closed. Runs inside zenoh's own runtime.
pub(super) async fn run(
    runtime: Runtime,
    shared: Arc<Shared>,
    mut links: mpsc::Receiver<LostLink>,
) {
    let mut lost: HashMap<ZenohId, Lost> = HashMap::new();
    let mut attempts: JoinSet<(ZenohId, bool)> = JoinSet::new();
    loop {
        let next = lost.values().filter_map(|lost| lost.next).min();
        tokio::select! {
            link = links.recv() => match link {
                Some(link) => on_lost(&mut lost, link),
                None => return,
            },
            Some(Ok((peer, is_linked))) = attempts.join_next() => {
                on_attempt(&mut lost, peer, is_linked);
            }
            () = sleep_until(next) => {
                // A process whose name another one has is not coming back.
                let peers = shared.peers.lock();
                lost.retain(|peer, _| !peers.is_replaced(&peer.to_string()));
                drop(peers);
                dial_due(&mut lost, &mut attempts, &runtime);
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn on_lost(lost: &mut HashMap<ZenohId, Lost>, link: LostLink) {
    if lost.len() < MAX_LOST {
        let now = Instant::now();
        lost.entry(link.peer).or_insert_with(|| Lost {
            address: link.address,
            given_up: now + GIVE_UP_AFTER,
            pause: PAUSES.0,
            next: Some(now + PAUSES.0),
        });
    }
}

fn on_attempt(lost: &mut HashMap<ZenohId, Lost>, peer: ZenohId, is_linked: bool) {
    let Some(entry) = lost.get_mut(&peer) else {
        return;
    };
    let now = Instant::now();
    if is_linked {
        tracing::info!(peer = %peer, address = %entry.address, "linked again");
        lost.remove(&peer);
    } else if now >= entry.given_up {
        tracing::warn!(peer = %peer, address = %entry.address, "peer is not dialled any more");
        lost.remove(&peer);
    } else {
        entry.pause = (entry.pause * 2).min(PAUSES.1);
        entry.next = Some(now + entry.pause);
    }
}

fn dial_due(
    lost: &mut HashMap<ZenohId, Lost>,
    attempts: &mut JoinSet<(ZenohId, bool)>,
    runtime: &Runtime,
) {
    let now = Instant::now();
    for (peer, entry) in lost {
        if entry.next.is_some_and(|next| next <= now) {
            entry.next = None;
            let (peer, runtime, addresses) = (*peer, runtime.clone(), vec![entry.address.clone()]);
            attempts.spawn(async move {
                let is_linked = runtime.connect_peer(&peer.into(), &addresses).await;
                (peer, is_linked)
            });
        }
    }
}
