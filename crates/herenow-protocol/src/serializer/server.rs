//! What a client makes of a server's text frame.

use smol_str::SmolStr;

use super::{DecodeError, Serializer, parts};
use crate::event;
use crate::message::{JoinRef, Message, MessageRef, Payload, ServerMessage, WireText};

/// Tells replies, errors and closes from pushes and broadcasts.
pub(super) fn classify(
    message: Message,
    serializer: Serializer,
) -> Result<ServerMessage, DecodeError> {
    let Message {
        join_ref,
        message_ref,
        topic,
        event,
        payload,
    } = message;
    match event.as_str() {
        event::REPLY => reply(join_ref, message_ref, topic, &payload),
        event::ERROR => {
            let join_ref = ended_join(serializer, join_ref, message_ref);
            Ok(ServerMessage::Error {
                join_ref,
                topic,
                payload,
            })
        }
        event::CLOSE => {
            let join_ref = ended_join(serializer, join_ref, message_ref);
            Ok(ServerMessage::Close { join_ref, topic })
        }
        _ if join_ref.is_none() => Ok(ServerMessage::Broadcast {
            topic,
            event,
            payload,
        }),
        _ => Ok(ServerMessage::Push {
            join_ref,
            topic,
            event,
            payload,
        }),
    }
}

/// V1 has no join ref and writes the one that is over as the ref.
fn ended_join(
    serializer: Serializer,
    join_ref: Option<JoinRef>,
    message_ref: Option<MessageRef>,
) -> Option<JoinRef> {
    match serializer {
        Serializer::V1 => join_ref.or(message_ref.map(|message_ref| JoinRef(message_ref.0))),
        Serializer::V2 => join_ref,
    }
}

fn reply(
    join_ref: Option<JoinRef>,
    message_ref: Option<MessageRef>,
    topic: WireText,
    payload: &Payload,
) -> Result<ServerMessage, DecodeError> {
    let text = payload.bytes();
    let json = std::str::from_utf8(text).map_err(|_| DecodeError::Utf8 { field: "payload" })?;
    let fields = parts::object(json)?;
    let field = |field| parts::find(&fields, field).ok_or(DecodeError::MissingField { field });
    let (status, response) = (field("status")?, field("response")?);
    Ok(ServerMessage::Reply {
        join_ref,
        message_ref,
        topic,
        status: parts::string(status)?.unwrap_or_else(|| SmolStr::new(status.get())),
        response: Payload::Json(text.slice_ref(response.get().as_bytes())),
    })
}
