//! What a client asks for when it joins, read as leniently as its clients are used to: a part that
//! is not what it must be is as if it were not there.

use herenow_protocol::Payload;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::raw::{self, List};

/// What tokens begin with that are keys of Supabase's own, and say nothing about a user.
const KEY_PREFIX: &str = "sb_";

/// The payload of a join.
#[derive(Debug, Default)]
pub(super) struct JoinConfig<'a> {
    /// Whether broadcasts are acknowledged.
    pub(super) ack: bool,
    /// Whether the sender gets its own broadcasts.
    pub(super) to_self: bool,
    /// The key of the presence; `None` if the server is to choose.
    pub(super) key: Option<String>,
    /// Whether the client wants to know who is here from the beginning; `None` if it does not say.
    pub(super) is_presence_on: Option<bool>,
    /// Whether old broadcasts are asked for.
    pub(super) wants_replay: bool,
    /// Whether the client waits for word of a database.
    pub(super) wants_replication: bool,
    /// What is to be heard of a database, which is not here: the first of it, and how much it is.
    pub(super) postgres_changes: List<'a>,
    /// The user's token.
    pub(super) token: Option<String>,
}

impl<'a> JoinConfig<'a> {
    /// Reads a payload, and at most so many wishes for a database.
    pub(super) fn read(payload: &'a Payload, max_changes: usize) -> Self {
        let [user_token, access_token, config] =
            raw::members_of(payload, ["user_token", "access_token", "config"]);
        let mut tokens = [user_token, access_token].into_iter().flatten();
        let token = tokens.find_map(|token| raw::text(token).filter(|token| is_token(token)));
        let [broadcast, presence, changes] =
            members(config, ["broadcast", "presence", "postgres_changes"]);
        let [ack, to_self, replay, replication] =
            members(broadcast, ["ack", "self", "replay", "replication_ready"]);
        let [key, enabled] = members(presence, ["key", "enabled"]);
        let key = key.and_then(scalar_text);
        Self {
            ack: is_on(ack),
            to_self: is_on(to_self),
            is_presence_on: match enabled.filter(|enabled| !raw::is_null(enabled)) {
                // Clients that know of no switch name a key.
                None => key.is_some().then_some(true),
                enabled => Some(is_on(enabled)),
            },
            key,
            wants_replay: replay.is_some_and(|replay| !raw::is_null(replay)),
            wants_replication: is_on(replication),
            postgres_changes: changes
                .and_then(|changes| raw::list(changes, max_changes, raw::is_object))
                .unwrap_or_default(),
            token,
        }
    }

    /// What the reply says of the database: each wish again, with a number.
    pub(super) fn echoed_changes(&self) -> Vec<EchoedChange<'a>> {
        let changes = self.postgres_changes.first.iter();
        let numbered = (1..).zip(changes).map(|(id, change)| {
            let names = ["event", "schema", "table", "filter", "select"];
            let [event, schema, table, filter, select] = members(Some(change), names);
            EchoedChange {
                id,
                event,
                schema,
                table,
                filter,
                select,
            }
        });
        numbered.collect()
    }
}

/// What a client wants to hear of a database: all by which it knows its wish again.
#[derive(Debug, Serialize)]
pub(super) struct EchoedChange<'a> {
    id: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    select: Option<&'a RawValue>,
}

/// Tells whether a join's payload asks for the private channel of its name.
pub(super) fn is_private(payload: &Payload) -> bool {
    let [config] = raw::members_of(payload, ["config"]);
    let [private] = members(config, ["private"]);
    is_on(private)
}

/// Tells whether a text that a client has for a token may be one, and not a key of Supabase's.
pub(super) fn is_token(text: &str) -> bool {
    !text.starts_with(KEY_PREFIX)
}

/// The members of a part that have these names, none if the part is not there or no object.
fn members<'a, const N: usize>(
    part: Option<&'a RawValue>,
    names: [&str; N],
) -> [Option<&'a RawValue>; N] {
    part.and_then(|part| raw::members(part.get(), names))
        .unwrap_or([None; N])
}

/// What a switch says: a boolean or its word, in any case; `None` if it is neither.
pub(super) fn switch(value: &RawValue) -> Option<bool> {
    match raw::scalar(value) {
        Value::Bool(on) => Some(on),
        Value::String(text) => switch_word(&text),
        _ => None,
    }
}

/// What a switch says that is a text.
pub(super) fn switch_word(text: &str) -> Option<bool> {
    let is = |word| text.eq_ignore_ascii_case(word);
    is("true").then_some(true).or(is("false").then_some(false))
}

fn is_on(value: Option<&RawValue>) -> bool {
    value.and_then(switch).unwrap_or(false)
}

