//! An in-process client for channel tests: the whole socket, without a network.
//!
//! A [`TestClient`] speaks V2 to the channels of a [`Sockets`] through the same session that the
//! transports use. Everything runs on the test's own runtime, so paused time works.
//!
//! # Examples
//!
//! ```
//! use herenow_channels::testing::TestClient;
//! use herenow_channels::{Channel, Connected, Joined, Outcome, Params, Payload, Refused};
//! use herenow_channels::{Socket, Sockets};
//! use herenow_pubsub::PubSub;
//! use serde_json::json;
//!
//! struct Echo;
//!
//! impl Channel for Echo {
//!     async fn join(&mut self, _: &mut Socket, _: Params) -> Result<Joined, Refused> {
//!         Ok(Joined::empty())
//!     }
//!     async fn handle_in(&mut self, _: &mut Socket, _: &str, payload: Payload) -> Outcome {
//!         Outcome::ok(payload)
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let sockets = Sockets::new(&PubSub::local()).channel("echo", || Echo);
//! let mut client = TestClient::open(&sockets, Connected::anonymous());
//! client.join("echo", json!({})).await.expect("accepted");
//! let (status, response) = client.call("echo", "anything", json!([1, 2])).await;
//! assert_eq!((status.as_str(), response), ("ok", json!([1, 2])));
//! # });
//! ```

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use herenow_protocol::{
    Encoded, JoinRef, Message, MessageRef, Payload, Serializer, ServerMessage, WireText, event,
};
use http::Request;
use serde_json::Value;
use smol_str::SmolStr;
use tokio::sync::{mpsc, oneshot};

use crate::auth::admit_websocket;
use crate::frame::Frame;
use crate::reason::{CloseOrder, Reason};
use crate::socket::{ConnectRefused, Connected, Session};
use crate::sockets::Sockets;

/// How long a client waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client waits for what must not come.
const SILENCE: Duration = Duration::from_millis(50);
/// Frames on their way from a client.
const TO_SERVER: usize = 64;
/// Frames on their way to a client. One more counts as a closed connection.
const TO_CLIENT: usize = 4_096;

/// One connection of a test.
pub struct TestClient {
    to_server: Option<mpsc::Sender<Encoded>>,
    from_server: mpsc::Receiver<Encoded>,
    /// Messages that came while another was waited for.
    kept: VecDeque<ServerMessage>,
    closed: oneshot::Receiver<Reason>,
    join_refs: HashMap<String, JoinRef>,
    next_ref: u64,
}

impl TestClient {
    /// Opens a connection as one that `connect` has accepted; `connect` is not asked.
    pub fn open(sockets: &Sockets, connected: Connected) -> Self {
        let session = Session::open(sockets.shared(), connected, Serializer::V2);
        let (to_server, incoming) = mpsc::channel(TO_SERVER);
        let (outgoing, from_server) = mpsc::channel(TO_CLIENT);
        let (close, closed) = oneshot::channel();
        let pipe = Pipe {
            session,
            incoming,
            outgoing,
        };
        sockets.shared().tasks.spawn(pipe.run(close));
        Self {
            to_server: Some(to_server),
            from_server,
            kept: VecDeque::new(),
            closed,
            join_refs: HashMap::new(),
            next_ref: 1,
        }
    }

    /// Opens a connection with query parameters, such as `user=ada&token=x`.
    ///
    /// # Errors
    ///
    /// What `connect` refused with.
    pub async fn connect(sockets: &Sockets, query: &str) -> Result<Self, ConnectRefused> {
        let shared = Arc::clone(sockets.shared());
        let uri = format!("/websocket?vsn=2.0.0&{query}");
        let request = Request::get(uri).body(());
        let (parts, ()) = request.expect("the query is a valid one").into_parts();
        let forwarded = shared.proxies.look_at(&parts);
        let admitted = admit_websocket(
            &shared.log_limits.requests,
            &shared.check_origin,
            &forwarded,
            &[],
            parts,
        )
        .await;
        let admitted = admitted.expect("a request without origin and with vsn 2.0.0 is admitted");
        let mut arrival = shared.arrivals.begin();
        let connected = shared.connect(admitted.info, &mut arrival).await?;
        Ok(Self::open(sockets, connected))
    }

