//! Why a token is refused: what the operator reads, what the client is told, and how often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use parking_lot::Mutex;

/// Refusals that are logged before the log waits for [`LOG_PERIOD`] to be over.
const MAX_LOGGED: u32 = 10;
const LOG_PERIOD: Duration = Duration::from_secs(10);

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
    /// The keys could not be fetched yet.
    #[error("the keys of jwt.jwks_url are not here yet")]
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
            | Self::Claim { .. } => "token_invalid",
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
            Self::Claim { .. } => 13,
            Self::OtherUser => 14,
        }
    }
}

/// What the checks of tokens came to so far, free of any exporter.
#[derive(Debug, Default)]
pub struct TokenMetrics {
    accepted: AtomicU64,
    refused: [AtomicU64; TokenRefusal::NAMES.len()],
    expired: AtomicU64,
    key_fetches: AtomicU64,
    failed_key_fetches: AtomicU64,
    log: Mutex<Option<LogPeriod>>,
}

#[derive(Debug)]
struct LogPeriod {
    since: Instant,
    n_logged: u32,
    n_left_out: u64,
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

    /// Connections closed because their token expired.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
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

    pub(super) fn count_fetch(&self, is_ok: bool) {
        self.key_fetches.fetch_add(1, Ordering::Relaxed);
        if !is_ok {
            self.failed_key_fetches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a refusal, and logs it unless too many were logged just now.
    pub(super) fn count_refused(&self, refusal: &TokenRefusal) {
        self.refused[refusal.index()].fetch_add(1, Ordering::Relaxed);
        if let Some(n_left_out) = self.may_log(Instant::now()) {
            let reason = refusal.name();
            tracing::warn!(reason, error = %refusal, n_left_out, "token refused");
        }
    }

    /// How many refusals were not logged since the last that was; `None` if this one is not either.
    fn may_log(&self, now: Instant) -> Option<u64> {
        let mut log = self.log.lock();
        let period = log.get_or_insert(LogPeriod {
            since: now,
            n_logged: 0,
            n_left_out: 0,
        });
        if now.duration_since(period.since) >= LOG_PERIOD {
            (period.since, period.n_logged) = (now, 0);
        }
        if period.n_logged == MAX_LOGGED {
            period.n_left_out += 1;
            return None;
        }
        period.n_logged += 1;
        Some(std::mem::take(&mut period.n_left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_602_refusals_are_all_counted_but_not_all_logged() {
        let metrics = TokenMetrics::default();
        let start = Instant::now();
        let logged: Vec<_> = (0..13).filter_map(|_| metrics.may_log(start)).collect();
        assert_eq!(logged, [0; 10]);
        assert_eq!(metrics.may_log(start + LOG_PERIOD), Some(3));
        for _ in 0..50 {
            metrics.count_refused(&TokenRefusal::Signature);
        }
        assert!(metrics.refused().any(|count| count == ("signature", 50)));
    }
}
