//! A chat room that shows who is here: `cargo run -p chat`, then open http://127.0.0.1:4001 in two
//! tabs.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use herenow::{
    Channel, Joined, Outcome, Params, Payload, Presence, PubSub, Refused, Socket, Sockets,
};
use serde_json::json;

struct Room {
    presence: Presence,
}

impl Channel for Room {
    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        let user: String = params.required("user_id")?;
        self.presence
            .track(socket, &user, json!({ "online_at": unix_seconds() }))
            .await?;
        socket.push("presence_state", self.presence.list(socket.topic()).await)?;
        Ok(Joined::empty())
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        match socket.broadcast(event, payload) {
            Ok(()) => Outcome::ok(()),
            Err(error) => Outcome::error(json!({ "reason": error.to_string() })),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pubsub = PubSub::local();
    let presence = Presence::new(&pubsub);
    let sockets = Sockets::new(&pubsub).channel("room:*", move || Room {
        presence: presence.clone(),
    });
    let app = Router::new()
        .nest("/socket", sockets.into_router())
        .merge(page());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:4001").await?;
    eprintln!("open http://127.0.0.1:4001 in two tabs");
    herenow::serve(listener, app, async { _ = tokio::signal::ctrl_c().await }).await?;
    Ok(())
}

/// The page, and the stock JavaScript client that it uses.
fn page() -> Router {
    const CLIENT: &str =
        include_str!("../../../crates/herenow-server/assets/demo/vendor/phoenix.mjs");
    Router::new()
        .route("/", get(Html(include_str!("page.html"))))
        .route(
            "/phoenix.mjs",
            get(([(CONTENT_TYPE, "text/javascript")], CLIENT)),
        )
}

fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}
