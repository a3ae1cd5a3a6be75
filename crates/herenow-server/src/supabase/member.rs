//! [`Member`]: one client in one room.
//!
//! | event | payload | what it does |
//! | --- | --- | --- |
//! | `presence` | `{"event": "track", "payload": {…}}` | is present from now on, or with another meta |
//! | `presence` | `{"event": "untrack"}` | is present no more |
//! | `broadcast` | `{"event": …, "payload": …}` | to all in the room, as it is |
//! | `access_token` | `{"access_token": …}` | who the client is from now on; never answered |
//! | any other | | nothing |

use std::sync::Arc;

use herenow_channels::{
    Broadcast, Channel, Flow, Info, Joined, Outcome, Params, Reason, Refused, Socket,
};
use herenow_presence::UpdateError;
use herenow_protocol::{Payload, event};
use herenow_pubsub::client_text;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::access::{ended_for, may_enter};
use super::join::{JoinConfig, is_token};
use super::{BROADCAST, Room, Shared};
use crate::identity::{
    self, ACCESS_TOKEN, EVICT, Expiry, Identity, TokenExpired, token_in, user_id,
};
use crate::limits::{Named, Place, Places, TooMany};

/// Why a channel is closed whose new token is another user's; the client joins again with that.
const CHANGED: &str = "token_changed";
const NO_DATABASE: &str = "postgres_changes is not supported by this server";
const REPLICATING: &str = "Replication connection established";
const DISCONNECTED: &str = "Server requested disconnect";

/// One client in one room.
#[derive(Debug)]
pub(super) struct Member {
    shared: Arc<Shared>,
    identity: Identity,
    /// The key of its presence, from the join on.
    key: Box<str>,
    ack: bool,
    to_self: bool,
    /// Whether the client has been told who is here.
    is_presence_on: bool,
    /// The meta with which it is present.
    tracked: Option<Box<RawValue>>,
    /// Its place among what ends with a token.
    expiry: Option<Expiry>,
    /// Its connection's place among those of the token's user, if that is not the connection's own.
    place: Option<Arc<Place>>,
}

/// What a client says of its presence.
#[derive(Debug, Default, Deserialize)]
struct PresenceCall {
    event: Option<Box<RawValue>>,
    payload: Option<Box<RawValue>>,
}

