//! Making tokens for trying: what `herenow token` prints.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::crypto;
use super::rights::{Rights, Topics};
use crate::clock::unix_seconds;
use crate::config::ServerConfig;

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenRequest {
    /// The user, nobody.
    pub sub: Option<String>,
    /// Patterns of topics, all if empty.
    pub topics: Vec<String>,
    /// Words of rights, all if empty.
    pub rights: Vec<String>,
    /// How long it is valid, an hour.
    pub ttl: Duration,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// There is no secret to sign with.
    #[error(
        "there is no secret to sign a token with: set HERENOW_JWT_SECRET, jwt.secret_file or \
         jwt.secret, to the one that the server has"
    )]
    NoSecret,
    /// A pattern is none.
    #[error("{topics:?}: each must be a topic, or the beginning of one with one * at its end")]
    Topics {
        /// The patterns.
        topics: Vec<String>,
    },
    /// A right is none.
    #[error("{rights:?}: rights are join, observe, present, broadcast, list and count")]
    Rights {
        /// The words.
        rights: Vec<String>,
    },
    /// The user's name is no key.
    #[error("the user is {len} bytes, it must have 1 or more, and at most {max}")]
    Sub {
        /// Its bytes.
        len: usize,
        /// `presence.max_key_bytes`.
        max: usize,
    },
    /// It could not be signed.
    #[error("the token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

impl Default for TokenRequest {
    fn default() -> Self {
        Self {
            sub: None,
            topics: Vec::new(),
            rights: Vec::new(),
            ttl: Duration::from_secs(3600),
        }
    }
}

/// Makes an HS256 token with the secret of `config`, for its first audience and by its first
/// issuer.
///
/// # Errors
///
/// [`IssueError`]
pub fn issue(config: &ServerConfig, request: &TokenRequest) -> Result<String, IssueError> {
    let secret = config.jwt.secret.as_ref().ok_or(IssueError::NoSecret)?;
    crypto::install();
    let header = Header::new(Algorithm::HS256);
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&header, &claims(config, request)?, &key).map_err(IssueError::Sign)
}

fn claims(config: &ServerConfig, request: &TokenRequest) -> Result<Map<String, Value>, IssueError> {
    let now = unix_seconds();
    let mut claims = Map::new();
    if let Some(sub) = &request.sub {
        let (len, max) = (sub.len(), config.presence.max_key_bytes);
        if !(1..=max).contains(&len) {
            return Err(IssueError::Sub { len, max });
        }
        claims.insert("sub".to_owned(), json!(sub));
    }
    claims.insert("iat".to_owned(), json!(now));
    claims.insert(
        "exp".to_owned(),
        json!(now.saturating_add(request.ttl.as_secs())),
    );
    if let Some(audience) = config.jwt.audience.first() {
        claims.insert("aud".to_owned(), json!(audience));
    }
    if let Some(issuer) = config.jwt.issuer.first() {
        claims.insert("iss".to_owned(), json!(issuer));
    }
    let limits = limits(request)?;
    if !limits.is_empty() {
        claims.insert("herenow".to_owned(), Value::Object(limits));
    }
    Ok(claims)
}

fn limits(request: &TokenRequest) -> Result<Map<String, Value>, IssueError> {
    let mut limits = Map::new();
    let (topics, rights) = (&request.topics, &request.rights);
    if Topics::of(topics.iter().map(String::as_str)).is_none() {
        let topics = topics.clone();
        return Err(IssueError::Topics { topics });
    }
    if Rights::from_words(rights.iter().map(String::as_str)).is_none() {
        let rights = rights.clone();
        return Err(IssueError::Rights { rights });
    }
    if !topics.is_empty() {
        limits.insert("topics".to_owned(), json!(topics));
    }
    if !rights.is_empty() {
        limits.insert("rights".to_owned(), json!(rights));
    }
    Ok(limits)
}
