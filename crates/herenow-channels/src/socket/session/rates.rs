//! What one client may send in a time: messages, and joins among them.

use herenow_protocol::{JoinLimit, Message, Payload, ServerMessage, event};
use serde_json::json;
use smol_str::SmolStr;

use super::{JoinRefusal, Session};
use crate::dialect::{OverLimit, Told};
use crate::rate::{Bucket, Charge, Rate};
use crate::reason::CloseOrder;

/// What is left of a client's rates.
#[derive(Debug, Default)]
pub(super) struct Rates {
    messages: Bucket,
    joins: Bucket,
}

impl Session {
    /// Charges a message; tells whether it is to be handled. One that is not is answered, or its
    /// client is closed.
    pub(super) fn may_send(&mut self, message: &Message) -> bool {
        let now = self.shared.began.elapsed();
        let config = &self.shared.config;
        let (message_rate, join_rate) = (config.message_rate, config.join_rate);
        match self.rates.messages.charge(message_rate, now) {
            Charge::Within => {}
            Charge::Over if is_vital(message) => {}
            Charge::Over => {
                self.shared.metrics.limited_messages.increment();
                let limit = OverLimit::MessageRate {
                    event: &message.event,
                    awaits_answer: self.awaits_answer(message),
                };
                let text = text("messages", message_rate, "socket.message_rate");
                self.refuse(message, limit, text);
                return false;
            }
            Charge::Flood => {
                self.shared.metrics.limited_messages.increment();
                let text = text("messages", message_rate, "socket.message_rate");
                self.close_flood(text);
                return false;
            }
        }
        let is_within = message.event != event::JOIN || self.rates.joins.take(join_rate, now);
        if !is_within {
            self.shared.metrics.limited_joins.increment();
            self.shared.metrics.refused_joins.increment();
            let text = text("joins", join_rate, "socket.join_rate");
            self.refuse(message, OverLimit::JoinRate, text);
        }
        is_within
    }

    /// Answers a join that is over a limit, and counts it.
    pub(super) fn refuse_join(&mut self, message: &Message, limit: JoinLimit, reason: String) {
        let metrics = &self.shared.metrics;
        let (counter, limit, refusal) = match limit {
            JoinLimit::Channels => (
                &metrics.over_max_channels,
                OverLimit::Channels,
                JoinRefusal::TooManyChannels,
            ),
            JoinLimit::TopicBytes => (
                &metrics.over_topic_bytes,
                OverLimit::TopicBytes,
                JoinRefusal::TopicTooLong,
            ),
        };
        counter.increment();
        metrics.refused_joins.increment();
        self.log_refused_join(message.topic.as_str(), refusal);
        self.refuse(message, limit, reason);
    }

    /// Whether the client waits for an answer: if it is not known, it does.
    fn awaits_answer(&self, message: &Message) -> bool {
        let topic = message.topic.as_text();
        let mut channels = self.state.channels();
        let id = channels.find_map(|(id, joined)| (Some(joined) == topic).then_some(id));
        let slot = id.and_then(|id| self.find(id)).map(|at| &self.slots[at]);
        slot.is_none_or(|slot| slot.lane.awaits_answers())
    }

    /// Answers a message that is not handled, if it wants an answer.
    fn refuse(&self, message: &Message, limit: OverLimit<'_>, text: String) {
        tracing::debug!(reason = text, "message refused");
        let told = match self.mailbox.dialect() {
            Some(dialect) => dialect.over_limit(limit, text.clone()),
            None => Told::Reason(text.clone()),
        };
        let (told, is_last) = match told {
            Told::Reason(told) => (told, false),
            Told::LastReason(told) => (told, true),
            Told::Nothing => return,
        };
        if message.message_ref.is_some() || message.event == event::JOIN {
            self.send(&ServerMessage::Reply {
                join_ref: message.join_ref.clone(),
                message_ref: message.message_ref.clone(),
                topic: message.topic.clone(),
                status: SmolStr::new_static(event::STATUS_ERROR),
                response: Payload::Json(json!({ "reason": told }).to_string().into()),
            });
        }
        if is_last {
            self.close_flood(text);
        }
    }

    fn close_flood(&self, text: String) {
        self.shared.metrics.floods.increment();
        self.mailbox.order_close(CloseOrder::flooded(text));
    }
}

/// Whether not handling a message would leave something behind: a channel, or a dead connection.
fn is_vital(message: &Message) -> bool {
    [event::HEARTBEAT, event::LEAVE].contains(&message.event.as_str())
}

fn text(what: &str, rate: Rate, setting: &str) -> String {
    let Rate { per_second, burst } = rate;
    format!("too many {what}, the limit is {per_second} a second and {burst} at once ({setting})")
}
