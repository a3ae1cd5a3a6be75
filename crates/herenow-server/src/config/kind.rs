//! What a configured value may be: its type, its limits, and how a refusal of it reads.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use toml::de::DeValue;

use super::units::{parse_duration, parse_size, show_duration, show_size};

const A_SIZE: &str = "a size such as 65536 or \"64KiB\" (units: B, kB, MB, GB, KiB, MiB, GiB)";
const A_DURATION: &str = "a duration such as \"30s\" (units: us, ms, s, m, h, d)";
const AN_ADDRESS: &str = "an IP address and port such as \"127.0.0.1:4000\"";

/// One key of a table of configuration: its name, what it is for, and where its value goes.
pub(crate) struct Key<C: 'static> {
    /// The key's path in the file, such as `socket.idle_timeout`.
    pub(crate) name: &'static str,
    /// One line for people, without a full stop.
    pub(crate) help: &'static str,
    /// The type of the value, with its limits and its place in `C`.
    pub(crate) kind: Kind<C>,
}

/// The types of values, each with its limits and the two ways between it and the configuration `C`.
pub(crate) enum Kind<C: 'static> {
    /// `true` or `false`; as a flag, its bare name is `true`.
    Switch {
        get: fn(&C) -> Option<bool>,
        set: fn(&mut C, bool),
    },
    /// A whole number from `min` to `max`.
    Count {
        min: usize,
        max: usize,
        get: fn(&C) -> usize,
        set: fn(&mut C, usize),
    },
    /// A number of bytes from `min` to `max`, with or without a unit.
    Size {
        min: usize,
        max: usize,
        get: fn(&C) -> usize,
        set: fn(&mut C, usize),
    },
    /// A duration from `min` to `max`, always with a unit.
    Duration {
        min: Duration,
        max: Duration,
        get: fn(&C) -> Duration,
        set: fn(&mut C, Duration),
    },
    /// An IP address and port.
    Address {
        get: fn(&C) -> SocketAddr,
        set: fn(&mut C, SocketAddr),
    },
    /// One of a few words.
    Choice {
        words: &'static [&'static str],
        get: fn(&C) -> &'static str,
        set: fn(&mut C, &str),
    },
    /// Text that `check` accepts; `expected` says what that is.
    Text {
        expected: &'static str,
        check: fn(&str) -> bool,
        get: fn(&C) -> String,
        set: fn(&mut C, String),
    },
    /// Text that `check` accepts and that has no default; `show` is how the configured one is shown.
    MaybeText {
        expected: &'static str,
        check: fn(&str) -> bool,
        show: fn(&C) -> Option<String>,
        set: fn(&mut C, String),
    },
    /// A list of texts that `check` accepts; as a flag, it can be repeated.
    Texts {
        expected: &'static str,
        check: fn(&str) -> bool,
        get: fn(&C) -> Vec<String>,
        set: fn(&mut C, Vec<String>),
    },
    /// Text that is never shown, not even in an error.
    Secret {
        min_bytes: usize,
        set: fn(&mut C, String),
    },
    /// A list of texts that `check` accepts and that are never shown, not even in an error.
    Secrets {
        expected: &'static str,
        check: fn(&str) -> bool,
        set: fn(&mut C, Vec<String>),
    },
    /// `true`, `false`, or a list of texts that `check` accepts.
    SwitchOrTexts {
        expected: &'static str,
        check: fn(&str) -> bool,
        get: fn(&C) -> String,
        set: fn(&mut C, SwitchOrTexts),
    },
}

/// A value that is a switch or a list.
#[derive(Debug)]
pub(crate) enum SwitchOrTexts {
    Switch(bool),
    Texts(Vec<String>),
}

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

impl<C> Key<C> {
    /// The default as the file would have it, for help and documentation; `None` if there is none.
    pub(crate) fn show_default(&self, default: &C) -> Option<String> {
        match &self.kind {
            Kind::Switch { get, .. } => get(default).map(|on| on.to_string()),
            Kind::Count { get, .. } => Some(get(default).to_string()),
            Kind::Size { get, .. } => Some(show_size(get(default))),
            Kind::Duration { get, .. } => Some(show_duration(get(default))),
            Kind::Address { get, .. } => Some(get(default).to_string()),
            Kind::Choice { get, .. } => Some(get(default).to_owned()),
            Kind::Text { get, .. } | Kind::SwitchOrTexts { get, .. } => Some(get(default)),
            Kind::MaybeText { show, .. } => show(default),
            Kind::Texts { get, .. } => Some(get(default).join(",")),
            Kind::Secret { .. } | Kind::Secrets { .. } => None,
        }
    }

