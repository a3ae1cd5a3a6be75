//! What a client asks for when it joins, read as leniently as its clients are used to: a part that
//! is not what it must be is as if it were not there.

use herenow_protocol::Payload;
use serde_json::{Map, Value};

/// What tokens begin with that are keys of Supabase's own, and say nothing about a user.
const KEY_PREFIX: &str = "sb_";

/// The payload of a join.
#[derive(Debug, Default, PartialEq)]
pub(super) struct JoinConfig {
    /// Whether broadcasts are acknowledged.
    pub(super) ack: bool,
    /// Whether the sender gets its own broadcasts.
    pub(super) to_self: bool,
    /// The key of the presence; `None` if the server is to choose.
    pub(super) key: Option<String>,
    /// Whether the client wants to know who is here from the beginning; `None` if it does not say.
    pub(super) is_presence_on: Option<bool>,
    pub(super) is_private: bool,
    /// Whether old broadcasts are asked for.
    pub(super) wants_replay: bool,
    /// Whether the client waits for word of a database.
    pub(super) wants_replication: bool,
    /// What is to be heard of a database, which is not here.
    pub(super) postgres_changes: Vec<Map<String, Value>>,
    /// The user's token.
    pub(super) token: Option<String>,
}

impl JoinConfig {
    /// Reads a payload.
    pub(super) fn read(payload: &Payload) -> Self {
        let mut fields: Value = payload.deserialize().unwrap_or_default();
        let token = ["user_token", "access_token"]
            .iter()
            .find_map(|name| text(take(&mut fields, name)).filter(|token| is_token(token)));
        let mut config = take(&mut fields, "config");
        let broadcast = take(&mut config, "broadcast");
        let presence = take(&mut config, "presence");
        let key = key(&presence["key"]);
        Self {
            ack: is_on(&broadcast["ack"]),
            to_self: is_on(&broadcast["self"]),
            is_presence_on: match &presence["enabled"] {
                // Clients that know of no switch name a key.
                Value::Null => key.is_some().then_some(true),
                enabled => Some(is_on(enabled)),
            },
            key,
            is_private: is_on(&config["private"]),
            wants_replay: !broadcast["replay"].is_null(),
            wants_replication: is_on(&broadcast["replication_ready"]),
            postgres_changes: objects(take(&mut config, "postgres_changes")),
            token,
        }
    }

    /// What the reply says of the database: each wish again, with a number.
    pub(super) fn echoed_changes(&mut self) -> Value {
        let numbered = |(number, mut change): (usize, Map<String, Value>)| {
            change.insert("id".to_owned(), (number + 1).into());
            Value::Object(change)
        };
        let changes = std::mem::take(&mut self.postgres_changes);
        changes.into_iter().enumerate().map(numbered).collect()
    }
}

/// Tells whether a join's payload asks for the private channel of its name.
pub(super) fn is_private(payload: &Payload) -> bool {
    let fields: Value = payload.deserialize().unwrap_or_default();
    is_on(&fields["config"]["private"])
}

/// Tells whether a text that a client has for a token may be one, and not a key of Supabase's.
pub(super) fn is_token(text: &str) -> bool {
    !text.starts_with(KEY_PREFIX)
}

/// Takes a field out; null if there is none.
fn take(object: &mut Value, field: &str) -> Value {
    object.get_mut(field).map(Value::take).unwrap_or_default()
}

/// What a switch says: a boolean or its word, in any case; `None` if it is neither.
pub(super) fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::String(text) => switch_word(text),
        _ => None,
    }
}

/// What a switch says that is a text.
pub(super) fn switch_word(text: &str) -> Option<bool> {
    let is = |word| text.eq_ignore_ascii_case(word);
    is("true").then_some(true).or(is("false").then_some(false))
}

fn is_on(value: &Value) -> bool {
    switch(value).unwrap_or(false)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Any scalar as a text; an empty one is none.
fn key(value: &Value) -> Option<String> {
    let key = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(key).filter(|key| !key.is_empty())
}

fn objects(value: Value) -> Vec<Map<String, Value>> {
    let Value::Array(list) = value else {
        return Vec::new();
    };
    let object = |value| match value {
        Value::Object(object) => Some(object),
        _ => None,
    };
    list.into_iter().filter_map(object).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> JoinConfig {
        JoinConfig::read(&Payload::serialize(value).unwrap())
    }

    #[test]
    fn srv_1603_every_part_of_a_join_is_optional_and_a_wrong_one_is_as_if_missing() {
        let empty = JoinConfig::default();
        for payload in [
            json!({}),
            json!({ "config": null }),
            json!({ "config": ["test"] }),
            json!([1]),
            json!({ "config": { "broadcast": null, "presence": 3, "postgres_changes": null } }),
            json!({ "config": { "postgres_changes": [null] }, "access_token": null }),
        ] {
            assert_eq!(read(&payload), empty, "{payload}");
        }
        assert_eq!(
            JoinConfig::read(&Payload::Binary(vec![1, 2].into())),
            JoinConfig::default()
        );
    }

    #[test]
    fn srv_1604_switches_are_booleans_or_their_words_in_any_case() {
        let config = |value: Value| json!({ "config": { "private": value } });
        for on in [json!(true), json!("true"), json!("True"), json!("TRUE")] {
            assert!(read(&config(on.clone())).is_private, "{on}");
            let payload = Payload::serialize(&config(on)).unwrap();
            assert!(is_private(&payload));
        }
        for off in [json!(false), json!("False"), json!("maybe"), json!(1)] {
            assert!(!read(&config(off.clone())).is_private, "{off}");
        }
        let both = json!({ "config": { "broadcast": { "ack": "maybe", "self": "true" } } });
        let both = read(&both);
        assert!(!both.ack && both.to_self);
    }

    #[test]
    fn srv_1605_a_key_is_any_scalar_and_asks_for_presence_unless_it_says_otherwise() {
        let presence = |value: Value| read(&json!({ "config": { "presence": value } }));
        assert_eq!(presence(json!({ "key": 123 })).key.as_deref(), Some("123"));
        for none in [
            json!({ "key": "" }),
            json!({ "key": null }),
            json!({ "key": [1] }),
        ] {
            let presence = presence(none);
            assert_eq!((presence.key, presence.is_presence_on), (None, None));
        }
        let is_on = |value| presence(value).is_presence_on;
        assert_eq!(is_on(json!({ "key": "ada" })), Some(true));
        assert_eq!(
            is_on(json!({ "key": "ada", "enabled": false })),
            Some(false)
        );
        assert_eq!(is_on(json!({ "key": "", "enabled": true })), Some(true));
    }

    #[test]
    fn srv_1606_a_key_of_supabase_is_no_token() {
        let token = |value: Value| read(&value).token;
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
        let mut join = read(&json!({ "config": { "postgres_changes": [change, change] } }));
        let echoed = join.echoed_changes();
        let with_id = |id: u32| json!({ "event": "*", "schema": "public", "table": "t", "id": id });
        assert_eq!(echoed, json!([with_id(1), with_id(2)]));
    }
}
