//! Long polling: a socket over plain HTTP requests, for clients that cannot keep a WebSocket.
//!
//! A session is a task that plays the part of the connection; requests find it by a signed token.
//! The HTTP status of an answer is 200 whatever it says: what counts is the `status` in its JSON
//! body, as Phoenix has it. A session lives on the node that made it and as long as its process.

mod http;
mod session;
mod token;

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hashbrown::HashMap;
use parking_lot::Mutex;

pub(crate) use self::http::LongPollRoute;
use self::session::{Handle, SessionTask};
use self::token::{SessionId, TokenKey};
use crate::config::SocketConfig;
use crate::socket::Session;

/// Limits of the long-poll transport of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongPollConfig {
    /// Time that a poll waits for messages, and a message for a channel that can take it, 10
    /// seconds. A session that was not polled for one and a half windows is over.
    pub window: Duration,
    /// Largest body of a request, 8,000,000 bytes. A larger one is answered 400, with a text that
    /// names this.
    pub max_body_bytes: usize,
    /// Time that a client may take to send a body, 30 seconds. Then it is answered 400, with a
    /// `reason` that names this.
    pub body_timeout: Duration,
    /// Time that a token is valid, two weeks; its session ends long before if it is not polled.
    pub token_max_age: Duration,
    /// Sessions that may live at a time, 100,000. One more is refused like a `connect` is.
    pub max_sessions: NonZero<usize>,
}

impl Default for LongPollConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            max_body_bytes: 8_000_000,
            body_timeout: Duration::from_secs(30),
            token_max_age: Duration::from_secs(1_209_600),
            max_sessions: const { NonZero::new(100_000).expect("100000 is not zero") },
        }
    }
}

/// Why long polling cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LongPollError {
    /// A duration must not be zero.
    #[error("{field} is zero, it must be longer")]
    ZeroDuration {
        /// The field of the config.
        field: &'static str,
    },
    /// The operating system gave no randomness for the key of the tokens.
    #[error("no randomness for the key of the tokens")]
    Randomness(#[source] getrandom::Error),
}

impl LongPollConfig {
    fn validate(&self) -> Result<(), LongPollError> {
        let durations = [
            ("window", self.window),
            ("body_timeout", self.body_timeout),
            ("token_max_age", self.token_max_age),
        ];
        match durations.iter().find(|(_, duration)| duration.is_zero()) {
            Some((field, _)) => Err(LongPollError::ZeroDuration { field }),
            None => Ok(()),
        }
    }
}

/// The living sessions of one mount.
pub(crate) struct LongPoll {
    config: LongPollConfig,
    session_config: herenow_protocol::LongPollConfig,
    key: TokenKey,
    sessions: Mutex<HashMap<SessionId, Handle>>,
}

/// Why no session could be made.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{max} long-poll sessions live, which is the limit (longpoll.max_sessions)")]
    TooManySessions { max: usize },
    #[error("no randomness for the number of the session")]
    Randomness(#[source] getrandom::Error),
}

impl LongPoll {
    /// # Errors
    ///
    /// [`LongPollError`] for a wrong limit, or if there is no randomness for the key.
    pub(crate) fn new(
        config: LongPollConfig,
        sockets: &SocketConfig,
    ) -> Result<Arc<Self>, LongPollError> {
        config.validate()?;
        let mut session_config = herenow_protocol::LongPollConfig::default();
        session_config.window = config.window;
        // What waits in the mailbox moves here when it is polled for, and back if the poll fails.
        session_config.max_buffered_frames = sockets.max_queue_messages.get().saturating_mul(2);
        session_config.max_buffered_bytes = sockets.max_queue_bytes.saturating_mul(2);
        let key = TokenKey::random(config.token_max_age).map_err(LongPollError::Randomness)?;
        Ok(Arc::new(Self {
            config,
            session_config,
            key,
            sessions: Mutex::default(),
        }))
    }

    fn config(&self) -> &LongPollConfig {
        &self.config
    }

    fn session_config(&self) -> &herenow_protocol::LongPollConfig {
        &self.session_config
    }

    /// Starts the task of a session and returns the session's token.
    fn open(self: &Arc<Self>, session: Session) -> Result<String, OpenError> {
        let id = SessionId::random().map_err(OpenError::Randomness)?;
        let max = self.config.max_sessions.get();
        let shared = Arc::clone(session.shared());
        let mut sessions = self.sessions.lock();
        if sessions.len() >= max {
            return Err(OpenError::TooManySessions { max });
        }
        let (task, handle) = SessionTask::new(Arc::clone(self), id, session);
        sessions.insert(id, handle);
        drop(sessions);
        shared.tasks.spawn(task.run());
        Ok(self.key.sign(id, SystemTime::now()))
    }

    /// Returns the living session that a token names.
    fn find(&self, token: &str) -> Option<Handle> {
        let id = self.key.verify(token, SystemTime::now())?;
        self.sessions.lock().get(&id).cloned()
    }

    fn remove(&self, id: SessionId) {
        let removed = self.sessions.lock().remove(&id);
        drop(removed); // Not under the lock: wakes whoever waits for the session.
    }
}

impl fmt::Debug for LongPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LongPoll")
            .field("config", &self.config)
            .field("n_sessions", &self.sessions.lock().len())
            .finish_non_exhaustive()
    }
}
