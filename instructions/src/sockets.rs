//! Sockets whose channels listen to one topic.

use std::sync::Arc;

use herenow_channels::testing::TestClient;
use herenow_channels::{Channel, Connected, Joined, Params, Refused, Socket, Sockets};
use herenow_presence::PresenceDiff;
use herenow_pubsub::{Payload, PubSub};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::rooms::{TOPIC, runtime};

struct Quiet;

impl Channel for Quiet {
    async fn join(&mut self, _: &mut Socket, _: Params) -> Result<Joined, Refused> {
        Ok(Joined::empty())
    }
}

/// Connections without a network, each with a channel on the topic, and what reaches them all.
pub struct Listeners {
    runtime: Runtime,
    pubsub: PubSub,
    clients: Vec<TestClient>,
}

impl Listeners {
    /// Returns so many of them, joined.
    ///
    /// # Panics
    ///
    /// If one of them may not join.
    pub fn new(n_clients: usize) -> Self {
        let runtime = runtime();
        let pubsub = PubSub::local();
        let sockets = Sockets::new(&pubsub).channel("room:*", || Quiet);
        let clients = runtime.block_on(async {
            let mut clients = Vec::with_capacity(n_clients);
            for _ in 0..n_clients {
                let mut client = TestClient::open(&sockets, Connected::anonymous());
                client.join(TOPIC, json!({})).await.expect("anyone may");
                clients.push(client);
            }
            clients
        });
        Self {
            runtime,
            pubsub,
            clients,
        }
    }

    /// Dispatches to all of them: encodes once, and leaves the frame in every mailbox.
    pub fn dispatch(&self, event: &str, payload: Payload) {
        self.runtime
            .block_on(async { self.pubsub.local_broadcast(TOPIC, event, payload) });
    }

    /// Dispatches a presence diff to all of them.
    pub fn dispatch_diff(&self, diff: Arc<PresenceDiff>) {
        self.dispatch("presence_diff", Payload::Local(diff));
    }

    /// Waits until each of them has got the event.
    pub fn all_got(&mut self, event: &str) {
        let clients = &mut self.clients;
        self.runtime.block_on(async {
            for client in clients {
                client.event(TOPIC, event).await;
            }
        });
    }
}
