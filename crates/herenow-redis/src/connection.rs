//! One connection to the server, and what can be wrong with making it.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use herenow_pubsub::broker::{ConnectError, Mailroom, Outgoing, Trouble, in_words};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value,
};
use tokio::sync::Notify;

use crate::config::Checked;

/// A connection that both publishes and subscribes. Dropping it closes it.
pub(crate) struct Connection {
    inner: MultiplexedConnection,
    lost: Arc<Notify>,
}

impl Connection {
    /// Makes a connection. What it brings goes to the mailroom, once it has subscribed.
    pub(crate) async fn open(checked: &Checked, mailroom: &Arc<Mailroom>) -> RedisResult<Self> {
        let lost = Arc::new(Notify::new());
        let (of_pushes, of_end) = (mailroom.clone(), lost.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(checked.config.connect_timeout))
            .set_response_timeout(Some(checked.config.response_timeout))
            // Runs inside the connection's task, so that a slow receiver slows the reading down
            // instead of filling a queue that nobody bounds.
            .set_push_sender(move |push: PushInfo| {
                on_push(&of_pushes, &of_end, push);
                Ok::<(), Infallible>(())
            });
        let client = &checked.client;
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self {
            inner: opening.await?,
            lost,
        })
    }

    /// Subscribes to what is for all nodes, and for this one.
    pub(crate) async fn subscribe(&mut self, checked: &Checked) -> RedisResult<()> {
        let own = checked.channel_of_node(&checked.config.node);
        self.inner.subscribe(&[checked.channel_of_all(), own]).await
    }

    /// Publishes messages in order; ends when the server has passed on all of them.
    pub(crate) async fn publish(
        &mut self,
        checked: &Checked,
        batch: &[Outgoing],
    ) -> RedisResult<()> {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for outgoing in batch {
            let channel = match &outgoing.to {
                Some(node) => checked.channel_of_node(node),
                None => checked.channel_of_all(),
            };
            let command = pipeline.cmd("PUBLISH").arg(channel);
            command.arg(&outgoing.frame[..]).ignore();
        }
        pipeline.exec_async(&mut self.inner).await
    }

    /// Asks the server for a sign.
    pub(crate) async fn ping(&mut self) -> RedisResult<()> {
        redis::cmd("PING").exec_async(&mut self.inner).await
    }

    /// Waits until the connection is lost. Cancel-safe.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }
}

fn on_push(mailroom: &Mailroom, lost: &Notify, push: PushInfo) {
    match push.kind {
        // The channel, then the message.
        PushKind::Message => match push.data.into_iter().nth(1) {
            Some(Value::BulkString(frame)) => mailroom.take_in(&Bytes::from(frame)),
            other => tracing::debug!(node = mailroom.node(), ?other, "message without text"),
        },
        PushKind::Disconnection => lost.notify_one(),
        _ => {}
    }
}

/// Returns why connecting, for the first time, cannot succeed later either; `None` if it may.
pub(crate) fn hopeless(checked: &Checked, error: &RedisError) -> Option<ConnectError> {
    let (broker, reason) = (checked.broker.clone(), in_words(error));
    if is_refusal(error) {
        Some(ConnectError::Credentials { broker, reason })
    } else if is_of_tls(error) {
        Some(ConnectError::Untrusted { broker, reason })
    } else if error.kind() == ErrorKind::RESP3NotSupported {
        Some(ConnectError::Unfit { broker, reason })
    } else {
        None
    }
}

/// Returns what an error of a connection means.
pub(crate) fn trouble(error: &RedisError) -> Trouble {
    if is_refusal(error) {
        Trouble::Refused(in_words(error))
    } else {
        Trouble::Unreachable(in_words(error))
    }
}

fn is_refusal(error: &RedisError) -> bool {
    let is_code = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
    is_code || error.kind() == ErrorKind::AuthenticationFailed
}

/// Returns whether TLS failed somewhere below: an `io::Error` hides its cause from `source`.
fn is_of_tls(error: &RedisError) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let shared = error.downcast_ref::<Arc<dyn Error + Send + Sync>>();
        let error = match shared {
            Some(inner) => &**inner as &(dyn Error + 'static),
            None => error,
        };
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}
