//! What a client is told of its topic's presence: a state, and exactly the diffs after it.
//!
//! The lane owns how far its client has come: the version of the state that it has (`seen`), that
//! of the state pushed last (`cut`), that up to which waiting diffs were folded (`folded_to`), and
//! whether it was sent a diff at all. The versions change under the mailbox's lock, together with
//! the frame that makes them true. Diffs that cannot go out yet, and the parts of a state that are
//! still to come, are the mailbox's to keep, bounded and in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use herenow_presence::{PresenceDiff, Presences};
use herenow_protocol::event;
use herenow_pubsub::{Broadcast, LocalPayload, Once, Payload as Outgoing};

use super::{Lane, PushError};
use crate::frame::Frame;
use crate::mailbox::{Feed, MailboxClosed, Taken};
use crate::payload::IntoPayload;
use crate::reason::CloseOrder;

impl Lane {
    /// Pushes a state whose JSON all pushes of that state share, and remembers how new it is.
    ///
    /// A large one is sent in parts, as the client reads them. They are pushes with the channel's
    /// join ref, so that a client that has joined again since does not take them for news.
    pub(super) fn push_presences(
        &self,
        event: &str,
        presences: &Presences,
    ) -> Result<(), PushError> {
        if presences.topic().as_str() != &*self.topic {
            return self.send_frame(self.around(event, presences.json()));
        }
        let is_list = event == event::PRESENCE_STATE && !self.is_refused.load(Ordering::Relaxed);
        if is_list && self.is_summary() {
            return Ok(()); // Should the mode change, the list comes with the news of it.
        }
        let (frame, version, feed) = if event == event::PRESENCE_STATE {
            let mut parts = presences.parts();
            let version = parts.version();
            let state = parts.next().unwrap_or_else(|| presences.json());
            (self.around(event, state), version, Some(Feed::new(parts)))
        } else {
            let frame = self.around(event, presences.json());
            (frame, presences.version(), None)
        };
        let is_muted = || event == event::PRESENCE_STATE && self.is_summary();
        let note_version = || {
            if self.is_refused.load(Ordering::Relaxed)
                || is_muted()
                || version < self.folded_to.load(Ordering::Relaxed)
            {
                return false;
            }
            self.cut.store(version, Ordering::Relaxed);
            // By any other name it is not what the client applies diffs to.
            if event == event::PRESENCE_STATE && !self.has_diffs.load(Ordering::Relaxed) {
                self.seen.fetch_max(version, Ordering::Relaxed);
            }
            true
        };
        let (slot, is_held) = (self.slot, &self.is_held);
        let is_queued = match feed {
            Some(feed) => self
                .mailbox
                .push_state(slot, is_held, frame, note_version, feed)?,
            None => self.mailbox.push_for(slot, is_held, frame, note_version)?,
        };
        if is_queued || is_muted() {
            return Ok(());
        }
        if !self.is_refused.load(Ordering::Relaxed) {
            let text = "slow reader: a presence state is older than the diffs folded for it";
            self.mailbox.order_close(CloseOrder::slow_reader(text));
        }
        Err(PushError::Closed)
    }

    /// Delivers the part of a diff that the client's state does not have yet; `once` is that of its
    /// dispatch, if it is being dispatched.
    pub(super) fn deliver_diff(
        &self,
        broadcast: &Broadcast,
        diff: &PresenceDiff,
        mut once: Option<&mut Once>,
    ) -> Result<(), MailboxClosed> {
        let mut done = 0;
        loop {
            let seen = self.seen.load(Ordering::Relaxed);
            let cut = self.cut.load(Ordering::Relaxed);
            let from = seen.max(done);
            if diff.to() <= from || self.is_deaf.load(Ordering::Relaxed) || self.is_summary() {
                return Ok(());
            }
            let is_cut = from.max(diff.from()) < cut && cut < diff.to();
            let to = if is_cut { cut } else { diff.to() };
            let frame = if from <= diff.from() && !is_cut {
                if !diff.has_effect() {
                    done = self.done_unless_moved((seen, cut), done, to);
                    continue;
                }
                let slot = self.shared_slot(0, 0);
                self.diff_frame(broadcast, once.as_deref_mut(), slot, diff.json())
            } else {
                let Some(part) = diff.json_between(from, to) else {
                    done = self.done_unless_moved((seen, cut), done, to);
                    continue;
                };
                let slot = self.shared_slot(from, to);
                self.diff_frame(broadcast, once.as_deref_mut(), slot, part)
            };
            let Some(frame) = frame else { return Ok(()) };
            // A state may be pushed meanwhile, by the channel in its own task.
            let is_still_right = || {
                let is_right = self.seen.load(Ordering::Relaxed) == seen
                    && self.cut.load(Ordering::Relaxed) == cut
                    && !self.is_summary()
                    && !self.is_deaf.load(Ordering::Relaxed);
                self.has_diffs.fetch_or(is_right, Ordering::Relaxed);
                is_right
            };
            let (slot, is_held) = (self.slot, &self.is_held);
            let is_queued = match &mut once {
                Some(once) => self
                    .mailbox
                    .push_in(slot, is_held, frame, is_still_right, once)?,
                None => self
                    .mailbox
                    .push_for(slot, is_held, frame, is_still_right)?,
            };
            if is_queued {
                done = to;
            }
        }
    }

