//! Pieces that both formats are made of: JSON strings, raw values, version numbers.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::{DecodeError, MAX_DEPTH, MAX_REF_BYTES};
use crate::message::{JoinRef, MessageRef, WireText};

/// One piece of a text frame.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// Goes in as it stands.
    Raw(&'a [u8]),
    /// Goes in as a JSON string.
    Text(&'a str),
}

impl<'a> From<&'a str> for Part<'a> {
    fn from(text: &'a str) -> Self {
        Part::Text(text)
    }
}

impl<'a> From<&'a WireText> for Part<'a> {
    fn from(value: &'a WireText) -> Self {
        match value.as_text() {
            Some(text) => Part::Text(text),
            None => Part::Raw(value.as_str().as_bytes()),
        }
    }
}

impl<'a> From<Option<&'a JoinRef>> for Part<'a> {
    fn from(join_ref: Option<&'a JoinRef>) -> Self {
        join_ref.map_or(Part::Raw(b"null"), |join_ref| (&join_ref.0).into())
    }
}

impl<'a> From<Option<&'a MessageRef>> for Part<'a> {
    fn from(message_ref: Option<&'a MessageRef>) -> Self {
        message_ref.map_or(Part::Raw(b"null"), |message_ref| (&message_ref.0).into())
    }
}

impl<'a> Part<'a> {
    fn len(self) -> usize {
        match self {
            Part::Raw(bytes) => bytes.len(),
            Part::Text(text) => 2 + text.bytes().map(escaped_len).sum::<usize>(),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Part::Raw(bytes) => out.extend_from_slice(bytes),
            Part::Text(text) => write_string(out, text),
        }
    }

    /// The characters themselves, as a binary frame holds them.
    pub(super) fn plain(self) -> &'a [u8] {
        match self {
            Part::Raw(bytes) => bytes,
            Part::Text(text) => text.as_bytes(),
        }
    }
}

/// Puts the parts together in one allocation of exactly the right size.
///
/// Exactly, because `Bytes` takes a full `Vec` over as it is and gives others a second allocation.
pub(super) fn assemble(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        part.write(&mut out);
    }
    out
}

fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..=0x1f => 6,
        _ => 1,
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if escaped_len(byte) == 1 {
            continue;
        }
        out.extend_from_slice(&bytes[clean..at]);
        write_escape(out, byte);
        clean = at + 1;
    }
    out.extend_from_slice(&bytes[clean..]);
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// The frame as text, if it is UTF-8 and not nested too deep.
pub(super) fn checked_text(frame: &Bytes) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(frame).map_err(|_| DecodeError::Utf8 { field: "frame" })?;
    check_depth(frame)?;
    Ok(text)
}

/// Raw values are skipped without recursion and so without serde_json's own limit. Whoever reads
/// a payload later has that limit, so what could not be read there is refused here.
fn check_depth(frame: &[u8]) -> Result<(), DecodeError> {
    let n_openings = frame
        .iter()
        .filter(|&&byte| byte == b'[' || byte == b'{')
        .count();
    if n_openings <= MAX_DEPTH || depth(frame) <= MAX_DEPTH {
        return Ok(());
    }
    Err(DecodeError::TooDeep { max: MAX_DEPTH })
}

fn depth(frame: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string) = (0_usize, 0, false);
    let mut bytes = frame.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A topic: a string or, from a client at fault, anything.
pub(super) fn topic(raw: &RawValue) -> Result<WireText, DecodeError> {
    Ok(match string(raw)? {
        Some(text) => WireText::text(text),
        None => WireText::json(raw.get()),
    })
}

/// An event: a string, or the JSON text of anything else.
pub(super) fn event(raw: &RawValue) -> Result<SmolStr, DecodeError> {
    Ok(string(raw)?.unwrap_or_else(|| SmolStr::new(raw.get())))
}

pub(super) fn join_ref(raw: &RawValue) -> Result<Option<JoinRef>, DecodeError> {
    Ok(reference("join_ref", raw)?.map(JoinRef))
}

