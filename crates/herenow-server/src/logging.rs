//! Which lines of the log reach the operator.
//!
//! Our own lines are few and say what happened. The clients of the engines tell every step and
//! every attempt: of those only what warns is kept, and each such line once a minute, unless
//! `log.level` has directives of its own.
//!
//! Lines wait for stderr on a thread of its own, so that whoever reads it slowly, or not at all, holds
//! up nobody; see `stderr`. What a program has to say there besides the log goes the same way, with
//! [`say`], so that it comes in its order.
//!
//! What is not ours can log anything at `debug` and `trace`, tokens and payloads too. Of it these
//! levels are not heard, however much is asked of ours, unless a directive names it.

mod stderr;
mod warnings;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::layer::{Context, Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, ServerConfig};
use crate::traces::{TraceError, Traces};

use self::stderr::Stderr;
pub(crate) use self::warnings::Warning;
pub use self::warnings::Warnings;

/// How often a line of an engine is repeated.
const PERIOD: Duration = Duration::from_secs(60);
/// How long the end of the process waits for a stderr that takes nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a thread that panics does, in case that it takes the process with it.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);
/// What our crates call themselves in the log.
const OURS: &str = "herenow";
/// What engines call themselves in the log.
const ENGINES: [&str; 2] = ["zenoh", "async_nats"];
/// Less than the general level for them, and for two lines that warn of what was configured.
const QUIETER: &str = "zenoh=warn,zenoh::net::runtime::orchestrator=error,\
                       zenoh_link_tls::utils=error,async_nats=warn";

static STDERR: LazyLock<Stderr> = LazyLock::new(|| Stderr::written_to(std::io::stderr()));

/// Says a line on stderr, after what was logged. Waits for nobody: see [`flush`].
pub fn say(line: &str) {
    STDERR.add(format!("{line}\n").as_bytes());
}

/// Waits until what was said and logged is written, for a second at most.
pub fn flush() {
    STDERR.flush(FLUSH_TIMEOUT);
}

/// Waits as [`flush`] does when it is dropped, so that also a panic is read.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        flush();
    }
}

/// Returns how many lines stderr did not take, since the process began.
pub(crate) fn n_dropped_lines() -> u64 {
    STDERR.n_dropped()
}

/// Begins to write the log to stderr, and to send traces if they are asked for. Once a process, and
/// not inside tokio.
///
/// # Errors
///
/// [`TraceError`] if traces are asked for and cannot be sent.
pub fn start(config: &ServerConfig) -> Result<Traces, TraceError> {
    let (traces, spans) = Traces::start(&config.observe.traces)?;
    std::panic::set_hook(Box::new(|panic| say_panic(&STDERR, panic)));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| STDERR.clone())
        .with_ansi(colours);
    let registry = tracing_subscriber::registry()
        .with(spans)
        .with(Warnings::of_process().layer());
    let level = &config.log.level;
    match config.log.format {
        LogFormat::Pretty => registry.with(lines.with_filter(filter(level))).init(),
        LogFormat::Json => registry
            .with(lines.json().with_filter(filter(level)))
            .init(),
    }
    Ok(traces)
}

/// Says what the standard library would, which would wait for stderr.
fn say_panic(stderr: &Stderr, panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let mut text = format!("thread '{name}' {panic}\n");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text += &format!("stack backtrace:\n{trace}\n");
    }
    stderr.add(text.as_bytes());
    stderr.flush(PANIC_FLUSH_TIMEOUT);
}

/// Returns the filter that `log.level` asks for.
pub fn filter<S: Subscriber>(level: &str) -> impl Filter<S> + use<S> {
    let directives = match level {
        "info" | "warn" => format!("{level},{QUIETER}"),
        other => other.to_owned(),
    };
    let held = Held::unless_named_in(level);
    EnvFilter::new(directives).and(held).and(Seldom::default())
}

/// Holds what is not ours at `info`.
#[derive(Debug)]
struct Held {
    /// Beginnings of the targets that may say more.
    named: Vec<String>,
}

