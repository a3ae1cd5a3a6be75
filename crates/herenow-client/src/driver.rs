//! The only loop that drives an [`Engine`]: one task per client, which owns its connection.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use herenow_protocol::{CloseCode, Encoded, FrameKind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::answer::{self, Lent};
use crate::config::ClientConfig;
use crate::dial::Dial;
use crate::endpoint::Endpoint;
use crate::engine::{Command, Engine, Output};
use crate::error::ConnectError;
use crate::event::ErrorReason;

/// What there is to say of an answer to a bare connection that cannot be read.
const NO_HTTP: &str =
    "what it answers is no HTTP; if it speaks TLS, the URL must begin with wss:// or https://";

/// Whether a client has a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientStatus {
    /// It has.
    Connected,
    /// It has lost it and is about to connect again.
    Reconnecting,
    /// It will not have one again: it was disconnected, or the server closed it for good (1000).
    Closed,
}

type Socket = WebSocketStream<Lent>;
type Connecting = Pin<Box<dyn Future<Output = Result<Socket, ConnectError>> + Send>>;

/// What connections are made of.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) endpoint: Endpoint,
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) dial: Arc<dyn Dial>,
}

impl Connector {
    /// Opens a connection and completes its handshake.
    pub(crate) async fn connect(&self) -> Result<Socket, ConnectError> {
        let after = self.config.connect_timeout;
        let url = || self.endpoint.url.clone();
        timeout(after, self.open())
            .await
            .unwrap_or_else(|_| Err(ConnectError::Timeout { url: url(), after }))
    }

    async fn open(&self) -> Result<Socket, ConnectError> {
        let Endpoint {
            host, port, is_tls, ..
        } = &self.endpoint;
        let url = || self.endpoint.url.clone();
        let request = self.endpoint.request(&self.config)?;
        let dialed = self.dial.dial(host, *port, *is_tls).await;
        let stream = dialed.map_err(|source| ConnectError::Io { url: url(), source })?;
        let mut limits = WebSocketConfig::default();
        limits.read_buffer_size = 16 << 10;
        limits.max_message_size = Some(self.config.max_message_bytes);
        limits.max_frame_size = Some(self.config.max_message_bytes);
        let (stream, mut returned) = Lent::new(stream);
        match client_async_with_config(request, stream, Some(limits)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let reason = answer::reason(&response, returned.try_recv().ok()).await;
                let url = url();
                Err(match response.status().as_u16() {
                    403 => ConnectError::Forbidden { url, reason },
                    status => ConnectError::Status {
                        url,
                        status,
                        reason,
                    },
                })
            }
            Err(Error::Protocol(ProtocolError::HttparseError(_))) if !is_tls => {
                Err(ConnectError::Handshake {
                    url: url(),
                    reason: NO_HTTP.to_owned(),
                })
            }
            Err(Error::Io(source)) => Err(ConnectError::Io { url: url(), source }),
            Err(error) => Err(ConnectError::Handshake {
                url: url(),
                reason: error.to_string(),
            }),
        }
    }
}

/// A client's task.
pub(crate) struct Driver {
    connector: Connector,
    engine: Engine,
    commands: mpsc::UnboundedReceiver<Command>,
    status: watch::Sender<ClientStatus>,
    socket: Option<Socket>,
    connecting: Option<Connecting>,
}

/// Why the loop is left.
enum End {
    Asked(Option<oneshot::Sender<()>>),
    ClosedByServer,
}

impl Driver {
    /// Takes over the first connection. Commands come without bound: each is awaited by its
    /// sender, or is the end of a channel.
    pub(crate) fn new(
        connector: Connector,
        socket: Socket,
        commands: mpsc::UnboundedReceiver<Command>,
        status: watch::Sender<ClientStatus>,
    ) -> Self {
        let engine = Engine::new(connector.config.clone());
        Self {
            connector,
            engine,
            commands,
            status,
            socket: Some(socket),
            connecting: None,
        }
    }

    /// Runs until the client is disconnected, nobody holds it any more, or the server closes the
    /// connection for good.
    pub(crate) async fn run(mut self) {
        self.engine.handle_open(Instant::now());
        let end = loop {
            self.perform_outputs().await;
            if let Some(end) = self.step().await {
                break end;
            }
        };
        self.engine.handle_end();
        let _ = self.status.send(ClientStatus::Closed);
        self.close(WireCode::Normal, "").await;
        if let End::Asked(Some(done)) = end {
            let _ = done.send(());
        }
    }

