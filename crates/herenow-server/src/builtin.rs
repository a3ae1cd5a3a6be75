//! The built-in channel: what a topic does that the configuration names.
//!
//! With presence, a join by a user tracks it and is told who is here; without a user it observes.
//! The user, and what it may do, is the connection's [`Identity`]'s to say. With broadcast, any
//! event that is not ours goes to everybody on the topic.
//!
//! | event | payload | reply |
//! | --- | --- | --- |
//! | `presence:update` | `{"meta": {…}}` replaces the meta, `{"patch": {…}}` merges into it, null removes | `{"phx_ref": …}` |
//! | `presence:track` | `{"meta": {…}}`, or `{}` | `{"phx_ref": …}` |
//! | `presence:untrack` | `{}` | `{}` |
//! | `presence:list` | `{}` | who is here, as in `presence_state` |
//! | `presence:list` | `{"limit": …, "after": …}` | that many who come after that user: `{"presences": {…}, "next": …, "keys": …, "metas": …}`; `next` is the `after` of the next page, null on the last |
//! | `presence:count` | `{}` | `{"keys": …, "metas": …}`: users, and presences |
//! | `access_token` | `{"access_token": …}`, a new token of the same user | `{"expires_at": …}` |
//! | `status` | `{"status": "away"}`, short for a patch of that field | `{"phx_ref": …}` |
//! | `echo` | anything | the payload |
//! | `phx_…`, `presence_…`, `herenow:…`, other `presence:…` | anything | an error: reserved |
//! | any other | an object, or binary | `{}`, after it was broadcast, sender included |
//!
//! A join with `{"presence": {"modes": true}}` is told `presence:mode`, and where very many are
//! present gets `presence:count` instead of the list; with `big_room = "summary"` every join is.
//!
//! Errors are `{"reason": …}` and name the value and the limit.

#[cfg(test)]
mod big_room_tests;
mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use herenow_channels::{
    Broadcast, BroadcastError, Channel, Flow, Info, Joined, Json, Outcome, Params, Reason, Refused,
    Socket,
};
use herenow_presence::{Entry, MetaRef, NameError, Page, Presence, TrackError, UpdateError};
use herenow_protocol::{Payload, event};
use herenow_pubsub::MAX_EVENT_BYTES;
use serde::Serialize;
use serde_json::json;
use smol_str::SmolStr;

pub(crate) use self::request::is_reserved;
use self::request::{JoinFields, Meta, Refusal, Request};
use crate::clock::unix_seconds;
use crate::config::{TopicConfig, WhenBig};
use crate::identity::{self, Credential, EVICT, Identity, IdentityChanged, OtherUser, Right};
use crate::limits::{Limits, Named};

/// Why a channel is closed whose client's new token gives other rights than the old one did; the
/// client joins again with those.
const CHANGED: &str = "token_changed";

/// What all channels of one pattern share.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) topic: TopicConfig,
    pub(crate) presence: Presence,
    /// Counts what is refused.
    pub(crate) limits: Limits,
}

/// One join of a topic that the configuration names.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    rules: Arc<Rules>,
    /// Who joined; `None` observes.
    user: Option<SmolStr>,
    seat: Seat,
}

/// What a join was let in for, for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    is_by_token: bool,
    may_observe: bool,
    may_be_present: bool,
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
    #[error("{error} ({limit})")]
    OverTrack { error: TrackError, limit: Named },
    #[error("{error} ({limit})")]
    OverUpdate { error: UpdateError, limit: Named },
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    OtherUser(#[from] OtherUser),
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
            error => match Named::of_track(&error) {
                Some(limit) => Self::OverTrack { error, limit },
                None => Self::Track(error),
            },
        }
    }
}

impl From<UpdateError> for Problem {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::NotTracked { .. } => Self::NotTracked,
            UpdateError::Refused { reason } => Self::Refused(reason),
            error => match Named::of_update(&error) {
                Some(limit) => Self::OverUpdate { error, limit },
                None => Self::Update(error),
            },
        }
    }
}

