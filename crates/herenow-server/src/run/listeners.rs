//! Which listeners cannot be there at once.

use std::net::SocketAddr;

use super::RunError;
use crate::cluster;
use crate::config::{Engine, ServerConfig};

/// A listener: the key of its address, the address as it is written, and what it is.
type Listener = (&'static str, String, SocketAddr);

/// Returns each listener that has the address of one before it. `main` is where clients come in.
pub(super) fn check(config: &ServerConfig, main: SocketAddr) -> Vec<RunError> {
    let all = all(config, main);
    let mut errors = Vec::new();
    for (at, (key, address, one)) in all.iter().enumerate() {
        if let Some((other, other_address, _)) = all[..at].iter().find(|(.., o)| is_one(*one, *o)) {
            errors.push(RunError::OneAddress {
                key,
                address: address.clone(),
                other,
                other_address: other_address.clone(),
            });
        }
    }
    errors
}

fn all(config: &ServerConfig, main: SocketAddr) -> Vec<Listener> {
    let mut all = vec![("listen", main.to_string(), main)];
    let api = config.api.listen;
    all.extend(api.map(|address| ("api.listen", address.to_string(), address)));
    if config.cluster.engine == Some(Engine::Zenoh) {
        let listen = config.cluster.listen.iter();
        all.extend(
            listen
                .filter_map(|text| Some(("cluster.listen", text.clone(), cluster::address(text)?))),
        );
    }
    all
}

/// Tells whether whoever comes second is refused: one address, or one of all addresses. Those of
/// IPv6 include those of IPv4. Port 0 is always another.
fn is_one(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    let is_there = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    one.port() == other.port() && one.port() != 0 && is_there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1723_which_addresses_cannot_be_listened_on_at_once() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(is_one(one, other), expected, "{one} {other}");
            assert_eq!(is_one(other, one), expected, "{other} {one}");
        }
    }
}
