//! The requests of long polling and their answers.

use std::sync::Arc;

use axum::body::{self, Body};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use herenow_protocol::{Encoded, PollAnswer, split_batch};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
};
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{Handle, LongPoll};
use crate::auth::{Admitted, ConnectInfo, Denied, LongPollRequest};
use crate::socket::{Session, Shared};

/// Where the client puts the token; in older ones it is the query's `token`.
const TOKEN_HEADER: &str = "x-phoenix-longpoll-token";
/// The content type of a batch, without parameters.
const BATCH_TYPE: &str = "application/x-ndjson";

/// The long-poll path of one mount.
#[derive(Debug, Clone)]
pub(crate) struct LongPollRoute {
    pub(crate) shared: Arc<Shared>,
    pub(crate) longpoll: Arc<LongPoll>,
}

impl LongPollRoute {
    /// Answers any request to the path.
    pub(crate) async fn handle(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let shared = &self.shared;
        let method = parts.method.clone();
        let request = match LongPollRequest::new(&shared.check_origin, &shared.proxies, parts).await
        {
            Ok(request) => request,
            Err(denied) => return self.deny(&denied),
        };
        match method {
            Method::GET => self.poll(request).await,
            Method::POST => self.publish(request.info(), body).await,
            Method::OPTIONS => preflight(request.info()),
            _ => empty(StatusCode::BAD_REQUEST),
        }
    }

    /// Fetches what waits, or begins a session.
    async fn poll(&self, request: LongPollRequest) -> Response {
        if let Some(token) = token_of(request.info())
            && let Some(session) = self.longpoll.find(token)
        {
            return answer(&session.poll().await, token);
        }
        let Admitted {
            info, serializer, ..
        } = match request.admit() {
            Ok(admitted) => admitted,
            Err(denied) => return self.deny(&denied),
        };
        let Some(mut arrival) = self.shared.let_in() else {
            return self.shared.arrivals.refuse();
        };
        let began = Instant::now();
        self.shared.drain.follow_server_of(&info);
        let span = tracing::debug_span!("handshake", transport = "longpoll");
        let connecting = self.shared.connect(info, &mut arrival);
        let connected = match connecting.instrument(span).await {
            Ok(connected) => connected,
            Err(refused) => {
                return match refused.long_poll() {
                    Some((status, body)) => json(status, body),
                    None => answer(&PollAnswer::Forbidden, ""),
                };
            }
        };
        let session = Session::open(&self.shared, connected, serializer);
        match self.longpoll.open(session) {
            Ok(token) => {
                self.shared.metrics.handshakes.observe(began.elapsed());
                answer(&PollAnswer::NewSession, &token)
            }
            Err(error) => {
                self.shared.metrics.refused_connects.increment();
                tracing::warn!(%error, "long-poll session refused");
                answer(&PollAnswer::Forbidden, "")
            }
        }
    }

    /// Hands messages of the client to its session.
    async fn publish(&self, info: &ConnectInfo, body: Body) -> Response {
        let Some(session) = token_of(info).and_then(|token| self.longpoll.find(token)) else {
            return answer(&PollAnswer::Gone, "");
        };
        let config = self.longpoll.config();
        let body = body::to_bytes(body, config.max_body_bytes);
        let Ok(Ok(body)) = tokio::time::timeout(config.body_timeout, body).await else {
            tracing::warn!(
                max = config.max_body_bytes,
                "long-poll body too large or incomplete"
            );
            return empty(StatusCode::BAD_REQUEST);
        };
        if info.header(CONTENT_TYPE.as_str()) == Some(BATCH_TYPE) {
            return self.publish_batch(&session, &body).await;
        }
        match self.accept(&session, Encoded::text(body)).await {
            Ok(()) => answer(&PollAnswer::Accepted, ""),
            Err(refused) => answer(&refused, ""),
        }
    }

    /// Hands over one frame after the other; what comes after a bad one is not looked at.
    async fn publish_batch(&self, session: &Handle, body: &Bytes) -> Response {
        for frame in split_batch(self.longpoll.session_config(), body) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    tracing::warn!(%error, "long-poll batch malformed");
                    return empty(StatusCode::BAD_REQUEST);
                }
            };
            if let Err(refused) = self.accept(session, frame).await {
                return answer(&refused, "");
            }
        }
        answer(&PollAnswer::Accepted, "")
    }

    /// Waits until the session has accepted a frame, for a window at most. A session that ends
    /// meanwhile does not answer, as the reference's does not: its client learns it by polling.
    async fn accept(&self, session: &Handle, frame: Encoded) -> Result<(), PollAnswer> {
        let accepted = tokio::time::timeout(self.longpoll.config().window, session.accept(frame));
        accepted.await.map_err(|_| PollAnswer::TimedOut)
    }

    fn deny(&self, denied: &Denied) -> Response {
        self.shared.metrics.refused_connects.increment();
        match denied {
            Denied::Query(_) => empty(StatusCode::BAD_REQUEST),
            Denied::Origin(_)
            | Denied::Subprotocol(_)
            | Denied::Version(_)
            | Denied::VersionNotText => answer(&PollAnswer::Forbidden, ""),
        }
    }
}

fn token_of(info: &ConnectInfo) -> Option<&str> {
    info.header(TOKEN_HEADER).or_else(|| info.param("token"))
}

fn preflight(info: &ConnectInfo) -> Response {
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    if let Some(asked) = info.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    let methods = HeaderValue::from_static("get, post, options");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    response
}

/// The JSON of an answer; `token` only shows in those that have one.
fn answer(answer: &PollAnswer, token: &str) -> Response {
    json(StatusCode::OK, answer.to_json(token))
}

fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = empty(status);
    *response.body_mut() = body.into();
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    headers.insert(CONTENT_TYPE, json);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let any = HeaderValue::from_static("*");
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}
