//! What clients of the built-in channel may ask, read from events and payloads. No sockets here.

use std::collections::BTreeMap;

use herenow_protocol::Payload;
use serde_json::{Map, Value};

use crate::identity::{ACCESS_TOKEN, Right};
use crate::limits::Named;
use crate::people::ONLINE_AT;

/// A meta, as a JSON object.
pub(crate) type Meta = Map<String, Value>;

/// The longest page of a list.
const MAX_PAGE: u64 = 1_000;

/// What an event asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    /// Be present, with this meta.
    Track(Meta),
    /// Replace the meta.
    Replace(Meta),
    /// Merge these fields into the meta; a null removes one.
    Patch(Meta),
    /// Be present no more, but stay in the channel.
    Untrack,
    /// Say who is here.
    List,
    /// Say who is here, at most this many who come after this user.
    Page { after: Option<String>, max: usize },
    /// Say how many are here.
    Count,
    /// Take a new token.
    AccessToken,
    /// Send the payload back.
    Echo,
    /// Send the event to everybody on the topic.
    Broadcast,
}

/// Why a client's join or event is refused; its text is the reply's `reason`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the event name {event} is reserved: names that begin with phx_, presence_, presence: or \
         herenow: are the server's and reach nobody"
    )]
    Reserved { event: String },
    #[error("presence is off for this topic")]
    PresenceOff,
    #[error("broadcast is off for this topic")]
    BroadcastOff,
    #[error("this join observes, because it named no user_id")]
    Observes,
    #[error("this join observes, because its token has no sub")]
    Nobody,
    #[error("the token does not give the right {right}")]
    NotAllowed { right: Right },
    #[error("access_token must have a token, {{\"access_token\": …}}")]
    NoToken,
    #[error("{what} is {found}, it must be {expected}")]
    Kind {
        what: &'static str,
        found: &'static str,
        expected: &'static str,
    },
    #[error("user_id is empty")]
    EmptyUser,
    #[error("presence:update must have meta, which replaces, or patch, which is merged")]
    NeitherMetaNorPatch,
    #[error("presence:update has meta and patch, it must have one of them")]
    MetaAndPatch,
    #[error("the event status must have a status, such as {{\"status\": \"away\"}}")]
    NoStatus,
    #[error("presence:list has limit {limit}, it must be a whole number from 1 to {MAX_PAGE}")]
    Limit { limit: String },
    #[error("presence:list has limit {limit}, the limit is {MAX_PAGE} ({over})")]
    LongPage { limit: u64, over: Named },
    #[error("presence:list has after without limit: a whole list has no pages")]
    AfterWithoutLimit,
    #[error("{what} is {len} bytes, the limit is {max} ({limit})")]
    TooLong {
        what: &'static str,
        len: usize,
        max: usize,
        limit: Named,
    },
}

/// What a join says of who joins.
#[derive(Debug)]
pub(crate) struct JoinFields {
    user_id: Value,
    meta: Value,
    presence: Value,
}

impl JoinFields {
    /// Reads them from the payload of a join; other fields are the client's own business.
    pub(crate) fn read(payload: &Payload) -> Result<Self, Refusal> {
        let mut fields = fields(payload)?;
        let mut take = |field| fields.remove(field).unwrap_or_default();
        Ok(Self {
            user_id: take("user_id"),
            meta: take("meta"),
            presence: take("presence"),
        })
    }

    /// Whether the client asks to be told how the topic tells of who is here.
    ///
    /// Anything else in that field is another client's business, and no error.
    pub(crate) fn follows_modes(&self) -> bool {
        self.presence.get("modes") == Some(&Value::Bool(true))
    }

