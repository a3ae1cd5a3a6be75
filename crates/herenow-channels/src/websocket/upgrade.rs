//! From an HTTP request to a [`Connection`].

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use bytes::Bytes;
use futures_util::FutureExt;
use herenow_protocol::Serializer;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::Instrument as _;
use tracing::field::Empty;
use tungstenite::handshake::derive_accept_key;

use super::connection::Connection;
use super::stream::SharedStream;
use crate::arrival::{Arrival, NoNewcomers, Place};
use crate::auth::{Admitted, Denied, admit_websocket};
use crate::socket::{Connected, Session, Shared};
use crate::watched::Watched;

/// Returns the route that upgrades to a WebSocket.
pub(crate) fn websocket_route(shared: &Arc<Shared>) -> MethodRouter {
    let shared = shared.clone();
    any(move |request: Request| {
        let span = tracing::debug_span!("handshake", transport = "websocket", status = Empty);
        let response = handshake(shared.clone(), request).instrument(span.clone());
        response.inspect(move |response| {
            span.record("status", response.status().as_u16());
        })
    })
}

/// Answers a handshake. Refusals come in the reference's order: `connect` is asked even if the
/// request then turns out to be no valid upgrade.
async fn handshake(shared: Arc<Shared>, request: Request) -> Response {
    let began = Instant::now();
    let (mut parts, _) = request.into_parts();
    if parts.method != Method::GET {
        return StatusCode::BAD_REQUEST.into_response();
    }
    if let Some(answer) = NoNewcomers::answer(&parts.extensions) {
        return answer;
    }
    let Some(mut arrival) = shared.let_in() else {
        return shared.arrivals.refuse();
    };
    let place = parts.extensions.remove::<Place>();
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let key = upgrade_key(&parts.headers);
    let Admitted {
        info,
        serializer,
        protocol,
    } = match admit(&shared, parts).await {
        Ok(admitted) => admitted,
        Err(answer) => return *answer,
    };
    let n_params = info.params().len();
    shared.drain.follow_server_of(&info);
    let connected = match shared.connect(info, &mut arrival).await {
        Ok(connected) => connected,
        Err(refused) => return refused.into_response(),
    };
    let key = match key {
        Ok(key) => key,
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let Some(on_upgrade) = on_upgrade else {
        let text = "the connection cannot be upgraded";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    tracing::debug!(
        transport = "websocket",
        ?serializer,
        n_params,
        "socket connected"
    );
    shared.metrics.handshakes.observe(began.elapsed());
    let tasks = shared.tasks.clone();
    let newcomer = Newcomer {
        shared,
        connected,
        serializer,
        arrival,
        place,
    };
    tasks.spawn(run(on_upgrade, Box::new(newcomer)));
    switching_protocols(key.as_bytes(), protocol)
}

/// Looks at whose request it is, and then at what it says; the answer to one that may not go on.
async fn admit(shared: &Shared, mut parts: Parts) -> Result<Admitted, Box<Response>> {
    let forwarded = shared.proxies.look_at(&parts);
    shared
        .admit(forwarded.client, &mut parts.extensions)
        .map_err(|refused| Box::new(refused.into_response()))?;
    let admitted = admit_websocket(
        &shared.log_limits.requests,
        &shared.check_origin,
        &forwarded,
        &shared.config.subprotocols,
        parts,
    );
    admitted.await.map_err(|denied| {
        shared.metrics.refused_connects.increment();
        let status = match denied {
            Denied::Query(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        };
        Box::new(status.into_response())
    })
}

/// Makes the connection, on the bare TCP stream where it is one, so that nothing of hyper is kept.
/// Other streams stay what hyper made of them, a box, and pay a virtual call for each read and
/// write.
///
/// Not async, so that the task holds the connection and nothing it was made of.
fn connection(upgraded: Upgraded, session: Session) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match downcast(upgraded) {
        Ok((stream, read)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "nodelay not set");
            }
            let stream = Arc::new(stream);
            session.mailbox().set_stream(stream.clone());
            Box::pin(Connection::new(SharedStream(stream), &read, session))
        }
        // TLS, say. Only its own task can write to it, so the mailbox does not get it.
        Err(upgraded) => {
            let io = TokioIo::new(*upgraded);
            Box::pin(Connection::new(io, &Bytes::new(), session))
        }
    }
}

/// A client whose handshake is answered, and whose connection does not run yet.
struct Newcomer {
    shared: Arc<Shared>,
    connected: Connected,
    serializer: Serializer,
    /// Ends when the connection runs: until then it is on its way in.
    arrival: Arrival,
    place: Option<Place>,
}

/// Waits for the connection to be upgraded and runs it.
///
/// The newcomer is boxed, so that the task is not larger for as long as the connection lasts.
fn run(on_upgrade: OnUpgrade, newcomer: Box<Newcomer>) -> impl Future<Output = ()> + Send {
    let upgraded = on_upgrade.map(move |upgraded| match upgraded {
        Ok(upgraded) => newcomer.begin(upgraded),
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            Box::pin(std::future::ready(()))
        }
    });
    upgraded.flatten()
}

impl Newcomer {
    fn begin(self, upgraded: Upgraded) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let session = Session::open(&self.shared, self.connected, self.serializer);
        drop((self.arrival, self.place));
        connection(upgraded, session)
    }
}

fn downcast(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Box<Upgraded>> {
    match upgraded.downcast::<TokioIo<Watched<TcpStream>>>() {
        Ok(parts) => Ok((parts.io.into_inner().into_inner(), parts.read_buf)),
        // `axum::serve` does not watch the stream, and wraps it once more.
        Err(upgraded) => match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
            Err(upgraded) => Err(Box::new(upgraded)),
        },
    }
}

/// Checks the headers of an upgrade (RFC 6455, section 4.2.1) and returns its key.
fn upgrade_key(headers: &HeaderMap) -> Result<HeaderValue, String> {
    if !headers.contains_key(HOST) {
        return Err("'host' header is absent".to_owned());
    }
    must_contain(headers, &CONNECTION, "upgrade")?;
    must_contain(headers, &UPGRADE, "websocket")?;
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| "'sec-websocket-key' header is absent".to_owned())?;
    must_contain(headers, &SEC_WEBSOCKET_VERSION, "13")?;
    Ok(key.clone())
}

fn must_contain(headers: &HeaderMap, name: &HeaderName, token: &str) -> Result<(), String> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    let mut tokens = values.iter().flat_map(|value| value.split(','));
    if tokens.any(|one| one.trim().eq_ignore_ascii_case(token)) {
        return Ok(());
    }
    Err(format!(
        "'{name}' header must contain '{token}', got {values:?}"
    ))
}

fn switching_protocols(key: &[u8], protocol: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::try_from(derive_accept_key(key));
    headers.insert(
        SEC_WEBSOCKET_ACCEPT,
        accept.expect("base64 is a valid header value"),
    );
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}
