//! A client: one connection, any number of channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herenow_protocol::{Payload, PayloadError};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::channel::{Channel, ChannelSender};
use crate::config::ClientConfig;
use crate::dial::{Dial, TcpDial};
use crate::driver::{ClientStatus, Connector, Driver};
use crate::endpoint::Endpoint;
use crate::engine::{ChannelKey, Command, Params};
use crate::error::{ConnectError, JoinError};

/// A connection to a server, kept up until it is disconnected or nobody holds the client or one
/// of its channels any more. Clones are the same client.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    config: Arc<ClientConfig>,
    status: watch::Receiver<ClientStatus>,
    next_channel: Arc<AtomicU64>,
}

impl Client {
    /// Connects to `ws://host:port`, `ws://host:port/socket` or `…/socket/websocket`.
    ///
    /// Starts a task; must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], each naming the URL.
    pub async fn connect(url: &str, config: ClientConfig) -> Result<Self, ConnectError> {
        Self::connect_with(url, config, Arc::new(TcpDial)).await
    }

    /// Connects through streams that `dial` opens.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect_with(
        url: &str,
        config: ClientConfig,
        dial: Arc<dyn Dial>,
    ) -> Result<Self, ConnectError> {
        let config = Arc::new(config);
        let endpoint = Endpoint::parse(url)?;
        let connector = Connector {
            endpoint,
            config: config.clone(),
            dial,
        };
        let socket = connector.connect().await?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (status, watched) = watch::channel(ClientStatus::Connected);
        tokio::spawn(Driver::new(connector, socket, inbox, status).run());
        Ok(Self {
            commands,
            config,
            status: watched,
            next_channel: Arc::default(),
        })
    }

    /// A channel of a topic, to be joined with these parameters.
    ///
    /// One client joins a topic once: joining it again makes the older channel leave.
    pub fn channel(&self, topic: &str, params: &(impl Serialize + ?Sized)) -> JoinBuilder {
        self.builder(topic, Payload::serialize(params).map(Params::Fixed))
    }

    /// A channel whose parameters are asked for anew at every join, a token for one.
    pub fn channel_with(
        &self,
        topic: &str,
        params: impl Fn() -> Payload + Send + Sync + 'static,
    ) -> JoinBuilder {
        self.builder(topic, Ok(Params::Each(Box::new(params))))
    }

    fn builder(&self, topic: &str, params: Result<Params, PayloadError>) -> JoinBuilder {
        JoinBuilder {
            client: self.clone(),
            topic: topic.to_owned(),
            params,
            timeout: self.config.timeout,
        }
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        *self.status.borrow()
    }

    /// Tells when the connection comes and goes.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<ClientStatus> {
        self.status.clone()
    }

    /// How long a heartbeat takes to be answered; `None` without a connection or an answer.
    pub async fn ping(&self) -> Option<Duration> {
        let (done, answered) = oneshot::channel();
        self.commands.send(Command::Ping { done }).ok()?;
        answered.await.ok()
    }

    /// Closes the connection for good, with code 1000, and with it every channel. Waits until
    /// the server has closed its side, for a second at most.
    pub async fn disconnect(self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Disconnect { done }).is_ok() {
            let _ = closed.await;
        }
    }
}

/// A channel that is to be joined.
#[derive(Debug)]
#[must_use = "nothing is joined before `join` is called"]
pub struct JoinBuilder {
    client: Client,
    topic: String,
    params: Result<Params, PayloadError>,
    timeout: Duration,
}

impl JoinBuilder {
    /// Waits this long for the replies to joins, pushes and leaves.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Joins the topic. Without a connection it waits for one, and its time runs.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; the channel is then not joined and not tried again.
    pub async fn join(self) -> Result<Channel, JoinError> {
        let Self {
            client,
            topic,
            params,
            timeout,
        } = self;
        let params = params?;
        let channel = ChannelKey(client.next_channel.fetch_add(1, Ordering::Relaxed));
        let sender = ChannelSender::new(channel, &topic, timeout, client.commands.clone());
        let (events, inbox) = mpsc::channel(client.config.max_waiting_events.max(1));
        let (done, joined) = oneshot::channel();
        let command = Command::Join {
            channel,
            topic,
            params,
            timeout,
            events,
            done,
        };
        client
            .commands
            .send(command)
            .map_err(|_| JoinError::Disconnected)?;
        let response = joined.await.unwrap_or(Err(JoinError::Disconnected))?;
        Ok(Channel::new(sender, response, inbox))
    }
}
