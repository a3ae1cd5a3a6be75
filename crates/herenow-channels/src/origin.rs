//! The origin check: which web pages may open a socket.
//!
//! A browser sends the `origin` header with every WebSocket handshake and every cross-origin poll,
//! and lets any page try. The check is made before the upgrade and before `connect` runs; a
//! request without the header does not come from a page and is let in. What a refusal looks like
//! on the wire is the transports' business.
//!
//! The rules are those of Phoenix's `check_origin`, with one more that needs no configuration and
//! is the default here: [`CheckOrigin::same_host`].

use std::fmt;
use std::sync::Arc;

use herenow_pubsub::client_text;
use http::HeaderMap;
use http::header::ORIGIN;

/// Decides whether a page of some origin may open a socket.
///
/// Cheap to clone. The default is [`CheckOrigin::same_host`].
#[derive(Clone, Default)]
pub struct CheckOrigin(Policy);

type Callback = Arc<dyn Fn(&Origin) -> bool + Send + Sync>;

#[derive(Clone, Default)]
enum Policy {
    Off,
    #[default]
    SameHost,
    PublicHost(Arc<str>),
    SameOrigin,
    List(Arc<[Allowed]>),
    Callback(Callback),
}

impl CheckOrigin {
    /// Accepts the host that the request itself was sent to, whatever the scheme and port.
    ///
    /// `localhost`, `127.0.0.1` and `[::1]` count as one host.
    pub fn same_host() -> Self {
        Self(Policy::SameHost)
    }

    /// Accepts every origin: Phoenix's `false`.
    pub fn off() -> Self {
        Self(Policy::Off)
    }

    /// Accepts the one host that the service is known by: Phoenix's `true`.
    ///
    /// Scheme and port are not compared.
    pub fn public_host(host: &str) -> Self {
        Self(Policy::PublicHost(host.to_ascii_lowercase().into()))
    }

    /// Accepts only the scheme, host and port of the request itself: Phoenix's `:conn`.
    ///
    /// Without TLS of its own a server sees `http` requests; behind a proxy that ends TLS, use
    /// [`CheckOrigin::same_host`] or a list.
    pub fn same_origin() -> Self {
        Self(Policy::SameOrigin)
    }

    /// Accepts what any of `entries` matches.
    ///
    /// An entry is a URI with a host: `https://example.com`, `//other.com:888`, `//*.third.com`.
    /// A leading `*.` matches the bare domain and sub-domains of any depth. An entry with a scheme
    /// and no port means the scheme's own port; one without a scheme matches any scheme, and any
    /// port unless it names one.
    ///
    /// # Errors
    ///
    /// [`OriginError::NoHost`] for an entry without a host, [`OriginError::Wildcard`] for one with
    /// a `*` that is not a leading `*.`.
    pub fn list<I>(entries: I) -> Result<Self, OriginError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let allowed = entries
            .into_iter()
            .map(|entry| Allowed::parse(entry.as_ref()));
        Ok(Self(Policy::List(allowed.collect::<Result<_, _>>()?)))
    }

    /// Accepts what `accept` returns true for. It is also asked about origins without a host.
    pub fn callback(accept: impl Fn(&Origin) -> bool + Send + Sync + 'static) -> Self {
        Self(Policy::Callback(Arc::new(accept)))
    }

    /// Checks the first `origin` header, if there is one.
    ///
    /// # Errors
    ///
    /// [`OriginRefused`] with the origin as it was sent; the caller logs and answers it.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        target: &RequestTarget<'_>,
    ) -> Result<(), OriginRefused> {
        let Some(value) = headers.get(ORIGIN) else {
            return Ok(());
        };
        let origin = Origin::parse(&String::from_utf8_lossy(value.as_bytes()));
        if self.accepts(&origin, target) {
            return Ok(());
        }
        Err(OriginRefused {
            origin: origin.text,
            host: target.host.to_owned(),
        })
    }

    fn accepts(&self, origin: &Origin, target: &RequestTarget<'_>) -> bool {
        match (&self.0, origin.host()) {
            (Policy::Off, _) => true,
            (Policy::Callback(accept), _) => accept(origin),
            (_, None) => false,
            (Policy::SameHost, Some(host)) => is_same_host(host, target.host),
            (Policy::PublicHost(public), Some(host)) => host == &**public,
            (Policy::SameOrigin, Some(host)) => {
                host.eq_ignore_ascii_case(target.host)
                    && origin.scheme() == Some(target.scheme)
                    && origin.port() == Some(target.port)
            }
            (Policy::List(entries), Some(host)) => {
                entries.iter().any(|entry| entry.matches(origin, host))
            }
        }
    }
}

