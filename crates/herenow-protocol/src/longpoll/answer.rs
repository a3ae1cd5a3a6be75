//! The bodies of long-poll answers. The HTTP status is 200 for all of them.

use bytes::Bytes;

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollAnswer {
    /// 200 to a poll: the frames that have waited, oldest first.
    Messages(Vec<Bytes>),
    /// 204 to a poll: the window went by.
    Empty,
    /// 410 to a poll without a live session: here is a new one, poll again.
    NewSession,
    /// 410 to a post without a live session.
    Gone,
    /// 403: origin, version or the application refused the session.
    Forbidden,
    /// 200 to a post: every part was accepted.
    Accepted,
    /// 408 to a post: a part was not accepted within the window, or before the session ended.
    TimedOut,
}

impl PollAnswer {
    /// The status inside the body.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Messages(_) | Self::Accepted => 200,
            Self::Empty => 204,
            Self::NewSession | Self::Gone => 410,
            Self::Forbidden => 403,
            Self::TimedOut => 408,
        }
    }

    /// The body as JSON, `{"status":…,"token":…,"messages":[…]}` for polls and `{"status":…}`
    /// for the others. Each message is the text of a frame as a JSON string.
    ///
    /// `token` is the one presented, or the new one; it is only written to polls.
    #[must_use]
    pub fn to_json(&self, token: &str) -> Bytes {
        let status = self.status();
        let messages: &[Bytes] = match self {
            Self::Messages(messages) => messages,
            Self::Empty | Self::NewSession => &[],
            Self::Gone | Self::Forbidden | Self::Accepted | Self::TimedOut => {
                return format!(r#"{{"status":{status}}}"#).into();
            }
        };
        let n_bytes: usize = messages
            .iter()
            .map(|message| message.len() * 5 / 4 + 8)
            .sum();
        let mut out = Vec::with_capacity(64 + token.len() + n_bytes);
        out.extend_from_slice(format!(r#"{{"status":{status},"token":"#).as_bytes());
        write_string(&mut out, token);
        out.extend_from_slice(br#","messages":["#);
        for (nth, message) in messages.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            // The session keeps text only; whoever else builds an answer gets it repaired.
            write_string(&mut out, &String::from_utf8_lossy(message));
        }
        out.extend_from_slice(b"]}");
        out.into()
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always serializes, and a Vec always grows");
}
