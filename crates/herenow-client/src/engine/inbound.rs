//! What the server says.

use herenow_protocol::{MessageRef, Payload, ServerMessage, WireText};
use tokio::time::Instant;

use super::entry::Phase;
use super::{ChannelKey, Engine, Heartbeat, PendingKind};
use crate::error::JoinError;
use crate::event::{ChannelEvent, ErrorReason, Reply};

impl Engine {
    pub(crate) fn handle_message(&mut self, now: Instant, message: ServerMessage) {
        match message {
            ServerMessage::Reply {
                message_ref,
                status,
                response,
                ..
            } => {
                let reply = Reply {
                    status: status.to_string(),
                    response,
                };
                self.on_reply(now, message_ref.as_ref(), reply);
            }
            ServerMessage::Error {
                join_ref,
                topic,
                payload,
            } => {
                let addressed = |channel: &super::Entry| {
                    channel.is_addressed(topic.as_str(), join_ref.as_ref())
                };
                if let Some(at) = self.channels.iter().position(addressed) {
                    self.on_crash(now, at, payload);
                }
            }
            ServerMessage::Close { join_ref, topic } => {
                let addressed = |channel: &super::Entry| {
                    channel.is_addressed(topic.as_str(), join_ref.as_ref())
                };
                if let Some(at) = self.channels.iter().position(addressed) {
                    self.on_close(at);
                }
            }
            ServerMessage::Push {
                join_ref,
                topic,
                event,
                payload,
            } => {
                self.deliver(&topic, join_ref.as_ref(), &event, &payload);
            }
            ServerMessage::Broadcast {
                topic,
                event,
                payload,
            } => {
                self.deliver(&topic, None, &event, &payload);
            }
        }
    }

    fn deliver(
        &mut self,
        topic: &WireText,
        join_ref: Option<&herenow_protocol::JoinRef>,
        event: &str,
        payload: &Payload,
    ) {
        for entry in &mut self.channels {
            if entry.is_addressed(topic.as_str(), join_ref) {
                let (event, payload) = (event.to_owned(), payload.clone());
                entry.emit(ChannelEvent::Message { event, payload });
            }
        }
    }

    fn on_reply(&mut self, now: Instant, message_ref: Option<&MessageRef>, reply: Reply) {
        let Some(reference) = message_ref.and_then(|text| text.as_str().parse::<u64>().ok()) else {
            return;
        };
        if let Heartbeat::Sent {
            reference: sent, ..
        } = self.heartbeat
            && sent == reference
        {
            self.heartbeat = Heartbeat::Due(now + self.config.heartbeat);
            return;
        }
        let Some(pending) = self.pending.remove(&reference) else {
            return;
        };
        match (pending.kind, pending.channel) {
            (PendingKind::Join, Some(channel)) => self.on_join_reply(now, channel, reply),
            (PendingKind::Leave(done), Some(channel)) => {
                self.on_left(channel);
                let _ = done.map(|done| done.send(()));
            }
            (PendingKind::Push { done, .. }, _) => drop(done.send(Ok(reply))),
            (PendingKind::Ping { sent, done }, _) => drop(done.send(now - sent)),
            (PendingKind::Join | PendingKind::Leave(_), None) => {}
        }
    }

    pub(super) fn on_left(&mut self, channel: ChannelKey) {
        if let Some(at) = self.find(channel) {
            self.remove(at);
        }
    }

    fn on_join_reply(&mut self, now: Instant, channel: ChannelKey, reply: Reply) {
        let Some(at) = self.find(channel) else { return };
        let entry = &mut self.channels[at];
        if entry.phase != Phase::Joining {
            return;
        }
        if !reply.is_ok() {
            self.on_join_refused(now, at, reply.response);
            return;
        }
        entry.phase = Phase::Joined;
        entry.n_rejoins = 0;
        let waiting = std::mem::take(&mut entry.waiting);
        match entry.first.take() {
            None => entry.emit(ChannelEvent::Rejoined(reply.response)),
            Some(first) => {
                // Whoever asked for the channel may have gone; then nobody will ever leave it.
                if first.done.send(Ok(reply.response)).is_err() {
                    self.on_leave(now, at, self.config.timeout, None);
                    return;
                }
            }
        }
        for waiting in waiting {
            self.send_push(at, waiting);
        }
    }

    fn on_join_refused(&mut self, now: Instant, at: usize, response: Payload) {
        let entry = &mut self.channels[at];
        if let Some(first) = entry.first.take() {
            let topic = entry.topic.clone();
            let _ = first.done.send(Err(JoinError::Refused { topic, response }));
            self.remove(at);
            return;
        }
        entry.fail(ErrorReason::Refused(response));
        self.plan_rejoin(now, at);
    }

    fn on_crash(&mut self, now: Instant, at: usize, payload: Payload) {
        let entry = &mut self.channels[at];
        match entry.phase {
            Phase::Leaving => self.remove(at),
            Phase::Errored => {}
            Phase::Joining | Phase::Joined => {
                if entry.first.is_some() {
                    self.on_close(at);
                    return;
                }
                entry.fail(ErrorReason::Crashed(payload));
                self.plan_rejoin(now, at);
            }
        }
    }

    fn on_close(&mut self, at: usize) {
        let entry = &mut self.channels[at];
        if let Some(first) = entry.first.take() {
            let topic = entry.topic.clone();
            let _ = first.done.send(Err(JoinError::Ended { topic }));
        }
        self.remove(at);
    }
}