impl Held {
    fn unless_named_in(directives: &str) -> Self {
        let target = |directive: &str| {
            let end = directive.find(['=', '[']).unwrap_or(directive.len());
            directive[..end].trim().to_owned()
        };
        let is_named = |name: &String| !name.is_empty() && name.parse::<LevelFilter>().is_err();
        let named = directives.split(',').map(target).filter(is_named);
        Self {
            named: named.chain([OURS.to_owned()]).collect(),
        }
    }
}

impl<S> Filter<S> for Held {
    fn enabled(&self, metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        let is_named = |name: &String| metadata.target().starts_with(name);
        *metadata.level() <= Level::INFO || self.named.iter().any(is_named)
    }
}

/// Lets engines repeat a line once a minute, and everybody else always.
#[derive(Debug, Default)]
struct Seldom {
    /// When each line in an engine's source was last let through; as many as there are lines.
    last: Mutex<HashMap<Identifier, Instant>>,
}

impl<S> Filter<S> for Seldom {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let is_of_engine = ENGINES
            .iter()
            .any(|name| metadata.target().starts_with(name));
        if !is_of_engine || *metadata.level() > Level::WARN {
            return true;
        }
        let (now, mut last) = (Instant::now(), self.last.lock());
        let before = last.get(&metadata.callsite());
        if before.is_some_and(|before| now.duration_since(*before) < PERIOD) {
            return false;
        }
        last.insert(metadata.callsite(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use tracing::subscriber::with_default;

    use super::*;

    /// The levels that a target is heard at with these directives.
    fn heard(directives: &str, line: fn(&Level)) -> Vec<Level> {
        let lines = Lines::default();
        let registry = tracing_subscriber::registry();
        let layer = lines.clone().with_filter(filter(directives));
        with_default(registry.with(layer), || {
            for level in [Level::INFO, Level::DEBUG, Level::TRACE] {
                line(&level);
            }
        });
        let heard = lines.0.lock();
        heard.clone()
    }

    #[derive(Debug, Clone, Default)]
    struct Lines(std::sync::Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> tracing_subscriber::Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            self.0.lock().push(*event.metadata().level());
        }
    }

    macro_rules! says {
        ($target:literal) => {
            |level: &Level| match *level {
                Level::INFO => tracing::info!(target: $target, "x"),
                Level::DEBUG => tracing::debug!(target: $target, "x"),
                _ => tracing::trace!(target: $target, "x"),
            }
        };
    }

    #[test]
    fn srv_1296_only_our_own_lines_are_heard_below_info_unless_others_are_named() {
        let all = [Level::INFO, Level::DEBUG, Level::TRACE];
        let tungstenite = says!("tungstenite::protocol");
        let ours = says!("herenow_channels::socket");
        assert_eq!(heard("trace", ours), all);
        for general in [
            "trace",
            "TRACE",
            "5",
            "info,herenow_channels=trace",
            "debug",
        ] {
            assert_eq!(heard(general, tungstenite), [Level::INFO], "{general}");
        }
        assert_eq!(heard("trace,tungstenite=trace", tungstenite), all);
        assert_eq!(
            heard("trace,tungstenite::protocol=debug", tungstenite),
            all[..2]
        );
        let hyper = says!("hyper::proto::h1::conn");
        assert_eq!(heard("trace,tungstenite=trace", hyper), [Level::INFO]);
        for quiet in ["error", "warn", "off"] {
            assert!(heard(quiet, tungstenite).is_empty(), "{quiet}");
        }
    }

    #[test]
    fn srv_1782_a_panic_is_said_where_the_log_is() {
        let (mut read, write) = std::io::pipe().unwrap();
        let stderr = Stderr::written_to(write);
        let said = stderr.clone();
        std::panic::set_hook(Box::new(move |panic| say_panic(&said, panic)));
        let thread = std::thread::Builder::new().name("one".to_owned());
        let panicked = thread.spawn(|| panic!("of {}", "ours")).unwrap().join();
        let _hook = std::panic::take_hook();
        assert!(panicked.is_err());
        let mut text = String::new();
        while !text.ends_with("of ours\n") {
            let mut byte = [0];
            read.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
        }
        assert!(text.starts_with("thread 'one' panicked at "), "{text}");
    }
}