/// Any scalar as a text; an empty one is none.
fn scalar_text(value: &RawValue) -> Option<String> {
    let text = match raw::scalar(value) {
        Value::String(text) => text,
        Value::Null => return None,
        value => value.to_string(),
    };
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MAX_CHANGES: usize = 2;

    fn payload(value: &Value) -> Payload {
        Payload::serialize(value).unwrap()
    }

    /// All that a join says, but for its wishes for a database.
    fn said(config: &JoinConfig<'_>) -> (Vec<bool>, Option<bool>, Vec<Option<String>>) {
        let switches = vec![
            config.ack,
            config.to_self,
            config.wants_replay,
            config.wants_replication,
        ];
        let texts = vec![config.key.clone(), config.token.clone()];
        (switches, config.is_presence_on, texts)
    }

    #[test]
    fn srv_1603_every_part_of_a_join_is_optional_and_a_wrong_one_is_as_if_missing() {
        let is_empty = |payload: &Payload| {
            let config = JoinConfig::read(payload, MAX_CHANGES);
            said(&config) == said(&JoinConfig::default()) && config.postgres_changes.len == 0
        };
        for value in [
            json!({}),
            json!({ "config": null }),
            json!({ "config": ["test"] }),
            json!([1]),
            json!({ "config": { "broadcast": null, "presence": 3, "postgres_changes": null } }),
            json!({ "config": { "postgres_changes": [null] }, "access_token": null }),
        ] {
            assert!(is_empty(&payload(&value)), "{value}");
        }
        assert!(is_empty(&Payload::Binary(vec![1, 2].into())));
    }

    #[test]
    fn srv_1604_switches_are_booleans_or_their_words_in_any_case() {
        let config = |value: Value| json!({ "config": { "private": value } });
        for on in [json!(true), json!("true"), json!("True"), json!("TRUE")] {
            let payload = payload(&config(on.clone()));
            assert!(is_private(&payload), "{on}");
        }
        for off in [json!(false), json!("False"), json!("maybe"), json!(1)] {
            assert!(!is_private(&payload(&config(off.clone()))), "{off}");
        }
        let both = json!({ "config": { "broadcast": { "ack": "maybe", "self": "true" } } });
        let both = payload(&both);
        let both = JoinConfig::read(&both, MAX_CHANGES);
        assert!(!both.ack && both.to_self);
    }

    #[test]
    fn srv_1605_a_key_is_any_scalar_and_asks_for_presence_unless_it_says_otherwise() {
        let presence = |value: Value| {
            let payload = payload(&json!({ "config": { "presence": value } }));
            let config = JoinConfig::read(&payload, MAX_CHANGES);
            (config.key, config.is_presence_on)
        };
        assert_eq!(presence(json!({ "key": 123 })).0.as_deref(), Some("123"));
        for none in [
            json!({ "key": "" }),
            json!({ "key": null }),
            json!({ "key": [1] }),
        ] {
            assert_eq!(presence(none), (None, None));
        }
        let is_on = |value| presence(value).1;
        assert_eq!(is_on(json!({ "key": "ada" })), Some(true));
        assert_eq!(
            is_on(json!({ "key": "ada", "enabled": false })),
            Some(false)
        );
        assert_eq!(is_on(json!({ "key": "", "enabled": true })), Some(true));
    }

    #[test]
    fn srv_1606_a_key_of_supabase_is_no_token() {
        let token = |value: Value| JoinConfig::read(&payload(&value), MAX_CHANGES).token;
        assert_eq!(token(json!({ "access_token": "sb_secret_x" })), None);
        assert_eq!(token(json!({ "access_token": "a" })).as_deref(), Some("a"));
        let both = json!({ "user_token": "sb_x", "access_token": "a" });
        assert_eq!(token(both).as_deref(), Some("a"));
        let both = json!({ "user_token": "u", "access_token": "a" });
        assert_eq!(token(both).as_deref(), Some("u"));
    }

    #[test]
    fn srv_1607_what_is_asked_of_a_database_comes_back_with_numbers() {
        let change = json!({ "event": "*", "schema": "public", "table": "t" });
        let join = json!({ "config": { "postgres_changes": [change, change] } });
        let join = payload(&join);
        let echoed = JoinConfig::read(&join, MAX_CHANGES).echoed_changes();
        let with_id = |id: u32| json!({ "event": "*", "schema": "public", "table": "t", "id": id });
        let echoed = serde_json::to_value(echoed).unwrap();
        assert_eq!(echoed, json!([with_id(1), with_id(2)]));
    }

    #[test]
    fn srv_1758_wishes_for_a_database_are_counted_and_not_kept_beyond_their_limit() {
        let changes = vec![json!({}); 1_000];
        let join = payload(&json!({ "config": { "postgres_changes": changes } }));
        let changes = JoinConfig::read(&join, MAX_CHANGES).postgres_changes;
        assert_eq!((changes.first.len(), changes.len), (MAX_CHANGES, 1_000));
    }
}
