//! Broadcasts over HTTP, as the dialect's clients and backends send them.
//!
//! `POST /realtime/v1/api/broadcast` takes several as JSON, `POST
//! /realtime/v1/api/broadcast/{topic}/events/{event}` one, as JSON or bytes. Who asks is told by
//! `authorization: Bearer …` or `apikey`; answers and errors are those that the clients expect.
//!
//! Whether a message is private is read as in a join, but for what is no boolean: that is refused,
//! since what was meant for a private room must not reach the public one of its name.
//!
//! A payload is bounded by `supabase.max_payload_bytes`, as over a socket, and the body of a batch
//! by that or by `api.max_body_bytes`, whichever is larger. It has to arrive within
//! `api.body_timeout`.
//!
//! A request counts as a connection of its address while it lasts, and goes through the door of the
//! sockets: there is no way around their limits. So are its messages taken from a [`Budget`] that is
//! as large as a connection's, before any of them is sent.

mod batch;
mod budget;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Extension, Path, RawQuery, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use herenow_channels::TrustedProxies;
use herenow_pubsub::{LogLimit, MAX_TOPIC_BYTES, Payload};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::batch::Message;
pub(super) use self::budget::Budget;
use self::budget::{Client, Over};
use super::access::may_enter;
use super::frame::{MAX_FIELD_BYTES, UserBroadcast};
use super::join::switch_word;
use super::{BROADCAST, Room, Shared};
use crate::api::{Unread, check_is_local, read_body, too_slow};
use crate::door::{self, Door};
use crate::identity::Identity;
use crate::limits::{Limits, Named};
use crate::raw;

/// Messages of a batch that are sent before connections may write theirs.
const SENT_AT_ONCE: usize = 32;
/// How much of a value is repeated.
const MAX_VALUE_BYTES: usize = 128;

/// What the routes share.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) shared: Arc<Shared>,
    pub(super) is_local: bool,
    pub(super) max_body_bytes: usize,
    pub(super) body_timeout: Duration,
    pub(super) budget: Budget,
    pub(super) log: LogLimit,
    /// Longest topic that a client can join.
    pub(super) max_topic_bytes: usize,
}

/// What a request has to pass before it is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) door: Door,
    pub(crate) limits: Limits,
    pub(crate) proxies: TrustedProxies,
    /// Whether only programs and pages of this machine are answered, because nobody has a token.
    pub(crate) is_local: bool,
}

/// Where a request comes from, if that is known.
#[derive(Debug, Clone, Copy)]
struct Address(Option<IpAddr>);

/// A request that is not done: its status, what its client is told, and when it may try again.
#[derive(Debug)]
struct Refused(StatusCode, Value, Option<Duration>);

/// The routes.
pub(super) fn router(rest: Rest, gate: Gate) -> Router {
    let door = from_fn_with_state(gate.door.clone(), door::admit);
    let limits = from_fn_with_state(gate, admit);
    let single = "/api/broadcast/{topic}/events/{event}";
    Router::new()
        .route("/api/broadcast", post(batch).options(preflight))
        .route(single, post(one).options(preflight))
        .layer(limits)
        .layer(door)
        .layer(map_response(for_all_origins))
        .with_state(Arc::new(rest))
}

/// Lets a request in by its client's address.
async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let client = peer.and_then(|peer| gate.proxies.client(peer.0.ip(), request.headers()));
    match gate.limits.admit_client(client) {
        Ok(permit) => {
            request.extensions_mut().insert(Address(client));
            let response = next.run(request).await;
            drop(permit);
            response
        }
        Err(over) => Refused::too_many(&over.reason, over.retry_after).into_response(),
    }
}

/// Browsers may read the answers wherever their pages are from: a token is what counts.
async fn for_all_origins(mut response: Response) -> Response {
    let any = HeaderValue::from_static("*");
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}

