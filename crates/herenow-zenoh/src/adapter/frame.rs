//! What travels: the sender's name and the subject before the message, so that any text may be one.
//!
//! Layout: version (one byte), length of the sender's name and of the subject (two bytes each, big
//! endian), the name, the subject, the message.

use bytes::Bytes;

/// The layout's version; a frame of another is not read.
const VERSION: u8 = 1;

/// Bytes before the sender's name.
const HEAD_BYTES: usize = 5;

/// The longest subject, in bytes: twice what the contract asks for.
pub(super) const MAX_SUBJECT_BYTES: usize = 4096;

/// A frame taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) from: &'a str,
    pub(super) subject: &'a str,
    pub(super) bytes: Bytes,
}

/// Returns what goes before the message.
///
/// `from` is at most 255 bytes by the configuration, `subject` at most [`MAX_SUBJECT_BYTES`].
pub(super) fn head(from: &str, subject: &str) -> Vec<u8> {
    let length = |text: &str| {
        u16::try_from(text.len())
            .expect("names and subjects are checked when they come in")
            .to_be_bytes()
    };
    let mut head = Vec::with_capacity(HEAD_BYTES + from.len() + subject.len());
    head.push(VERSION);
    head.extend_from_slice(&length(from));
    head.extend_from_slice(&length(subject));
    head.extend_from_slice(from.as_bytes());
    head.extend_from_slice(subject.as_bytes());
    head
}

/// Takes a frame apart; the message shares the frame's memory. `None` if it is not a frame.
pub(super) fn parse(frame: &Bytes) -> Option<Frame<'_>> {
    let (&[version, f0, f1, s0, s1], rest) = frame.split_first_chunk::<HEAD_BYTES>()?;
    if version != VERSION {
        return None;
    }
    let n_from = usize::from(u16::from_be_bytes([f0, f1]));
    let n_subject = usize::from(u16::from_be_bytes([s0, s1]));
    let (from, rest) = rest.split_at_checked(n_from)?;
    let (subject, _) = rest.split_at_checked(n_subject)?;
    Some(Frame {
        from: std::str::from_utf8(from).ok()?,
        subject: std::str::from_utf8(subject).ok()?,
        bytes: frame.slice(HEAD_BYTES + n_from + n_subject..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(from: &str, subject: &str, message: &[u8]) -> Bytes {
        let mut frame = head(from, subject);
        frame.extend_from_slice(message);
        frame.into()
    }

    #[test]
    fn a_frame_comes_back() {
        for (from, subject, message) in [("a", "s", "m"), ("é", "", ""), ("a", "x/*?#$", "\0")] {
            let frame = frame(from, subject, message.as_bytes());
            let parsed = parse(&frame).unwrap();
            assert_eq!((parsed.from, parsed.subject), (from, subject));
            assert_eq!(parsed.bytes, message.as_bytes());
        }
    }

    #[test]
    fn no_truncated_or_flipped_frame_panics() {
        let whole = frame("node", "subject", b"message");
        let n_head = head("node", "subject").len();
        for len in 0..n_head {
            assert_eq!(parse(&whole.slice(..len)), None);
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = parse(&flipped.into());
        }
    }
}
