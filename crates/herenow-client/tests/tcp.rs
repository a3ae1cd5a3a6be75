//! Over real TCP: connecting, and what is said when that fails.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use herenow_client::{Client, ClientConfig, ConnectError, Dial, Dialed, IoStream};
use herenow_protocol::{Encoded, Serializer, ServerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::protocol::Message as Frame;

/// Answers one request with these bytes.
async fn answering(answer: &'static str) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("a request"));
        }
        stream
            .write_all(answer.as_bytes())
            .await
            .expect("the client reads");
    });
    (url, task)
}

async fn connect(url: &str) -> Result<Client, ConnectError> {
    Client::connect(url, ClientConfig::default()).await
}

#[tokio::test]
async fn a_refused_connection_names_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = connect(&format!("ws://{address}/socket"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot connect to ws://{address}/socket/websocket")
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("refused"), "{source}");
}

#[tokio::test]
async fn a_403_says_what_may_be_the_matter() {
    let (url, server) = answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let error = connect(&url).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{url}/socket/websocket refused the connection (403): \
             it does not accept this origin, token or version"
        )
    );
    server.await.unwrap();
}

#[tokio::test]
async fn another_status_is_named() {
    let (url, server) = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    assert!(matches!(
        connect(&url).await,
        Err(ConnectError::Status { status: 404, .. })
    ));
    server.await.unwrap();
}

fn head(status: &str, kind: &str, body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\n\r\n")
}

/// A server at the end of a pipe that holds few bytes, so that no two parts of its answer come at
/// once.
#[derive(Debug)]
struct Piped {
    answer: String,
    /// Whether the connection stays open behind the answer.
    hangs: bool,
}

impl Dial for Piped {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16, _is_tls: bool) -> Dialed<'a> {
        let (client, mut server) = tokio::io::duplex(16);
        let (answer, hangs) = (self.answer.clone(), self.hangs);
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(server.read_u8().await.expect("a request"));
            }
            // The client may have read enough.
            let _unread = server.write_all(answer.as_bytes()).await;
            if hangs {
                std::future::pending::<()>().await;
            }
        });
        Box::pin(async move { Ok(Box::new(client) as Box<dyn IoStream>) })
    }
}

async fn refusal(answer: String, hangs: bool) -> String {
    let dial = Arc::new(Piped { answer, hangs });
    let client = Client::connect_with("ws://h", ClientConfig::default(), dial).await;
    let error = client.expect_err("it is refused").to_string();
    let url = "ws://h/socket/websocket ";
    error
        .strip_prefix(url)
        .expect("the URL is named")
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn srv_1808_what_a_server_says_that_refuses_is_in_the_error_cut_and_harmless() {
    const JSON: &str = "application/json";
    let long = format!("{{\"reason\":\"{}\"}}", "x".repeat(3_000));
    let cut = "x".repeat(200);
    let huge = format!("{{\"reason\":\"{}\"}}", "x".repeat(5_000));
    let answered = "answered 401 and not with a WebSocket";
    for (kind, body, said) in [
        (
            JSON,
            r#"{"reason":"token_missing"}"#,
            "; it says: token_missing",
        ),
        (
            JSON,
            r#"{"error":1,"reason":"a \"b\""}"#,
            "; it says: a \"b\"",
        ),
        (
            JSON,
            r#"{"reason":"\u001b[2Ja\nb"}"#,
            "; it says: \\u{1b}[2Ja\\nb",
        ),
        (JSON, long.as_str(), &format!("; it says: {cut}")),
        // More than is read, and no JSON without its end.
        (JSON, huge.as_str(), ""),
        (JSON, r#"{"error":"x"}"#, ""),
        (JSON, "", ""),
        (
            "text/plain; charset=utf-8",
            "go away\n",
            "; it says: go away",
        ),
        ("text/html", "<html>401</html>", ""),
    ] {
        for hangs in [false, true] {
            let answer = head("401 Unauthorized", kind, body) + body;
            let error = refusal(answer, hangs).await;
            assert_eq!(error, format!("{answered}{said}"));
        }
    }
    let body = r#"{"reason":"token_not_accepted"}"#;
    let error = refusal(head("403 Forbidden", JSON, body) + body, false).await;
    assert!(error.contains("(403): it does not accept"), "{error}");
    assert!(error.ends_with("; it says: token_not_accepted"), "{error}");
    // The body never comes whole, or has no length.
    for hangs in [false, true] {
        let half = head("401 Unauthorized", JSON, body) + &body[..9];
        assert_eq!(refusal(half, hangs).await, answered);
        let chunked = "HTTP/1.1 401 Unauthorized\r\ntransfer-encoding: chunked\r\n\r\n";
        let whole = format!("{chunked}1f\r\n{body}\r\n0\r\n\r\n");
        assert_eq!(refusal(whole, hangs).await, answered);
    }
}

#[tokio::test]
async fn srv_1809_a_bare_connection_to_a_port_of_tls_is_told_of_wss() {
    // The alert that a server of TLS answers plain text with.
    let (url, server) = answering("\x15\x03\x03\0\x02\x02\x32").await;
    let error = connect(&url).await.unwrap_err().to_string();
    assert!(
        error.contains("if it speaks TLS, the URL must begin with wss://"),
        "{error}"
    );
    server.await.unwrap();
}

#[tokio::test]
async fn tls_is_not_built_in() {
    let error = connect("wss://127.0.0.1:1/socket").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    let expected = "wss:// needs TLS, which is not built in";
    assert!(source.contains(expected), "{source}");
}

#[tokio::test]
async fn a_channel_works_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/socket", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        while let Some(Ok(Frame::Text(text))) = socket.next().await {
            let message = Serializer::V2
                .decode(&Encoded::text(bytes::Bytes::from(text)))
                .unwrap();
            let reply = ServerMessage::Reply {
                join_ref: message.join_ref,
                message_ref: message.message_ref,
                topic: message.topic,
                status: "ok".into(),
                response: message.payload,
            };
            let bytes = Serializer::V2.encode(&reply).unwrap().bytes;
            socket
                .send(Frame::Text(bytes.try_into().unwrap()))
                .await
                .unwrap();
        }
    });
    let client = connect(&url).await.unwrap();
    let channel = client
        .channel("room:a", &serde_json::json!({ "n": 1 }))
        .join()
        .await
        .unwrap();
    assert_eq!(&channel.response().bytes()[..], br#"{"n":1}"#);
    let reply = channel.push("echo", &[1, 2, 3]).await.unwrap();
    assert_eq!(reply.deserialize::<Vec<u32>>().unwrap(), [1, 2, 3]);
    channel.leave().await;
    client.disconnect().await;
    server.await.unwrap();
}
