//! Query strings with brackets, as Phoenix clients write them: `user[name]=ada&tags[]=a`.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Pairs that one query may have.
const MAX_PAIRS: usize = 1_000;
/// Brackets that one name may have.
const MAX_BRACKETS: usize = 16;

/// Why a query string is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("query has more than {MAX_PAIRS} pairs")]
    TooManyPairs,
    #[error("query has a name with more than {MAX_BRACKETS} brackets")]
    TooDeep,
    #[error("query is not UTF-8 when percent-decoded")]
    NotUtf8,
}

/// Decodes a query into a map of strings, lists and maps.
///
/// A name without `=` has the empty string as its value. Of two values for one name the later
/// wins, unless the name ends in `[]`, which makes a list.
///
/// # Errors
///
/// [`QueryError`] at a limit, or if a name or value is not UTF-8.
pub(crate) fn parse_query(query: &str) -> Result<Map<String, Value>, QueryError> {
    let mut params = Map::new();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    for (n, pair) in pairs.enumerate() {
        if n == MAX_PAIRS {
            return Err(QueryError::TooManyPairs);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (percent_decode(name)?, percent_decode(value)?);
        insert(&mut params, name, value.into_owned())?;
    }
    Ok(params)
}

/// The values that a query has for a plain name, in its order; those that are not text are left
/// out.
pub(crate) fn texts<'a>(
    query: &'a str,
    name: &'a str,
) -> impl DoubleEndedIterator<Item = String> + 'a {
    query.split('&').filter_map(move |pair| {
        let (written, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_it = percent_decode(written).is_ok_and(|written| written == name);
        let value = is_it.then(|| percent_decode(value))?.ok()?;
        Some(value.into_owned())
    })
}

/// Puts `value` under `name`, which may have brackets: `a`, `a[b]`, `a[]`, `a[b][]`.
fn insert(
    params: &mut Map<String, Value>,
    name: Cow<'_, str>,
    value: String,
) -> Result<(), QueryError> {
    let Some((first, brackets)) = split_brackets(&name) else {
        params.insert(name.into_owned(), Value::String(value));
        return Ok(());
    };
    let keys: Vec<&str> = brackets.split("][").collect();
    if keys.len() > MAX_BRACKETS {
        return Err(QueryError::TooDeep);
    }
    let mut place = params.entry(first).or_insert(Value::Null);
    for key in keys {
        place = if key.is_empty() {
            next_in_list(place)
        } else {
            field_of_map(place, key)
        };
    }
    *place = Value::String(value);
    Ok(())
}

/// Splits `a[b][c]` into `a` and `b][c`; `None` if the name has no well-formed brackets.
fn split_brackets(name: &str) -> Option<(&str, &str)> {
    let (first, rest) = name.split_once('[')?;
    let brackets = rest.strip_suffix(']')?;
    (!first.is_empty()).then_some((first, brackets))
}

fn next_in_list(place: &mut Value) -> &mut Value {
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    let list = place.as_array_mut().expect("made an array above");
    list.push(Value::Null);
    list.last_mut().expect("pushed above")
}

fn field_of_map<'a>(place: &'a mut Value, key: &str) -> &'a mut Value {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    let map = place.as_object_mut().expect("made a map above");
    map.entry(key).or_insert(Value::Null)
}

/// Decodes `%41` and `+`. A `%` that two hex digits do not follow stands for itself.
fn percent_decode(text: &str) -> Result<Cow<'_, str>, QueryError> {
    if ![b'%', b'+']
        .iter()
        .any(|byte| text.as_bytes().contains(byte))
    {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let (byte, after) = match (first, rest) {
            (b'+', _) => (b' ', rest),
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', rest),
            },
            (byte, _) => (*byte, rest),
        };
        decoded.push(byte);
        bytes = after;
    }
    let decoded = String::from_utf8(decoded).map_err(|_| QueryError::NotUtf8)?;
    Ok(Cow::Owned(decoded))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(query: &str) -> Value {
        Value::Object(parse_query(query).unwrap())
    }

    #[test]
    fn soc_103_query_names_with_brackets_become_maps_and_lists() {
        assert_eq!(parse(""), json!({}));
        assert_eq!(
            parse("vsn=2.0.0&a=1&a=2&b&=x"),
            json!({"vsn": "2.0.0", "a": "2", "b": "", "": "x"})
        );
        assert_eq!(
            parse("u[name]=ada&u[age]=36"),
            json!({"u": {"name": "ada", "age": "36"}})
        );
        assert_eq!(
            parse("u%5Btags%5D%5B%5D=a&u[tags][]=b"),
            json!({"u": {"tags": ["a", "b"]}})
        );
        assert_eq!(parse("vsn[]=1"), json!({"vsn": ["1"]}));
        assert_eq!(parse("a=1&a[b]=2"), json!({"a": {"b": "2"}}));
        assert_eq!(
            parse("[]=1&a[=2&[x]=3"),
            json!({"[]": "1", "a[": "2", "[x]": "3"})
        );
        assert_eq!(parse("s=a+b%20c%2B%zz%4"), json!({"s": "a b c+%zz%4"}));
        assert_eq!(parse("n=%C3%A5"), json!({"n": "å"}));
    }

    #[test]
    fn soc_104_query_limits_are_errors() {
        assert_eq!(parse_query("a=%ff"), Err(QueryError::NotUtf8));
        assert_eq!(
            parse_query(&"a=1&".repeat(1_001)),
            Err(QueryError::TooManyPairs)
        );
        assert!(parse_query(&"a=1&".repeat(1_000)).is_ok());
        let name = |n| format!("a{}=1", "[b]".repeat(n));
        assert_eq!(parse_query(&name(17)), Err(QueryError::TooDeep));
        assert!(parse_query(&name(16)).is_ok());
    }
}
