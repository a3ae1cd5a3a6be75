//! Settings that every broker has, what can be wrong with them, and how connecting can fail.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a cluster's or node's name at most.
pub const MAX_NAME_BYTES: usize = 128;

/// Who we are to the broker. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user; `None` where the password stands alone (a NATS token, Redis' default user).
    pub user: Option<String>,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// TLS towards the broker. The default trusts what the system trusts and shows no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// What we show, where the broker asks for it.
    pub identity: Option<Identity>,
}

/// A certificate of ours and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A PEM file with the certificate and what links it to its authority.
    pub certificate: PathBuf,
    /// A PEM file with the private key.
    pub key: PathBuf,
}

/// What is wrong with the settings of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name of the cluster or node is empty or too long.
    #[error("{field} is {len} bytes, it must be 1 to {max}")]
    Name {
        /// Which name.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The address cannot be read.
    #[error("broker address {url:?} is wrong: {reason}")]
    Url {
        /// The address, without its password.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The bounds of the back-off are zero or crossed.
    #[error("back-off begins at {min:?}, which must be over 0s and at most {max:?}")]
    Backoff {
        /// The lower bound.
        min: Duration,
        /// The upper bound.
        max: Duration,
    },
    /// A duration that must not be zero is.
    #[error("{field} is 0s, it must be longer")]
    Zero {
        /// Which setting.
        field: &'static str,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use the certificates: {reason}")]
    Tls {
        /// What is wrong, and with which file.
        reason: String,
    },
}

/// Why an adapter was not made. A broker that is not there is no such reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The settings are wrong.
    #[error("wrong broker settings")]
    Config(#[from] ConfigError),
    /// The broker answers and does not let us in.
    #[error("broker {broker} refuses the credentials: {reason}")]
    Credentials {
        /// Its address.
        broker: String,
        /// What it said.
        reason: String,
    },
    /// The broker answers and there is no trust between it and us.
    #[error("no trusted connection to broker {broker}: {reason}")]
    Untrusted {
        /// Its address.
        broker: String,
        /// What is wrong.
        reason: String,
    },
    /// The broker answers and is of no use to us.
    #[error("broker {broker} cannot be used: {reason}")]
    Unfit {
        /// Its address.
        broker: String,
        /// What it lacks.
        reason: String,
    },
}

/// Checks durations that must not be zero, each with its setting's name.
///
/// # Errors
///
/// [`ConfigError::Zero`] for the first that is.
pub fn check_durations(durations: &[(&'static str, Duration)]) -> Result<(), ConfigError> {
    match durations.iter().find(|(_, duration)| duration.is_zero()) {
        Some((field, _)) => Err(ConfigError::Zero { field }),
        None => Ok(()),
    }
}

/// Returns an error's words, and those of its causes that add something.
pub fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

/// Checks the name of a cluster or node.
///
/// # Errors
///
/// [`ConfigError::Name`] if it is empty or over [`MAX_NAME_BYTES`].
pub fn check_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    if (1..=MAX_NAME_BYTES).contains(&name.len()) {
        return Ok(());
    }
    Err(ConfigError::Name {
        field,
        len: name.len(),
        max: MAX_NAME_BYTES,
    })
}

/// Checks that `url` begins with one of `schemes` and `://`, and returns it without user and
/// password, fit for logs.
///
/// # Errors
///
/// [`ConfigError::Url`] if it does not, or nothing follows.
pub fn check_url(url: &str, schemes: &[&str]) -> Result<String, ConfigError> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(ConfigError::Url {
            url: without_user(url).to_owned(),
            reason: format!("it must begin with {}://", schemes.join(":// or ")),
        });
    };
    let shown = format!("{scheme}://{}", without_user(rest));
    let reason = if !schemes.contains(&scheme) {
        format!("it must begin with {}://", schemes.join(":// or "))
    } else if without_user(rest).is_empty() {
        "it names no host".to_owned()
    } else {
        return Ok(shown);
    };
    Err(ConfigError::Url { url: shown, reason })
}

fn without_user(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_user, rest)| rest)
}

/// Undoes the `%xx` of a user or password in an address. What is no such escape stays.
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        let digits = more.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let escaped = digits
            .filter(|digits| byte == b'%' && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = if escaped.is_some() { &more[2..] } else { more };
        bytes.push(escaped.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a certificate or key.
///
/// # Errors
///
/// [`ConfigError::Tls`] with the path and what the system says.
pub fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| ConfigError::Tls {
        reason: format!("{}: {error}", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        assert!(check_name("node", "a").is_ok());
        let error = check_name("node", &"a".repeat(129)).unwrap_err();
        assert_eq!(error.to_string(), "node is 129 bytes, it must be 1 to 128");
        assert!(check_name("cluster", "").is_err());
    }

    #[test]
    fn urls_are_shown_without_their_password() {
        let url = "nats://me:se%40cret@host:4222";
        assert_eq!(check_url(url, &["nats"]).unwrap(), "nats://host:4222");
        for url in [
            "redis://me:secret@host",
            "me:secret@host",
            "nats://me:secret@",
        ] {
            let error = check_url(url, &["nats", "tls"]).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("se%40cret%C3%BC"), "se@cretü");
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%+1%zz%4"), "%+1%zz%4");
    }

    #[test]
    fn passwords_are_not_debugged() {
        let credentials = Credentials {
            user: Some("me".into()),
            password: "secret".into(),
        };
        let text = format!("{credentials:?}");
        assert!(text.contains("me") && !text.contains("secret"), "{text}");
    }
}
