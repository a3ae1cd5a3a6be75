//! Keys from a JWKS URL.
//!
//! One task fetches: at the start, every `jwt.jwks_refresh`, and when a token names a key that is
//! not known, but then no sooner than `jwt.jwks_cooldown` after the last time. While the endpoint is
//! down it tries again after 1 s, then 2 s, 4 s and so on up to a minute, and the keys of before
//! hold. Checks read the keys; they wait for a fetch only where a key is not known.

use std::sync::Arc;
use std::time::Duration;

use herenow_pubsub::broker::in_words;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::keys::{Key, KeyError};
use super::refusal::TokenMetrics;
use crate::config::JwtConfig;

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
    /// `None` until a fetch has succeeded.
    keys: RwLock<Option<Arc<[Key]>>>,
    wanted: Notify,
    /// Fetches that have ended.
    n_fetches: watch::Sender<u64>,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    is_fetching: bool,
    /// When an unknown key may ask for a fetch again.
    not_before: Instant,
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
    /// Keys of `url`, none of which are here yet.
    pub(super) fn new(url: reqwest::Url, config: &JwtConfig) -> Result<Self, reqwest::Error> {
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
            keys: RwLock::new(None),
            wanted: Notify::new(),
            n_fetches: watch::Sender::new(0),
            pace: Mutex::new(Pace {
                is_fetching: true,
                not_before: Instant::now(),
            }),
        })
    }

    /// The keys that were fetched last; `None` if none ever were.
    pub(super) fn keys(&self) -> Option<Arc<[Key]>> {
        self.keys.read().clone()
    }

    /// Waits for a fetch, if one is under way or may be made now; tells whether one has ended.
    pub(super) async fn refetched(&self) -> bool {
        let mut n_fetches = self.n_fetches.subscribe();
        {
            let mut pace = self.pace.lock();
            if !pace.is_fetching {
                if Instant::now() < pace.not_before {
                    return false;
                }
                pace.is_fetching = true;
                self.wanted.notify_one();
            }
        }
        let ended = tokio::time::timeout(self.patience, n_fetches.changed());
        matches!(ended.await, Ok(Ok(())))
    }

    /// Fetches, for ever.
    pub(super) async fn run(self: Arc<Self>, metrics: Arc<TokenMetrics>) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let fetched = self.fetch().await;
            metrics.count_fetch(fetched.is_ok());
            let (pause, gap) = match fetched {
                Ok(keys) => {
                    tracing::info!(n_keys = keys.len(), "keys of tokens fetched");
                    *self.keys.write() = Some(keys.into());
                    back_off = FIRST_BACK_OFF;
                    (self.refresh, self.cooldown)
                }
                Err(error) => {
                    let has_keys = self.keys().is_some();
                    tracing::warn!(%error, has_keys, "keys of tokens not fetched");
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

    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
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
        Ok(Key::from_jwks(&body)?)
    }
}