impl Member {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: shared.clone(),
            identity: Identity::nobody(),
            key: Box::default(),
            ack: false,
            to_self: false,
            is_presence_on: false,
            tracked: None,
            expiry: None,
            place: None,
        }
    }

    /// Takes what a join says, if its client may.
    async fn enter(&mut self, socket: &mut Socket, config: &JoinConfig<'_>) -> Result<(), Refused> {
        self.check_changes(config.postgres_changes.len)?;
        let room = room_of(socket);
        if room.name.is_empty() {
            let reason = "TopicNameRequired: You must provide a topic name";
            return Err(Refused::reason(reason));
        }
        if self.shared.config.private_only && !room.is_private {
            let reason = "PrivateOnly: This project only allows private channels";
            return Err(Refused::reason(reason));
        }
        let access = &self.shared.access;
        let identity = access.member(config.token.as_deref(), socket.assigns());
        let identity = identity.await;
        let identity = identity.map_err(|refusal| Refused::reason(refusal.reason()))?;
        if !may_enter(&identity, room) {
            let reason = format!("Unauthorized: {}", no_permission(room.name));
            return Err(Refused::reason(reason));
        }
        if config.wants_replay {
            let why = match room.is_private {
                true => "this server keeps no messages",
                false => "Replay is not allowed for public channels",
            };
            return Err(Refused::reason(format!("UnableToReplayMessages: {why}")));
        }
        self.key = self.presence_key(&identity, config.key.as_deref())?;
        self.become_identity(socket, identity).map_err(|over| {
            let code = "ConnectionRateLimitReached";
            Refused::reason(format!("{code}: {}", over.reason))
        })
    }

    /// Checks how much a client wants to hear of a database: all of it is repeated in the reply.
    fn check_changes(&self, n_changes: usize) -> Result<(), Refused> {
        let max = self.shared.config.max_postgres_changes;
        if n_changes <= max {
            return Ok(());
        }
        let limit = Named::SupabaseChanges;
        self.shared.limits.count(limit);
        Err(Refused::reason(format!(
            "TooManyPostgresChanges: postgres_changes has {n_changes} entries, the limit is {max} \
             ({limit})"
        )))
    }

    /// The key by which the client is present: its token's user, unless clients are trusted.
    fn presence_key(&self, identity: &Identity, said: Option<&str>) -> Result<Box<str>, Refused> {
        let key = match (identity.is_by_token(), said) {
            (false, Some(said)) => said.into(),
            (true, said) if self.shared.config.trust_presence_key => {
                said.map_or_else(random_key, Box::from)
            }
            (_, None) => identity.key().map_or_else(random_key, Box::from),
            (true, Some(said)) if identity.key() == Some(said) => said.into(),
            (true, Some(_)) => {
                let reason = "Unauthorized: presence.key must be the sub of the token, or left \
                              out (supabase.trust_presence_key)";
                return Err(Refused::reason(reason));
            }
        };
        let (len, max) = (key.len(), self.shared.presence.config().max_key_bytes);
        if len > max {
            let limit = Named::Key;
            self.shared.limits.count(limit);
            let reason = format!("presence.key is {len} bytes, the limit is {max} ({limit})");
            return Err(Refused::reason(reason));
        }
        Ok(key)
    }

    /// From now on the client is who a token says, for as long as it lasts.
    ///
    /// # Errors
    ///
    /// [`TooMany`] if the connection would be one too many of that user; nothing has changed then.
    fn become_identity(&mut self, socket: &mut Socket, identity: Identity) -> Result<(), TooMany> {
        let id = identity.key().map(user_id);
        // In dev mode a user is only said to be one, and has no limit.
        let user = id.as_ref().filter(|_| identity.is_by_token());
        if let (Some(user), Some(places)) = (user, socket.assigns().get::<Places>()) {
            self.place = places.of(user)?;
        }
        let authority = &self.shared.access.authority;
        self.expiry = authority.watch(&identity, socket.handle());
        if let Some(id) = id.filter(|id| socket.id() != Some(id)) {
            // The connection is not the user's, so the channel is what ends with the user.
            socket.subscribe(&id);
        }
        self.identity = identity;
        Ok(())
    }

    async fn on_presence(&mut self, socket: &Socket, payload: &Payload) -> Outcome {
        let call: PresenceCall = payload.deserialize().unwrap_or_default();
        let Some(event) = call.event else {
            return Outcome::ok(());
        };
        let event: String = serde_json::from_str(event.get()).unwrap_or_default();
        if event.eq_ignore_ascii_case("track") {
            self.track(socket, call.payload).await
        } else if event.eq_ignore_ascii_case("untrack") {
            if self.tracked.take().is_some() {
                self.shared.presence.untrack(socket, &*self.key).await;
            }
            Outcome::ok(())
        } else {
            refused("the presence event must be track or untrack")
        }
    }

    async fn track(&mut self, socket: &Socket, meta: Option<Box<RawValue>>) -> Outcome {
        if !self.identity.may_be_present() {
            return refused("the token does not give the right present");
        }
        let meta = meta.unwrap_or_else(empty_object);
        if !meta.get().starts_with('{') {
            return refused("Presence track payload must be a map");
        }
        if self.tracked.as_ref().map(|old| old.get()) == Some(meta.get()) {
            return Outcome::ok(());
        }
        // To be tracked is to be interested: the client waits for the list, and holds diffs back.
        if !std::mem::replace(&mut self.is_presence_on, true)
            && let Err(error) = self.push_state(socket).await
        {
            tracing::debug!(%error, "presence state not pushed");
        }
        match self.write(socket, &meta).await {
            Ok(()) => {
                self.tracked = Some(meta);
                Outcome::ok(())
            }
            Err(reason) => refused(&reason),
        }
    }

    /// Makes the client present with this meta, or gives its presence this one.
    async fn write(&self, socket: &Socket, meta: &RawValue) -> Result<(), String> {
        let (presence, key) = (&self.shared.presence, &*self.key);
        if self.tracked.is_some() {
            match presence.update(socket, key, meta).await {
                Ok(_) => return Ok(()),
                Err(UpdateError::NotTracked { .. }) => {}
                Err(error) => {
                    let limit = Named::of_update(&error);
                    return Err(self.explain(error.to_string(), limit));
                }
            }
        }
        let tracked = presence.track(socket, key, meta).await;
        tracked.map(drop).map_err(|error| {
            let limit = Named::of_track(&error);
            self.explain(error.to_string(), limit)
        })
    }

    /// Adds the limit that something is over, and counts it.
    fn explain(&self, text: String, limit: Option<Named>) -> String {
        let Some(limit) = limit else {
            return text;
        };
        self.shared.limits.count(limit);
        format!("{text} ({limit})")
    }

    /// Tells the client who is here, if it may know.
    async fn push_state(&self, socket: &Socket) -> Result<(), herenow_channels::PushError> {
        if !self.identity.may_observe() {
            return Ok(());
        }
        let state = self.shared.presence.list(socket.topic()).await;
        socket.push(event::PRESENCE_STATE, state)
    }

    fn on_broadcast(&self, socket: &Socket, payload: Payload) -> Outcome {
        // Not even an answer, as the reference has it: its clients would join anew for an error.
        if !self.identity.may_broadcast() {
            let topic = client_text(socket.topic());
            tracing::debug!(%topic, "broadcast dropped: its client has not the right");
            return Outcome::noreply();
        }
        let (len, max) = (payload.bytes().len(), self.shared.config.max_payload_bytes);
        let sent = if len > max {
            let limit = Named::SupabasePayload;
            self.shared.limits.count(limit);
            Err(format!(
                "payload_size_exceeded: the broadcast is {len} bytes, the limit is {max} ({limit})"
            ))
        } else if matches!(payload, Payload::Json(_)) && !payload.is_object() {
            Err("broadcast payload must be an object".to_owned())
        } else {
            let sent = match self.to_self {
                true => socket.broadcast(BROADCAST, payload),
                false => socket.broadcast_from(BROADCAST, payload),
            };
            sent.map_err(|error| error.to_string())
        };
        match sent {
            Ok(()) if self.ack => Outcome::ok(()),
            Err(reason) if self.ack => refused(&reason),
            Ok(()) => Outcome::noreply(),
            Err(reason) => {
                let (topic, reason) = (client_text(socket.topic()), client_text(&reason));
                tracing::debug!(%topic, %reason, "broadcast dropped");
                Outcome::noreply()
            }
        }
    }

    /// Takes a new token of the client.
    async fn on_access_token(&mut self, socket: &mut Socket, payload: &Payload) -> Flow {
        let access = &self.shared.access;
        let token = token_in(payload).filter(|token| is_token(token));
        let token = token.filter(|token| !access.is_publishable(token));
        let Some(token) = token.filter(|_| !access.authority.is_dev()) else {
            return Flow::Continue;
        };
        let identity = match access.check(&token).await {
            Ok(identity) => identity,
            Err(refusal) => return self.close(socket, &refusal.text),
        };
        let (old, new) = (self.identity.key(), identity.key());
        if old.is_some() && old != new {
            return Flow::Stop(Reason::Unauthorized(CHANGED.into()));
        }
        let room = room_of(socket);
        let (could_read, can_read) = (self.identity.may_observe(), identity.may_observe());
        if !may_enter(&identity, room) || (could_read && !can_read) {
            return self.close(socket, &no_permission(room.name));
        }
        if can_read && !could_read {
            // A deaf channel stays one: the client hears everything after its next join.
            return Flow::Stop(Reason::Unauthorized(CHANGED.into()));
        }
        let may_be_present = identity.may_be_present();
        if let Err(over) = self.become_identity(socket, identity) {
            return self.close(socket, &over.reason);
        }
        if !may_be_present && self.tracked.take().is_some() {
            self.shared.presence.untrack(socket, &*self.key).await;
        }
        if let Err(reason) = self.take_key(socket).await {
            return self.close(socket, &reason);
        }
        Flow::Continue
    }

    /// Is present by the key of a user who was not known at the join. Newer clients send the token
    /// of a user soon after it, and nobody is to be listed by a random key for that.
    async fn take_key(&mut self, socket: &Socket) -> Result<(), String> {
        let user = self.identity.key().filter(|user| *self.key != **user);
        let Some(user) = user.filter(|_| !self.shared.config.trust_presence_key) else {
            return Ok(());
        };
        let old = std::mem::replace(&mut self.key, user.into());
        if let Some(meta) = self.tracked.take() {
            self.shared.presence.untrack(socket, &*old).await;
            self.write(socket, &meta).await?;
            self.tracked = Some(meta);
        }
        Ok(())
    }

    /// Tells the client why its channel ends, and ends it for good.
    fn close(&self, socket: &Socket, why: &str) -> Flow {
        tell(socket, "system", "error", why);
        Flow::Stop(Reason::Shutdown(None))
    }
}

