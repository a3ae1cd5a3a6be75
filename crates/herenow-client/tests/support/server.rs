//! A server that does nothing by itself: tests take its connections and say what it answers.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use herenow_client::{Channel, Client, ClientConfig, Dial, Dialed, IoStream};
use herenow_protocol::{Encoded, FrameKind, Message, Payload, Serializer, ServerMessage};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message as Frame};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn json(text: &'static str) -> Payload {
    Payload::from_static_json(text)
}

/// Opens pipes to the test's server; refuses the next so many.
#[derive(Debug)]
struct PipeDial {
    pipes: mpsc::UnboundedSender<DuplexStream>,
    n_refusals: Arc<AtomicUsize>,
    n_dials: Arc<AtomicUsize>,
    delay_ms: Arc<AtomicUsize>,
}

impl Dial for PipeDial {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16, _is_tls: bool) -> Dialed<'a> {
        Box::pin(async move {
            self.n_dials.fetch_add(1, Ordering::SeqCst);
            let delay = self.delay_ms.load(Ordering::SeqCst);
            if delay > 0 {
                tokio::time::sleep(millis(delay as u64)).await;
            }
            let refuse = |left: usize| left.checked_sub(1);
            if self
                .n_refusals
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse)
                .is_ok()
            {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (client, server) = tokio::io::duplex(1 << 20);
            self.pipes
                .send(server)
                .map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(client) as Box<dyn IoStream>)
        })
    }
}

/// Where connections arrive.
pub(crate) struct Server {
    pipes: mpsc::UnboundedReceiver<DuplexStream>,
    dial: Option<PipeDial>,
    n_refusals: Arc<AtomicUsize>,
    n_dials: Arc<AtomicUsize>,
    delay_ms: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let (sender, pipes) = mpsc::unbounded_channel();
        let (n_refusals, n_dials, delay_ms) = Default::default();
        let dial = PipeDial {
            pipes: sender,
            n_refusals: Arc::clone(&n_refusals),
            n_dials: Arc::clone(&n_dials),
            delay_ms: Arc::clone(&delay_ms),
        };
        Self {
            pipes,
            dial: Some(dial),
            n_refusals,
            n_dials,
            delay_ms,
        }
    }

    /// A client, and its first connection.
    pub(crate) async fn connected(config: ClientConfig) -> (Self, Client, Peer) {
        let mut server = Self::new();
        let dial = Arc::new(server.dial.take().expect("one client per server"));
        let (client, peer) = tokio::join!(
            Client::connect_with("ws://test", config, dial),
            server.accept()
        );
        (server, client.expect("connects"), peer)
    }

    /// A client that has joined `room:a` with `{"one":"two"}`.
    pub(crate) async fn joined(config: ClientConfig) -> (Self, Client, Peer, Channel) {
        let (server, client, mut peer) = Self::connected(config).await;
        let channel = join(&client, &mut peer, "room:a").await;
        (server, client, peer, channel)
    }

    pub(crate) async fn accept(&mut self) -> Peer {
        let pipe = self.pipes.recv().await.expect("the client lives");
        let mut protocols = None;
        #[allow(clippy::result_large_err, reason = "the handshake wants it so")]
        let note = |request: &Request, mut response: Response| {
            if let Some(value) = request.headers().get("sec-websocket-protocol") {
                protocols = Some(value.to_str().expect("text").to_owned());
                let chosen = "phoenix".parse().expect("a header value");
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", chosen);
            }
            Ok(response)
        };
        let socket = accept_hdr_async(pipe, note).await.expect("a handshake");
        Peer {
            socket,
            protocols,
            serializer: Serializer::V2,
        }
    }

    /// Refuses the next so many connections.
    pub(crate) fn refuse(&self, n: usize) {
        self.n_refusals.store(n, Ordering::SeqCst);
    }

    /// Makes connections take that long.
    pub(crate) fn delay(&self, millis: usize) {
        self.delay_ms.store(millis, Ordering::SeqCst);
    }

    pub(crate) fn n_dials(&self) -> usize {
        self.n_dials.load(Ordering::SeqCst)
    }
}

