//! How what was seen is written: lines for people, in colour if wanted, or JSON objects for
//! programs.
//!
//! Pure: a sight and a time in, text out.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Color, Style};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// Longest text of a stranger that is shown whole, in characters.
const MAX_TEXT: usize = 48;

/// Fields of a meta that are not shown as such: they are said in other words, or mean nothing to
/// people.
const SAID_OTHERWISE: [&str; 4] = ["phx_ref", "phx_ref_prev", "online_at", "name"];

const NEW: Style = Style::new()
    .bold()
    .fg_color(Some(Color::Ansi(AnsiColor::Green)));
const CHANGED: Style = Style::new()
    .bold()
    .fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
const GONE: Style = Style::new()
    .bold()
    .fg_color(Some(Color::Ansi(AnsiColor::Red)));
const NAME: Style = Style::new().bold();
const QUIET: Style = Style::new().dimmed();

/// How sights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines for people without colour.
    Plain,
    /// Lines for people in colour.
    Colour,
    /// One JSON object a line.
    Json,
}

/// Somebody who was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person<'a> {
    /// What presences are grouped by.
    pub(crate) key: &'a str,
    /// What the server knows the person by, beside the metas.
    pub(crate) name: Option<&'a str>,
}

/// One thing that was seen.
#[derive(Debug)]
pub(crate) enum Sight<'a> {
    /// The topic was joined, and this many keys are here; a [`Sight::Here`] for each meta follows.
    Connected { n_keys: usize },
    /// A presence that was here before us.
    Here {
        who: Person<'a>,
        meta: &'a Value,
        n_metas: usize,
    },
    /// A presence came; its key has `n_metas` now.
    Joined {
        who: Person<'a>,
        meta: &'a Value,
        n_metas: usize,
    },
    /// A meta was replaced.
    Updated {
        who: Person<'a>,
        before: Option<&'a Value>,
        after: &'a Value,
        n_metas: usize,
    },
    /// A presence left; its key has `n_metas` still.
    Left {
        who: Person<'a>,
        meta: &'a Value,
        n_metas: usize,
    },
    /// The connection was lost and is being made again.
    Disconnected { reason: &'a str },
}

/// Writes the sights of one topic.
#[derive(Debug)]
pub(crate) struct View {
    format: Format,
    topic: String,
    url: String,
    zone: TimeZone,
}

impl View {
    pub(crate) fn new(format: Format, topic: &str, url: &str, zone: TimeZone) -> Self {
        Self {
            format,
            topic: topic.to_owned(),
            url: url.to_owned(),
            zone,
        }
    }

    /// The line of `sight`, seen at `now`, with its line break.
    pub(crate) fn line(&self, now: Timestamp, sight: &Sight<'_>) -> String {
        let mut line = match self.format {
            Format::Json => self.object(now, sight).to_string(),
            Format::Plain | Format::Colour => self.text(now, sight),
        };
        line.push('\n');
        line
    }

    fn object(&self, now: Timestamp, sight: &Sight<'_>) -> Value {
        let mut object = Map::new();
        object.insert("time".to_owned(), json!(format!("{now:.3}")));
        object.insert("event".to_owned(), json!(sight.word()));
        object.insert("topic".to_owned(), json!(self.topic));
        let fields = match sight {
            Sight::Connected { n_keys } => json!({ "url": self.url, "count": n_keys }),
            Sight::Disconnected { reason } => json!({ "url": self.url, "reason": reason }),
            Sight::Here { who, meta, n_metas }
            | Sight::Joined { who, meta, n_metas }
            | Sight::Left { who, meta, n_metas } => {
                json!({ "key": who.key, "name": who.name_in(meta), "metas": n_metas, "meta": meta })
            }
            Sight::Updated {
                who,
                before,
                after,
                n_metas,
            } => json!({
                "key": who.key, "name": who.name_in(after), "metas": n_metas, "meta": after, "before": before,
            }),
        };
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        Value::Object(object)
    }

    fn text(&self, now: Timestamp, sight: &Sight<'_>) -> String {
        let time = self.paint(QUIET, &self.clock(now));
        let (mark, style) = sight.mark();
        let mark = self.paint(style, mark);
        match sight {
            Sight::Connected { n_keys } => {
                let topic = self.paint(NAME, &clean(&self.topic));
                let url = self.paint(QUIET, &format!("at {}", clean(&self.url)));
                format!("{time} {mark} {topic} {url}: {}", here(*n_keys))
            }
            Sight::Disconnected { reason } => {
                format!(
                    "{time} {mark} connection lost ({}), trying again",
                    clean(reason)
                )
            }
            Sight::Here { who, meta, n_metas } => {
                let since = since(meta).map(|since| format!("since {}", self.clock(since)));
                let rest = parts([since, devices(*n_metas), details(meta)]);
                format!("{time} {mark} {}{rest}", self.who(*who, meta))
            }
            Sight::Joined { who, meta, n_metas } => {
                let rest = parts([devices(*n_metas), details(meta)]);
                format!("{time} {mark} {} joined{rest}", self.who(*who, meta))
            }
            Sight::Updated {
                who, before, after, ..
            } => {
                let changes = changes(*before, after);
                format!("{time} {mark} {} {changes}", self.who(*who, after))
            }
            Sight::Left { who, meta, n_metas } => {
                let stayed = since(meta).map(|since| stayed(now.duration_since(since)));
                let what = if *n_metas == 0 { "left" } else { "closed one" };
                let rest = parts([stayed, still(*n_metas)]);
                format!("{time} {mark} {} {what}{rest}", self.who(*who, meta))
            }
        }
    }

