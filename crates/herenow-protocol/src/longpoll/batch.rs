//! Splits the body of an `application/x-ndjson` POST into frames.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::LongPollConfig;
use crate::serializer::Encoded;

/// Why a part of a batch is not a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A binary part over the limit; the request is answered with HTTP 400.
    #[error("a binary part is {len} base64 characters, the limit is {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A part that is neither an array nor base64; the reference answers HTTP 500.
    #[error("a part is neither a JSON array nor base64")]
    Base64(#[from] base64::DecodeError),
}

/// The frames of a batch, in order, each decoded when it is asked for.
///
/// Parts are lines, ended by `\n` or `\r\n`. One that begins with `[` is a text frame, a slice of
/// `body`; any other is base64 (standard alphabet, padded) of a binary frame. Parts after
/// [`LongPollConfig::max_parts`] are ignored, and so are empty lines, which count among them: a
/// text of lines usually ends in one. The reference takes each for an empty binary frame, and ends
/// the session.
pub fn split_batch(
    config: &LongPollConfig,
    body: &Bytes,
) -> impl Iterator<Item = Result<Encoded, BatchError>> + Send + use<> {
    let body = body.clone();
    let max = config.max_base64_chars;
    let mut rest = Some(body);
    let lines = std::iter::from_fn(move || {
        let mut line = rest.take()?;
        if let Some(at) = line.iter().position(|&byte| byte == b'\n') {
            rest = Some(line.slice(at + 1..));
            line.truncate(at);
            if line.ends_with(b"\r") {
                line.truncate(at - 1);
            }
        }
        Some(line)
    });
    lines
        .take(config.max_parts)
        .filter(|line| !line.is_empty())
        .map(move |line| frame(line, max))
}

fn frame(line: Bytes, max: usize) -> Result<Encoded, BatchError> {
    if line.starts_with(b"[") {
        return Ok(Encoded::text(line));
    }
    if line.len() > max {
        return Err(BatchError::TooLong {
            len: line.len(),
            max,
        });
    }
    Ok(Encoded::binary(STANDARD.decode(&line)?))
}
