//! Presence that is kept aside for a channel: while a join is settled, while its reader is behind,
//! and while a state in parts is on its way.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use herenow_presence::{PresenceDiff, StateParts};
use herenow_protocol::ChannelId;

use super::{Cold, Inner, Mailbox, MailboxClosed};
use crate::frame::Frame;

/// Changes kept aside for one channel before what cancels among them is dropped; as many as the
/// topic has presences, if that is more. Fewer need not cancel, and are shared with other channels.
const MIN_FOLD_CHANGES: usize = 1_024;
/// Changes from which a diff that was kept aside is sent as it is, in the encoding that all share.
const MIN_SHARED_CHANGES: usize = 64;
/// Changes of smaller diffs that are sent as one.
const MAX_GROUP_CHANGES: usize = 1_024;

/// Bytes up to which what was kept aside is handed to the writer together.
const MAX_FED: usize = 64 * 1024;

/// Presence of one channel that waits until the reader has caught up: a state or what is left of
/// it, and the diffs that come after it. All of it is shared with other connections, but diffs that
/// were folded for this one.
///
/// It stays while they are delivered, empty, so that diffs that come meanwhile queue up behind.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) slot: ChannelId,
    pub(super) is_held: bool,
    pub(super) feed: Option<Box<Feed>>,
    /// Whether the feed was taken, and no newer state has taken its place since.
    pub(super) is_feeding: bool,
    diffs: VecDeque<Arc<PresenceDiff>>,
    n_changes: usize,
    /// Changes from which they are folded: twice as many as were left the last time.
    fold_changes: usize,
}

/// A state that is not sent yet, or the parts of it that are not.
#[derive(Debug)]
pub(crate) struct Feed {
    /// The first part, unless it is sent or queued.
    pub(crate) first: Option<Frame>,
    parts: Peekable<StateParts>,
}

/// The parts of states that the writer has, or is about to take. They do not count as what waits
/// for a slow reader: they went out because the reader had caught up, and no others do until it has
/// again.
#[derive(Debug, Default)]
pub(super) struct Fed {
    pub(super) n_frames: usize,
    pub(super) n_bytes: usize,
    is_taken: bool,
}

/// What may go out of what was kept aside.
#[derive(Debug)]
pub(crate) enum Taken {
    /// To be given back with [`Mailbox::return_feed`] unless all of it is sent.
    Feed(Box<Feed>),
    /// To be sent as one.
    Diffs(Vec<Arc<PresenceDiff>>),
}

impl Feed {
    /// What follows the first part of a state.
    pub(crate) fn new(parts: StateParts) -> Self {
        Self {
            first: None,
            parts: parts.peekable(),
        }
    }

    /// Tells whether there are parts besides the first. Renders the next one.
    pub(crate) fn has_more(&mut self) -> bool {
        self.parts.peek().is_some()
    }

    /// Returns the next part if it has at most so many bytes.
    pub(crate) fn next_within(&mut self, max_bytes: usize) -> Option<Bytes> {
        self.parts.next_if(|part| part.len() <= max_bytes)
    }
}

impl Fed {
    /// The writer takes what is queued, and has written what it took before.
    pub(super) fn handle_take(&mut self) {
        match self.is_taken {
            true => *self = Self::default(),
            false => self.is_taken = self.n_frames > 0,
        }
    }
}

impl Mailbox {
    /// Bytes of parts of a state that are handed to the writer together.
    pub(crate) fn max_fed(&self) -> usize {
        MAX_FED.min(self.max_with_state())
    }

    /// Bytes that wait for the reader, with which a state may be queued: all others need not make
    /// room for it, the reply of its join above all.
    pub(super) fn max_with_state(&self) -> usize {
        let config = &self.config;
        config.fold_queue_bytes.min(config.max_queue_bytes / 2)
    }

