//! What a request must pass before `connect` is asked: query, origin, sub-protocol and token,
//! protocol version.

use herenow_protocol::{Serializer, VersionError};
use http::request::Parts;
use http::{HeaderName, HeaderValue};

use super::query::QueryError;
use super::subprotocol::{self, SubprotocolError};
use super::{ConnectInfo, Transport};
use crate::forwarded::TrustedProxies;
use crate::origin::{CheckOrigin, OriginRefused};

/// Where a long-poll client puts its token, as the WebSocket client does in a sub-protocol.
const LONGPOLL_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-phoenix-authtoken");

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
