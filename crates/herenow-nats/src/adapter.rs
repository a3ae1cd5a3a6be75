//! [`NatsAdapter`]: the two tasks between the mailroom and the client.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, PublishErrorKind, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::select;
use herenow_pubsub::broker::{BrokerStats, ConnectError, Disconnected, Mailroom, Outgoing};
use herenow_pubsub::{Adapter, AdapterError, Closing, Receiver};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::{Checked, NatsConfig};
use crate::connection;

/// Messages handed to the client between two looks at its connection.
const BATCH_MESSAGES: usize = 64;
const BATCH_BYTES: usize = 1024 * 1024;
/// How often to look whether the connection is back, while messages wait for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A node's connection to a NATS server.
///
/// It connects again by itself for as long as it lives. Dropping it ends it without waiting for
/// what is queued; [`close`](Adapter::close) waits.
pub struct NatsAdapter {
    checked: Arc<Checked>,
    mailroom: Arc<Mailroom>,
    client: Client,
    /// Of the adapter's tasks, from `start` to `close`; dropping it ends them.
    tasks: Mutex<JoinSet<()>>,
    /// Held by the one call of `close` that waits for the tasks; the others wait for it.
    closing: tokio::sync::Mutex<()>,
}

impl NatsAdapter {
    /// Connects to the server, or begins to: one that is not there is no error but tried again, and
    /// what is sent meanwhile waits in the queue.
    ///
    /// Takes one attempt, [`NatsConfig::connect_timeout`] per server at most. Must be called inside
    /// a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the settings are wrong, or the server is there and refuses us.
    pub async fn connect(config: NatsConfig) -> Result<Arc<Self>, ConnectError> {
        let checked = Arc::new(Checked::new(config)?);
        let mailroom = Arc::new(Mailroom::new(
            &checked.config.node,
            checked.broker.clone(),
            checked.config.queue_messages,
            checked.config.queue_bytes,
        ));
        let client = connection::connect(&checked, &mailroom).await?;
        Ok(Arc::new(Self {
            checked,
            mailroom,
            client,
            tasks: Mutex::default(),
            closing: tokio::sync::Mutex::default(),
        }))
    }

    /// Returns how the adapter fares.
    pub fn stats(&self) -> BrokerStats {
        let mut stats = self.mailroom.stats();
        // The client's own words: events of it may be lost when there are very many.
        stats.is_connected = self.client.connection_state() == State::Connected;
        let n_connects = self.client.statistics().connects.load(Ordering::Relaxed);
        stats.n_reconnects = n_connects.saturating_sub(1);
        stats
    }

    /// Returns for how long there is no connection to the server, and why; `None` while there is one.
    pub fn disconnected(&self) -> Option<Disconnected> {
        // As in `stats`.
        let is_connected = self.client.connection_state() == State::Connected;
        (!is_connected).then(|| self.mailroom.disconnected().unwrap_or_default())
    }

    fn post(&self, to: Option<&str>, subject: &str, bytes: &[u8]) -> Result<(), AdapterError> {
        let max_frame_bytes = self.client.max_payload();
        self.mailroom.post(to, subject, bytes, max_frame_bytes)
    }

    /// Waits for the sender to have handed over everything, then ends all tasks.
    async fn finish(&self, mut tasks: JoinSet<()>) {
        // The sender is the only task that ends by itself.
        let ended = timeout(self.checked.config.close_timeout, tasks.join_next()).await;
        if let Ok(Some(Err(error))) = ended {
            tracing::error!(node = self.mailroom.node(), %error, "the adapter's task failed");
        }
        tasks.shutdown().await;
        self.mailroom.end();
        // Closes the connection; an error means that it is closed.
        let _ = timeout(self.checked.config.close_timeout, self.client.drain()).await;
    }
}

impl Adapter for NatsAdapter {
    fn node_name(&self) -> &str {
        &self.checked.config.node
    }

