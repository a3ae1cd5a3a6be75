//! [`Modes`]: how each topic tells of who is here, which depends on how large it is.
//!
//! | mode | when | what a client gets |
//! | --- | --- | --- |
//! | exact | few subscribers | the list, then each diff at once |
//! | coalesced | many subscribers | the list, then the diffs of a window as one |
//! | summary | very many presences | how many, and a sample, at a bounded rate |
//!
//! Only a client that asked is told of modes, and only one that asked, or whose operator wants so,
//! is given the summary: all others always end with the list, whatever the mode. The notifier of
//! the topic's shard decides, between its diffs, and a mode is left at a smaller size than it is
//! entered.
//!
//! A mode has a number, which grows. A client that joins takes the mode of that moment and may be
//! told of a change at the same time; the number says which of the two is later.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use herenow_core::Topic;
use herenow_pubsub::LocalPayload;
use parking_lot::Mutex;

use crate::config::{BigRoom, Window};
use crate::group::{Presences, Snapshot, render_entry};

/// The event that tells of a mode: `{"mode": "exact" | "coalesced" | "summary"}`.
pub const PRESENCE_MODE: &str = "presence:mode";
/// The event that tells how many are here, and some of them: `{"count": …, "sample": {…}}`.
pub const PRESENCE_COUNT: &str = "presence:count";

/// How a topic tells of who is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The list, then each diff at once.
    Exact,
    /// The list, then the diffs of a window as one.
    Coalesced,
    /// How many, and a sample.
    Summary,
}

impl Mode {
    /// Returns its name, as clients are told it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Coalesced => "coalesced",
            Self::Summary => "summary",
        }
    }

    /// Returns the mode that follows this one at a size of the topic.
    pub(crate) fn next(
        self,
        (n_presences, n_subscribers): (usize, usize),
        big_room: &BigRoom,
        window: Window,
    ) -> Self {
        let summary_from = match self {
            Self::Summary => big_room.summary_until,
            Self::Exact | Self::Coalesced => big_room.summary_from,
        };
        match n_presences {
            0 => Self::Exact, // Nothing is left to tell, and nothing to remember.
            n if n >= summary_from => Self::Summary,
            _ if n_subscribers > self.window(window).free_subscribers => Self::Coalesced,
            _ => Self::Exact,
        }
    }

    /// Returns the window of a topic in this mode: it ends at four fifths of where it began.
    pub(crate) fn window(self, window: Window) -> Window {
        let free_subscribers = match self {
            Self::Exact => window.free_subscribers,
            Self::Coalesced | Self::Summary => window.free_subscribers / 5 * 4,
        };
        Window {
            free_subscribers,
            ..window
        }
    }
}

/// The modes of one shard's topics; only those that are not exact are here.
#[derive(Default)]
pub(crate) struct Modes(Mutex<Current>);

#[derive(Default)]
struct Current {
    last_number: u64,
    topics: HashMap<Topic, ModeNews>,
    /// Whether anybody ever asked. Until then there is nobody to tell.
    is_asked: bool,
}

impl Modes {
    /// Returns the topic's mode, as news for somebody who comes now.
    pub(crate) fn of(&self, topic: &str) -> ModeNews {
        let mut current = self.0.lock();
        current.is_asked = true;
        let name = Topic::new(topic).ok();
        let found = name.and_then(|topic| current.topics.get(&topic).cloned());
        found.unwrap_or(ModeNews {
            mode: Mode::Exact,
            number: current.last_number,
            count: None,
            list: None,
        })
    }

    /// Tells whether anybody may want to be told.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.lock().is_asked
    }

    /// Changes the topic's mode; returns the news for those who are there.
    pub(crate) fn change(&self, after: &Arc<Snapshot>, mode: Mode) -> ModeNews {
        let mut current = self.0.lock();
        current.last_number += 1;
        let news = ModeNews {
            mode,
            number: current.last_number,
            count: None,
            list: None,
        };
        match mode {
            Mode::Exact => drop(current.topics.remove(after.topic())),
            Mode::Coalesced | Mode::Summary => {
                current.topics.insert(after.topic().clone(), news.clone());
            }
        }
        ModeNews {
            list: Some(Presences::new(after.clone(), None)),
            ..news
        }
    }

    /// Sets what those who come are told of a topic whose mode is the summary; returns it as news
    /// for those who are there.
    pub(crate) fn set_count(&self, topic: &Topic, count: Bytes) -> Option<ModeNews> {
        let mut current = self.0.lock();
        let news = current.topics.get_mut(topic)?;
        news.count = Some(count);
        Some(news.clone())
    }
}

/// A topic's mode, and what it has to tell: to somebody who comes, or to those who are there.
#[derive(Clone)]
pub struct ModeNews {
    mode: Mode,
    number: u64,
    count: Option<Bytes>,
    list: Option<Presences>,
}

impl ModeNews {
    /// Returns the mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the number of the last change of a mode, which is at least 1 if there was any.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the payload of [`PRESENCE_COUNT`], if the mode is the summary and there was one.
    pub fn count_json(&self) -> Option<Bytes> {
        self.count.clone()
    }

    /// Returns the list for those whose mode was the summary, if the mode has just changed. Without
    /// what `fetch` adds, until a presence changes.
    pub fn list(&self) -> Option<&Presences> {
        self.list.as_ref()
    }
}

impl LocalPayload for ModeNews {
    /// The payload of [`PRESENCE_MODE`].
    fn json(&self) -> Bytes {
        Bytes::from(format!(r#"{{"mode":"{}"}}"#, self.mode.as_str()))
    }
}

impl fmt::Debug for ModeNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModeNews")
            .field("mode", &self.mode)
            .field("number", &self.number)
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

/// Renders the payload of [`PRESENCE_COUNT`]: a sample of at most `max` keys that come after
/// `pivot`, or from the first on if there are not as many after it.
pub(crate) fn render_count(snapshot: &Snapshot, pivot: Option<&str>, max: usize) -> Bytes {
    let entries = snapshot.entries();
    let mut out = format!(r#"{{"count":{},"sample":{{"#, entries.n_keys()).into_bytes();
    let n_before = out.len();
    let mut n_sampled = 0;
    for after in [pivot, None] {
        let n_wanted = max - n_sampled;
        // Once around: those up to the pivot, and none twice.
        let is_new = |key: &str| after.is_some() || pivot.is_none_or(|pivot| key <= pivot);
        entries.for_keys_after(after, n_wanted, |rows| {
            let key = rows[0].key();
            if is_new(key.as_str()) {
                if out.len() > n_before {
                    out.push(b',');
                }
                render_entry(key, rows.iter(), None, &mut out);
                n_sampled += 1;
            }
        });
        if pivot.is_none() {
            break;
        }
    }
    out.extend_from_slice(b"}}");
    Bytes::from(out)
}
