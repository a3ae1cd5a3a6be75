//! What a client may do, and where.

use std::fmt;

use herenow_presence::{is_pattern, matches_pattern};

/// Topics that no client can join: those of connections' ids, on which they are told to end.
pub(crate) const USER_PREFIX: &str = "herenow:user:";
/// What the rooms of the Supabase dialect's private channels begin with. They can be entered by
/// that dialect only, which asks more of a token.
pub(crate) const PRIVATE_PREFIX: &str = "realtime-private:";

/// One thing that a client may be allowed to do on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Be told who is here, and hear what is broadcast.
    Observe,
    /// Be listed.
    Present,
    /// Send to everybody on the topic.
    Broadcast,
    /// Ask who is here.
    List,
    /// Ask how many are here.
    Count,
}

/// A set of rights. All of them is 5 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

/// The topics that a client may know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topics {
    /// Every topic.
    All,
    /// The topics of these patterns: each a topic, or the beginning of one and `*`.
    Of(Box<[Box<str>]>),
}

impl Right {
    /// All rights, in the order of their words in the documentation.
    pub const ALL: [Self; 5] = [
        Self::Observe,
        Self::Present,
        Self::Broadcast,
        Self::List,
        Self::Count,
    ];

    /// The right's word in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Present => "present",
            Self::Broadcast => "broadcast",
            Self::List => "list",
            Self::Count => "count",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);

    /// Every right.
    pub fn all() -> Self {
        Right::ALL.into_iter().fold(Self::NONE, Self::with)
    }

    /// The rights that `words` name; `join` is short for `observe` and `present`. `None` if one of
    /// them names none.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        words.into_iter().try_fold(Self::NONE, |rights, word| {
            if word == "join" {
                return Some(rights.with(Right::Observe).with(Right::Present));
            }
            let right = Right::ALL.into_iter().find(|right| right.as_str() == word);
            Some(rights.with(right?))
        })
    }

    /// These and `right`.
    #[must_use]
    pub fn with(self, right: Right) -> Self {
        Self(self.0 | right.bit())
    }

    /// Tells whether `right` is one of these.
    pub fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// Tells whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = Right::ALL.into_iter().filter(|right| self.has(*right));
        f.debug_set().entries(held).finish()
    }
}

impl Topics {
    /// The topics of `patterns`; `None` if one of them has a `*` that is not its last character,
    /// or is empty.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let checked = |pattern: &'a str| is_pattern(pattern).then(|| Box::from(pattern));
        let patterns: Option<Vec<Box<str>>> = patterns.into_iter().map(checked).collect();
        Some(Self::Of(patterns?.into()))
    }

    /// Tells whether `topic` is one of these. Linear in the patterns.
    pub fn contain(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(patterns) => {
                let mut patterns = patterns.iter();
                patterns.any(|pattern| matches_pattern(pattern, topic))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_600_each_right_stands_alone_and_join_is_two() {
        for right in Right::ALL {
            let rights = Rights::from_words([right.as_str()]).unwrap();
            let held: Vec<_> = Right::ALL.into_iter().filter(|r| rights.has(*r)).collect();
            assert_eq!(held, [right]);
        }
        let join = Rights::from_words(["join"]).unwrap();
        assert_eq!(Rights::from_words(["present", "observe"]), Some(join));
        assert_eq!(Rights::from_words([]), Some(Rights::NONE));
        for unknown in ["", "Join", "write", "*"] {
            assert_eq!(Rights::from_words(["join", unknown]), None, "{unknown}");
        }
    }

    #[test]
    fn srv_601_a_pattern_is_a_topic_or_the_beginning_of_one() {
        let topics = Topics::of(["room:*", "lobby"]).unwrap();
        for (topic, is_in) in [
            ("room:1", true),
            ("room:", true),
            ("lobby", true),
            ("lobby2", false),
            ("room", false),
            ("Room:1", false),
            ("", false),
        ] {
            assert_eq!(topics.contain(topic), is_in, "{topic}");
        }
        assert!(Topics::of(["*"]).unwrap().contain("anything"));
        assert!(!Topics::of([]).unwrap().contain("anything"));
        for wrong in ["", "**", "a*b", "*a"] {
            assert_eq!(Topics::of([wrong]), None, "{wrong}");
        }
    }
}
