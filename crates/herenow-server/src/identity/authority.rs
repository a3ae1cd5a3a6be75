//! [`Authority`]: turns tokens into identities.

use std::fmt;
use std::sync::Arc;

use herenow_channels::{ConnectInfo, ConnectRefused, Handle};
use jsonwebtoken::Algorithm;
use tokio::task::JoinHandle;

use super::claims::{ClaimRules, RawClaims};
use super::expiry::{Expiries, Expiry};
use super::jwks::{Jwks, Refetch};
use super::keys::{Header, Headers, Key, KeyError, Parts};
use super::refusal::{TokenMetrics, TokenRefusal};
use super::who::Identity;
use crate::clock::unix_seconds;
use crate::config::ServerConfig;
use crate::outage::Outage;

/// Parameters of a socket that may carry its token, in this order; the sub-protocol of a token
/// counts after the first.
const PARAMS: [&str; 3] = ["token", "access_token", "apikey"];
/// Of the handshakes that are checked at a time, one in so many may wait for keys.
const CHECKS_PER_WAITER: usize = 4;
/// The parameter that names the user in dev mode.
const USER_ID: &str = "user_id";

/// Turns tokens into identities, by the keys of the configuration. Cheap to clone.
///
/// Its tasks (fetching keys, closing what has expired) end with the last clone.
#[derive(Debug, Clone)]
pub struct Authority(Arc<Shared>);

struct Shared {
    /// `None` in dev mode: clients are who they say they are.
    tokens: Option<Tokens>,
    expiries: Arc<Expiries>,
    metrics: Arc<TokenMetrics>,
    tasks: Vec<JoinHandle<()>>,
}

/// What tokens are checked by.
struct Tokens {
    /// Those of the configuration.
    keys: Vec<Key>,
    jwks: Option<Arc<Jwks>>,
    headers: Headers,
    rules: ClaimRules,
    max_token_bytes: usize,
}

/// Why tokens cannot be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file with a key could not be read.
    #[error("cannot read the public key {path}: {cause}")]
    KeyFile {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file holds no key.
    #[error("jwt.public_key_files: {path}: {problem}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Keys cannot be fetched at all.
    #[error("jwt.jwks_url: {problem}")]
    Jwks {
        /// What is wrong.
        problem: String,
    },
}

impl Authority {
    /// In dev mode: clients are who they say they are.
    pub fn dev() -> Self {
        Self(Arc::new(Shared {
            tokens: None,
            expiries: Arc::default(),
            metrics: Arc::default(),
            tasks: Vec::new(),
        }))
    }

    /// Checks tokens by `config`. Begins to fetch keys, and does not wait for them.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`] if a key of the configuration is none.
    ///
    /// # Panics
    ///
    /// Outside of tokio.
    pub fn start(config: &ServerConfig) -> Result<Self, AuthorityError> {
        let tokens = Tokens::new(config)?;
        let (expiries, metrics): (Arc<Expiries>, Arc<TokenMetrics>) = Default::default();
        let mut tasks = vec![tokio::spawn(expiries.clone().run(metrics.clone()))];
        if let Some(jwks) = &tokens.jwks {
            tasks.push(tokio::spawn(jwks.clone().run(metrics.clone())));
        }
        Ok(Self(Arc::new(Shared {
            tokens: Some(tokens),
            expiries,
            metrics,
            tasks,
        })))
    }

    /// Tells whether clients are who they say they are.
    pub fn is_dev(&self) -> bool {
        self.0.tokens.is_none()
    }

    /// What the checks came to so far.
    pub fn metrics(&self) -> &Arc<TokenMetrics> {
        &self.0.metrics
    }

    /// What is missing, if the keys of `jwt.jwks_url` cannot be fetched now.
    pub(crate) fn outage(&self) -> Option<Outage> {
        self.0.tokens.as_ref()?.jwks.as_ref()?.outage()
    }

    pub(super) fn expiries(&self) -> &Arc<Expiries> {
        &self.0.expiries
    }

    /// Has a channel told [`TokenExpired`](super::TokenExpired) when the token of `identity`, which
    /// is the channel's own, is over; until what is returned is dropped.
    pub(crate) fn watch(&self, identity: &Identity, channel: Handle) -> Option<Expiry> {
        let expires_at = identity.expires_at_unix()?;
        Some(self.expiries().hold(expires_at, channel))
    }

