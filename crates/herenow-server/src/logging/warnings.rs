//! [`Warnings`]: what this process has warned of lately, by kind, for its dashboard.
//!
//! A layer beside the one that writes the log: whatever our own crates log as a warning or an error
//! is here too, whatever `log.level` is, and nothing else. Lines of one kind (one place in the
//! source and one `reason`) are one entry with a count, so that a flood of one does not wash away
//! the others. What must not be logged is not here for the same reason: lines never hold tokens,
//! metas or payloads. Lines of the engines' own are left out, for their wording is not ours to
//! vouch for.

use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Kinds that are kept; one more takes the place of the one that was quiet the longest.
const MAX_KINDS: usize = 64;
/// Fields of a line that are kept, and the characters of each.
const MAX_FIELDS: usize = 8;
const MAX_FIELD_CHARS: usize = 160;
/// What our crates are called in the log.
const OURS: &str = "herenow";

static OF_PROCESS: LazyLock<Warnings> = LazyLock::new(Warnings::default);

/// What has been warned of. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<Kept>>>);

#[derive(Debug)]
struct Kept {
    callsite: Identifier,
    line: Line,
    level: Level,
    n: u64,
    first: Instant,
    last: Instant,
}

/// One kind of warning, as the dashboard shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warning {
    pub(crate) is_error: bool,
    /// The fixed phrase of the line.
    pub(crate) what: String,
    /// The other fields of the last such line.
    pub(crate) fields: Vec<(String, String)>,
    /// Lines of this kind, those included that the log left out.
    pub(crate) n: u64,
    pub(crate) first_ms_ago: u64,
    pub(crate) last_ms_ago: u64,
}

impl Warnings {
    /// Returns those of this process: what is logged has no server, so they are all servers' of it.
    pub fn of_process() -> Self {
        OF_PROCESS.clone()
    }

    /// Returns the layer that fills it.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let ours = filter_fn(|metadata| {
            *metadata.level() <= Level::WARN && metadata.target().starts_with(OURS)
        });
        self.clone()
            .with_filter(ours.with_max_level_hint(LevelFilter::WARN))
    }

    /// Returns at most `max` kinds that had a line within `period`, the latest first.
    pub(crate) fn latest(&self, max: usize, period: Duration) -> Vec<Warning> {
        let now = Instant::now();
        let ago = |then: Instant| now.saturating_duration_since(then);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let kept = self.0.lock();
        let mut recent: Vec<&Kept> = kept.iter().filter(|one| ago(one.last) <= period).collect();
        recent.sort_by_key(|one| ago(one.last));
        let shown = |one: &Kept| Warning {
            is_error: one.level == Level::ERROR,
            what: one.line.what.clone(),
            fields: one.line.fields.clone(),
            n: one.n,
            first_ms_ago: millis(ago(one.first)),
            last_ms_ago: millis(ago(one.last)),
        };
        recent.into_iter().take(max).map(shown).collect()
    }

    fn add(&self, callsite: Identifier, level: Level, line: Line) {
        let (now, n) = (Instant::now(), 1 + line.n_left_out);
        let mut kept = self.0.lock();
        let is_same = |one: &&mut Kept| one.callsite == callsite && one.line.reason == line.reason;
        if let Some(known) = kept.iter_mut().find(is_same) {
            known.n += n;
            (known.line, known.last) = (line, now);
            return;
        }
        let new = Kept {
            callsite,
            line,
            level,
            n,
            first: now,
            last: now,
        };
        if kept.len() < MAX_KINDS {
            kept.push(new);
        } else if let Some(oldest) = kept.iter_mut().min_by_key(|one| one.last) {
            *oldest = new;
        }
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        self.add(metadata.callsite(), *metadata.level(), line);
    }
}

/// A line of the log, taken apart and cut.
#[derive(Debug, Default)]
struct Line {
    what: String,
    /// What tells kinds of one place in the source apart.
    reason: Option<String>,
    fields: Vec<(String, String)>,
    n_left_out: u64,
}

impl Line {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut cut = Cut {
            text: String::new(),
            n_left: MAX_FIELD_CHARS,
        };
        // The only error is that there is no room for the rest.
        let _cut = cut.write_fmt(value);
        match field.name() {
            "message" => self.what = cut.text,
            name => {
                if name == "reason" {
                    self.reason = Some(cut.text.clone());
                }
                if self.fields.len() < MAX_FIELDS {
                    self.fields.push((name.to_owned(), cut.text));
                }
            }
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "n_left_out" => self.n_left_out = value,
            _ => self.add(field, format_args!("{value}")),
        }
    }
}

/// Takes so many characters, and an ellipsis for the rest.
struct Cut {
    text: String,
    n_left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if self.n_left == 0 {
                self.text.push('…');
                return Err(fmt::Error);
            }
            self.n_left -= 1;
            self.text.push(char);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn logged(lines: impl FnOnce()) -> Vec<Warning> {
        let warnings = Warnings::default();
        let subscriber = tracing_subscriber::registry().with(warnings.layer());
        with_default(subscriber, lines);
        warnings.latest(100, HOUR)
    }

    #[test]
    fn srv_780_lines_of_one_kind_are_one_entry_with_a_count_and_the_last_fields() {
        let kept = logged(|| {
            for n in 0..3_u64 {
                tracing::warn!(code = n, text = "too slow", "slow reader closed");
            }
            for (reason, n_left_out) in [("expired", 0_u64), ("signature", 7), ("expired", 0)] {
                tracing::warn!(reason, n_left_out, "token refused");
            }
            tracing::error!("fetch panicked");
            tracing::info!("is no warning");
            tracing::warn!(target: "zenoh::net", "is not ours");
        });
        let shown: Vec<_> = kept.iter().map(|one| (&*one.what, one.n)).collect();
        let expected = [
            ("fetch panicked", 1),
            ("token refused", 2),
            ("token refused", 8),
            ("slow reader closed", 3),
        ];
        assert_eq!(shown, expected);
        assert!(kept[0].is_error && !kept[1].is_error);
        assert_eq!(kept[1].fields, [("reason".into(), "expired".into())]);
        let fields = [
            ("code".into(), "2".into()),
            ("text".into(), "too slow".into()),
        ];
        assert_eq!(kept[3].fields, fields);
    }

    #[test]
    fn srv_781_what_is_kept_of_warnings_is_bounded() {
        let long = "é".repeat(10_000);
        let kept = logged(|| {
            for n in 0..1_000 {
                let reason = format!("{n}");
                tracing::warn!(reason, error = %long, a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, "x");
            }
        });
        assert_eq!(kept.len(), MAX_KINDS);
        assert_eq!(kept[0].fields.len(), MAX_FIELDS);
        assert_eq!(kept[0].fields[0].1, "999", "the latest is kept");
        assert_eq!(kept[0].fields[1].1.chars().count(), MAX_FIELD_CHARS + 1);
        let warnings = Warnings::default();
        assert_eq!(warnings.latest(1, HOUR), []);
    }
}
