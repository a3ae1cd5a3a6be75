//! Which of the peers that a node is told are others: one list for all nodes names the node itself.
//!
//! zenoh would dial it again and again, and complain each time.

use std::net::{SocketAddr, UdpSocket};

/// Returns `peers` without those that are where this node listens. A name is only known to be this
/// node's if `listen` has it as well: it can lead to others tomorrow.
pub(super) fn others(peers: &[String], listen: &[String]) -> Vec<String> {
    let is_own = |peer: &String| listen.iter().any(|own| is_at(peer, own));
    peers.iter().filter(|peer| !is_own(peer)).cloned().collect()
}

/// Tells whether `peer` is what listens at `own`, both in the form `tcp/ADDRESS:PORT`.
fn is_at(peer: &str, own: &str) -> bool {
    if peer == own {
        return true;
    }
    address(peer).is_some_and(|peer| is_listened(peer, own))
}

/// Tells whether this node, which listens at `listen`, is what is at an address.
pub(super) fn is_own(peer: SocketAddr, listen: &[String]) -> bool {
    listen.iter().any(|own| is_listened(peer, own))
}

fn is_listened(peer: SocketAddr, own: &str) -> bool {
    let Some(own) = address(own) else {
        return false;
    };
    let is_there = own.ip().is_unspecified() && is_of_this_machine(peer);
    peer.port() == own.port() && (peer.ip() == own.ip() || is_there)
}

/// The address of an endpoint that is no name.
pub(crate) fn address(endpoint: &str) -> Option<SocketAddr> {
    let (_, address) = endpoint.split_once('/')?;
    address.parse().ok()
}

/// The system lets a socket be bound to its own addresses only.
fn is_of_this_machine(address: SocketAddr) -> bool {
    UdpSocket::bind((address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn srv_1724_a_list_of_all_nodes_is_told_without_the_node_itself() {
        let others = |peers: &[&str], listen: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
            super::others(&owned(peers), &owned(listen)).join(" ")
        };
        let all = [
            "tcp/127.0.0.1:7447",
            "tcp/192.0.2.7:7447",
            "tcp/b.example:7447",
        ];
        let rest = "tcp/192.0.2.7:7447 tcp/b.example:7447";
        assert_eq!(others(&all, &["tcp/127.0.0.1:7447"]), rest);
        assert_eq!(others(&all, &["tcp/0.0.0.0:7447"]), rest);
        assert_eq!(others(&all, &["tcp/[::]:7447"]), rest);
        assert_eq!(others(&all, &["tcp/127.0.0.1:7448"]), all.join(" "));
        let named = ["tcp/10.0.0.1:1", "tcp/b.example:7447"];
        assert_eq!(others(&all, &named), all[..2].join(" "));
        assert_eq!(others(&[], &named), "");
    }
}
