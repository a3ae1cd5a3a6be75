//! Who asks, when the connection is a proxy's: forwarded headers, of trusted proxies only.
//!
//! Anybody can send such headers, and a proxy adds to what it got. So they are believed from the
//! right, as far as trusted proxies wrote them: the client is the last address that is no trusted
//! proxy's. Only one of the two headers is looked at: a proxy that writes one may pass on the other
//! as the client made it up.
//!
//! A list is read one element at a time, so that what a client made up spoils only itself and never
//! what a proxy wrote behind it. Where a proxy does not say readably whom it speaks for, the client
//! has the proxy's own address. That is never the loopback's, which would say that the client is
//! this machine itself: it is the unspecified address then.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::request::Parts;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Proxies that a request may have come through; what lies further left is not looked at.
const MAX_HOPS: usize = 32;

/// The header in which proxies say whom they speak for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `x-forwarded-for`, with `x-forwarded-proto` and `x-forwarded-host`. A proxy must set or
    /// remove all three.
    #[default]
    XForwardedFor,
    /// `forwarded`, as RFC 7239 has it.
    Forwarded,
}

/// Which proxies are believed, and by what header. Cheap to clone; by default none is.
#[derive(Clone, Default)]
pub struct TrustedProxies(Arc<Inner>);

#[derive(Default)]
struct Inner {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
    has_warned: AtomicBool,
}

/// Text that is no address and no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address and no network such as 10.0.0.0/8 or fd00::/8")]
pub struct NetworkError {
    /// The text.
    pub text: String,
}

/// Where a request came from in truth, as far as that can be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Forwarded {
    /// The client's address; `None` if the server does not know its peers.
    pub(crate) client: Option<IpAddr>,
    /// `http` or `https`, if a trusted proxy says so.
    pub(crate) scheme: Option<&'static str>,
    /// The host that the client asked for, with its port if it named one.
    pub(crate) host: Option<String>,
}

/// What one proxy says of whom it speaks for.
#[derive(Debug, Clone, Default)]
struct Hop {
    client: Option<IpAddr>,
    scheme: Option<&'static str>,
    host: Option<String>,
}

impl TrustedProxies {
    /// Believes the proxies whose addresses are in `networks`: addresses, or networks in CIDR form.
    ///
    /// # Errors
    ///
    /// [`NetworkError`] for the first that is neither.
    pub fn new<I>(networks: I, header: ForwardedHeader) -> Result<Self, NetworkError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let networks = networks.into_iter().map(|text| network(text.as_ref()));
        let networks = networks.collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Arc::new(Inner {
            networks,
            header,
            has_warned: AtomicBool::new(false),
        })))
    }

    /// Returns the address of the client that a request with these headers is from: that of `peer`,
    /// the other end of its connection, or what a trusted proxy says that it is. It is the
    /// unspecified address, `0.0.0.0` or `::`, if a proxy on this machine does not say it.
    ///
    /// For routes beside those of [`Sockets`](crate::Sockets), whose handlers have it in
    /// [`ConnectInfo::client`](crate::ConnectInfo::client).
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        self.look(Some(peer), headers).client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0
            .networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Finds out for whom the other end of its connection sends a request.
    pub(crate) fn look_at(&self, parts: &Parts) -> Forwarded {
        let peer = parts.extensions.get();
        let peer = peer.map(|peer: &axum::extract::ConnectInfo<SocketAddr>| peer.0.ip());
        self.look(peer, &parts.headers)
    }

    /// Finds out for whom `peer` sends a request with these headers.
    pub(crate) fn look(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Forwarded {
        let Some(peer) = peer.map(|peer| peer.to_canonical()) else {
            return Forwarded::default();
        };
        let mut found = Forwarded {
            client: Some(peer),
            ..Forwarded::default()
        };
        if !self.trusts(peer) {
            self.warn_of_untrusted(peer, headers);
            return found;
        }
        let mut proxy = peer;
        for hop in self.hops(headers) {
            (found.scheme, found.host) = (hop.scheme, hop.host);
            let Some(client) = hop.client else {
                found.client = Some(nobody_of(proxy));
                break;
            };
            // The loopback of another machine is that machine.
            let is_elsewhere = client.is_loopback() && !proxy.is_loopback();
            found.client = Some(if is_elsewhere { proxy } else { client });
            if !self.trusts(client) {
                break;
            }
            proxy = if is_elsewhere { proxy } else { client };
        }
        found
    }

    /// What the proxies said, the nearest first; nothing if none said anything.
    fn hops(&self, headers: &HeaderMap) -> Vec<Hop> {
        match self.0.header {
            ForwardedHeader::XForwardedFor => x_forwarded(headers),
            ForwardedHeader::Forwarded => elements(headers, &http::header::FORWARDED)
                .map(|text| text.map(rfc7239).unwrap_or_default())
                .collect(),
        }
    }

    /// Behind a proxy that is not known for one, all clients seem to be one: that is worth a line.
    fn warn_of_untrusted(&self, peer: IpAddr, headers: &HeaderMap) {
        let is_proxy = headers.contains_key(X_FORWARDED_FOR);
        if is_proxy && !self.0.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "an x-forwarded-for header is ignored, for it is not from a trusted proxy: all \
                 clients of a proxy that is not trusted count as one address"
            );
        }
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0.networks).finish()
    }
}

