//! A receiver of webhooks that does what the test wants, and a listener of server-sent events.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::pending;
use herenow_channels::HangUp;
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &str = "the secret of this test's webhooks";

/// What the receiver does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes it.
    Takes,
    /// Takes it, and does not come to the end of its answer.
    TakesWithoutEnd,
    /// Answers with this status.
    Refuses(u16),
    /// Refuses those that have an event of this topic, and takes the others.
    RefusesTopic(&'static str),
    /// Does not answer those that have an event of this topic, and takes the others.
    StallsTopic(&'static str),
    /// Does not answer.
    Stalls,
    /// Ends the connection without an answer.
    HangsUp,
}

/// A request as it came, its signature verified.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) body: Value,
    pub(crate) is_taken: bool,
}

impl Request {
    pub(crate) fn events(&self) -> &[Value] {
        self.body["events"].as_array().unwrap()
    }

    pub(crate) fn has_topic(&self, topic: &str) -> bool {
        self.events().iter().any(|event| event["topic"] == topic)
    }
}

/// A real HTTP server to which events are posted. Dropping it ends it.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    mood: watch::Sender<Mood>,
    requests: watch::Sender<Vec<Request>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Shared {
    secret: &'static str,
    mood: watch::Sender<Mood>,
    requests: watch::Sender<Vec<Request>>,
}

impl Receiver {
    pub(crate) async fn start(mood: Mood) -> Self {
        Self::with_secret(mood, SECRET).await
    }

    /// One whose requests are signed with `secret`.
    pub(crate) async fn with_secret(mood: Mood, secret: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, requests) = (watch::Sender::new(mood), watch::Sender::new(Vec::new()));
        let shared = Shared {
            secret,
            mood: mood.clone(),
            requests: requests.clone(),
        };
        let app = Router::new()
            .route("/hooks", post(receive))
            .with_state(Arc::new(shared));
        let task = tokio::spawn(async move {
            herenow_channels::serve(listener, app, std::future::pending())
                .await
                .unwrap();
        });
        Self {
            address,
            mood,
            requests,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    pub(crate) fn become_(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    /// The events that were taken so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let requests = self.requests.borrow();
        let taken = requests.iter().filter(|request| request.is_taken);
        taken
            .flat_map(|request| request.events().to_vec())
            .collect()
    }

    /// Waits until the requests are as they are to be, and returns them.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut is_enough: impl FnMut(&[Request]) -> bool,
    ) -> Vec<Request> {
        let mut requests = self.requests.subscribe();
        let waiting = timeout(PATIENCE, requests.wait_for(|requests| is_enough(requests))).await;
        match waiting {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("it took too long: {what}; {:#?}", self.requests()),
        }
    }

