//! Which lines of the log reach the operator.
//!
//! Our own lines are few and say what happened. The clients of the engines tell every step and
//! every attempt: of those only what warns is kept, and each such line once a minute, unless
//! `log.level` has directives of its own.

mod warnings;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::layer::{Context, Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, ServerConfig};
use crate::traces::{TraceError, Traces};

pub(crate) use self::warnings::Warning;
pub use self::warnings::Warnings;

/// How often a line of an engine is repeated.
const PERIOD: Duration = Duration::from_secs(60);
/// What engines call themselves in the log.
const ENGINES: [&str; 2] = ["zenoh", "async_nats"];
/// Less than the general level for them, and for two lines that warn of what was configured.
const QUIETER: &str = "zenoh=warn,zenoh::net::runtime::orchestrator=error,\
                       zenoh_link_tls::utils=error,async_nats=warn";

/// Begins to write the log to stderr, and to send traces if they are asked for. Once a process, and
/// not inside tokio.
///
/// # Errors
///
/// [`TraceError`] if traces are asked for and cannot be sent.
pub fn start(config: &ServerConfig) -> Result<Traces, TraceError> {
    let (traces, spans) = Traces::start(&config.observe.traces)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
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

/// Returns the filter that `log.level` asks for.
pub fn filter<S: Subscriber>(level: &str) -> impl Filter<S> + use<S> {
    let directives = match level {
        "info" | "warn" => format!("{level},{QUIETER}"),
        other => other.to_owned(),
    };
    EnvFilter::new(directives).and(Seldom::default())
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
