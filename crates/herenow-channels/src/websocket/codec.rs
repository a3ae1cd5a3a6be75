//! Frames from bytes: tungstenite, fed from slices.

use std::io::{self, Read, Write};

use bytes::Bytes;
use herenow_protocol::{CloseCode, Encoded};
use tokio::time::Instant;
use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

use super::outline::Outline;
use crate::config::{MAX_MESSAGE_BYTES, SocketConfig};
use crate::metrics::Metrics;
use crate::reason::CloseOrder;

/// A close code that is reserved and must not be sent (RFC 6455, section 7.4.1).
const FORBIDDEN_CODE: u16 = 1004;

const MAX_FRAME_BYTES: &str = "socket.max_frame_bytes";

/// Reads a client's frames and puts its messages together.
#[derive(Debug)]
pub(super) struct Codec(Box<Parts>);

#[derive(Debug)]
struct Parts {
    context: WebSocketContext,
    outline: Outline,
    /// Since when there is a part of a message.
    unfinished_since: Option<Instant>,
}

/// What a client sent.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(Encoded),
    Ping(Bytes),
    Pong,
    Close(Option<CloseCode>),
}

impl Codec {
    pub(super) fn new(config: &SocketConfig) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(0)
            .write_buffer_size(0)
            .max_frame_size(Some(config.max_frame_bytes))
            .max_message_size(Some(config.max_message_bytes));
        Self(Box::new(Parts {
            context: WebSocketContext::new(Role::Server, Some(config)),
            outline: Outline::default(),
            unfinished_since: None,
        }))
    }

    /// Since when there is a part of a message, or of a frame, and not all of it.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        self.0.unfinished_since
    }

    /// Gives a message that is not whole all its time again, if there is one: its client was not
    /// read.
    pub(super) fn begin_again(&mut self) {
        if let Some(since) = &mut self.0.unfinished_since {
            *since = Instant::now();
        }
    }

    /// Takes bytes off the front of `input`, which came `now`, until something is complete; `None`
    /// if nothing is.
    ///
    /// # Errors
    ///
    /// How to close the connection, because of what the client sent.
    pub(super) fn next(
        &mut self,
        input: &mut &[u8],
        now: Instant,
    ) -> Result<Option<Incoming>, CloseOrder> {
        let all = *input;
        let read = self.0.context.read(&mut Slice(input));
        self.0.follow(&all[..all.len() - input.len()], now);
        match read {
            Ok(Message::Text(text)) => Ok(Some(Incoming::Message(Encoded::text(text)))),
            Ok(Message::Binary(bytes)) => Ok(Some(Incoming::Message(Encoded::binary(bytes)))),
            Ok(Message::Ping(payload)) => Ok(Some(Incoming::Ping(payload))),
            Ok(Message::Pong(_) | Message::Frame(_)) => Ok(Some(Incoming::Pong)),
            Ok(Message::Close(frame)) => {
                let code = frame.map(|frame| match frame.reason.as_str() {
                    // What tungstenite makes of a code that no endpoint may send.
                    "Protocol violation" => CloseCode(FORBIDDEN_CODE),
                    _ => CloseCode(frame.code.into()),
                });
                Ok(Some(Incoming::Close(code)))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(self.close_order(&error)),
        }
    }

    fn close_order(&self, error: &Error) -> CloseOrder {
        let code = match error {
            Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                // The reader says so of a frame, too.
                let is_whole = self.0.context.get_config().max_message_size == Some(*max_size);
                let (what, limit) = match is_whole {
                    true => ("message", MAX_MESSAGE_BYTES),
                    false => ("frame", MAX_FRAME_BYTES),
                };
                let text = format!("the {what} is {size} bytes, the limit is {max_size} ({limit})");
                return CloseOrder::client_error(CloseCode::TOO_BIG, text);
            }
            Error::Capacity(_) => CloseCode::TOO_BIG,
            Error::Utf8(_) => CloseCode::INVALID_DATA,
            _ => CloseCode::PROTOCOL_ERROR,
        };
        CloseOrder::client_error(code, error.to_string())
    }
}

impl Parts {
    fn follow(&mut self, bytes: &[u8], now: Instant) {
        let was_whole = self.outline.follow(bytes);
        if !self.outline.is_unfinished() {
            self.unfinished_since = None;
        } else if was_whole || self.unfinished_since.is_none() {
            self.unfinished_since = Some(now);
        }
    }
}

/// Counts a connection that is closed for the size of what its client sent.
pub(super) fn count(order: &CloseOrder, metrics: &Metrics) {
    if order.code == CloseCode::TOO_BIG {
        match order.text.contains(MAX_FRAME_BYTES) {
            true => metrics.over_frame_bytes.increment(),
            false => metrics.over_message_bytes.increment(),
        }
    }
}

/// A stream that ends in "not yet". What the codec would answer by itself is dropped: pongs and
/// close frames go through the mailbox like everything else.
struct Slice<'a, 'b>(&'a mut &'b [u8]);

impl Read for Slice<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Slice<'_, '_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soc_738_what_is_too_large_is_refused_with_the_limit_of_messages_or_of_frames() {
        let mut config = SocketConfig::default();
        (config.max_frame_bytes, config.max_message_bytes) = (200, 150);
        let text = |len: u16| {
            let mut frame = vec![0x82, 0xfe];
            frame.extend_from_slice(&len.to_be_bytes());
            frame.resize(frame.len() + 4 + usize::from(len), 0);
            let mut codec = Codec::new(&config);
            codec
                .next(&mut &frame[..], Instant::now())
                .unwrap_err()
                .text
        };
        assert_eq!(
            text(300),
            "the frame is 300 bytes, the limit is 200 (socket.max_frame_bytes)"
        );
        assert_eq!(
            text(180),
            "the message is 180 bytes, the limit is 150 (socket.max_message_bytes)"
        );
    }
}
