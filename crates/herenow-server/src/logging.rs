//! Which lines of the log reach the operator.
//!
//! Our own lines are few and say what happened. The clients of the engines tell every step and
//! every attempt: of those only what warns is kept, and each such line once a minute, unless
//! `log.level` has directives of its own.

mod warnings;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::layer::{Context, Filter};

pub(crate) use self::warnings::Warning;
pub use self::warnings::Warnings;

/// How often a line of an engine is repeated.
const PERIOD: Duration = Duration::from_secs(60);
/// What engines call themselves in the log.
const ENGINES: [&str; 2] = ["zenoh", "async_nats"];
/// Less than the general level for them, and for two lines that warn of what was configured.
const QUIETER: &str = "zenoh=warn,zenoh::net::runtime::orchestrator=error,\
                       zenoh_link_tls::utils=error,async_nats=warn";

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
