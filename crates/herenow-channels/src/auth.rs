//! Who is asking: what a request for a socket says, and whether it may be heard.
//!
//! [`ConnectInfo`] is what the application's `connect` decides on. Before it is called, the
//! transports admit the request: query, origin, sub-protocol and token, protocol version, in this
//! order. How a refusal is answered is theirs to say.

mod query;
mod subprotocol;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{FromRequestParts, OriginalUri, RawPathParams};
use herenow_protocol::{Serializer, VersionError};
use http::header::{HOST, USER_AGENT};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri};
use serde_json::{Map, Value};

use self::query::QueryError;
use self::subprotocol::SubprotocolError;
use crate::forwarded::{Forwarded, TrustedProxies};
use crate::origin::{CheckOrigin, OriginRefused, RequestTarget, default_port, split_host_port};

/// Where a long-poll client puts its token, as the WebSocket client does in a sub-protocol.
const LONGPOLL_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-phoenix-authtoken");

/// What carries a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// Long polling over plain HTTP requests.
    LongPoll,
}

impl Transport {
    /// Returns the name as Phoenix writes it: `websocket` or `longpoll`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::LongPoll => "longpoll",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request for a socket says about itself and who sent it.
///
/// All of it but the peer's address and the extensions is what the client claims. `Debug` shows
/// neither parameters nor header values, for they carry tokens.
#[derive(Clone)]
pub struct ConnectInfo {
    transport: Transport,
    params: Map<String, Value>,
    client: Option<IpAddr>,
    uri: RequestUri,
    headers: HeaderMap,
    extensions: Extensions,
    auth_token: Option<String>,
}

impl ConnectInfo {
    /// Returns which transport was asked for.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Returns the query parameters and the path's variables, in one map; the path wins.
    ///
    /// Values are strings, or lists and maps of them where names had brackets (`user[name]=ada`).
    /// Path variables whose name begins with `_` are left out.
    pub fn params(&self) -> &Map<String, Value> {
        &self.params
    }

    /// Returns one parameter if it is there and a string.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Value::as_str)
    }

    /// Returns the address of the other end of the connection: the proxy's, if there is one.
    ///
    /// `None` if the server does not hand it to its handlers. [`serve`](crate::serve()) does, and
    /// `axum::serve` does with `into_make_service_with_connect_info`.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.extension::<axum::extract::ConnectInfo<SocketAddr>>()
            .map(|peer| peer.0)
    }

    /// Returns the client's address: the peer's, or what a trusted proxy says that it is, see
    /// [`Sockets::trusted_proxies`](crate::Sockets::trusted_proxies).
    ///
    /// `None` if the server does not hand the peer's address to its handlers.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Returns the URI that was asked for.
    pub fn uri(&self) -> &RequestUri {
        &self.uri
    }

    /// Returns all headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the first header of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the headers whose names begin with `x-`.
    pub fn x_headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers_with_prefix("x-")
    }

    /// Returns the headers whose names begin with `sec-websocket-`.
    pub fn sec_websocket_headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers_with_prefix("sec-websocket-")
    }

    /// Returns the W3C trace context headers, `traceparent` and `tracestate`.
    pub fn trace_context_headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "traceparent" | "tracestate"))
    }

    /// Returns the `user-agent` header.
    pub fn user_agent(&self) -> Option<&str> {
        self.header(USER_AGENT.as_str())
    }

    /// Returns the client's token: from the sub-protocol `base64url.bearer.phx.…` of a WebSocket,
    /// from the header `x-phoenix-authtoken` of a long poll. It is decoded, not verified.
    pub fn auth_token(&self) -> Option<&str> {
        self.auth_token.as_deref()
    }

    /// Returns what a layer around the router has put into the request's extensions, such as a
    /// session or a constant of the application.
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    fn headers_with_prefix(
        &self,
        prefix: &'static str,
    ) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers
            .iter()
            .filter(move |(name, _)| name.as_str().starts_with(prefix))
    }

    /// Takes a request's head apart.
    async fn from_request(
        transport: Transport,
        proxies: &TrustedProxies,
        mut parts: Parts,
    ) -> Result<Self, QueryError> {
        let peer = parts.extensions.get();
        let peer = peer.map(|peer: &axum::extract::ConnectInfo<SocketAddr>| peer.0.ip());
        let forwarded = proxies.look(peer, &parts.headers);
        let uri = match parts.extensions.get::<OriginalUri>() {
            Some(OriginalUri(uri)) => uri.clone(),
            None => parts.uri.clone(),
        };
        let uri = RequestUri::new(&uri, &parts.headers, &forwarded);
        let mut params = query::parse_query(uri.query().unwrap_or_default())?;
        // The only error is a handler that no router called; then there are no variables.
        if let Ok(variables) = RawPathParams::from_request_parts(&mut parts, &()).await {
            for (name, value) in &variables {
                if !name.starts_with('_') {
                    params.insert(name.to_owned(), Value::String(value.to_owned()));
                }
            }
        }
        let Parts {
            headers,
            extensions,
            ..
        } = parts;
        Ok(Self {
            transport,
            params,
            client: forwarded.client,
            uri,
            headers,
            extensions,
            auth_token: None,
        })
    }

    /// Chooses the serializer by the parameter `vsn`.
    fn serializer(&self) -> Result<Serializer, Denied> {
        match self.params.get("vsn") {
            None => Ok(Serializer::negotiate(None)?),
            Some(Value::String(vsn)) => Ok(Serializer::negotiate(Some(vsn))?),
            Some(_) => Err(Denied::VersionNotText),
        }
    }
}