/// Joins a topic and answers with an empty `ok`.
pub(crate) async fn join(client: &Client, peer: &mut Peer, topic: &str) -> Channel {
    let params = serde_json::json!({ "one": "two" });
    let (channel, ()) = tokio::join!(
        client.channel(topic, &params).join(),
        peer.answer_join(topic)
    );
    channel.expect("joins")
}

/// The server's end of one connection.
pub(crate) struct Peer {
    socket: WebSocketStream<DuplexStream>,
    pub(crate) protocols: Option<String>,
    pub(crate) serializer: Serializer,
}

impl Peer {
    /// The next message of the client, however long that takes.
    pub(crate) async fn receive(&mut self) -> Message {
        self.try_receive().await.expect("the connection is open")
    }

    /// The next message of the client, or `None` when it closes the connection.
    pub(crate) async fn try_receive(&mut self) -> Option<Message> {
        loop {
            let frame = match self.socket.next().await?.ok()? {
                Frame::Text(text) => Encoded::text(bytes::Bytes::from(text)),
                Frame::Binary(bytes) => Encoded::binary(bytes),
                Frame::Close(_) => return None,
                Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => continue,
            };
            return Some(
                self.serializer
                    .decode(&frame)
                    .expect("the client sends messages"),
            );
        }
    }

    /// The client's close code, after everything else it sends.
    pub(crate) async fn receive_close(&mut self) -> Option<u16> {
        loop {
            if let Frame::Close(frame) = self.socket.next().await?.ok()? {
                return frame.map(|frame| frame.code.into());
            }
        }
    }

    /// The next message, which must have this event.
    pub(crate) async fn expect(&mut self, event: &str) -> Message {
        let message = self.receive().await;
        assert_eq!(message.event, event, "{message:?}");
        message
    }

    /// Checks that nothing comes for that long.
    pub(crate) async fn expect_silence(&mut self, time: Duration) {
        let received = tokio::time::timeout(time, self.try_receive()).await;
        assert!(received.is_err(), "{received:?}");
    }

    /// Receives a join of that topic and answers with an empty `ok`.
    pub(crate) async fn answer_join(&mut self, topic: &str) {
        let message = self.expect("phx_join").await;
        assert_eq!(message.topic.as_str(), topic);
        self.reply(&message, "ok", json("{}")).await;
    }

    pub(crate) async fn reply(&mut self, to: &Message, status: &str, response: Payload) {
        self.send(ServerMessage::Reply {
            join_ref: to.join_ref.clone(),
            message_ref: to.message_ref.clone(),
            topic: to.topic.clone(),
            status: status.into(),
            response,
        })
        .await;
    }

    pub(crate) async fn broadcast(&mut self, topic: &str, event: &str, payload: Payload) {
        let (topic, event) = (topic.into(), event.into());
        self.send(ServerMessage::Broadcast {
            topic,
            event,
            payload,
        })
        .await;
    }

    pub(crate) async fn send(&mut self, message: ServerMessage) {
        let Encoded { kind, bytes } = self.serializer.encode(&message).expect("encodes");
        let frame = match kind {
            FrameKind::Text => Frame::Text(bytes.try_into().expect("text")),
            FrameKind::Binary => Frame::Binary(bytes),
        };
        self.socket.send(frame).await.expect("the client reads");
    }

    pub(crate) async fn crash(&mut self, join_ref: &str, topic: &str) {
        self.send(ServerMessage::channel_crash(Some(join_ref.into()), topic))
            .await;
    }

    pub(crate) async fn close_channel(&mut self, join_ref: &str, topic: &str) {
        let join_ref = Some(join_ref.into());
        self.send(ServerMessage::Close {
            join_ref,
            topic: topic.into(),
        })
        .await;
    }

    /// Closes the connection with a code.
    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        };
        self.socket
            .close(Some(frame))
            .await
            .expect("the client reads");
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
