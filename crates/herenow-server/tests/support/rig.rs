//! A server in this process on a port of its own, and the plainest clients there can be.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::run::{self, RunError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), RunError>>,
}

impl Rig {
    /// Starts one without configuration.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts one with these keys set, as flags would.
    pub(crate) async fn with(flags: &[(&str, &str)]) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let sources = Sources {
            flags: flags.iter().map(owned).collect(),
            ..Sources::default()
        };
        Self::run(
            ServerConfig::load(&sources).unwrap(),
            ([127, 0, 0, 1], 0).into(),
        )
        .await
    }

    /// Starts one at an address that another had.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        Self::run(ServerConfig::default(), address).await
    }

    async fn run(mut config: ServerConfig, address: SocketAddr) -> Self {
        if config.socket.close_timeout == ServerConfig::default().socket.close_timeout {
            // Clients that a test no longer reads do not answer a close.
            config.socket.close_timeout = Duration::from_millis(100);
            config.socket.terminate_timeout = Duration::from_millis(100);
        }
        let listener = run::listen(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _asked = stopped.await;
        };
        let ended = tokio::spawn(run::serve(config, listener, shutdown));
        Self {
            address,
            stop: Some(stop),
            ended,
        }
    }

    /// Asks the server to stop, without waiting.
    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
    }

    /// Stops the server and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.ask_to_stop();
        self.ended().await;
    }

    /// Waits until the server has stopped by itself.
    pub(crate) async fn ended(self) {
        within(self.ended).await.unwrap().unwrap();
    }

    /// The socket's URL, for clients that complete it themselves.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Connects with version 2 of the wire format; `params` go behind, as `&user_id=ada`.
    pub(crate) async fn connect(&self, params: &str) -> Client {
        let path = format!("/socket/websocket?vsn=2.0.0{params}");
        self.open(&path, &[]).await.unwrap()
    }

    /// Opens a WebSocket at a path with headers.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, tungstenite::Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (stream, _) = within(tokio_tungstenite::connect_async(request)).await?;
        Ok(Client {
            stream,
            waiting: VecDeque::new(),
            n_sent: 0,
        })
    }

    /// Makes one HTTP request on a connection of its own.
    pub(crate) async fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}content-length: \
             {length}\r\n\r\n{body}",
            self.address
        );
        self.raw(&request).await
    }

    /// Makes a request whose answer may have no end, and reads its head and what comes with it.
    pub(crate) async fn head(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let n_bytes = within(stream.read(&mut part)).await.unwrap();
            answer.extend_from_slice(&part[..n_bytes]);
            let text = String::from_utf8_lossy(&answer);
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
            if n_bytes == 0 || body.is_some_and(|body| !body.is_empty()) {
                return Answer::parse(&answer);
            }
        }
    }

    /// Sends a request as it is, which must ask to close the connection.
    pub(crate) async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        Answer::parse(&answer)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.http("GET", path, "", "").await
    }
}

/// Has the API make a key present with this device.
pub(crate) async fn put(rig: &Rig, topic: &str, key: &str, device: &str) {
    let path = format!("/api/topics/{topic}/presences/{key}");
    let meta = json!({ "meta": { "device": device } });
    let json = "content-type: application/json\r\n";
    let put = rig.http("PUT", &path, json, &meta.to_string()).await;
    assert!(matches!(put.status, 200 | 201), "{}", put.body);
}

/// Has the API end the presence of a key.
pub(crate) async fn end(rig: &Rig, topic: &str, key: &str) {
    let path = format!("/api/topics/{topic}/presences/{key}");
    assert_eq!(rig.http("DELETE", &path, "", "").await.status, 204);
}

/// Waits, but not for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it took too long")
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        Self {
            status,
            headers: lines.map(header).collect(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A client that speaks version 2 as text and keeps what it did not ask for until it does.
#[derive(Debug)]
pub(crate) struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    waiting: VecDeque<Value>,
    n_sent: u64,
}

/// What comes out of a WebSocket.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    Text(Value),
    Binary(Vec<u8>),
    /// The close code, or `None` for an end without one.
    Closed(Option<u16>),
}