fn network(text: &str) -> Result<IpNet, NetworkError> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse()
        .ok()
        .or_else(address)
        .ok_or_else(|| NetworkError {
            text: text.to_owned(),
        })
}

/// The address of a client of whom its proxy says nothing that can be read.
fn nobody_of(proxy: IpAddr) -> IpAddr {
    match proxy {
        IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(address) if address.is_loopback() => Ipv6Addr::UNSPECIFIED.into(),
        _ => proxy,
    }
}

/// What proxies say by `x-forwarded-for` and its like.
fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let all = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST];
    if !all.iter().any(|name| headers.contains_key(name)) {
        return Vec::new();
    }
    let scheme = last(headers, &X_FORWARDED_PROTO).and_then(scheme);
    let host = last(headers, &X_FORWARDED_HOST).map(str::to_owned);
    let hop = |client: Option<IpAddr>| Hop {
        client,
        scheme,
        host: host.clone(),
    };
    let clients = elements(headers, &X_FORWARDED_FOR).map(|text| hop(text.and_then(address)));
    let clients: Vec<_> = clients.collect();
    // A proxy may say how it was asked, and not by whom.
    if clients.is_empty() {
        vec![hop(None)]
    } else {
        clients
    }
}

/// The elements of a list that may be spread over several headers, the last first; `None` for one
/// that is no text. Each is read by itself: what a client wrote stands beside what a proxy added.
fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Option<&'a str>> + use<'a> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let lines = lines.into_iter().rev();
    let elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    let texts = elements.map(|element| {
        let text = std::str::from_utf8(element).ok()?;
        text.is_ascii().then(|| text.trim())
    });
    texts.take(MAX_HOPS)
}

fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    elements(headers, name)
        .next()
        .flatten()
        .filter(|text| !text.is_empty())
}

/// Reads one element of `forwarded`: `for="[2001:db8::1]:47011";proto=https;host=example.com`.
fn rfc7239(element: &str) -> Hop {
    let mut hop = Hop::default();
    for pair in element.split(';') {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.client = address(value),
            "proto" => hop.scheme = scheme(value),
            "host" => hop.host = Some(value.to_owned()).filter(|host| !host.is_empty()),
            _ => {}
        }
    }
    hop
}

/// Reads an address with or without a port, in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    Some(address?.to_canonical())
}