    /// Returns how far a diff is done with after a part of it that is nothing to this client: to
    /// its end, unless a state was pushed meanwhile, for which it may be something.
    fn done_unless_moved(&self, (seen, cut): (u64, u64), done: u64, to: u64) -> u64 {
        let is_same =
            self.seen.load(Ordering::Relaxed) == seen && self.cut.load(Ordering::Relaxed) == cut;
        if is_same { to } else { done }
    }

    /// Keeps a diff for later if it cannot go out now; tells whether it did.
    pub(super) fn try_set_aside(&self, diff: &Arc<PresenceDiff>) -> bool {
        let fold = |diffs: &[Arc<PresenceDiff>]| {
            let seen = self.seen.load(Ordering::Relaxed);
            let cut = self.cut.load(Ordering::Relaxed).max(seen);
            self.folded_to.store(diff.to(), Ordering::Relaxed);
            let before = PresenceDiff::fold_between(seen, cut, diffs);
            let after = PresenceDiff::fold_since(cut, diffs);
            Vec::from_iter(before.into_iter().chain(after))
        };
        self.mailbox
            .try_set_aside(self.slot, &self.is_held, diff, fold)
    }

    /// Delivers some of what was kept aside for the reader.
    pub(crate) fn deliver_aside(&self, taken: Taken) {
        let diffs = match taken {
            Taken::Feed(feed) => return self.deliver_parts(feed),
            Taken::Diffs(diffs) => diffs,
        };
        let Some(diff) = PresenceDiff::fold(&diffs) else {
            return;
        };
        let payload = Outgoing::Local(diff.clone());
        let broadcast = Broadcast::new(self.topic.clone(), event::PRESENCE_DIFF, payload);
        // Closed: the session is about to end.
        let _closed = self.deliver_diff(&broadcast, &diff, None);
    }

    /// Sends as many parts of a state as make a write worth while, one at least.
    fn deliver_parts(&self, mut feed: Box<Feed>) {
        let max = self.mailbox.max_fed();
        let mut n_bytes = 0;
        if let Some(first) = feed.first.take() {
            n_bytes += first.n_bytes();
            if !self.send_part(first) {
                return;
            }
        }
        let left = |n_bytes: usize| match n_bytes {
            0 => usize::MAX,
            n_bytes => max.saturating_sub(n_bytes),
        };
        while let Some(part) = feed.next_within(left(n_bytes)) {
            n_bytes += part.len();
            if !self.send_part(self.around(event::PRESENCE_DIFF, part)) {
                return;
            }
        }
        if feed.has_more() {
            self.mailbox.return_feed(self.slot, feed);
        }
    }

    /// Sends a part of a state; false if the others are not wanted any more: there is a newer
    /// state, or the session is about to end.
    fn send_part(&self, frame: Frame) -> bool {
        let is_wanted = || !self.is_refused.load(Ordering::Relaxed);
        let sent = self.mailbox.push_part(self.slot, frame, is_wanted);
        sent.unwrap_or(false)
    }
}

impl IntoPayload for Presences {
    fn into_payload(self) -> Result<Outgoing, serde_json::Error> {
        Ok(Outgoing::Local(Arc::new(self) as Arc<dyn LocalPayload>))
    }
}

#[cfg(test)]
mod tests;
