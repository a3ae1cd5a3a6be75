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
mod tests;
