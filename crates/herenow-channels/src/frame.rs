//! A server frame, WebSocket header included, ready to be written and cheap to share.

mod queue;

use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};
use herenow_protocol::{CloseCode, Encoded, FrameKind};
use smallvec::SmallVec;

pub(crate) use self::queue::FrameQueue;

const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;
const FIN_CLOSE: u8 = 0x88;
const FIN_PONG: u8 = 0x8A;
const OPCODE_MASK: u8 = 0x0F;
const OPCODE_TEXT: u8 = 0x1;
const OPCODE_BINARY: u8 = 0x2;
/// Longest header of an unmasked frame.
const MAX_HEADER_BYTES: usize = 10;

/// Buffers of one vectored write; `N` of them without an allocation.
pub(crate) type Slices<'a, const N: usize> = SmallVec<[IoSlice<'a>; N]>;

/// One frame of the server, as it goes on the wire.
///
/// Cloning shares the bytes. 32 bytes large, so that a queue of frames costs little.
#[derive(Debug, Clone)]
pub(crate) struct Frame(Repr);

#[derive(Debug, Clone)]
enum Repr {
    /// Everything in one buffer, which other connections may share.
    Whole(Bytes),
    /// A body that other connections share between a head and a tail of this one's own.
    Parts(Box<Parts>),
}

#[derive(Debug, Clone)]
struct Parts {
    head: Bytes,
    body: Bytes,
    tail: &'static [u8],
}

impl Frame {
    /// Most slices that [`Frame::push_slices`] adds.
    pub(crate) const MAX_SLICES: usize = 3;

    /// Puts the header before an encoded message: one copy, one allocation.
    pub(crate) fn from_encoded(encoded: &Encoded) -> Self {
        Self(Repr::Whole(Self::shareable(encoded)))
    }

    /// Takes bytes that [`Frame::shareable`] returned.
    pub(crate) fn from_shared(bytes: Bytes) -> Self {
        Self(Repr::Whole(bytes))
    }

    /// Returns the bytes of the whole frame, for many connections to share.
    pub(crate) fn shareable(encoded: &Encoded) -> Bytes {
        let len = encoded.bytes.len();
        let mut frame = BytesMut::with_capacity(MAX_HEADER_BYTES + len);
        put_header(&mut frame, first_byte(encoded.kind), len);
        frame.extend_from_slice(&encoded.bytes);
        frame.freeze()
    }

    /// Returns a text frame of `head`, `body` and `tail`, without copying the body.
    pub(crate) fn around(head: &[u8], body: Bytes, tail: &'static [u8]) -> Self {
        let len = head.len() + body.len() + tail.len();
        let mut start = BytesMut::with_capacity(MAX_HEADER_BYTES + head.len());
        put_header(&mut start, FIN_TEXT, len);
        start.extend_from_slice(head);
        Self(Repr::Parts(Box::new(Parts {
            head: start.freeze(),
            body,
            tail,
        })))
    }

    /// Returns a pong with the ping's payload, at most 125 bytes.
    pub(crate) fn pong(payload: &[u8]) -> Self {
        Self::control(FIN_PONG, payload)
    }

    /// Returns a close frame; `text` is at most 123 bytes.
    pub(crate) fn close(code: CloseCode, text: &str) -> Self {
        let mut payload = Vec::with_capacity(2 + text.len());
        payload.put_u16(code.0);
        payload.extend_from_slice(text.as_bytes());
        Self::control(FIN_CLOSE, &payload)
    }

    fn control(first: u8, payload: &[u8]) -> Self {
        let mut frame = BytesMut::with_capacity(2 + payload.len());
        put_header(&mut frame, first, payload.len());
        frame.extend_from_slice(payload);
        Self(Repr::Whole(frame.freeze()))
    }

    /// Returns how many bytes it takes on the wire.
    pub(crate) fn n_bytes(&self) -> usize {
        match &self.0 {
            Repr::Whole(bytes) => bytes.len(),
            Repr::Parts(parts) => parts.head.len() + parts.body.len() + parts.tail.len(),
        }
    }

