//! Reads the sources one over the other: defaults, file, environment, flags.

mod lists;
mod rules;
mod services;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::services::is_of_a_service;
use super::keys::keys;
use super::kind::{Raw, Refusal};
use super::names::{PREFIX, flag_name, variable_name};
use super::{ConfigError, ConfigErrors, Key, Origin, ServerConfig};

/// The key that is the list of topics' tables.
pub(crate) const TOPICS: &str = "topics";
/// The key that is the list of webhooks' tables.
pub(crate) const WEBHOOKS: &str = "webhooks";
/// The keys that are lists of tables.
pub(crate) const LISTS: [&str; 2] = [TOPICS, WEBHOOKS];

/// The variable that names the file.
const FILE_VARIABLE: &str = "HERENOW_CONFIG";

/// Where configuration comes from, as a program collects it.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file that a flag named.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `HERENOW_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags, as the key and its value: `("socket.idle_timeout", "30s")`.
    pub flags: Vec<(String, String)>,
}

/// A configuration, with where each of its values came from.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: ServerConfig,
    origins: BTreeMap<&'static str, Origin>,
}

/// A configuration in the making.
struct Loader {
    config: ServerConfig,
    origins: BTreeMap<&'static str, Origin>,
    errors: Vec<ConfigError>,
}

impl Loaded {
    /// Reads `sources` over the defaults: the file, then the environment, then the flags.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the sources.
    pub fn read(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut loader = Loader::new();
        if let Some(path) = sources.path() {
            loader.read_file(&path);
        }
        for (name, value) in &sources.environment {
            loader.read_variable(name, value);
        }
        for (key, value) in &sources.flags {
            loader.read_text(Origin::Flag(flag_name(key)), key, value);
        }
        loader.finish()
    }

    /// Returns where the value of a key came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

impl ServerConfig {
    /// Reads `sources` as [`Loaded::read`] does, and forgets where the values came from.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the sources.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Ok(Loaded::read(sources)?.config)
    }

    /// Reads the text of a file over the defaults; errors call it `path`, which is not opened.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        let mut loader = Loader::new();
        loader.read_text_of(path, text);
        Ok(loader.finish()?.config)
    }
}

impl Sources {
    fn path(&self) -> Option<PathBuf> {
        let variable = || {
            self.environment
                .iter()
                .find(|(name, _)| name == FILE_VARIABLE)
        };
        self.file
            .clone()
            .or_else(|| variable().map(|(_, path)| PathBuf::from(path)))
    }
}

impl Loader {
    fn new() -> Self {
        Self {
            config: ServerConfig::default(),
            origins: BTreeMap::new(),
            errors: Vec::new(),
        }
    }

    fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        self.check_together();
        if self.errors.is_empty() {
            let (config, origins) = (self.config, self.origins);
            Ok(Loaded { config, origins })
        } else {
            Err(ConfigErrors(self.errors))
        }
    }

    fn read_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(cause) => {
                return self.errors.push(ConfigError::Unreadable {
                    path: path.to_owned(),
                    cause,
                });
            }
        };
        self.read_text_of(path, &text);
    }

    fn read_text_of(&mut self, path: &Path, text: &str) {
        let place = Place { path, text };
        match DeTable::parse(text) {
            Ok(table) => self.read_table(&place, "", table.get_ref()),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let message = error.message().to_owned();
                self.errors.push(ConfigError::Syntax {
                    origin: place.origin(at),
                    message,
                });
            }
        }
    }

    /// Reads a table of the file whose keys begin with `section`.
    fn read_table(&mut self, place: &Place<'_>, section: &str, table: &DeTable<'_>) {
        for (key, value) in in_order(table) {
            let name = format!("{section}{}", key.get_ref());
            let origin = place.origin(key.span().start);
            let is_section = keys().any(|key| key.name.starts_with(&format!("{name}.")));
            if LISTS.contains(&name.as_str()) {
                self.read_list(&name, value.get_ref(), &origin, &|value| {
                    place.origin(value.span().start)
                });
            } else if let Some(key) = keys().find(|key| key.name == name) {
                self.read_key(key, origin, Raw::Toml(value.get_ref()));
            } else if let (true, Some(inner)) = (is_section, value.get_ref().as_table()) {
                self.read_table(place, &format!("{name}."), inner);
            } else if is_section {
                let (key, value) = (name, Raw::Toml(value.get_ref()).show());
                let expected = format!("a section, [{key}]");
                self.errors.push(ConfigError::WrongType {
                    origin,
                    key,
                    value,
                    expected,
                });
            } else {
                self.unknown(origin, name);
            }
        }
    }

    fn read_variable(&mut self, name: &str, value: &str) {
        if !name.starts_with(PREFIX) || name == FILE_VARIABLE {
            return;
        }
        match key_names().find(|key| variable_name(key) == name) {
            Some(key) => self.read_text(Origin::Environment(name.to_owned()), key, value),
            None if is_of_a_service(name, value) => {}
            None => {
                let names = key_names().map(variable_name);
                let suggestion = closest(name, names.chain([FILE_VARIABLE.to_owned()]));
                self.errors.push(ConfigError::UnknownVariable {
                    name: name.to_owned(),
                    suggestion,
                });
            }
        }
    }

    fn read_text(&mut self, origin: Origin, name: &str, value: &str) {
        if LISTS.contains(&name) {
            match DeValue::parse(value) {
                Ok(list) => self.read_list(name, list.get_ref(), &origin, &|_| origin.clone()),
                Err(error) => {
                    let message = format!(
                        "{}; {name} must be a list of tables, such as '[{{ {} }}]'",
                        error.message(),
                        lists::example(name)
                    );
                    self.errors.push(ConfigError::Syntax { origin, message });
                }
            }
        } else if let Some(key) = keys().find(|key| key.name == name) {
            self.read_key(key, origin, Raw::Text(value));
        } else {
            self.unknown(origin, name.to_owned());
        }
    }

    fn read_key(&mut self, key: &'static Key<ServerConfig>, origin: Origin, raw: Raw<'_>) {
        match key.read(raw, &mut self.config) {
            Ok(()) => {
                self.origins.insert(key.name, origin);
            }
            Err(refusal) => self
                .errors
                .push(refused(origin, key.name.to_owned(), refusal)),
        }
    }

    fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn unknown(&mut self, origin: Origin, key: String) {
        let sections = keys().filter_map(|key| Some(key.name.split_once('.')?.0));
        let suggestion = closest(&key, key_names().chain(sections).map(str::to_owned));
        self.errors.push(ConfigError::UnknownKey {
            origin,
            key,
            suggestion,
        });
    }
}

/// The text that a value's line is counted in.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Origin::File {
            path: self.path.to_owned(),
            line,
        }
    }
}

/// The names of all keys, lists of tables too.
fn key_names() -> impl Iterator<Item = &'static str> {
    keys().map(|key| key.name).chain(LISTS)
}

/// The entries of a table in the order in which they are written, so that errors are too.
fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(
    &'t Spanned<std::borrow::Cow<'i, str>>,
    &'t Spanned<DeValue<'i>>,
)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn refused(origin: Origin, key: String, refusal: Refusal) -> ConfigError {
    match refusal {
        Refusal::Type { value, expected } => ConfigError::WrongType {
            origin,
            key,
            value,
            expected,
        },
        Refusal::Range { value, limit } => ConfigError::OutOfRange {
            origin,
            key,
            value,
            limit,
        },
    }
}

/// The name that `wrong` was probably meant to be, if one is close: by spelling as a whole, or by
/// its last part alone, which helps who put a key in the wrong section.
fn closest(wrong: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |name: &str| {
        let same_last = if last(name) == last(wrong) { 0.95 } else { 0.0 };
        strsim::jaro_winkler(wrong, name).max(same_last)
    };
    let scored = names.map(|name| (score(&name), name));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 > 0.85).then_some(best.1)
}
