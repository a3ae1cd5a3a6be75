//! `DELETE /api/fields?key=&topic=`: forgets what `fetch` has added, because it is something else
//! now.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Api, Kind, Problem, Query, answer};
use crate::fetch::Scope;

/// `DELETE /api/fields`: of one key, of one topic, or of all, on every node.
pub(super) async fn forget(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Query::read(query.as_deref())?;
    let (key, topic) = (query.take("key"), query.take("topic"));
    query.finish()?;
    let scope = match (&key, &topic) {
        (Some(key), None) => {
            api.check_key(key)?;
            Scope::Key(key.clone())
        }
        (None, Some(topic)) => {
            api.check_topic(topic)?;
            Scope::Topic(topic.clone())
        }
        (None, None) => Scope::All,
        (Some(_), Some(topic)) => {
            return Err(Problem::invalid("topic", topic, "left out beside key"));
        }
    };
    let told = api.fields.forget(&scope);
    told.map_err(|error| Problem::new(Kind::Unavailable, error.to_string()).retry_after(1))?;
    let asked = answer(&json!({ "key": key, "topic": topic }));
    Ok((StatusCode::ACCEPTED, asked).into_response())
}
