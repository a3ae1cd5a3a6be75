//! What is logged on a test's thread.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io;
use std::sync::Arc;

use herenow_server::logging;
use parking_lot::Mutex;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::rig::PATIENCE;

/// All of it at a level and above. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs as a server does, until the guard is dropped.
    pub(crate) fn start() -> (Self, DefaultGuard) {
        Self::at("info")
    }

    /// The same with these directives, also of libraries that log in another way.
    pub(crate) fn at(level: &str) -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_filter(logging::filter(level));
        let subscriber = tracing_subscriber::registry().with(lines);
        (log, subscriber.set_default())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    /// Waits until a phrase is logged.
    pub(crate) async fn until(&self, phrase: &str) {
        let logged = async {
            while !self.text().contains(phrase) {
                tokio::task::yield_now().await;
            }
        };
        let logged = tokio::time::timeout(PATIENCE, logged).await;
        assert!(logged.is_ok(), "{phrase} is not in {}", self.text());
    }
}
