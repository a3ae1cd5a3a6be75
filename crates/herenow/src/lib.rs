//! *Who is here, right now.* Presence, channels and pubsub with the semantics that Phoenix users
//! know.
//!
//! A **presence** says that somebody is on a topic: user `ada` in `room:1`, from her laptop. It
//! begins when something begins (a channel joined, a task started) and ends by itself when that
//! ends, also by a crash or a lost connection; nobody has to clean up. Everyone else on the topic
//! is told at once. This page teaches it in the order in which you meet it.
//!
//! # Someone is here
//!
//! [`PubSub`] carries messages between the tasks of a node, and [`Presence`] keeps who is where.
//! Tracking returns a guard, and dropping it is the leave:
//!
//! ```
//! use herenow::{Presence, PubSub};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pubsub = PubSub::local();
//! let presence = Presence::new(&pubsub);
//!
//! let ada = presence.track_on("room:1", "ada", json!({ "device": "laptop" })).await?;
//! assert_eq!(presence.count("room:1"), 1);
//!
//! drop(ada);
//! presence.flush().await; // Only to look at once: a leave is seen as soon as it is handled.
//! assert_eq!(presence.count("room:1"), 0);
//! # Ok(())
//! # }
//! ```
//!
//! The **topic** (`room:1`) is any text. The **key** (`ada`) is what presences are grouped by,
//! mostly a user's id. The **meta** is a JSON object about this one presence, small, and public to
//! everyone on the topic.
//!
//! # One person, many metas
//!
//! Ada has a laptop and a phone. Both are presences under the same key, so a list has one entry for
//! her, with two metas in the order in which they came, and she has left when the last one has:
//!
//! ```
//! # use herenow::{Presence, PubSub};
//! # use serde_json::json;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let presence = Presence::new(&PubSub::local());
//! let laptop = presence.track_on("room:1", "ada", json!({ "device": "laptop" })).await?;
//! let phone = presence.track_on("room:1", "ada", json!({ "device": "phone" })).await?;
//!
//! let here = presence.list("room:1").await;
//! println!("{}", json!(here)); // {"ada":{"metas":[{"device":"laptop","phx_ref":"…"},{…}]}}
//! assert_eq!(json!(here)["ada"]["metas"][1]["device"], "phone");
//!
//! laptop.update(json!({ "device": "laptop", "status": "away" })).await?;
//! let ada = presence.get_by_key("room:1", "ada").await.expect("she is here twice");
//! assert_eq!(json!(ada)["metas"].as_array().map(Vec::len), Some(2));
//! # drop(phone);
//! # Ok(())
//! # }
//! ```
//!
//! `phx_ref` names one writing of a meta. An update is a leave of the old ref and a join of the new
//! one, which carries the old as `phx_ref_prev`, in one diff: clients see a change, not a
//! departure.
//!
//! Reads never wait: [`Presence::count`] is immediate, and [`Presence::list`] only waits for fields
//! that come from elsewhere (see [below](#names-from-the-database)).
//!
//! # Watching
//!
//! [`Presence::watch`] starts with who is here and goes on with what happens: joined, updated,
//! left, and why. It never ends, and it is a stream too:
//!
//! ```
//! use herenow::{Event, LeaveReason, WatchEvent};
//! # use herenow::{Presence, PubSub};
//! # use serde_json::json;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let presence = Presence::new(&PubSub::local());
//! let mut room = presence.watch("room:1");
//! let WatchEvent::State(here) = room.next().await else { unreachable!("it comes first") };
//! assert!(here.is_empty());
//!
//! drop(presence.track_on("room:1", "ada", json!({})).await?);
//! for _ in 0..2 {
//!     match room.next().await {
//!         WatchEvent::Changed(Event::Joined { meta, first, .. }) => {
//!             assert_eq!((meta.key().as_str(), first), ("ada", true));
//!         }
//!         WatchEvent::Changed(Event::Left { last, reason, .. }) => {
//!             assert_eq!((last, reason), (true, LeaveReason::Left));
//!         }
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Browsers
//!
//! A browser is on a topic through a **channel**: server code for one topic on one connection.
//! Implement [`Channel`], say which topics it is for with [`Sockets::channel`], and mount the
//! sockets into an axum application:
//!
//! ```no_run
//! use herenow::{Channel, Joined, Params, Presence, PubSub, Refused, Socket, Sockets};
//! use serde_json::json;
//!
//! struct Room {
//!     presence: Presence,
//! }
//!
//! impl Channel for Room {
//!     async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
//!         let user: String = params.required("user_id")?;
//!         self.presence.track(socket, &user, json!({ "device": "browser" })).await?;
//!         socket.push("presence_state", self.presence.list(socket.topic()).await)?;
//!         Ok(Joined::empty())
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pubsub = PubSub::local();
//! let presence = Presence::new(&pubsub);
//! let sockets = Sockets::new(&pubsub)
//!     .channel("room:*", move || Room { presence: presence.clone() });
//! let app = axum::Router::new().nest("/socket", sockets.into_router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await?;
//! herenow::serve(listener, app, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The client is the stock `phoenix` package from npm, or any of its ports. It gets the reply to
//! its join, then `presence_state`, then a `presence_diff` for every change, over WebSocket or long
//! poll:
//!
//! ```js
//! import { Presence, Socket } from "phoenix"
//!
//! const socket = new Socket("ws://127.0.0.1:4000/socket")
//! socket.connect()
//! const room = socket.channel("room:1", { user_id: "ada" })
//! const presence = new Presence(room)
//! presence.onSync(() => console.log(presence.list()))
//! room.join()
//! ```
//!
//! A presence tracked with the channel's [`Socket`] leaves when the channel does: the tab is
//! closed, the network is gone, the callback panicked.
//!
//! # Messages
//!
//! [`Channel::handle_in`] gets what the client pushes, and its [`Outcome`] is the reply.
//! [`Socket::push`] reaches this client only, [`Socket::broadcast`] everyone on the topic, and
//! [`PubSub::broadcast`] does the same from anywhere in the program:
//!
//! ```
//! use herenow::{Channel, Joined, Outcome, Params, Payload, Refused, Socket};
//! use serde_json::json;
//!
//! struct Chat;
//!
//! impl Channel for Chat {
//!     async fn join(&mut self, _socket: &mut Socket, _params: Params) -> Result<Joined, Refused> {
//!         Ok(Joined::reply(json!({ "motto": "be kind" })))
//!     }
//!
//!     async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
//!         match event {
//!             "shout" => match socket.broadcast("shout", payload) {
//!                 Ok(()) => Outcome::ok(()),
//!                 Err(error) => Outcome::error(json!({ "reason": error.to_string() })),
//!             },
//!             _ => Outcome::error(json!({ "reason": "unknown event" })),
//!         }
//!     }
//! }
//! ```
//!
//! # Names from the database
//!
//! A meta holds what belongs to one presence. What belongs to the person (a name, a picture) comes
//! from where it is kept, by [`Fetch`]: one look-up for all keys of a diff or list, however many
//! people join at once. Its fields stand beside `metas` in what clients get:
//!
//! ```
//! use std::collections::HashMap;
//!
//! use herenow::{Fetch, FetchError, Key, Presence, PubSub, Topic};
//! use serde_json::json;
//!
//! struct Users;
//!
//! impl Fetch for Users {
//!     type Fields = serde_json::Value;
//!
//!     async fn fetch(
//!         &self,
//!         _topic: &Topic,
//!         keys: &[Key],
//!     ) -> Result<HashMap<Key, Self::Fields>, FetchError> {
//!         // One query for all keys: select … where id = any(keys).
//!         Ok(keys.iter().map(|key| (key.clone(), json!({ "name": key.as_str().to_uppercase() }))).collect())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let presence = Presence::builder(&PubSub::local()).fetch(Users).start()?;
//! let _ada = presence.track_on("room:1", "ada", json!({})).await?;
//! assert_eq!(json!(presence.list("room:1").await)["ada"]["name"], "ADA");
//! # Ok(())
//! # }
//! ```
//!
//! A look-up that fails or is late holds nothing up: the presences go out with the fields that were
//! known last, or with none.
//!
//! # From here
//!
//! - [`Sockets::connect`] decides who may connect at all, [`Channel::join`] who may join what.
//! - [`Presence::update_with`], [`Presence::untrack`], [`HandleMetas`]: the rest of presence.
//! - [`SocketConfig`], [`PresenceConfig`]: every limit, with its default and what happens at it.
//! - The crate `herenow-server` is the same as a program, for applications in any language.
//!
//! # Features
//!
//! - `channels` (default): [`Channel`], [`Sockets`] and [`serve`], on axum.
//! - `client`: a Rust client for this server, or for Phoenix: the `client` module.
//! - `testing`: an in-process client for tests of channels: the `testing` module.

