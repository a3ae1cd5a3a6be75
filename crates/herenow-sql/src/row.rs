//! [`Row`]: one key and its fields; and what all databases ask of the columns that make it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{SqlError, WrongQuery};

/// The field that is not for a database to set.
const METAS: &str = "metas";

/// The fields of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// What the first column holds, as text.
    pub key: String,
    /// A JSON object with what the columns after it hold, by name, in their order.
    pub fields: String,
}

impl Row {
    /// Makes a row of what a database returned as one JSON object; `None` if the key is null.
    pub(crate) fn from_object(json: &str) -> Result<Option<Self>, SqlError> {
        let members = serde_json::from_str::<Members<'_>>(json);
        let Ok(Members(members)) = members else {
            let reason = "a row is not an object of JSON".to_owned();
            return Err(SqlError::Failed { reason });
        };
        let mut members = members.into_iter();
        let Some((_, key)) = members.next() else {
            return Err(WrongQuery::Columns { n: 0 }.into());
        };
        let Some(key) = key_of(key.get())? else {
            return Ok(None);
        };
        let mut fields = Fields::default();
        for (name, value) in members {
            fields.add(&name, value.get());
        }
        Ok(Some(Self {
            key,
            fields: fields.finish(),
        }))
    }
}

/// An object of JSON in the making.
#[derive(Debug, Default)]
pub(crate) struct Fields(String);

impl Fields {
    /// Adds a field whose value is JSON.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
    }

    pub(crate) fn finish(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}

/// A text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("every text is one of JSON's")
}

/// Checks that columns of these names are a key and its fields.
pub(crate) fn check_columns<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), WrongQuery> {
    let names: Vec<&str> = names.collect();
    if names.len() < 2 {
        return Err(WrongQuery::Columns { n: names.len() });
    }
    let mut seen = HashSet::new();
    for name in &names {
        if !seen.insert(*name) {
            let name = (*name).to_owned();
            return Err(WrongQuery::Twice { name });
        }
    }
    if names[1..].contains(&METAS) {
        return Err(WrongQuery::Reserved);
    }
    Ok(())
}

/// The text of a key that is a text or a number; `None` if it is null.
fn key_of(json: &str) -> Result<Option<String>, SqlError> {
    let found = match json.as_bytes().first() {
        Some(b'"') => return Ok(serde_json::from_str(json).ok()),
        Some(b'0'..=b'9' | b'-') => return Ok(Some(json.to_owned())),
        Some(b'n') => return Ok(None),
        Some(b't' | b'f') => "a boolean",
        Some(b'[') => "a list",
        Some(_) | None => "an object",
    };
    Err(WrongQuery::Key { found }.into())
}

/// The members of an object in their order, values untouched.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_720_the_first_column_is_the_key_and_the_others_are_fields_in_their_order() {
        let row = |json| Row::from_object(json).unwrap().unwrap();
        let ada = row(r#"{"id":"ada","name":"Ada","age":36.50,"big":9007199254740993}"#);
        assert_eq!(ada.key, "ada");
        assert_eq!(
            ada.fields,
            r#"{"name":"Ada","age":36.50,"big":9007199254740993}"#
        );
        assert_eq!(row(r#"{"n":42,"x":null}"#).key, "42");
        assert_eq!(row(r#"{"id":"\u00fc\"","x":[1]}"#).key, "ü\"");
        assert_eq!(Row::from_object(r#"{"id":null,"x":1}"#).unwrap(), None);
        let refused = Row::from_object(r#"{"id":true,"x":1}"#).unwrap_err();
        assert!(refused.is_wrong_query(), "{refused}");
    }

    #[test]
    fn srv_721_a_column_cannot_be_called_metas_or_be_there_twice() {
        let check = |names: &[&str]| {
            let checked = check_columns(names.iter().copied());
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(&["id", "name"]), Ok(()));
        assert_eq!(check(&["metas", "name"]), Ok(()), "the key is no field");
        assert!(check(&["id", "metas"]).unwrap_err().contains("reserved"));
        assert!(check(&["id", "a", "a"]).unwrap_err().contains("\"a\""));
        assert!(check(&["id"]).unwrap_err().contains("1 columns"));
    }
}