    /// Waits for one thing and feeds it in.
    async fn step(&mut self) -> Option<End> {
        let due = self.engine.poll_timeout();
        tokio::select! {
            command = self.commands.recv() => match command {
                None => return Some(End::Asked(None)),
                Some(Command::Disconnect { done }) => return Some(End::Asked(Some(done))),
                Some(command) => self.engine.handle_command(Instant::now(), command),
            },
            received = receive(self.socket.as_mut()) => return self.on_received(received),
            connected = connected(self.connecting.as_mut()) => self.on_connected(connected),
            () = sleep_until_some(due) => self.engine.handle_timeout(Instant::now()),
        }
        None
    }

    fn on_received(&mut self, received: Option<Result<Message, Error>>) -> Option<End> {
        let frame = match received {
            Some(Ok(Message::Text(text))) => Encoded::text(Bytes::from(text)),
            Some(Ok(Message::Binary(bytes))) => Encoded::binary(bytes),
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map(|frame| CloseCode(frame.code.into()));
                if code == Some(CloseCode::NORMAL) {
                    return Some(End::ClosedByServer);
                }
                tracing::debug!(?code, "connection closed by the server");
                self.on_lost();
                return None;
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return None,
            Some(Err(error)) => {
                tracing::debug!(%error, "connection lost");
                self.on_lost();
                return None;
            }
            None => {
                self.on_lost();
                return None;
            }
        };
        match self.connector.config.serializer.decode_server(&frame) {
            Ok(message) => self.engine.handle_message(Instant::now(), message),
            Err(error) => {
                let frame_bytes = frame.bytes.len();
                tracing::warn!(%error, frame_bytes, "malformed frame from the server");
            }
        }
        None
    }

    fn on_lost(&mut self) {
        self.socket = None;
        self.engine
            .handle_closed(Instant::now(), &ErrorReason::ConnectionLost);
        let _ = self.status.send(ClientStatus::Reconnecting);
    }

    fn on_connected(&mut self, connected: Result<Socket, ConnectError>) {
        self.connecting = None;
        match connected {
            Ok(socket) => {
                self.socket = Some(socket);
                self.engine.handle_open(Instant::now());
                let _ = self.status.send(ClientStatus::Connected);
            }
            Err(error) => {
                tracing::debug!(%error, "cannot connect again");
                self.engine.plan_connect(Instant::now());
            }
        }
    }

    async fn perform_outputs(&mut self) {
        let mut is_written = false;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send(frame) => {
                    is_written = true;
                    self.feed(frame).await;
                }
                Output::GiveUp => {
                    // The peer is silent: saying goodbye to it must not take long either.
                    let _ = self.status.send(ClientStatus::Reconnecting);
                    self.close(WireCode::Normal, "heartbeat timeout").await;
                }
                Output::Connect => {
                    let connector = self.connector.clone();
                    self.connecting = Some(Box::pin(async move { connector.connect().await }));
                }
            }
        }
        if is_written && let Some(socket) = &mut self.socket {
            let flushed = timeout(self.connector.config.heartbeat, socket.flush()).await;
            if !matches!(flushed, Ok(Ok(()))) {
                self.on_lost();
            }
        }
    }

    async fn feed(&mut self, frame: Encoded) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let message = match frame.kind {
            FrameKind::Text => match Utf8Bytes::try_from(frame.bytes) {
                Ok(text) => Message::Text(text),
                Err(_) => return,
            },
            FrameKind::Binary => Message::Binary(frame.bytes),
        };
        let fed = timeout(self.connector.config.heartbeat, socket.feed(message)).await;
        if !matches!(fed, Ok(Ok(()))) {
            self.on_lost();
        }
    }

    async fn close(&mut self, code: WireCode, reason: &'static str) {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
        let Some(mut socket) = self.socket.take() else {
            return;
        };
        let frame = CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        };
        let _ = timeout(PATIENCE, async {
            socket.close(Some(frame)).await?;
            while let Some(Ok(_)) = socket.next().await {}
            Ok::<_, Error>(())
        })
        .await;
    }
}

async fn receive(socket: Option<&mut Socket>) -> Option<Result<Message, Error>> {
    match socket {
        Some(socket) => socket.next().await,
        None => pending().await,
    }
}

async fn connected(connecting: Option<&mut Connecting>) -> Result<Socket, ConnectError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => pending().await,
    }
}

async fn sleep_until_some(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
