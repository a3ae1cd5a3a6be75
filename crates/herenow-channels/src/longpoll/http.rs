//! The requests of long polling and their answers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use herenow_protocol::{Encoded, PollAnswer, split_batch};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
    RETRY_AFTER,
};
use http::{Extensions, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::session::too_large;
use super::token::is_well_formed;
use super::{Handle, LongPoll, OpenError};
use crate::arrival::NoNewcomers;
use crate::auth::{Admitted, ConnectInfo, Denied, LongPollRequest};
use crate::socket::{ConnectRefused, Session, Shared};

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
        let forwarded = shared.proxies.look_at(&parts);
        let log = &shared.log_limits.requests;
        let request = LongPollRequest::new(log, &shared.check_origin, &forwarded, parts).await;
        let request = match request {
            Ok(request) => request,
            Err(denied) => return self.deny(&method, forwarded.client, &denied),
        };
        match method {
            Method::GET => self.poll(request).await,
            Method::POST => self.publish(request.info(), body).await,
            Method::OPTIONS => preflight(request.info()),
            _ => empty(StatusCode::BAD_REQUEST),
        }
    }

    /// Fetches what waits, or begins a session.
    async fn poll(&self, mut request: LongPollRequest) -> Response {
        if let Some(token) = token_of(request.info())
            && let Some(session) = self.longpoll.find(token)
        {
            return answer(&session.poll().await, token);
        }
        if !request.forget_session(is_well_formed) {
            return answer(&PollAnswer::Gone, "");
        }
        if let Some(answer) = NoNewcomers::answer(request.extensions_mut()) {
            return answer;
        }
        let Some(mut arrival) = self.shared.let_in() else {
            return self.shared.arrivals.refuse();
        };
        let client = request.info().client();
        if let Err(refused) = self.shared.admit(client, request.extensions_mut()) {
            return refuse(&refused);
        }
        let Admitted {
            info, serializer, ..
        } = match request.admit(&self.shared.log_limits.requests) {
            Ok(admitted) => admitted,
            Err(denied) => return self.denied(&denied),
        };
        let began = Instant::now();
        self.shared.drain.follow_server_of(&info);
        let span = tracing::debug_span!("handshake", transport = "longpoll");
        let connecting = self.shared.connect(info, &mut arrival);
        let connected = match connecting.instrument(span).await {
            Ok(connected) => connected,
            Err(refused) => return refuse(&refused),
        };
        let session = Session::open(&self.shared, connected, serializer);
        match self.longpoll.open(session) {
            Ok(token) => {
                self.shared.metrics.handshakes.observe(began.elapsed());
                answer(&PollAnswer::NewSession, &token)
            }
            Err(error) => {
                self.shared.metrics.refused_connects.increment();
                if let OpenError::TooManySessions { .. } = error {
                    self.shared.metrics.over_max_sessions.increment();
                }
                if let Some(n_left_out) = self.shared.log_limits.requests.may_log() {
                    tracing::warn!(%error, n_left_out, "long-poll session refused");
                }
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
        let body = read(body, config.max_body_bytes);
        let body = tokio::time::timeout(config.body_timeout, body).await;
        let body = match body.unwrap_or(Err(Unread::Late)) {
            Ok(body) => body,
            Err(why) => return self.refuse_body(&why),
        };
        if info.header(CONTENT_TYPE.as_str()) == Some(BATCH_TYPE) {
            return self.publish_batch(&session, &body).await;
        }
        match self.accept(&session, Encoded::text(body)).await {
            Ok(()) => answer(&PollAnswer::Accepted, ""),
            Err(refused) => refused,
        }
    }

    /// Answers a request whose body was not read, counted if it is over a limit. The stock client
    /// takes any answer that does not say 200 for an error, and a new session after it.
    fn refuse_body(&self, why: &Unread) -> Response {
        let (config, metrics) = (self.longpoll.config(), &self.shared.metrics);
        let (reason, response) = match why {
            Unread::TooLarge => {
                metrics.over_body_bytes.increment();
                let max = config.max_body_bytes;
                let reason =
                    format!("the body is larger than {max} bytes (longpoll.max_body_bytes)");
                let response = plain(StatusCode::BAD_REQUEST, format!("{reason}\n"));
                (reason, response)
            }
            Unread::Late => {
                metrics.late_bodies.increment();
                let time = config.body_timeout;
                let reason = format!(
                    "the body took longer than {time:?} to be sent (longpoll.body_timeout)"
                );
                let body = serde_json::json!({ "status": 400, "reason": reason });
                let response = json(StatusCode::BAD_REQUEST, body.to_string());
                (reason, response)
            }
            Unread::Incomplete => {
                let reason = "the body is incomplete".to_owned();
                (reason, empty(StatusCode::BAD_REQUEST))
            }
        };
        if let Some(n_left_out) = self.shared.log_limits.messages.may_log() {
            tracing::warn!(reason, n_left_out, "long-poll body refused");
        }
        response
    }

    /// Hands over one frame after the other; what comes after a bad one is not looked at.
    async fn publish_batch(&self, session: &Handle, body: &Bytes) -> Response {
        for frame in split_batch(self.longpoll.session_config(), body) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    if let Some(n_left_out) = self.shared.log_limits.messages.may_log() {
                        tracing::warn!(%error, n_left_out, "long-poll batch malformed");
                    }
                    return empty(StatusCode::BAD_REQUEST);
                }
            };
            if let Err(refused) = self.accept(session, frame).await {
                return refused;
            }
        }
        answer(&PollAnswer::Accepted, "")
    }

    /// Waits until the session has accepted a frame, for a window at most. If it ends meanwhile,
    /// the answer is the same, and comes at once: the reference's client waits for the window. That
    /// client looks at the status only, so what the frame was too large for can stand beside it.
    async fn accept(&self, session: &Handle, frame: Encoded) -> Result<(), Response> {
        let too_large = too_large(&frame, self.shared.config.max_message_bytes);
        let accepted = tokio::time::timeout(self.longpoll.config().window, session.accept(frame));
        let accepted = accepted.await.ok().flatten();
        accepted.ok_or_else(|| match too_large {
            Some(reason) => {
                let body = serde_json::json!({ "status": 408, "reason": reason });
                json(StatusCode::OK, body.to_string())
            }
            None => answer(&PollAnswer::TimedOut, ""),
        })
    }

    /// Answers a request that is denied before it is known whose it is. One that polls counts as a
    /// handshake.
    fn deny(&self, method: &Method, client: Option<IpAddr>, denied: &Denied) -> Response {
        if method == Method::GET
            && let Err(refused) = self.shared.admit(client, &mut Extensions::new())
        {
            return refuse(&refused);
        }
        self.denied(denied)
    }

    fn denied(&self, denied: &Denied) -> Response {
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

/// Why a body was not read.
enum Unread {
    TooLarge,
    Incomplete,
    Late,
}

/// Reads a body of at most `max` bytes. One that is longer is read as far, though its length may
/// say so before: whoever still writes would not get the answer.
async fn read(body: Body, max: usize) -> Result<Bytes, Unread> {
    let mut parts = body.into_data_stream();
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Unread::Incomplete)?;
        if first.len().max(all.len()) + part.len() > max {
            return Err(Unread::TooLarge);
        }
        if first.is_empty() && all.is_empty() {
            first = part;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&part);
        }
    }
    Ok(match all.is_empty() {
        true => first,
        false => all.into(),
    })
}

fn token_of(info: &ConnectInfo) -> Option<&str> {
    info.header(TOKEN_HEADER).or_else(|| info.param("token"))
}

/// The answer to a client whom the application refuses.
fn refuse(refused: &ConnectRefused) -> Response {
    match refused.long_poll() {
        Some((status, body)) => {
            let mut response = json(status, body);
            if let Some(after) = refused.retry_after() {
                response.headers_mut().insert(RETRY_AFTER, after);
            }
            response
        }
        None => answer(&PollAnswer::Forbidden, ""),
    }
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

fn plain(status: StatusCode, text: String) -> Response {
    let mut response = empty(status);
    *response.body_mut() = text.into();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
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