impl Channel for Member {
    const INTERCEPT: &'static [&'static str] = &[EVICT];

    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        let max_changes = self.shared.config.max_postgres_changes;
        let config = JoinConfig::read(params.payload(), max_changes);
        self.enter(socket, &config).await?;
        (self.ack, self.to_self) = (config.ack, config.to_self);
        if !self.ack {
            socket.expect_no_answers();
        }
        if !self.identity.may_observe() {
            socket.deafen();
        }
        let default = self.shared.config.presence_enabled;
        self.is_presence_on = config.is_presence_on.unwrap_or(default);
        if self.is_presence_on {
            self.push_state(socket).await?;
        }
        if config.postgres_changes.len > 0 {
            tell(socket, "postgres_changes", "error", NO_DATABASE);
        }
        if config.wants_replication {
            tell(socket, "system", "ok", REPLICATING);
        }
        Ok(Joined::reply(
            json!({ "postgres_changes": config.echoed_changes() }),
        ))
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        match event {
            "presence" => self.on_presence(socket, &payload).await,
            BROADCAST => self.on_broadcast(socket, payload),
            ACCESS_TOKEN => match self.on_access_token(socket, &payload).await {
                Flow::Continue => Outcome::noreply(),
                Flow::Stop(reason) => Outcome::stop(reason),
            },
            _ => Outcome::noreply(),
        }
    }

    async fn handle_out(&mut self, _: &mut Socket, broadcast: Broadcast) -> Flow {
        let evicted = identity::evicted_key(&broadcast.payload);
        let is_this = |key: &String| &*self.key == key || self.identity.key() == Some(key.as_str());
        match evicted.filter(is_this) {
            Some(_) => Flow::Stop(Reason::Evicted),
            None => Flow::Continue,
        }
    }

    async fn handle_info(&mut self, socket: &mut Socket, info: Info) -> Flow {
        if let Info::Broadcast(broadcast) = &info {
            // On the topic of the user, and it is still this one.
            let id = self.identity.key().map(user_id);
            let is_end = broadcast.event == event::DISCONNECT;
            if is_end && id.as_deref() == Some(&*broadcast.topic) {
                tell(socket, "system", "ok", DISCONNECTED);
                return Flow::Stop(Reason::Evicted);
            }
        } else if info.downcast::<TokenExpired>().is_ok()
            && let Some(ago_s) = ended_for(&self.identity)
        {
            return self.close(socket, &format!("Token has expired {ago_s} seconds ago"));
        }
        Flow::Continue
    }
}

fn room_of(socket: &Socket) -> Room<'_> {
    Room::of(socket.topic()).expect("the dialect makes rooms of all topics that are routed")
}

fn no_permission(name: &str) -> String {
    format!("You do not have permissions to read from this Channel topic: {name}")
}

fn refused(reason: &str) -> Outcome {
    Outcome::error(json!({ "reason": reason }))
}

/// Sends the client a message about its channel.
fn tell(socket: &Socket, extension: &str, status: &str, message: &str) {
    let channel = room_of(socket).name;
    let system = json!({
        "extension": extension, "status": status, "message": message, "channel": channel,
    });
    if let Err(error) = socket.push("system", system) {
        tracing::debug!(%error, "system message not pushed");
    }
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

/// A key that is nobody's: a random UUID.
fn random_key() -> Box<str> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-").into()
}
