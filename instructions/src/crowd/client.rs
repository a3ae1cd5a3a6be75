//! A client of V2 of the protocol, which prepares what it says before anything is counted.

use std::sync::Arc;

use herenow_protocol::{JoinRef, Payload, PresenceFold};
use serde_json::Value;
use serde_json::value::RawValue;

use super::wire::{End, Wire};

pub(super) struct Client {
    wire: Arc<Wire>,
    /// What it says first, next, and so on, one after the other.
    prepared: std::vec::IntoIter<Vec<u8>>,
}

impl Client {
    /// One that is going to connect, to join a topic, and to say so many things there.
    pub(super) fn new(token: Option<&str>, topic: &str, user: &str, n_messages: usize) -> Self {
        let join = format!(r#"["1","1","{topic}","phx_join",{{"user_id":"{user}"}}]"#);
        let mut speech = Vec::new();
        for message in 0..n_messages {
            let text = format!(r#"["1","{message}","{topic}","said",{{"text":"hello"}}]"#);
            push_frame(&mut speech, &text);
        }
        let mut first = Vec::new();
        push_frame(&mut first, &join);
        Self {
            wire: Arc::default(),
            prepared: vec![handshake(token), first, speech].into_iter(),
        }
    }

    /// The server's end of its connection.
    pub(super) fn end(&self) -> End {
        End(self.wire.clone())
    }

    /// Says what is next.
    pub(super) fn speak(&mut self) {
        self.wire.send(self.prepared.next().unwrap_or_default());
    }

    /// Reads all that has come, and returns how often an event was in it.
    pub(super) fn count(&self, event: &str) -> usize {
        let (read, event) = (self.wire.take(), format!(r#","{event}",{{"#));
        texts(&read).filter(|text| text.contains(&event)).count()
    }

    /// Reads all that has come, and returns whom a stock client would list.
    pub(super) fn list(&self) -> Vec<String> {
        let (read, mut fold) = (self.wire.take(), PresenceFold::default());
        for text in texts(&read) {
            let (_, _, _, event, payload): (Value, Value, Value, String, Box<RawValue>) =
                serde_json::from_str(text).expect("a message of five");
            let payload = Payload::Json(payload.get().to_owned().into());
            let folded = fold.handle_event(&JoinRef::from("1"), &event, &payload, &mut |_| {});
            folded.expect("what the server sends folds");
        }
        let mut keys: Vec<_> = fold.state().list().map(|(key, _)| key.to_owned()).collect();
        keys.sort_unstable();
        keys
    }
}

fn handshake(token: Option<&str>) -> Vec<u8> {
    let token = token.map_or_else(String::new, |token| format!("&token={token}"));
    let head = format!(
        "GET /socket/websocket?vsn=2.0.0{token} HTTP/1.1\r\nhost: localhost\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    head.into_bytes()
}

/// Adds a text as one frame, masked by zeros.
fn push_frame(bytes: &mut Vec<u8>, text: &str) {
    let len = u8::try_from(text.len()).ok().filter(|len| *len < 126);
    bytes.extend_from_slice(&[0x81, 0x80 | len.expect("short texts"), 0, 0, 0, 0]);
    bytes.extend_from_slice(text.as_bytes());
}

/// The texts after the answer to the handshake.
fn texts(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let mut rest = &bytes[head.map_or(bytes.len(), |end| end + 4)..];
    std::iter::from_fn(move || {
        let (head, len) = match *rest.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            127 => (
                10,
                usize::try_from(u64::from_be_bytes(rest[2..10].try_into().ok()?)).ok()?,
            ),
            len => (2, usize::from(len)),
        };
        let text = std::str::from_utf8(&rest[head..head + len]);
        rest = &rest[head + len..];
        Some(text.expect("texts are UTF-8"))
    })
}
