//! Tokens as other programs would make them, independent of the server's own code.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};

/// The secret of the tests' HS256 tokens.
pub(crate) const SECRET: &str = "a secret of the tests, long enough";

/// Seconds since 1970, that many from now.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// Claims of a user for a minute, and what else they are to have.
pub(crate) fn claims(user: &str, extra: Value) -> Value {
    let mut claims = json!({ "sub": user, "exp": in_seconds(60) });
    let extra = extra.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(extra);
    claims
}

/// A token of these claims, with the tests' secret.
pub(crate) fn hs256(claims: &Value) -> String {
    hs256_with(SECRET, claims)
}

/// A token of these claims, with this secret.
pub(crate) fn hs256_with(secret: &str, claims: &Value) -> String {
    let message = unsigned(&json!({ "alg": "HS256", "typ": "JWT" }), claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// The first two parts of a token.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// What the JavaScript client makes of a token for a sub-protocol.
pub(crate) fn base64(token: &str) -> String {
    STANDARD_NO_PAD.encode(token)
}