    /// Keeps a diff aside while the channel's frames are held or its reader is behind; tells
    /// whether it did.
    ///
    /// `fold` makes one or two of many, without what cancels, so that what waits is bounded by the
    /// presences of the topic and not by how long the reader stays away. It runs under the
    /// mailbox's lock.
    pub(crate) fn try_set_aside(
        &self,
        slot: ChannelId,
        is_held: &AtomicBool,
        diff: &Arc<PresenceDiff>,
        fold: impl FnOnce(&[Arc<PresenceDiff>]) -> Vec<Arc<PresenceDiff>>,
    ) -> bool {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return true;
        }
        let is_held = is_held.load(Ordering::Relaxed);
        let is_behind = inner.n_bytes > self.config.fold_queue_bytes;
        // What is aside already must go out first.
        let has_aside = |cold: &Cold| cold.aside.iter().any(|aside| aside.slot == slot);
        if !is_held && !is_behind && !inner.cold.as_deref().is_some_and(has_aside) {
            return false;
        }
        if is_behind {
            self.metrics.folded_diffs.increment();
        }
        let aside = inner.aside(slot, is_held);
        aside.diffs.push_back(diff.clone());
        aside.n_changes += diff.n_changes();
        if aside.n_changes > aside.fold_changes.max(diff.n_after()) {
            aside.diffs = fold(aside.diffs.make_contiguous()).into();
            aside.n_changes = aside.diffs.iter().map(|diff| diff.n_changes()).sum();
            aside.fold_changes = MIN_FOLD_CHANGES.max(2 * aside.n_changes);
        }
        true
    }

    /// Takes some of what was kept aside for one channel, each in its turn, unless there is enough
    /// for a write. Call it again once that is delivered: until then, diffs that come are kept
    /// aside as well, so that none overtakes.
    pub(crate) fn take_aside(&self) -> Option<(ChannelId, Taken)> {
        let mut inner = self.inner.lock();
        let is_long = inner.n_frames >= self.config.max_queue_messages.get() / 2;
        let is_enough = is_long || inner.n_bytes >= self.max_fed();
        let is_enough = is_enough && !inner.frames.is_empty();
        let all = &mut inner.cold.as_deref_mut()?.aside;
        all.retain(|aside| aside.is_held || aside.feed.is_some() || !aside.diffs.is_empty());
        let open = all.iter().position(|aside| !aside.is_held);
        let taken = open.filter(|_| !is_enough).map(|at| {
            all[at..].rotate_left(1);
            let last = all.last_mut().expect("the one that was found is there");
            (last.slot, last.take())
        });
        inner.drop_cold();
        taken
    }

    /// Queues a part of the state that was taken last for a channel, unless a newer one has taken
    /// its place; tells whether it did.
    pub(crate) fn push_part(
        &self,
        slot: ChannelId,
        frame: Frame,
        check: impl FnOnce() -> bool,
    ) -> Result<bool, MailboxClosed> {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return Err(MailboxClosed);
        }
        let is_feeding = |cold: &&mut Cold| {
            let mut all = cold.aside.iter();
            all.any(|aside| aside.slot == slot && aside.is_feeding)
        };
        let Some(cold) = inner.cold.as_deref_mut().filter(is_feeding) else {
            return Ok(false);
        };
        if !check() {
            return Ok(false);
        }
        let n_bytes = frame.n_bytes();
        cold.fed.n_frames += 1;
        cold.fed.n_bytes += n_bytes;
        inner.n_frames += 1;
        inner.n_bytes += n_bytes;
        inner.frames.push(frame);
        Ok(true)
    }

    /// Gives back what is left of a state, unless a newer one has taken its place.
    pub(crate) fn return_feed(&self, slot: ChannelId, feed: Box<Feed>) {
        let mut inner = self.inner.lock();
        let aside = inner.cold.as_deref_mut().map(|cold| &mut cold.aside);
        let aside = aside.and_then(|all| all.iter_mut().find(|one| one.slot == slot));
        if let Some(aside) = aside.filter(|aside| aside.is_feeding) {
            aside.feed = Some(feed);
        }
    }

    /// Drops presence that was kept aside for a channel.
    pub(crate) fn forget_aside(&self, slot: ChannelId) {
        let mut inner = self.inner.lock();
        if let Some(cold) = inner.cold.as_deref_mut() {
            cold.aside.retain(|aside| aside.slot != slot);
        }
        inner.drop_cold();
    }
}

impl Aside {
    /// Takes the feed, or else diffs that are to be sent as one: a large one alone.
    fn take(&mut self) -> Taken {
        if let Some(feed) = self.feed.take() {
            self.is_feeding = true;
            return Taken::Feed(feed);
        }
        let mut taken = Vec::new();
        let mut n_changes = 0;
        while let Some(diff) = self.diffs.front() {
            let is_alone = diff.n_changes() >= MIN_SHARED_CHANGES;
            if !taken.is_empty() && (is_alone || n_changes >= MAX_GROUP_CHANGES) {
                break;
            }
            n_changes += diff.n_changes();
            taken.extend(self.diffs.pop_front());
            if is_alone {
                break;
            }
        }
        self.n_changes -= n_changes;
        Taken::Diffs(taken)
    }
}

impl Inner {
    /// Returns what is kept aside for a channel, nothing at first.
    pub(super) fn aside(&mut self, slot: ChannelId, is_held: bool) -> &mut Aside {
        let all = &mut self.cold.get_or_insert_default().aside;
        let at = all.iter().position(|aside| aside.slot == slot);
        let at = at.unwrap_or_else(|| {
            all.push(Aside {
                slot,
                is_held,
                feed: None,
                is_feeding: false,
                diffs: VecDeque::new(),
                n_changes: 0,
                fold_changes: MIN_FOLD_CHANGES,
            });
            all.len() - 1
        });
        &mut all[at]
    }
}
