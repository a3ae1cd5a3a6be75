//! [`Circuit`]: whether a source may be asked.
//!
//! ```text
//! ok ── a failure ──▶ failing ── max_failures in a row ──▶ down: a pause, then one attempt
//!  ▲                     │ a success                        │ a success     │ a failure: a pause
//!  └─────────────────────┴──────────────────────────────────┘               └ twice as long
//! ```
//!
//! No clock and no task: time comes in, and whoever asks reports what came of it. An attempt that
//! nobody reports on holds up the next one for a pause, and no longer.

use std::time::Duration;

use tokio::time::Instant;

/// How a source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    /// The last look-up failed.
    Failing,
    /// So many have failed that it gets a pause.
    Down,
}

/// A look-up that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Usual,
    /// The one that finds out whether the source is back.
    Probe,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_failures: usize,
    pub(super) min_pause: Duration,
    pub(super) max_pause: Duration,
}

#[derive(Debug)]
pub(super) struct Circuit {
    limits: Limits,
    n_failures: usize,
    pause: Option<Pause>,
    /// Since when it is as it is.
    since: Instant,
    /// When the first of the failures in a row was.
    failing_since: Option<Instant>,
    reason: Option<String>,
}

#[derive(Debug)]
struct Pause {
    length: Duration,
    until: Instant,
}

/// What a report has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) state: State,
    /// For how long it was as it was before.
    pub(super) after: Duration,
}

impl Circuit {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            n_failures: 0,
            pause: None,
            since: now,
            failing_since: None,
            reason: None,
        }
    }

    pub(super) fn state(&self) -> State {
        match (&self.pause, self.n_failures) {
            (Some(_), _) => State::Down,
            (None, 0) => State::Ok,
            (None, _) => State::Failing,
        }
    }

    /// Since when, and what the last failure was if it is one.
    pub(super) fn details(&self) -> (Instant, Option<&str>) {
        (self.since, self.reason.as_deref())
    }

    /// Since when it fails, and what the last failure was; `None` if it is well.
    pub(super) fn outage(&self) -> Option<(Instant, &str)> {
        Some((self.failing_since?, self.reason.as_deref()?))
    }

    /// Asks whether the source may be asked; `None` while it has a pause.
    pub(super) fn try_attempt(&mut self, now: Instant) -> Option<Attempt> {
        let Some(pause) = &mut self.pause else {
            return Some(Attempt::Usual);
        };
        if now < pause.until {
            return None;
        }
        pause.until = now + pause.length;
        Some(Attempt::Probe)
    }

    pub(super) fn succeeded(&mut self, now: Instant) -> Option<Change> {
        let before = self.state();
        self.n_failures = 0;
        self.failing_since = None;
        self.pause = None;
        self.reason = None;
        self.changed(before, now)
    }

    pub(super) fn failed(
        &mut self,
        attempt: Attempt,
        now: Instant,
        reason: String,
    ) -> Option<Change> {
        let before = self.state();
        self.n_failures += 1;
        self.failing_since.get_or_insert(now);
        self.reason = Some(reason);
        let length = match (&self.pause, attempt) {
            (None, _) if self.n_failures < self.limits.max_failures => None,
            (None, _) => Some(self.limits.min_pause),
            (Some(pause), Attempt::Probe) => Some(pause.length * 2),
            // It had begun before the pause.
            (Some(_), Attempt::Usual) => None,
        };
        if let Some(length) = length {
            let length = length.min(self.limits.max_pause);
            let until = now + length;
            self.pause = Some(Pause { length, until });
        }
        self.changed(before, now)
    }

    fn changed(&mut self, before: State, now: Instant) -> Option<Change> {
        let state = self.state();
        if state == before {
            return None;
        }
        let after = now.duration_since(self.since);
        self.since = now;
        Some(Change { state, after })
    }
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Down => "down",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn srv_727_a_source_that_fails_gets_longer_and_longer_pauses_with_one_attempt_after_each() {
        let start = Instant::now();
        let limits = Limits {
            max_failures: 3,
            min_pause: SECOND,
            max_pause: 4 * SECOND,
        };
        let mut circuit = Circuit::new(limits, start);
        let fail = |circuit: &mut Circuit, attempt, now| {
            let change = circuit.failed(attempt, now, "gone".to_owned());
            change.map(|change| change.state)
        };
        assert_eq!(
            fail(&mut circuit, Attempt::Usual, start),
            Some(State::Failing)
        );
        assert_eq!(fail(&mut circuit, Attempt::Usual, start), None);
        assert_eq!(circuit.try_attempt(start), Some(Attempt::Usual));
        assert_eq!(fail(&mut circuit, Attempt::Usual, start), Some(State::Down));
        assert_eq!(
            fail(&mut circuit, Attempt::Usual, start),
            None,
            "a straggler"
        );
        let mut now = start;
        for pause in [1, 2, 4, 4] {
            let end = now + pause * SECOND;
            assert_eq!(circuit.try_attempt(end - SECOND / 100), None);
            assert_eq!(circuit.try_attempt(end), Some(Attempt::Probe));
            assert_eq!(circuit.try_attempt(end), None, "one at a time");
            assert_eq!(fail(&mut circuit, Attempt::Probe, end), None);
            now = end;
        }
        assert_eq!(circuit.try_attempt(now + 4 * SECOND), Some(Attempt::Probe));
        let outage = circuit.outage();
        assert_eq!(outage, Some((start, "gone")), "since the first failure");
        // Nobody reports on that one; the next may be made all the same.
        assert_eq!(circuit.try_attempt(now + 8 * SECOND), Some(Attempt::Probe));
        let change = circuit.succeeded(now + 8 * SECOND).unwrap();
        assert_eq!((change.state, circuit.state()), (State::Ok, State::Ok));
        assert_eq!(circuit.try_attempt(now), Some(Attempt::Usual));
        assert_eq!((circuit.details().1, circuit.outage()), (None, None));
    }
}
