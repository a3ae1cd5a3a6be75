//! Frames of clients, and what servers send.

use bytes::Bytes;
use herenow_protocol::{Message, Payload, Serializer};

/// Returns a push of 200 bytes as V2 has it, such as a chat or cursor message, in the words of a
/// serializer.
///
/// # Panics
///
/// If the serializer does not take what the other one wrote.
pub fn push(serializer: Serializer) -> Bytes {
    encoded(serializer, &message())
}

/// Returns a push of 200 bytes whose payload is binary.
///
/// # Panics
///
/// If V2 does not take a binary payload.
pub fn binary_push() -> Bytes {
    let mut message = message();
    message.payload = Payload::Binary(Bytes::from(vec![7; 160]));
    encoded(Serializer::V2, &message)
}

/// Returns the payload of such a push.
///
/// # Panics
///
/// If V2 does not read the push.
pub fn payload() -> Payload {
    message().payload
}

fn message() -> Message {
    let head = r#"["12","345","room:lobby","new_msg",{"user":{"id":42,"name":"Ada"},"text":""#;
    let text = "x".repeat(200 - head.len() - 4);
    let frame = Bytes::from(format!(r#"{head}{text}"}}]"#));
    let message = Serializer::V2.decode_text(&frame);
    message.expect("it is a frame of V2")
}

fn encoded(serializer: Serializer, message: &Message) -> Bytes {
    let encoded = serializer.encode_client(message);
    encoded.expect("a client can say that").bytes
}