impl fmt::Debug for ConnectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectInfo")
            .field("transport", &self.transport)
            .field("peer", &self.peer())
            .field("path", &self.uri.path())
            .field("n_params", &self.params.len())
            .field("n_headers", &self.headers.len())
            .field(
                "auth_token_bytes",
                &self.auth_token.as_ref().map(String::len),
            )
            .finish_non_exhaustive()
    }
}

/// The URI of a request, put together from its request line, its `host` header, and what a trusted
/// proxy says of both.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestUri {
    scheme: String,
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
}

impl RequestUri {
    fn new(uri: &Uri, headers: &HeaderMap, forwarded: &Forwarded) -> Self {
        let scheme = forwarded.scheme.or(uri.scheme_str()).unwrap_or("http");
        let host_header = headers.get(HOST).and_then(|value| value.to_str().ok());
        let authority = uri
            .authority()
            .map(http::uri::Authority::as_str)
            .or(host_header);
        let authority = forwarded.host.as_deref().or(authority);
        let (host, port) = authority.and_then(split_host_port).unwrap_or_default();
        Self {
            scheme: scheme.to_owned(),
            host: host.to_ascii_lowercase(),
            port: port.or_else(|| default_port(scheme)).unwrap_or_default(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
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
        &self.path
    }

    /// Returns the query as it was sent, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn target(&self) -> RequestTarget<'_> {
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
            path,
            ..
        } = self;
        write!(f, "{scheme}://{host}:{port}{path}")
    }
}

/// A request that may ask the application for a socket.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// For `connect`.
    pub(crate) info: ConnectInfo,
    /// By the version asked for.
    pub(crate) serializer: Serializer,
    /// For the response's `sec-websocket-protocol`.
    pub(crate) protocol: Option<HeaderValue>,
}

/// Why a request was turned away before `connect`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Origin(#[from] OriginRefused),
    #[error(transparent)]
    Subprotocol(#[from] SubprotocolError),
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error("vsn is a list or a map, expected a version such as 2.0.0")]
    VersionNotText,
}

