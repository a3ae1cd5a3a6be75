//! What is done on the topics of one pattern where very many are present.

use std::num::NonZero;
use std::time::Duration;

use herenow_presence::BigRoom;

/// What clients that did not ask for modes get where very many are present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBig {
    /// The list, however long.
    List,
    /// How many they are, and a sample; their list is empty meanwhile.
    Summary,
}

/// What [`BigRoom`] is to be on the topics of one pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BigRoomConfig {
    /// Bytes of JSON from which a list is given in parts.
    pub parts_from_bytes: Option<usize>,
    /// The size from which a part is full.
    pub part_bytes: Option<NonZero<usize>>,
    /// Presences from which there is a summary.
    pub summary_from: Option<usize>,
    /// Presences below which there is a list again; four fifths of `summary_from` if that is set.
    pub summary_until: Option<usize>,
    /// The least time between two counts.
    pub count_interval: Option<Duration>,
    /// Keys in a sample at most.
    pub max_sample: Option<usize>,
}

impl BigRoomConfig {
    /// The settings where `general` are those of all topics.
    pub(crate) fn over(&self, general: &BigRoom) -> BigRoom {
        let mut room = general.clone();
        let until = self.summary_from.map(|from| from / 5 * 4);
        room.parts_from_bytes = self.parts_from_bytes.unwrap_or(room.parts_from_bytes);
        room.part_bytes = self.part_bytes.unwrap_or(room.part_bytes);
        room.summary_from = self.summary_from.unwrap_or(room.summary_from);
        room.summary_until = self.summary_until.or(until).unwrap_or(room.summary_until);
        room.count_interval = self.count_interval.unwrap_or(room.count_interval);
        room.max_sample = self.max_sample.unwrap_or(room.max_sample);
        room
    }
}

impl WhenBig {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Summary => "summary",
        }
    }

    pub(crate) fn from_word(word: &str) -> Self {
        match word {
            "summary" => Self::Summary,
            _ => Self::List,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::ServerConfig;

    #[test]
    fn srv_984_a_big_room_is_configured_for_all_topics_and_by_pattern() {
        let text = r#"
            [presence]
            part_bytes = "100KiB"
            summary_from = 20000
            summary_until = 15000
            [[topics]]
            pattern = "hall:*"
            big_room = "summary"
            summary_from = 1000
            count_interval = "5s"
            [[topics]]
            pattern = "room:*"
        "#;
        let config = ServerConfig::parse(text, Path::new("herenow.toml")).unwrap();
        let [hall, room] = &config.topics[..] else {
            panic!("two topics")
        };
        let general = &config.presence.big_room;
        assert_eq!(
            (hall.big_room, room.big_room),
            (WhenBig::Summary, WhenBig::List)
        );
        assert_eq!(&room.size.over(general), general);
        let hall = hall.size.over(general);
        assert_eq!((hall.summary_from, hall.summary_until), (1_000, 800));
        assert_eq!(hall.count_interval, Duration::from_secs(5));
        assert_eq!(hall.part_bytes.get(), 100 << 10);
        let wrong = "[presence]\nsummary_from = 10\nsummary_until = 11\n";
        let config = ServerConfig::parse(wrong, Path::new("herenow.toml")).unwrap();
        let presence = herenow_presence::Presence::builder(&herenow_pubsub::PubSub::local());
        let refused = presence.config(config.presence).start().unwrap_err();
        let message = "summary_until is 11, it must be at most summary_from, 10";
        assert_eq!(refused.to_string(), message);
    }
}
