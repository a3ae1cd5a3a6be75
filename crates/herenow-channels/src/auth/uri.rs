//! [`RequestUri`]: where a request was sent to, as its client knows it.

use std::fmt;

use http::header::HOST;
use http::{HeaderMap, Uri};
use smol_str::{SmolStr, StrExt as _};

use crate::forwarded::Forwarded;
use crate::origin::{RequestTarget, default_port, split_host_port};

/// The URI of a request, put together from its request line, its `host` header, and what a trusted
/// proxy says of both.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestUri {
    scheme: SmolStr,
    host: SmolStr,
    port: u16,
    /// As the request line has it.
    line: Uri,
}

impl RequestUri {
    pub(super) fn new(line: Uri, headers: &HeaderMap, forwarded: &Forwarded) -> Self {
        let scheme = forwarded.scheme.or(line.scheme_str()).unwrap_or("http");
        let host_header = headers.get(HOST).and_then(|value| value.to_str().ok());
        let authority = line
            .authority()
            .map(http::uri::Authority::as_str)
            .or(host_header);
        let authority = forwarded.host.as_deref().or(authority);
        let (host, port) = authority.and_then(split_host_port).unwrap_or_default();
        Self {
            scheme: scheme.into(),
            host: host.to_ascii_lowercase_smolstr(),
            port: port.or_else(|| default_port(scheme)).unwrap_or_default(),
            line,
        }
    }

    /// Returns `http`, or what a trusted proxy or an absolute request line says.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the host in lower case, an IPv6 address without its brackets; empty if unknown.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, the scheme's own if none was given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the whole path, whatever router it was nested in.
    pub fn path(&self) -> &str {
        self.line.path()
    }

    /// Returns the query as it was sent, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.line.query()
    }

    pub(super) fn target(&self) -> RequestTarget<'_> {
        RequestTarget {
            scheme: &self.scheme,
            host: &self.host,
            port: self.port,
        }
    }
}

impl fmt::Debug for RequestUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme,
            host,
            port,
            line,
        } = self;
        write!(f, "{scheme}://{host}:{port}{}", line.path())
    }
}
