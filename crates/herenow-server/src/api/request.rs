//! What requests carry, read strictly: parts of the path, parameters of the query, members of the
//! body. Whatever is wrong or unknown is a [`Problem`] that names it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use herenow_presence::MetaError;
use percent_encoding::percent_decode_str;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::problem::{Kind, Problem, bounded};
use crate::config::ApiConfig;
use crate::limits::Named;
use crate::raw::{self, Unfit};

/// Entries of a page if the request does not say.
const DEFAULT_PAGE: usize = 100;
/// Members of a body that are looked at; no route takes as many.
const MAX_MEMBERS: usize = 16;
/// The cursor of a page that begins with the first entry. Nothing else is encoded as one character,
/// nor is it empty, which would read as that there is no page.
const FROM_THE_FIRST: &str = "-";

/// The parts of the path that a route names, decoded: any UTF-8, slashes too if they were encoded.
#[derive(Debug)]
pub(crate) struct At<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(path)) => Ok(Self(path)),
            Err(error) => Err(Problem::new(Kind::InvalidValue, error.body_text()).field("path")),
        }
    }
}

/// The parameters of a query, to be taken one by one; none may be left over.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the parameters; each may be there once.
    pub(crate) fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|p| !p.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, name)?;
            let value = decode(&name, value)?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(Problem::invalid(&name, &value, "given once"));
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(parameters))
    }

    /// Takes a parameter.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a switch: `true` or `false`.
    pub(crate) fn take_switch(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(Problem::invalid(name, other, "true or false")),
        }
    }

    /// Takes `limit`, the number of entries of a page: 100 if it is not given, `max` at most.
    pub(crate) fn take_limit(&mut self, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.take("limit") else {
            return Ok(DEFAULT_PAGE.min(max));
        };
        match text.parse() {
            Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
            parsed => {
                let over = Named::ApiPage;
                let problem = Problem::invalid(
                    "limit",
                    &text,
                    &format!("a number from 1 to {max} ({over})"),
                );
                Err(match parsed {
                    Ok(limit) if limit > max => problem.over(over, max),
                    Ok(_) | Err(_) => problem.limit(max),
                })
            }
        }
    }

    /// Takes `cursor`, which says after what the page begins.
    pub(crate) fn take_cursor(&mut self) -> Result<Option<String>, Problem> {
        let Some(text) = self.take("cursor") else {
            return Ok(None);
        };
        if text == FROM_THE_FIRST {
            return Ok(None);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&text).ok();
        let after = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        match after {
            Some(after) => Ok(Some(after)),
            None => Err(Problem::invalid(
                "cursor",
                &text,
                "the `next` of another page",
            )),
        }
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, value)) => Err(unknown("parameter", name).value(value)),
        }
    }
}

/// The cursor of a page that begins after `last`.
pub(crate) fn cursor(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

/// The cursor of a page that begins with the first entry.
pub(crate) fn first_cursor() -> String {
    FROM_THE_FIRST.to_owned()
}

/// The members of a body, to be taken one by one; none may be left over. Each is text until it is
/// taken.
#[derive(Debug)]
pub(crate) struct Members(BTreeMap<String, Box<RawValue>>);

impl Members {
    /// Reads a body that must be a JSON object, within the limits of bodies.
    pub(crate) async fn read(
        headers: &HeaderMap,
        body: Body,
        config: &ApiConfig,
    ) -> Result<Self, Problem> {
        check_type(headers)?;
        let (max, timeout) = (config.max_body_bytes, config.body_timeout);
        let bytes = read_body(body, max, timeout).await;
        let bytes = bytes.map_err(|unread| unread.problem(config))?;
        let unreadable = |error: serde_json::Error| {
            let detail = error.to_string();
            Problem::new(Kind::InvalidJson, detail)
        };
        let json: &RawValue = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if !raw::is_object(json) {
            let found = raw::kind_of(json.get());
            let detail = format!("the body is {found}, it must be an object");
            return Err(Problem::new(Kind::InvalidJson, detail));
        }
        let members: Self = serde_json::from_str(json.get()).map_err(unreadable)?;
        if members.0.len() > MAX_MEMBERS {
            let detail = format!("the body has more than {MAX_MEMBERS} members");
            return Err(Problem::new(Kind::UnknownField, detail).field("body"));
        }
        Ok(members)
    }

    /// Takes a member that must be a text.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, Problem> {
        let json = self.0.remove(name);
        let text = json.as_deref().and_then(raw::text);
        text.ok_or_else(|| wrong(name, json.as_deref(), "a text"))
    }

    /// Takes the text of a member that must be an object, if it is there.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Box<RawValue>>, Problem> {
        match self.0.remove(name) {
            Some(json) if !raw::is_object(&json) => Err(wrong(name, Some(&json), "an object")),
            json => Ok(json),
        }
    }

    /// Takes `meta`, an object of at most `max` bytes as JSON, if it is there.
    pub(crate) fn meta(&mut self, max: usize) -> Result<Option<Map<String, Value>>, Problem> {
        let Some(json) = self.object("meta")? else {
            return Ok(None);
        };
        let meta = raw::object(&json, max, &["phx_ref", "phx_ref_prev"]);
        meta.map(Some).map_err(|unfit| match unfit {
            Unfit::TooLong { len } => MetaError::TooLarge { len, max }.into(),
            Unfit::Unreadable { why } => Problem::new(Kind::InvalidJson, why).field("meta"),
            Unfit::Kind { .. } => wrong("meta", Some(&json), "an object"),
        })
    }

    /// Takes a member that must be a list of at most `max` texts.
    pub(crate) fn texts(&mut self, name: &str, max: usize) -> Result<Vec<String>, Problem> {
        let json = self.0.remove(name);
        let expected = "a list of texts";
        let list = json
            .as_deref()
            .and_then(|json| raw::list(json, max, |_| true));
        let list = list.ok_or_else(|| wrong(name, json.as_deref(), expected))?;
        if list.len > max {
            let (n, over) = (list.len, Named::ApiBatch);
            let detail = format!("{name} has {n} entries, the limit is {max} ({over})");
            return Err(Problem::new(Kind::InvalidValue, detail)
                .field(name)
                .over(over, max));
        }
        let text = |entry: &RawValue| {
            let text = raw::text(entry);
            text.ok_or_else(|| wrong(name, Some(entry), expected))
        };
        list.first.into_iter().map(text).collect()
    }

    /// Takes a member that must be a number of seconds within the limits.
    pub(crate) fn seconds(
        &mut self,
        name: &str,
        min: Duration,
        max: Duration,
    ) -> Result<Option<Duration>, Problem> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        let seconds = raw::scalar(&value).as_f64();
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match time {
            Some(time) if (min..=max).contains(&time) => Ok(Some(time)),
            Some(_) | None => {
                let (min, max) = (min.as_secs_f64(), max.as_secs_f64());
                let expected = format!(
                    "a number of seconds from {min} to {max} (api.min_lease, api.max_lease)"
                );
                let problem = wrong(name, Some(&value), &expected);
                Err(match seconds {
                    Some(seconds) if seconds < min => problem.over(Named::ApiMinLease, min),
                    Some(_) => problem.over(Named::ApiMaxLease, max),
                    None => problem.member("limit", max),
                })
            }
        }
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(unknown("member", name)),
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct AFew;
        impl<'de> Visitor<'de> for AFew {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while members.len() <= MAX_MEMBERS
                    && let Some((name, json)) = map.next_entry()?
                {
                    members.insert(name, json);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Members(members))
            }
        }
        json.deserialize_map(AFew)
    }
}

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    TooLarge,
    TooSlow,
    /// Its client, which went away, hears of it no more.
    Incomplete,
}

