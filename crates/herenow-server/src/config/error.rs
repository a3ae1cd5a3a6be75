//! What can be wrong with a configuration, and where.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Engine;

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file named could not be read.
    #[error("cannot read the configuration file {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file, or a list in a variable or flag, is not TOML.
    #[error("{origin}: this is not TOML: {message}")]
    Syntax {
        /// Where it is.
        origin: Origin,
        /// What the parser said.
        message: String,
    },
    /// No such key.
    #[error("{origin}: there is no key `{key}`{}", suggest(suggestion.as_deref()))]
    UnknownKey {
        /// Where it is.
        origin: Origin,
        /// The key as written.
        key: String,
        /// A key that looks like it.
        suggestion: Option<String>,
    },
    /// No such environment variable.
    #[error("there is no setting for the environment variable {name}{}", suggest(suggestion.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// A variable that looks like it.
        suggestion: Option<String>,
    },
    /// A value of another type than the key's.
    #[error("{origin}: {key} is {value}, it must be {expected}")]
    WrongType {
        /// Where it is.
        origin: Origin,
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// A value beyond its limit.
    #[error("{origin}: {key} is {value}, it must be {limit}")]
    OutOfRange {
        /// Where it is.
        origin: Origin,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The limit, such as `at most 100`.
        limit: String,
    },
    /// A key that an entry of a list must have is missing.
    #[error("{origin}: {key} is missing")]
    Missing {
        /// Where the entry is.
        origin: Origin,
        /// The key.
        key: String,
    },
    /// Two values that do not go together.
    #[error(transparent)]
    Conflict(Box<Conflict>),
    /// The engine asked for is not part of this program.
    #[error(
        "{origin}: cluster.engine is {engine}, but this program was built without it (it has: \
         {built}); build it with --features {engine}"
    )]
    EngineNotBuilt {
        /// Where the engine was asked for.
        origin: Origin,
        /// The engine.
        engine: Engine,
        /// The engines that the program has, or `none`.
        built: String,
    },
    /// A query was asked for, and databases are not part of this program.
    #[error(
        "{origin}: {key} is set, but this program was built without databases; build it with \
         --features sql, or use fetch.url"
    )]
    SqlNotBuilt {
        /// Where the query is.
        origin: Origin,
        /// The key that holds it.
        key: String,
    },
    /// A file with secrets could not be read.
    #[error("{origin}: cannot read {key} {path}: {cause}")]
    SecretFile {
        /// Where the file was named.
        origin: Origin,
        /// The key that names it, such as `cluster.secret_file`.
        key: String,
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Not in dev mode, and no other way of knowing who clients are.
    #[error(
        "{}, and there is no key for clients' tokens, so there is no way to know who a client is; \
         set HERENOW_JWT_SECRET, jwt.secret_file, jwt.public_key_files or jwt.jwks_url; to trust \
         what clients say of themselves, start with --dev",
        why_not_dev(*listen, *dev)
    )]
    NoIdentity {
        /// Where the server was to listen.
        listen: SocketAddr,
        /// What was configured for `dev`.
        dev: Option<bool>,
    },
}

/// Two values that do not go together.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {key} is {value}, but {other} is {other_value} ({other_origin}): {rule}")]
#[non_exhaustive]
pub struct Conflict {
    /// Where the first is.
    pub origin: Origin,
    /// The first key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The other key.
    pub other: String,
    /// Its value.
    pub other_value: String,
    /// Where the other is.
    pub other_origin: Origin,
    /// The rule they break.
    pub rule: &'static str,
}

/// All that is wrong with a configuration; shown one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.0))]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No source has it.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

fn suggest(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

fn why_not_dev(listen: SocketAddr, dev: Option<bool>) -> String {
    match dev {
        Some(_) => "dev is false".to_owned(),
        None => format!("{listen} is not a loopback address, so dev mode is not on by itself"),
    }
}

fn list(errors: &[ConfigError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match &lines[..] {
        [line] => line.clone(),
        lines => format!(
            "the configuration has {} errors:\n  - {}",
            lines.len(),
            lines.join("\n  - ")
        ),
    }
}
