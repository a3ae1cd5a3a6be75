//! What a broker carries: the sender's name and the subject go in front of the message.
//!
//! Layout: version (one byte, 2), the number of the sending process (eight bytes), name length (one
//! byte), name, subject length (two bytes), subject, message to the end. Numbers are big endian.
//! Subjects of ours are any text; those of a broker are not, so ours travel inside, and a broker's
//! subject names only the cluster and the node.

use bytes::Bytes;

use crate::adapter::AdapterError;

use super::settings::MAX_NAME_BYTES;

/// Bytes of a subject at most, as the [`Adapter`](crate::Adapter) contract allows.
pub const MAX_SUBJECT_BYTES: usize = 2_048;

const VERSION: u8 = 2;

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The name of the node that sent it.
    pub from: &'a str,
    /// Of the process that sent it: another one may have taken the same name.
    pub process: u64,
    /// The subject it was sent on.
    pub subject: &'a str,
    /// The message, a slice of the frame.
    pub bytes: Bytes,
}

/// Puts sender and subject in front of a message. Copies the message once.
///
/// # Errors
///
/// [`AdapterError::Engine`] if `subject` is over [`MAX_SUBJECT_BYTES`].
///
/// # Panics
///
/// If `from` is over [`MAX_NAME_BYTES`], which the check of the settings excludes.
pub fn encode(
    from: &str,
    process: u64,
    subject: &str,
    bytes: &[u8],
) -> Result<Bytes, AdapterError> {
    assert!(from.len() <= MAX_NAME_BYTES, "node names are checked");
    if subject.len() > MAX_SUBJECT_BYTES {
        let len = subject.len();
        return Err(AdapterError::Engine {
            reason: format!("subject is {len} bytes, the limit is {MAX_SUBJECT_BYTES}"),
        });
    }
    let subject_len = u16::try_from(subject.len()).expect("the limit fits two bytes");
    let name_len = u8::try_from(from.len()).expect("the limit fits one byte");
    let mut frame = Vec::with_capacity(12 + from.len() + subject.len() + bytes.len());
    frame.push(VERSION);
    frame.extend(process.to_be_bytes());
    frame.push(name_len);
    frame.extend_from_slice(from.as_bytes());
    frame.extend(subject_len.to_be_bytes());
    frame.extend_from_slice(subject.as_bytes());
    frame.extend_from_slice(bytes);
    Ok(frame.into())
}

/// Takes a frame apart; `None` if it is none of ours.
pub fn decode(frame: &Bytes) -> Option<Frame<'_>> {
    let (&[version], rest) = frame.split_first_chunk::<1>()?;
    let (process, rest) = rest.split_first_chunk::<8>()?;
    let (&[name_len], rest) = rest.split_first_chunk::<1>()?;
    let (from, rest) = rest.split_at_checked(name_len.into())?;
    let (subject_len, rest) = rest.split_first_chunk::<2>()?;
    let (subject, bytes) = rest.split_at_checked(u16::from_be_bytes(*subject_len).into())?;
    if version != VERSION || from.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
        return None;
    }
    Some(Frame {
        from: str::from_utf8(from).ok()?,
        process: u64::from_be_bytes(*process),
        subject: str::from_utf8(subject).ok()?,
        bytes: frame.slice_ref(bytes),
    })
}

/// Writes a name so that it is one part of a broker's subject: `a.b c` is `a%2Eb%20c`.
///
/// Letters, digits, `-` and `_` stay, every other byte becomes `%` and two hexadecimal digits, so
/// that different names never meet and none is a wildcard.
pub fn token(name: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            token.push('%');
            token.push(char::from(DIGITS[usize::from(byte >> 4)]));
            token.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for (from, subject, bytes) in [("a", "", &b""[..]), ("ü", "t room.*\n", b"\0\xff")] {
            let frame = encode(from, 7, subject, bytes).unwrap();
            let bytes = Bytes::from_static(bytes);
            assert_eq!(
                decode(&frame),
                Some(Frame {
                    from,
                    process: 7,
                    subject,
                    bytes
                })
            );
        }
    }

    #[test]
    fn no_prefix_is_taken_for_a_whole_head() {
        let frame = encode("node", 7, "subject", b"").unwrap();
        for len in 0..frame.len() {
            assert_eq!(decode(&frame.slice(..len)), None, "{len} bytes");
        }
        assert_eq!(
            decode(&Bytes::from_static(b"\x01\0\0\0\0\0\0\0\0\x01a\0\0")),
            None
        );
        assert_eq!(
            decode(&Bytes::from_static(b"\x02\0\0\0\0\0\0\0\0\x00\0\0")),
            None
        );
        assert_eq!(
            decode(&Bytes::from_static(b"\x02\0\0\0\0\0\0\0\0\x01\xff\0\0")),
            None
        );
    }

    #[test]
    fn a_long_subject_is_refused_with_the_limit() {
        let error = encode("a", 7, &"s".repeat(2_049), b"").unwrap_err();
        assert!(error.to_string().contains("2049 bytes, the limit is 2048"));
    }

    #[test]
    fn tokens_are_unambiguous() {
        assert_eq!(token("node-1_A"), "node-1_A");
        assert_eq!(token("a.b c*>"), "a%2Eb%20c%2A%3E");
        assert_eq!(token("a%2Eb"), "a%252Eb");
        assert_eq!(token("ü"), "%C3%BC");
    }
}
