//! A server that only shakes hands: what everything else is compared with.

use std::convert::Infallible;
use std::future::poll_fn;

use axum::body::Body;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use axum::http::{Request, Response, StatusCode};
use herenow_channels::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::super::line::Way;
use super::super::server;
use super::super::wire::Backlog;
use super::Kind;

pub(super) struct Hands {
    _runtime: Runtime,
    way: Way,
}

impl Hands {
    /// Starts it on the kind of wire that is asked for.
    pub(super) fn start(wire: Kind) -> anyhow::Result<Self> {
        let runtime = server::runtime()?;
        let way = match wire {
            Kind::Memory => {
                let backlog = Backlog::default();
                runtime.spawn(accept(backlog.clone()));
                Way::Memory(backlog)
            }
            Kind::Tcp => {
                let _guard = runtime.enter();
                let listener = herenow_channels::listen(([127, 0, 0, 1], 0).into())?;
                let address = listener.local_addr()?;
                runtime.spawn(accept(listener));
                Way::Tcp(address)
            }
        };
        Ok(Self {
            _runtime: runtime,
            way,
        })
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }
}

async fn accept<L: Listener<Stream: AsyncRead + AsyncWrite + Unpin>>(listener: L) {
    while let Ok((end, _)) = poll_fn(|context| listener.poll_accept(context)).await {
        tokio::spawn(async move {
            let http = http1::Builder::new();
            let served = http.serve_connection(TokioIo::new(end), service_fn(shake));
            served.with_upgrades().await.expect("it shakes hands")
        });
        // As a listener of the system's, it lets others have their turn.
        tokio::task::consume_budget().await;
    }
}

/// Answers the handshake, and keeps the connection.
async fn shake(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = upgrade.await.expect("it is upgraded");
        let mut io = TokioIo::new(upgraded);
        io.read_u8().await
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let key = request.headers().get(SEC_WEBSOCKET_KEY);
    let accept = derive_accept_key(key.map(|key| key.as_bytes()).unwrap_or_default());
    let accept = accept.try_into().expect("base64 is a valid header value");
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(CONNECTION, "upgrade".try_into().expect("a valid value"));
    headers.insert(UPGRADE, "websocket".try_into().expect("a valid value"));
    Ok(response)
}