/// What carries broadcasts between nodes, for those who write such a thing.
pub mod adapter {
    pub use herenow_pubsub::{
        Adapter, AdapterError, Closing, MemoryAdapter, MemoryCluster, Receiver,
    };
}

#[cfg(feature = "testing")]
pub use herenow_channels::testing;
#[cfg(feature = "channels")]
pub use herenow_channels::{
    Assigns, BroadcastError as SocketBroadcastError, Channel, CheckOrigin, CloseCode,
    ConfigError as SocketConfigError, ConnectInfo, ConnectRefused, Connected, Counter, DrainConfig,
    DrainReport, Flow, Handle, Info, InfoError, IntoPayload, JoinRefCheck, Joined, Json, Listener,
    LongPollConfig, LongPollError, Metrics as SocketMetrics, Origin, OriginError, Outcome, Params,
    PatternError, PushError, Reason, RefError, Refused, RequestUri, ServeConfig, ServeError,
    Socket, SocketConfig, SocketRef, Sockets, SocketsError, Transport, serve, serve_through,
    serve_with,
};
#[cfg(feature = "client")]
pub use herenow_client as client;
pub use herenow_presence::{
    ConfigError as PresenceConfigError, Entry, Event, Fetch, FetchError, HandleMetas, Here, Holder,
    Key, LeaveReason, MetaError, MetaRef, NameError, Owner, OwnerAt, Presence, PresenceBuilder,
    PresenceConfig, PresenceDiff, PresenceMeta, PresenceStats, Presences, Topic, TrackError,
    UpdateError, Watch, WatchEvent, Window,
};
pub use herenow_protocol::{Payload, Serializer};
pub use herenow_pubsub::{
    Broadcast, BroadcastError, Lagged, Payload as BroadcastPayload, PubSub, PubSubStats,
    Subscription,
};

/// The README's example, compiled.
#[cfg(all(doctest, feature = "channels"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
