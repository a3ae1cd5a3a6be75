//! The token by which a client finds its long-poll session again.
//!
//! It holds the session's number, which nobody can guess, and when it was issued, signed with
//! HMAC-SHA256. The key is random and lives as long as the process: sessions do not outlive it,
//! so neither need their tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const ID_BYTES: usize = 16;
const TIME_BYTES: usize = 8;
const MAC_BYTES: usize = 32;
const TOKEN_BYTES: usize = ID_BYTES + TIME_BYTES + MAC_BYTES;
/// How far in the future a token may have been issued: clocks are set back now and then.
const MAX_CLOCK_STEP: Duration = Duration::from_secs(60);

/// Names one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; ID_BYTES]);

impl SessionId {
    /// Returns a new random one.
    ///
    /// # Errors
    ///
    /// If the operating system has no randomness to give.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut id = [0; ID_BYTES];
        getrandom::fill(&mut id)?;
        Ok(Self(id))
    }
}

/// Signs and verifies the tokens of one process.
pub(crate) struct TokenKey {
    mac: Hmac<Sha256>,
    max_age: Duration,
}

impl TokenKey {
    /// Returns a new random key, whose tokens are valid for `max_age`.
    ///
    /// # Errors
    ///
    /// If the operating system has no randomness to give.
    pub(crate) fn random(max_age: Duration) -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let mac = Hmac::new_from_slice(&key).expect("HMAC takes keys of any length");
        Ok(Self { mac, max_age })
    }

    /// Returns the token of a session, issued at `now`: letters, digits, `-` and `_`.
    pub(crate) fn sign(&self, session: SessionId, now: SystemTime) -> String {
        let mut token = Vec::with_capacity(TOKEN_BYTES);
        token.extend_from_slice(&session.0);
        token.extend_from_slice(&since_epoch(now).to_be_bytes());
        let mac = self.mac.clone().chain_update(&token).finalize();
        token.extend_from_slice(&mac.into_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Returns the session that a token names; `None` if it is forged, damaged, expired, or of
    /// another process.
    pub(crate) fn verify(&self, token: &str, now: SystemTime) -> Option<SessionId> {
        let bytes = parts(token)?;
        let (signed, mac) = bytes.split_at(ID_BYTES + TIME_BYTES);
        self.mac
            .clone()
            .chain_update(signed)
            .verify_slice(mac)
            .ok()?;
        let id = signed.first_chunk::<ID_BYTES>()?;
        let issued = Duration::from_millis(issued_ms(&bytes));
        let now = Duration::from_millis(since_epoch(now));
        let is_valid = issued <= now + MAX_CLOCK_STEP && now.saturating_sub(issued) < self.max_age;
        is_valid.then_some(SessionId(*id))
    }
}

/// Tells whether a text has the form of a session's token, whoever signed it and however long ago:
/// then it can be nothing else that a client might present.
pub(crate) fn is_well_formed(token: &str) -> bool {
    parts(token).is_some_and(|bytes| {
        let issued = Duration::from_millis(issued_ms(&bytes));
        issued <= Duration::from_millis(since_epoch(SystemTime::now())) + MAX_CLOCK_STEP
    })
}

/// The bytes of a token, if it has as many as a token has.
fn parts(token: &str) -> Option<[u8; TOKEN_BYTES]> {
    // The decoder wants room for whole groups of three bytes.
    let mut bytes = [0; TOKEN_BYTES + 3];
    let len = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
    bytes.get(..len)?.try_into().ok()
}

/// When a token was issued, in milliseconds of Unix time.
fn issued_ms(token: &[u8; TOKEN_BYTES]) -> u64 {
    let time = token[ID_BYTES..].first_chunk::<TIME_BYTES>();
    u64::from_be_bytes(*time.expect("a token is longer than its id and its time"))
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey")
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

/// Milliseconds of Unix time.
fn since_epoch(now: SystemTime) -> u64 {
    let elapsed = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(1_209_600);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn soc_128_a_token_names_its_session_for_as_long_as_it_is_valid() {
        let key = TokenKey::random(MAX_AGE).unwrap();
        let session = SessionId::random().unwrap();
        let issued = 1_000_000;
        let token = key.sign(session, at(issued));
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert_eq!(key.verify(&token, at(issued)), Some(session));
        assert_eq!(key.verify(&token, at(issued + 1_209_599)), Some(session));
        assert_eq!(key.verify(&token, at(issued + 1_209_600)), None);
        assert_eq!(key.verify(&token, at(issued - 60)), Some(session));
        assert_eq!(key.verify(&token, at(issued - 61)), None);
    }

    #[test]
    fn soc_731_a_token_of_another_process_has_the_form_of_one_and_nothing_else_has() {
        let key = TokenKey::random(MAX_AGE).unwrap();
        let session = SessionId::random().unwrap();
        let now = SystemTime::now();
        assert!(is_well_formed(&key.sign(session, now)));
        assert!(is_well_formed(&key.sign(session, at(1_000_000))), "expired");
        assert!(!is_well_formed(
            &key.sign(session, now + 2 * MAX_CLOCK_STEP)
        ));
        let token = key.sign(session, now);
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.dGhlIHNpZ25hdHVyZSBvZiBhIHRva2Vu";
        let opaque = "x".repeat(token.len());
        for other in ["", "x", "of-a-session", jwt, &opaque, &token[1..]] {
            assert!(!is_well_formed(other), "{other}");
        }
    }

    #[test]
    fn soc_129_damaged_forged_and_foreign_tokens_name_nothing() {
        let key = TokenKey::random(MAX_AGE).unwrap();
        let token = key.sign(SessionId::random().unwrap(), at(0));
        for n in 0..token.len() {
            let damaged = if &token[n..=n] == "A" { "B" } else { "A" };
            let damaged = format!("{}{damaged}{}", &token[..n], &token[n + 1..]);
            assert_eq!(key.verify(&damaged, at(0)), None, "{damaged}");
            assert_eq!(key.verify(&token[..n], at(0)), None, "{n} characters");
        }
        let other = TokenKey::random(MAX_AGE).unwrap();
        assert_eq!(other.verify(&token, at(0)), None);
        for garbage in ["", "x", "☃", &"A".repeat(1_000)] {
            assert_eq!(key.verify(garbage, at(0)), None, "{garbage}");
        }
        assert!(!format!("{key:?}").contains("mac"));
    }
}