    /// Counts and logs the refusal of a request or a join that has no token, or one that is over.
    pub(crate) fn refuse(&self, refusal: TokenRefusal) -> TokenRefusal {
        self.0.metrics.count_refused(&refusal);
        refusal
    }

    /// Checks a token; counts and logs a refusal. Waits only if it is not signed by a key that is
    /// here, and other keys may be fetched.
    ///
    /// In dev mode no token is looked at: whoever has one is nobody in particular, and may do all.
    ///
    /// # Errors
    ///
    /// [`TokenRefusal`]
    pub async fn check(&self, token: &str) -> Result<Identity, TokenRefusal> {
        self.check_for(token, |_| true).await
    }

    /// As [`check`](Self::check), and refuses a token that is somebody else's than `is_own` says.
    ///
    /// # Errors
    ///
    /// [`TokenRefusal`], counted and logged.
    pub(super) async fn check_for(
        &self,
        token: &str,
        is_own: impl FnOnce(&Identity) -> bool,
    ) -> Result<Identity, TokenRefusal> {
        let Some(tokens) = &self.0.tokens else {
            return Ok(Identity::claimed(None));
        };
        let checked = tokens.check(token).await;
        self.counted(checked.and_then(|new| match is_own(&new) {
            true => Ok(new),
            false => Err(TokenRefusal::OtherUser),
        }))
    }

    /// Counts what a check came to, and logs a refusal.
    fn counted(&self, checked: Result<Identity, TokenRefusal>) -> Result<Identity, TokenRefusal> {
        match &checked {
            Ok(_) => self.0.metrics.count_accepted(),
            Err(refusal) => self.0.metrics.count_refused(refusal),
        }
        checked
    }

    /// Finds out who asks for a socket: by its token, or in dev mode by its parameter `user_id`.
    ///
    /// # Errors
    ///
    /// [`TokenRefusal`], counted and logged.
    pub async fn identify(&self, info: &ConnectInfo) -> Result<Identity, TokenRefusal> {
        if self.is_dev() {
            let user = info.param(USER_ID).filter(|user| !user.is_empty());
            return Ok(Identity::claimed(user));
        }
        match token_of(info) {
            Some(token) => self.check(token).await,
            None => self.counted(Err(TokenRefusal::Missing)),
        }
    }
}

/// The token of a request for a socket: the parameter `token`, the sub-protocol of Phoenix 1.8 (or
/// the header that long poll has for it), the parameters `access_token` and `apikey`.
pub(super) fn token_of(info: &ConnectInfo) -> Option<&str> {
    let [first, others @ ..] = PARAMS;
    let given = |token: &&str| !token.is_empty();
    let param = |name: &str| info.param(name).filter(given);
    param(first)
        .or_else(|| info.auth_token().filter(given))
        .or_else(|| others.into_iter().find_map(param))
}

/// The answer to a request for a socket whose token is refused.
pub(super) fn refused(refusal: &TokenRefusal) -> ConnectRefused {
    ConnectRefused::because(refusal.status(), refusal.word())
}

impl Tokens {
    fn new(config: &ServerConfig) -> Result<Self, AuthorityError> {
        let jwt = &config.jwt;
        let mut keys: Vec<Key> = jwt.secret.iter().map(|s| Key::secret(s.expose())).collect();
        for path in &jwt.public_key_files {
            keys.push(key_file(path)?);
        }
        let jwks = jwt.jwks_url.as_deref().map(|url| fetched(url, config));
        Ok(Self {
            keys,
            jwks: jwks.transpose()?,
            headers: Headers::default(),
            rules: ClaimRules {
                audience: jwt.audience.clone(),
                issuer: jwt.issuer.clone(),
                leeway_s: jwt.leeway.as_secs(),
                require_expiry: jwt.require_expiry,
                max_key_bytes: config.presence.max_key_bytes,
            },
            max_token_bytes: jwt.max_token_bytes,
        })
    }

    /// Checks a token.
    async fn check(&self, token: &str) -> Result<Identity, TokenRefusal> {
        let (len, max) = (token.len(), self.max_token_bytes);
        if len > max {
            return Err(TokenRefusal::TooLong { len, max });
        }
        let token = Parts::of(token)?;
        let header = self.headers.read(&token)?;
        let claims = self.verify_or_fetch(&token, &header).await?;
        Ok(Identity::of(claims.check(&self.rules, unix_seconds())?))
    }