    /// The value of `config` as a TOML file has it; `None` if there is none, or it is a secret.
    pub(crate) fn toml(&self, config: &C) -> Option<String> {
        let quoted = |text: String| toml::Value::String(text).to_string();
        match &self.kind {
            Kind::Texts { get, .. } => Some(toml::Value::from(get(config)).to_string()),
            Kind::Switch { .. } | Kind::Count { .. } | Kind::SwitchOrTexts { .. } => {
                self.show_default(config)
            }
            Kind::Size { .. }
            | Kind::Duration { .. }
            | Kind::Address { .. }
            | Kind::Choice { .. }
            | Kind::Text { .. }
            | Kind::MaybeText { .. }
            | Kind::Secret { .. }
            | Kind::Secrets { .. } => self.show_default(config).map(quoted),
        }
    }

    /// What the value may be, with its limits, for documentation.
    pub(crate) fn accepts(&self) -> String {
        match &self.kind {
            Kind::Switch { .. } => "`true` or `false`".to_owned(),
            Kind::Count { min, max, .. } => format!("number, {min} to {max}"),
            Kind::Size { min, max, .. } => {
                format!("size, {} to {}", show_size(*min), show_size(*max))
            }
            Kind::Duration { min, max, .. } => {
                format!(
                    "duration, {} to {}",
                    show_duration(*min),
                    show_duration(*max)
                )
            }
            Kind::Address { .. } => "IP address and port".to_owned(),
            Kind::Choice { words, .. } => format!("`{}`", words.join("` or `")),
            Kind::Text { expected, .. }
            | Kind::MaybeText { expected, .. }
            | Kind::Texts { expected, .. }
            | Kind::Secrets { expected, .. }
            | Kind::SwitchOrTexts { expected, .. } => (*expected).to_owned(),
            Kind::Secret { min_bytes, .. } => format!("secret of at least {min_bytes} bytes"),
        }
    }

    /// The words that the value may be, for help; none if it is no choice of words.
    pub(crate) fn words(&self) -> &'static [&'static str] {
        match &self.kind {
            Kind::Choice { words, .. } => words,
            Kind::Switch { .. }
            | Kind::Count { .. }
            | Kind::Size { .. }
            | Kind::Duration { .. }
            | Kind::Address { .. }
            | Kind::Text { .. }
            | Kind::MaybeText { .. }
            | Kind::Texts { .. }
            | Kind::Secret { .. }
            | Kind::Secrets { .. }
            | Kind::SwitchOrTexts { .. } => &[],
        }
    }

    /// What stands for the value in help.
    pub(crate) fn value_name(&self) -> &'static str {
        match &self.kind {
            Kind::Switch { .. } => "BOOL",
            Kind::Count { .. } => "NUMBER",
            Kind::Size { .. } => "SIZE",
            Kind::Duration { .. } => "DURATION",
            Kind::Address { .. } => "ADDRESS",
            Kind::Choice { .. } => "WORD",
            Kind::Text { .. } | Kind::MaybeText { .. } | Kind::Secret { .. } => "TEXT",
            Kind::Texts { .. } | Kind::Secrets { .. } => "LIST",
            Kind::SwitchOrTexts { .. } => "BOOL|LIST",
        }
    }

    /// Reads `raw` into `config`, which is untouched if it is refused.
    pub(crate) fn read(&self, raw: Raw<'_>, config: &mut C) -> Result<(), Refusal> {
        match &self.kind {
            Kind::Switch { set, .. } => {
                let on = raw.switch().ok_or_else(|| raw.not("true or false"))?;
                set(config, on);
            }
            Kind::Count { min, max, set, .. } => {
                let count = raw.count().ok_or_else(|| raw.not("a whole number"))?;
                set(
                    config,
                    within(count?, *min, *max, |count| count.to_string())?,
                );
            }
            Kind::Size { min, max, set, .. } => {
                let size = raw.size().ok_or_else(|| raw.not(A_SIZE))?;
                set(config, within(size?, *min, *max, show_size)?);
            }
            Kind::Duration { min, max, set, .. } => {
                let duration = raw.text().and_then(parse_duration);
                let duration = duration.ok_or_else(|| raw.not(A_DURATION))?;
                set(config, within(duration, *min, *max, show_duration)?);
            }
            Kind::Address { set, .. } => {
                let address = raw.text().and_then(parse_address);
                set(config, address.ok_or_else(|| raw.not(AN_ADDRESS))?);
            }
            Kind::Choice { words, set, .. } => {
                let word = raw.text().filter(|word| words.contains(word));
                set(config, word.ok_or_else(|| raw.not(&one_of(words)))?);
            }
            Kind::Text {
                expected,
                check,
                set,
                ..
            }
            | Kind::MaybeText {
                expected,
                check,
                set,
                ..
            } => {
                let text = raw.text().filter(|text| check(text));
                set(config, text.ok_or_else(|| raw.not(expected))?.to_owned());
            }
            Kind::Texts {
                expected,
                check,
                set,
                ..
            } => set(config, texts(raw, *check).ok_or_else(|| raw.not(expected))?),
            Kind::Secret { min_bytes, set } => set(config, secret(raw, *min_bytes)?),
            Kind::Secrets {
                expected,
                check,
                set,
            } => set(config, secrets(raw, expected, *check)?),
            Kind::SwitchOrTexts {
                expected,
                check,
                set,
                ..
            } => {
                set(
                    config,
                    switch_or_texts(raw, *check).ok_or_else(|| raw.not(expected))?,
                );
            }
        }
        Ok(())
    }
}

