//! Presence that is kept aside for a channel: while a join is settled, while its reader is behind,
//! and while a state in parts is on its way.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use herenow_presence::{PresenceDiff, StateParts};
use herenow_protocol::ChannelId;

use super::{Cold, Inner, Mailbox};

/// Changes kept aside for one channel before what cancels among them is dropped; as many as the
/// topic has presences, if that is more. Fewer need not cancel, and are shared with other channels.
const MIN_FOLD_CHANGES: usize = 1_024;
/// Changes from which a diff that was kept aside is sent as it is, in the encoding that all share.
const MIN_SHARED_CHANGES: usize = 64;
/// Changes of smaller diffs that are sent as one.
const MAX_GROUP_CHANGES: usize = 1_024;

/// Presence of one channel that waits until the reader has caught up: what is left of a state in
/// parts, and the diffs that come after it. All of it is shared with other connections, but diffs
/// that were folded for this one.
///
/// It stays while they are delivered, empty, so that diffs that come meanwhile queue up behind.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) slot: ChannelId,
    pub(super) is_held: bool,
    pub(super) feed: Option<Box<Feed>>,
    diffs: VecDeque<Arc<PresenceDiff>>,
    n_changes: usize,
    /// Changes from which they are folded: twice as many as were left the last time.
    fold_changes: usize,
}

/// The parts of a state that are not sent yet.
pub(crate) type Feed = Peekable<StateParts>;

/// What may go out of what was kept aside.
#[derive(Debug)]
pub(crate) enum Taken {
    /// To be given back with [`Mailbox::return_feed`] unless all of it is sent.
    Feed(Box<Feed>),
    /// To be sent as one.
    Diffs(Vec<Arc<PresenceDiff>>),
}

impl Mailbox {
    /// Waiting bytes from which the reader counts as behind.
    pub(crate) fn fold_bytes(&self) -> usize {
        self.config.fold_queue_bytes
    }

    /// Keeps a diff aside while the channel's frames are held or its reader is behind; tells
    /// whether it did.
    ///
    /// `fold` makes one or two of many, without what cancels, so that what waits is bounded by the presences
    /// of the topic and not by how long the reader stays away. It runs under the mailbox's lock.
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

    /// Takes some of what was kept aside and may go out now. Call it again once that is delivered:
    /// until then, diffs that come are kept aside as well, so that none overtakes.
    pub(crate) fn take_aside(&self) -> Vec<(ChannelId, Taken)> {
        let mut inner = self.inner.lock();
        let Some(cold) = inner.cold.as_deref_mut() else {
            return Vec::new();
        };
        cold.aside
            .retain(|aside| aside.is_held || aside.feed.is_some() || !aside.diffs.is_empty());
        let open = cold.aside.iter_mut().filter(|aside| !aside.is_held);
        let taken = open.map(|aside| (aside.slot, aside.take()));
        let taken = taken.collect();
        inner.drop_cold();
        taken
    }

    /// Gives back what is left of a state, unless a newer one has taken its place.
    pub(crate) fn return_feed(&self, slot: ChannelId, feed: Box<Feed>) {
        let mut inner = self.inner.lock();
        let aside = inner.cold.as_deref_mut().map(|cold| &mut cold.aside);
        if let Some(aside) = aside.and_then(|all| all.iter_mut().find(|one| one.slot == slot)) {
            aside.feed.get_or_insert(feed);
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
                diffs: VecDeque::new(),
                n_changes: 0,
                fold_changes: MIN_FOLD_CHANGES,
            });
            all.len() - 1
        });
        &mut all[at]
    }
}
