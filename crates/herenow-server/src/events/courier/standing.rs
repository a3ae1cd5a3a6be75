//! [`Standing`]: whether a receiver takes what it is sent, of all its batches together.
//!
//! It fails from the first failure until a batch is taken while no other one waits for its next
//! attempt: one topic that is refused among many that are taken is a failure, too. A receiver that
//! comes and goes is logged ten times in ten seconds at most, each time with both lines.

use std::sync::Arc;

use herenow_pubsub::LogLimit;
use parking_lot::Mutex;

use crate::outage::{Failing, Outage, Part};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Standing {
    /// What the log and the dashboard call the receiver.
    name: String,
    state: Mutex<State>,
    log: LogLimit,
}

#[derive(Debug, Default)]
struct State {
    failing: Option<Failing>,
    /// Whether the log has that it fails.
    is_logged: bool,
    /// Batches that wait for their next attempt, or are under way with it.
    n_again: usize,
}

/// That a batch has failed and is not given up; ends with it.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Standing>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.state.lock().n_again -= 1;
    }
}

impl Standing {
    pub(super) fn new(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            state: Mutex::default(),
            log: LogLimit::default(),
        })
    }

    pub(super) fn is_failing(&self) -> bool {
        self.state.lock().failing.is_some()
    }

    /// What is missing, if the receiver does not take events now.
    pub(super) fn outage(&self) -> Option<Outage> {
        let state = self.state.lock();
        let failing = state.failing.as_ref()?;
        Some(failing.outage(Part::Webhook, &self.name))
    }

    /// Takes note of the first failure of a batch, which is to be kept until that has ended.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.state.lock().n_again += 1;
        Waiting(self.clone())
    }

    /// Takes note that a batch was not taken.
    pub(super) fn on_failure(&self, why: &str, n_failed: usize) {
        let webhook = &self.name;
        let mut state = self.state.lock();
        if !Failing::note(&mut state.failing, why) {
            tracing::debug!(webhook, why, n_failed, "webhook still fails");
            return;
        }
        let may_log = self.log.may_log();
        state.is_logged = may_log.is_some();
        if let Some(n_left_out) = may_log {
            tracing::warn!(webhook, why, n_left_out, "webhook fails: events wait");
        }
    }

    /// Takes note that a batch was taken, and has ended.
    pub(super) fn on_success(&self) {
        let mut state = self.state.lock();
        let is_back = state.n_again == 0 && state.failing.take().is_some();
        if is_back && std::mem::take(&mut state.is_logged) {
            tracing::info!(webhook = self.name, "webhook is back");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::logging::Warnings;

    #[test]
    fn srv_1797_a_receiver_fails_as_long_as_any_batch_waits_for_its_next_attempt() {
        let standing = Standing::new("calls".to_owned());
        let [one, other] = [(); 2].map(|()| standing.wait());
        standing.on_failure("the answer is 500", 1);
        standing.on_success();
        assert!(standing.is_failing(), "two wait");
        drop(one);
        standing.on_success();
        assert!(standing.is_failing() && standing.outage().is_some());
        drop(other);
        assert!(standing.is_failing(), "nothing was taken since");
        standing.on_success();
        assert!(!standing.is_failing() && standing.outage().is_none());
    }

    #[test]
    fn srv_1797_a_receiver_that_comes_and_goes_does_not_flood_the_log() {
        let warnings = Warnings::default();
        let layer = tracing_subscriber::registry().with(warnings.layer());
        let _guard = tracing::subscriber::set_default(layer);
        let standing = Standing::new("calls".to_owned());
        for _ in 0..100 {
            standing.on_failure("the answer is 503", 1);
            standing.on_success();
        }
        let logged = warnings.latest(9, Duration::MAX);
        assert_eq!(logged.iter().map(|one| one.n).collect::<Vec<_>>(), [10]);
    }
}