impl<'a> Raw<'a> {
    fn switch(self) -> Option<bool> {
        match self {
            Self::Text("true") | Self::Toml(DeValue::Boolean(true)) => Some(true),
            Self::Text("false") | Self::Toml(DeValue::Boolean(false)) => Some(false),
            Self::Text(_) | Self::Toml(_) => None,
        }
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text.trim()),
            Self::Toml(value) => value.as_str(),
        }
    }

    /// A whole number: `None` if it is something else, an error if it is one below zero or beyond all limits.
    fn count(self) -> Option<Result<usize, Refusal>> {
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

    fn size(self) -> Option<Result<usize, Refusal>> {
        match self.text().and_then(parse_size) {
            Some(size) => Some(Ok(size)),
            None => self.count(),
        }
    }

    fn not(self, expected: &str) -> Refusal {
        Refusal::Type {
            value: self.show(),
            expected: expected.to_owned(),
        }
    }

    /// The value as an error shows it: with its type where that may be what is wrong.
    pub(super) fn show(self) -> String {
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
pub(super) fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()),
        None => text.parse().ok(),
    }
}

fn within<T: PartialOrd>(
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

fn one_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(" or ")
}

/// A secret's refusal never shows it: an error ends up in a terminal or a log.
fn secret(raw: Raw<'_>, min_bytes: usize) -> Result<String, Refusal> {
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

/// As [`secret`], for a list: a refusal says which entry it was.
fn secrets(raw: Raw<'_>, expected: &str, check: fn(&str) -> bool) -> Result<Vec<String>, Refusal> {
    let refusal = |value: String| Refusal::Type {
        value,
        expected: expected.to_owned(),
    };
    let list = texts(raw, |_| true).ok_or_else(|| refusal("not a list of texts".to_owned()))?;
    match list.iter().position(|text| !check(text)) {
        Some(at) => Err(refusal(format!("wrong in entry {}", at + 1))),
        None => Ok(list),
    }
}

/// Texts come as a TOML list, or separated by commas in the environment and in flags.
fn switch_or_texts(raw: Raw<'_>, check: fn(&str) -> bool) -> Option<SwitchOrTexts> {
    if let Some(on) = raw.switch() {
        return Some(SwitchOrTexts::Switch(on));
    }
    texts(raw, check).map(SwitchOrTexts::Texts)
}

fn texts(raw: Raw<'_>, check: fn(&str) -> bool) -> Option<Vec<String>> {
    let texts: Vec<&str> = match raw {
        Raw::Text(text) => text.split(',').map(str::trim).collect(),
        Raw::Toml(value) => value
            .as_array()?
            .iter()
            .map(|item| item.get_ref().as_str())
            .collect::<Option<_>>()?,
    };
    let all_pass = texts.iter().all(|text| check(text));
    all_pass.then(|| texts.into_iter().map(str::to_owned).collect())
}

/// Tells whether a key's flag may stand without a value.
pub(crate) fn is_switch<C>(key: &Key<C>) -> bool {
    matches!(key.kind, Kind::Switch { .. })
}

/// Tells whether a key's flag may be repeated.
pub(crate) fn is_list<C>(key: &Key<C>) -> bool {
    matches!(key.kind, Kind::Texts { .. } | Kind::Secrets { .. })
}