    /// Waits until so many events were taken, and returns them.
    pub(crate) async fn taken(&self, n_events: usize) -> Vec<Value> {
        let taken = |requests: &[Request]| {
            let taken = requests.iter().filter(|request| request.is_taken);
            taken.map(|request| request.events().len()).sum::<usize>() >= n_events
        };
        self.until(&format!("{n_events} events"), taken).await;
        self.events()
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    Extension(hang_up): Extension<HangUp>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let id = header("webhook-id");
    let signed = [
        format!("{id}.{}.", header("webhook-timestamp")).as_bytes(),
        &body,
    ]
    .concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, shared.secret.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, &signed));
    assert_eq!(header("webhook-signature"), format!("v1,{signature}"));
    assert_eq!(header("content-type"), "application/json");
    let mut request = Request {
        id,
        body: serde_json::from_slice(&body).unwrap(),
        is_taken: false,
    };
    let mood = shared.mood.borrow().clone();
    request.is_taken = match &mood {
        Mood::Takes | Mood::TakesWithoutEnd => true,
        Mood::RefusesTopic(topic) | Mood::StallsTopic(topic) => !request.has_topic(topic),
        Mood::Refuses(_) | Mood::Stalls | Mood::HangsUp => false,
    };
    let is_taken = request.is_taken;
    shared
        .requests
        .send_modify(|requests| requests.push(request));
    match mood {
        Mood::TakesWithoutEnd => {
            Body::from_stream(pending::<Result<Bytes, Infallible>>()).into_response()
        }
        _ if is_taken => StatusCode::NO_CONTENT.into_response(),
        Mood::Refuses(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Stalls | Mood::StallsTopic(_) => {
            let mut moods = shared.mood.subscribe();
            let _other = moods.wait_for(|now| *now != mood).await;
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Mood::HangsUp => {
            hang_up.now();
            std::future::pending().await
        }
        Mood::Takes | Mood::RefusesTopic(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// What is told of an event, without what differs each time: `joined room:1 ada first tracked`.
pub(crate) fn words(event: &Value) -> String {
    let mut words: Vec<String> = ["event", "topic", "key"]
        .iter()
        .filter_map(|name| Some(event[*name].as_str()?.to_owned()))
        .collect();
    for flag in ["first", "last"] {
        if let Some(is_set) = event[flag].as_bool() {
            words.push(if is_set { flag } else { "one" }.to_owned());
        }
    }
    words.extend(event["reason"].as_str().map(str::to_owned));
    words.join(" ")
}

pub(crate) fn all_words(events: &[Value]) -> Vec<String> {
    events.iter().map(words).collect()
}

/// One who listens to `/api/events`.
pub(crate) struct Listener {
    stream: BufReader<TcpStream>,
    pub(crate) status: u16,
    pub(crate) head: String,
}

/// A server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl Listener {
    /// Asks for the stream; `headers` end with line breaks.
    pub(crate) async fn open(address: SocketAddr, query: &str, headers: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(stream, query, headers).await
    }

    /// With a small window, so that not much is under way when it does not read.
    pub(crate) async fn narrow(address: SocketAddr, query: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(address).await.unwrap();
        Self::over(stream, query, "").await
    }

    async fn over(mut stream: TcpStream, query: &str, headers: &str) -> Self {
        let request =
            format!("GET /api/events{query} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut listener = Self {
            stream: BufReader::with_capacity(1024, stream),
            status: 0,
            head: String::new(),
        };
        loop {
            let line = listener.line().await.unwrap();
            if line.is_empty() {
                break;
            }
            listener.head += &(line.to_lowercase() + "\n");
        }
        let status = listener.head.split(' ').nth(1).unwrap();
        listener.status = status.parse().unwrap();
        listener
    }

    /// The next line; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        match read.expect("it took too long: a line") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    /// The next event; `None` at the end. Sizes of chunks and comments are left out.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        let (mut id, mut event, mut data) = (None, None, None::<Value>);
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("event", value)) => event = Some(value.to_owned()),
                Some(("data", value)) => data = serde_json::from_str(value).ok(),
                _ => {}
            }
            if !line.is_empty() {
                continue;
            }
            // What has no data is no event, and its id is only where the stream is.
            let id = id.take();
            if let (Some(event), Some(data)) = (event.take(), data.take()) {
                return Some(Sent { id, event, data });
            }
        }
    }

    /// The next events, in words.
    pub(crate) async fn heard(&mut self, n_events: usize) -> Vec<String> {
        let mut heard = Vec::new();
        for _ in 0..n_events {
            let sent = self.next().await.unwrap();
            assert_eq!(sent.data["event"], sent.event);
            assert_eq!(sent.id.is_some(), sent.data["id"].is_string());
            heard.push(words(&sent.data));
        }
        heard
    }
}

/// The flags of a server that tells this receiver.
pub(crate) fn flags<'a>(url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let quick = [
        ("webhook.urls", url),
        ("webhook.secret", SECRET),
        ("webhook.min_backoff", "20ms"),
        ("webhook.max_backoff", "100ms"),
    ];
    quick.iter().chain(more).copied().collect()
}

/// A body that makes somebody present.
pub(crate) fn meta(device: &str) -> String {
    json!({ "meta": { "device": device } }).to_string()
}
