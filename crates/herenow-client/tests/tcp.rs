//! Over real TCP: connecting, and what is said when that fails.

use futures_util::{SinkExt, StreamExt};
use herenow_client::{Client, ClientConfig, ConnectError};
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
