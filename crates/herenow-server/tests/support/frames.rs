//! WebSocket frames by hand, on a bare connection: whatever breaks the rules can be said.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// One connection after its handshake.
#[derive(Debug)]
pub(crate) struct Peer {
    reader: ReadHalf<TcpStream>,
    /// Written to from a task, so that neither side waits for the other to read.
    writer: tokio::sync::mpsc::UnboundedSender<Vec<u8>>,
}

impl Peer {
    /// Connects to `/echo/websocket`.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_at(address, "/echo/websocket").await
    }

    pub(crate) async fn open_at(address: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(
            head.starts_with(b"HTTP/1.1 101 "),
            "{}",
            head.escape_ascii()
        );
        let (reader, half) = tokio::io::split(stream);
        let (writer, queue) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(write_all(half, queue));
        Self { reader, writer }
    }

    /// Sends bytes, without waiting for them to leave.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // A server that has closed shows in what is read.
        let _ = self.writer.send(bytes.to_vec());
        tokio::task::yield_now().await;
    }

    /// Reads one frame; `None` if the connection has ended.
    pub(crate) async fn read(&mut self) -> Option<Seen> {
        tokio::time::timeout(PATIENCE, self.read_frame())
            .await
            .expect("the server should answer")
    }

    /// Reads until the connection ends.
    pub(crate) async fn read_to_end(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(frame) = self.read().await {
            let is_close = matches!(frame, Seen::Close(_));
            seen.push(frame);
            if is_close {
                break;
            }
        }
        seen
    }

    async fn read_frame(&mut self) -> Option<Seen> {
        let first = self.reader.read_u8().await.ok()?;
        let second = self.reader.read_u8().await.ok()?;
        assert_eq!(
            first & 0xf0,
            0x80,
            "a server sends whole frames without reserved bits"
        );
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let len = match second {
            126 => self.reader.read_u16().await.ok()?.into(),
            127 => self.reader.read_u64().await.ok()?,
            short => short.into(),
        };
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.reader.read_exact(&mut payload).await.ok()?;
        Some(match first & 0x0f {
            1 => Seen::Text(String::from_utf8(payload).unwrap()),
            2 => Seen::Binary(payload),
            8 => Seen::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            10 => Seen::Pong(payload),
            opcode => panic!("unexpected opcode {opcode}"),
        })
    }
}

async fn write_all(
    mut half: WriteHalf<TcpStream>,
    mut queue: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>,
) {
    while let Some(bytes) = queue.recv().await {
        if half.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// A frame as a client sends it: `first` is its first byte, the payload is masked.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// The payload of a close frame.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// A text of that many bytes.
pub(crate) fn text_of(len: usize) -> String {
    "*BAsd7&jh23".chars().cycle().take(len).collect()
}

/// That many bytes, which are no text.
pub(crate) fn bytes_of(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| 0xfe_u8.wrapping_sub(n as u8 % 7))
        .collect()
}
