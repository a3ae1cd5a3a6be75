//! Parts of the JSON that strangers send, found without making values of the rest.
//!
//! A tree of values takes many times the memory of its text, up to hundreds of times for lists of
//! empty objects. So what may be large stays text until its length is known to be small.

use std::fmt;
use std::io;

use herenow_protocol::Payload;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// How long the value of a field may be that does not count as one of a client's own.
const MAX_FREE_BYTES: usize = 64;

/// Returns the members of an object that have these names, and of several with one name the last;
/// `None` if it is no object.
pub(crate) fn members<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    let mut json = serde_json::Deserializer::from_str(json);
    let found = json.deserialize_map(Members(&names)).ok()?;
    json.end().ok()?;
    Some(found)
}

/// Returns a payload's members of these names, none if it is no object.
pub(crate) fn members_of<'a, const N: usize>(
    payload: &'a Payload,
    names: [&str; N],
) -> [Option<&'a RawValue>; N] {
    let json = match payload {
        Payload::Json(json) => std::str::from_utf8(json).ok(),
        Payload::Binary(_) => None,
    };
    json.and_then(|json| members(json, names))
        .unwrap_or([None; N])
}

/// The first entries of a list, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct List<'a> {
    pub(crate) first: Vec<&'a RawValue>,
    pub(crate) len: usize,
}

/// Reads those entries of a list that are wanted, and keeps the first `max`; `None` if it is no
/// list.
pub(crate) fn list<'a>(
    json: &'a RawValue,
    max: usize,
    is_wanted: fn(&RawValue) -> bool,
) -> Option<List<'a>> {
    let mut json = serde_json::Deserializer::from_str(json.get());
    json.deserialize_seq(Entries { max, is_wanted }).ok()
}

/// What a value is, in words.
pub(crate) fn kind_of(json: impl AsRef<[u8]>) -> &'static str {
    match json.as_ref().trim_ascii_start().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a text",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

/// Whether a value is null, which is as if it were not there.
pub(crate) fn is_null(json: &RawValue) -> bool {
    json.get() == "null"
}

/// Whether a value is an object.
pub(crate) fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

/// Returns a text; `None` if it is something else.
pub(crate) fn text(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

/// Returns a value that is neither list nor object; null if it is one.
pub(crate) fn scalar(json: &RawValue) -> Value {
    match json.get().starts_with(['[', '{']) {
        true => Value::Null,
        false => serde_json::from_str(json.get()).unwrap_or_default(),
    }
}

/// Why a value is not taken for an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Kind { found: &'static str },
    TooLong { len: usize },
    Unreadable { why: String },
}

/// Reads an object of at most `max` bytes as JSON without white space. The fields that are named in
/// `free` do not count, unless they are long.
pub(crate) fn object(
    json: &RawValue,
    max: usize,
    free: &[&str],
) -> Result<Map<String, Value>, Unfit> {
    if !is_object(json) {
        let found = kind_of(json.get());
        return Err(Unfit::Kind { found });
    }
    let unreadable = |error: serde_json::Error| {
        let why = error.to_string();
        Unfit::Unreadable { why }
    };
    let mut text = serde_json::Deserializer::from_str(json.get());
    let len = text.deserialize_map(OwnLen { free }).map_err(unreadable)?;
    if len > max {
        return Err(Unfit::TooLong { len });
    }
    serde_json::from_str(json.get()).map_err(unreadable)
}

/// Returns the length of a value as JSON.
pub(crate) fn written_len(value: &(impl Serialize + ?Sized)) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}

struct Members<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(at) = map.next_key_seed(Position(self.0))? {
            match at {
                Some(at) => found[at] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Where a name stands among others.
struct Position<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

struct Entries {
    max: usize,
    is_wanted: fn(&RawValue) -> bool,
}

impl<'de> Visitor<'de> for Entries {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = List::default();
        while let Some(entry) = seq.next_element::<&RawValue>()? {
            if (self.is_wanted)(entry) {
                list.len += 1;
                if list.len <= self.max {
                    list.first.push(entry);
                }
            }
        }
        Ok(list)
    }
}

/// Measures an object without the fields that do not count.
struct OwnLen<'n> {
    free: &'n [&'n str],
}

