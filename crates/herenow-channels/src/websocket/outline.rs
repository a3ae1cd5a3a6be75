//! [`Outline`]: where a client's messages begin and end, without what is in them.
//!
//! The codec keeps what it has of a message and does not say whether there is any. So the heads of
//! frames are looked at once more here, and their payloads skipped.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;

/// As many bytes as the longest head of a frame has.
const MAX_HEAD: usize = 14;

/// Follows the bytes of a client.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// What has come of the head of a frame.
    head: [u8; MAX_HEAD],
    n_head: u8,
    /// Bytes of the frame's payload that are still to come.
    n_left: u64,
    /// Whether that frame is the last of a message.
    ends_message: bool,
    /// Whether frames of a message have come, and not its last one.
    is_in_message: bool,
}

impl Outline {
    /// Follows these bytes, as they come; true if a message, or a frame that is of none, ended in
    /// them. Those that are no frame are the codec's business.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> bool {
        let mut was_whole = false;
        while !bytes.is_empty() {
            let n_left = usize::try_from(self.n_left).unwrap_or(usize::MAX);
            let n_skipped = n_left.min(bytes.len());
            if n_skipped > 0 {
                bytes = &bytes[n_skipped..];
                self.n_left -= n_skipped as u64;
            } else if !self.read_head(&mut bytes) {
                break;
            }
            self.end_frame();
            was_whole |= !self.is_unfinished();
        }
        was_whole
    }

    /// Tells whether a message, or a frame, has begun and is not whole.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is_in_message || self.n_head > 0 || self.n_left > 0
    }

    /// Takes bytes of a head; false if there is no more to be made of them.
    fn read_head(&mut self, bytes: &mut &[u8]) -> bool {
        let known = usize::from(self.n_head);
        let n_added = bytes.len().min(MAX_HEAD - known);
        self.head[known..known + n_added].copy_from_slice(&bytes[..n_added]);
        let mut cursor = Cursor::new(&self.head[..known + n_added]);
        let Ok(Some((header, n_payload))) = FrameHeader::parse(&mut cursor) else {
            self.n_head = u8::try_from(known + n_added).unwrap_or_default();
            return false;
        };
        let n_head = usize::try_from(cursor.position()).unwrap_or_default();
        *bytes = &bytes[n_head.saturating_sub(known)..];
        (self.n_head, self.n_left) = (0, n_payload);
        // Pings and their like may come between the frames of a message.
        if let OpCode::Data(_) = header.opcode {
            self.is_in_message = true;
            self.ends_message = header.is_final;
        } else {
            self.ends_message = false;
        }
        true
    }

    fn end_frame(&mut self) {
        if self.n_left == 0 && self.ends_message {
            (self.is_in_message, self.ends_message) = (false, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame of this many bytes.
    fn frame(first: u8, n_bytes: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match n_bytes {
            0..=125 => frame.push(0x80 | n_bytes as u8),
            126..=0xFFFF => {
                frame.push(0xFE);
                frame.extend_from_slice(&(n_bytes as u16).to_be_bytes());
            }
            _ => {
                frame.push(0xFF);
                frame.extend_from_slice(&(n_bytes as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + 4 + n_bytes, 0);
        frame
    }

    #[test]
    fn srv_1774_a_message_is_unfinished_from_its_first_byte_to_its_last() {
        let whole = [
            vec![frame(0x81, 0)],
            vec![frame(0x82, 5)],
            vec![frame(0x81, 126)],
            vec![frame(0x82, 70_000)],
            vec![
                frame(0x01, 5),
                frame(0x89, 3),
                frame(0x00, 0),
                frame(0x80, 0),
            ],
            vec![frame(0x02, 0), frame(0x8A, 0), frame(0x80, 200)],
            vec![frame(0x89, 4)],
            vec![frame(0x88, 0)],
        ];
        // However the bytes come, and one message after the other.
        for n_at_once in [1, 2, 3, 7, 100, 1_000_000] {
            let mut outline = Outline::default();
            for message in &whole {
                let bytes = message.concat();
                let (last, before) = bytes.split_last().unwrap();
                assert!(!outline.is_unfinished());
                for part in before.chunks(n_at_once) {
                    assert!(!outline.follow(part));
                    assert!(outline.is_unfinished(), "{n_at_once}: {message:?}");
                }
                assert!(outline.follow(&[*last]));
                assert!(!outline.is_unfinished(), "{n_at_once}: {message:?}");
            }
            let all: Vec<u8> = whole.concat().concat();
            for part in all.chunks(n_at_once) {
                outline.follow(part);
            }
            assert!(!outline.is_unfinished());
            outline.follow(&frame(0x01, 3));
            assert!(!outline.follow(&frame(0x89, 3)), "a ping ends no message");
            assert!(outline.is_unfinished());
            let next = [frame(0x80, 3), frame(0x01, 3)].concat();
            assert!(outline.follow(&next), "one ends, and the next begins");
            assert!(outline.is_unfinished());
        }
    }

    #[test]
    fn srv_1774_what_is_no_frame_is_followed_without_harm() {
        let mut outline = Outline::default();
        let mut seed = 7_u32;
        for _ in 0..10_000 {
            let bytes: Vec<u8> = (0..seed % 40)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            outline.follow(&bytes);
            seed = seed.wrapping_add(1);
        }
    }
}
