//! What a client is told that follows the modes of its topic's presence.
//!
//! The lane remembers the number of the mode that its client knows, and changes it under the
//! mailbox's lock, together with the frame that tells of it. So a mode that the channel pushes as
//! it joins and one that the notifier broadcasts meanwhile come in the order of their numbers, and
//! no diff comes between the summary and the list after it.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use herenow_presence::{Mode, ModeNews, PRESENCE_COUNT, PRESENCE_MODE};
use herenow_protocol::{Payload, event};
use herenow_pubsub::{LocalPayload, Once};

use super::Lane;

/// In the lane's mode: the client gets the summary, and no list.
const IS_SUMMARY: u64 = 1;
/// The lane's mode when its client is to be told of modes and knows of none. Numbers count in
/// these.
const NO_NUMBER: u64 = 2;

impl Lane {
    /// Begins to tell the client of modes: from now on, of each change.
    pub(crate) fn follow_modes(&self) {
        self.mode.fetch_max(NO_NUMBER, Ordering::Relaxed);
    }

    /// Tells the client of the mode that the topic has as it joins.
    pub(crate) fn push_mode(&self, news: &ModeNews) {
        self.deliver_news(news, &mut Once::new());
    }

    /// Whether the client gets the summary, and no list.
    pub(super) fn is_summary(&self) -> bool {
        self.mode.load(Ordering::Relaxed) & IS_SUMMARY != 0
    }

    /// Delivers a mode if it is newer than the one that the client knows, and what comes with it:
    /// an empty list in the summary, or the list after it. In the summary, the count as well.
    pub(super) fn deliver_news(&self, news: &ModeNews, once: &mut Once) {
        let before = self.mode.load(Ordering::Relaxed);
        if before == 0 {
            return; // The client did not ask.
        }
        let is_summary = news.mode() == Mode::Summary;
        let mode = (news.number() + 2) * NO_NUMBER + u64::from(is_summary);
        let is_newer = || self.mode.fetch_max(mode, Ordering::Relaxed) < mode;
        let is_current = || self.mode.load(Ordering::Relaxed) == mode;
        if before < mode {
            if !self.push_news(PRESENCE_MODE, news.json(), once, is_newer) {
                return;
            }
            if is_summary {
                self.mailbox.forget_aside(self.slot);
                let nobody = Bytes::from_static(b"{}");
                self.push_news(event::PRESENCE_STATE, nobody, once, is_current);
            } else if before & IS_SUMMARY != 0
                && let Some(list) = news.list()
            {
                // Closed: the session is about to end.
                let _closed = self.push_presences(event::PRESENCE_STATE, list);
            }
        }
        if let Some(count) = news.count_json() {
            self.push_news(PRESENCE_COUNT, count, once, is_current);
        }
    }

    /// Queues one of the events for the client, in the encoding that all share.
    fn push_news(
        &self,
        event: &str,
        json: Bytes,
        once: &mut Once,
        check: impl FnOnce() -> bool,
    ) -> bool {
        // No version of a presence diff: those begin at 1.
        let which = match event {
            PRESENCE_MODE => 1,
            PRESENCE_COUNT => 2,
            _ => 3,
        };
        let slot = self.shared_slot(which, 0);
        let Some(frame) = self.shared_frame(event, once, slot, || Payload::Json(json)) else {
            return false;
        };
        let check = || !self.is_refused.load(Ordering::Relaxed) && check();
        let (slot, is_held) = (self.slot, &self.is_held);
        let queued = self.mailbox.push_in(slot, is_held, frame, check, once);
        queued.unwrap_or(false) // Closed: the session is about to end.
    }
}
