//! How topics tell of who is here, by their size: the notifier's part in their modes.
//!
//! The notifier owns a [`Room`] for each topic whose mode is not exact, and the agenda of counts.
//! It changes a mode between two diffs and nowhere else, so that clients which follow it know
//! exactly what their list has. What a mode is, and which one comes next, is said in
//! [`modes`](crate::modes).

use std::sync::Arc;

use herenow_core::{Key, Topic};
use herenow_pubsub::{Payload, client_text};
use tokio::time::Instant;

use super::Notifier;
use crate::group::Snapshot;
use crate::modes::{Mode, ModeNews, PRESENCE_MODE, render_count};

/// A topic whose mode is not exact.
pub(super) struct Room {
    mode: Mode,
    /// When its count was told, and whether the next one is on the agenda.
    counted: Instant,
    is_count_due: bool,
    /// The key that changed last: samples begin behind it.
    pivot: Option<Key>,
}

impl Notifier {
    pub(super) fn mode_of(&self, topic: &Topic) -> Mode {
        self.rooms.get(topic).map_or(Mode::Exact, |room| room.mode)
    }

    /// Changes the mode of a topic if it has another size now, and sees to its counts. After the
    /// diff that led there, so that a list which comes with the mode lacks nothing and repeats
    /// nothing.
    pub(super) async fn mind_mode(
        &mut self,
        after: &Arc<Snapshot>,
        n_subscribers: usize,
        pivot: Option<Key>,
    ) {
        let (topic, config) = (after.topic(), &self.shared.config);
        let before = self.mode_of(topic);
        let size = (after.entries().n_metas(), n_subscribers);
        let (big_room, window) = (
            config.big_room_of(topic.as_str()),
            config.window_of(topic.as_str()),
        );
        let (mode, interval) = (before.next(size, big_room, window), big_room.count_interval);
        let now = Instant::now();
        if mode != before {
            self.shared.metrics.n_mode_changes.count();
            tracing::debug!(topic = %client_text(topic.as_str()), mode = mode.as_str(), n_presences = size.0, "presence mode");
            let mut news = self.modes.change(after, mode);
            self.rooms.remove(topic);
            if mode != Mode::Exact {
                let room = Room {
                    mode,
                    counted: now,
                    is_count_due: false,
                    pivot: None,
                };
                self.rooms.insert(topic.clone(), room);
            }
            if mode == Mode::Summary {
                let pivot = pivot.as_ref().map(Key::as_str);
                let count = render_count(after, pivot, big_room.max_sample);
                news = self.modes.set_count(topic, count).unwrap_or(news);
            }
            return self.tell(topic, news).await;
        }
        if let Some(room) = self.rooms.get_mut(topic).filter(|_| mode == Mode::Summary) {
            room.pivot = pivot;
            if !std::mem::replace(&mut room.is_count_due, true) {
                let due = (room.counted + interval).max(now);
                self.counts.insert((due, topic.clone()));
            }
        }
    }

    /// Tells the counts that are due.
    pub(super) async fn tell_counts(&mut self, now: Instant) {
        while self.counts.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, topic)) = self.counts.pop_first() else {
                return;
            };
            let Some(room) = self.rooms.get_mut(&topic) else {
                continue; // Its mode has changed since.
            };
            (room.is_count_due, room.counted) = (false, now);
            let max = self.shared.config.big_room_of(topic.as_str()).max_sample;
            let snapshot = self.views.read(&topic);
            let count = render_count(&snapshot, room.pivot.as_ref().map(Key::as_str), max);
            if let Some(news) = self.modes.set_count(&topic, count) {
                self.tell(&topic, news).await;
            }
        }
    }

    async fn tell(&mut self, topic: &Topic, news: ModeNews) {
        let n_subscribers = self.shared.pubsub.n_subscribers(topic.as_str());
        if self.modes.is_asked() && n_subscribers > 0 {
            let news = Payload::Local(Arc::new(news));
            self.deliver(topic, n_subscribers, PRESENCE_MODE, news)
                .await;
        }
    }
}
