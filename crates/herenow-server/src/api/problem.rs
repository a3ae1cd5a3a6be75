//! [`Problem`]: what the API answers when it does not do what it was asked, as RFC 9457 has it.
//!
//! ```json
//! {
//!   "type": "https://github.com/herenow-rs/herenow/blob/main/docs/api.md#invalid-value",
//!   "title": "a value is not what it must be", "status": 400,
//!   "detail": "limit is 100000, the limit is 1000 (api.max_page)",
//!   "field": "limit", "value": "100000", "limit": 1000
//! }
//! ```
//!
//! `field` names what in the request is wrong: a parameter, a member of the body, a header. `value`
//! is what it was, cut to 128 bytes; never a secret. `limit` is the limit it is over, which
//! `detail` names; the answer carries its [`Named`], by which the routes' counts have it counted.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use herenow_presence::{MetaError, NameError, TrackError, UpdateError};
use herenow_pubsub::BroadcastError;
use serde_json::{Map, Value};

use crate::limits::Named;

/// Where the kinds of problems are described.
const DOCS: &str = "https://github.com/herenow-rs/herenow/blob/main/docs/api.md#";
/// How much of a value is repeated.
const MAX_VALUE_BYTES: usize = 128;

/// The kinds of problems; docs/api.md has a section for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No key, or one that is none.
    Unauthorized,
    /// The key has not the right.
    Forbidden,
    /// No key is configured, so that nobody has a right.
    ApiClosed,
    /// Nothing is at the path.
    NotFound,
    /// What the path names is not there.
    NotPresent,
    /// Something is at the path, but not for this method.
    MethodNotAllowed,
    /// A parameter or member that there is not.
    UnknownField,
    /// A value of the wrong type or beyond its limit.
    InvalidValue,
    /// The body is not JSON, or not an object.
    InvalidJson,
    /// The body is larger than the limit.
    TooLarge,
    /// The body takes longer to arrive than it may.
    TooSlow,
    /// The body is of another type than JSON.
    UnsupportedType,
    /// It is another node's.
    LeaseElsewhere,
    /// A limit of the server is reached.
    LimitReached,
    /// It cannot be done now.
    Unavailable,
}

/// What was not done, and why.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    members: Map<String, Value>,
    over: Option<Named>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ApiClosed => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NotPresent => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownField | Self::InvalidValue | Self::InvalidJson => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::LeaseElsewhere => StatusCode::CONFLICT,
            Self::LimitReached | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Its name in the documentation.
    fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ApiClosed => "api-closed",
            Self::NotFound => "not-found",
            Self::NotPresent => "not-present",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::UnknownField => "unknown-field",
            Self::InvalidValue => "invalid-value",
            Self::InvalidJson => "invalid-json",
            Self::TooLarge => "too-large",
            Self::TooSlow => "too-slow",
            Self::UnsupportedType => "unsupported-type",
            Self::LeaseElsewhere => "lease-elsewhere",
            Self::LimitReached => "limit-reached",
            Self::Unavailable => "unavailable",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Unauthorized => "a key of the API is needed",
            Self::Forbidden => "the key has not this right",
            Self::ApiClosed => "the API has no keys, so nobody may use it",
            Self::NotFound => "there is nothing here",
            Self::NotPresent => "there is no such presence",
            Self::MethodNotAllowed => "this cannot be done here",
            Self::UnknownField => "there is no such parameter or member",
            Self::InvalidValue => "a value is not what it must be",
            Self::InvalidJson => "the body is not a JSON object",
            Self::TooLarge => "the body is too large",
            Self::TooSlow => "the body did not arrive in time",
            Self::UnsupportedType => "the body must be JSON",
            Self::LeaseElsewhere => "this node does not hold the presence",
            Self::LimitReached => "a limit of the server is reached",
            Self::Unavailable => "this cannot be done now",
        }
    }
}

