//! A value as a source has it, and why it is refused.

use std::net::{Ipv4Addr, SocketAddr};

use toml::de::DeValue;

use super::super::units::{parse_size, show_size};
use super::super::url;

const A_SIZE: &str = "a size such as 65536 or \"64KiB\" (units: B, kB, MB, GB, KiB, MiB, GiB)";

/// A value as a source has it.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// From the environment or a flag: text, to be read as whatever the key wants.
    Text(&'a str),
    /// From the file, with TOML's own type.
    Toml(&'a DeValue<'a>),
}

/// Why a value was refused: the value as it was given, and what it must be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not of the key's type.
    Type { value: String, expected: String },
    /// Of the key's type, outside its limits.
    Range { value: String, limit: String },
}

impl<'a> Raw<'a> {
    pub(super) fn switch(self) -> Option<bool> {
        match self {
            Self::Text("true") | Self::Toml(DeValue::Boolean(true)) => Some(true),
            Self::Text("false") | Self::Toml(DeValue::Boolean(false)) => Some(false),
            Self::Text(_) | Self::Toml(_) => None,
        }
    }

    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text.trim()),
            Self::Toml(value) => value.as_str(),
        }
    }

    /// A whole number: `None` if it is something else, an error if it is one below zero or beyond
    /// all limits.
    pub(super) fn count(self) -> Option<Result<usize, Refusal>> {
        let digits = match self {
            Self::Text(text) => text.trim(),
            Self::Toml(value) => value.as_integer().filter(|int| int.radix() == 10)?.as_str(),
        };
        let digits = digits.replace('_', "");
        let digits = digits.strip_prefix('+').unwrap_or(&digits);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits.strip_prefix('-').is_some_and(is_number) {
            let limit = "zero or more".to_owned();
            return Some(Err(Refusal::Range {
                value: digits.to_owned(),
                limit,
            }));
        }
        is_number(digits).then(|| Ok(digits.parse().unwrap_or(usize::MAX)))
    }

    pub(super) fn count_within(self, min: usize, max: usize) -> Result<usize, Refusal> {
        let count = self.count().ok_or_else(|| self.not("a whole number"))?;
        within(count?, min, max, |count| count.to_string())
    }

    pub(super) fn size_within(self, min: usize, max: usize) -> Result<usize, Refusal> {
        let size = self.size().ok_or_else(|| self.not(A_SIZE))?;
        within(size?, min, max, show_size)
    }

    pub(super) fn size(self) -> Option<Result<usize, Refusal>> {
        match self.text().and_then(parse_size) {
            Some(size) => Some(Ok(size)),
            None => self.count(),
        }
    }

    pub(super) fn not(self, expected: &str) -> Refusal {
        self.not_as(Self::show, expected)
    }

    pub(super) fn not_as(self, show: impl Fn(Self) -> String, expected: &str) -> Refusal {
        Refusal::Type {
            value: show(self),
            expected: expected.to_owned(),
        }
    }

    /// A URL as an error shows it.
    pub(super) fn show_url(self) -> String {
        match self.text().map(url::shown) {
            Some(Some(shown)) => format!("{shown:?}"),
            Some(None) => "no URL".to_owned(),
            None => self.show(),
        }
    }

    /// The value as an error shows it: with its type where that may be what is wrong.
    pub(in crate::config) fn show(self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Toml(DeValue::String(text)) => format!("{text:?}"),
            Self::Toml(DeValue::Integer(int)) => format!("the number {}", int.as_str()),
            Self::Toml(DeValue::Float(float)) => format!("the number {}", float.as_str()),
            Self::Toml(DeValue::Boolean(on)) => on.to_string(),
            Self::Toml(DeValue::Datetime(time)) => format!("the time {time}"),
            Self::Toml(DeValue::Array(_)) => "a list".to_owned(),
            Self::Toml(DeValue::Table(_)) => "a table".to_owned(),
        }
    }
}

/// Reads an address; `localhost` stands for 127.0.0.1, other names are not looked up.
pub(in crate::config) fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()),
        None => text.parse().ok(),
    }
}

pub(super) fn within<T: PartialOrd>(
    value: T,
    min: T,
    max: T,
    show: impl Fn(T) -> String,
) -> Result<T, Refusal> {
    let limit = if value < min {
        format!("at least {}", show(min))
    } else if value > max {
        format!("at most {}", show(max))
    } else {
        return Ok(value);
    };
    Err(Refusal::Range {
        value: show(value),
        limit,
    })
}

/// Reads a text that `check` accepts; its refusal has it as `show` says.
pub(super) fn checked(
    raw: Raw<'_>,
    expected: &str,
    check: fn(&str) -> bool,
    show: fn(Raw<'_>) -> String,
) -> Result<String, Refusal> {
    let text = raw.text().filter(|text| check(text));
    let text = text.ok_or_else(|| raw.not_as(show, expected))?;
    Ok(text.to_owned())
}

/// A secret's refusal never shows it: an error ends up in a terminal or a log.
pub(super) fn secret(raw: Raw<'_>, min_bytes: usize) -> Result<String, Refusal> {
    let Some(text) = raw.text() else {
        return Err(Refusal::Type {
            value: "not text".to_owned(),
            expected: "text".to_owned(),
        });
    };
    if text.len() < min_bytes {
        let value = format!("{} bytes long", text.len());
        return Err(Refusal::Range {
            value,
            limit: format!("at least {min_bytes} bytes"),
        });
    }
    Ok(text.to_owned())
}
