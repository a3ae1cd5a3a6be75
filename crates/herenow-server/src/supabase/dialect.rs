//! [`Supabase`]: frames and rooms as the dialect's clients have them.

use std::borrow::Cow;
use std::num::NonZero;

use herenow_channels::{
    DecodeError, Dialect, EncodeError, Encoded, Message, OverLimit, Payload, Serializer, Told,
};
use herenow_protocol::{FrameKind, event};

use super::frame::{self, UserBroadcast};
use super::{BROADCAST, Room, TOPIC_PREFIX, join};
use crate::builtin::is_reserved;

const TOO_MANY_CHANNELS: &str = "ChannelRateLimitReached: Too many channels";
const TOO_MANY_JOINS: &str = "ClientJoinRateLimitReached: Too many joins per second";

/// The dialect.
#[derive(Debug)]
pub(super) struct Supabase;

impl Dialect for Supabase {
    fn number(&self) -> NonZero<u8> {
        NonZero::<u8>::MIN
    }

    fn room<'a>(&self, topic: &'a str, payload: &Payload) -> Cow<'a, str> {
        match topic.strip_prefix(TOPIC_PREFIX) {
            Some(name) if join::is_private(payload) => {
                let is_private = true;
                Cow::Owned(Room { name, is_private }.topic())
            }
            Some(_) | None => Cow::Borrowed(topic),
        }
    }

    fn topic<'a>(&self, room: &'a str) -> Cow<'a, str> {
        match Room::of(room) {
            Some(Room { name, .. }) => Cow::Owned(format!("{TOPIC_PREFIX}{name}")),
            None => Cow::Borrowed(room),
        }
    }

    fn decode(&self, serializer: Serializer, frame: &Encoded) -> Result<Message, DecodeError> {
        match (serializer, frame.kind) {
            (Serializer::V2, FrameKind::Binary) => frame::decode(&frame.bytes),
            (Serializer::V1, _) | (Serializer::V2, FrameKind::Text) => serializer.decode(frame),
        }
    }

    fn forgives(&self) -> bool {
        true
    }

    /// In the words that these clients know, and then what every client is told. A broadcast that
    /// is not acknowledged is never answered: some of them join anew for any error.
    fn over_limit(&self, limit: OverLimit<'_>, text: String) -> Told {
        match limit {
            OverLimit::Channels => Told::Reason(format!("{TOO_MANY_CHANNELS}: {text}")),
            OverLimit::JoinRate => Told::LastReason(format!("{TOO_MANY_JOINS}: {text}")),
            OverLimit::MessageRate {
                event: BROADCAST,
                awaits_answer: false,
            } => Told::Nothing,
            _ => Told::Reason(text),
        }
    }

    /// Broadcasts of these clients as they are, diffs as anywhere, and what a backend broadcasts as
    /// if it were one of these clients.
    fn encode_broadcast(
        &self,
        serializer: Serializer,
        topic: &str,
        event: &str,
        payload: &Payload,
    ) -> Result<Option<Encoded>, EncodeError> {
        match (event, payload) {
            (BROADCAST, Payload::Binary(bytes)) => match UserBroadcast::of_room(bytes) {
                Some(broadcast) => broadcast.encode(serializer, topic),
                None => Ok(None),
            },
            (BROADCAST | event::PRESENCE_DIFF, Payload::Json(_)) => {
                let encoded = serializer.encode_broadcast(topic, event, payload);
                encoded.map(Some)
            }
            (event, _) if is_reserved(event) => Ok(None),
            (event, Payload::Json(json)) => {
                let payload = frame::wrapped(event, json);
                let encoded = serializer.encode_broadcast(topic, BROADCAST, &payload);
                encoded.map(Some)
            }
            (event, Payload::Binary(bytes)) => {
                let broadcast = UserBroadcast {
                    event,
                    is_json: false,
                    payload: bytes,
                };
                broadcast.encode(serializer, topic)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1608_public_and_private_are_two_rooms_of_one_topic() {
        let join = Payload::from_static_json;
        let (public, private) = (join("{}"), join(r#"{"config":{"private":true}}"#));
        let room = |topic, payload| Supabase.room(topic, payload).into_owned();
        assert_eq!(room("realtime:a:b", &public), "realtime:a:b");
        assert_eq!(room("realtime:a:b", &private), "realtime-private:a:b");
        for room in ["realtime:a:b", "realtime-private:a:b"] {
            assert_eq!(Supabase.topic(room), "realtime:a:b");
        }
        assert_eq!(
            Supabase.topic("realtime:private:x"),
            "realtime:private:x",
            "just another public name"
        );
    }

    #[test]
    fn srv_1609_what_a_backend_broadcasts_is_a_broadcast_of_these_clients() {
        let payload = Payload::from_static_json(r#"{"n":1}"#);
        let encode = |serializer, event| {
            let encoded = Supabase.encode_broadcast(serializer, "realtime:x", event, &payload);
            encoded.unwrap()
        };
        assert_eq!(
            encode(Serializer::V2, "news"),
            Some(Encoded::text(
                r#"[null,null,"realtime:x","broadcast",{"type":"broadcast","event":"news","payload":{"n":1}}]"#
            ))
        );
        for reserved in ["phx_close", "herenow:evict", "presence_state"] {
            assert_eq!(encode(Serializer::V1, reserved), None, "{reserved}");
        }
    }
}
