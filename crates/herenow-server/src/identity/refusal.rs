//! Why a token is refused: what the operator reads, what the client is told, and how often.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use herenow_pubsub::LogLimit;

/// Why a token is refused. Its text is for the log, and never has any of the token in it but the
/// name of an algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// There is none.
    #[error("no token was given")]
    Missing,
    /// It is longer than a token may be.
    #[error("the token is {len} bytes, the limit is {max} (jwt.max_token_bytes)")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// `jwt.max_token_bytes`.
        max: usize,
    },
    /// It is no JWT: not three parts of base64url, or not JSON.
    #[error("the token is no signed JWT")]
    Malformed,
    /// It asks for an algorithm that no key here is for; `none` among them.
    #[error("the token's algorithm is {algorithm:?}, and no key is configured for that")]
    Algorithm {
        /// The algorithm's name, cut to 16 characters.
        algorithm: String,
    },
    /// It has a critical header, which must be understood.
    #[error("the token has a critical header that is not known")]
    Critical,
    /// None of the keys is the one it names.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The keys could not be fetched: none yet, or not those of now, of which the token's may be
    /// one.
    #[error("the token's key is not here, and jwt.jwks_url has not answered with other keys")]
    KeysUnavailable,
    /// It was not signed with the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is over.
    #[error("the token expired {ago_s} s ago, more than jwt.leeway")]
    Expired {
        /// Seconds since then.
        ago_s: u64,
    },
    /// It has not begun.
    #[error("the token is not valid for another {in_s} s, more than jwt.leeway")]
    NotYetValid {
        /// Seconds until then.
        in_s: u64,
    },
    /// It would never be over.
    #[error("the token has no exp (jwt.require_expiry)")]
    NoExpiry,
    /// It is meant for someone else.
    #[error("the token's aud is not one of jwt.audience")]
    Audience,
    /// It is by someone else.
    #[error("the token's iss is not one of jwt.issuer")]
    Issuer,
    /// A claim is not what it must be.
    #[error("the token's claim {claim} is wrong: it must be {expected}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The user's name is longer than a key may be.
    #[error("the token's claim sub is {len} bytes, the limit is {max} (presence.max_key_bytes)")]
    KeyTooLong {
        /// Its bytes.
        len: usize,
        /// `presence.max_key_bytes`.
        max: usize,
    },
    /// A new token on a connection is another user's.
    #[error("the new token is of another user than the connection")]
    OtherUser,
}

impl TokenRefusal {
    /// Names of all reasons, as counted.
    pub const NAMES: [&str; 15] = [
        "missing",
        "too_long",
        "malformed",
        "algorithm",
        "critical",
        "unknown_key",
        "keys_unavailable",
        "signature",
        "expired",
        "not_yet_valid",
        "no_expiry",
        "audience",
        "issuer",
        "claim",
        "other_user",
    ];

    /// The reason's name, one of [`TokenRefusal::NAMES`].
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// The word that the client is told. It says no more than who holds the token may know.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Expired { .. } => "token_expired",
            Self::Audience | Self::Issuer => "token_not_accepted",
            Self::OtherUser => "token_of_another_user",
            Self::KeysUnavailable => "keys_unavailable",
            Self::TooLong { .. }
            | Self::Malformed
            | Self::Algorithm { .. }
            | Self::Critical
            | Self::UnknownKey
            | Self::Signature
            | Self::NotYetValid { .. }
            | Self::NoExpiry
            | Self::Claim { .. }
            | Self::KeyTooLong { .. } => "token_invalid",
        }
    }

    /// The status of a handshake that is refused for this: 401, or 403 for a genuine token that is
    /// meant for others, or 503 while there are no keys.
    pub fn status(&self) -> StatusCode {
        match self.word() {
            "token_not_accepted" => StatusCode::FORBIDDEN,
            "keys_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    fn index(&self) -> usize {
        match self {
            Self::Missing => 0,
            Self::TooLong { .. } => 1,
            Self::Malformed => 2,
            Self::Algorithm { .. } => 3,
            Self::Critical => 4,
            Self::UnknownKey => 5,
            Self::KeysUnavailable => 6,
            Self::Signature => 7,
            Self::Expired { .. } => 8,
            Self::NotYetValid { .. } => 9,
            Self::NoExpiry => 10,
            Self::Audience => 11,
            Self::Issuer => 12,
            Self::Claim { .. } | Self::KeyTooLong { .. } => 13,
            Self::OtherUser => 14,
        }
    }
}