async fn preflight() -> impl IntoResponse {
    let headers = [
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, apikey, content-type, x-client-info",
        ),
        (ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS"),
        (ACCESS_CONTROL_MAX_AGE, "3600"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// `POST /api/broadcast` with `{"messages": [{"topic", "event", "payload", "private"}]}`.
async fn batch(
    State(rest): State<Arc<Rest>>,
    Extension(address): Extension<Address>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refused> {
    let identity = rest.identify(&headers).await?;
    let body = rest.batch_body(body).await?;
    let messages = batch::find(&rest, &body)?;
    rest.charge(Client::of(&identity, address.0), messages.len())?;
    let messages = batch::read(&rest, &messages)?;
    // What the client may not send is left out without a word, as the reference does.
    let allowed = |message: &&Message<'_>| rest.may_send(&identity, message.room());
    for (n_sent, message) in messages.iter().filter(allowed).enumerate() {
        if n_sent > 0 && n_sent % SENT_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        rest.send(message.room(), message.to_payload())?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/broadcast/{topic}/events/{event}`, with `?private=true` for a private room.
async fn one(
    State(rest): State<Arc<Rest>>,
    Path((name, event)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    Extension(address): Extension<Address>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refused> {
    let identity = rest.identify(&headers).await?;
    let is_json = match media_type(&headers).as_str() {
        "" | "application/json" => true,
        "application/octet-stream" => false,
        _ => return Err(Refused::media_type()),
    };
    let query = parameters(query.as_deref().unwrap_or_default());
    if query.iter().any(|(name, _)| name.starts_with("persist")) {
        return Err(Refused::persistence());
    }
    let is_private =
        asks_for_private(&query).map_err(|text| Refused::errors(json!({ "private": [text] })))?;
    let room = Room {
        name: &name,
        is_private,
    };
    let body = rest.payload(body).await?;
    rest.charge(Client::of(&identity, address.0), 1)?;
    if is_json && !serde_json::from_slice::<&RawValue>(&body).is_ok_and(raw::is_object) {
        return Err(Refused::payload("must be a JSON object"));
    }
    rest.within(event.len(), MAX_FIELD_BYTES, Named::Event)
        .map_err(|text| Refused::errors(json!({ "event": [text] })))?;
    let checked = match is_json {
        true => rest.check_room(room),
        false => rest.check_room_of_bytes(room),
    };
    checked.map_err(|text| Refused::errors(json!({ "topic": [text] })))?;
    if !rest.may_send(&identity, room) {
        return Err(Refused::message(StatusCode::FORBIDDEN, "Unauthorized"));
    }
    let broadcast = UserBroadcast {
        event: &event,
        is_json,
        payload: &body,
    };
    let stored = broadcast.to_room();
    let stored = stored.expect("the event's length was checked");
    rest.send(room, Payload::Binary(stored))?;
    Ok(StatusCode::ACCEPTED)
}

impl Rest {
    async fn identify(&self, headers: &HeaderMap) -> Result<Identity, Refused> {
        let access = &self.shared.access;
        let unauthorized = || Refused::message(StatusCode::UNAUTHORIZED, "Unauthorized");
        if access.authority.is_dev() {
            let is_allowed = !self.is_local || check_is_local(headers).is_ok();
            return match is_allowed {
                true => Ok(Identity::claimed(None)),
                false => Err(unauthorized()),
            };
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(AUTHORIZATION.as_str()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        });
        let key = bearer.or_else(|| text("apikey"));
        access.identify(key).await.map_err(|_| unauthorized())
    }

    /// Reads the body of a batch.
    async fn batch_body(&self, body: Body) -> Result<Bytes, Refused> {
        let max_payload = self.shared.config.max_payload_bytes;
        let (max, limit) = match self.max_body_bytes < max_payload {
            true => (max_payload, Named::SupabasePayload),
            false => (self.max_body_bytes, Named::ApiBody),
        };
        let read = read_body(body, max, self.body_timeout).await;
        read.map_err(|unread| match unread {
            Unread::TooLarge => {
                self.shared.limits.count(limit);
                let text = format!("the body is larger than {max} bytes ({limit})");
                Refused::message(StatusCode::PAYLOAD_TOO_LARGE, &text)
            }
            Unread::TooSlow => self.too_slow(),
            Unread::Incomplete => Refused::incomplete(),
        })
    }

    /// Reads a body that is the payload of one broadcast.
    async fn payload(&self, body: Body) -> Result<Bytes, Refused> {
        let max = self.shared.config.max_payload_bytes;
        let said = match body.size_hint().exact() {
            Some(len) => len.to_string(),
            None => format!("more than {max}"),
        };
        let read = read_body(body, max, self.body_timeout).await;
        read.map_err(|unread| match unread {
            Unread::TooLarge => Refused::payload(&self.oversize(&said)),
            Unread::TooSlow => self.too_slow(),
            Unread::Incomplete => Refused::incomplete(),
        })
    }

    fn too_slow(&self) -> Refused {
        self.shared.limits.count(Named::ApiBodyTimeout);
        let reason = too_slow(self.body_timeout);
        self.warn(&reason);
        Refused::message(StatusCode::REQUEST_TIMEOUT, &reason)
    }

    /// Takes so many messages from a client's budget, before any is sent.
    fn charge(&self, client: Client, n: usize) -> Result<(), Refused> {
        self.budget.take(client, n).map_err(|over| {
            self.shared.limits.count(Named::MessageRate);
            let reason = over.to_string();
            self.warn(&reason);
            match over {
                Over::Burst { .. } => Refused::errors(json!({ "messages": [reason] })),
                Over::Rate { wait, .. } => Refused::too_many(&reason, wait),
            }
        })
    }

    fn warn(&self, reason: &str) {
        if let Some(n_left_out) = self.log.may_log() {
            tracing::warn!(reason, n_left_out, "broadcast over HTTP refused");
        }
    }

    fn check_size(&self, len: usize) -> Result<(), String> {
        match len <= self.shared.config.max_payload_bytes {
            true => Ok(()),
            false => Err(self.oversize(&len.to_string())),
        }
    }

    /// Counts a payload of too many bytes, and says why it is refused.
    fn oversize(&self, len: &str) -> String {
        let (max, limit) = (self.shared.config.max_payload_bytes, Named::SupabasePayload);
        self.shared.limits.count(limit);
        format!(
            "Payload size exceeds tenant limit: it is {len} bytes, the limit is {max} ({limit})"
        )
    }

    /// Checks that clients can join a room.
    fn check_room(&self, room: Room<'_>) -> Result<(), String> {
        let (len, joined_len) = (room.topic().len(), room.client_topic_bytes());
        self.within(joined_len, self.max_topic_bytes, Named::SocketTopic)
            .and_then(|()| self.within(len, MAX_TOPIC_BYTES, Named::PubSubTopic))
            .map_err(|text| format!("with its prefix {text}"))
    }

    /// Checks that they can be sent bytes there: a frame of these has one byte for the length of
    /// its topic.
    fn check_room_of_bytes(&self, room: Room<'_>) -> Result<(), String> {
        let len = room.client_topic_bytes();
        self.check_room(room)?;
        self.within(len, MAX_FIELD_BYTES, Named::PubSubTopic)
            .map_err(|text| format!("with its prefix {text}"))
    }

    /// Checks a length; what is longer is counted.
    fn within(&self, len: usize, max: usize, limit: Named) -> Result<(), String> {
        if len <= max {
            return Ok(());
        }
        self.shared.limits.count(limit);
        Err(format!("is {len} bytes, the limit is {max} ({limit})"))
    }

    fn may_send(&self, identity: &Identity, room: Room<'_>) -> bool {
        let is_off = self.shared.config.private_only && !room.is_private;
        !is_off && identity.may_broadcast() && may_enter(identity, room)
    }

    fn send(&self, room: Room<'_>, payload: Payload) -> Result<(), Refused> {
        let pubsub = self.shared.presence.pubsub();
        pubsub
            .broadcast(&room.topic(), BROADCAST, payload)
            .map_err(|error| {
                let text = error.to_string();
                tracing::warn!(error = text, "broadcast over HTTP not made");
                Refused::message(StatusCode::SERVICE_UNAVAILABLE, &text)
            })
    }
}

impl Refused {
    fn message(status: StatusCode, message: &str) -> Self {
        Self(status, json!({ "message": message }), None)
    }

    fn too_many(reason: &str, retry_after: Duration) -> Self {
        let Self(status, told, _) = Self::message(StatusCode::TOO_MANY_REQUESTS, reason);
        Self(status, told, Some(retry_after))
    }

    /// The parts of a request that are wrong, each with its errors.
    fn errors(errors: Value) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self(status, json!({ "errors": errors }), None)
    }

    fn payload(text: &str) -> Self {
        Self::errors(json!({ "payload": [text] }))
    }

    fn incomplete() -> Self {
        Self::message(StatusCode::BAD_REQUEST, "the body did not arrive whole")
    }

    /// It would be no help to take a message for one that is kept.
    fn persistence() -> Self {
        let text = "this server keeps no messages, so there is no persist";
        Self(StatusCode::NOT_IMPLEMENTED, json!({ "error": text }), None)
    }

    fn media_type() -> Self {
        let text = "Unsupported Media Type. Use application/json or application/octet-stream";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self(status, json!({ "error": text }), None)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, told, retry_after) = self;
        let mut response = (status, Json(told)).into_response();
        if let Some(wait) = retry_after {
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            let seconds = HeaderValue::try_from(seconds.to_string());
            let seconds = seconds.expect("digits can stand in a header");
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

/// The parameters of a query, decoded. What is no UTF-8 stays recognizably wrong.
fn parameters(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    query.split('&').map(pair).collect()
}

/// Tells whether one of the parameters asks for the private room; says so if one is no boolean.
fn asks_for_private(query: &[(String, String)]) -> Result<bool, String> {
    let mut is_private = false;
    for (_, value) in query.iter().filter(|(name, _)| name == "private") {
        is_private |= switch_word(value).ok_or_else(|| no_switch(&format!("{value:?}")))?;
    }
    Ok(is_private)
}

/// Why a value is none of `private`.
fn no_switch(value: &str) -> String {
    let shown = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
    format!("is {shown}, it must be true or false")
}

/// The media type of the body, without its parameters; empty if none is given.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE);
    let text = value.map_or("", |value| value.to_str().unwrap_or("?"));
    let media = text.split(';').next().unwrap_or_default();
    media.trim().to_ascii_lowercase()
}