    /// As [`verify`](Self::verify), and once more if other keys could be fetched. Also a wrong
    /// signature may be for want of a key: one that was replaced under its name, or has none.
    async fn verify_or_fetch(
        &self,
        token: &Parts<'_>,
        header: &Header,
    ) -> Result<RawClaims, TokenRefusal> {
        let algorithm = header.algorithm()?;
        let verified = self.verify(token, algorithm, header);
        let (Err(refusal), Some(jwks)) = (&verified, self.jwks_for(algorithm)) else {
            return verified;
        };
        let is_unknown = match refusal {
            TokenRefusal::UnknownKey => true,
            TokenRefusal::KeysUnavailable | TokenRefusal::Signature => false,
            // Whoever signed it, it is wrong.
            _ => return verified,
        };
        match jwks.refetched().await {
            Refetch::Done => self.verify(token, algorithm, header),
            Refetch::Unavailable if is_unknown => Err(TokenRefusal::KeysUnavailable),
            Refetch::TooSoon | Refetch::Unavailable => verified,
        }
    }

    /// Where keys for an algorithm are fetched from.
    fn jwks_for(&self, algorithm: Algorithm) -> Option<&Jwks> {
        let jwks = self.jwks.as_deref();
        jwks.filter(|_| algorithm != Algorithm::HS256)
    }

    /// The claims of a token that one of the keys that are here has signed. What they must be is
    /// ours to say, so that `jsonwebtoken` checks the signature and no more.
    fn verify(
        &self,
        token: &Parts<'_>,
        algorithm: Algorithm,
        header: &Header,
    ) -> Result<RawClaims, TokenRefusal> {
        let fetched = self.jwks.as_ref().and_then(|jwks| jwks.keys());
        let keys = self.keys.iter();
        let keys = keys.chain(fetched.iter().flat_map(|keys| keys.iter()));
        let (message, signature) = (token.message.as_bytes(), token.signature()?);
        let mut is_named = false;
        for key in keys.filter(|key| key.fits(algorithm, header)) {
            if key.checker.is_right(message, &signature) {
                return RawClaims::read(&token.claims()?);
            }
            // That it is not signed by a key which it does not name says nothing about it.
            is_named |= key.is_named_by(header);
        }
        // Without a name it may be of a key that is not here yet.
        let are_here = fetched.is_some() || self.jwks_for(algorithm).is_none();
        match is_named && are_here {
            true => Err(TokenRefusal::Signature),
            false => Err(self.unknown_key(algorithm, header, fetched.is_some())),
        }
    }

    /// The refusal of a token for which there is no key.
    fn unknown_key(&self, algorithm: Algorithm, header: &Header, is_fetched: bool) -> TokenRefusal {
        let is_of_jwks = self.jwks_for(algorithm).is_some();
        let is_known = self.keys.iter().any(|key| key.algorithm == algorithm);
        match (is_of_jwks, is_known, is_fetched) {
            (true, _, false) => TokenRefusal::KeysUnavailable,
            (true, _, true) => TokenRefusal::UnknownKey,
            // The keys of the configuration have no names, so it is one of them.
            (false, true, _) => TokenRefusal::Signature,
            (false, false, _) => header.refuse_algorithm(),
        }
    }
}

fn key_file(path: &str) -> Result<Key, AuthorityError> {
    let pem = std::fs::read(path).map_err(|cause| AuthorityError::KeyFile {
        path: path.to_owned(),
        cause,
    })?;
    Key::from_pem(&pem).map_err(|problem: KeyError| AuthorityError::Key {
        path: path.to_owned(),
        problem: problem.to_string(),
    })
}

fn fetched(url: &str, config: &ServerConfig) -> Result<Arc<Jwks>, AuthorityError> {
    let problem = |problem: String| AuthorityError::Jwks { problem };
    let url = reqwest::Url::parse(url).map_err(|error| problem(error.to_string()))?;
    let max_waiters = config.socket.max_checks.get() / CHECKS_PER_WAITER;
    let jwks = Jwks::new(url, &config.jwt, max_waiters);
    Ok(Arc::new(jwks.map_err(|error| problem(error.to_string()))?))
}

impl Drop for Shared {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("is_dev", &self.tokens.is_none())
            .finish_non_exhaustive()
    }
}
