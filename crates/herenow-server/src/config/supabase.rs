//! [`SupabaseConfig`]: what clients of Supabase Realtime may do.

use std::fmt;

use super::kind::ListForm;
use super::{ServerConfig, digest};

/// What `supabase.publishable_keys` must be.
pub(super) const KEYS_FORM: ListForm = ListForm {
    what: "a list of keys",
    such_as: &["sb_publishable_1…", "sb_publishable_2…"],
    each: "at least 16 visible ASCII characters without a comma",
};
/// The shortest key, in bytes.
const MIN_KEY_BYTES: usize = 16;
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 512;

/// The Supabase Realtime dialect at `/realtime/v1`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SupabaseConfig {
    /// Whether it is served, true.
    pub enabled: bool,
    /// Keys that are no tokens, with which anyone may use public channels, none.
    pub publishable_keys: Vec<PublishableKey>,
    /// Whether a join that says nothing of presence wants it, false.
    pub presence_enabled: bool,
    /// Whether clients choose the keys of their presences, false: tokens do.
    pub trust_presence_key: bool,
    /// Whether public channels are refused, false.
    pub private_only: bool,
    /// Largest broadcast of a client, 1 MiB.
    pub max_payload_bytes: usize,
    /// Most messages of one request over HTTP, 1,000.
    pub max_batch: usize,
    /// Most changes of a database that a join asks for, 100.
    pub max_postgres_changes: usize,
}

impl Default for SupabaseConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            publishable_keys: Vec::new(),
            presence_enabled: false,
            trust_presence_key: false,
            private_only: false,
            max_payload_bytes: 1 << 20,
            max_batch: 1_000,
            max_postgres_changes: 100,
        }
    }
}

/// Two keys that do not go together, and why, if `key` is one of them.
pub(super) fn conflict(
    config: &ServerConfig,
    key: &'static str,
) -> Option<(&'static str, &'static str, &'static str)> {
    let max_message_bytes = config.socket.max_message_bytes;
    let is_larger = config.supabase.max_payload_bytes > max_message_bytes;
    (key == "supabase.max_payload_bytes" && config.supabase.enabled && is_larger).then_some((
        key,
        "socket.max_message_bytes",
        "the first must not be above the second, which closes the connection",
    ))
}

/// A key that every user of an application has, as its digest. It says that a client is the
/// application's, and not who uses it.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishableKey([u8; 32]);

impl PublishableKey {
    /// Reads a key: 16 to 512 visible ASCII characters without a comma. Only its SHA-256 is kept.
    ///
    /// `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = Self::wrong(text).is_none();
        is_key.then(|| Self(digest(text.as_bytes())))
    }

    /// What is wrong with a text that is no key, without showing it.
    pub(super) fn wrong(text: &str) -> Option<String> {
        let len = text.len();
        if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&len) {
            let limits = format!("it may be {MIN_KEY_BYTES} to {MAX_KEY_BYTES}");
            return Some(format!("it is {len} bytes long, {limits}"));
        }
        let is_fine = text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        (!is_fine).then(|| "it has other characters than visible ASCII".to_owned())
    }

    /// Returns its SHA-256.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PublishableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublishableKey")
    }
}