    /// A person's name, with the key if that is something else.
    fn who(&self, who: Person<'_>, meta: &Value) -> String {
        let name = who.name_in(meta);
        let shown = self.paint(NAME, &clean(name));
        if name == who.key {
            return shown;
        }
        format!("{shown} {}", self.paint(QUIET, &clean(who.key)))
    }

    fn clock(&self, time: Timestamp) -> String {
        time.to_zoned_datetime(self.zone.clone())
            .strftime("%H:%M:%S")
            .to_string()
    }

    fn paint(&self, style: Style, text: &str) -> String {
        match self.format {
            Format::Colour => format!("{style}{text}{style:#}"),
            Format::Plain | Format::Json => text.to_owned(),
        }
    }
}

impl Sight<'_> {
    /// The event's name in JSON.
    fn word(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::Here { .. } => "here",
            Self::Joined { .. } => "joined",
            Self::Updated { .. } => "updated",
            Self::Left { .. } => "left",
            Self::Disconnected { .. } => "disconnected",
        }
    }

    fn mark(&self) -> (&'static str, Style) {
        match self {
            Self::Connected { .. } => ("=", QUIET),
            Self::Here { .. } => (".", NEW),
            Self::Joined { .. } => ("+", NEW),
            Self::Updated { .. } => ("~", CHANGED),
            Self::Left { .. } => ("-", GONE),
            Self::Disconnected { .. } => ("!", GONE),
        }
    }
}

impl<'a> Person<'a> {
    /// The meta's `name`, else the one that the server knows, else the key.
    fn name_in(self, meta: &'a Value) -> &'a str {
        let in_meta = meta.get("name").and_then(Value::as_str);
        let is_shown = |name: &&str| !name.trim().is_empty();
        let name = in_meta.filter(is_shown).or(self.name.filter(is_shown));
        name.unwrap_or(self.key)
    }
}

/// When the presence began: `online_at` in Unix seconds, as text or a number.
fn since(meta: &Value) -> Option<Timestamp> {
    let online_at = meta.get("online_at")?;
    let seconds = online_at
        .as_str()
        .and_then(|text| text.parse().ok())
        .or(online_at.as_i64())?;
    Timestamp::from_second(seconds).ok()
}

fn here(n_keys: usize) -> String {
    match n_keys {
        0 => "nobody is here".to_owned(),
        n => format!("{n} here"),
    }
}

fn devices(n_metas: usize) -> Option<String> {
    (n_metas > 1).then(|| format!("{n_metas} at once"))
}

fn still(n_metas: usize) -> Option<String> {
    (n_metas > 0).then(|| format!("{n_metas} still open"))
}

fn stayed(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("after {s}s"),
        (0, m, s) => format!("after {m}m {s}s"),
        (h, m, _) => format!("after {h}h {m}m"),
    }
}

fn parts<const N: usize>(parts: [Option<String>; N]) -> String {
    parts
        .into_iter()
        .flatten()
        .fold(String::new(), |all, part| format!("{all}  {part}"))
}