/// Admits or turns away a WebSocket handshake.
///
/// # Errors
///
/// [`Denied`]; logged here. [`Denied::Query`] is answered 400, all others 403.
pub(crate) async fn admit_websocket(
    check_origin: &CheckOrigin,
    proxies: &TrustedProxies,
    subprotocols: &[String],
    parts: Parts,
) -> Result<Admitted, Denied> {
    let admit = async {
        let mut info = ConnectInfo::from_request(Transport::WebSocket, proxies, parts).await?;
        check_origin.check(&info.headers, &info.uri.target())?;
        let negotiated = subprotocol::negotiate(&info.headers, subprotocols)?;
        info.auth_token = negotiated.auth_token;
        let serializer = info.serializer()?;
        Ok(Admitted {
            info,
            serializer,
            protocol: negotiated.protocol,
        })
    };
    logged(Transport::WebSocket, admit.await)
}

/// A long-poll request whose origin is allowed: for a new session or for one that lives.
#[derive(Debug)]
pub(crate) struct LongPollRequest {
    info: ConnectInfo,
}

impl LongPollRequest {
    /// Takes the head of a request apart and checks its origin.
    ///
    /// # Errors
    ///
    /// [`Denied::Query`] and [`Denied::Origin`]; logged here.
    pub(crate) async fn new(
        check_origin: &CheckOrigin,
        proxies: &TrustedProxies,
        parts: Parts,
    ) -> Result<Self, Denied> {
        let check = async {
            let info = ConnectInfo::from_request(Transport::LongPoll, proxies, parts).await?;
            check_origin.check(&info.headers, &info.uri.target())?;
            Ok(Self { info })
        };
        logged(Transport::LongPoll, check.await)
    }

    /// Returns what the request says.
    pub(crate) fn info(&self) -> &ConnectInfo {
        &self.info
    }

    /// Admits or turns away a request for a new session.
    ///
    /// # Errors
    ///
    /// [`Denied::Version`] and [`Denied::VersionNotText`]; logged here.
    pub(crate) fn admit(self) -> Result<Admitted, Denied> {
        let mut info = self.info;
        info.auth_token = info.header(LONGPOLL_AUTH_TOKEN.as_str()).map(str::to_owned);
        let serializer = info.serializer();
        let admitted = serializer.map(|serializer| Admitted {
            info,
            serializer,
            protocol: None,
        });
        logged(Transport::LongPoll, admitted)
    }
}

