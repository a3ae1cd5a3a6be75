//! [`ZenohConfig`]: where a node listens, whom it knows, and how much it queues.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// The longest name of a node or a cluster, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Settings of one node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ZenohConfig {
    /// The node's name, unique in the cluster: 1 to 255 bytes of any text. Empty by default, which
    /// is refused.
    pub node: String,
    /// The cluster's name: 1 to 255 bytes of any text, `herenow` by default. Nodes of different
    /// clusters do not hear each other, even when they are linked.
    pub cluster: String,
    /// Where the node listens, as `tcp/ADDRESS:PORT` or, with [`tls`](Self::tls),
    /// `tls/ADDRESS:PORT`. Port 0 takes a free one. Port 7447 of all addresses by default.
    pub listen: Vec<String>,
    /// Peers to connect to, in the form of [`listen`](Self::listen); none by default. A peer that
    /// is not there is tried again for ever. One that all nodes have in common is enough; two nodes
    /// that list each other keep two connections, of which each message takes one.
    pub peers: Vec<String>,
    /// Whether nodes are also found by themselves. Off by default.
    pub discovery: Discovery,
    /// Keys and certificates. Without them, links are in the clear and everybody may take part.
    pub tls: Option<Tls>,
    /// Messages that wait to be sent; one more is refused. 65,536 by default.
    pub max_queued: NonZeroUsize,
    /// Messages that arrived and wait to be taken in; one more is dropped and counted. 65,536 by
    /// default.
    pub max_received: NonZeroUsize,
    /// Bytes that wait, per queue, on top of which nothing is queued. 64 MiB by default.
    pub max_queued_bytes: NonZeroUsize,
    /// The largest message, in bytes. 16 MiB by default.
    pub max_message_bytes: NonZeroUsize,
    /// How long one peer that does not read may hold up what is sent to all, before its link is
    /// closed: 1 ms to 60 s, 500 ms by default.
    pub max_stall: Duration,
}

/// Whether nodes find each other without being told an address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Discovery {
    /// Only the peers that are given, and those they know.
    Off,
    /// By multicast on the local network. Every zenoh peer on it is linked to: use [`Tls`].
    Multicast {
        /// The group and port; `224.0.0.224:7446` is zenoh's own.
        group: SocketAddr,
        /// The name or address of the network interface; `auto` takes all.
        interface: String,
    },
}

/// The files of mutual TLS: each node shows a certificate of the cluster's own authority, and
/// nobody without one is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The authority's certificate, PEM.
    pub ca: PathBuf,
    /// The node's certificate, PEM; for server and client use.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub private_key: PathBuf,
    /// Whether a peer's certificate must be for the address that it was reached by. Peers that
    /// were found through others are reached by the address they listen on.
    pub verify_names: bool,
}

/// What is wrong with a [`ZenohConfig`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name is empty or too long.
    #[error("{field} is {len} bytes, it must be 1 to {max}")]
    Name {
        /// `node` or `cluster`.
        field: &'static str,
        /// The name's length in bytes.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The node listens nowhere.
    #[error("listen is empty, it needs at least one address")]
    NoListen,
    /// An address is not of the form that is needed.
    #[error(
        "{field}: address {address:?} must look like {scheme}/HOST:PORT{}",
        because(scheme)
    )]
    Address {
        /// `listen` or `peers`.
        field: &'static str,
        /// The address as given.
        address: String,
        /// `tls` if certificates are given, else `tcp`.
        scheme: &'static str,
    },
    /// [`ZenohConfig::max_stall`] is out of range.
    #[error("max_stall is {given:?}, it must be 1ms to {max:?}")]
    Stall {
        /// The duration as given.
        given: Duration,
        /// The longest allowed.
        max: Duration,
    },
}

