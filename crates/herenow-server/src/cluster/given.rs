//! [`Given`]: the peers that were given by address, and which of them are not reached.
//!
//! An address that has a typing error, or a node with another `cluster.name`, is silent otherwise:
//! who knows nobody misses nobody. A look a second, one task for each address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::engine::{Probe, Who};
use super::peers::is_own;
use crate::outage::{Failing, Outage, Part};

/// How often it is looked who is there.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a name may take to be resolved.
const RESOLVED_WITHIN: Duration = Duration::from_secs(2);

/// The peers that were given by address. Dropping it ends its tasks.
#[derive(Debug)]
pub(super) struct Given {
    peers: Vec<Arc<Peer>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Peer {
    /// In the form `tcp/HOST:PORT`.
    endpoint: String,
    failing: Mutex<Option<Failing>>,
}

impl Given {
    /// Begins to look, at the peers other than this node, which listens at `listen`.
    pub(super) fn watch(endpoints: Vec<String>, listen: &[String], probe: &Arc<dyn Probe>) -> Self {
        let peer = |endpoint| {
            let mut failing = None;
            Failing::note(&mut failing, "there is no connection to it yet");
            Arc::new(Peer {
                endpoint,
                failing: Mutex::new(failing),
            })
        };
        let peers: Vec<Arc<Peer>> = endpoints.into_iter().map(peer).collect();
        let mut tasks = JoinSet::new();
        for peer in &peers {
            tasks.spawn(look_on(peer.clone(), listen.to_vec(), probe.clone()));
        }
        Self {
            peers,
            _tasks: tasks,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Those that are not reached now: the address, why, and for how long.
    pub(super) fn unreached(&self) -> Vec<Outage> {
        let outage = |peer: &Arc<Peer>| {
            let failing = peer.failing.lock();
            Some(failing.as_ref()?.outage(Part::Peer, &peer.endpoint))
        };
        self.peers.iter().filter_map(outage).collect()
    }
}

async fn look_on(peer: Arc<Peer>, listen: Vec<String>, probe: Arc<dyn Probe>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Who was there last: known at another address as well, to which it may have moved.
    let mut known = None;
    loop {
        ticks.tick().await;
        let looked = look(&peer.endpoint, &listen, &*probe, &mut known).await;
        let mut failing = peer.failing.lock();
        match looked {
            Ok(()) => *failing = None,
            Err(why) => {
                Failing::note(&mut failing, &why);
            }
        }
    }
}

/// Looks once; the error says why nobody is reached.
async fn look(
    endpoint: &str,
    listen: &[String],
    probe: &dyn Probe,
    known: &mut Option<String>,
) -> Result<(), String> {
    if known.as_ref().is_some_and(|node| probe.is_there(node)) {
        return Ok(());
    }
    let addresses = resolve(endpoint).await?;
    match probe.who_is_at(&addresses) {
        Who::Node(node) => *known = Some(node),
        Who::Router => {}
        // A name that leads here, from a list for all nodes: it is dialled in vain.
        _ if addresses.iter().any(|at| is_own(*at, listen)) => {}
        Who::Stranger => {
            return Err("who answers there is no node of this cluster.name".to_owned());
        }
        Who::Nobody => return Err("there is no connection to it".to_owned()),
    }
    Ok(())
}

/// The addresses that an endpoint leads to at the moment.
async fn resolve(endpoint: &str) -> Result<Vec<SocketAddr>, String> {
    let (_, host) = endpoint.split_once('/').unwrap_or(("", endpoint));
    match timeout(RESOLVED_WITHIN, lookup_host(host)).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(format!("its name is not found: {error}")),
        Err(_) => Err(format!("its name is not found within {RESOLVED_WITHIN:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::EngineStats;
    use super::*;

    /// An engine with somebody at one address.
    #[derive(Default)]
    struct Fake(Mutex<Option<(SocketAddr, Who)>>);

    impl Fake {
        fn has(&self, at: &str, who: Who) {
            *self.0.lock() = Some((at.parse().unwrap(), who));
        }
    }

    impl Probe for Fake {
        fn stats(&self) -> EngineStats {
            EngineStats::default()
        }

        fn who_is_at(&self, addresses: &[SocketAddr]) -> Who {
            match &*self.0.lock() {
                Some((at, who)) if addresses.contains(at) => who.clone(),
                _ => Who::Nobody,
            }
        }

        fn is_there(&self, node: &str) -> bool {
            matches!(&*self.0.lock(), Some((_, Who::Node(there))) if there == node)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn srv_1822_a_peer_is_unreached_until_its_node_is_linked_to_and_for_how_long() {
        let fake = Arc::new(Fake::default());
        let probe: Arc<dyn Probe> = fake.clone();
        let endpoints = vec!["tcp/127.0.0.1:22990".to_owned()];
        let given = Given::watch(endpoints, &["tcp/127.0.0.1:7447".to_owned()], &probe);
        let unreached = |why: &str, seconds| {
            let elapsed = Duration::from_secs(seconds);
            vec![Outage::new(Part::Peer, "tcp/127.0.0.1:22990", why, elapsed)]
        };
        let at_once = unreached("there is no connection to it yet", 0);
        assert_eq!(given.unreached(), at_once);
        let look = |seconds: u64| tokio::time::sleep(Duration::from_millis(seconds * 1000 + 500));
        let why = |given: &Given| given.unreached().pop().map(|outage| outage.why);
        look(60).await;
        let outage = given.unreached().pop().unwrap();
        assert_eq!(outage.why, "there is no connection to it");
        assert!(outage.for_ms >= 60_000, "{outage:?}");
        fake.has("127.0.0.1:22990", Who::Stranger);
        look(1).await;
        let stranger = "who answers there is no node of this cluster.name".to_owned();
        assert_eq!(why(&given), Some(stranger));
        fake.has("127.0.0.1:22990", Who::Node("b".to_owned()));
        look(1).await;
        assert_eq!(why(&given), None);
        // It has moved, or has dialled itself: it is there all the same.
        fake.has("127.0.0.1:22991", Who::Node("b".to_owned()));
        look(1).await;
        assert_eq!(why(&given), None);
        fake.has("127.0.0.1:22991", Who::Node("c".to_owned()));
        look(1).await;
        assert!(given.unreached().pop().unwrap().for_ms < 2_000);
    }

    #[tokio::test]
    async fn srv_1823_a_name_that_leads_to_the_node_itself_is_no_peer_that_is_missed() {
        let listen = ["tcp/0.0.0.0:22992".to_owned()];
        let fake = Fake::default();
        let own = look("tcp/localhost:22992", &listen, &fake, &mut None).await;
        assert_eq!(own, Ok(()));
        let other = look("tcp/localhost:22993", &listen, &fake, &mut None).await;
        assert_eq!(other, Err("there is no connection to it".to_owned()));
        let unknown = look("tcp/b.invalid:22992", &listen, &fake, &mut None).await;
        assert!(unknown.unwrap_err().starts_with("its name is not found"));
    }
}