fn logged<T>(transport: Transport, outcome: Result<T, Denied>) -> Result<T, Denied> {
    if let Err(denied) = &outcome {
        tracing::warn!(%transport, error = %denied, "socket request denied");
    }
    outcome
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::json;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    async fn info(uri: &str, headers: &[(&str, &str)]) -> ConnectInfo {
        let proxies = TrustedProxies::default();
        ConnectInfo::from_request(Transport::WebSocket, &proxies, request(uri, headers))
            .await
            .unwrap()
    }

    async fn admit(uri: &str, headers: &[(&str, &str)]) -> Result<Admitted, Denied> {
        admit_websocket(
            &CheckOrigin::same_host(),
            &TrustedProxies::default(),
            &["sip".into()],
            request(uri, headers),
        )
        .await
    }

    fn pairs<'a>(
        headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) -> Vec<(&'a str, &'a str)> {
        headers
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect()
    }

    #[tokio::test]
    async fn soc_108_connect_info_sorts_headers_by_prefix() {
        let info = info(
            "/",
            &[
                ("x-one", "1"),
                ("X-One", "2"),
                ("sec-websocket-version", "13"),
                ("traceparent", "00-a-b-01"),
                ("tracestate", "k=v"),
                ("user-agent", "test"),
                ("host", "h"),
            ],
        )
        .await;
        assert_eq!(pairs(info.x_headers()), [("x-one", "1"), ("x-one", "2")]);
        assert_eq!(
            pairs(info.sec_websocket_headers()),
            [("sec-websocket-version", "13")]
        );
        let trace = [("traceparent", "00-a-b-01"), ("tracestate", "k=v")];
        assert_eq!(pairs(info.trace_context_headers()), trace);
        assert_eq!(info.user_agent(), Some("test"));
        assert_eq!(info.peer(), None);
    }

    #[tokio::test]
    async fn soc_109_the_uri_is_the_one_that_was_asked_for() {
        let uri = info("/a/b?x=1", &[("host", "Example.com:4000")]).await.uri;
        assert_eq!(
            (uri.scheme(), uri.host(), uri.port()),
            ("http", "example.com", 4000)
        );
        assert_eq!((uri.path(), uri.query()), ("/a/b", Some("x=1")));
        let uri = info("https://[::1]/", &[("host", "other")]).await.uri;
        assert_eq!(
            (uri.scheme(), uri.host(), uri.port()),
            ("https", "::1", 443)
        );
        let uri = info("/", &[]).await.uri;
        assert_eq!((uri.host(), uri.port(), uri.query()), ("", 80, None));
    }

    #[tokio::test]
    async fn x_25_a_refused_origin_stays_refused_whatever_the_sub_protocol() {
        let headers = [("origin", "http://a.com"), ("host", "b.com")];
        assert!(matches!(admit("/", &headers).await, Err(Denied::Origin(_))));
        let mut with_protocol = headers.to_vec();
        with_protocol.push(("sec-websocket-protocol", "sip"));
        assert!(matches!(
            admit("/", &with_protocol).await,
            Err(Denied::Origin(_))
        ));
    }

    #[tokio::test]
    async fn soc_110_admission_runs_in_the_order_of_the_reference() {
        let everything_wrong = [
            ("origin", "http://a.com"),
            ("host", "b.com"),
            ("sec-websocket-protocol", "mqtt"),
        ];
        let denied = admit("/?vsn=9&a=%ff", &everything_wrong).await.unwrap_err();
        assert!(matches!(denied, Denied::Query(_)), "{denied}");
        let denied = admit("/?vsn=9", &everything_wrong).await.unwrap_err();
        assert!(matches!(denied, Denied::Origin(_)), "{denied}");
        let denied = admit("/?vsn=9", &everything_wrong[1..]).await.unwrap_err();
        assert!(matches!(denied, Denied::Subprotocol(_)), "{denied}");
        let denied = admit("/?vsn=9", &everything_wrong[1..2]).await.unwrap_err();
        assert!(matches!(denied, Denied::Version(_)), "{denied}");
        let denied = admit("/?vsn[]=2.0.0", &[]).await.unwrap_err();
        assert!(matches!(denied, Denied::VersionNotText), "{denied}");
        assert_eq!(admit("/", &[]).await.unwrap().serializer, Serializer::V1);
        assert_eq!(
            admit("/?vsn=2.0.9", &[]).await.unwrap().serializer,
            Serializer::V2
        );
    }

    #[tokio::test]
    async fn soc_111_the_long_poll_token_is_a_header_and_only_read_for_a_new_session() {
        let parts = request(
            "/?vsn=2.0.0&user[id]=1",
            &[("x-phoenix-authtoken", "secret")],
        );
        let (check_origin, proxies) = (CheckOrigin::same_host(), TrustedProxies::default());
        let request = LongPollRequest::new(&check_origin, &proxies, parts)
            .await
            .unwrap();
        assert_eq!(request.info().auth_token(), None);
        let admitted = request.admit().unwrap();
        assert_eq!(admitted.info.auth_token(), Some("secret"));
        assert_eq!(
            admitted.info.params().get("user"),
            Some(&json!({"id": "1"}))
        );
        assert_eq!(admitted.info.param("user"), None);
        assert_eq!(admitted.info.param("vsn"), Some("2.0.0"));
    }

    #[tokio::test]
    async fn soc_112_debug_shows_no_token() {
        let headers = [(
            "sec-websocket-protocol",
            "phoenix, sip, base64url.bearer.phx.c2VjcmV0",
        )];
        let admitted = admit("/?token=secret", &headers).await.unwrap();
        assert_eq!(admitted.info.auth_token(), Some("secret"));
        let shown = format!("{:?} {:?}", admitted.info, admitted.info.uri());
        assert!(
            !shown.contains("secret") && !shown.contains("c2VjcmV0"),
            "{shown}"
        );
    }
}