impl fmt::Debug for CheckOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Policy::Off => f.write_str("CheckOrigin::off"),
            Policy::SameHost => f.write_str("CheckOrigin::same_host"),
            Policy::PublicHost(host) => write!(f, "CheckOrigin::public_host({host:?})"),
            Policy::SameOrigin => f.write_str("CheckOrigin::same_origin"),
            Policy::List(entries) => write!(f, "CheckOrigin::list({entries:?})"),
            Policy::Callback(_) => f.write_str("CheckOrigin::callback"),
        }
    }
}

/// Why a list of origins is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// The entry names no host, so it could never match.
    #[error("origin {entry:?} has no host, expected something like \"https://example.com\"")]
    NoHost {
        /// The entry as it was given.
        entry: String,
    },
    /// The entry has a `*` somewhere else than as a leading `*.`.
    #[error("origin {entry:?} has a * that is not the leading \"*.\" of its host")]
    Wildcard {
        /// The entry as it was given.
        entry: String,
    },
}

/// A request whose origin may not open a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "origin {} is not allowed to connect to host {} (check_origin)",
    client_text(origin),
    client_text(host)
)]
pub(crate) struct OriginRefused {
    /// The `origin` header as it was sent.
    pub(crate) origin: String,
    /// The host that was asked.
    pub(crate) host: String,
}

/// What the request itself was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestTarget<'a> {
    /// `http` or `https`.
    pub(crate) scheme: &'a str,
    /// The host, without brackets.
    pub(crate) host: &'a str,
    /// The port asked for, or the scheme's own.
    pub(crate) port: u16,
}

/// The parsed `origin` header of a request.
///
/// `null`, `file://` and other things that browsers send are origins without a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    text: String,
    scheme: Option<String>,
    host: Option<String>,
    explicit_port: Option<u16>,
}

impl Origin {
    /// Takes the text apart as a URI reference. Nothing is refused here: what is not understood is
    /// an origin without a host.
    fn parse(text: &str) -> Self {
        let mut origin = Self {
            text: text.to_owned(),
            scheme: None,
            host: None,
            explicit_port: None,
        };
        let Some((scheme, rest)) = text.split_once("//") else {
            return origin;
        };
        if !scheme.is_empty() {
            let Some(scheme) = scheme.strip_suffix(':') else {
                return origin;
            };
            origin.scheme = Some(scheme.to_ascii_lowercase());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host_port = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        if let Some((host, port)) = split_host_port(host_port) {
            origin.host = Some(host.to_ascii_lowercase());
            origin.explicit_port = port;
        }
        origin
    }

    /// The header as it was sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme in lower case, such as `https`.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// The host in lower case, an IPv6 address without its brackets.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The port given, or else the scheme's own.
    pub fn port(&self) -> Option<u16> {
        self.explicit_port
            .or_else(|| self.scheme().and_then(default_port))
    }
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    scheme: Option<String>,
    host: AllowedHost,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedHost {
    Exact(String),
    /// The domain itself and everything below it.
    Below(String),
}

impl Allowed {
    fn parse(entry: &str) -> Result<Self, OriginError> {
        let origin = Origin::parse(entry);
        let port = origin.port();
        let Some(host) = origin.host else {
            return Err(OriginError::NoHost {
                entry: entry.to_owned(),
            });
        };
        let host = match host.strip_prefix("*.") {
            Some(domain) => AllowedHost::Below(domain.to_owned()),
            None => AllowedHost::Exact(host),
        };
        let (AllowedHost::Exact(name) | AllowedHost::Below(name)) = &host;
        if name.contains('*') || name.is_empty() {
            return Err(OriginError::Wildcard {
                entry: entry.to_owned(),
            });
        }
        Ok(Self {
            scheme: origin.scheme,
            host,
            port,
        })
    }

    fn matches(&self, origin: &Origin, host: &str) -> bool {
        self.scheme
            .as_deref()
            .is_none_or(|scheme| origin.scheme() == Some(scheme))
            && self.port.is_none_or(|port| origin.port() == Some(port))
            && self.host.matches(host)
    }
}

impl AllowedHost {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(domain) => host
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        }
    }
}

