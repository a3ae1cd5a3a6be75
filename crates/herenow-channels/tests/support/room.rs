//! The room that the reference's integration suites talk to, and a server with it.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "each test takes what it needs, and panics as tests do"
)]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use herenow_channels::{
    Channel, ConnectInfo, Connected, Flow, Joined, LongPollConfig, Outcome, Params, Reason,
    Refused, Socket, Sockets, serve,
};
use herenow_protocol::Payload;
use herenow_pubsub::{Broadcast, PubSub};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Ten times as long as in the reference's suites, and only for tests that need a window's end: a
/// session that is not polled for one and a half of it is over.
pub(crate) const WINDOW: Duration = Duration::from_secs(2);

/// Long polling with that window.
pub(crate) fn short_window() -> LongPollConfig {
    let mut config = LongPollConfig::default();
    config.window = WINDOW;
    config
}

/// What `connect` says about the transport, for `handle_out`.
struct Carrier(&'static str);

/// Announces who enters, adds the transport to messages, and says goodbye.
pub(crate) struct Room;

impl Channel for Room {
    const INTERCEPT: &'static [&'static str] = &["new_msg"];

    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        let user: Option<String> = params.optional("user")?;
        socket.broadcast("user_entered", json!({ "user": user }))?;
        socket.push("joined", json!({ "status": "connected" }))?;
        Ok(Joined::empty())
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        match event {
            "boom" => panic!("as the client asked"),
            "stuck" => std::future::pending().await,
            "new_msg" => {
                socket.broadcast("new_msg", payload).unwrap();
                Outcome::ok(())
            }
            "binary" => {
                let Payload::Binary(bytes) = payload else {
                    return Outcome::error(());
                };
                socket
                    .push("bin_ack", json!({ "n_bytes": bytes.len() }))
                    .unwrap();
                Outcome::noreply()
            }
            "give_binary" => {
                socket.push("bytes", vec![0xff_u8]).unwrap();
                Outcome::noreply()
            }
            "give_text_in_bytes" => {
                socket.push("bytes", vec![b'a']).unwrap();
                Outcome::noreply()
            }
            _ => Outcome::error(json!({ "reason": "unknown event" })),
        }
    }

    async fn handle_out(&mut self, socket: &mut Socket, broadcast: Broadcast) -> Flow {
        let herenow_pubsub::Payload::Json(text) = &broadcast.payload else {
            return Flow::Continue;
        };
        let mut message: Value = serde_json::from_slice(text).unwrap();
        message["transport"] = json!(socket.assigns().get::<Carrier>().unwrap().0);
        socket.push(&broadcast.event, message).unwrap();
        Flow::Continue
    }

    async fn terminate(&mut self, socket: &mut Socket, reason: &Reason) {
        // The connection may be gone already.
        let _ = socket.push("you_left", json!({ "message": "bye!" }));
        let told = json!({ "topic": socket.topic(), "reason": format!("{reason:?}") });
        let payload = herenow_pubsub::Payload::Json(serde_json::to_vec(&told).unwrap().into());
        socket
            .pubsub()
            .broadcast("terminated", "terminated", payload)
            .unwrap();
    }
}

/// Sockets with the room on `room:*`, on both transports.
pub(crate) fn sockets(pubsub: &PubSub) -> Sockets {
    Sockets::new(pubsub)
        .channel("room:*", || Room)
        .long_poll(LongPollConfig::default())
        .connect(async |info: ConnectInfo| {
            let carrier = Carrier(info.transport().as_str());
            Ok(Connected::anonymous().assign(carrier))
        })
}

/// Serves the sockets at `/ws` until the test ends.
pub(crate) async fn start(sockets: Sockets) -> SocketAddr {
    start_app(Router::new().nest("/ws", sockets.into_router())).await
}

/// Serves an application until the test ends.
pub(crate) async fn start_app(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, app, std::future::pending()));
    address
}