/// What the checks of tokens came to so far, free of any exporter.
#[derive(Debug, Default)]
pub struct TokenMetrics {
    accepted: AtomicU64,
    refused: [AtomicU64; TokenRefusal::NAMES.len()],
    /// Those of them whose user has too long a name.
    long_keys: AtomicU64,
    expired: AtomicU64,
    expired_channels: AtomicU64,
    key_fetches: AtomicU64,
    failed_key_fetches: AtomicU64,
    /// What bounds the lines of each reason.
    log: [LogLimit; TokenRefusal::NAMES.len()],
}

impl TokenMetrics {
    /// Tokens accepted, refreshes included.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Tokens refused, by [`TokenRefusal::name`].
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.refused.iter().map(|n| n.load(Ordering::Relaxed));
        TokenRefusal::NAMES.into_iter().zip(counts)
    }

    /// Tokens refused for being over `jwt.max_token_bytes`.
    pub fn long_tokens(&self) -> u64 {
        let too_long = TokenRefusal::TooLong { len: 0, max: 0 };
        self.refused[too_long.index()].load(Ordering::Relaxed)
    }

    /// Tokens refused for a `sub` over `presence.max_key_bytes`.
    pub fn long_keys(&self) -> u64 {
        self.long_keys.load(Ordering::Relaxed)
    }

    /// Connections closed because their token expired.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Channels told that the token which they came with has expired; their connection goes on.
    pub fn expired_channels(&self) -> u64 {
        self.expired_channels.load(Ordering::Relaxed)
    }

    /// Attempts to fetch the keys of `jwt.jwks_url`, and how many of them failed.
    pub fn key_fetches(&self) -> (u64, u64) {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (count(&self.key_fetches), count(&self.failed_key_fetches))
    }

    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_expired_channel(&self) {
        self.expired_channels.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_fetch(&self, is_ok: bool) {
        self.key_fetches.fetch_add(1, Ordering::Relaxed);
        if !is_ok {
            self.failed_key_fetches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a refusal, and logs it unless too many of its reason were logged just now.
    pub(super) fn count_refused(&self, refusal: &TokenRefusal) {
        self.refused[refusal.index()].fetch_add(1, Ordering::Relaxed);
        if matches!(refusal, TokenRefusal::KeyTooLong { .. }) {
            self.long_keys.fetch_add(1, Ordering::Relaxed);
        }
        let log = &self.log[refusal.index()];
        if let Some(n_left_out) = log.may_log() {
            let reason = refusal.name();
            tracing::warn!(reason, error = %refusal, n_left_out, "token refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_602_refusals_are_all_counted() {
        let metrics = TokenMetrics::default();
        for _ in 0..50 {
            metrics.count_refused(&TokenRefusal::Signature);
        }
        assert!(metrics.refused().any(|count| count == ("signature", 50)));
    }

    #[test]
    fn srv_1301_what_the_log_left_out_is_told_with_its_own_reason() {
        let metrics = TokenMetrics::default();
        let may_log = |refusal: &TokenRefusal| metrics.log[refusal.index()].may_log();
        let logged: Vec<_> = (0..105)
            .filter_map(|_| may_log(&TokenRefusal::Signature))
            .collect();
        assert_eq!(logged, [0; 10]);
        let other = may_log(&TokenRefusal::Missing);
        assert_eq!(other, Some(0), "in a flood of another");
    }
}