    /// The user that the join names with `user_id`, if it does.
    ///
    /// A whole number is taken as its digits, because clients keep ids as numbers.
    pub(crate) fn user(&self) -> Result<Option<String>, Refusal> {
        let user = match &self.user_id {
            Value::Null => return Ok(None),
            Value::String(user) => user.clone(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            other => {
                let (found, expected) = (kind_of(other), "a text");
                return Err(Refusal::Kind {
                    what: "user_id",
                    found,
                    expected,
                });
            }
        };
        if user.is_empty() {
            Err(Refusal::EmptyUser)
        } else {
            Ok(Some(user))
        }
    }

    /// The meta to begin with; empty if the join has none.
    pub(crate) fn meta(self) -> Result<Meta, Refusal> {
        optional_object("meta", self.meta)
    }
}

/// Reads what `event` asks for.
pub(crate) fn read(event: &str, payload: &Payload) -> Result<Request, Refusal> {
    match event {
        "presence:track" => {
            let meta = fields(payload)?.remove("meta").unwrap_or_default();
            Ok(Request::Track(optional_object("meta", meta)?))
        }
        "presence:update" => update(fields(payload)?),
        "presence:untrack" => Ok(Request::Untrack),
        "presence:list" => list(fields(payload)?),
        "presence:count" => Ok(Request::Count),
        ACCESS_TOKEN => Ok(Request::AccessToken),
        "status" => {
            let status = fields(payload)?.remove("status").ok_or(Refusal::NoStatus)?;
            Ok(Request::Patch(Meta::from_iter([(
                "status".to_owned(),
                status,
            )])))
        }
        "echo" => Ok(Request::Echo),
        event if is_reserved(event) => Err(Refusal::Reserved {
            event: shorten(event),
        }),
        _ => match payload {
            Payload::Json(text) if !payload.is_object() => {
                let (what, expected) = ("a broadcast's payload", "an object");
                let value = serde_json::from_slice(text).unwrap_or_default();
                Err(Refusal::Kind {
                    what,
                    found: kind_of(&value),
                    expected,
                })
            }
            Payload::Json(_) | Payload::Binary(_) => Ok(Request::Broadcast),
        },
    }
}

/// The meta of a presence that begins at `online_at`.
pub(crate) fn stamped(mut meta: Meta, online_at: u64) -> Meta {
    meta.insert(ONLINE_AT.to_owned(), Value::String(online_at.to_string()));
    meta
}

/// Replaces `meta` by `new`, all but the time at which the user came.
pub(crate) fn replace(meta: &mut Meta, mut new: Meta) {
    new.remove(ONLINE_AT);
    if let Some(online_at) = meta.remove(ONLINE_AT) {
        new.insert(ONLINE_AT.to_owned(), online_at);
    }
    *meta = new;
}

/// Merges `patch` into `meta`, field by field; a null removes the field.
///
/// The time at which the user came stays: a client that sends back what it got must not change it.
pub(crate) fn merge(meta: &mut Meta, patch: Meta) {
    for (field, value) in patch {
        if field == ONLINE_AT {
            continue;
        } else if value.is_null() {
            meta.remove(&field);
        } else {
            meta.insert(field, value);
        }
    }
}

/// The length of a meta as JSON without the fields that are the server's.
pub(crate) fn own_bytes(meta: &Meta) -> usize {
    const SERVERS: [&str; 3] = [ONLINE_AT, "phx_ref", "phx_ref_prev"];
    let is_own = |(field, _): &(&String, &Value)| !SERVERS.contains(&field.as_str());
    let own: BTreeMap<&String, &Value> = meta.iter().filter(is_own).collect();
    serde_json::to_vec(&own).map_or(usize::MAX, |text| text.len())
}

/// Checks a length against a limit.
pub(crate) fn within(
    what: &'static str,
    len: usize,
    max: usize,
    limit: Named,
) -> Result<(), Refusal> {
    if len > max {
        Err(Refusal::TooLong {
            what,
            len,
            max,
            limit,
        })
    } else {
        Ok(())
    }
}

fn list(mut fields: Meta) -> Result<Request, Refusal> {
    let after = match fields.remove("after") {
        None | Some(Value::Null) => None,
        Some(Value::String(after)) => Some(after),
        Some(other) => {
            let (what, found, expected) = ("after", kind_of(&other), "a text");
            return Err(Refusal::Kind {
                what,
                found,
                expected,
            });
        }
    };
    match fields.remove("limit") {
        None if after.is_some() => Err(Refusal::AfterWithoutLimit),
        None => Ok(Request::List),
        Some(limit) => match limit.as_u64() {
            Some(max @ 1..=MAX_PAGE) => Ok(Request::Page {
                after,
                max: max as usize,
            }),
            Some(limit) if limit > MAX_PAGE => Err(Refusal::LongPage {
                limit,
                over: Named::ListPage,
            }),
            _ => Err(Refusal::Limit {
                limit: shorten(&limit.to_string()),
            }),
        },
    }
}

fn update(mut fields: Meta) -> Result<Request, Refusal> {
    match (fields.remove("meta"), fields.remove("patch")) {
        (Some(_), Some(_)) => Err(Refusal::MetaAndPatch),
        (Some(meta), None) => Ok(Request::Replace(object("meta", meta)?)),
        (None, Some(patch)) => Ok(Request::Patch(object("patch", patch)?)),
        (None, None) => Err(Refusal::NeitherMetaNorPatch),
    }
}

/// The fields of an event's payload, which must be a JSON object.
fn fields(payload: &Payload) -> Result<Meta, Refusal> {
    let value = match payload {
        Payload::Json(text) => serde_json::from_slice(text).unwrap_or_default(),
        Payload::Binary(_) => {
            let (what, found, expected) = ("the payload", "binary", "an object");
            return Err(Refusal::Kind {
                what,
                found,
                expected,
            });
        }
    };
    object("the payload", value)
}

fn object(what: &'static str, value: Value) -> Result<Meta, Refusal> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(Refusal::Kind {
            what,
            found: kind_of(&other),
            expected: "an object",
        }),
    }
}

