//! What was logged, for tests that say what must be in it, or must not.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "each test takes what it needs, and panics as tests do"
)]

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

use super::http::DEADLINE;

/// Everything that was logged on this thread. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs everything of this thread until the guard is dropped.
    pub(crate) fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Returns all of it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Waits until `text` is logged.
    pub(crate) async fn contains(&self, text: &str) {
        let logged = async {
            while !self.text().contains(text) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, logged)
            .await
            .expect("not logged in time");
    }
}
