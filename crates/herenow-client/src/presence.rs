//! Who is on a channel: its presence messages, folded into a list and told as events.

use std::collections::VecDeque;

use herenow_protocol::{Change, Entry, FoldError, Folded, JoinRef, Meta, Payload};
use herenow_protocol::{PresenceFold, PresenceState};

use crate::channel::{Channel, ChannelSender};
use crate::event::{ChannelEvent, ErrorReason};

/// What happens on a channel with presence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PresenceEvent {
    /// A meta came: somebody's first, or another device of theirs.
    Joined {
        /// The key, usually a user id.
        key: String,
        /// The new meta.
        meta: Meta,
        /// Whether the key was not there before.
        first: bool,
    },
    /// A meta was replaced.
    Updated {
        /// The key.
        key: String,
        /// The meta before.
        old: Meta,
        /// The meta now; its `phx_ref_prev` is the old one's `phx_ref`.
        new: Meta,
    },
    /// A meta went.
    Left {
        /// The key.
        key: String,
        /// The meta that went.
        meta: Meta,
        /// Whether the key is gone with it.
        last: bool,
    },
    /// All changes of one message were told, and the list is up to date.
    Synced,
    /// A message that is not about presence.
    Message {
        /// The event.
        event: String,
        /// An object, or bytes.
        payload: Payload,
    },
    /// The channel is not joined for now; the list is as it was last.
    Errored(ErrorReason),
    /// The channel is joined again; what changed meanwhile is told next.
    Rejoined(Payload),
}

/// Follows the presences of a channel.
#[derive(Debug)]
pub struct Presence {
    channel: Channel,
    fold: PresenceFold,
    ready: VecDeque<PresenceEvent>,
    /// The join after which a new one was asked for, because events were missed.
    distrusted: Option<JoinRef>,
}

impl Channel {
    /// Follows the presences of this channel.
    #[must_use]
    pub fn into_presence(self) -> Presence {
        self.into_presence_with(PresenceFold::new())
    }

    /// Follows presences under other event names.
    #[must_use]
    pub fn into_presence_with(self, fold: PresenceFold) -> Presence {
        Presence {
            channel: self,
            fold,
            ready: VecDeque::new(),
            distrusted: None,
        }
    }
}

impl Presence {
    /// The next event; `None` after the channel has closed. Cancel safe.
    ///
    /// The first events are the joins of those who are there already, then
    /// [`PresenceEvent::Synced`]. When events came faster than they were read and some were
    /// dropped, the channel is joined again and the difference is told.
    pub async fn next(&mut self) -> Option<PresenceEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let inbound = self.channel.next_inbound().await?;
            match inbound.event {
                ChannelEvent::Message { event, payload } => {
                    self.on_message(&inbound.join_ref, event, payload);
                }
                ChannelEvent::Errored(reason) => return Some(PresenceEvent::Errored(reason)),
                ChannelEvent::Rejoined(response) => {
                    return Some(PresenceEvent::Rejoined(response));
                }
                ChannelEvent::Lagged { n_missed } => {
                    tracing::warn!(topic = self.channel.topic(), n_missed, "events missed");
                    self.start_over(inbound.join_ref);
                }
                ChannelEvent::Closed => return None,
            }
        }
    }

    /// Everybody who is there, by key, as of the last [`PresenceEvent::Synced`].
    #[must_use]
    pub fn list(&self) -> &PresenceState {
        self.fold.state()
    }

    /// The channel's topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.channel.topic()
    }

    /// A handle to push with.
    #[must_use]
    pub fn sender(&self) -> ChannelSender {
        self.channel.sender()
    }

    /// Leaves the channel.
    pub async fn leave(self) {
        self.channel.leave().await;
    }

    fn on_message(&mut self, join_ref: &JoinRef, event: String, payload: Payload) {
        let mut told = Told::default();
        // Of a join in which events were missed nothing is believed; the next one is on its way.
        if self.distrusted.as_ref() == Some(join_ref) && self.fold.is_presence_event(&event) {
            return;
        }
        let observe = &mut |change: Change<'_>| told.note(change);
        let folded = self.fold.handle_event(join_ref, &event, &payload, observe);
        match folded {
            Ok(Folded::Other) => self
                .ready
                .push_back(PresenceEvent::Message { event, payload }),
            Ok(Folded::Pending) => {}
            Ok(Folded::Synced) => {
                self.ready.extend(told.into_events());
                self.ready.push_back(PresenceEvent::Synced);
            }
            Err(error) => self.on_malformed(join_ref, &error),
        }
    }

    fn on_malformed(&mut self, join_ref: &JoinRef, error: &FoldError) {
        tracing::warn!(topic = self.channel.topic(), %error, "malformed presence message");
        self.start_over(join_ref.clone());
    }

    fn start_over(&mut self, join_ref: JoinRef) {
        if self.distrusted.as_ref() != Some(&join_ref) {
            self.distrusted = Some(join_ref);
            self.channel.sender().rejoin();
        }
    }
}

/// The changes of one message, before updates are told from joins and leaves.
#[derive(Default)]
struct Told {
    joined: Vec<(String, Meta, bool)>,
    left: Vec<(String, Meta, bool)>,
}

impl Told {
    fn note(&mut self, change: Change<'_>) {
        match change {
            Change::Joined {
                key,
                current,
                joined,
            } => {
                let before = current.map_or(&[][..], Entry::metas);
                let is_there =
                    |meta: &&Meta| before.iter().any(|there| there.phx_ref() == meta.phx_ref());
                let new = joined.metas().iter().filter(|meta| !is_there(meta));
                for (nth, meta) in new.enumerate() {
                    let first = before.is_empty() && nth == 0;
                    self.joined.push((key.to_owned(), meta.clone(), first));
                }
            }
            Change::Left {
                key,
                current,
                removed,
                ..
            } => {
                for (nth, meta) in removed.iter().enumerate() {
                    let last = current.metas().is_empty() && nth + 1 == removed.len();
                    self.left.push((key.to_owned(), meta.clone(), last));
                }
            }
        }
    }

    /// A join whose previous ref leaves in the same message is an update.
    fn into_events(mut self) -> Vec<PresenceEvent> {
        let mut events = Vec::with_capacity(self.joined.len() + self.left.len());
        for (key, meta, first) in self.joined {
            let replaced = meta.phx_ref_prev().and_then(|prev| {
                let is_old =
                    |left: &(String, Meta, bool)| left.0 == key && left.1.phx_ref() == prev;
                self.left.iter().position(is_old)
            });
            events.push(match replaced {
                Some(at) => {
                    let (_, old, _) = self.left.remove(at);
                    PresenceEvent::Updated {
                        key,
                        old,
                        new: meta,
                    }
                }
                None => PresenceEvent::Joined { key, meta, first },
            });
        }
        let left = self.left.into_iter();
        events.extend(left.map(|(key, meta, last)| PresenceEvent::Left { key, meta, last }));
        events
    }
}
