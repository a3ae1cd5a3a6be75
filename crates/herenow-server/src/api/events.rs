//! `GET /api/events`: what happens, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use herenow_channels::HangUp;

use super::{Api, Kind, Problem, Query};
use crate::config::EVENT_WORDS;
use crate::events::{Filter, ListenError, Resume};
use crate::limits::Named;

/// What a client of server-sent events says when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks a proxy of the nginx kind not to hold back what it gets.
const NO_BUFFER: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /api/events?topic=|prefix=&events=`: what happens from now on, or since `last-event-id`.
pub(super) async fn listen(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    hang_up: Option<Extension<HangUp>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = filter(&api, Query::read(query.as_deref())?)?;
    let resume = resume(&headers)?;
    let hang_up = hang_up.map(|Extension(hang_up)| hang_up);
    let reader = api
        .events
        .journal()
        .listen(filter, resume.as_ref(), hang_up);
    let reader = reader.map_err(|error| match error {
        ListenError::Full { max } => Problem::new(Kind::LimitReached, error.to_string())
            .over(Named::EventStreams, max)
            .retry_after(5),
        ListenError::Closed => Problem::new(Kind::Unavailable, error.to_string()),
    })?;
    let frames = unfold(reader, async |mut reader| {
        let frame = reader.next().await?;
        Some((Ok::<_, Infallible>(frame), reader))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (NO_BUFFER, "no"),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

fn filter(api: &Api, mut query: Query) -> Result<Filter, Problem> {
    let (topic, prefix) = (query.take("topic"), query.take("prefix"));
    let events = query.take("events");
    query.finish()?;
    let filter = match (topic, prefix) {
        (Some(_), Some(prefix)) => {
            return Err(Problem::invalid("prefix", &prefix, "left out beside topic"));
        }
        (Some(topic), None) => {
            api.check_topic(&topic)?;
            Filter::all().of_topic(topic)
        }
        (None, Some(prefix)) => Filter::all().of_prefix(prefix),
        (None, None) => Filter::all(),
    };
    let Some(events) = events else {
        return Ok(filter);
    };
    let is_word = |word: &str| EVENT_WORDS.contains(&word);
    if !events.split(',').all(is_word) {
        let expected = format!("words of {}, with commas between", EVENT_WORDS.join(", "));
        return Err(Problem::invalid("events", &events, &expected));
    }
    Ok(filter.of_kinds(events.split(',')))
}

fn resume(headers: &HeaderMap) -> Result<Option<Resume>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let id = id.to_str().unwrap_or_default();
    match Resume::parse(id) {
        Some(resume) => Ok(Some(resume)),
        None => Err(Problem::invalid("last-event-id", id, "the id of an event")),
    }
}
