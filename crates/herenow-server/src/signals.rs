//! The signals that stop the program, and the one that has it read files again.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use crate::logging;

/// How long after the first signal another one is still the same request to stop. `timeout` and
/// some supervisors signal a process twice, once by itself and once with its group.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// SIGHUP, as often as it comes.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

/// Listens to SIGHUP from now on, which ends the process no more.
pub(crate) fn hangups() -> io::Result<Hangups> {
    signal(SignalKind::hangup()).map(Hangups)
}

impl Hangups {
    /// Waits for the next one; several that come in quick succession may be one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await // The runtime ends.
        }
    }
}

/// Listens to signals from now on; what it returns completes with the first SIGTERM or SIGINT.
///
/// One that comes more than a second later ends the process at once. SIGHUP ends it no more, from
/// now on.
///
/// # Errors
///
/// If the system does not let the process listen.
pub fn stop() -> io::Result<impl Future<Output = ()> + use<>> {
    // Once listened to, it ends the process no more, also while nobody does: whoever asks a server
    // that is about to start to read its files again has what they want.
    drop(hangups()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next =
        async move || tokio::select! { _ = terminate.recv() => 15, _ = interrupt.recv() => 2 };
    Ok(async move {
        next().await;
        let heard = Instant::now();
        tokio::spawn(async move {
            while timeout_at(heard + SAME_REQUEST, next()).await.is_ok() {}
            let number = next().await;
            logging::say("herenow: stopped by a second signal");
            logging::flush();
            std::process::exit(128 + number);
        });
    })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// The signals that the process catches, as bits.
    fn caught() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    }

    #[tokio::test]
    async fn srv_903_sighup_ends_no_server_that_is_about_to_start() {
        let _stop = stop().unwrap();
        for signal in [SignalKind::hangup(), SignalKind::terminate()] {
            assert_ne!(
                caught() & (1 << (signal.as_raw_value() - 1)),
                0,
                "{signal:?}"
            );
        }
    }
}