impl<'de> Visitor<'de> for OwnLen<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let (mut len, mut n_fields) = (0, 0);
        while let Some(name) = map.next_key::<String>()? {
            let Len(value) = map.next_value()?;
            let is_free = value <= MAX_FREE_BYTES && self.free.contains(&name.as_str());
            if !is_free {
                len += written_len(&name) + 1 + value;
                n_fields += 1;
            }
        }
        Ok(len + brackets(n_fields))
    }
}

/// The length of a value as JSON without white space.
struct Len(usize);

impl<'de> Deserialize<'de> for Len {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(AnyLen).map(Self)
    }
}

struct AnyLen;

impl<'de> Visitor<'de> for AnyLen {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<usize, E> {
        Ok(written_len(&()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<usize, E> {
        Ok(written_len(&value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<usize, E> {
        Ok(written_len(&value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<usize, E> {
        Ok(written_len(&value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<usize, E> {
        Ok(written_len(&value))
    }

    fn visit_str<E>(self, value: &str) -> Result<usize, E> {
        Ok(written_len(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let (mut len, mut n_entries) = (0, 0);
        while let Some(Len(entry)) = seq.next_element()? {
            len += entry;
            n_entries += 1;
        }
        Ok(len + brackets(n_entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<usize, A::Error> {
        OwnLen { free: &[] }.visit_map(map)
    }
}

/// What stands around so many entries, and between them.
fn brackets(n_entries: usize) -> usize {
    2 + n_entries.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn srv_1756_members_are_found_among_others_and_the_last_of_a_name_counts() {
        let found = members(
            r#"{"x":[{},{}],"b":1,"\u0061":"é","b":{"c":2}}"#,
            ["a", "b", "c"],
        );
        let found = found.unwrap().map(|found| found.map(RawValue::get));
        assert_eq!(found, [Some("\"é\""), Some("{\"c\":2}"), None]);
        for other in ["[1]", "\"a\"", "3", "null", "{", "{} x", ""] {
            assert!(members(other, ["a"]).is_none(), "{other}");
        }
        let binary = Payload::Binary(vec![b'{', b'}'].into());
        assert!(members_of(&binary, ["a"])[0].is_none());
    }

    #[test]
    fn srv_1756_a_list_is_kept_up_to_its_limit_and_counted_beyond() {
        let list = list(raw("[{},null,{\"a\":1},3,{}]"), 2, is_object).unwrap();
        let first: Vec<_> = list.first.iter().map(|entry| entry.get()).collect();
        assert_eq!((first, list.len), (vec!["{}", "{\"a\":1}"], 3));
        assert!(super::list(raw("{}"), 2, is_object).is_none());
    }

    #[test]
    fn srv_1756_an_object_is_as_long_as_it_will_be_written_whatever_it_was_sent_as() {
        for json in [
            "{}",
            r#" { "a" : [ 1 , -2.5 , 1e3 , true , null ] , "b" : { } } "#,
            r#"{"\u00e9":"\u00e9\n\"\\","c":[[],[[]],{"d":{"e":"f","g":18446744073709551615}}]}"#,
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            let len = value.to_string().len();
            let read = object(raw(json), len, &[]).unwrap();
            assert_eq!(Value::Object(read), value);
            let over = object(raw(json), len - 1, &[]).unwrap_err();
            assert_eq!(over, Unfit::TooLong { len });
        }
    }

    #[test]
    fn srv_1756_a_field_that_does_not_count_does_if_it_is_long() {
        let json = json!({ "a": 1, "phx_ref": "F".repeat(16) }).to_string();
        assert!(object(raw(&json), 7, &["phx_ref"]).is_ok());
        assert!(object(raw(&json), 7, &[]).is_err());
        let json = json!({ "a": 1, "phx_ref": vec![0; 100] }).to_string();
        let len = json.len();
        let over = object(raw(&json), 7, &["phx_ref"]).unwrap_err();
        assert_eq!(over, Unfit::TooLong { len });
    }

    #[test]
    fn srv_1756_what_is_no_object_or_cannot_be_read_is_told() {
        let found = "a list";
        assert_eq!(object(raw("[]"), 9, &[]), Err(Unfit::Kind { found }));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let Err(Unfit::Unreadable { why }) = object(raw(&deep), 1_000, &[]) else {
            panic!("it is too deep");
        };
        assert!(why.starts_with("recursion limit exceeded"), "{why}");
    }
}