impl Client {
    /// Sends a text or binary frame as it is.
    pub(crate) async fn send(&mut self, message: Message) {
        within(self.stream.send(message)).await.unwrap();
    }

    /// Sends a frame as it is, if the connection is still open.
    pub(crate) async fn send_unless_closed(&mut self, message: Message) {
        let _closed = within(self.stream.send(message)).await;
    }

    /// The next frame that is neither ping nor pong.
    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            match within(self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    return Frame::Text(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Binary(bytes))) => return Frame::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(close))) => {
                    return Frame::Closed(close.map(|close| close.code.into()));
                }
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return Frame::Closed(None),
            }
        }
    }

    /// Joins `topic`, and returns the reply's status and response.
    pub(crate) async fn join(&mut self, topic: &str, payload: Value) -> (String, Value) {
        let message_ref = format!("j:{topic}");
        let join = json!([message_ref, message_ref, topic, "phx_join", payload]);
        self.send(Message::text(join.to_string())).await;
        self.reply(&message_ref).await
    }

    /// Joins `topic`, which must be accepted.
    pub(crate) async fn joined(mut self, topic: &str, payload: Value) -> Self {
        assert_eq!(
            self.join(topic, payload).await,
            ("ok".to_owned(), json!({}))
        );
        self
    }

    /// Pushes an event and returns the reply's status and response.
    pub(crate) async fn push(
        &mut self,
        topic: &str,
        event: &str,
        payload: Value,
    ) -> (String, Value) {
        self.n_sent += 1;
        let message_ref = format!("p:{}", self.n_sent);
        let push = json!([format!("j:{topic}"), message_ref, topic, event, payload]);
        self.send(Message::text(push.to_string())).await;
        self.reply(&message_ref).await
    }

    /// Pushes an event that must be accepted, and returns the response.
    pub(crate) async fn ok(&mut self, topic: &str, event: &str, payload: Value) -> Value {
        let (status, response) = self.push(topic, event, payload).await;
        assert_eq!(status, "ok", "{event}: {response}");
        response
    }

    /// Pushes an event that must be refused, and returns the reason.
    pub(crate) async fn refused(&mut self, topic: &str, event: &str, payload: Value) -> String {
        let (status, response) = self.push(topic, event, payload).await;
        assert_eq!(status, "error", "{event}: {response}");
        response["reason"].as_str().unwrap().to_owned()
    }

    async fn reply(&mut self, message_ref: &str) -> (String, Value) {
        let message = self
            .find(|m| m[1] == message_ref && m[3] == "phx_reply")
            .await;
        let status = message[4]["status"].as_str().unwrap().to_owned();
        (status, message[4]["response"].clone())
    }

    /// The payload of the next message with this event.
    pub(crate) async fn event(&mut self, event: &str) -> Value {
        self.find(|message| message[3] == event).await[4].take()
    }

    /// The first message that fits; what comes before it is kept.
    async fn find(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.waiting.iter().position(&fits) {
            return self.waiting.remove(at).unwrap();
        }
        loop {
            match self.frame().await {
                Frame::Text(message) if fits(&message) => return message,
                Frame::Text(message) => self.waiting.push_back(message),
                other => panic!("{other:?}, after {:?}", self.waiting),
            }
        }
    }

    /// Shows that no message with this event has come: an echo has come back meanwhile.
    pub(crate) async fn heard_nothing_of(&mut self, topic: &str, event: &str) {
        self.ok(topic, "echo", json!({})).await;
        let heard = self.waiting.iter().find(|message| message[3] == event);
        assert_eq!(heard, None);
    }

    /// Reads until the server closes, and returns the code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Frame::Closed(code) = self.frame().await {
                return code;
            }
        }
    }
}
