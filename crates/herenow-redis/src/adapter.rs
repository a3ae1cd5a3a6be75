//! [`RedisAdapter`]: the task between the mailroom and the connection.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use herenow_pubsub::broker::{BrokerStats, ConnectError, Disconnected, Mailroom, Trouble};
use herenow_pubsub::{Adapter, AdapterError, Closing, Receiver};
use parking_lot::Mutex;
use redis::RedisError;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use crate::config::{Checked, RedisConfig};
use crate::connection::{self, Connection};

/// Messages handed to the server before its answer is awaited.
const BATCH_MESSAGES: usize = 64;
const BATCH_BYTES: usize = 1024 * 1024;

/// A node's connection to a Redis server.
///
/// It connects again by itself for as long as it lives. Dropping it ends it without waiting for
/// what is queued; [`close`](Adapter::close) waits.
pub struct RedisAdapter {
    checked: Arc<Checked>,
    mailroom: Arc<Mailroom>,
    /// The first connection, from `connect` to `start`.
    first: Mutex<Option<Connection>>,
    /// Of the adapter's task, from `start` to `close`; dropping it ends it.
    tasks: Mutex<JoinSet<()>>,
    /// Held by the one call of `close` that waits for the task; the others wait for it.
    closing: tokio::sync::Mutex<()>,
}

impl RedisAdapter {
    /// Connects to the server, or tries to: one that is not there is no error but tried again, and
    /// what is sent meanwhile waits in the queue.
    ///
    /// Takes one attempt, [`RedisConfig::connect_timeout`] at most. Must be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the settings are wrong, or the server is there and refuses us.
    pub async fn connect(config: RedisConfig) -> Result<Arc<Self>, ConnectError> {
        let checked = Arc::new(Checked::new(config)?);
        let mailroom = Arc::new(Mailroom::new(
            &checked.config.node,
            checked.broker.clone(),
            checked.config.queue_messages,
            checked.config.queue_bytes,
        ));
        let first = match Connection::open(&checked, &mailroom).await {
            Ok(connection) => Some(connection),
            Err(error) => {
                if let Some(error) = connection::hopeless(&checked, &error) {
                    return Err(error);
                }
                mailroom.note_trouble(&connection::trouble(&error));
                None
            }
        };
        Ok(Arc::new(Self {
            checked,
            mailroom,
            first: Mutex::new(first),
            tasks: Mutex::default(),
            closing: tokio::sync::Mutex::default(),
        }))
    }

    /// Returns how the adapter fares.
    pub fn stats(&self) -> BrokerStats {
        self.mailroom.stats()
    }

    /// Returns for how long there is no connection to the server, and why; `None` while there is one.
    pub fn disconnected(&self) -> Option<Disconnected> {
        self.mailroom.disconnected()
    }

    fn post(&self, to: Option<&str>, subject: &str, bytes: &[u8]) -> Result<(), AdapterError> {
        let max_frame_bytes = self.checked.config.max_message_bytes.get();
        self.mailroom.post(to, subject, bytes, max_frame_bytes)
    }
}

impl Adapter for RedisAdapter {
    fn node_name(&self) -> &str {
        &self.checked.config.node
    }

    fn start(&self, receiver: Arc<dyn Receiver>) {
        if !self.mailroom.open(receiver) {
            tracing::error!(node = self.mailroom.node(), "the adapter was started twice");
            return;
        }
        let driver = Driver {
            checked: self.checked.clone(),
            mailroom: self.mailroom.clone(),
            n_failed: 0,
        };
        let first = self.first.lock().take();
        self.tasks.lock().spawn(driver.run(first));
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
            let mut tasks = std::mem::take(&mut *self.tasks.lock());
            let ended = timeout(self.checked.config.close_timeout, tasks.join_next()).await;
            if let Ok(Some(Err(error))) = ended {
                tracing::error!(node = self.mailroom.node(), %error, "the adapter's task failed");
            }
            tasks.shutdown().await;
            self.first.lock().take();
            self.mailroom.end();
        })
    }
}

impl fmt::Debug for RedisAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisAdapter")
            .field("node", &self.checked.config.node)
            .field("cluster", &self.checked.config.cluster)
            .field("broker", &self.checked.broker)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The task that owns the connection and makes the next one.
struct Driver {
    checked: Arc<Checked>,
    mailroom: Arc<Mailroom>,
    /// Attempts in a row that came to nothing.
    n_failed: usize,
}

impl Driver {
    /// Runs until the queue is closed and all of it has reached the server.
    async fn run(mut self, first: Option<Connection>) {
        let mut next = first;
        loop {
            let ended = match next.take() {
                Some(connection) => self.serve(connection).await,
                None => self.serve_a_new_one().await,
            };
            let Err(trouble) = ended else {
                return;
            };
            self.mailroom.note_trouble(&trouble);
            if self.is_done() {
                return;
            }
            sleep(self.checked.backoff.wait(self.n_failed)).await;
            self.n_failed += 1;
        }
    }

    async fn serve_a_new_one(&mut self) -> Result<(), Trouble> {
        match Connection::open(&self.checked, &self.mailroom).await {
            Ok(connection) => self.serve(connection).await,
            Err(error) => Err(connection::trouble(&error)),
        }
    }

    /// Works one connection, until all is done or it is lost.
    async fn serve(&mut self, mut connection: Connection) -> Result<(), Trouble> {
        let subscribed = connection.subscribe(&self.checked).await;
        subscribed.map_err(|error| connection::trouble(&error))?;
        self.n_failed = 0;
        self.mailroom.note_connected();
        let mut pings = self.pings();
        loop {
            tokio::select! {
                has_more = self.mailroom.outbox().ready() => {
                    if !has_more {
                        return Ok(());
                    }
                    let published = self.publish(&mut connection).await;
                    published.map_err(|error| connection::trouble(&error))?;
                }
                () = connection.lost() => {
                    return Err(Trouble::Unreachable("the connection ended".into()));
                }
                _ = pings.tick() => {
                    let answered = connection.ping().await;
                    answered.map_err(|error| connection::trouble(&error))?;
                }
            }
        }
    }

    /// Publishes what is next in the queue; an error means that the connection is of no more use.
    async fn publish(&self, connection: &mut Connection) -> Result<(), RedisError> {
        let batch = self.mailroom.outbox().take(BATCH_MESSAGES, BATCH_BYTES);
        let Err(error) = connection.publish(&self.checked, &batch).await else {
            self.mailroom.note_sent(batch.len());
            return Ok(());
        };
        // Some of them may have arrived. Sending them again could double a broadcast, and what must
        // not be lost is asked for by those who miss it.
        self.mailroom.note_lost(batch.len());
        if error.is_unrecoverable_error() || error.is_timeout() {
            return Err(error);
        }
        let (node, n_lost) = (self.mailroom.node(), batch.len());
        tracing::warn!(node, broker = self.mailroom.broker(), n_lost, %error, "the broker refuses messages");
        Ok(())
    }

    fn pings(&self) -> Interval {
        let mut pings = interval(self.checked.config.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings
    }

    fn is_done(&self) -> bool {
        let outbox = self.mailroom.outbox();
        outbox.is_closed() && outbox.n_messages() == 0
    }
}
