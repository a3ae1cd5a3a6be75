//! The rules of one connection: which topics are joined, which refs count, what is answered.
//!
//! [`SocketState::handle_message`] says what the host has to do about a client's message. When a
//! channel's join is settled, or a channel ends, the host says so with an `on_*` method and gets
//! the messages to send. Running channels, routing topics and sending are the host's.
//!
//! Unlike the reference, which handles nothing else while a join runs, only the topic that is
//! being joined waits here ([`Action::Hold`]); heartbeats and other topics go on.

mod action;
mod config;

use smol_str::SmolStr;

pub use self::action::{
    Action, ChannelId, Delivery, JoinLimit, JoinOutcome, JoinRequest, JoinSettled, LeaveRequest,
};
pub use self::config::{CloseCode, JoinRefCheck, SocketConfig};
use crate::event;
use crate::message::{JoinRef, Message, MessageRef, Payload, ServerMessage, WireText};

/// What one connection has joined.
///
/// Look-ups are linear over the channels of the socket, of which there are few. Costs about 90
/// bytes per channel, plus the text of topics over 23 bytes.
#[derive(Debug, Default)]
pub struct SocketState {
    channels: Vec<Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    slot: ChannelId,
    topic: SmolStr,
    /// What the channel uses for itself.
    join_ref: Option<JoinRef>,
    /// Whether the client left the join ref out, so that `join_ref` is the join's message ref.
    is_ref_missing: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Boxed: held for a moment, while the entry stays for hours.
    Joining(Box<PendingJoin>),
    Joined,
    Leaving,
}

#[derive(Debug)]
struct PendingJoin {
    message_ref: Option<MessageRef>,
    replaced: Option<ServerMessage>,
}

impl Entry {
    /// The join ref as the client sent it.
    fn recorded(&self) -> Option<&JoinRef> {
        if self.is_ref_missing {
            None
        } else {
            self.join_ref.as_ref()
        }
    }

    fn close(&self) -> ServerMessage {
        ServerMessage::Close {
            join_ref: self.recorded().cloned(),
            topic: WireText::text(self.topic.clone()),
        }
    }
}

impl SocketState {
    /// A connection that has joined nothing. Allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a client's message and says what there is to do.
    ///
    /// `is_routed` tells whether a topic has a channel; it is asked for joins only.
    pub fn handle_message(
        &mut self,
        config: &SocketConfig,
        message: Message,
        is_routed: impl FnOnce(&str) -> bool,
    ) -> Action {
        let Some(topic) = message.topic.as_text() else {
            return self.on_unjoined(config, message, None);
        };
        if topic == event::HEARTBEAT_TOPIC && message.event == event::HEARTBEAT {
            return Action::Reply(reply_ok(None, message.message_ref, message.topic));
        }
        let Some(at) = self.channels.iter().position(|entry| entry.topic == *topic) else {
            let topic = Some(topic.clone())
                .filter(|topic| message.event == event::JOIN && is_routed(topic));
            return self.on_unjoined(config, message, topic);
        };
        if let Phase::Joining(_) = self.channels[at].phase {
            return Action::Hold {
                slot: self.channels[at].slot,
                message,
            };
        }
        match message.event.as_str() {
            event::JOIN => self.on_duplicate_join(at, message),
            event::LEAVE => self.on_leave(config, at, message),
            _ => self.on_event(config, at, message),
        }
    }

