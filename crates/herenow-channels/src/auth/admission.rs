//! What a request must pass before `connect` is asked: query, origin, sub-protocol and token,
//! protocol version.

use herenow_protocol::{Serializer, VersionError};
use herenow_pubsub::{LogLimit, client_text};
use http::request::Parts;
use http::{Extensions, HeaderName, HeaderValue};
use serde_json::Value;

use super::query::{self, QueryError};
use super::subprotocol::{self, SubprotocolError};
use super::{ConnectInfo, Transport};
use crate::forwarded::Forwarded;
use crate::origin::{CheckOrigin, OriginRefused};

/// Where a long-poll client puts its token, as the WebSocket client does in a sub-protocol.
const LONGPOLL_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-phoenix-authtoken");
/// The parameter in which older long-poll clients put the session's token, and others their own.
const TOKEN: &str = "token";

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
    #[error(
        "protocol version {} is not supported, only ~> 1.0.0 and ~> 2.0.0 are",
        client_text(&.0.version)
    )]
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
    log: &LogLimit,
    check_origin: &CheckOrigin,
    forwarded: &Forwarded,
    subprotocols: &[String],
    parts: Parts,
) -> Result<Admitted, Denied> {
    let admit = async {
        let mut info = ConnectInfo::from_request(Transport::WebSocket, forwarded, parts).await?;
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
    logged(log, Transport::WebSocket, admit.await)
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
        log: &LogLimit,
        check_origin: &CheckOrigin,
        forwarded: &Forwarded,
        parts: Parts,
    ) -> Result<Self, Denied> {
        let check = async {
            let info = ConnectInfo::from_request(Transport::LongPoll, forwarded, parts).await?;
            check_origin.check(&info.headers, &info.uri.target())?;
            Ok(Self { info })
        };
        logged(log, Transport::LongPoll, check.await)
    }

    /// Returns what the request says.
    pub(crate) fn info(&self) -> &ConnectInfo {
        &self.info
    }

    /// Returns what is known of the request besides what it says.
    pub(crate) fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.info.extensions
    }

    /// Takes the token of a session that is not there any more out of the parameter `token`, and
    /// puts the one back that older clients put it over. Tells whether the request may be a
    /// newcomer's: it is not if that token is all by which its client could be known.
    pub(crate) fn forget_session(&mut self, is_session_token: impl Fn(&str) -> bool) -> bool {
        let info = &mut self.info;
        if !info.param(TOKEN).is_some_and(&is_session_token) {
            return true;
        }
        let written = query::texts(info.uri.query().unwrap_or_default(), TOKEN);
        let other = written.rev().find(|token| !is_session_token(token));
        info.params.remove(TOKEN);
        let is_newcomer = other.is_some() || info.headers.contains_key(LONGPOLL_AUTH_TOKEN);
        if let Some(token) = other {
            info.params.insert(TOKEN.to_owned(), Value::String(token));
        }
        is_newcomer
    }

    /// Admits or turns away a request for a new session.
    ///
    /// # Errors
    ///
    /// [`Denied::Version`] and [`Denied::VersionNotText`]; logged here.
    pub(crate) fn admit(self, log: &LogLimit) -> Result<Admitted, Denied> {
        let mut info = self.info;
        info.auth_token = info.header(LONGPOLL_AUTH_TOKEN.as_str()).map(str::to_owned);
        let serializer = info.serializer();
        let admitted = serializer.map(|serializer| Admitted {
            info,
            serializer,
            protocol: None,
        });
        logged(log, Transport::LongPoll, admitted)
    }
}

fn logged<T>(
    log: &LogLimit,
    transport: Transport,
    outcome: Result<T, Denied>,
) -> Result<T, Denied> {
    if let Err(denied) = &outcome
        && let Some(n_left_out) = log.may_log()
    {
        tracing::warn!(%transport, error = %denied, n_left_out, "socket request denied");
    }
    outcome
}
