//! Reads the keys that are lists of tables: `[[topics]]` and `[[webhooks]]`.

use herenow_presence::covers_pattern;
use toml::Spanned;
use toml::de::DeValue;

use super::{Loader, TOPICS, WEBHOOKS, closest, in_order, refused};
use crate::config::keys::{TARGET_KEYS, TOPIC_KEYS};
use crate::config::kind::Raw;
use crate::config::{ConfigError, Conflict, Key, Origin, TopicConfig, WebhookTarget};

/// Where a value of the list is.
type Locate<'a> = &'a dyn Fn(&Spanned<DeValue<'_>>) -> Origin;

/// A list of tables: its name, the keys of an entry, and the one that an entry must have.
struct List<T: 'static> {
    name: &'static str,
    keys: &'static [Key<T>],
    needed: &'static str,
    /// An entry in which nothing is set.
    empty: fn() -> T,
    /// What tells an entry from others, and its key, if it has it.
    mark: fn(&T) -> Option<(&'static str, &str)>,
    /// Whether an entry with one mark leaves no room for a later one with the other.
    takes: fn(&str, &str) -> bool,
    /// Why.
    rule: &'static str,
}

static TOPIC_LIST: List<TopicConfig> = List {
    name: TOPICS,
    keys: TOPIC_KEYS,
    needed: "pattern",
    empty: || TopicConfig::new(""),
    mark: |topic| Some(("pattern", topic.pattern.as_str())),
    takes: covers_pattern,
    rule: "the first match is used, so the second would never be",
};

static WEBHOOK_LIST: List<WebhookTarget> = List {
    name: WEBHOOKS,
    keys: TARGET_KEYS,
    needed: "url",
    empty: || WebhookTarget::new(""),
    mark: |target| Some(("name", target.name.as_deref()?)),
    takes: |first, second| first == second,
    rule: "by their names they are told apart",
};

/// What an entry of a list can be, in TOML.
pub(super) fn example(name: &str) -> &'static str {
    match name {
        TOPICS => "pattern = \"room:*\", presence = true",
        _ => "url = \"https://example.com/joins\"",
    }
}

impl Loader {
    /// Reads a list, which replaces the one of a source below as a whole.
    pub(super) fn read_list(
        &mut self,
        name: &str,
        list: &DeValue<'_>,
        origin: &Origin,
        locate: Locate<'_>,
    ) {
        if name == TOPICS {
            if let Some(topics) = self.read_tables(&TOPIC_LIST, list, origin, locate) {
                self.config.topics = topics;
            }
        } else if let Some(targets) = self.read_tables(&WEBHOOK_LIST, list, origin, locate) {
            self.config.webhooks = targets;
        }
    }

    fn read_tables<T>(
        &mut self,
        known: &'static List<T>,
        list: &DeValue<'_>,
        origin: &Origin,
        locate: Locate<'_>,
    ) -> Option<Vec<T>> {
        let name = known.name;
        let tables = list.as_array().map(|list| {
            let table = |item| Some((locate(item), item.get_ref().as_table()?));
            list.iter().map(table).collect::<Option<Vec<_>>>()
        });
        let Some(Some(tables)) = tables else {
            let (key, value) = (name.to_owned(), Raw::Toml(list).show());
            let expected = format!("a list of tables, [[{name}]] in the file");
            let origin = origin.clone();
            self.errors.push(ConfigError::WrongType {
                origin,
                key,
                value,
                expected,
            });
            return None;
        };
        let mut entries: Vec<(Origin, T)> = Vec::new();
        for (index, (origin, table)) in tables.into_iter().enumerate() {
            let mut entry = (known.empty)();
            let n_errors = self.errors.len();
            for (key, value) in in_order(table) {
                let key: &str = key.get_ref();
                self.read_entry_key(known, (index, &mut entry), (key, value), locate);
            }
            let has_needed = table.keys().any(|key| key.get_ref() == known.needed);
            if has_needed {
                self.check_room(known, &entries, &origin, &entry);
            } else if self.errors.len() == n_errors {
                self.errors.push(ConfigError::Missing {
                    origin: origin.clone(),
                    key: format!("{name}[{index}].{}", known.needed),
                });
            }
            entries.push((origin, entry));
        }
        self.origins.insert(name, origin.clone());
        Some(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    /// Checks that no entry before this one takes all that it is for.
    fn check_room<T>(
        &mut self,
        known: &List<T>,
        before: &[(Origin, T)],
        origin: &Origin,
        entry: &T,
    ) {
        let Some((key, mark)) = (known.mark)(entry).filter(|(_, mark)| !mark.is_empty()) else {
            return;
        };
        let marks = before.iter().map(|(_, other)| (known.mark)(other));
        let mut marks = marks
            .map(|mark| mark.map_or("", |(_, mark)| mark))
            .enumerate();
        let taken_by = marks.find(|(_, first)| !first.is_empty() && (known.takes)(first, mark));
        if let Some((first, by)) = taken_by {
            let name = known.name;
            self.errors.push(ConfigError::Conflict(Box::new(Conflict {
                origin: origin.clone(),
                key: format!("{name}[{}].{key}", before.len()),
                value: format!("{mark:?}"),
                other: format!("{name}[{first}].{key}"),
                other_value: match by == mark {
                    true => "the same".to_owned(),
                    false => format!("{by:?}, which covers it"),
                },
                other_origin: before[first].0.clone(),
                rule: known.rule,
            })));
        }
    }

    fn read_entry_key<T>(
        &mut self,
        known: &'static List<T>,
        (index, entry): (usize, &mut T),
        (key, value): (&str, &Spanned<DeValue<'_>>),
        locate: Locate<'_>,
    ) {
        let name = format!("{}[{index}].{key}", known.name);
        let origin = locate(value);
        match known.keys.iter().find(|known| known.name == key) {
            Some(known) => {
                if let Err(refusal) = known.read(Raw::Toml(value.get_ref()), entry) {
                    self.errors.push(refused(origin, name, refusal));
                }
            }
            None => {
                let suggestion = closest(key, known.keys.iter().map(|key| key.name.to_owned()));
                self.errors.push(ConfigError::UnknownKey {
                    origin,
                    key: name,
                    suggestion,
                });
            }
        }
    }
}
