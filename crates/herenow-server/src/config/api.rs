//! [`ApiConfig`]: the HTTP API's keys, its listener and its limits.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::kind::ListForm;
use super::units::show_duration;
use super::{ConfigError, Conflict, Origin, ServerConfig};

/// What `api.keys` must be.
pub(super) const KEYS_FORM: ListForm = ListForm {
    what: "a list of keys",
    such_as: &["shop:write:…", "ops:admin:…"],
    each: KEY_FORM,
};
/// What an entry of it must be.
const KEY_FORM: &str = "NAME:RIGHT:SECRET, with a name of letters, digits, - _ . (at \
    most 64), the right read, write or admin, and a secret of at least 16 visible ASCII \
    characters without a comma";
/// The shortest secret of a key, in bytes.
const MIN_SECRET_BYTES: usize = 16;
/// The longest entry of `api.keys`, in bytes.
const MAX_ENTRY_BYTES: usize = 512;
/// The longest name of a key, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The HTTP API below `/api`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiConfig {
    /// Where to listen to it; `None`, the default, is the main listener.
    pub listen: Option<SocketAddr>,
    /// Who may use it, none.
    pub keys: Vec<ApiKey>,
    /// A file to read more keys from, none.
    pub keys_file: Option<String>,
    /// Largest body of a request, 1 MiB.
    pub max_body_bytes: usize,
    /// Time that a body may take to arrive, 30 s.
    pub body_timeout: Duration,
    /// Most entries of one page, 1,000.
    pub max_page: usize,
    /// Most topics or keys that one request asks for, 1,000.
    pub max_batch: usize,
    /// Presences that this node holds for backends at most, 10,000.
    pub max_leases: usize,
    /// The shortest lease, 5 s.
    pub min_lease: Duration,
    /// The longest lease, 1 h.
    pub max_lease: Duration,
}

/// A key of the API: a name for the log, what it may do, and the digest of its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    name: String,
    right: Right,
    digest: [u8; 32],
}

/// What a key of the API may do; each right includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Ask.
    Read,
    /// Broadcast, be present for users, evict.
    Write,
    /// Drain the node.
    Admin,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: None,
            keys: Vec::new(),
            keys_file: None,
            max_body_bytes: 1 << 20,
            body_timeout: Duration::from_secs(30),
            max_page: 1_000,
            max_batch: 1_000,
            max_leases: 10_000,
            min_lease: Duration::from_secs(5),
            max_lease: Duration::from_secs(3_600),
        }
    }
}

impl ApiKey {
    /// Reads `NAME:RIGHT:SECRET`, such as `shop:write:` and at least 16 visible ASCII characters
    /// without a comma. The secret is not kept, only its SHA-256.
    ///
    /// `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text).ok()
    }

    /// Reads the same, or says which parts are wrong, without showing any: which part is which is
    /// not known of an entry that is wrong.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.len() > MAX_ENTRY_BYTES {
            let len = text.len();
            return Err(format!(
                "it is {len} bytes long, the limit is {MAX_ENTRY_BYTES}"
            ));
        }
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(right), Some(secret)) = (parts.next(), parts.next(), parts.next())
        else {
            let n_parts = text.split(':').count();
            return Err(format!(
                "it has {n_parts} of three parts with a colon between them"
            ));
        };
        let right_of_it = Right::from_word(right);
        let no_right = right_of_it.is_none().then(|| {
            let words = Right::ALL.map(Right::as_str).join(", ");
            format!("its right is none of {words}")
        });
        let wrong = [wrong_name(name), no_right, wrong_secret(secret)];
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        match right_of_it {
            Some(right) if wrong.is_empty() => Ok(Self {
                name: name.to_owned(),
                right,
                digest: digest(secret.as_bytes()),
            }),
            Some(_) | None => Err(wrong.join("; ")),
        }
    }

    /// Returns the name, for logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what it may do.
    pub fn right(&self) -> Right {
        self.right
    }

    /// Returns the SHA-256 of its secret.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

fn wrong_name(name: &str) -> Option<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match name.len() {
        0 => Some("its name is empty".to_owned()),
        len if len > MAX_NAME_BYTES => Some(format!(
            "its name is {len} bytes long, the limit is {MAX_NAME_BYTES}"
        )),
        _ if name.bytes().all(is_allowed) => None,
        _ => Some("its name has other characters than letters, digits, - _ .".to_owned()),
    }
}

fn wrong_secret(secret: &str) -> Option<String> {
    let len = secret.len();
    if len < MIN_SECRET_BYTES {
        let least = MIN_SECRET_BYTES;
        return Some(format!(
            "its secret is {len} bytes long, the least is {least}"
        ));
    }
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    let is_fine = secret.bytes().all(is_allowed);
    (!is_fine)
        .then(|| "its secret has other characters than visible ASCII without a comma".to_owned())
}

/// Returns the SHA-256 of a secret, by which keys are compared.
pub(crate) fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({} may {})", self.name, self.right.as_str())
    }
}

impl Right {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The word for it in `api.keys`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str() == word)
    }
}

/// Reads the file of keys, and tells what does not go together.
pub(super) fn check(
    config: &mut ServerConfig,
    origin: &dyn Fn(&str) -> Origin,
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    if let Some(path) = config.api.keys_file.clone() {
        match std::fs::read_to_string(&path) {
            Ok(text) => read_keys(&mut config.api.keys, &path, &text, &mut errors),
            Err(cause) => errors.push(ConfigError::SecretFile {
                origin: origin("api.keys_file"),
                key: "api.keys_file".to_owned(),
                path,
                cause,
            }),
        }
    }
    let api = &config.api;
    for (at, key) in api.keys.iter().enumerate() {
        if api.keys[..at].iter().any(|other| other.name == key.name) {
            errors.push(ConfigError::WrongType {
                origin: origin("api.keys"),
                key: "api.keys".to_owned(),
                value: format!("a list with two keys called {}", key.name),
                expected: "keys with different names".to_owned(),
            });
        }
        if let Some(other) = api.keys[..at].iter().find(|o| o.digest == key.digest) {
            errors.push(ConfigError::WrongType {
                origin: origin("api.keys"),
                key: "api.keys".to_owned(),
                value: format!(
                    "a list in which {} and {} have one secret",
                    other.name, key.name
                ),
                expected: "keys with different secrets, or nobody knows whose right holds"
                    .to_owned(),
            });
        }
    }
    if api.min_lease > api.max_lease {
        errors.push(ConfigError::Conflict(Box::new(Conflict {
            origin: origin("api.min_lease"),
            key: "api.min_lease".to_owned(),
            value: show_duration(api.min_lease),
            other: "api.max_lease".to_owned(),
            other_value: show_duration(api.max_lease),
            other_origin: origin("api.max_lease"),
            rule: "the first must not be above the second",
        })));
    }
    errors
}

fn read_keys(keys: &mut Vec<ApiKey>, path: &str, text: &str, errors: &mut Vec<ConfigError>) {
    for (line, entry) in (1..).zip(text.lines()) {
        let entry = entry.trim();
        if entry.is_empty() || entry.starts_with('#') {
            continue;
        }
        match ApiKey::read(entry) {
            Ok(key) => keys.push(key),
            Err(wrong) => errors.push(ConfigError::WrongType {
                origin: Origin::File {
                    path: path.into(),
                    line,
                },
                key: "a key of the API".to_owned(),
                value: format!("wrong ({wrong})"),
                expected: KEY_FORM.to_owned(),
            }),
        }
    }
}
