//! Who is asking: what a request for a socket says, and whether it may be heard.
//!
//! [`ConnectInfo`] is what the application's `connect` decides on. Before it is called, the
//! transports admit the request: query, origin, sub-protocol and token, protocol version, in this
//! order. How a refusal is answered is theirs to say.

mod query;
mod subprotocol;
mod uri;
mod admission;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{FromRequestParts, OriginalUri, RawPathParams};
use herenow_protocol::Serializer;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

pub(crate) use self::admission::{Admitted, Denied, LongPollRequest, admit_websocket};
use self::query::QueryError;
pub use self::uri::RequestUri;
use crate::forwarded::Forwarded;

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
        forwarded: &Forwarded,
        mut parts: Parts,
    ) -> Result<Self, QueryError> {
        let uri = match parts.extensions.get::<OriginalUri>() {
            Some(OriginalUri(uri)) => uri.clone(),
            None => parts.uri.clone(),
        };
        let uri = RequestUri::new(uri, &parts.headers, forwarded);
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

#[cfg(test)]
mod tests;