    /// Adds what is left of the frame after `skip` bytes to `slices`.
    pub(crate) fn push_slices<'a, const N: usize>(
        &'a self,
        mut skip: usize,
        slices: &mut Slices<'a, N>,
    ) {
        let mut push = |part: &'a [u8]| {
            if skip < part.len() {
                slices.push(IoSlice::new(&part[skip..]));
            }
            skip = skip.saturating_sub(part.len());
        };
        match &self.0 {
            Repr::Whole(bytes) => push(bytes),
            Repr::Parts(parts) => {
                push(&parts.head);
                push(&parts.body);
                push(parts.tail);
            }
        }
    }

    /// Returns the message without its header; `None` for control frames.
    pub(crate) fn to_encoded(&self) -> Option<Encoded> {
        let (head, body, tail) = match &self.0 {
            Repr::Whole(bytes) => (bytes, &[][..], &[][..]),
            Repr::Parts(parts) => (&parts.head, &parts.body[..], parts.tail),
        };
        let kind = match head.first()? & OPCODE_MASK {
            OPCODE_TEXT => FrameKind::Text,
            OPCODE_BINARY => FrameKind::Binary,
            _ => return None,
        };
        let head = head.slice(header_len(*head.get(1)?)..);
        if body.is_empty() && tail.is_empty() {
            return Some(Encoded { kind, bytes: head });
        }
        Some(Encoded {
            kind,
            bytes: [&head[..], body, tail].concat().into(),
        })
    }
}

fn first_byte(kind: FrameKind) -> u8 {
    match kind {
        FrameKind::Text => FIN_TEXT,
        FrameKind::Binary => FIN_BINARY,
    }
}

/// Writes the header of an unmasked frame (RFC 6455, section 5.2).
fn put_header(buffer: &mut BytesMut, first: u8, len: usize) {
    buffer.put_u8(first);
    match len {
        0..=125 => buffer.put_u8(len as u8),
        126..=0xFFFF => {
            buffer.put_u8(126);
            buffer.put_u16(len as u16);
        }
        _ => {
            buffer.put_u8(127);
            buffer.put_u64(len as u64);
        }
    }
}

/// Returns the length of a header whose second byte is `second`.
fn header_len(second: u8) -> usize {
    match second {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(frame: &Frame, skip: usize) -> Vec<u8> {
        let mut slices = Slices::<4>::new();
        frame.push_slices(skip, &mut slices);
        slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    #[test]
    fn soc_02_frames_have_their_header_and_give_the_message_back() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let encoded = Encoded::binary(vec![7; len]);
            let frame = Frame::from_encoded(&encoded);
            assert_eq!(frame.n_bytes(), bytes(&frame, 0).len());
            assert_eq!(frame.to_encoded().unwrap(), encoded);
        }
        assert_eq!(
            bytes(&Frame::from_encoded(&Encoded::text("ab")), 0),
            b"\x81\x02ab"
        );
        let close = Frame::close(CloseCode::GOING_AWAY, "x");
        assert_eq!(bytes(&close, 0), b"\x88\x03\x03\xe9x");
        assert!(close.to_encoded().is_none());
        assert_eq!(bytes(&Frame::pong(b"12"), 0), b"\x8a\x0212");
    }

    #[test]
    fn soc_03_a_frame_in_parts_reads_as_one_from_any_byte_on() {
        let frame = Frame::around(b"[1,", Bytes::from_static(b"{}"), b"]");
        let whole = b"\x81\x06[1,{}]";
        for skip in 0..=whole.len() {
            assert_eq!(bytes(&frame, skip), &whole[skip..]);
        }
        assert_eq!(frame.to_encoded().unwrap(), Encoded::text("[1,{}]"));
        assert!(size_of::<Frame>() <= 32);
    }
}