impl Problem {
    /// The limit that something is over, if that is why it was not done.
    fn limit(&self) -> Option<Named> {
        match self {
            Self::Refusal(
                Refusal::TooLong { limit, .. } | Refusal::LongPage { over: limit, .. },
            )
            | Self::OverTrack { limit, .. }
            | Self::OverUpdate { limit, .. } => Some(*limit),
            Self::UserTooLong { .. } => Some(Named::Key),
            Self::TooManyMetas { .. } => Some(Named::MetasPerKey),
            _ => None,
        }
    }
}

impl BuiltIn {
    pub(crate) fn new(rules: &Arc<Rules>) -> Self {
        Self {
            rules: Arc::clone(rules),
            user: None,
            seat: Seat::of(&Identity::nobody()),
        }
    }

    /// Lets the client in for what its identity allows.
    async fn enter(
        &mut self,
        socket: &Socket,
        identity: &Identity,
        params: &Params,
    ) -> Result<Joined, Refused> {
        self.seat = Seat::of(identity);
        if !self.seat.may_observe {
            socket.deafen();
        }
        if !self.rules.topic.presence {
            return Ok(Joined::empty());
        }
        let fields = JoinFields::read(params.payload())?;
        self.user = identity.user(fields.user()?.as_deref())?;
        let follows_modes = fields.follows_modes() || self.rules.topic.big_room == WhenBig::Summary;
        if self.user.is_some() && self.seat.may_be_present {
            let tracked = match fields.meta(self.rules.topic.max_meta_bytes) {
                Ok(meta) => self.track(socket, meta).await.map(drop),
                Err(refusal) => Err(refusal.into()),
            };
            tracked.map_err(|problem| self.counted(problem))?;
        }
        if self.seat.may_observe {
            if follows_modes {
                socket.follow_modes(|| self.rules.presence.mode(socket.topic()));
            }
            let state = self.rules.presence.list(socket.topic()).await;
            socket.push(event::PRESENCE_STATE, state)?;
        }
        Ok(Joined::empty())
    }

    async fn handle(
        &self,
        socket: &Socket,
        event: &str,
        payload: Payload,
    ) -> Result<Outcome, Problem> {
        match request::read(event, &payload, self.rules.topic.max_meta_bytes)? {
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
            Request::List => {
                self.check_read(socket, Right::List)?;
                Ok(Outcome::ok(self.rules.presence.list(socket.topic()).await))
            }
            Request::Page { after, max } => {
                self.check_read(socket, Right::List)?;
                let page = self
                    .rules
                    .presence
                    .page(socket.topic(), after.as_deref(), max);
                Ok(Outcome::ok(Json(PageReply::of(&page.await))))
            }
            Request::Count => {
                self.check_read(socket, Right::Count)?;
                let (presence, topic) = (&self.rules.presence, socket.topic());
                let (n_keys, n_metas) = (presence.count_keys(topic), presence.count(topic));
                Ok(Outcome::ok(json!({ "keys": n_keys, "metas": n_metas })))
            }
            Request::AccessToken => renew(socket, &payload).await,
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
            let checked = self.check_meta(meta);
            checked.map_err(|refusal| self.counted(refusal.into()).to_string())
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
        must_have(socket, Right::Broadcast)?;
        let (len, max) = (payload.bytes().len(), topic.max_payload_bytes);
        request::within("the payload", len, max, Named::TopicPayload)?;
        request::within(
            "the event's name",
            event.len(),
            MAX_EVENT_BYTES,
            Named::Event,
        )?;
        Ok(socket.broadcast(event, payload)?)
    }

    /// Counts what was refused for being over a limit.
    fn counted(&self, problem: Problem) -> Problem {
        if let Some(limit) = problem.limit() {
            self.rules.limits.count(limit);
        }
        problem
    }

    /// Who is present here, if anyone can be.
    fn user(&self) -> Result<&str, Refusal> {
        if !self.rules.topic.presence {
            return Err(Refusal::PresenceOff);
        }
        if !self.seat.may_be_present {
            let right = Right::Present;
            return Err(Refusal::NotAllowed { right });
        }
        self.user.as_deref().ok_or(match self.seat.is_by_token {
            true => Refusal::Nobody,
            false => Refusal::Observes,
        })
    }

    /// Ends the presence of whoever may be present no more: grace is for those who may come back.
    async fn end_presence_of(&self, identity: &Identity, socket: &Socket) {
        let may_return = identity.may_join(socket.topic()) && identity.may_be_present();
        if let (false, Ok(user)) = (may_return, self.user()) {
            self.rules.presence.untrack(socket, user).await;
        }
    }

    /// Checks whether the client may ask about who is here.
    fn check_read(&self, socket: &Socket, right: Right) -> Result<(), Refusal> {
        if !self.rules.topic.presence {
            return Err(Refusal::PresenceOff);
        }
        must_have(socket, right)
    }

    /// Checks the topic's own limit; presence has one as well.
    fn check_meta(&self, meta: &Meta) -> Result<(), Refusal> {
        let (len, max) = (request::own_bytes(meta), self.rules.topic.max_meta_bytes);
        request::within("the meta", len, max, Named::TopicMeta)
    }
}

impl Channel for BuiltIn {
    const INTERCEPT: &'static [&'static str] = &[EVICT];

    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        let identity = identity_of(socket);
        match identity.may_join(socket.topic()) {
            true => self.enter(socket, &identity, &params).await,
            false => Err(Refused::reason("unmatched topic")),
        }
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        let handled = self.handle(socket, event, payload).await;
        handled.unwrap_or_else(|problem| {
            let reason = self.counted(problem).to_string();
            Outcome::error(json!({ "reason": reason }))
        })
    }

    async fn handle_out(&mut self, socket: &mut Socket, broadcast: Broadcast) -> Flow {
        let evicted = identity::evicted_key(&broadcast.payload);
        let is_this = |key: &String| {
            self.user.as_deref() == Some(key) || identity_of(socket).key() == Some(key)
        };
        match evicted.filter(is_this) {
            Some(_) => Flow::Stop(Reason::Evicted),
            None => Flow::Continue,
        }
    }

    async fn handle_info(&mut self, socket: &mut Socket, info: Info) -> Flow {
        if info.downcast::<IdentityChanged>().is_ok() {
            let identity = identity_of(socket);
            let is_same = Seat::of(&identity) == self.seat && identity.may_join(socket.topic());
            if !is_same {
                self.end_presence_of(&identity, socket).await;
                return Flow::Stop(Reason::Unauthorized(CHANGED.into()));
            }
        }
        Flow::Continue
    }
}

