//! What one client may send in a time: messages, and joins among them.

use herenow_protocol::{Message, Payload, ServerMessage, event};
use smol_str::SmolStr;

use super::Session;
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
                self.refuse(message, &text("messages", message_rate, "message_rate"));
                return false;
            }
            Charge::Flood => {
                self.shared.metrics.limited_messages.increment();
                self.shared.metrics.floods.increment();
                let text = text("messages", message_rate, "message_rate");
                self.mailbox.order_close(CloseOrder::flooded(text));
                return false;
            }
        }
        let is_within = message.event != event::JOIN || self.rates.joins.take(join_rate, now);
        if !is_within {
            self.shared.metrics.limited_joins.increment();
            self.shared.metrics.refused_joins.increment();
            self.refuse(message, &text("joins", join_rate, "join_rate"));
        }
        is_within
    }

    /// Answers a message that is not handled, if it wants an answer.
    fn refuse(&self, message: &Message, reason: &str) {
        if message.message_ref.is_none() {
            return;
        }
        tracing::debug!(reason, "message refused");
        let reason = format!(r#"{{"reason":"{reason}"}}"#);
        self.send(&ServerMessage::Reply {
            join_ref: message.join_ref.clone(),
            message_ref: message.message_ref.clone(),
            topic: message.topic.clone(),
            status: SmolStr::new_static(event::STATUS_ERROR),
            response: Payload::Json(reason.into()),
        });
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
