//! A joined channel: push to it, read from it, leave it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use herenow_protocol::Payload;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{ChannelKey, Command};
use crate::error::PushError;
use crate::event::{ChannelEvent, Inbound, Reply};

/// A channel that was joined; dropping it leaves it.
///
/// A stream of [`ChannelEvent`]s that ends when the channel is closed. Losses of the connection
/// and crashes of the server's channel are events: the client joins again by itself.
#[derive(Debug)]
pub struct Channel {
    sender: ChannelSender,
    response: Payload,
    events: mpsc::Receiver<Inbound>,
}

/// Pushes to a channel, from anywhere. Does not keep it joined.
#[derive(Clone, Debug)]
pub struct ChannelSender {
    key: ChannelKey,
    topic: Arc<str>,
    timeout: Duration,
    commands: mpsc::UnboundedSender<Command>,
}

impl ChannelSender {
    pub(crate) fn new(
        key: ChannelKey,
        topic: &str,
        timeout: Duration,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        Self {
            key,
            topic: topic.into(),
            timeout,
            commands,
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Pushes an event with a JSON payload and waits for its reply.
    ///
    /// While the channel is not joined the push waits for it, and its time runs.
    ///
    /// # Errors
    ///
    /// [`PushError`]. A refusal by the server is a [`Reply`].
    pub async fn push(
        &self,
        event: &str,
        payload: &(impl Serialize + ?Sized + Sync),
    ) -> Result<Reply, PushError> {
        self.push_payload(event, Payload::serialize(payload)?, self.timeout)
            .await
    }

    /// Pushes an event with raw bytes, which needs version 2, and waits for its reply.
    ///
    /// # Errors
    ///
    /// As [`ChannelSender::push`].
    pub async fn push_binary(
        &self,
        event: &str,
        payload: impl Into<bytes::Bytes> + Send,
    ) -> Result<Reply, PushError> {
        self.push_payload(event, Payload::Binary(payload.into()), self.timeout)
            .await
    }

    /// Pushes an event with a payload that is ready, and waits that long for its reply.
    ///
    /// # Errors
    ///
    /// As [`ChannelSender::push`].
    pub async fn push_payload(
        &self,
        event: &str,
        payload: Payload,
        timeout: Duration,
    ) -> Result<Reply, PushError> {
        let (done, reply) = oneshot::channel();
        let (channel, event) = (self.key, event.to_owned());
        let command = Command::Push {
            channel,
            event,
            payload,
            timeout,
            done,
        };
        self.commands.send(command).map_err(|_| PushError::Closed)?;
        reply.await.unwrap_or(Err(PushError::Closed))
    }

    pub(crate) fn rejoin(&self) {
        let _ = self.commands.send(Command::Rejoin { channel: self.key });
    }

    fn leave(&self, done: Option<oneshot::Sender<()>>) {
        let (channel, timeout) = (self.key, self.timeout);
        let _ = self.commands.send(Command::Leave {
            channel,
            timeout,
            done,
        });
    }
}

impl Channel {
    pub(crate) fn new(
        sender: ChannelSender,
        response: Payload,
        events: mpsc::Receiver<Inbound>,
    ) -> Self {
        Self {
            sender,
            response,
            events,
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.sender.topic()
    }

    /// What the server answered to the first join.
    #[must_use]
    pub fn response(&self) -> &Payload {
        &self.response
    }

    /// A handle to push with.
    #[must_use]
    pub fn sender(&self) -> ChannelSender {
        self.sender.clone()
    }

    /// Pushes an event with a JSON payload and waits for its reply.
    ///
    /// # Errors
    ///
    /// As [`ChannelSender::push`].
    pub async fn push(
        &self,
        event: &str,
        payload: &(impl Serialize + ?Sized + Sync),
    ) -> Result<Reply, PushError> {
        self.sender.push(event, payload).await
    }

    /// Pushes an event with raw bytes, which needs version 2, and waits for its reply.
    ///
    /// # Errors
    ///
    /// As [`ChannelSender::push`].
    pub async fn push_binary(
        &self,
        event: &str,
        payload: impl Into<bytes::Bytes> + Send,
    ) -> Result<Reply, PushError> {
        self.sender.push_binary(event, payload).await
    }

    /// The next event; `None` after the channel has closed. Cancel safe.
    pub async fn next_event(&mut self) -> Option<ChannelEvent> {
        Some(self.next_inbound().await?.event)
    }

    pub(crate) async fn next_inbound(&mut self) -> Option<Inbound> {
        self.events.recv().await
    }

    /// Leaves and waits until the server has said so, or has had its time to.
    pub async fn leave(self) {
        let (done, left) = oneshot::channel();
        self.sender.leave(Some(done));
        let _ = left.await;
    }
}

impl Stream for Channel {
    type Item = ChannelEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ChannelEvent>> {
        self.events
            .poll_recv(cx)
            .map(|inbound| Some(inbound?.event))
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.sender.leave(None);
    }
}