impl Problem {
    /// A problem that `detail` explains: lower case, without a full stop.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            members: Map::new(),
            over: None,
            header: None,
        }
    }

    /// A value of `field` that is not `expected`.
    pub(crate) fn invalid(field: &str, value: &str, expected: &str) -> Self {
        let shown = bounded(value);
        Self::new(
            Kind::InvalidValue,
            format!("{field} is {shown:?}, it must be {expected}"),
        )
        .field(field)
        .value(value)
    }

    /// A length of `field` that is over `max`, which is the limit `over`.
    pub(crate) fn too_long(field: &str, len: usize, max: usize, over: Named) -> Self {
        let detail = format!("{field} is {len} bytes, the limit is {max} ({over})");
        Self::new(Kind::InvalidValue, detail)
            .field(field)
            .over(over, max)
    }

    /// Names what in the request is wrong.
    #[must_use]
    pub(crate) fn field(self, field: &str) -> Self {
        self.member("field", bounded(field))
    }

    /// Repeats what the field was, shortened; never to be used for a secret.
    #[must_use]
    pub(crate) fn value(self, value: &str) -> Self {
        self.member("value", bounded(value))
    }

    /// Tells the limit that the request is over, which is counted when this is answered; the detail
    /// must name it.
    #[must_use]
    pub(crate) fn over(mut self, over: Named, limit: impl Into<Value>) -> Self {
        self.over = Some(over);
        self.member("limit", limit)
    }

    /// The limit that the request is over, if it is.
    pub(crate) fn limit_over(&self) -> Option<Named> {
        self.over
    }

    /// Tells the limit, which somebody else counts.
    #[must_use]
    pub(crate) fn limit(self, limit: usize) -> Self {
        self.member("limit", limit)
    }

    /// Adds a member of its own.
    #[must_use]
    pub(crate) fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u16) -> Self {
        self.header = Some(Box::new((RETRY_AFTER, seconds.into())));
        self
    }

    /// A request without a key, or with one that is none.
    pub(crate) fn unauthorized(detail: &str) -> Self {
        let mut problem = Self::new(Kind::Unauthorized, detail);
        let challenge = HeaderValue::from_static("Bearer realm=\"herenow\"");
        problem.header = Some(Box::new((WWW_AUTHENTICATE, challenge)));
        problem
    }

    /// A method that the path does not have; the router says which it has.
    pub(crate) fn method_not_allowed(method: &str) -> Self {
        let detail = format!("{:?} cannot be done at this path", bounded(method));
        Self::new(Kind::MethodNotAllowed, detail)
            .field("method")
            .value(method)
    }

    /// Returns the explanation.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    fn body(&self) -> String {
        let mut members = Map::new();
        let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
        put("type", format!("{DOCS}{}", self.kind.name()).into());
        put("title", self.kind.title().into());
        put("status", self.kind.status().as_u16().into());
        put("detail", self.detail.clone().into());
        members.extend(self.members.clone());
        Value::Object(members).to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let headers = [
            (CONTENT_TYPE, "application/problem+json"),
            (CACHE_CONTROL, "no-store"),
        ];
        let mut response = (status, headers, self.body()).into_response();
        if let Some(over) = self.over {
            response.extensions_mut().insert(over);
        }
        if let Some(header) = self.header {
            let (name, value) = *header;
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        let detail = error.to_string();
        match (Named::of_name(&error), error) {
            (Some(over), NameError::TooLong { field, len, max }) => {
                Self::too_long(field, len, max, over)
            }
            (_, NameError::Empty { field }) => Self::new(Kind::InvalidValue, detail).field(field),
            _ => Self::new(Kind::InvalidValue, detail),
        }
    }
}

impl From<MetaError> for Problem {
    fn from(error: MetaError) -> Self {
        let detail = error.to_string();
        match (Named::of_meta(&error), error) {
            (Some(over), MetaError::TooLarge { max, .. }) => {
                Self::new(Kind::InvalidValue, format!("{detail} ({over})")).over(over, max)
            }
            _ => Self::new(Kind::InvalidValue, detail),
        }
        .field("meta")
    }
}

impl From<TrackError> for Problem {
    fn from(error: TrackError) -> Self {
        let detail = error.to_string();
        match (Named::of_track(&error), error) {
            (_, TrackError::Name(error)) => error.into(),
            (_, TrackError::Meta(error)) => error.into(),
            (Some(over), TrackError::TooManyMetas { max, .. }) => {
                Self::new(Kind::LimitReached, format!("{detail} ({over})"))
                    .field("key")
                    .over(over, max)
            }
            _ => Self::new(Kind::Unavailable, detail),
        }
    }
}

impl From<UpdateError> for Problem {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Name(error) => error.into(),
            UpdateError::Meta(error) => error.into(),
            _ => Self::new(Kind::Unavailable, error.to_string()),
        }
    }
}

impl From<BroadcastError> for Problem {
    fn from(error: BroadcastError) -> Self {
        match error {
            BroadcastError::TopicTooLong { len, max } => {
                Self::too_long("topic", len, max, Named::PubSubTopic)
            }
            BroadcastError::EventTooLong { len, max } => {
                Self::too_long("event", len, max, Named::Event)
            }
            BroadcastError::Adapter(cause) => {
                Self::new(Kind::Unavailable, cause.to_string()).retry_after(1)
            }
            _ => Self::new(Kind::Unavailable, error.to_string()),
        }
    }
}

/// The beginning of a text, up to a limit.
pub(super) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_VALUE_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 15] = [
        Kind::Unauthorized,
        Kind::Forbidden,
        Kind::ApiClosed,
        Kind::NotFound,
        Kind::NotPresent,
        Kind::MethodNotAllowed,
        Kind::UnknownField,
        Kind::InvalidValue,
        Kind::InvalidJson,
        Kind::TooLarge,
        Kind::TooSlow,
        Kind::UnsupportedType,
        Kind::LeaseElsewhere,
        Kind::LimitReached,
        Kind::Unavailable,
    ];

    #[test]
    fn srv_671_the_guide_has_a_section_for_each_kind_of_problem() {
        let guide = include_str!("../../../../docs/api.md");
        for kind in ALL {
            let (status, name) = (kind.status(), kind.name());
            let section = format!("### {name}\n\n{}. ", status.as_u16());
            assert!(guide.contains(&section), "{section}");
        }
    }

    #[test]
    fn srv_675_values_are_repeated_up_to_a_limit_between_characters() {
        let problem = Problem::invalid("topic", &"ü".repeat(500), "shorter");
        let body: Value = serde_json::from_str(&problem.body()).unwrap();
        assert_eq!(body["value"], "ü".repeat(64));
    }
}
