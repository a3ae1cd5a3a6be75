//! The client's side of presence: folds `presence_state` and `presence_diff` into a list.
//!
//! The rules are those of the reference's JavaScript client, to the order of the keys and the
//! arguments of its callbacks, so that both clients tell the same story about the same messages.
//! Keys and metas are data: no name has a meaning of its own.

mod entry;
mod state;

pub use self::entry::{Entry, FoldError, Meta};
pub use self::state::{Change, PresenceDiff, PresenceState};
use crate::event;
use crate::message::{JoinRef, Payload};

/// Most diffs that wait for a state.
const MAX_PENDING_DIFFS: usize = 10_000;

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Folded {
    /// The list is up to date; the JavaScript client calls `onSync`.
    Synced,
    /// A diff that waits for the state of this join.
    Pending,
    /// Not a presence message.
    Other,
}

/// The presences of one channel, as its messages tell them.
///
/// Diffs that come before the state of the current join wait for it.
#[derive(Debug)]
pub struct PresenceFold {
    state: PresenceState,
    pending: Vec<PresenceDiff>,
    join_ref: Option<JoinRef>,
    state_event: String,
    diff_event: String,
}

impl Default for PresenceFold {
    fn default() -> Self {
        Self::with_events(event::PRESENCE_STATE, event::PRESENCE_DIFF)
    }
}

impl PresenceFold {
    /// A fold of the usual events, `presence_state` and `presence_diff`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A fold of events with other names.
    #[must_use]
    pub fn with_events(state_event: impl Into<String>, diff_event: impl Into<String>) -> Self {
        Self {
            state: PresenceState::default(),
            pending: Vec::new(),
            join_ref: None,
            state_event: state_event.into(),
            diff_event: diff_event.into(),
        }
    }

    /// Takes in a message of the channel whose current join is `join_ref`.
    ///
    /// `observe` is told of every change, in the order and as often as the JavaScript client calls
    /// `onJoin` and `onLeave`. Costs the size of the message, times the logarithm of the list.
    ///
    /// # Errors
    ///
    /// [`FoldError`] if the message has another shape, or too many diffs wait for a state; the
    /// list is as before.
    pub fn handle_event(
        &mut self,
        join_ref: &JoinRef,
        event: &str,
        payload: &Payload,
        observe: &mut dyn FnMut(Change<'_>),
    ) -> Result<Folded, FoldError> {
        if event == self.state_event {
            let state = PresenceState::from_payload(payload)?;
            self.on_state(join_ref, &state, observe);
            return Ok(Folded::Synced);
        }
        if event != self.diff_event {
            return Ok(Folded::Other);
        }
        let diff = PresenceDiff::from_payload(payload)?;
        if !self.is_pending(join_ref) {
            self.state.sync_diff(&diff, observe);
            return Ok(Folded::Synced);
        }
        if self.pending.len() >= MAX_PENDING_DIFFS {
            return Err(FoldError::TooManyPending {
                max: MAX_PENDING_DIFFS,
            });
        }
        self.pending.push(diff);
        Ok(Folded::Pending)
    }

    fn on_state(
        &mut self,
        join_ref: &JoinRef,
        state: &PresenceState,
        observe: &mut dyn FnMut(Change<'_>),
    ) {
        self.join_ref = Some(join_ref.clone());
        self.state.sync_state(state, observe);
        for diff in std::mem::take(&mut self.pending) {
            self.state.sync_diff(&diff, observe);
        }
    }

    /// Whether an event is one of the two that are folded.
    #[must_use]
    pub fn is_presence_event(&self, event: &str) -> bool {
        event == self.state_event || event == self.diff_event
    }

    /// Whether no state has come since the join named `join_ref` began.
    #[must_use]
    pub fn is_pending(&self, join_ref: &JoinRef) -> bool {
        self.join_ref.as_ref() != Some(join_ref)
    }

    /// How many diffs wait for a state.
    #[must_use]
    pub fn n_pending(&self) -> usize {
        self.pending.len()
    }

    /// The list as of the last message that was not pending.
    #[must_use]
    pub fn state(&self) -> &PresenceState {
        &self.state
    }
}
