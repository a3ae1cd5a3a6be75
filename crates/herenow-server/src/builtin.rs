//! The built-in channel: what a topic does that the configuration names.
//!
//! With presence, a join that names a user tracks it and is told who is here; without a user it
//! observes. With broadcast, any event that is not ours goes to everybody on the topic.
//!
//! | event | payload | reply |
//! | --- | --- | --- |
//! | `presence:update` | `{"meta": {…}}` replaces the meta, `{"patch": {…}}` merges into it, null removes | `{"phx_ref": …}` |
//! | `presence:track` | `{"meta": {…}}`, or `{}` | `{"phx_ref": …}` |
//! | `presence:untrack` | `{}` | `{}` |
//! | `status` | `{"status": "away"}`, short for a patch of that field | `{"phx_ref": …}` |
//! | `echo` | anything | the payload |
//! | `phx_…`, `presence_…`, other `presence:…` | anything | an error: reserved |
//! | any other | an object, or binary | `{}`, after it was broadcast, sender included |
//!
//! Errors are `{"reason": …}` and name the value and the limit.

mod request;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use herenow_channels::{
    BroadcastError, Channel, ConnectInfo, Connected, Joined, Outcome, Params, Refused, Socket,
};
use herenow_presence::{MetaRef, NameError, Presence, TrackError, UpdateError};
use herenow_protocol::{Payload, event};
use serde_json::json;

pub(crate) use self::request::is_reserved;
use self::request::{JoinFields, Meta, Refusal, Request};
use crate::config::TopicConfig;

/// The socket's parameter that names the user.
const USER_ID: &str = "user_id";

/// The user that the socket's parameters named.
#[derive(Debug)]
struct SocketUser(Box<str>);

/// What all channels of one pattern share.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) topic: TopicConfig,
    pub(crate) presence: Presence,
}

/// One join of a topic that the configuration names.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    rules: Arc<Rules>,
    /// Who joined; `None` observes.
    user: Option<Box<str>>,
}

/// Lets everybody in, and remembers the user that the parameters name: dev mode.
pub(crate) fn connect(info: &ConnectInfo) -> Connected {
    match info.param(USER_ID).filter(|user| !user.is_empty()) {
        Some(user) => Connected::anonymous().assign(SocketUser(user.into())),
        None => Connected::anonymous(),
    }
}

/// Why something a client asked for was not done; its text is the reply's `reason`.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error(transparent)]
    Track(TrackError),
    #[error(transparent)]
    Update(UpdateError),
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    #[error("{0}")]
    Refused(String),
    #[error("already tracked")]
    AlreadyTracked,
    #[error("not tracked")]
    NotTracked,
    #[error("user_id is {len} bytes, the limit is {max} (presence.max_key_bytes)")]
    UserTooLong { len: usize, max: usize },
    #[error(
        "user_id {user:?} is here {n_metas} times, the limit is {max} (presence.max_metas_per_key)"
    )]
    TooManyMetas {
        user: String,
        n_metas: usize,
        max: usize,
    },
}

impl From<TrackError> for Problem {
    fn from(error: TrackError) -> Self {
        match error {
            TrackError::AlreadyTracked { .. } => Self::AlreadyTracked,
            TrackError::Name(NameError::TooLong {
                field: "key",
                len,
                max,
            }) => Self::UserTooLong { len, max },
            TrackError::TooManyMetas {
                key: user,
                n_metas,
                max,
                ..
            } => Self::TooManyMetas { user, n_metas, max },
            error => Self::Track(error),
        }
    }
}

impl From<UpdateError> for Problem {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::NotTracked { .. } => Self::NotTracked,
            UpdateError::Refused { reason } => Self::Refused(reason),
            error => Self::Update(error),
        }
    }
}

impl BuiltIn {
    pub(crate) fn new(rules: &Arc<Rules>) -> Self {
        Self {
            rules: Arc::clone(rules),
            user: None,
        }
    }

    async fn handle(
        &self,
        socket: &Socket,
        event: &str,
        payload: Payload,
    ) -> Result<Outcome, Problem> {
        match request::read(event, &payload)? {
            Request::Track(meta) => Ok(written(self.track(socket, meta).await?)),
            Request::Replace(meta) => {
                let replace = |old: &mut Meta| request::replace(old, meta.clone());
                Ok(written(self.change(socket, replace).await?))
            }
            Request::Patch(patch) => {
                let merge = |old: &mut Meta| request::merge(old, patch.clone());
                Ok(written(self.change(socket, merge).await?))
            }
            Request::Untrack => {
                let was_tracked = self.rules.presence.untrack(socket, self.user()?).await;
                if was_tracked {
                    Ok(Outcome::ok(()))
                } else {
                    Err(Problem::NotTracked)
                }
            }
            Request::Echo => Ok(Outcome::ok(payload)),
            Request::Broadcast => {
                self.broadcast(socket, event, payload)?;
                Ok(Outcome::ok(()))
            }
        }
    }

    async fn track(&self, socket: &Socket, meta: Meta) -> Result<MetaRef, Problem> {
        let user = self.user()?;
        self.check_meta(&meta)?;
        let meta = request::stamped(meta, unix_seconds());
        Ok(self.rules.presence.track(socket, user, meta).await?)
    }

    /// Changes the meta by a function of what it is; the result must be within the topic's limit.
    async fn change(
        &self,
        socket: &Socket,
        change: impl Fn(&mut Meta) + Send + Sync,
    ) -> Result<MetaRef, Problem> {
        let user = self.user()?;
        let checked = |meta: &mut Meta| {
            change(meta);
            self.check_meta(meta).map_err(|refusal| refusal.to_string())
        };
        Ok(self
            .rules
            .presence
            .try_update_with(socket, user, checked)
            .await?)
    }

    fn broadcast(&self, socket: &Socket, event: &str, payload: Payload) -> Result<(), Problem> {
        let topic = &self.rules.topic;
        if !topic.broadcast {
            return Err(Refusal::BroadcastOff.into());
        }
        let limit = "max_payload_bytes of the topic";
        request::within(
            "the payload",
            payload.bytes().len(),
            topic.max_payload_bytes,
            limit,
        )?;
        Ok(socket.broadcast(event, payload)?)
    }

    /// Who is present here, if anyone can be.
    fn user(&self) -> Result<&str, Refusal> {
        if !self.rules.topic.presence {
            return Err(Refusal::PresenceOff);
        }
        self.user.as_deref().ok_or(Refusal::Observes)
    }

    /// Checks the topic's own limit; presence has one as well.
    fn check_meta(&self, meta: &Meta) -> Result<(), Refusal> {
        let (len, max) = (request::own_bytes(meta), self.rules.topic.max_meta_bytes);
        request::within("the meta", len, max, "max_meta_bytes of the topic")
    }
}

impl Channel for BuiltIn {
    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        if !self.rules.topic.presence {
            return Ok(Joined::empty());
        }
        let fields = JoinFields::read(params.payload())?;
        let by_socket = socket.assigns().get::<SocketUser>().map(|user| &*user.0);
        self.user = fields.user(by_socket)?.map(Into::into);
        if self.user.is_some() {
            self.track(socket, fields.meta()?).await?;
        }
        let state = self.rules.presence.list(socket.topic()).await;
        socket.push(event::PRESENCE_STATE, state)?;
        Ok(Joined::empty())
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        let handled = self.handle(socket, event, payload).await;
        handled.unwrap_or_else(|problem| Outcome::error(json!({ "reason": problem.to_string() })))
    }
}

fn written(meta_ref: MetaRef) -> Outcome {
    Outcome::ok(json!({ "phx_ref": meta_ref.as_str() }))
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