impl Unread {
    fn problem(&self, config: &ApiConfig) -> Problem {
        let max = config.max_body_bytes;
        match self {
            Self::TooLarge => {
                let over = Named::ApiBody;
                let detail = format!("the body is larger than {max} bytes ({over})");
                Problem::new(Kind::TooLarge, detail)
                    .field("body")
                    .over(over, max)
            }
            Self::TooSlow => {
                let timeout = config.body_timeout;
                Problem::new(Kind::TooSlow, too_slow(timeout))
                    .field("body")
                    .over(Named::ApiBodyTimeout, timeout.as_secs_f64())
            }
            Self::Incomplete => Problem::new(Kind::InvalidJson, "the body did not arrive whole"),
        }
    }
}

/// Why a body is refused that takes longer than this.
pub(crate) fn too_slow(timeout: Duration) -> String {
    let (seconds, over) = (timeout.as_secs_f64(), Named::ApiBodyTimeout);
    format!("the body did not arrive within {seconds} s ({over})")
}

/// Reads a body of at most `max` bytes, which may take so long to arrive.
pub(crate) async fn read_body(body: Body, max: usize, timeout: Duration) -> Result<Bytes, Unread> {
    let read = tokio::time::timeout(timeout, collect(body, max)).await;
    read.unwrap_or(Err(Unread::TooSlow))
}

async fn collect(body: Body, max: usize) -> Result<Bytes, Unread> {
    let mut parts = body.into_data_stream();
    let mut bytes = BytesMut::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Unread::Incomplete)?;
        if bytes.len() + part.len() > max {
            return Err(Unread::TooLarge);
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

fn decode<'a>(name: &str, text: &'a str) -> Result<Cow<'a, str>, Problem> {
    let text: Cow<'a, str> = match text.contains('+') {
        true => text.replace('+', " ").into(),
        false => text.into(),
    };
    let decoded = percent_decode_str(&text).decode_utf8().map(Cow::into_owned);
    decoded
        .map(Cow::Owned)
        .map_err(|_| Problem::invalid(name, &text, "UTF-8 when it is decoded"))
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(CONTENT_TYPE);
    let text = value.map_or("", |value| value.to_str().unwrap_or_default());
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = format!("content-type is {text:?}, it must be application/json");
    Err(Problem::new(Kind::UnsupportedType, detail).field("content-type"))
}

fn unknown(what: &str, name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    Problem::new(Kind::UnknownField, format!("there is no {what} {shown:?}")).field(name)
}

/// A member that is missing or of another type; objects, lists and texts are not repeated.
fn wrong(name: &str, value: Option<&RawValue>, expected: &str) -> Problem {
    let found = match value.map(RawValue::get) {
        None => "missing",
        Some(json) => match raw::kind_of(json) {
            "a number" => bounded(json),
            kind => kind,
        },
    };
    let detail = format!("{name} is {found}, it must be {expected}");
    Problem::new(Kind::InvalidValue, detail)
        .field(name)
        .value(found)
}
