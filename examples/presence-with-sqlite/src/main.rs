//! Serves rooms whose presences carry names from SQLite, and fills one so that there is something
//! to see: `cargo run -p presence-with-sqlite`. It listens on 127.0.0.1:4002, or where `LISTEN`
//! says.
//!
//! The log shows each query with its number of keys. To look at the room from another terminal:
//! `cargo run -p herenow-server -- watch ws://127.0.0.1:4002 room:lobby --param user_id=u1`.

use axum::Router;
use herenow::{Presence, PubSub, Sockets};
use presence_with_sqlite::{Room, Users};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let pubsub = PubSub::local();
    let presence = Presence::builder(&pubsub)
        .fetch(Users::in_memory(100).await?)
        .start()?;
    let room = presence.clone();
    let sockets = Sockets::new(&pubsub).channel("room:*", move || Room {
        presence: room.clone(),
    });

    let mut guests = Vec::new();
    for n in 1..=50 {
        guests.push(presence.track_on("room:lobby", format!("u{n}"), json!({ "device": "bot" })));
    }
    let guests = futures_util::future::try_join_all(guests).await?;
    let lobby = presence.list("room:lobby").await;
    let first = lobby.get("u1");
    tracing::info!(n_guests = guests.len(), u1 = %json!(first), "guests are here");

    let app = Router::new().nest("/socket", sockets.into_router());
    let address = std::env::var("LISTEN").unwrap_or("127.0.0.1:4002".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    herenow::serve(listener, app, async { _ = tokio::signal::ctrl_c().await }).await?;
    drop(guests);
    Ok(())
}
