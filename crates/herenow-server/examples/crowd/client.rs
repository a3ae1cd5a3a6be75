//! A client that speaks V2 of the protocol: it is read when its owner wants, and has no task.

use std::time::Duration;

use super::line::{Line, Way};
use super::wire::Wire;

/// What clients send to stay.
const HEARTBEAT: &str = r#"[null,"9","phoenix","heartbeat",{}]"#;

/// One connection, as its client has it.
pub(crate) struct Client {
    line: Line,
    /// What came of a frame that is not whole yet.
    partial: Vec<u8>,
    handshake: Handshake,
}

/// What the server said to the handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    Asked,
    Open,
    /// Come back later.
    Busy(Duration),
}

impl Client {
    /// Connects and sends the handshake, with a token if there is one.
    pub(crate) fn connect(way: &Way, token: Option<&str>) -> Self {
        let line = way.connect();
        let (name, token) = token.map_or(("", ""), |token| ("&token=", token));
        let head = b"GET /socket/websocket?vsn=2.0.0";
        let tail = b" HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        line.send(&[head, name.as_bytes(), token.as_bytes(), tail]);
        Self {
            line,
            partial: Vec::new(),
            handshake: Handshake::Asked,
        }
    }

    /// Returns the bytes that the wire and the client need while the connection is idle: an
    /// allocation of the wire with two counts, to the next 16 bytes, and the client itself.
    pub(crate) fn idle_bytes() -> usize {
        (size_of::<Wire>() + 3 * size_of::<usize>()).next_multiple_of(16) + size_of::<Self>()
    }

    pub(crate) fn handshake(&self) -> Handshake {
        self.handshake
    }

    pub(crate) fn is_open(&self) -> bool {
        self.handshake == Handshake::Open
    }

    /// Tells whether the server has hung up, as far as it was read.
    pub(crate) fn is_closed(&self) -> bool {
        self.line.is_closed()
    }

    /// Sends a text as one frame, masked by zeros.
    pub(crate) fn send(&self, text: &str) {
        let mut head = vec![0x81];
        match u16::try_from(text.len()) {
            Ok(len @ 0..=125) => head.push(0x80 | len.to_be_bytes()[1]),
            Ok(len) => {
                head.push(0x80 | 126);
                head.extend_from_slice(&len.to_be_bytes());
            }
            Err(_) => panic!("nobody here sends as much as {} bytes", text.len()),
        }
        head.extend_from_slice(&[0; 4]);
        self.line.send(&[&head, text.as_bytes()]);
    }

    /// Joins a topic; `more` is what the payload has besides the user.
    pub(crate) fn join(&self, topic: &str, user: &str, more: &str) {
        let text = format!(r#"["1","1","{topic}","phx_join",{{"user_id":"{user}"{more}}}]"#);
        self.send(&text);
    }

    pub(crate) fn beat(&self) {
        self.send(HEARTBEAT);
    }

    /// Goes away without a word.
    pub(crate) fn hang_up(self) {
        self.line.hang_up();
    }

    /// Takes all that has come, and calls `visit` with each text.
    pub(crate) fn read(&mut self, mut visit: impl FnMut(&str)) {
        let bytes = self.line.take();
        if bytes.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.partial);
        match all.is_empty() {
            true => all = bytes,
            false => all.extend_from_slice(&bytes),
        }
        let mut rest = &all[..];
        if self.handshake == Handshake::Asked {
            let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
                return self.partial = all;
            };
            self.handshake = handshake(&rest[..end]);
            rest = &rest[end + 4..];
        }
        if self.handshake != Handshake::Open {
            return;
        }
        while let Some((text, after)) = frame(rest) {
            visit(text);
            rest = after;
        }
        self.partial = rest.to_vec();
    }

    /// Reads, and tells whether the answer to the join was there. It must have been let in.
    pub(crate) fn read_joined(&mut self) -> bool {
        let mut is_joined = false;
        self.read(|text| is_joined |= is_joined_by(text));
        is_joined
    }
}

/// Tells whether a text is the answer to a join, which must be that it is let in.
pub(crate) fn is_joined_by(text: &str) -> bool {
    let is_reply = text.starts_with(r#"["1","1","#) && text.contains(r#","phx_reply",{"#);
    assert!(
        !is_reply || text.contains(r#""status":"ok""#),
        "refused: {text}"
    );
    is_reply
}

/// Tells whether a text is the answer to a heartbeat.
pub(crate) fn is_beat(text: &str) -> bool {
    text.starts_with(r#"[null,"9","phoenix","phx_reply""#)
}

/// Reads the answer to a handshake.
fn handshake(head: &[u8]) -> Handshake {
    let head = String::from_utf8_lossy(head);
    if head.starts_with("HTTP/1.1 101") {
        return Handshake::Open;
    }
    let after = head
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "));
    let seconds = after.and_then(|seconds| seconds.parse().ok());
    match seconds {
        Some(seconds) if head.starts_with("HTTP/1.1 503") => {
            Handshake::Busy(Duration::from_secs(seconds))
        }
        _ => panic!("the handshake was answered: {head}"),
    }
}

/// Splits a whole frame off, which must be a text or the close frame; that one is no text.
fn frame(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (head, len) = match *bytes.get(1)? {
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(),
        ),
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(len).ok()?)
        }
        len => (2, usize::from(len)),
    };
    let payload = bytes.get(head..head + len)?;
    let text = match bytes[0] {
        0x81 => std::str::from_utf8(payload).expect("texts are UTF-8"),
        0x88 => "",
        first => panic!("no text and no close frame: {first:#x}"),
    };
    Some((text, &bytes[head + len..]))
}
