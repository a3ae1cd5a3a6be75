//! Fields from the application itself, over HTTP.
//!
//! The request is a POST of `{"topic": "room:1", "keys": ["ada", "bob"]}`; the answer is 200 with
//! `{"ada": {"name": "Ada"}}`. A key that is not in it, or null, has no fields.

use std::collections::HashMap;
use std::pin::Pin;

use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use herenow_presence::{Key, Topic};
use herenow_pubsub::broker::in_words;
use serde_json::json;
use serde_json::value::RawValue;

use super::source::{Answer, Ask, AskError, Found};
use crate::config::FetchConfig;

struct Callback {
    url: reqwest::Url,
    client: reqwest::Client,
    max_answer_bytes: usize,
}

/// Makes what asks the callback at `url`.
pub(super) fn open(config: &FetchConfig, url: &str) -> Result<Box<dyn Ask>, String> {
    // An error says that there is one already.
    let _is_there = rustls::crypto::ring::default_provider().install_default();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = &config.token {
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let mut value = value.map_err(|_| "fetch.token cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let client = reqwest::Client::builder()
        .user_agent(concat!("herenow/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .build();
    Ok(Box::new(Callback {
        url: url.parse().map_err(|_| "it is no URL".to_owned())?,
        client: client.map_err(|error| in_words(&error))?,
        max_answer_bytes: config.max_answer_bytes,
    }))
}

impl Callback {
    async fn post(&self, topic: &Topic, keys: &[Key]) -> Result<Found, AskError> {
        let http = |error: reqwest::Error| failed(in_words(&error.without_url()));
        let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let body = json!({ "topic": topic.as_str(), "keys": keys }).to_string();
        let request = self.client.post(self.url.clone()).body(body);
        let mut answer = request.send().await.map_err(http)?;
        if answer.status() != StatusCode::OK {
            return Err(failed(format!("the answer is {}", answer.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(http)? {
            if body.len() + chunk.len() > self.max_answer_bytes {
                let max = self.max_answer_bytes;
                let reason = format!("the answer is over {max} bytes (fetch.max_answer_bytes)");
                return Err(failed(reason));
            }
            body.extend_from_slice(&chunk);
        }
        let found = serde_json::from_slice::<HashMap<String, Box<RawValue>>>(&body);
        let found = found.map_err(|error| {
            // Without its text, which can repeat what was answered.
            let (line, column) = (error.line(), error.column());
            failed(format!(
                "the answer is not an object of JSON with fields by key (line {line}, column {column})"
            ))
        })?;
        let fields = found.into_iter().filter(|(_, json)| json.get() != "null");
        Ok(fields
            .map(|(key, json)| (key, json.get().to_owned()))
            .collect())
    }
}

impl Ask for Callback {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn query(&self) -> Option<&str> {
        None
    }

    fn is_by_topic(&self) -> bool {
        true
    }

    fn check(&self) -> Pin<Box<dyn Future<Output = Result<bool, AskError>> + Send + '_>> {
        // There is nothing to ask it that it need understand.
        Box::pin(async { Ok(false) })
    }

    fn ask<'a>(&'a self, topic: &'a Topic, keys: &'a [Key]) -> Answer<'a> {
        Box::pin(self.post(topic, keys))
    }
}

fn failed(reason: String) -> AskError {
    let is_wrong = false;
    AskError { reason, is_wrong }
}