    fn start(&self, receiver: Arc<dyn Receiver>) {
        if !self.mailroom.open(receiver) {
            tracing::error!(node = self.mailroom.node(), "the adapter was started twice");
            return;
        }
        let (subscribed, is_subscribed) = oneshot::channel();
        let listener = Listener {
            own: self.checked.subject_of_node(self.node_name()),
            all: self.checked.subject_of_all(),
            mailroom: self.mailroom.clone(),
            client: self.client.clone(),
        };
        let sender = Sender {
            checked: self.checked.clone(),
            mailroom: self.mailroom.clone(),
            client: self.client.clone(),
        };
        let mut tasks = self.tasks.lock();
        tasks.spawn(listener.run(subscribed));
        tasks.spawn(async move {
            // An error means that there is no subscription, which is logged.
            let _ = is_subscribed.await;
            sender.run().await;
        });
    }

    fn broadcast(&self, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        self.post(None, subject, &bytes)
    }

    fn send(&self, node: &str, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        self.post(Some(node), subject, &bytes)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(async {
            let _one_at_a_time = self.closing.lock().await;
            self.mailroom.outbox().close();
            let tasks = std::mem::take(&mut *self.tasks.lock());
            self.finish(tasks).await;
        })
    }
}

impl fmt::Debug for NatsAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsAdapter")
            .field("node", &self.checked.config.node)
            .field("cluster", &self.checked.config.cluster)
            .field("broker", &self.checked.broker)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The task that hands what comes to the receiver.
struct Listener {
    own: String,
    all: String,
    mailroom: Arc<Mailroom>,
    client: Client,
}

impl Listener {
    /// Runs until it is dropped: only the sender's end is an end.
    ///
    /// It listens to what is for this node alone before it listens to what is for all, and
    /// `subscribed` comes after both: a node that hears others, or that others hear, can be
    /// answered.
    async fn run(self, subscribed: oneshot::Sender<()>) {
        match self.subscribe().await {
            Ok((own, all)) => {
                // An error means that the sender is gone, and this task will be.
                let _ = subscribed.send(());
                let mut messages = select(own, all);
                while let Some(message) = messages.next().await {
                    self.mailroom.take_in(&message.payload);
                }
            }
            Err(error) => {
                tracing::error!(node = self.mailroom.node(), %error, "cannot subscribe");
                drop(subscribed);
            }
        }
        std::future::pending().await
    }

    async fn subscribe(&self) -> Result<(Subscriber, Subscriber), SubscribeError> {
        let own = self.client.subscribe(self.own.clone()).await?;
        let all = self.client.subscribe(self.all.clone()).await?;
        Ok((own, all))
    }
}

/// The task that hands the queue to the client.
struct Sender {
    checked: Arc<Checked>,
    mailroom: Arc<Mailroom>,
    client: Client,
}

impl Sender {
    /// Runs until the queue is closed and all of it has reached the server.
    async fn run(self) {
        while self.mailroom.outbox().ready().await {
            if self.client.connection_state() != State::Connected {
                sleep(LOOK_INTERVAL).await;
                continue;
            }
            for outgoing in self.mailroom.outbox().take(BATCH_MESSAGES, BATCH_BYTES) {
                self.publish(outgoing).await;
            }
        }
        self.settle().await;
    }

    async fn publish(&self, outgoing: Outgoing) {
        let subject = match &outgoing.to {
            Some(node) => self.checked.subject_of_node(node),
            None => self.checked.subject_of_all(),
        };
        let frame_bytes = outgoing.frame.len();
        let Err(error) = self.client.publish(subject, outgoing.frame).await else {
            self.mailroom.note_sent(1);
            return;
        };
        self.mailroom.note_lost(1);
        if error.kind() == PublishErrorKind::MaxPayloadExceeded {
            // Accepted before the server announced a lower limit.
            let max = self.client.max_payload();
            tracing::warn!(
                node = self.mailroom.node(),
                frame_bytes,
                max,
                "message dropped"
            );
        } else {
            tracing::error!(node = self.mailroom.node(), %error, "message dropped");
        }
    }

    /// Waits until the server has taken all that was written.
    ///
    /// The client's own flush ends when the bytes are with the system, which drops them if the
    /// connection is then closed over unread data. So this asks the server for an answer, which
    /// comes after everything before it: that nobody listens there, or, at worst, nothing.
    async fn settle(&self) {
        let subject = format!("{}.settle", self.checked.prefix);
        let answer = self.client.request(subject, Bytes::new()).await;
        tracing::debug!(node = self.mailroom.node(), ?answer, "all is sent");
    }
}