/// The meta's other fields, as `status away`.
fn details(meta: &Value) -> Option<String> {
    let fields = meta
        .as_object()?
        .iter()
        .filter(|(field, _)| is_shown(field));
    let shown: Vec<String> = fields
        .map(|(field, value)| format!("{} {}", clean(field), show(value)))
        .collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// What is different, as `status: online → away`.
fn changes(before: Option<&Value>, after: &Value) -> String {
    let empty = Map::new();
    let fields = |value: Option<&Value>| value.and_then(Value::as_object).cloned();
    let before = fields(before).unwrap_or_else(|| empty.clone());
    let after = fields(Some(after)).unwrap_or(empty);
    let mut text = String::new();
    let names = before
        .keys()
        .chain(after.keys().filter(|field| !before.contains_key(*field)));
    for field in names.filter(|field| field.as_str() == "name" || is_shown(field)) {
        let (old, new) = (before.get(field), after.get(field));
        if old == new {
            continue;
        }
        let separator = if text.is_empty() { "" } else { ", " };
        let arrow = match (old, new) {
            (None, Some(new)) => format!("{}: {}", clean(field), show(new)),
            (Some(old), Some(new)) => format!("{}: {} → {}", clean(field), show(old), show(new)),
            (Some(old), None) => format!("{}: {} → gone", clean(field), show(old)),
            (None, None) => continue,
        };
        write!(text, "{separator}{arrow}").expect("writing to a string does not fail");
    }
    if text.is_empty() {
        "updated, nothing changed".to_owned()
    } else {
        text
    }
}

fn is_shown(field: &str) -> bool {
    !SAID_OTHERWISE.contains(&field)
}

fn show(value: &Value) -> String {
    match value.as_str() {
        Some(text) => clean(text),
        None => clean(&value.to_string()),
    }
}

/// A stranger's text without control characters, which could command the terminal, and cut if long.
fn clean(text: &str) -> String {
    // Marks that turn the direction of writing would make a line lie as well.
    let is_unsafe = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut clean: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if is_unsafe(&c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(format: Format) -> View {
        View::new(format, "room:lobby", "ws://127.0.0.1:4000", TimeZone::UTC)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn person(key: &str) -> Person<'_> {
        Person { key, name: None }
    }

    fn plain(sight: &Sight<'_>) -> String {
        view(Format::Plain).line(at(7_323), sight)
    }

    #[test]
    fn srv_60_lines_for_people_say_who_and_when() {
        let meta = json!({ "name": "Ada", "online_at": "7200", "phx_ref": "x", "status": "away" });
        let (who, meta) = (person("42"), &meta);
        assert_eq!(
            plain(&Sight::Connected { n_keys: 2 }),
            "02:02:03 = room:lobby at ws://127.0.0.1:4000: 2 here\n"
        );
        assert_eq!(
            plain(&Sight::Here {
                who,
                meta,
                n_metas: 2
            }),
            "02:02:03 . Ada 42  since 02:00:00  2 at once  status away\n"
        );
        assert_eq!(
            plain(&Sight::Joined {
                who,
                meta,
                n_metas: 1
            }),
            "02:02:03 + Ada 42 joined  status away\n"
        );
        assert_eq!(
            plain(&Sight::Left {
                who,
                meta,
                n_metas: 0
            }),
            "02:02:03 - Ada 42 left  after 2m 3s\n"
        );
        assert_eq!(
            plain(&Sight::Left {
                who,
                meta,
                n_metas: 1
            }),
            "02:02:03 - Ada 42 closed one  after 2m 3s  1 still open\n"
        );
    }

    #[test]
    fn srv_60_the_name_is_the_metas_or_the_servers_or_the_key() {
        let name = |name, meta: Value| Person { key: "42", name }.name_in(&meta).to_owned();
        assert_eq!(name(Some("Server"), json!({ "name": "Meta" })), "Meta");
        assert_eq!(name(Some("Server"), json!({ "name": " " })), "Server");
        assert_eq!(name(None, json!({})), "42");
    }

    #[test]
    fn srv_60_an_update_says_what_changed() {
        let before = json!({ "status": "online", "mood": 3, "phx_ref": "a" });
        let after = json!({ "status": "away", "place": "x", "phx_ref": "b", "phx_ref_prev": "a" });
        let sight = Sight::Updated {
            who: person("ada"),
            before: Some(&before),
            after: &after,
            n_metas: 1,
        };
        assert_eq!(
            plain(&sight),
            "02:02:03 ~ ada mood: 3 → gone, status: online → away, place: x\n"
        );
    }

    #[test]
    fn srv_61_colour_is_only_added_when_asked_for() {
        let meta = json!({});
        let sight = Sight::Joined {
            who: person("ada"),
            meta: &meta,
            n_metas: 1,
        };
        assert!(!plain(&sight).contains('\u{1b}'));
        assert!(view(Format::Colour).line(at(0), &sight).contains("\u{1b}["));
    }

    #[test]
    fn srv_62_a_line_of_json_has_time_event_topic_key_and_meta() {
        let meta = json!({ "name": "Ada", "phx_ref": "x" });
        let sight = Sight::Joined {
            who: person("42"),
            meta: &meta,
            n_metas: 1,
        };
        let line = view(Format::Json).line(at(0), &sight);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            object,
            json!({
                "time": "1970-01-01T00:00:00.000Z", "event": "joined", "topic": "room:lobby",
                "key": "42", "name": "Ada", "metas": 1, "meta": meta,
            })
        );
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn srv_63_a_strangers_name_cannot_command_the_terminal() {
        let meta = json!({ "name": "\u{1b}[2Jx\r\n\u{202e}y", "status": "s".repeat(100) });
        let line = plain(&Sight::Joined {
            who: person("k\u{7}"),
            meta: &meta,
            n_metas: 1,
        });
        assert!(
            !line.trim_end().contains(|c: char| c.is_control()),
            "{line:?}"
        );
        assert!(!line.contains('\u{202e}'), "{line:?}");
        assert!(line.chars().count() < 200, "{line}");
    }
}