fn scheme(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some("http"),
        "https" | "wss" => Some("https"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn look(header: ForwardedHeader, peer: IpAddr, lines: &[(&str, &str)]) -> Forwarded {
        let trusted = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"];
        let proxies = TrustedProxies::new(trusted, header).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        proxies.look(Some(peer), &headers)
    }

    fn client_by(x_forwarded_for: &[&str]) -> String {
        let lines: Vec<_> = x_forwarded_for
            .iter()
            .map(|line| ("x-forwarded-for", *line))
            .collect();
        let found = look(ForwardedHeader::XForwardedFor, PEER, &lines);
        found.client.unwrap().to_string()
    }

    #[test]
    fn srv_844_the_client_is_the_last_address_that_is_no_trusted_proxys() {
        assert_eq!(client_by(&["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client_by(&["6.6.6.6, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(
            client_by(&["6.6.6.6", "203.0.113.9, 10.2.3.4"]),
            "203.0.113.9"
        );
        assert_eq!(
            client_by(&["203.0.113.9, 192.0.2.7,10.9.9.9"]),
            "203.0.113.9"
        );
        assert_eq!(client_by(&["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(client_by(&["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client_by(&["2001:db8::1, fd00::7"]), "2001:db8::1");
        assert_eq!(client_by(&["::ffff:203.0.113.9"]), "203.0.113.9");
        // All are trusted: the one farthest away. What is no address is not gone beyond.
        assert_eq!(client_by(&["10.1.1.1, 10.2.2.2"]), "10.1.1.1");
        assert_eq!(client_by(&["6.6.6.6, unknown, 10.2.2.2"]), "10.2.2.2");
        assert_eq!(client_by(&[""]), "10.0.0.1");
        assert_eq!(client_by(&[]), "10.0.0.1");
    }

    #[test]
    fn srv_1766_what_cannot_be_read_spoils_nothing_that_a_proxy_wrote_behind_it() {
        let client_by = |header, name: &'static str, line: &[u8]| {
            let proxies = TrustedProxies::new(["10.0.0.0/8"], header).unwrap();
            let mut headers = HeaderMap::new();
            headers.append(name, http::HeaderValue::from_bytes(line).unwrap());
            proxies.look(Some(PEER), &headers)
        };
        let by = |line| client_by(ForwardedHeader::XForwardedFor, "x-forwarded-for", line).client;
        let (client, proxy) = ("203.0.113.9".parse().ok(), "10.2.2.2".parse().ok());
        assert_eq!(by(b"\xff, 203.0.113.9"), client);
        assert_eq!(by(b"6.6.6.6, \xc3\xa4\t, 203.0.113.9, 10.2.2.2"), client);
        assert_eq!(by(b"203.0.113.9, \xff, 10.2.2.2"), proxy);
        assert_eq!(by(b"203.0.113.9\xff"), Some(PEER));
        let line = b"for=\xff;host=evil, for=203.0.113.9;proto=https;host=chat.example";
        let found = client_by(ForwardedHeader::Forwarded, "forwarded", line);
        let host = Some("chat.example".to_owned());
        let scheme = Some("https");
        assert_eq!(
            found,
            Forwarded {
                client,
                scheme,
                host
            }
        );
        for (name, text) in [("x-forwarded-proto", "https"), ("x-forwarded-host", "a.b")] {
            let line = [b"\xff, ", text.as_bytes()].concat();
            let found = client_by(ForwardedHeader::XForwardedFor, name, &line);
            let said = [found.scheme, found.host.as_deref()];
            assert!(said.contains(&Some(text)), "{name}: {found:?}");
        }
    }

    #[test]
    fn srv_1767_whom_a_proxy_on_this_machine_does_not_name_is_not_this_machine() {
        let client_by = |header, peer: &str, line: Option<(&'static str, &'static str)>| {
            let trusted = ["127.0.0.1", "::1", "10.0.0.1"];
            let proxies = TrustedProxies::new(trusted, header).unwrap();
            let headers: HeaderMap = line
                .into_iter()
                .map(|(name, value)| {
                    let name = HeaderName::from_static(name);
                    (name, http::HeaderValue::from_static(value))
                })
                .collect();
            let client = proxies.client(peer.parse().unwrap(), &headers);
            client.unwrap().to_string()
        };
        let (plain, rfc) = (ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded);
        let by = |peer, line| client_by(plain, peer, Some(("x-forwarded-for", line)));
        assert_eq!(by("127.0.0.1", "unknown"), "0.0.0.0");
        assert_eq!(by("::1", ""), "::");
        assert_eq!(by("::ffff:127.0.0.1", "?"), "0.0.0.0");
        assert_eq!(by("127.0.0.1", "unknown, 127.0.0.1"), "0.0.0.0");
        assert_eq!(by("127.0.0.1", "unknown, 10.0.0.1"), "10.0.0.1");
        assert_eq!(
            client_by(plain, "127.0.0.1", Some(("x-forwarded-proto", "https"))),
            "0.0.0.0"
        );
        assert_eq!(
            client_by(rfc, "::1", Some(("forwarded", "for=_hidden;proto=https"))),
            "::"
        );
        // It is this machine: no proxy speaks, or it says so.
        assert_eq!(client_by(plain, "127.0.0.1", None), "127.0.0.1");
        assert_eq!(client_by(rfc, "127.0.0.1", None), "127.0.0.1");
        assert_eq!(by("127.0.0.1", "127.0.0.1"), "127.0.0.1");
        assert_eq!(by("127.0.0.1", "::1"), "::1");
        // It is another.
        assert_eq!(by("10.0.0.1", "127.0.0.1"), "10.0.0.1");
        assert_eq!(by("10.0.0.1", "203.0.113.9, ::1"), "203.0.113.9");
        assert_eq!(by("10.0.0.1", "unknown, 127.0.0.1"), "10.0.0.1");
        assert_eq!(by("10.0.0.1", "127.0.0.9"), "10.0.0.1");
    }

    #[test]
    fn srv_844_nobody_else_is_believed() {
        let stranger: IpAddr = "198.51.100.3".parse().unwrap();
        let lines = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "example.com"),
            ("forwarded", "for=203.0.113.9;proto=https;host=example.com"),
        ];
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            let found = look(header, stranger, &lines);
            let client = Some(stranger);
            assert_eq!(
                found,
                Forwarded {
                    client,
                    ..Forwarded::default()
                }
            );
        }
        // The header that was not chosen is anybody's.
        let found = look(ForwardedHeader::Forwarded, PEER, &lines[..3]);
        assert_eq!(found.client, Some(PEER));
        assert_eq!(
            TrustedProxies::default()
                .look(Some(PEER), &HeaderMap::new())
                .client,
            Some(PEER)
        );
    }

    #[test]
    fn srv_844_scheme_and_host_are_what_the_nearest_proxies_say() {
        let lines = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "gopher, wss"),
            ("x-forwarded-host", "evil.example, chat.example:8443"),
        ];
        let found = look(ForwardedHeader::XForwardedFor, PEER, &lines);
        assert_eq!(found.scheme, Some("https"));
        assert_eq!(found.host.as_deref(), Some("chat.example:8443"));
        let lines = [(
            "forwarded",
            "for=6.6.6.6;host=evil.example, For=\"[2001:db8::1]:9\";Proto=https;Host=chat.example, for=10.3.3.3",
        )];
        let found = look(ForwardedHeader::Forwarded, PEER, &lines);
        assert_eq!(found.client, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(found.scheme, Some("https"));
        assert_eq!(found.host.as_deref(), Some("chat.example"));
    }

    #[test]
    fn srv_844_what_is_no_network_is_refused() {
        let error = TrustedProxies::new(["10.0.0.0/8", "proxy.local"], ForwardedHeader::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("proxy.local"), "{error}");
        assert!(network("10.0.0.0/33").is_err());
        assert!(network("::1").is_ok());
    }
}
