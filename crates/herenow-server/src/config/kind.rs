//! What a configured value may be: its type, its limits, and how a refusal of it reads.

mod raw;
mod lists;

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use self::lists::ListForm;
use self::lists::{secrets, switch_or_texts, texts};
pub(super) use self::raw::parse_address;
pub(crate) use self::raw::{Raw, Refusal};
use self::raw::{checked, secret, within};
use super::units::{parse_duration, show_duration, show_size};
use super::url;

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
    /// Text that `check` accepts and that has no default; `show` is how the configured one is
    /// shown.
    MaybeText {
        expected: &'static str,
        check: fn(&str) -> bool,
        show: fn(&C) -> Option<String>,
        set: fn(&mut C, String),
    },
    /// A URL that `check` accepts and that has no default; only where it leads is shown.
    Url {
        expected: &'static str,
        check: fn(&str) -> bool,
        get: fn(&C) -> Option<&str>,
        set: fn(&mut C, String),
    },
    /// A list of such URLs.
    Urls {
        form: ListForm,
        check: fn(&str) -> bool,
        get: fn(&C) -> &[String],
        set: fn(&mut C, Vec<String>),
    },
    /// A list of texts that `check` accepts; as a flag, it can be repeated.
    Texts {
        form: ListForm,
        check: fn(&str) -> bool,
        get: fn(&C) -> Vec<String>,
        set: fn(&mut C, Vec<String>),
    },
    /// Text that is never shown, not even in an error.
    Secret {
        min_bytes: usize,
        set: fn(&mut C, String),
    },
    /// A list of texts that are never shown, not even in an error; `wrong` says what is wrong with
    /// one.
    Secrets {
        form: ListForm,
        wrong: fn(&str) -> Option<String>,
        set: fn(&mut C, Vec<String>),
    },
    /// `true`, `false`, or a list of texts that `check` accepts.
    SwitchOrTexts {
        form: ListForm,
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
            Kind::Url { get, .. } => get(default).map(url::known),
            Kind::Urls { get, .. } => {
                let urls: Vec<String> = get(default).iter().map(|url| url::known(url)).collect();
                Some(urls.join(","))
            }
            Kind::Secret { .. } | Kind::Secrets { .. } => None,
        }
    }

    /// The value of `config` as a TOML file has it; `None` if there is none, or it is a secret.
    pub(crate) fn toml(&self, config: &C) -> Option<String> {
        let quoted = |text: String| toml::Value::String(text).to_string();
        match &self.kind {
            Kind::Texts { get, .. } => Some(toml::Value::from(get(config)).to_string()),
            Kind::Urls { get, .. } => {
                let urls: Vec<String> = get(config).iter().map(|url| url::known(url)).collect();
                Some(toml::Value::from(urls).to_string())
            }
            Kind::Switch { .. } | Kind::Count { .. } | Kind::SwitchOrTexts { .. } => {
                self.show_default(config)
            }
            Kind::Size { .. }
            | Kind::Duration { .. }
            | Kind::Address { .. }
            | Kind::Choice { .. }
            | Kind::Text { .. }
            | Kind::MaybeText { .. }
            | Kind::Url { .. }
            | Kind::Secret { .. }
            | Kind::Secrets { .. } => self.show_default(config).map(quoted),
        }
    }

    /// Whether [`toml`](Self::toml) keeps something back, so that it does not read back the same.
    pub(crate) fn is_cut(&self, config: &C) -> bool {
        let is_cut = |text: &str| url::known(text) != text;
        match &self.kind {
            Kind::Url { get, .. } => get(config).is_some_and(is_cut),
            Kind::Urls { get, .. } => get(config).iter().any(|url| is_cut(url)),
            Kind::Switch { .. }
            | Kind::Count { .. }
            | Kind::Size { .. }
            | Kind::Duration { .. }
            | Kind::Address { .. }
            | Kind::Choice { .. }
            | Kind::Text { .. }
            | Kind::MaybeText { .. }
            | Kind::Texts { .. }
            | Kind::Secret { .. }
            | Kind::Secrets { .. }
            | Kind::SwitchOrTexts { .. } => false,
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
            | Kind::Url { expected, .. } => (*expected).to_owned(),
            Kind::Urls { form, .. }
            | Kind::Texts { form, .. }
            | Kind::Secrets { form, .. }
            | Kind::SwitchOrTexts { form, .. } => form.in_toml(),
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
            | Kind::Url { .. }
            | Kind::Urls { .. }
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
            Kind::Text { .. } | Kind::MaybeText { .. } | Kind::Url { .. } | Kind::Secret { .. } => {
                "TEXT"
            }
            Kind::Urls { .. } | Kind::Texts { .. } | Kind::Secrets { .. } => "LIST",
            Kind::SwitchOrTexts { .. } => "BOOL|LIST",
        }
    }

    /// Reads `raw` into `config`, which is untouched if it is refused.
    pub(crate) fn read(&self, raw: Raw<'_>, config: &mut C) -> Result<(), Refusal> {
        match &self.kind {
            Kind::Switch { set, .. } => set(
                config,
                raw.switch().ok_or_else(|| raw.not("true or false"))?,
            ),
            Kind::Count { min, max, set, .. } => set(config, raw.count_within(*min, *max)?),
            Kind::Size { min, max, set, .. } => set(config, raw.size_within(*min, *max)?),
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
            } => set(config, checked(raw, expected, *check, |raw| raw.show())?),
            Kind::Texts {
                form, check, set, ..
            } => set(config, texts(raw, form, *check, |raw| raw.show())?),
            Kind::Url {
                expected,
                check,
                set,
                ..
            } => set(
                config,
                checked(raw, expected, *check, |raw| raw.show_url())?,
            ),
            Kind::Urls {
                form, check, set, ..
            } => set(config, texts(raw, form, *check, |raw| raw.show_url())?),
            Kind::Secret { min_bytes, set } => set(config, secret(raw, *min_bytes)?),
            Kind::Secrets { form, wrong, set } => set(config, secrets(raw, form, *wrong)?),
            Kind::SwitchOrTexts {
                form, check, set, ..
            } => set(config, switch_or_texts(raw, form, *check)?),
        }
        Ok(())
    }
}

fn one_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(" or ")
}

/// Tells whether a key's flag may stand without a value.
pub(crate) fn is_switch<C>(key: &Key<C>) -> bool {
    matches!(key.kind, Kind::Switch { .. })
}

/// Tells whether a key's flag may be repeated.
pub(crate) fn is_list<C>(key: &Key<C>) -> bool {
    matches!(
        key.kind,
        Kind::Urls { .. } | Kind::Texts { .. } | Kind::Secrets { .. }
    )
}
