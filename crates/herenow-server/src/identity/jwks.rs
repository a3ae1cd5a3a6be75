//! Keys from a JWKS URL.
//!
//! One task fetches: at the start, every `jwt.jwks_refresh`, and when a token is not signed by a
//! key that is here, but then no sooner than `jwt.jwks_cooldown` after the last time. While the
//! endpoint is down it tries again after 1 s, then 2 s, 4 s and so on up to a minute, and the keys
//! of before hold. A set that is answered replaces them, even one without a key. Checks read the
//! keys; a few of them wait for a fetch where the key is not here.

use std::sync::Arc;
use std::time::Duration;

use herenow_pubsub::broker::in_words;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::keys::{Key, KeyError, KeySet, MAX_JWKS_KEYS};
use super::refusal::TokenMetrics;
use crate::config::JwtConfig;
use crate::outage::{Failing, Outage, Part};

/// Largest set of keys.
const MAX_BODY_BYTES: usize = 256 << 10;
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Jwks {
    url: reqwest::Url,
    client: reqwest::Client,
    refresh: Duration,
    cooldown: Duration,
    /// Longest time that a check waits for a fetch.
    patience: Duration,
    /// Places of the checks that wait for a fetch. Anybody can make up a token that needs one, and
    /// while it waits it keeps a turn of those who come in.
    waiters: Semaphore,
    /// `None` until a fetch has succeeded.
    keys: RwLock<Option<Arc<[Key]>>>,
    wanted: Notify,
    /// Fetches that have ended.
    n_fetches: watch::Sender<u64>,
    pace: Mutex<Pace>,
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug)]
struct Pace {
    is_fetching: bool,
    /// When a token may ask for a fetch again.
    not_before: Instant,
}

/// What came of asking for other keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refetch {
    /// They were fetched, and the one that was not here may be among them.
    Done,
    /// Those that are here were fetched just now.
    TooSoon,
    /// The endpoint fails, or as many wait for it as may.
    Unavailable,
}

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{}", in_words(.0))]
    Http(reqwest::Error),
    #[error("the answer is {0}")]
    Status(reqwest::StatusCode),
    #[error("the answer is over {MAX_BODY_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Keys(#[from] KeyError),
}

impl Jwks {
    /// Keys of `url`, none of which are here yet, for which so many checks wait at a time.
    pub(super) fn new(
        url: reqwest::Url,
        config: &JwtConfig,
        max_waiters: usize,
    ) -> Result<Self, reqwest::Error> {
        // An error says that there is one already.
        let _is_there = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("herenow/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.jwks_timeout)
            .build()?;
        Ok(Self {
            url,
            client,
            refresh: config.jwks_refresh,
            cooldown: config.jwks_cooldown,
            patience: config.jwks_timeout + Duration::from_secs(1),
            waiters: Semaphore::new(max_waiters.min(Semaphore::MAX_PERMITS)),
            keys: RwLock::new(None),
            wanted: Notify::new(),
            n_fetches: watch::Sender::new(0),
            pace: Mutex::new(Pace {
                is_fetching: true,
                not_before: Instant::now(),
            }),
            failing: Mutex::default(),
        })
    }

    /// The keys that were fetched last; `None` if none ever were.
    pub(super) fn keys(&self) -> Option<Arc<[Key]>> {
        self.keys.read().clone()
    }

    /// What is missing, if the last fetch failed.
    pub(super) fn outage(&self) -> Option<Outage> {
        let failing = self.failing.lock();
        Some(failing.as_ref()?.outage(Part::Keys, "jwt.jwks_url"))
    }

    /// Waits for a fetch, if one is under way or may be made now and not too many wait already.
    pub(super) async fn refetched(&self) -> Refetch {
        let mut n_fetches = self.n_fetches.subscribe();
        if !self.is_coming() {
            return match self.is_failing() {
                true => Refetch::Unavailable,
                false => Refetch::TooSoon,
            };
        }
        let Ok(_place) = self.waiters.try_acquire() else {
            return Refetch::Unavailable;
        };
        let ended = tokio::time::timeout(self.patience, n_fetches.changed()).await;
        match matches!(ended, Ok(Ok(()))) && !self.is_failing() {
            true => Refetch::Done,
            false => Refetch::Unavailable,
        }
    }

    /// Tells whether a fetch is under way; asks for one if it may be made now.
    fn is_coming(&self) -> bool {
        let mut pace = self.pace.lock();
        if !pace.is_fetching && Instant::now() >= pace.not_before {
            pace.is_fetching = true;
            self.wanted.notify_one();
        }
        pace.is_fetching
    }

    /// Tells whether the last fetch failed.
    fn is_failing(&self) -> bool {
        self.failing.lock().is_some()
    }

    /// Fetches, for ever.
    pub(super) async fn run(self: Arc<Self>, metrics: Arc<TokenMetrics>) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let fetched = self.fetch().await;
            metrics.count_fetch(fetched.is_ok());
            let (pause, gap) = match fetched {
                Ok(set) => {
                    set.log();
                    *self.keys.write() = Some(set.keys.into());
                    *self.failing.lock() = None;
                    back_off = FIRST_BACK_OFF;
                    (self.refresh, self.cooldown)
                }
                Err(error) => {
                    let has_keys = self.keys().is_some();
                    tracing::warn!(%error, has_keys, "keys of tokens not fetched");
                    Failing::note(&mut self.failing.lock(), &error.to_string());
                    let pause = back_off;
                    back_off = (back_off * 2).min(MAX_BACK_OFF);
                    (pause, pause)
                }
            };
            *self.pace.lock() = Pace {
                is_fetching: false,
                not_before: Instant::now() + gap,
            };
            self.n_fetches.send_modify(|n| *n += 1);
            tokio::select! {
                () = tokio::time::sleep(pause) => self.pace.lock().is_fetching = true,
                () = self.wanted.notified() => {}
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let http = |error: reqwest::Error| FetchError::Http(error.without_url());
        let answer = self.client.get(self.url.clone()).send().await;
        let mut answer = answer.map_err(http)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(http)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(KeySet::read(&body)?)
    }
}

impl KeySet {
    fn log(&self) {
        let (n_keys, n_left_out) = (self.keys.len(), self.n_left_out);
        tracing::info!(n_keys, n_left_out, "keys of tokens fetched");
        if n_keys == 0 {
            tracing::warn!(
                n_left_out,
                "no key for tokens in the answer of jwt.jwks_url"
            );
        }
        if self.n_over > 0 {
            let (n_keys, limit) = (n_keys + self.n_over, MAX_JWKS_KEYS);
            tracing::warn!(n_keys, limit, "keys of tokens over the limit are not used");
        }
    }
}