/// Splits `host[:port]`; an IPv6 host loses its brackets. `None` if there is no host.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().ok()?),
    };
    (!host.is_empty()).then_some((host, port))
}

/// The port that a scheme stands for when none is given.
pub(crate) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

fn is_same_host(origin_host: &str, request_host: &str) -> bool {
    origin_host.eq_ignore_ascii_case(request_host)
        || (is_loopback_name(origin_host) && is_loopback_name(request_host))
}

fn is_loopback_name(host: &str) -> bool {
    ["localhost", "127.0.0.1", "::1"]
        .iter()
        .any(|name| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const HOST: RequestTarget<'_> = RequestTarget {
        scheme: "http",
        host: "host.com",
        port: 80,
    };

    fn passes_at(check: &CheckOrigin, origin: &str, target: &RequestTarget<'_>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        check.check(&headers, target).is_ok()
    }

    fn passes(check: &CheckOrigin, origin: &str) -> bool {
        passes_at(check, origin, &HOST)
    }

    fn list(entries: &[&str]) -> CheckOrigin {
        CheckOrigin::list(entries).unwrap()
    }

    #[test]
    fn x_09_off_lets_a_bare_slash_in() {
        assert!(passes(&CheckOrigin::off(), "/"));
    }

    #[test]
    fn x_10_public_host_is_the_only_host_let_in() {
        let check = CheckOrigin::public_host("host.com");
        assert!(passes(&check, "https://host.com/"));
        assert!(!passes(&check, "https://another.com/"));
    }

    #[test]
    fn x_11_a_list_given_once_serves_every_mount() {
        let service_wide = list(&["//endpoint.com"]);
        let mount = service_wide.clone();
        assert!(passes(&mount, "https://endpoint.com/"));
        assert!(!passes(&mount, "https://another.com/"));
    }

    #[test]
    fn x_13_wildcard_with_scheme_takes_the_domain_and_what_is_below() {
        let check = list(&["https://*.ex.com", "http://*.ex.com"]);
        for origin in [
            "http://org1.ex.com",
            "https://org1.ex.com",
            "https://ex.com",
        ] {
            assert!(passes(&check, origin), "{origin}");
        }
        assert!(!passes(&check, "https://org1.prefix-ex.com"));
    }

    #[test]
    fn x_14_wildcard_below_a_longer_domain_refuses_look_alikes() {
        let check = list(&["http://*.foo.example.com"]);
        assert!(passes(&check, "http://org1.foo.example.com"));
        assert!(passes(&check, "http://foo.example.com"));
        for origin in [
            "http://bad.example.com",
            "http://org1.prefix-foo.example.com",
            "http://org1.bar.example.com",
            "http://org1.foo.example.com.evil.com",
        ] {
            assert!(!passes(&check, origin), "{origin}");
        }
    }

    #[test]
    fn x_15_without_a_wildcard_subdomains_are_refused() {
        let check = list(&["//ex.com"]);
        assert!(passes(&check, "https://ex.com"));
        assert!(!passes(&check, "http://org1.ex.com"));
    }

    #[test]
    fn x_16_origins_without_a_host_are_refused_and_named() {
        let checks = [
            list(&["//ex.com"]),
            CheckOrigin::public_host("host.com"),
            CheckOrigin::same_host(),
        ];
        for check in &checks {
            for origin in ["file://", "null", ""] {
                let mut headers = HeaderMap::new();
                headers.insert(ORIGIN, origin.parse().unwrap());
                let refused = check.check(&headers, &HOST).unwrap_err();
                assert_eq!(
                    refused,
                    OriginRefused {
                        origin: origin.to_owned(),
                        host: HOST.host.to_owned(),
                    }
                );
                let text = refused.to_string();
                assert!(text.contains(origin) && text.contains(HOST.host), "{text}");
            }
        }
    }

    #[test]
    fn x_17_a_callback_may_accept_origins_without_a_host() {
        let check = CheckOrigin::callback(|origin| origin.host().is_none());
        for origin in ["file://", "null", ""] {
            assert!(passes(&check, origin), "{origin}");
        }
        assert!(!passes(&check, "https://host.com"));
    }

    #[test]
    fn x_18_off_accepts_origins_without_a_host() {
        for origin in ["file://", "null", ""] {
            assert!(passes(&CheckOrigin::off(), origin), "{origin}");
        }
    }

    #[test]
    fn x_19_same_origin_compares_scheme_host_and_port() {
        let check = CheckOrigin::same_origin();
        let http = RequestTarget {
            scheme: "http",
            host: "example.com",
            port: 80,
        };
        assert!(passes_at(&check, "http://example.com", &http));
        for origin in [
            "https://example.com",
            "ws://example.com",
            "wss://example.com",
            "http://www.example.com",
            "http://another.com",
            "https://another.com",
        ] {
            assert!(!passes_at(&check, origin, &http), "{origin}");
        }
        let https = RequestTarget {
            scheme: "https",
            host: "example.com",
            port: 443,
        };
        assert!(passes_at(&check, "https://example.com", &https));
        assert!(!passes_at(&check, "http://example.com", &https));
        assert!(!passes_at(&check, "https://example.com:4000", &https));
    }

    #[test]
    fn x_20_a_list_compares_what_each_entry_names() {
        let check = list(&["//example.com", "http://scheme.com", "//port.com:81"]);
        for origin in [
            "http://example.com",
            "https://example.com",
            "http://scheme.com",
            "http://port.com:81",
        ] {
            assert!(passes(&check, origin), "{origin}");
        }
        for origin in [
            "http://notallowed.com",
            "https://scheme.com",
            "http://scheme.com:8080",
            "http://port.com:82",
            "http://port.com",
        ] {
            assert!(!passes(&check, origin), "{origin}");
        }
    }

    #[test]
    fn x_21_a_callback_decides_from_the_parsed_origin() {
        let check = CheckOrigin::callback(|origin| origin.host() == Some("example.com"));
        assert!(passes(&check, "https://example.com/"));
        assert!(!passes(&check, "https://host.com/"));
    }

    #[test]
    fn x_22_a_callback_carries_what_it_captured() {
        let (allowed, asked) = ("example.com".to_owned(), Arc::new(AtomicUsize::new(0)));
        let check = CheckOrigin::callback({
            let asked = Arc::clone(&asked);
            move |origin| {
                asked.fetch_add(1, Ordering::Relaxed);
                origin.host() == Some(&allowed)
            }
        });
        assert!(passes(&check, "https://example.com"));
        assert!(!passes(&check, "https://host.com"));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn soc_100_same_host_counts_loopback_names_as_one() {
        let check = CheckOrigin::default();
        for host in ["localhost", "127.0.0.1", "::1"] {
            let target = RequestTarget {
                scheme: "http",
                host,
                port: 4000,
            };
            for origin in [
                "http://localhost:3000",
                "http://127.0.0.1:4000",
                "https://[::1]:4000",
            ] {
                assert!(passes_at(&check, origin, &target), "{origin} at {host}");
            }
            assert!(!passes_at(&check, "http://localhost.evil.com", &target));
            assert!(!passes_at(&check, "http://127.0.0.1.evil.com", &target));
            assert!(!passes_at(&check, "http://evil.com#@localhost", &target));
        }
        assert!(!passes(&check, "http://localhost:4000"));
        assert!(passes(&check, "https://Host.com:8443"));
        assert!(!passes(&check, "https://www.host.com"));
    }

    #[test]
    fn soc_101_a_list_entry_without_a_host_is_an_error_that_names_it() {
        let error = CheckOrigin::list(["//ok.com", "example.com"]).unwrap_err();
        assert_eq!(
            error,
            OriginError::NoHost {
                entry: "example.com".into()
            }
        );
        for entry in ["//*", "//a.*.com", "//*.*.com", "//*."] {
            let error = CheckOrigin::list([entry]).unwrap_err();
            assert_eq!(
                error,
                OriginError::Wildcard {
                    entry: entry.into()
                }
            );
        }
    }

    #[test]
    fn soc_102_a_request_without_an_origin_is_let_in() {
        let checks = [CheckOrigin::same_host(), CheckOrigin::callback(|_| false)];
        for check in checks {
            assert_eq!(check.check(&HeaderMap::new(), &HOST), Ok(()));
        }
    }
}
