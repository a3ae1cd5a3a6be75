//! The Supabase Realtime dialect at `/realtime/v1`: broadcast and presence for its clients.
//!
//! It is a channel like any other, on `realtime:*`, in which the client decides with messages what
//! server code decides elsewhere: whether to be present, with which meta, and what to broadcast.
//!
//! ```text
//!   client's topic            room                        what travels in it
//!   realtime:x, public   ──→  realtime:x             ┐    broadcast      as JSON, or as bytes (`frame`)
//!   realtime:x, private  ──→  realtime-private:x     ┘    presence_diff  by herenow-presence
//! ```
//!
//! Rooms are topics of the pubsub, so nodes, the HTTP API and evictions see them as such. What the
//! API broadcasts in a room reaches these clients as a broadcast of theirs. The state of a member
//! is its [`Member`]'s: its token's [`Identity`](crate::identity::Identity) above all, which is the
//! channel's own and not the connection's, because these clients send it with each join.
//!
//! It must never: let a token into a private room that does not name it, let a client be present as
//! the user of another token, or close a connection for a frame that it does not know.

mod frame;
mod join;
mod dialect;
mod access;
mod member;
mod rest;

use std::sync::Arc;

use axum::Router;
use herenow_channels::{JoinRefCheck, Sockets};
use herenow_presence::Presence;
use herenow_pubsub::LogLimit;

use self::access::Access;
use self::dialect::Supabase;
use self::member::Member;
pub(crate) use self::rest::Gate;
use self::rest::{Budget, Rest};
use crate::config::{ServerConfig, SupabaseConfig};
use crate::identity::{Authority, PRIVATE_PREFIX};
use crate::limits::Limits;

/// Where the dialect is mounted; clients complete it themselves.
pub(crate) const PATH: &str = "/realtime/v1";
/// What topics of clients begin with, and the rooms of public channels.
const TOPIC_PREFIX: &str = "realtime:";
/// The event of broadcasts, and of nothing else.
const BROADCAST: &str = "broadcast";

/// What all that serves the dialect shares.
#[derive(Debug)]
struct Shared {
    presence: Presence,
    access: Access,
    config: SupabaseConfig,
    /// Counts what is refused.
    limits: Limits,
}

/// A room by its name, as clients call it, and by whether it is private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room<'a> {
    name: &'a str,
    is_private: bool,
}

/// Makes the front for sockets of the dialect's clients.
pub(crate) fn sockets(
    config: &ServerConfig,
    presence: &Presence,
    authority: &Authority,
    limits: &Limits,
) -> Sockets {
    let shared = shared(config, presence, authority, limits);
    let limits = limits.clone();
    let mut socket = config.socket.clone();
    socket.join_ref_check = JoinRefCheck::LeavesUnlessMissing;
    let access = shared.clone();
    Sockets::new(presence.pubsub())
        .config(socket)
        .dialect(&Supabase)
        .drain_config(config.drain.clone())
        .admit(limits.door())
        .connect(move |info| {
            let (shared, limits) = (access.clone(), limits.clone());
            async move {
                let permit = limits.permit(&info);
                let connected = permit.enter(shared.access.connect(&info).await?)?;
                let places = limits.places(connected.id.clone());
                Ok(connected.assign(places))
            }
        })
        .channel("realtime:*", move || Member::new(&shared))
}

/// The routes for broadcasts over HTTP.
pub(crate) fn routes(
    config: &ServerConfig,
    presence: &Presence,
    authority: &Authority,
    gate: Gate,
) -> Router {
    let shared = shared(config, presence, authority, &gate.limits);
    let rest = Rest {
        shared,
        is_local: gate.is_local,
        max_body_bytes: config.api.max_body_bytes,
        body_timeout: config.api.body_timeout,
        budget: Budget::new(config.socket.message_rate, config.limits.max_addresses),
        log: LogLimit::default(),
        max_topic_bytes: config.socket.max_topic_bytes,
    };
    rest::router(rest, gate)
}

fn shared(
    config: &ServerConfig,
    presence: &Presence,
    authority: &Authority,
    limits: &Limits,
) -> Arc<Shared> {
    Arc::new(Shared {
        presence: presence.clone(),
        access: Access::new(authority, &config.supabase),
        config: config.supabase.clone(),
        limits: limits.clone(),
    })
}

impl<'a> Room<'a> {
    /// The room whose topic at the pubsub this is.
    fn of(topic: &'a str) -> Option<Self> {
        let room = |name, is_private| Self { name, is_private };
        let private = topic.strip_prefix(PRIVATE_PREFIX);
        private.map(|name| room(name, true)).or_else(|| {
            let public = topic.strip_prefix(TOPIC_PREFIX)?;
            Some(room(public, false))
        })
    }

    /// How long its topic is as its clients have it, private or not.
    fn client_topic_bytes(self) -> usize {
        TOPIC_PREFIX.len() + self.name.len()
    }

    /// Its topic at the pubsub.
    fn topic(self) -> String {
        let prefix = match self.is_private {
            true => PRIVATE_PREFIX,
            false => TOPIC_PREFIX,
        };
        format!("{prefix}{}", self.name)
    }
}
