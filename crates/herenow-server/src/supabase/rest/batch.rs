//! The body of several broadcasts: `{"messages": [{"topic", "event", "payload", "private"}]}`.
//!
//! Messages are counted before any is looked at, and stay the text of the body until they are sent.

use herenow_pubsub::Payload;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::join::switch;
use super::super::{BROADCAST, Room};
use super::{Refused, Rest, no_switch};
use crate::limits::Named;
use crate::raw;

/// Messages whose errors are told; those after them are not looked at.
const MAX_WRONG: usize = 32;

/// A message of a batch that is as it must be.
#[derive(Debug)]
pub(super) struct Message<'a> {
    name: String,
    event: String,
    is_private: bool,
    payload: &'a RawValue,
    id: Option<String>,
}

/// A message as members get it.
#[derive(Serialize)]
struct Sent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<SentMeta<'a>>,
    r#type: &'static str,
    event: &'a str,
    payload: &'a RawValue,
}

#[derive(Serialize)]
struct SentMeta<'a> {
    id: &'a str,
}

impl Message<'_> {
    pub(super) fn room(&self) -> Room<'_> {
        Room {
            name: &self.name,
            is_private: self.is_private,
        }
    }

    /// What members get.
    pub(super) fn to_payload(&self) -> Payload {
        let json = serde_json::to_string(&self.sent());
        Payload::json(json.expect("its parts are JSON and texts"))
    }

    fn sent(&self) -> Sent<'_> {
        Sent {
            meta: self.id.as_deref().map(|id| SentMeta { id }),
            r#type: BROADCAST,
            event: &self.event,
            payload: self.payload,
        }
    }
}

/// Finds the messages of a body, if they are not too many.
pub(super) fn find<'a>(rest: &Rest, body: &'a [u8]) -> Result<Vec<&'a RawValue>, Refused> {
    let json: &RawValue = serde_json::from_slice(body)
        .map_err(|error| Refused::payload(&format!("is not JSON: {error}")))?;
    let [messages] = raw::members(json.get(), ["messages"]).unwrap_or_default();
    let max = rest.shared.config.max_batch;
    let messages = messages.and_then(|messages| raw::list(messages, max, |_| true));
    let messages = messages.unwrap_or_default();
    match messages.len {
        0 => Err(wrong(&json!(["can't be blank"]))),
        n if n <= max => Ok(messages.first),
        n => {
            let limit = Named::SupabaseBatch;
            rest.shared.limits.count(limit);
            let text = format!("has {n} entries, the limit is {max} ({limit})");
            rest.warn(&format!("messages {text}"));
            Err(wrong(&json!([text])))
        }
    }
}

/// Reads all messages, or says what is wrong with the first of those that are not as they must be.
pub(super) fn read<'a>(
    rest: &Rest,
    messages: &[&'a RawValue],
) -> Result<Vec<Message<'a>>, Refused> {
    let mut read = Vec::with_capacity(messages.len());
    let (mut errors, mut n_wrong) = (Vec::new(), 0);
    for message in messages {
        match read_one(rest, message) {
            Ok(message) => {
                read.push(message);
                errors.push(Value::Object(Map::new()));
            }
            Err(wrong) => {
                errors.push(wrong);
                n_wrong += 1;
            }
        }
        if n_wrong == MAX_WRONG {
            break;
        }
    }
    match n_wrong {
        0 => Ok(read),
        _ => Err(wrong(&Value::Array(errors))),
    }
}

/// Reads a message, or says what is wrong with each of its parts.
fn read_one<'a>(rest: &Rest, json: &'a RawValue) -> Result<Message<'a>, Value> {
    let mut errors = Map::new();
    let mut wrong = |field: &str, text: String| {
        errors.insert(field.to_owned(), json!([text]));
    };
    let names = ["topic", "event", "private", "id", "payload"];
    let [topic, event, private, id, payload] = raw::members(json.get(), names).unwrap_or_default();
    let mut text = |field: &str, part: Option<&RawValue>| {
        let text = part.and_then(raw::text).unwrap_or_default();
        if text.is_empty() {
            wrong(field, "can't be blank".to_owned());
        }
        text
    };
    let (name, event) = (text("topic", topic), text("event", event));
    let is_private = private.is_some_and(|said| {
        switch(said).unwrap_or_else(|| {
            wrong("private", no_switch(said.get()));
            false
        })
    });
    let payload = payload.filter(|payload| raw::is_object(payload));
    let message = Message {
        name,
        event,
        is_private,
        payload: payload.unwrap_or(RawValue::NULL),
        id: id.and_then(raw::text),
    };
    if payload.is_none() {
        wrong("payload", "can't be blank".to_owned());
    } else if let Err(text) = rest.check_size(raw::written_len(&message.sent())) {
        wrong("payload", text);
    }
    if !message.name.is_empty()
        && let Err(text) = rest.check_room(message.room())
    {
        wrong("topic", text);
    }
    match errors.is_empty() {
        true => Ok(message),
        false => Err(Value::Object(errors)),
    }
}

fn wrong(messages: &Value) -> Refused {
    Refused::errors(json!({ "messages": messages }))
}