impl Default for ZenohConfig {
    fn default() -> Self {
        const QUEUED: NonZeroUsize = NonZeroUsize::new(65_536).expect("it is not zero");
        Self {
            node: String::new(),
            cluster: "herenow".into(),
            listen: vec!["tcp/[::]:7447".into()],
            peers: Vec::new(),
            discovery: Discovery::Off,
            tls: None,
            max_queued: QUEUED,
            max_received: QUEUED,
            max_queued_bytes: const { NonZeroUsize::new(64 << 20).expect("it is not zero") },
            max_message_bytes: const { NonZeroUsize::new(16 << 20).expect("it is not zero") },
            max_stall: Duration::from_millis(500),
        }
    }
}

impl ZenohConfig {
    /// What an address of this node starts with.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "tls",
            None => "tcp",
        }
    }

    /// Checks all of it, without opening anything.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_name("node", &self.node)?;
        check_name("cluster", &self.cluster)?;
        if self.listen.is_empty() {
            return Err(ConfigError::NoListen);
        }
        for (field, addresses) in [("listen", &self.listen), ("peers", &self.peers)] {
            for address in addresses {
                check_address(field, address, self.scheme())?;
            }
        }
        const MAX_STALL: Duration = Duration::from_secs(60);
        if !(Duration::from_millis(1)..=MAX_STALL).contains(&self.max_stall) {
            return Err(ConfigError::Stall {
                given: self.max_stall,
                max: MAX_STALL,
            });
        }
        Ok(())
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(ConfigError::Name {
            field,
            len: name.len(),
            max: MAX_NAME_BYTES,
        });
    }
    Ok(())
}

/// Why a scheme and not the other.
fn because(scheme: &str) -> &'static str {
    match scheme {
        "tls" => ", for there are certificates",
        _ => "; tls/ needs certificates",
    }
}

/// `?` and `#` begin parameters of zenoh's own, which could turn off the check of certificates.
fn check_address(
    field: &'static str,
    address: &str,
    scheme: &'static str,
) -> Result<(), ConfigError> {
    let is_good = || {
        let (given, rest) = address.split_once('/')?;
        let (host, port) = rest.rsplit_once(':')?;
        let is_plain = !rest.contains(['/', '?', '#', ' ']);
        (given == scheme && !host.is_empty() && is_plain && port.parse::<u16>().is_ok())
            .then_some(())
    };
    is_good().ok_or_else(|| ConfigError::Address {
        field,
        address: address.to_owned(),
        scheme,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ZenohConfig {
        ZenohConfig {
            node: "a".into(),
            ..ZenohConfig::default()
        }
    }

    #[test]
    fn the_default_needs_a_name_only() {
        assert_eq!(
            ZenohConfig::default().check(),
            Err(ConfigError::Name {
                field: "node",
                len: 0,
                max: 255
            })
        );
        assert_eq!(config().check(), Ok(()));
    }

    #[test]
    fn addresses_are_of_the_scheme_and_without_parameters() {
        for good in ["tcp/[::]:7447", "tcp/host.example:1", "tcp/10.0.0.1:0"] {
            assert_eq!(check_address("peers", good, "tcp"), Ok(()), "{good}");
        }
        for bad in [
            "10.0.0.1:7447",
            "tcp/10.0.0.1",
            "tcp/:7447",
            "tcp/10.0.0.1:70000",
            "tls/10.0.0.1:7447",
            "udp/10.0.0.1:7447",
            "tcp/10.0.0.1:7447#iface=lo",
            "tcp/10.0.0.1?x=1:7447",
            "",
        ] {
            assert!(check_address("peers", bad, "tcp").is_err(), "{bad}");
        }
    }

    #[test]
    fn every_limit_is_checked() {
        let mut config = config();
        config.listen.clear();
        assert_eq!(config.check(), Err(ConfigError::NoListen));
        config.listen.push("tcp/127.0.0.1:0".into());
        config.max_stall = Duration::ZERO;
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "max_stall is 0ns, it must be 1ms to 60s"
        );
        config.max_stall = Duration::from_secs(1);
        config.cluster = "c".repeat(256);
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "cluster is 256 bytes, it must be 1 to 255"
        );
    }
}
