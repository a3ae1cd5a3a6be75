//! The JSON of a meta: made once when it is tracked, then kept and joined as bytes.
//!
//! A stored meta is one JSON object without `phx_ref` and `phx_ref_prev`. They are derived from the
//! row and put in when the meta is rendered, so a client's own fields of these names never get out.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use herenow_core::Row;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The fields that are ours.
const REF: &str = "phx_ref";
const PREV_REF: &str = "phx_ref_prev";
/// What the two fields add to a meta at most, with their punctuation.
pub(crate) const MAX_REF_BYTES: usize = 64;

/// Why a value is no meta.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// It is JSON, but not an object.
    #[error("a meta is a JSON object, not {found}")]
    NotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// It cannot be written as JSON.
    #[error("the meta cannot be written as JSON: {reason}")]
    NotJson {
        /// What the serializer said.
        reason: String,
    },
    /// It is too large.
    #[error("the meta is {len} bytes of JSON, the limit is {max}")]
    TooLarge {
        /// Its size in bytes.
        len: usize,
        /// The configured limit.
        max: usize,
    },
}

/// Writes a value as the JSON object that a row stores.
pub(crate) fn prepare(meta: &impl Serialize, max_bytes: usize) -> Result<String, MetaError> {
    let mut json = serde_json::to_string(meta).map_err(|error| not_json(&error))?;
    if !json.starts_with('{') || !json.ends_with('}') {
        let found = kind_of(json.as_bytes());
        return Err(MetaError::NotAnObject { found });
    }
    let max = max_bytes;
    let check = |len, with_refs| match len > max.saturating_add(with_refs) {
        true => Err(MetaError::TooLarge { len, max }),
        false => Ok(()),
    };
    check(json.len(), MAX_REF_BYTES)?;
    if may_hold_ref(json.as_bytes()) {
        json = without_refs(&json)?;
    }
    check(json.len(), 0)?;
    Ok(json)
}

/// Returns whether a row may store this: what [`prepare`] writes, as far as rendering needs it.
///
/// For metas that come from other nodes.
pub(crate) fn is_stored_form(json: &str) -> bool {
    let is_object = json.starts_with('{') && json.ends_with('}');
    is_object && serde_json::from_str::<IgnoredAny>(json).is_ok()
}

/// Returns the meta of a row as a map, with its refs, as update functions get it.
pub(crate) fn to_map(row: &Row) -> Map<String, Value> {
    let mut map: Map<String, Value> =
        serde_json::from_slice(row.meta().as_bytes()).unwrap_or_default();
    map.insert(REF.into(), Value::String(row.meta_ref().as_str().into()));
    if let Some(prev) = row.prev_ref() {
        map.insert(PREV_REF.into(), Value::String(prev.as_str().into()));
    }
    map
}

/// Writes the meta of a row with its refs.
pub(crate) fn render(row: &Row, out: &mut Vec<u8>) {
    let meta = row.meta().as_bytes();
    let body = meta.strip_suffix(b"}").unwrap_or(b"{");
    out.extend_from_slice(body);
    // Each field in one piece: this runs for every presence of every changed list.
    let mut field = *b",\"phx_ref\":\"0123456789abcdef\"}";
    field[12..28].copy_from_slice(row.meta_ref().as_str().as_bytes());
    let is_first = body[1..].iter().all(u8::is_ascii_whitespace);
    out.extend_from_slice(if is_first { &field[1..] } else { &field });
    if let Some(prev) = row.prev_ref() {
        let mut field = *b",\"phx_ref_prev\":\"0123456789abcdef\"}";
        field[17..33].copy_from_slice(prev.as_str().as_bytes());
        out.pop();
        out.extend_from_slice(&field);
    }
}

/// Writes a text as a JSON string.
pub(crate) fn render_text(text: &str, out: &mut Vec<u8>) {
    let is_plain = text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if is_plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a Vec takes all bytes of a text");
    }
}

/// Writes a value's fields as they stand between the braces of an object, without field `except`.
pub(crate) fn fields_without(
    value: &impl Serialize,
    except: &'static str,
) -> Result<Bytes, MetaError> {
    let json = serde_json::to_vec(value).map_err(|error| not_json(&error))?;
    if json.first() != Some(&b'{') || json.last() != Some(&b'}') {
        return Err(MetaError::NotAnObject {
            found: kind_of(&json),
        });
    }
    let json = if contains(&json, except.as_bytes()) || json.contains(&b'\\') {
        without(&json, &[except])?
    } else {
        json
    };
    let end = json.len() - 1;
    Ok(Bytes::from(json).slice(1..end))
}

fn kind_of(json: &[u8]) -> &'static str {
    match json.first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) => "a number",
        None => "nothing",
    }
}

fn not_json(error: &serde_json::Error) -> MetaError {
    MetaError::NotJson {
        reason: error.to_string(),
    }
}