fn optional_object(what: &'static str, value: Value) -> Result<Meta, Refusal> {
    if value.is_null() {
        Ok(Meta::new())
    } else {
        object(what, value)
    }
}

/// Tells whether a name is the server's: clients and backends cannot broadcast it.
pub(crate) fn is_reserved(event: &str) -> bool {
    ["phx_", "presence_", "presence:", "herenow:"]
        .iter()
        .any(|start| event.starts_with(start))
}

/// What a value is, in words.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// An event's name as a reply can repeat it.
fn shorten(event: &str) -> String {
    const MAX_CHARS: usize = 64;
    event.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn json(value: &Value) -> Payload {
        Payload::Json(value.to_string().into())
    }

    fn meta(value: Value) -> Meta {
        object("meta", value).unwrap()
    }

    fn reason(event: &str, payload: &Value) -> String {
        read(event, &json(payload)).unwrap_err().to_string()
    }

    fn user(payload: Value) -> Result<Option<String>, String> {
        let fields = JoinFields::read(&json(&payload)).unwrap();
        fields.user().map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn srv_20_the_user_is_the_joins_or_the_sockets_or_nobody() {
        let some = |user: &str| Ok(Some(user.to_owned()));
        assert_eq!(user(json!({ "user_id": "a" })), some("a"));
        assert_eq!(user(json!({ "user_id": 42 })), some("42"));
        assert_eq!(user(json!({ "user_id": null })), Ok(None));
        assert_eq!(user(json!({})), Ok(None));
        assert_eq!(
            user(json!({ "user_id": "" })).unwrap_err(),
            "user_id is empty"
        );
        assert_eq!(
            user(json!({ "user_id": [1] })).unwrap_err(),
            "user_id is a list, it must be a text"
        );
    }

    #[test]
    fn srv_21_an_update_replaces_or_merges() {
        let read = |value| read("presence:update", &json(&value)).unwrap();
        assert_eq!(
            read(json!({ "meta": { "a": 1 } })),
            Request::Replace(meta(json!({ "a": 1 })))
        );
        assert_eq!(
            read(json!({ "patch": { "a": 1 } })),
            Request::Patch(meta(json!({ "a": 1 })))
        );
        for (payload, expected) in [
            (
                json!({}),
                "presence:update must have meta, which replaces, or patch, which is merged",
            ),
            (
                json!({ "meta": {}, "patch": {} }),
                "presence:update has meta and patch, it must have one of them",
            ),
            (
                json!({ "meta": 3 }),
                "meta is a number, it must be an object",
            ),
            (
                json!({ "patch": null }),
                "patch is null, it must be an object",
            ),
            (json!([]), "the payload is a list, it must be an object"),
        ] {
            assert_eq!(reason("presence:update", &payload), expected);
        }
    }

    #[test]
    fn srv_22_a_patch_merges_and_null_removes_and_online_at_stays() {
        let mut whole = stamped(meta(json!({ "a": 1, "b": 2 })), 77);
        merge(
            &mut whole,
            meta(json!({ "a": null, "c": { "d": 1 }, "online_at": "0" })),
        );
        assert_eq!(
            whole,
            meta(json!({ "b": 2, "c": { "d": 1 }, "online_at": "77" }))
        );
        replace(&mut whole, meta(json!({ "e": 5, "online_at": "0" })));
        assert_eq!(whole, meta(json!({ "e": 5, "online_at": "77" })));
    }

    #[test]
    fn srv_23_status_is_a_patch_of_one_field() {
        let status = read("status", &json(&json!({ "status": "away", "x": 1 }))).unwrap();
        assert_eq!(status, Request::Patch(meta(json!({ "status": "away" }))));
        assert!(reason("status", &json!({})).contains("{\"status\": \"away\"}"));
    }

    #[test]
    fn srv_24_reserved_names_are_refused_with_their_name() {
        for event in [
            "phx_x",
            "phx_reply",
            "presence_diff",
            "presence:",
            "presence:foo",
        ] {
            let reason = reason(event, &json!({}));
            assert!(
                reason.starts_with(&format!("the event name {event} is reserved")),
                "{reason}"
            );
        }
        for event in ["phx", "presence", "my_presence_diff", "phy_x", ""] {
            assert_eq!(
                read(event, &json(&json!({}))).unwrap(),
                Request::Broadcast,
                "{event}"
            );
        }
    }

    #[test]
    fn srv_980_a_page_has_a_limit_and_perhaps_a_cursor() {
        let read = |value| super::read("presence:list", &json(&value));
        assert_eq!(read(json!({})), Ok(Request::List));
        let (after, max) = (Some("ada".to_owned()), 1_000);
        let page = Request::Page { after, max };
        assert_eq!(read(json!({ "after": "ada", "limit": 1000 })), Ok(page));
        let refused = |value: Value| read(value).unwrap_err().to_string();
        let text = "presence:list has limit 1001, the limit is 1000 (presence:list, fixed)";
        assert_eq!(refused(json!({ "limit": 1001 })), text);
        for limit in [json!(0), json!(1.5), json!("9"), json!(-1)] {
            let text = format!(
                "presence:list has limit {limit}, it must be a whole number from 1 to 1000"
            );
            assert_eq!(refused(json!({ "limit": limit })), text);
        }
        let text = "presence:list has after without limit: a whole list has no pages";
        assert_eq!(refused(json!({ "after": "ada" })), text);
        let text = "after is a number, it must be a text";
        assert_eq!(refused(json!({ "after": 3, "limit": 1 })), text);
    }

    #[test]
    fn srv_25_a_broadcast_is_an_object_or_binary() {
        assert_eq!(
            read("x", &Payload::Binary(Bytes::new())).unwrap(),
            Request::Broadcast
        );
        assert_eq!(
            reason("x", &json!([1])),
            "a broadcast's payload is a list, it must be an object"
        );
        assert_eq!(read("echo", &json(&json!([1]))).unwrap(), Request::Echo);
    }
}
