//! A small HTTP/1.1 client that sends exactly what it is told.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Time after which a test that waits for an answer fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// One connection to a server.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::from_stream(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn from_stream(stream: TcpStream) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().unwrap()
    }

    /// Writes bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a request and reads the answer; `None` if the server closed instead.
    pub(crate) async fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Response> {
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request.push_str("host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method == "POST" {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.write(&[request.as_bytes(), body].concat())
            .await
            .ok()?;
        self.read_response().await
    }

    /// Sends a request and reads the answer.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        self.try_request(method, target, headers, body)
            .await
            .expect("the server closed")
    }

    pub(crate) async fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[], b"").await
    }

    /// Reads one answer; `None` if the server closed instead.
    pub(crate) async fn read_response(&mut self) -> Option<Response> {
        tokio::time::timeout(DEADLINE, self.read_response_inner())
            .await
            .expect("no answer in time")
    }

    async fn read_response_inner(&mut self) -> Option<Response> {
        let status_line = self.read_line().await?;
        let status = status_line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line().await?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        let len = response
            .header("content-length")
            .map_or(0, |len| len.parse().unwrap());
        response.body = vec![0; len];
        self.stream.read_exact(&mut response.body).await.ok()?;
        Some(response)
    }

    async fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = self.stream.read_line(&mut line).await.ok()?;
        (n > 0).then(|| line.trim_end().to_owned())
    }

    /// Waits until the server closes, whatever it sends before.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is a close as well.
        let _ = tokio::time::timeout(DEADLINE, self.stream.read_to_end(&mut rest))
            .await
            .expect("not closed in time");
    }

    /// Tells whether the server has closed by now.
    pub(crate) fn is_closed_now(&self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.get_ref().try_read(&mut byte),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