    /// Joins a topic; the response, or what it was refused with.
    ///
    /// # Errors
    ///
    /// The response of the refusal.
    pub async fn join(&mut self, topic: &str, params: Value) -> Result<Value, Value> {
        let message_ref = self.take_ref();
        let join_ref = JoinRef(message_ref.0.clone());
        self.join_refs.insert(topic.to_owned(), join_ref);
        self.send(topic, event::JOIN, to_payload(&params), &message_ref)
            .await;
        match self.reply(&message_ref).await {
            (status, response) if status == event::STATUS_OK => Ok(response),
            (_, response) => Err(response),
        }
    }

    /// Leaves a topic; the reply's status.
    pub async fn leave(&mut self, topic: &str) -> SmolStr {
        self.call(topic, event::LEAVE, Value::Object(serde_json::Map::new()))
            .await
            .0
    }

    /// Sends an event; what [`TestClient::reply`] takes.
    pub async fn push(&mut self, topic: &str, event: &str, payload: Value) -> MessageRef {
        self.push_payload(topic, event, to_payload(&payload)).await
    }

    /// Sends an event with any payload, binary for one.
    pub async fn push_payload(&mut self, topic: &str, event: &str, payload: Payload) -> MessageRef {
        let message_ref = self.take_ref();
        self.send(topic, event, payload, &message_ref).await;
        message_ref
    }

    /// Sends an event and waits for the reply: its status and response.
    pub async fn call(&mut self, topic: &str, event: &str, payload: Value) -> (SmolStr, Value) {
        let message_ref = self.push(topic, event, payload).await;
        self.reply(&message_ref).await
    }

