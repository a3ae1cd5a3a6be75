//! Topic patterns: a topic, or the beginning of one and a `*`.

/// Tells whether `text` is a pattern: not empty, and without a `*` but at its end.
pub fn is_pattern(text: &str) -> bool {
    let prefix = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty() && !prefix.contains('*')
}

/// Tells whether `topic` is one that `pattern` stands for.
pub fn matches_pattern(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix),
        None => topic == pattern,
    }
}

/// Tells whether `wide` stands for every topic that `narrow` stands for. Both are patterns.
pub fn covers_pattern(wide: &str, narrow: &str) -> bool {
    // As a text, `room:*` begins with what all its topics begin with, and is no topic itself.
    matches_pattern(wide, narrow)
}

/// Returns what belongs to the first pattern that stands for `topic`. Linear in the patterns.
pub fn first_match<'a, T>(patterns: &'a [(String, T)], topic: &str) -> Option<&'a T> {
    let found = patterns
        .iter()
        .find(|(pattern, _)| matches_pattern(pattern, topic));
    found.map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_topic_or_the_beginning_of_one() {
        for text in ["room:1", "room:*", "*", "a b"] {
            assert!(is_pattern(text), "{text}");
        }
        for text in ["", "**", "*:1", "room:*:x", "r*m*"] {
            assert!(!is_pattern(text), "{text}");
        }
        assert!(matches_pattern("room:*", "room:1") && matches_pattern("room:*", "room:"));
        assert!(matches_pattern("room:1", "room:1") && matches_pattern("*", ""));
        assert!(!matches_pattern("room:1", "room:12") && !matches_pattern("room:*", "room"));
    }

    #[test]
    fn srv_1806_a_pattern_covers_those_that_begin_as_it_does() {
        let covers = |wide, narrows: &[&str]| narrows.iter().all(|n| covers_pattern(wide, n));
        assert!(covers("*", &["*", "a*", "a", "room:*"]));
        assert!(covers("room:*", &["room:*", "room:1*", "room:1", "room:"]));
        assert!(covers("room:1", &["room:1"]));
        let apart = |wide, narrows: &[&str]| narrows.iter().all(|n| !covers_pattern(wide, n));
        assert!(apart("room:*", &["*", "roo*", "room", "lobby:*"]));
        assert!(apart("room:1", &["room:1*", "room:*", "*", "room:12"]));
    }

    #[test]
    fn the_first_pattern_counts() {
        let patterns = [("room:1", 1), ("room:*", 2), ("*", 3)];
        let patterns = patterns.map(|(pattern, n)| (pattern.to_owned(), n));
        let found = ["room:1", "room:12", "lobby"].map(|topic| first_match(&patterns, topic));
        assert_eq!(found, [Some(&1), Some(&2), Some(&3)]);
        assert_eq!(first_match(&patterns[..2], "lobby"), None);
    }
}
