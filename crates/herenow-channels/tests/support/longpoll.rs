//! A long-poll client, one request at a time.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "each test takes what it needs, and panics as tests do"
)]

use std::net::SocketAddr;

use serde_json::Value;

use super::http::{Http, Response};

/// One session as its client sees it.
pub(crate) struct LongPollClient {
    http: Http,
    path: String,
    pub(crate) token: String,
}

/// Takes the JSON of an answer apart.
pub(crate) fn json(response: &Response) -> Value {
    assert_eq!(
        response.status, 200,
        "the HTTP status says nothing: {response:?}"
    );
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    serde_json::from_slice(&response.body).unwrap()
}

/// The messages of a poll's answer.
pub(crate) fn messages(answer: &Value) -> Vec<Value> {
    let messages = answer["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap())
        .collect()
}

impl LongPollClient {
    /// Begins a session at `/ws/longpoll` with this `vsn`.
    pub(crate) async fn open(address: SocketAddr, vsn: &str) -> Self {
        let mut client = Self::connect(address, vsn).await;
        let answer = client.poll().await;
        assert_eq!(answer["status"], 410, "{answer}");
        assert_eq!(answer["messages"], Value::Array(Vec::new()));
        answer["token"]
            .as_str()
            .unwrap()
            .clone_into(&mut client.token);
        client
    }

    /// Connects without asking for a session.
    pub(crate) async fn connect(address: SocketAddr, vsn: &str) -> Self {
        let path = format!("/ws/longpoll?vsn={vsn}");
        Self {
            http: Http::connect(address).await,
            path,
            token: String::new(),
        }
    }

    pub(crate) async fn poll(&mut self) -> Value {
        let headers = [("x-phoenix-longpoll-token", self.token.as_str())];
        let answer = self.http.request("GET", &self.path, &headers, b"").await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        json(&answer)
    }

    /// Polls until that many messages have come.
    pub(crate) async fn poll_messages(&mut self, n: usize) -> Vec<Value> {
        let mut all = Vec::new();
        while all.len() < n {
            let answer = self.poll().await;
            assert_eq!(answer["status"], 200, "after {all:?}: {answer}");
            assert_eq!(answer["token"], self.token);
            all.extend(messages(&answer));
        }
        assert_eq!(all.len(), n, "{all:?}");
        all
    }

    pub(crate) async fn request(&mut self, content_type: &str, body: &[u8]) -> Response {
        let headers = [
            ("x-phoenix-longpoll-token", self.token.as_str()),
            ("content-type", content_type),
        ];
        self.http.request("POST", &self.path, &headers, body).await
    }

    /// Sends one message; returns the status in the answer.
    pub(crate) async fn post(&mut self, message: &Value) -> u64 {
        let body = message.to_string();
        self.status("application/json", body.as_bytes()).await
    }

    /// Sends a batch; returns the status in the answer.
    pub(crate) async fn post_batch(&mut self, lines: &[String]) -> u64 {
        self.status("application/x-ndjson", lines.join("\n").as_bytes())
            .await
    }

    async fn status(&mut self, content_type: &str, body: &[u8]) -> u64 {
        let answer = json(&self.request(content_type, body).await);
        answer["status"].as_u64().unwrap()
    }

    /// Joins the room and takes the three messages that follow.
    pub(crate) async fn join(&mut self, join: &Value) -> Vec<Value> {
        assert_eq!(self.post(join).await, 200);
        self.poll_messages(3).await
    }
}