    /// Waits for the reply to a message: its status and response. Other messages are kept.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub async fn reply(&mut self, to: &MessageRef) -> (SmolStr, Value) {
        let is_reply = |message: &ServerMessage| match message {
            ServerMessage::Reply { message_ref, .. } => message_ref.as_ref() == Some(to),
            _ => false,
        };
        match self.find(is_reply).await {
            Some(ServerMessage::Reply {
                status, response, ..
            }) => (status, to_value(&response)),
            _ => panic!("no reply to {to:?} among {:?}", self.kept),
        }
    }

    /// Waits for a push or broadcast of an event on a topic: its payload. Others are kept.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub async fn event(&mut self, topic: &str, event: &str) -> Value {
        to_value(&self.event_payload(topic, event).await)
    }

    /// As [`TestClient::event`], with the payload as it came.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub async fn event_payload(&mut self, on: &str, named: &str) -> Payload {
        let is_event = |message: &ServerMessage| match message {
            ServerMessage::Push { topic, event, .. }
            | ServerMessage::Broadcast { topic, event, .. } => {
                topic.as_str() == on && event == named
            }
            _ => false,
        };
        match self.find(is_event).await {
            Some(
                ServerMessage::Push { payload, .. } | ServerMessage::Broadcast { payload, .. },
            ) => payload,
            _ => panic!("no {named:?} on {on:?} among {:?}", self.kept),
        }
    }

    /// Waits for the next message, whatever it is; `None` if the connection closes first.
    pub async fn next(&mut self) -> Option<ServerMessage> {
        if let Some(message) = self.kept.pop_front() {
            return Some(message);
        }
        self.receive().await
    }

    /// Asserts that no message waits and none comes for a moment.
    ///
    /// # Panics
    ///
    /// If one does.
    pub async fn assert_silent(&mut self) {
        assert!(self.kept.is_empty(), "unexpected: {:?}", self.kept);
        if let Ok(Some(message)) = tokio::time::timeout(SILENCE, self.from_server.recv()).await {
            panic!("unexpected: {:?}", Serializer::V2.decode_server(&message));
        }
    }

    /// Goes away, as a client whose tab is closed, and waits for all channels to end.
    pub async fn close(mut self) {
        self.to_server = None;
        self.closed().await;
    }

    /// Waits until the server has closed the connection and all channels have ended; why it did.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn closed(&mut self) -> Reason {
        let closed = tokio::time::timeout(PATIENCE, &mut self.closed).await;
        closed
            .expect("the connection should close")
            .unwrap_or(Reason::Closed)
    }

    fn take_ref(&mut self) -> MessageRef {
        let message_ref = MessageRef::from(self.next_ref.to_string().as_str());
        self.next_ref += 1;
        message_ref
    }

    async fn send(&mut self, topic: &str, event: &str, payload: Payload, message_ref: &MessageRef) {
        let message = Message {
            join_ref: self.join_refs.get(topic).cloned(),
            message_ref: Some(message_ref.clone()),
            topic: WireText::from(topic),
            event: SmolStr::new(event),
            payload,
        };
        let encoded = Serializer::V2.encode_client(&message);
        let encoded = encoded.expect("topics and events of tests are short");
        if let Some(to_server) = &self.to_server {
            // A connection that is closed shows in what is received.
            let _ = to_server.send(encoded).await;
        }
    }

    async fn find(&mut self, is_it: impl Fn(&ServerMessage) -> bool) -> Option<ServerMessage> {
        if let Some(at) = self.kept.iter().position(&is_it) {
            return self.kept.remove(at);
        }
        while let Some(message) = self.receive().await {
            if is_it(&message) {
                return Some(message);
            }
            self.kept.push_back(message);
        }
        None
    }

    async fn receive(&mut self) -> Option<ServerMessage> {
        let received = tokio::time::timeout(PATIENCE, self.from_server.recv()).await;
        let frame = received.ok().flatten()?;
        let message = Serializer::V2.decode_server(&frame);
        Some(message.expect("the server sends what it can read"))
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient")
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

fn to_payload(value: &Value) -> Payload {
    Payload::serialize(value).expect("a value serializes")
}

fn to_value(payload: &Payload) -> Value {
    payload.deserialize().expect("the payload is JSON")
}

/// The server's end: a transport made of two channels.
struct Pipe {
    session: Session,
    incoming: mpsc::Receiver<Encoded>,
    outgoing: mpsc::Sender<Encoded>,
}

impl Pipe {
    async fn run(mut self, closed: oneshot::Sender<Reason>) {
        let order = poll_fn(|context| self.poll(context)).await;
        self.flush();
        poll_fn(|context| {
            self.session.end(context, &order.reason);
            Poll::Ready(())
        })
        .await;
        poll_fn(|context| self.session.poll_end(context)).await;
        drop(self);
        // The test may be over.
        let _ = closed.send(order.reason);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<CloseOrder> {
        self.session.mailbox().unpark();
        loop {
            let mut is_idle = true;
            let was_ready = self.session.is_ready();
            if was_ready && let Poll::Ready(frame) = self.incoming.poll_recv(context) {
                let Some(frame) = frame else {
                    return Poll::Ready(CloseOrder::closed(herenow_protocol::CloseCode::NORMAL));
                };
                self.session.handle_frame(context, &frame);
                is_idle = false;
            }
            if let Poll::Ready(order) = self.session.poll(context) {
                return Poll::Ready(order);
            }
            if !self.flush() {
                return Poll::Ready(CloseOrder::closed(herenow_protocol::CloseCode::NORMAL));
            }
            is_idle &= was_ready || !self.session.is_ready();
            if is_idle && self.session.mailbox().park(context, true) {
                return Poll::Pending;
            }
        }
    }

    /// Hands all queued frames to the client; false if it is gone. Takes them until there are none,
    /// for those that were taken last count as waiting.
    fn flush(&mut self) -> bool {
        loop {
            let frames = self.session.take_frames();
            if frames.is_empty() {
                return true;
            }
            let mut encoded = frames.iter().filter_map(Frame::to_encoded);
            if !encoded.all(|frame| self.outgoing.try_send(frame).is_ok()) {
                return false;
            }
        }
    }
}