pub(super) fn message_ref(raw: &RawValue) -> Result<Option<MessageRef>, DecodeError> {
    Ok(reference("ref", raw)?.map(MessageRef))
}

fn reference(field: &'static str, raw: &RawValue) -> Result<Option<WireText>, DecodeError> {
    if raw.get() == "null" {
        return Ok(None);
    }
    let value = topic(raw)?;
    let len = value.as_str().len();
    if len > MAX_REF_BYTES {
        return Err(DecodeError::FieldTooLong {
            field,
            len,
            max: MAX_REF_BYTES,
        });
    }
    Ok(Some(value))
}

/// The characters of a JSON string; `None` if the value is of another type.
pub(crate) fn string(raw: &RawValue) -> Result<Option<SmolStr>, DecodeError> {
    let json = raw.get();
    let Some(inner) = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Ok(None);
    };
    if !inner.as_bytes().contains(&b'\\') {
        return Ok(Some(SmolStr::new(inner)));
    }
    let text: Cow<'_, str> = serde_json::from_str(json)?;
    Ok(Some(SmolStr::new(text)))
}

/// The fields of an object, in order, duplicates included.
pub(crate) type Fields<'a> = SmallVec<[(SmolStr, &'a RawValue); 8]>;

struct FieldName(SmolStr);

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = FieldName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, name: &str) -> Result<FieldName, E> {
                Ok(FieldName(SmolStr::new(name)))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Reads an object without reading its values.
pub(crate) fn object(json: &str) -> Result<Fields<'_>, serde_json::Error> {
    struct FieldsVisitor;
    impl<'de> Visitor<'de> for FieldsVisitor {
        type Value = Fields<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Fields::new();
            while let Some(field) = map.next_entry::<FieldName, &'de RawValue>()? {
                fields.push((field.0.0, field.1));
            }
            Ok(fields)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let fields = deserializer.deserialize_map(FieldsVisitor)?;
    deserializer.end()?;
    Ok(fields)
}

/// The value of the last field of that name: of duplicate keys, the last one counts.
pub(crate) fn find<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields
        .iter()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, raw)| *raw)
}

/// Major and minor of a semantic version that its own release does not come after.
///
/// `2.0.0-rc.1` comes before 2.0.0 and so does not satisfy `~> 2.0.0`; `2.0.1-rc.1` does.
pub(super) fn parse_patch_release(version: &str) -> Option<(&str, &str)> {
    let (version, build) = split_once_or_none(version, '+');
    let (release, pre) = split_once_or_none(version, '-');
    let mut numbers = release.split('.');
    let (major, minor, patch) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let is_well_formed = numbers.next().is_none()
        && [major, minor, patch].into_iter().all(is_number)
        && pre.is_none_or(|pre| pre.split('.').all(is_identifier))
        && build.is_none_or(|build| build.split('.').all(is_word));
    let is_before_its_release = pre.is_some() && patch == "0";
    (is_well_formed && !is_before_its_release).then_some((major, minor))
}

fn split_once_or_none(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at)
        .map_or((text, None), |(head, tail)| (head, Some(tail)))
}

fn is_number(text: &str) -> bool {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits && (text == "0" || !text.starts_with('0'))
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_identifier(text: &str) -> bool {
    is_word(text) && (is_number(text) || !text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_allocated_once_and_exactly() {
        let odd = "\"\\\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}é🚀/";
        let frame = assemble(&[Part::Raw(b"["), Part::Text(odd), Part::Raw(b"]")]);
        assert_eq!(frame.len(), frame.capacity());
        assert_eq!(frame, serde_json::to_vec(&[odd]).unwrap());
    }

    #[test]
    fn depth_counts_what_is_open_at_once() {
        for (text, expected) in [
            ("", 0),
            ("1", 0),
            ("[]", 1),
            ("[{},[]]", 2),
            (r#"["[\"{",[]]"#, 2),
            ("]]][", 1),
        ] {
            assert_eq!(depth(text.as_bytes()), expected, "{text}");
        }
    }
}
