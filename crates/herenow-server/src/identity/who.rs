//! [`Identity`]: who a client is and what it may do.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smol_str::SmolStr;

use super::claims::Claims;
use super::rights::{PRIVATE_PREFIX, Right, Rights, Topics, USER_PREFIX};

/// Who a client is and what it may do, by its token, or in dev mode by what it says.
///
/// Cheap to clone. Says nothing about time: see [`Identity::expires_at`].
#[derive(Debug, Clone)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    key: Option<SmolStr>,
    role: Option<SmolStr>,
    topics: Topics,
    rights: Rights,
    /// In seconds since 1970.
    expires_at: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// What the client says, in dev mode.
    Client,
    Token,
}

/// A client asked to be present as someone else than its token says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("user_id is another user than the token's; the user is the token's, so it can be left out")]
pub struct OtherUser;

impl Identity {
    /// In dev mode: the client is who it says, also in each join, and may do everything.
    pub fn claimed(key: Option<&str>) -> Self {
        Self(Arc::new(Inner {
            source: Source::Client,
            key: key.map(Into::into),
            role: None,
            topics: Topics::All,
            rights: Rights::all(),
            expires_at: None,
        }))
    }

    /// Nobody, who may do nothing.
    pub fn nobody() -> Self {
        Self(Arc::new(Inner {
            source: Source::Token,
            key: None,
            role: None,
            topics: Topics::All,
            rights: Rights::NONE,
            expires_at: None,
        }))
    }

    /// Someone who has shown to use the application, and not who they are.
    pub fn guest() -> Self {
        Self(Arc::new(Inner {
            source: Source::Token,
            key: None,
            role: None,
            topics: Topics::All,
            rights: Rights::all(),
            expires_at: None,
        }))
    }

    /// By the claims of a token that was checked.
    pub(super) fn of(claims: Claims) -> Self {
        Self(Arc::new(Inner {
            source: Source::Token,
            key: claims.key,
            role: claims.role,
            topics: claims.topics,
            rights: claims.rights,
            expires_at: claims.expires_at,
        }))
    }

    /// Tells whether this is by a token, and not what the client says of itself.
    pub fn is_by_token(&self) -> bool {
        self.0.source == Source::Token
    }

    /// The key of the client's presences; `None` if it is nobody, or in dev mode did not say yet.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The token's `role`, which only the Supabase dialect looks at.
    pub fn role(&self) -> Option<&str> {
        self.0.role.as_deref()
    }

    /// When the token is over, leeway included; `None` if never.
    pub fn expires_at(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.0.expires_at?))
    }

    /// As [`Identity::expires_at`], in seconds since 1970.
    pub fn expires_at_unix(&self) -> Option<u64> {
        self.0.expires_at
    }

    /// The topics that the client may know of.
    pub fn topics(&self) -> &Topics {
        &self.0.topics
    }

    /// What the client may do on them.
    pub fn rights(&self) -> Rights {
        self.0.rights
    }

    /// Tells whether the client may join `topic`: it is one of its topics, and it may do something
    /// there. What is refused must look like a topic that does not exist.
    pub fn may_join(&self, topic: &str) -> bool {
        let is_reserved = topic.starts_with(USER_PREFIX) || topic.starts_with(PRIVATE_PREFIX);
        !is_reserved && !self.0.rights.is_empty() && self.0.topics.contain(topic)
    }

    /// Tells whether the client may have `right` on its topics.
    pub fn may(&self, right: Right) -> bool {
        self.0.rights.has(right)
    }

    /// Tells whether it may be told who is here, and hear broadcasts.
    pub fn may_observe(&self) -> bool {
        self.may(Right::Observe)
    }

    /// Tells whether it may be listed.
    pub fn may_be_present(&self) -> bool {
        self.may(Right::Present)
    }

    /// Tells whether it may send to everybody.
    pub fn may_broadcast(&self) -> bool {
        self.may(Right::Broadcast)
    }

    /// The key of a presence for a client that says it is `said`: in dev mode just that, else the
    /// token's user. `None`: it can only observe.
    ///
    /// # Errors
    ///
    /// [`OtherUser`] if there is a token and `said` is someone else.
    pub fn user(&self, said: Option<&str>) -> Result<Option<SmolStr>, OtherUser> {
        match (self.0.source, said) {
            (Source::Client, Some(said)) => Ok(Some(said.into())),
            (Source::Token, Some(said)) if self.key() != Some(said) => Err(OtherUser),
            (Source::Client, None) | (Source::Token, _) => Ok(self.0.key.clone()),
        }
    }
}