    /// `topic` is the topic to join, if that is what the message asks for and there is a route.
    fn on_unjoined(
        &mut self,
        config: &SocketConfig,
        message: Message,
        topic: Option<SmolStr>,
    ) -> Action {
        if let Some(topic) = topic {
            return self.on_join(config, message, topic);
        }
        if message.event == event::LEAVE {
            return Action::Reply(reply_ok(
                message.join_ref,
                message.message_ref,
                message.topic,
            ));
        }
        Action::Reply(reply_error(
            None,
            message.message_ref,
            message.topic,
            Payload::from_static_json(r#"{"reason":"unmatched topic"}"#),
        ))
    }

    fn on_join(&mut self, config: &SocketConfig, message: Message, topic: SmolStr) -> Action {
        let (limit, reason) = if self.channels.len() >= config.max_channels {
            let max = config.max_channels;
            let reason =
                format!("too many channels joined, the limit is {max} (socket.max_channels)");
            (JoinLimit::Channels, reason)
        } else if topic.len() > config.max_topic_bytes {
            let (len, max) = (topic.len(), config.max_topic_bytes);
            let reason =
                format!("topic is {len} bytes, the limit is {max} (socket.max_topic_bytes)");
            (JoinLimit::TopicBytes, reason)
        } else {
            return self.start_join(message, topic, None);
        };
        Action::Refuse {
            limit,
            reason,
            message,
        }
    }

    fn on_duplicate_join(&mut self, at: usize, message: Message) -> Action {
        let old = self.channels.remove(at);
        let topic = old.topic.clone();
        self.start_join(message, topic, Some(&old))
    }

    fn start_join(&mut self, message: Message, topic: SmolStr, old: Option<&Entry>) -> Action {
        let slot = ChannelId(self.next);
        self.next += 1;
        let is_ref_missing = message.join_ref.is_none();
        let message_ref = message.message_ref;
        let join_ref = message
            .join_ref
            .or_else(|| message_ref.clone().map(|text| JoinRef(text.0)));
        let pending = PendingJoin {
            message_ref,
            replaced: old.map(Entry::close),
        };
        self.channels.reserve_exact(1);
        self.channels.push(Entry {
            slot,
            topic: topic.clone(),
            join_ref: join_ref.clone(),
            is_ref_missing,
            phase: Phase::Joining(Box::new(pending)),
        });
        let replaces = old.map(|old| old.slot);
        Action::Join(JoinRequest {
            slot,
            topic,
            join_ref,
            payload: message.payload,
            replaces,
        })
    }

    fn on_leave(&mut self, config: &SocketConfig, at: usize, message: Message) -> Action {
        let entry = &mut self.channels[at];
        let slot = entry.slot;
        let (recorded, incoming) = (entry.recorded(), message.join_ref.as_ref());
        let is_current = match config.join_ref_check {
            JoinRefCheck::Never => true,
            JoinRefCheck::LeavesOnly => {
                is_current(JoinRefCheck::RecordedMissing, recorded, incoming)
            }
            JoinRefCheck::LeavesUnlessMissing => {
                is_current(JoinRefCheck::EitherMissing, recorded, incoming)
            }
            check @ (JoinRefCheck::EitherMissing
            | JoinRefCheck::IncomingMissing
            | JoinRefCheck::RecordedMissing) => is_current(check, recorded, incoming),
        };
        if !is_current {
            return Action::IgnoreStale { slot };
        }
        entry.phase = Phase::Leaving;
        Action::Leave(LeaveRequest {
            slot,
            message_ref: message.message_ref,
        })
    }

    fn on_event(&mut self, config: &SocketConfig, at: usize, message: Message) -> Action {
        let entry = &self.channels[at];
        let slot = entry.slot;
        if !is_current(
            config.join_ref_check,
            entry.recorded(),
            message.join_ref.as_ref(),
        ) {
            return Action::IgnoreStale { slot };
        }
        let Message {
            event,
            payload,
            message_ref,
            ..
        } = message;
        Action::Deliver(Delivery {
            slot,
            event,
            payload,
            message_ref,
        })
    }

    /// Says how a join went; what to send.
    ///
    /// `None` if the channel is not joining, because it was settled or ended before.
    /// The channel is registered only if it was accepted.
    pub fn on_joined(&mut self, slot: ChannelId, outcome: JoinOutcome) -> Option<JoinSettled> {
        let at = self.position(slot)?;
        let entry = &mut self.channels[at];
        let pending = match std::mem::replace(&mut entry.phase, Phase::Joined) {
            Phase::Joining(pending) => *pending,
            phase @ (Phase::Joined | Phase::Leaving) => {
                entry.phase = phase;
                return None;
            }
        };
        let join_ref = entry.recorded().cloned();
        let topic = WireText::text(entry.topic.clone());
        let message_ref = pending.message_ref;
        let crashed = Payload::from_static_json(r#"{"reason":"join crashed"}"#);
        let reply = match outcome {
            JoinOutcome::Joined(response) => {
                let status = event::STATUS_OK;
                reply(join_ref, message_ref, topic, status, response)
            }
            JoinOutcome::Refused(response) => {
                self.channels.remove(at);
                reply_error(join_ref, message_ref, topic, response)
            }
            JoinOutcome::Crashed => {
                self.channels.remove(at);
                reply_error(join_ref, message_ref, topic, crashed)
            }
        };
        Some(JoinSettled {
            reply,
            replaced: pending.replaced,
        })
    }

    /// Says that a channel that was asked to leave has ended: its reply, then its `phx_close`.
    ///
    /// `None` if it is not there any more; then a later join has replaced it, whose settling
    /// sends the close, or it ended in another way.
    pub fn on_left(
        &mut self,
        slot: ChannelId,
        message_ref: Option<MessageRef>,
    ) -> Option<[ServerMessage; 2]> {
        let entry = self.channels.remove(self.position(slot)?);
        let close = entry.close();
        let topic = WireText::text(entry.topic);
        Some([reply_ok(entry.join_ref, message_ref, topic), close])
    }

    /// Says that a channel has stopped as it should; its `phx_close`.
    ///
    /// `None` if it is not there any more.
    pub fn on_channel_closed(&mut self, slot: ChannelId) -> Option<ServerMessage> {
        Some(self.channels.remove(self.position(slot)?).close())
    }

    /// Says that a channel has crashed; its `phx_error`.
    ///
    /// `None` if it is not there any more.
    pub fn on_channel_crashed(&mut self, slot: ChannelId) -> Option<ServerMessage> {
        let entry = self.channels.remove(self.position(slot)?);
        let join_ref = entry.recorded().cloned();
        Some(ServerMessage::channel_crash(join_ref, entry.topic))
    }

    /// Says that a channel may not go on; its `phx_error`, which tells why.
    ///
    /// `None` if it is not there any more.
    pub fn on_channel_unauthorized(
        &mut self,
        slot: ChannelId,
        reason: &str,
    ) -> Option<ServerMessage> {
        let entry = self.channels.remove(self.position(slot)?);
        let reason = serde_json::json!({ "reason": reason });
        Some(ServerMessage::Error {
            join_ref: entry.recorded().cloned(),
            topic: WireText::text(entry.topic),
            payload: Payload::Json(reason.to_string().into()),
        })
    }

    /// The join ref a channel's own pushes and replies carry.
    #[must_use]
    pub fn join_ref(&self, slot: ChannelId) -> Option<&JoinRef> {
        self.channels[self.position(slot)?].join_ref.as_ref()
    }

    /// The topic of a channel that is there.
    #[must_use]
    pub fn topic(&self, slot: ChannelId) -> Option<&SmolStr> {
        Some(&self.channels[self.position(slot)?].topic)
    }

    /// The channels that are joining, joined or leaving, oldest first.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &SmolStr)> {
        self.channels.iter().map(|entry| (entry.slot, &entry.topic))
    }

    /// How many channels are joining, joined or leaving.
    #[must_use]
    pub fn n_channels(&self) -> usize {
        self.channels.len()
    }

    /// Entries are in order of their slots: new ones go to the end, and none moves.
    fn position(&self, slot: ChannelId) -> Option<usize> {
        self.channels
            .binary_search_by_key(&slot, |entry| entry.slot)
            .ok()
    }
}

fn is_current(check: JoinRefCheck, recorded: Option<&JoinRef>, incoming: Option<&JoinRef>) -> bool {
    match check {
        JoinRefCheck::EitherMissing => {
            recorded.is_none() || incoming.is_none() || recorded == incoming
        }
        JoinRefCheck::IncomingMissing => incoming.is_none() || recorded == incoming,
        JoinRefCheck::RecordedMissing => recorded.is_none() || recorded == incoming,
        JoinRefCheck::LeavesOnly | JoinRefCheck::LeavesUnlessMissing | JoinRefCheck::Never => true,
    }
}

fn reply(
    join_ref: Option<JoinRef>,
    message_ref: Option<MessageRef>,
    topic: WireText,
    status: &'static str,
    response: Payload,
) -> ServerMessage {
    let status = SmolStr::new_static(status);
    ServerMessage::Reply {
        join_ref,
        message_ref,
        topic,
        status,
        response,
    }
}

fn reply_ok(
    join_ref: Option<JoinRef>,
    message_ref: Option<MessageRef>,
    topic: WireText,
) -> ServerMessage {
    reply(
        join_ref,
        message_ref,
        topic,
        event::STATUS_OK,
        Payload::empty(),
    )
}

fn reply_error(
    join_ref: Option<JoinRef>,
    message_ref: Option<MessageRef>,
    topic: WireText,
    response: Payload,
) -> ServerMessage {
    reply(join_ref, message_ref, topic, event::STATUS_ERROR, response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_channel_costs_under_a_hundred_bytes() {
        assert!(size_of::<Entry>() <= 96, "{}", size_of::<Entry>());
        let mut state = SocketState::new();
        let message = Message {
            join_ref: Some("1".into()),
            message_ref: Some("1".into()),
            topic: "room:lobby".into(),
            event: event::JOIN.into(),
            payload: Payload::empty(),
        };
        state.handle_message(&SocketConfig::default(), message, |_| true);
        assert_eq!(state.channels.capacity(), 1);
    }
}
