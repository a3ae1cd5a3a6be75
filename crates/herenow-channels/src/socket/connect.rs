//! The application's say in who may connect.

use std::fmt;
use std::pin::Pin;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::auth::ConnectInfo;
use crate::channel::Assigns;

/// A connection that `connect` accepted.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Connected {
    /// The topic on which a broadcast of `disconnect` closes the connection, such as `users:42`.
    /// `None`: the connection is anonymous.
    pub id: Option<String>,
    /// Values for all channels of the connection.
    pub assigns: Assigns,
}

impl Connected {
    /// Accepts without an id.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Accepts with an id.
    pub fn with_id(id: impl Into<String>) -> Self {
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
}

/// A connection that `connect` refused, with the response to a WebSocket handshake.
///
/// Long poll answers `{"status":403}` whatever the response. Any error becomes a refusal with 403
/// and is logged, so `?` works in `connect`.
pub struct ConnectRefused(Box<Response>);

impl ConnectRefused {
    /// Refuses with 403 and an empty body.
    pub fn forbidden() -> Self {
        Self::response(StatusCode::FORBIDDEN)
    }

    /// Refuses with any response, such as 429 with a `retry-after`.
    pub fn response(response: impl IntoResponse) -> Self {
        Self(Box::new(response.into_response()))
    }

    pub(crate) fn into_response(self) -> Response {
        *self.0
    }
}

impl fmt::Debug for ConnectRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectRefused")
            .field(&self.0.status())
            .finish()
    }
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

/// Hides the types of a `connect`.
pub(crate) fn erase_connect<F, Fut>(connect: F) -> ConnectFn
where
    F: Fn(ConnectInfo) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Connected, ConnectRefused>> + Send + 'static,
{
    Box::new(move |info| Box::pin(connect(info)))
}
