//! Scenario ids: an area and a number.

use std::collections::BTreeSet;
use std::fmt;

/// The areas of the reference's scenarios, each with how many it has.
const REFERENCE: [(&str, u16); 20] = [
    ("P", 22),
    ("T", 30),
    ("S", 15),
    ("G", 7),
    ("K", 6),
    ("R", 7),
    ("B", 20),
    ("C", 45),
    ("N", 16),
    ("X", 36),
    ("W", 40),
    ("L", 30),
    ("K2", 10),
    ("J", 17),
    ("JC", 69),
    ("JS", 75),
    ("JL", 17),
    ("JZ", 9),
    ("Y", 24),
    (SUPABASE, 46),
];

/// The area of what clients of Supabase Realtime expect.
const SUPABASE: &str = "U";

/// The areas of behaviours that are ours alone; they grow as we do.
const OURS: [&str; 9] = [
    "TBL", "REP", "SHD", "COD", "PUB", "TRK", "PRS", "SOC", "SRV",
];

/// The id of a scenario, such as `P-12`.
///
/// Ids are ordered as the areas are listed here, then by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    area: usize,
    number: u16,
}

impl Id {
    /// Reads an id as a row writes it: `P-12`, without leading zeros.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (area, digits) = text.split_once('-')?;
        if digits.starts_with('0') {
            return None;
        }
        Self::new(area, digits)
    }

    /// Reads the id at the start of a test function's name: `p_12_…`, `p_02_…`.
    pub(super) fn of_function(name: &str) -> Option<Self> {
        let (area, rest) = name.split_once('_')?;
        let (digits, _) = rest.split_once('_')?;
        Self::new(&area.to_uppercase(), digits)
    }

    /// Reads the id at the start of a title: `P-12 …`, `P-12: …`, `P-02 …`.
    pub(super) fn of_title(title: &str) -> Option<Self> {
        let (area, rest) = title.split_once('-')?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        Self::new(area, &rest[..end])
    }

    /// Returns whether this is a behaviour of ours alone.
    pub(super) fn is_ours(self) -> bool {
        self.area >= REFERENCE.len()
    }

    /// Returns where the behaviour was laid down, as a row names it.
    pub(super) fn source(self) -> &'static str {
        match REFERENCE.get(self.area) {
            Some((SUPABASE, _)) => "supabase",
            Some(_) => "phoenix",
            None => "herenow",
        }
    }

    fn new(area: &str, digits: &str) -> Option<Self> {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let area = areas().position(|known| known == area)?;
        let number: u16 = is_number.then(|| digits.parse().ok()).flatten()?;
        (number > 0).then_some(Self { area, number })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let area = areas().nth(self.area).unwrap_or_default();
        write!(f, "{area}-{}", self.number)
    }
}

/// Returns the ids of all the reference's scenarios.
pub(super) fn reference() -> BTreeSet<Id> {
    REFERENCE
        .iter()
        .enumerate()
        .flat_map(|(area, (_, count))| (1..=*count).map(move |number| Id { area, number }))
        .collect()
}

fn areas() -> impl Iterator<Item = &'static str> {
    REFERENCE.iter().map(|(area, _)| *area).chain(OURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_rows_functions_and_titles() {
        let id = Id::parse("K2-5");
        assert!(id.is_some());
        assert_eq!(Id::of_function("k2_05_old_tokens_expire"), id);
        assert_eq!(Id::of_function("k2_5_old_tokens_expire"), id);
        assert_eq!(Id::of_title("K2-5 old tokens expire"), id);
        assert_eq!(Id::of_title("K2-05: old tokens expire"), id);
        assert_eq!(id.map(|id| id.to_string()).as_deref(), Some("K2-5"));
    }

    #[test]
    fn what_looks_like_an_id_but_is_none_is_left_alone() {
        for text in ["P12", "P-", "P-0", "P-012", "Q-1", "p-1", "P-1a"] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
        for name in ["p_12", "v_1_decodes", "p_x_1", "is_2_long"] {
            assert_eq!(Id::of_function(name), None, "{name}");
        }
        assert_eq!(Id::of_title("two tabs of one user"), None);
    }

    #[test]
    fn reference_has_as_many_ids_as_its_list_says() {
        assert_eq!(reference().len(), 541);
        assert!(reference().iter().all(|id| !id.is_ours()));
        assert!(Id::parse("TBL-3").is_some_and(Id::is_ours));
    }
}
