//! Reads values that are lists.

use toml::de::DeValue;

use super::{Raw, Refusal, SwitchOrTexts};

/// Reads a list of secrets; a refusal says which entry it was, and shows none.
pub(super) fn secrets(
    raw: Raw<'_>,
    expected: &str,
    check: fn(&str) -> bool,
) -> Result<Vec<String>, Refusal> {
    let refusal = |value: String| Refusal::Type {
        value,
        expected: expected.to_owned(),
    };
    let list = texts(raw, expected, |_| true, |_| String::new())
        .map_err(|_| refusal("not a list of texts".to_owned()))?;
    match list.iter().position(|text| !check(text)) {
        Some(at) => Err(refusal(format!("wrong in entry {}", at + 1))),
        None => Ok(list),
    }
}

/// Reads `true`, `false`, or a list of texts.
pub(super) fn switch_or_texts(
    raw: Raw<'_>,
    expected: &str,
    check: fn(&str) -> bool,
) -> Result<SwitchOrTexts, Refusal> {
    if let Some(on) = raw.switch() {
        return Ok(SwitchOrTexts::Switch(on));
    }
    texts(raw, expected, check, |raw| raw.show()).map(SwitchOrTexts::Texts)
}

/// Texts come as a TOML list, or separated by commas in the environment and in flags. A refusal of
/// one entry of several says which.
pub(super) fn texts(
    raw: Raw<'_>,
    expected: &str,
    check: fn(&str) -> bool,
    show: fn(Raw<'_>) -> String,
) -> Result<Vec<String>, Refusal> {
    let entries: Vec<Raw<'_>> = match raw {
        Raw::Text(text) => text.split(',').map(Raw::Text).collect(),
        Raw::Toml(DeValue::Array(list)) => {
            let entries = list.iter().map(|item| Raw::Toml(item.get_ref()));
            entries.collect()
        }
        Raw::Toml(_) => return Err(raw.not_as(show, expected)),
    };
    let is_one_of_many = entries.len() > 1 || matches!(raw, Raw::Toml(_));
    let read = |(at, entry): (usize, &Raw<'_>)| {
        let text = entry.text().filter(|text| check(text));
        text.map(str::to_owned).ok_or_else(|| {
            let named = |entry| match is_one_of_many {
                true => format!("{} in entry {}", show(entry), at + 1),
                false => show(entry),
            };
            entry.not_as(named, expected)
        })
    };
    entries.iter().enumerate().map(read).collect()
}
