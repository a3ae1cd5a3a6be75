//! Reads values that are lists.

use toml::de::DeValue;

use super::{Raw, Refusal, SwitchOrTexts};

/// What a list is to be, and how one is written.
pub(crate) struct ListForm {
    /// What it is, such as `a list of addresses`.
    pub(crate) what: &'static str,
    /// Entries that it may have.
    pub(crate) such_as: &'static [&'static str],
    /// What each of them must be, if that is not said yet.
    pub(crate) each: &'static str,
}

impl ListForm {
    /// As a file has it.
    pub(crate) fn in_toml(&self) -> String {
        let entries: Vec<String> = self.such_as.iter().map(|e| format!("{e:?}")).collect();
        self.written(&format!("[{}]", entries.join(", ")))
    }

    /// As whoever wrote `raw` has to write it.
    fn expected(&self, raw: Raw<'_>) -> String {
        match raw {
            Raw::Text(_) => self.written(&format!("\"{}\"", self.such_as.join(","))),
            Raw::Toml(_) => self.in_toml(),
        }
    }

    fn written(&self, entries: &str) -> String {
        let Self { what, each, .. } = self;
        match each.is_empty() {
            true => format!("{what} such as {entries}"),
            false => format!("{what} such as {entries}, each {each}"),
        }
    }
}

/// Reads a list of secrets; a refusal says which entries are wrong and in what, and shows none.
pub(super) fn secrets(
    raw: Raw<'_>,
    form: &ListForm,
    wrong: fn(&str) -> Option<String>,
) -> Result<Vec<String>, Refusal> {
    let refusal = |value: String| Refusal::Type {
        value,
        expected: form.expected(raw),
    };
    let list = texts(raw, form, |_| true, |_| String::new())
        .map_err(|_| refusal("not a list of texts".to_owned()))?;
    let wrong = (1..).zip(&list).filter_map(|(at, text)| {
        let what = wrong(text)?;
        Some(format!("in entry {at} ({what})"))
    });
    let wrong: Vec<String> = wrong.collect();
    match wrong.is_empty() {
        true => Ok(list),
        false => Err(refusal(format!("wrong {}", wrong.join(" and ")))),
    }
}

/// Reads `true`, `false`, or a list of texts.
pub(super) fn switch_or_texts(
    raw: Raw<'_>,
    form: &ListForm,
    check: fn(&str) -> bool,
) -> Result<SwitchOrTexts, Refusal> {
    if let Some(on) = raw.switch() {
        return Ok(SwitchOrTexts::Switch(on));
    }
    texts(raw, form, check, |raw| raw.show()).map(SwitchOrTexts::Texts)
}

/// Texts come as a TOML list, or separated by commas in the environment and in flags, which may
/// have the TOML list as well. A refusal of entries of several says which.
pub(super) fn texts(
    raw: Raw<'_>,
    form: &ListForm,
    check: fn(&str) -> bool,
    show: fn(Raw<'_>) -> String,
) -> Result<Vec<String>, Refusal> {
    let expected = form.expected(raw);
    match raw {
        Raw::Text(text) => match in_brackets(text) {
            Some(Ok(list)) => read(Raw::Toml(&list), &expected, check, show),
            Some(Err(NotToml)) => Err(raw.not_as(show, &expected)),
            None => read(raw, &expected, check, show),
        },
        Raw::Toml(_) => read(raw, &expected, check, show),
    }
}

/// Something in brackets that is no list of TOML.
struct NotToml;

/// The list of TOML that a text from the environment or from a flag is, if it is meant to be one.
/// One that begins with an address of IPv6 is not, unless it ends with a bracket, too.
fn in_brackets(text: &str) -> Option<Result<DeValue<'_>, NotToml>> {
    let text = text.trim();
    let inner = text.strip_prefix('[')?.trim_start();
    match DeValue::parse(text).map(toml::Spanned::into_inner) {
        Ok(list) => Some(Ok(list)),
        Err(_) => (inner.starts_with(['"', '\'']) || inner.ends_with(']')).then_some(Err(NotToml)),
    }
}

fn read(
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
    // Another list among the entries, as of a flag that is given again, is no entry.
    let is_list = |entry: &Raw<'_>| matches!(entry, Raw::Text(text) if in_brackets(text).is_some());
    let text_of = |entry: &Raw<'_>| {
        let text = entry.text().filter(|text| check(text) && !is_list(entry));
        text.map(str::to_owned)
    };
    let wrong = (1..)
        .zip(&entries)
        .filter(|(_, entry)| text_of(entry).is_none());
    let wrong = wrong.map(|(at, entry)| match is_one_of_many {
        true => format!("{} in entry {at}", show(*entry)),
        false => show(*entry),
    });
    let wrong: Vec<String> = wrong.collect();
    match wrong.is_empty() {
        true => Ok(entries.iter().filter_map(text_of).collect()),
        false => Err(Refusal::Type {
            value: wrong.join(" and "),
            expected: expected.to_owned(),
        }),
    }
}
