//! The application's say in who may connect.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Extensions, HeaderValue, StatusCode};

use super::guard::Guard;
use crate::auth::ConnectInfo;
use crate::channel::Assigns;

/// What is kept for its drop.
pub(crate) type Kept = Arc<dyn Any + Send + Sync>;

/// A connection that `connect` accepted.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Connected {
    /// The topic on which a broadcast of `disconnect` closes the connection, such as `users:42`.
    /// `None`: the connection is anonymous.
    pub id: Option<Arc<str>>,
    /// Values for all channels of the connection.
    pub assigns: Assigns,
    /// What is asked about the connection as long as it lives.
    pub guard: Option<Arc<dyn Guard>>,
    kept: Option<Kept>,
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected")
            .field("id", &self.id)
            .field("assigns", &self.assigns)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

impl Connected {
    /// Accepts without an id.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Accepts with an id.
    pub fn with_id(id: impl Into<Arc<str>>) -> Self {
        Self {
            id: Some(id.into()),
            ..Self::default()
        }
    }

    /// Assigns a value for all channels of the connection.
    #[must_use]
    pub fn assign<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.assigns.insert(value);
        self
    }

    /// As [`Connected::assign`], for a value that is shared with others.
    #[must_use]
    pub fn assign_arc<T: Send + Sync + 'static>(mut self, value: Arc<T>) -> Self {
        self.assigns.insert_arc(value);
        self
    }

    /// Keeps `value` until the connection has ended, or is not made after all.
    #[must_use]
    pub fn keeping<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.kept = Some(Arc::new(value));
        self
    }

    /// Takes what is to be kept.
    pub(crate) fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// Has `guard` asked about the connection as long as it lives.
    #[must_use]
    pub fn guarded_by(mut self, guard: Arc<dyn Guard>) -> Self {
        self.guard = Some(guard);
        self
    }
}

/// A connection that `connect` refused, with the response to a WebSocket handshake.
///
/// Long poll answers 200 and `{"status":403}` whatever the response, as the reference does, unless
/// it was made by [`ConnectRefused::because`]. Any error becomes a refusal with 403 and is logged,
/// so `?` works in `connect`.
pub struct ConnectRefused {
    response: Box<Response>,
    /// For long poll, which then answers with the response's status.
    reason: Option<Cow<'static, str>>,
}

impl ConnectRefused {
    /// Refuses with 403 and an empty body.
    pub fn forbidden() -> Self {
        Self::response(StatusCode::FORBIDDEN)
    }

    /// Refuses with any response, such as 429 with a `retry-after`.
    pub fn response(response: impl IntoResponse) -> Self {
        Self {
            response: Box::new(response.into_response()),
            reason: None,
        }
    }

    /// Refuses with a status and `{"reason": reason}`, over both transports. Long poll adds the
    /// `"status":403` that its clients look for. `reason` is text that needs no escaping.
    pub fn because(status: StatusCode, reason: impl Into<Cow<'static, str>>) -> Self {
        let reason = reason.into();
        let body = format!(r#"{{"reason":"{reason}"}}"#);
        Self {
            response: Box::new(json(status, body)),
            reason: Some(reason),
        }
    }

    /// As [`ConnectRefused::because`] with 429, and the time after which to try again, in whole
    /// seconds.
    pub fn too_many(reason: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let mut refused = Self::because(StatusCode::TOO_MANY_REQUESTS, reason);
        let seconds = retry_after.as_millis().div_ceil(1_000).max(1);
        let seconds = HeaderValue::try_from(seconds.to_string());
        let seconds = seconds.expect("digits are a valid header value");
        refused.response.headers_mut().insert(RETRY_AFTER, seconds);
        refused
    }

    pub(crate) fn into_response(self) -> Response {
        *self.response
    }

    /// The time after which to try again, if the refusal says one.
    pub(crate) fn retry_after(&self) -> Option<HeaderValue> {
        self.response.headers().get(RETRY_AFTER).cloned()
    }

    /// The answer of long poll, if it is not the one that it gives to any refusal.
    pub(crate) fn long_poll(&self) -> Option<(StatusCode, String)> {
        let body = format!(r#"{{"status":403,"reason":"{}"}}"#, self.reason.as_ref()?);
        Some((self.response.status(), body))
    }
}

impl fmt::Debug for ConnectRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectRefused")
            .field(&self.response.status())
            .finish()
    }
}

fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

impl<E: std::error::Error> From<E> for ConnectRefused {
    fn from(error: E) -> Self {
        tracing::warn!(%error, "connect failed");
        Self::forbidden()
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Connected, ConnectRefused>> + Send>>;

/// The application's `connect`, whatever its type.
pub(crate) type ConnectFn = Box<dyn Fn(ConnectInfo) -> Connecting + Send + Sync>;

/// The application's first word on whoever comes, by the client's address.
pub(crate) type AdmitFn =
    Box<dyn Fn(Option<IpAddr>, &mut Extensions) -> Result<(), ConnectRefused> + Send + Sync>;

/// Hides the types of a `connect`.
pub(crate) fn erase_connect<F, Fut>(connect: F) -> ConnectFn
where
    F: Fn(ConnectInfo) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Connected, ConnectRefused>> + Send + 'static,
{
    Box::new(move |info| Box::pin(connect(info)))
}
