//! What clients of the built-in channel may ask, read from events and payloads. No sockets here.

use std::collections::BTreeMap;

use herenow_protocol::Payload;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::identity::{ACCESS_TOKEN, Right};
use crate::limits::Named;
use crate::people::ONLINE_AT;
use crate::raw::{self, Unfit};

/// A meta, as a JSON object.
pub(crate) type Meta = Map<String, Value>;

/// The fields of a meta that are the server's.
const SERVERS: [&str; 3] = [ONLINE_AT, "phx_ref", "phx_ref_prev"];

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
    #[error("{what} cannot be read: {why}")]
    Unreadable { what: &'static str, why: String },
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
pub(crate) struct JoinFields<'a> {
    user_id: Option<&'a RawValue>,
    meta: Option<&'a RawValue>,
    presence: Option<&'a RawValue>,
}

impl<'a> JoinFields<'a> {
    /// Reads them from the payload of a join; other fields are the client's own business.
    pub(crate) fn read(payload: &'a Payload) -> Result<Self, Refusal> {
        let [user_id, meta, presence] = fields(payload, ["user_id", "meta", "presence"])?;
        Ok(Self {
            user_id,
            meta,
            presence,
        })
    }

    /// Whether the client asks to be told how the topic tells of who is here.
    ///
    /// Anything else in that field is another client's business, and no error.
    pub(crate) fn follows_modes(&self) -> bool {
        let presence = self.presence.map_or("", RawValue::get);
        let [modes] = raw::members(presence, ["modes"]).unwrap_or_default();
        modes.is_some_and(|modes| modes.get() == "true")
    }

    /// The user that the join names with `user_id`, if it does.
    ///
    /// A whole number is taken as its digits, because clients keep ids as numbers.
    pub(crate) fn user(&self) -> Result<Option<String>, Refusal> {
        let Some(user_id) = self.user_id else {
            return Ok(None);
        };
        let user = match raw::scalar(user_id) {
            Value::Null if raw::is_null(user_id) => return Ok(None),
            Value::String(user) => user,
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            _ => return Err(no_text("user_id", user_id)),
        };
        if user.is_empty() {
            Err(Refusal::EmptyUser)
        } else {
            Ok(Some(user))
        }
    }

    /// The meta to begin with, of at most `max` bytes; empty if the join has none.
    pub(crate) fn meta(self, max: usize) -> Result<Meta, Refusal> {
        optional_meta(self.meta, max)
    }
}

/// Reads what `event` asks for; a meta in it, or what is to be merged into one, may be `max_meta`
/// bytes.
pub(crate) fn read(event: &str, payload: &Payload, max_meta: usize) -> Result<Request, Refusal> {
    match event {
        "presence:track" => {
            let [meta] = fields(payload, ["meta"])?;
            Ok(Request::Track(optional_meta(meta, max_meta)?))
        }
        "presence:update" => update(fields(payload, ["meta", "patch"])?, max_meta),
        "presence:untrack" => Ok(Request::Untrack),
        "presence:list" => list(fields(payload, ["after", "limit"])?),
        "presence:count" => Ok(Request::Count),
        ACCESS_TOKEN => Ok(Request::AccessToken),
        "status" => status(payload, max_meta),
        "echo" => Ok(Request::Echo),
        event if is_reserved(event) => Err(Refusal::Reserved {
            event: shorten(event),
        }),
        _ => match payload {
            Payload::Json(text) if !payload.is_object() => {
                let (what, expected) = ("a broadcast's payload", "an object");
                Err(Refusal::Kind {
                    what,
                    found: raw::kind_of(text),
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

fn list([after, limit]: [Option<&RawValue>; 2]) -> Result<Request, Refusal> {
    let after = after.filter(|after| !raw::is_null(after));
    let after = after.map(|after| raw::text(after).ok_or_else(|| no_text("after", after)));
    let after = after.transpose()?;
    match limit {
        None if after.is_some() => Err(Refusal::AfterWithoutLimit),
        None => Ok(Request::List),
        Some(limit) => match raw::scalar(limit).as_u64() {
            Some(max @ 1..=MAX_PAGE) => Ok(Request::Page {
                after,
                max: max as usize,
            }),
            Some(limit) if limit > MAX_PAGE => Err(Refusal::LongPage {
                limit,
                over: Named::ListPage,
            }),
            _ => Err(Refusal::Limit {
                limit: shorten(limit.get()),
            }),
        },
    }
}

fn update([meta, patch]: [Option<&RawValue>; 2], max: usize) -> Result<Request, Refusal> {
    match (meta, patch) {
        (Some(_), Some(_)) => Err(Refusal::MetaAndPatch),
        (Some(meta), None) => Ok(Request::Replace(object("meta", meta, max)?)),
        (None, Some(patch)) => Ok(Request::Patch(object("patch", patch, max)?)),
        (None, None) => Err(Refusal::NeitherMetaNorPatch),
    }
}

fn status(payload: &Payload, max: usize) -> Result<Request, Refusal> {
    let [status] = fields(payload, ["status"])?;
    let status = status.ok_or(Refusal::NoStatus)?;
    let patch = RawValue::from_string(format!("{{\"status\":{status}}}"));
    let patch = patch.expect("a field of JSON is JSON");
    Ok(Request::Patch(object("the status", &patch, max)?))
}

/// Some fields of an event's payload, which must be a JSON object.
fn fields<'a, const N: usize>(
    payload: &'a Payload,
    names: [&str; N],
) -> Result<[Option<&'a RawValue>; N], Refusal> {
    let found = match payload {
        Payload::Json(_) if payload.is_object() => return Ok(raw::members_of(payload, names)),
        Payload::Json(text) => raw::kind_of(text),
        Payload::Binary(_) => "binary",
    };
    let (what, expected) = ("the payload", "an object");
    Err(Refusal::Kind {
        what,
        found,
        expected,
    })
}

/// Reads a meta, or a part of one, that may be `max` bytes.
fn object(what: &'static str, json: &RawValue, max: usize) -> Result<Meta, Refusal> {
    raw::object(json, max, &SERVERS).map_err(|unfit| match unfit {
        Unfit::Kind { found } => {
            let expected = "an object";
            Refusal::Kind {
                what,
                found,
                expected,
            }
        }
        Unfit::TooLong { len } => Refusal::TooLong {
            what: match what {
                "meta" => "the meta",
                "patch" => "the patch",
                other => other,
            },
            len,
            max,
            limit: Named::TopicMeta,
        },
        Unfit::Unreadable { why } => Refusal::Unreadable { what, why },
    })
}

fn optional_meta(json: Option<&RawValue>, max: usize) -> Result<Meta, Refusal> {
    match json.filter(|json| !raw::is_null(json)) {
        Some(json) => object("meta", json, max),
        None => Ok(Meta::new()),
    }
}

fn no_text(what: &'static str, json: &RawValue) -> Refusal {
    let (found, expected) = (raw::kind_of(json.get()), "a text");
    Refusal::Kind {
        what,
        found,
        expected,
    }
}

/// Tells whether a name is the server's: clients and backends cannot broadcast it.
pub(crate) fn is_reserved(event: &str) -> bool {
    ["phx_", "presence_", "presence:", "herenow:"]
        .iter()
        .any(|start| event.starts_with(start))
}

/// An event's name as a reply can repeat it.
fn shorten(event: &str) -> String {
    const MAX_CHARS: usize = 64;
    event.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests;
