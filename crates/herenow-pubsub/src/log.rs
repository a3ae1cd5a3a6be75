//! What strangers say, as a log may have it, and how often a log may have it.
//!
//! Whoever connects chooses topics, events, origins and versions. Written as they are, they could
//! end a line and forge the next one, or fill a disk.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Bytes of a client's text that are logged.
const MAX_TEXT_BYTES: usize = 128;
/// Lines of one kind that are logged before the log waits for [`PERIOD`] to be over.
const MAX_LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// Text that a client chose, for a log: quoted, escaped, and cut to 128 bytes.
#[derive(Clone, Copy)]
pub struct ClientText<'a>(&'a str);

/// Makes a client's text fit for a log, whose `Display` it is.
///
/// # Examples
///
/// ```
/// let topic = "room:1\nWARN forged";
/// let logged = herenow_pubsub::client_text(topic).to_string();
/// assert_eq!(logged, r#""room:1\nWARN forged""#);
/// ```
pub fn client_text(text: &str) -> ClientText<'_> {
    ClientText(text)
}

impl fmt::Display for ClientText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = &self.0[..self.0.floor_char_boundary(MAX_TEXT_BYTES)];
        write!(f, "{kept:?}")?;
        match self.0.len() - kept.len() {
            0 => Ok(()),
            n_left_out => write!(f, " and {n_left_out} bytes more"),
        }
    }
}

impl fmt::Debug for ClientText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bounds the lines of one kind that strangers can cause: ten in ten seconds.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<Option<Lines>>);

#[derive(Debug)]
struct Lines {
    since: Instant,
    n_logged: u32,
    n_left_out: u64,
}

impl LogLimit {
    /// Returns how many lines were left out since the last one, which the line is to say as
    /// `n_left_out`; `None` if this one is left out, too.
    pub fn may_log(&self) -> Option<u64> {
        self.may_log_at(Instant::now())
    }

    /// As [`LogLimit::may_log`], at a time.
    fn may_log_at(&self, now: Instant) -> Option<u64> {
        let mut lines = self.0.lock();
        let lines = lines.get_or_insert(Lines {
            since: now,
            n_logged: 0,
            n_left_out: 0,
        });
        if now.duration_since(lines.since) >= PERIOD {
            (lines.since, lines.n_logged) = (now, 0);
        }
        if lines.n_logged == MAX_LINES {
            lines.n_left_out += 1;
            return None;
        }
        lines.n_logged += 1;
        Some(std::mem::take(&mut lines.n_left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soc_726_text_of_a_client_is_escaped_and_cut() {
        let logged = |text: &str| client_text(text).to_string();
        assert_eq!(logged("room:1"), r#""room:1""#);
        let forged = "a\r\n2026 WARN b\u{1b}[31m\u{202e} topic=\"x\"";
        assert_eq!(
            logged(forged),
            r#""a\r\n2026 WARN b\u{1b}[31m\u{202e} topic=\"x\"""#
        );
        let long = logged(&"x".repeat(3_000_000));
        assert_eq!(
            long,
            format!("\"{}\" and 2999872 bytes more", "x".repeat(128))
        );
        // Not in the middle of a character.
        let wide = logged(&"☃".repeat(50));
        assert_eq!(wide, format!("\"{}\" and 24 bytes more", "☃".repeat(42)));
    }

    #[test]
    fn soc_727_so_many_lines_are_logged_and_then_how_many_were_not() {
        let (limit, start) = (LogLimit::default(), Instant::now());
        let logged: Vec<_> = (0..13).filter_map(|_| limit.may_log_at(start)).collect();
        assert_eq!(logged, [0; 10]);
        assert_eq!(limit.may_log_at(start + PERIOD), Some(3));
        assert_eq!(limit.may_log_at(start + PERIOD), Some(0));
    }
}