impl Seat {
    fn of(identity: &Identity) -> Self {
        Self {
            is_by_token: identity.is_by_token(),
            may_observe: identity.may_observe(),
            may_be_present: identity.may_be_present(),
        }
    }
}

/// A page of who is here, as the reply has it.
#[derive(Serialize)]
struct PageReply<'a> {
    presences: BTreeMap<&'a str, &'a Entry>,
    /// The cursor of the next page.
    next: Option<&'a str>,
    keys: usize,
    metas: usize,
}

impl<'a> PageReply<'a> {
    fn of(page: &'a Page) -> Self {
        let entries = page.entries.iter();
        let last = page.entries.last().filter(|_| page.has_more);
        Self {
            presences: entries.map(|entry| (entry.key().as_str(), entry)).collect(),
            next: last.map(|entry| entry.key().as_str()),
            keys: page.n_keys,
            metas: page.n_metas,
        }
    }
}

/// Who is on the other end now.
fn identity_of(socket: &Socket) -> Identity {
    Credential::of(socket.assigns())
        .map_or_else(Identity::nobody, |credential| credential.identity())
}

fn must_have(socket: &Socket, right: Right) -> Result<(), Refusal> {
    match identity_of(socket).may(right) {
        true => Ok(()),
        false => Err(Refusal::NotAllowed { right }),
    }
}

/// Takes a new token for the connection.
async fn renew(socket: &Socket, payload: &Payload) -> Result<Outcome, Problem> {
    let token = identity::token_in(payload).ok_or(Refusal::NoToken)?;
    let credential = Credential::of(socket.assigns()).ok_or(Refusal::NoToken)?;
    let (status, response) = identity::answer(&credential.renew(&token).await);
    Ok(Outcome::reply(status, response))
}

fn written(meta_ref: MetaRef) -> Outcome {
    Outcome::ok(json!({ "phx_ref": meta_ref.as_str() }))
}