/// Returns whether a reserved name may be in there; names can also be spelled with escapes.
fn may_hold_ref(json: &[u8]) -> bool {
    contains(json, REF.as_bytes()) || json.contains(&b'\\')
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn without_refs(json: &str) -> Result<String, MetaError> {
    let json = without(json.as_bytes(), &[REF, PREV_REF])?;
    String::from_utf8(json).map_err(|error| MetaError::NotJson {
        reason: error.to_string(),
    })
}

/// Writes an object again without some of its top-level fields; the rest stays as it is.
fn without(json: &[u8], names: &[&str]) -> Result<Vec<u8>, MetaError> {
    let fields: Fields<'_> = serde_json::from_slice(json).map_err(|error| not_json(&error))?;
    let mut out = Vec::with_capacity(json.len());
    out.push(b'{');
    for (name, value) in &fields.0 {
        if names.contains(&&**name) {
            continue;
        }
        if out.len() > 1 {
            out.push(b',');
        }
        render_text(name, &mut out);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    Ok(out)
}

/// The fields of an object in their order, values untouched.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    fields.push((name.0, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A field's name, borrowed unless it holds escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prepared(meta: &Value) -> String {
        prepare(meta, 1000).unwrap()
    }

    #[test]
    fn prs_01_reserved_fields_are_dropped_however_they_are_spelled() {
        assert_eq!(prepared(&json!({"a": 1})), r#"{"a":1}"#);
        assert_eq!(
            prepared(&json!({"phx_ref": "x", "a": 1, "phx_ref_prev": 2})),
            r#"{"a":1}"#
        );
        assert_eq!(prepared(&json!({"phx_ref": {"deep": []}})), "{}");
        let escaped: Box<RawValue> =
            serde_json::from_str(r#"{"phx\u005fref":"x","b":1e400,"c":"\\"}"#).unwrap();
        let kept = prepare(&escaped, 1000).unwrap();
        assert_eq!(kept, r#"{"b":1e400,"c":"\\"}"#);
        let nested = json!({"a": {"phx_ref": "deeper ones are data"}});
        assert_eq!(prepared(&nested), nested.to_string());
    }

    #[test]
    fn prs_02_a_meta_is_an_object_within_its_limit() {
        let refused = |value: Value| prepare(&value, 10).unwrap_err().to_string();
        assert_eq!(refused(json!([1])), "a meta is a JSON object, not an array");
        assert_eq!(refused(json!("x")), "a meta is a JSON object, not a string");
        assert_eq!(refused(json!(null)), "a meta is a JSON object, not null");
        assert_eq!(refused(json!(7)), "a meta is a JSON object, not a number");
        let too_large = prepare(&json!({"long": "0123456789"}), 10);
        assert_eq!(too_large, Err(MetaError::TooLarge { len: 21, max: 10 }));
        assert_eq!(prepare(&json!({}), 10).unwrap(), "{}");
    }

    #[test]
    fn srv_1765_a_meta_that_is_too_long_is_not_looked_into() {
        let back =
            json!({"a": 1, "phx_ref": "0123456789abcdef", "phx_ref_prev": "0123456789abcdef"});
        assert_eq!(
            prepare(&back, 7).unwrap(),
            r#"{"a":1}"#,
            "as a client got it"
        );
        let own = json!({"a": 1, "phx_ref": vec![0; 100]});
        let len = own.to_string().len();
        assert_eq!(prepare(&own, 7), Err(MetaError::TooLarge { len, max: 7 }));
    }

    #[test]
    fn cod_585_only_a_json_object_is_a_stored_meta() {
        for good in ["{}", r#"{"a":1}"#, r#"{"a":{"b":[1,"}"]}}"#] {
            assert!(is_stored_form(good), "{good}");
        }
        for bad in [
            "",
            "}",
            "{",
            "[]",
            " {}",
            "{} ",
            "{}{}",
            r#"{"a":!}"#,
            "{\"a\":1}\n{}",
        ] {
            assert!(!is_stored_form(bad), "{bad}");
        }
    }

    #[test]
    fn texts_are_escaped_only_where_needed() {
        for text in [
            "plain",
            "",
            "café 🚀",
            "quote\"",
            "back\\slash",
            "line\nfeed",
            "\u{0}",
        ] {
            let mut out = Vec::new();
            render_text(text, &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn fields_lose_the_one_that_is_taken() {
        let fields = |value: Value| fields_without(&value, "metas").unwrap();
        assert_eq!(fields(json!({"extra": 1})), r#""extra":1"#);
        assert_eq!(fields(json!({"metas": [], "extra": 1})), r#""extra":1"#);
        assert_eq!(fields(json!({"metas": []})), "");
        assert!(fields_without(&7, "metas").is_err());
    }
}
